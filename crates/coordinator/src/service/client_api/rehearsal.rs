//! The drill: holders upload their shares as in a recovery, and nothing is changed by it.

use appraisal::UnixTime;
use axum::{
    body::Bytes,
    extract::{State, rejection::BytesRejection},
    response::Response,
};
use base64::{Engine, engine::general_purpose::STANDARD as BASE64};
use serde_json::{Value, json};
use tokio::sync::Semaphore;

use super::{PATIENCE, Shared, answer, blocking, recovery::uploaded, turn};
use crate::core::{Refusal, Standing};

/// RSA at 4096 bits, for anyone who asks: never so much of it that Evidence has to wait.
const MAX_AT_ONCE: usize = 2;

async fn rarely<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, Refusal> + Send + 'static,
) -> Result<T, Refusal> {
    static PLACES: Semaphore = Semaphore::const_new(MAX_AT_ONCE);
    let _place = turn(&PLACES, PATIENCE).await?;
    blocking(work).await
}

pub(super) async fn progress(State(coordinator): Shared) -> Response {
    answer(rarely(move || {
        let standing = coordinator.rehearsal()?;
        let message = message(&standing);
        Ok(described(standing, &message))
    }))
    .await
}

pub(super) async fn public_key(State(coordinator): Shared) -> Response {
    answer(rarely(move || {
        let key = coordinator.rehearsal_key()?;
        Ok(json!({ "algorithm": "RSA", "ephemeralPublicKey": BASE64.encode(key) }))
    }))
    .await
}

pub(super) async fn upload(State(coordinator): Shared, body: Result<Bytes, BytesRejection>) -> Response {
    let (share, signature) = match uploaded(body) {
        Ok((share, signature, None)) => (share, signature),
        Ok((_, _, Some(_))) => return super::malformed("a rehearsal loses nothing: leave `acceptLoss` out"),
        Err(response) => return *response,
    };
    answer(rarely(move || {
        let standing = coordinator.rehearse(&share, &signature)?;
        let message = match standing.remaining {
            0 => {
                "The recovery was rehearsed: these secrets would open the state. Nothing was changed.".into()
            }
            _ => message(&standing),
        };
        Ok(described(standing, &message))
    }))
    .await
}

fn message(standing: &Standing) -> String {
    format!("{} of {} recovery secrets are missing", standing.remaining, standing.threshold)
}

fn described(standing: Standing, message: &str) -> Value {
    json!({
        "message": message,
        "remaining": standing.remaining,
        "threshold": standing.threshold,
        "given": standing.given,
        "holders": standing.holders,
        "until": UnixTime(standing.until).to_string(),
    })
}

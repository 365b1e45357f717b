//! Bringing the state back: holders upload their shares, signed.

use axum::{
    body::Bytes,
    extract::{State, rejection::BytesRejection},
    response::Response,
};
use base64::{Engine, engine::general_purpose::STANDARD as BASE64};
use serde::Deserialize;
use serde_json::json;

use crate::service::recovery::Taken;

use super::{Shared, answer, base64, costly, parse};

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
struct RecoverBody {
    recovery_secret: String,
    recovery_secret_signature: String,
    /// Ours: the holder accepts that nothing is left but so many records.
    accept_loss: Option<u64>,
}

/// A share, its holder's signature, and the loss that the holder accepts.
type Uploaded = (Vec<u8>, Vec<u8>, Option<u64>);

/// A share and its holder's signature.
pub(super) fn uploaded(body: Result<Bytes, BytesRejection>) -> Result<Uploaded, Box<Response>> {
    parse(body).and_then(|body: RecoverBody| {
        let signature = base64(&body.recovery_secret_signature, "recoverySecretSignature")?;
        Ok((base64(&body.recovery_secret, "recoverySecret")?, signature, body.accept_loss))
    })
}

pub(super) async fn recover(State(coordinator): Shared, body: Result<Bytes, BytesRejection>) -> Response {
    let (share, signature, accepted) = match uploaded(body) {
        Ok(uploaded) => uploaded,
        Err(response) => return *response,
    };
    answer(async move {
        let (taken, signed) = (coordinator.clone(), signature.clone());
        let Taken { remaining, share } = costly(move || taken.recover(&share, &signed, accepted)).await?;
        if let Some(share) = share {
            coordinator.spread_share(&share, &signature).await;
        }
        let message = match remaining {
            0 => "Recovery successful.".to_owned(),
            _ => format!(
                "Secret was processed successfully. Upload the next secret. Remaining secrets: {remaining}"
            ),
        };
        Ok(json!({ "remaining": remaining, "message": message }))
    })
    .await
}

pub(super) async fn public_key(State(coordinator): Shared) -> Response {
    answer(costly(move || {
        let key = coordinator.recovery_key()?;
        Ok(json!({ "algorithm": "RSA", "ephemeralPublicKey": BASE64.encode(key) }))
    }))
    .await
}

//! While the state is sealed to another TEE: nothing is served but Evidence and the way for shares to come in.
//!
//! - `GET /v1/recovery` gives `{"Recovering": true, "Remaining": 2, "Threshold": 2, "Holders": {"alice": {"PublicKey":
//!   "…", "Share": "…"}}}`: each holder's share, encrypted to the holder. A running database gives the same, with
//!   `"Recovering": false`.
//! - `POST /v1/recovery` takes `{"Share": "<base64>"}`, decrypted by its holder, who has appraised this instance before;
//!   the answer is `{"Remaining": 1}`. The last one opens the state or is refused, and then all come again.

use std::{
    path::Path,
    sync::{Arc, Mutex, PoisonError},
};

use axum::{
    Json, Router,
    extract::{DefaultBodyLimit, State, rejection::JsonRejection},
    http::StatusCode,
    response::{IntoResponse, Response},
    routing::get,
};
use base64::{Engine as _, engine::general_purpose::STANDARD};
use serde::Deserialize;
use serde_json::{Value, json};
use tokio::sync::Mutex as AsyncMutex;
use tokio_util::sync::CancellationToken;
use zeroize::Zeroizing;

use super::{
    ServiceError,
    opening::{Opened, Opening, Origin},
};
use crate::{
    keys::{MasterKey, replace},
    recovery::{MAX_SHARES, Progress, RecoveryError, Shares},
    refusal::refusal,
};

/// The file of shares in the host's folder.
pub const SHARES: &str = "shares.json";
const LONGEST_REQUEST: usize = 4096;

/// The host's file of shares, if there is one.
///
/// # Errors
/// When it is not one of ours.
pub fn shares(state: &Path) -> Result<Option<Shares>, ServiceError> {
    let path = state.join(SHARES);
    let failed = |source| ServiceError::File { path: path.clone(), source };
    match std::fs::metadata(&path) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Ok(found) if found.len() > MAX_SHARES as u64 => return Err(RecoveryError::Malformed.into()),
        found => found.map_err(failed)?,
    };
    Ok(Some(Shares::from_json(&std::fs::read(&path).map_err(failed)?)?))
}

/// Deals shares anew where those in the file are not of the holders that the manifest names; removes the file where it
/// names none. What is there now.
///
/// # Errors
/// When they cannot be made or written.
pub fn keep_shares(
    state: &Path,
    recovery: Option<&database_manifest::Recovery>,
    master: &MasterKey,
) -> Result<Option<Shares>, ServiceError> {
    let path = state.join(SHARES);
    let failed = |source| ServiceError::File { path: path.clone(), source };
    let Some(recovery) = recovery else {
        return match std::fs::remove_file(&path) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(failed(error)),
            _ => Ok(None),
        };
    };
    // What the host made of the file does not matter: it is written anew.
    if let Ok(Some(known)) = shares(state)
        && known.are_of(recovery, master)
    {
        return Ok(Some(known));
    }
    let dealt = Shares::deal(recovery, master)?;
    replace(state, SHARES, &dealt.to_json()).map_err(failed)?;
    Ok(Some(dealt))
}

/// What shares have opened.
pub struct Recovered {
    /// The master key.
    pub master: MasterKey,
    /// The state.
    pub opened: Opened,
    /// Who gave a share.
    pub holders: Vec<String>,
}

/// A state that waits for shares.
pub struct Waiting {
    opening: Arc<Opening>,
    progress: AsyncMutex<Progress>,
    recovered: Mutex<Option<Recovered>>,
    done: CancellationToken,
}

impl Waiting {
    /// For these shares; `done` is cancelled when the state is open.
    pub fn new(opening: Arc<Opening>, shares: Shares, done: CancellationToken) -> Arc<Self> {
        let progress = AsyncMutex::new(Progress::new(shares));
        Arc::new(Self { opening, progress, recovered: Mutex::default(), done })
    }

    /// What they opened, once.
    pub fn recovered(&self) -> Option<Recovered> {
        self.recovered.lock().unwrap_or_else(PoisonError::into_inner).take()
    }

    async fn give(&self, share: Zeroizing<Vec<u8>>) -> Result<usize, RecoveryError> {
        let mut progress = self.progress.lock().await;
        if self.done.is_cancelled() {
            return Err(RecoveryError::NotRecovering);
        }
        progress.give(share)?;
        let Some(master) = progress.master() else { return Ok(progress.remaining()) };
        let (opening, key) = (Arc::clone(&self.opening), master.clone());
        let opened = tokio::task::spawn_blocking(move || opening.open(&key, Origin::Recovered)).await;
        let opened = opened.map_err(|_| ServiceError::Panicked).and_then(|opened| opened);
        let opened = opened.and_then(|opened| match opened.restored.database {
            Some(_) => Ok(opened),
            None => Err(ServiceError::LogMissing),
        });
        match opened {
            Ok(opened) => {
                let recovered = Recovered { master, opened, holders: progress.holders() };
                *self.recovered.lock().unwrap_or_else(PoisonError::into_inner) = Some(recovered);
                self.done.cancel();
                Ok(0)
            }
            Err(error) => {
                // Whoever changed the log or the file of shares must not block those who have the right ones.
                progress.begin_again();
                tracing::warn!(code = error.code(), reason = %error, "shares did not open the state");
                Err(RecoveryError::Refused { code: error.code().into() })
            }
        }
    }
}

/// The routes of a state that waits.
pub fn routes(waiting: Arc<Waiting>) -> Router {
    Router::new()
        .route("/v1/recovery", get(waited_for).post(give))
        .layer(DefaultBodyLimit::max(LONGEST_REQUEST))
        .with_state(waiting)
}

async fn waited_for(State(waiting): State<Arc<Waiting>>) -> Response {
    let progress = waiting.progress.lock().await;
    Json(described(progress.shares(), Some(progress.remaining()))).into_response()
}

/// What anyone may know of the shares.
pub fn described(shares: &Shares, remaining: Option<usize>) -> Value {
    let holder =
        |holder: &crate::recovery::Holder| json!({ "PublicKey": holder.public_key, "Share": holder.share });
    let holders: serde_json::Map<String, Value> =
        shares.holders.iter().map(|(name, it)| (name.clone(), holder(it))).collect();
    let mut described =
        json!({ "Recovering": remaining.is_some(), "Threshold": shares.threshold, "Holders": holders });
    if let Some(remaining) = remaining {
        described["Remaining"] = json!(remaining);
    }
    described
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase", deny_unknown_fields)]
struct Given {
    share: String,
}

async fn give(State(waiting): State<Arc<Waiting>>, request: Result<Json<Given>, JsonRejection>) -> Response {
    let share = request.ok().and_then(|Json(given)| STANDARD.decode(given.share).ok());
    let Some(share) = share else {
        return refusal(StatusCode::BAD_REQUEST, "MALFORMED_REQUEST", "`Share` is a share in base64");
    };
    match waiting.give(Zeroizing::new(share)).await {
        Ok(remaining) => Json(json!({ "Remaining": remaining })).into_response(),
        Err(error) => refusal(StatusCode::BAD_REQUEST, error.code(), &error.to_string()),
    }
}

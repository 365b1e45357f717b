//! The JSend envelope that MarbleRun's clients expect, and the one place where a refusal becomes an HTTP
//! status.

use axum::{
    Json,
    http::StatusCode,
    response::{IntoResponse, Response},
};
use secret_store::StoreError;
use serde::Serialize;
use serde_json::{Value, json};

use super::decision::RefusedWith;
use crate::core::Refusal;

/// A successful answer.
pub fn success(data: impl Serialize) -> Response {
    match serde_json::to_value(data) {
        Ok(data) => Json(json!({ "status": "success", "data": data })).into_response(),
        Err(_) => failure(
            StatusCode::INTERNAL_SERVER_ERROR,
            "INTERNAL",
            "the answer could not be written",
            Value::Null,
        ),
    }
}

/// A refusal with a stable code.
pub fn failure(status: StatusCode, code: &str, message: &str, details: Value) -> Response {
    let kind = if status.is_server_error() { "error" } else { "fail" };
    let body = json!({ "status": kind, "message": message, "data": { "code": code, "details": details } });
    let mut response = (status, Json(body)).into_response();
    response.extensions_mut().insert(RefusedWith(code.to_owned()));
    response
}

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        let status = match &self {
            Refusal::NoCertificate
            | Refusal::UnknownUser
            | Refusal::NotAMarble
            | Refusal::Token(_)
            | Refusal::TwoProofs => StatusCode::UNAUTHORIZED,
            Refusal::NotOwner { .. }
            | Refusal::NotGranted { .. }
            | Refusal::NotAllowed { .. }
            | Refusal::GateClosed { .. }
            | Refusal::UnknownMarble { .. }
            | Refusal::Platform { .. }
            | Refusal::Advisories { .. }
            | Refusal::Infrastructure { .. }
            | Refusal::ClaimsMalformed(_)
            | Refusal::Workload { .. }
            | Refusal::Package { .. }
            | Refusal::Database { .. }
            | Refusal::StaleAppraisal { .. }
            | Refusal::ActivationsExhausted { .. }
            | Refusal::UnknownVolume { .. }
            | Refusal::VolumeReadOnly { .. }
            | Refusal::VolumeMoved { .. }
            | Refusal::VolumeTaken { .. }
            | Refusal::NotActivated { .. } => StatusCode::FORBIDDEN,
            Refusal::NoManifest | Refusal::NoUpdate => StatusCode::NOT_FOUND,
            Refusal::ManifestAlreadySet { .. }
            | Refusal::UpdatePending
            | Refusal::OtherUpdate { .. }
            | Refusal::Parameters { .. }
            | Refusal::NotRecovering
            | Refusal::ShareRepeated { .. }
            | Refusal::NoRecoveryKeys => StatusCode::CONFLICT,
            Refusal::Manifest(_)
            | Refusal::SecretShape { .. }
            | Refusal::NoSecrets
            | Refusal::Downgrade { .. }
            | Refusal::SealModeFixed
            | Refusal::NoWayBack
            | Refusal::CounterName
            | Refusal::QuoteRefused { .. }
            | Refusal::ShareUnknown
            | Refusal::ShareWrong { .. }
            | Refusal::ShareNotSigned { .. }
            | Refusal::RecoveryFailed(_)
            | Refusal::Svid(_) => StatusCode::UNPROCESSABLE_ENTITY,
            Refusal::Busy => StatusCode::TOO_MANY_REQUESTS,
            Refusal::Recovering { .. } | Refusal::Unrecoverable => StatusCode::SERVICE_UNAVAILABLE,
            Refusal::SecretStore { error, .. } => match error {
                StoreError::Unreachable(_) | StoreError::Unavailable { .. } => {
                    StatusCode::SERVICE_UNAVAILABLE
                }
                _ => StatusCode::BAD_GATEWAY,
            },
            Refusal::Internal(_) => StatusCode::INTERNAL_SERVER_ERROR,
            Refusal::CutOff(_) | Refusal::Unfit(_) => StatusCode::SERVICE_UNAVAILABLE,
            Refusal::SealModeShared | Refusal::PositionUnsigned => StatusCode::UNPROCESSABLE_ENTITY,
            Refusal::NoReplicas
            | Refusal::LossNotAccepted { .. }
            | Refusal::SecretExpired { .. }
            | Refusal::SecretWithheld { .. }
            | Refusal::Overtaken { .. } => StatusCode::CONFLICT,
            Refusal::Evicted { .. } | Refusal::NoMachine { .. } => StatusCode::FORBIDDEN,
            Refusal::UnknownInstance { .. } | Refusal::UnknownMachine { .. } => StatusCode::NOT_FOUND,
            Refusal::UnknownSession => StatusCode::NOT_FOUND,
            Refusal::NoBroker | Refusal::UnknownResource | Refusal::UnknownPolicy => StatusCode::NOT_FOUND,
            Refusal::ResourceChanged { .. } | Refusal::ResourceWithoutValue => StatusCode::CONFLICT,
            Refusal::ResourceRefused { .. } | Refusal::ImageKey(_) => StatusCode::UNPROCESSABLE_ENTITY,
            Refusal::ResourcePath | Refusal::RecordMalformed { .. } => StatusCode::BAD_REQUEST,
            Refusal::Statement(_)
            | Refusal::ReferenceSigner { .. }
            | Refusal::TrustRootRolledBack { .. }
            | Refusal::ReferenceRolledBack { .. } => StatusCode::UNPROCESSABLE_ENTITY,
            Refusal::ReferenceKnown { .. } | Refusal::TooManyReferences { .. } => StatusCode::CONFLICT,
            Refusal::UnknownReference { .. } => StatusCode::NOT_FOUND,
            Refusal::NoReferences { .. } => StatusCode::FORBIDDEN,
        };
        failure(status, self.code(), &self.to_string(), self.details())
    }
}

//! What a guest is told when it gets nothing: the protocol's type, a status, and one line that says what to do and not
//! why. The one place where the broker's faults become statuses.

use axum::{
    Json,
    http::{HeaderValue, StatusCode, header},
    response::{IntoResponse, Response},
};
use rcar::{ErrorBody, ErrorType};

use super::body::Unread;
use crate::{
    core::{
        Refusal,
        broker::{guest::SessionId, session::BadTicket},
        svid::SvidFault,
    },
    service::decision::RefusedWith,
};

/// Why a guest gets nothing, as far as it is told.
#[derive(Debug)]
pub(super) struct Failure {
    status: StatusCode,
    kind: ErrorType,
    detail: String,
    /// A stable code for operators.
    code: &'static str,
}

impl Failure {
    fn new(status: u16, kind: ErrorType, code: &'static str, detail: impl Into<String>) -> Self {
        let status = StatusCode::from_u16(status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        Self { status, kind, detail: detail.into(), code }
    }

    /// No manifest in force has a broker.
    pub(super) fn not_configured() -> Self {
        let detail = "this coordinator has no key broker: its manifest has no section Broker";
        Self::new(503, ErrorType::BrokerNotConfigured, "BROKER_NOT_CONFIGURED", detail)
    }

    /// A body that is not the protocol's.
    pub(super) fn malformed(invalid: &rcar::Invalid) -> Self {
        match invalid {
            rcar::Invalid::Version { .. } => {
                Self::new(400, ErrorType::UnsupportedVersion, "PROTOCOL_VERSION", invalid.to_string())
            }
            rcar::Invalid::Nonce => Self::nonce(),
            invalid if invalid.is_too_long() => Self::too_long(),
            invalid => Self::new(400, ErrorType::SerdeError, "BODY_MALFORMED", invalid.to_string()),
        }
    }

    fn too_long() -> Self {
        Self::new(413, ErrorType::PayloadTooLarge, "BODY_TOO_LARGE", "the body is longer than 2 MiB")
    }

    /// A method that the path does not have.
    pub(super) fn method() -> Self {
        Self::new(405, ErrorType::MethodNotAllowed, "METHOD_NOT_ALLOWED", "this path has other methods")
    }

    /// A path that names nothing here.
    pub(super) fn path() -> Self {
        Self::new(404, ErrorType::InvalidRequestPath, "PATH_UNKNOWN", "there is nothing at this path")
    }

    /// No proof of a session.
    pub(super) fn no_session() -> Self {
        let detail = "neither a session nor a token: attest first";
        Self::new(401, ErrorType::TokenNotFound, "SESSION_ABSENT", detail)
    }

    /// Two proofs.
    pub(super) fn two_proofs() -> Self {
        let detail = "more than one session or token: send one, so that it is clear who asks";
        Self::new(400, ErrorType::AttestationError, "PROOFS_CONFLICT", detail)
    }

    /// A session that is over: of another manifest, forgotten, or never attested.
    pub(super) fn session_over() -> Self {
        let detail = "the session is not attested, or over: attest again";
        Self::new(401, ErrorType::AttestationError, "SESSION_OVER", detail)
    }

    /// A token that proves nothing.
    pub(super) fn token() -> Self {
        let detail = "the token is not accepted: attest again";
        Self::new(401, ErrorType::TokenVerifierError, "TOKEN_REFUSED", detail)
    }

    /// A nonce that is not the session's.
    pub(super) fn nonce() -> Self {
        let detail = "the nonce is not that of this session: attest again";
        Self::new(401, ErrorType::AttestationError, "NONCE_MISMATCH", detail)
    }

    /// A nonce that was shown before.
    pub(super) fn nonce_used(session: SessionId) -> Self {
        let detail = format!("the nonce of this session was used before: attest again (session {session})");
        Self::new(409, ErrorType::NonceUsed, "NONCE_USED", detail)
    }

    /// Evidence that was not accepted. Why, the operator is told.
    pub(super) fn not_attested(session: SessionId) -> Self {
        let detail = format!("the Evidence was not accepted (session {session}: the operator can see why)");
        Self::new(401, ErrorType::AttestationError, "GUEST_REFUSED", detail)
    }

    /// A resource that does not exist, or that the policy does not grant: which of both is not said (S-58).
    pub(super) fn denied(session: SessionId) -> Self {
        let detail = format!("access denied by policy (session {session}: the operator can see why)");
        Self::new(403, ErrorType::PolicyDeny, "RELEASE_REFUSED", detail)
    }

    /// A request for an SVID that is none, or from a guest that has no SPIFFE ID.
    pub(super) fn svid(fault: SvidFault, session: SessionId) -> Self {
        match fault {
            SvidFault::Over => Self::session_over(),
            SvidFault::Nobody | SvidFault::TooMany => Self { code: fault.code(), ..Self::denied(session) },
            SvidFault::Csr(_) | SvidFault::Audiences => {
                Self::new(400, ErrorType::SerdeError, fault.code(), fault.to_string())
            }
        }
    }

    /// A body that is not the object that is expected.
    pub(super) fn object() -> Self {
        let detail = "the body is not the JSON object that is expected here";
        Self::new(400, ErrorType::SerdeError, "BODY_MALFORMED", detail)
    }

    /// A key that nothing can be encrypted to.
    pub(super) fn jwe() -> Self {
        Self::new(400, ErrorType::JweError, "KEY_REFUSED", "nothing can be encrypted to the session's key")
    }

    /// A packet that is none.
    pub(super) fn packet(error: &image_keys::PacketError) -> Self {
        Self::new(400, ErrorType::SerdeError, "PACKET_MALFORMED", error.to_string())
    }

    /// A packet that its key does not open.
    fn not_opened() -> Self {
        let detail = "the packet does not open: it is of another key or name, or was changed";
        Self::new(400, ErrorType::UnwrapFailed, "PACKET_NOT_OPENED", detail)
    }

    /// Too much at a time.
    pub(super) fn busy() -> Self {
        let detail = "too many requests at this time: come back in a second";
        Self::new(429, ErrorType::TooManyRequests, "TOO_MANY_REQUESTS", detail)
    }

    /// Where a secret is kept outside gives none now.
    pub(super) fn store() -> Self {
        let detail = "a resource cannot be had at this time: come back later";
        Self::new(503, ErrorType::StorageBackendError, "STORE_UNAVAILABLE", detail)
    }

    /// Whether what was sent could not be read.
    pub(super) fn is_the_guests(&self) -> bool {
        matches!(self.status, StatusCode::BAD_REQUEST | StatusCode::PAYLOAD_TOO_LARGE)
    }

    /// A stable code for operators.
    pub(super) fn code(&self) -> &'static str {
        self.code
    }
}

impl From<BadTicket> for Failure {
    fn from(_: BadTicket) -> Self {
        let detail = "the session is unknown or has expired: attest again";
        Self::new(401, ErrorType::AttestationError, "SESSION_UNKNOWN", detail)
    }
}

impl From<Unread> for Failure {
    fn from(unread: Unread) -> Self {
        match unread {
            Unread::TooLong => Self::too_long(),
            Unread::Busy => Self::busy(),
            Unread::Slow => {
                Self::new(408, ErrorType::SerdeError, "BODY_SLOW", "the body did not come within ten seconds")
            }
            Unread::Broken => Self::new(400, ErrorType::SerdeError, "BODY_BROKEN", "the body ended early"),
        }
    }
}

impl From<Refusal> for Failure {
    fn from(refusal: Refusal) -> Self {
        match refusal {
            Refusal::NoManifest => Self::not_configured(),
            Refusal::Busy => Self::busy(),
            Refusal::SecretStore { error: secret_store::StoreError::Rejected { .. }, .. }
            | Refusal::ImageKey(image_keys::KekError::NotOpened) => Self::not_opened(),
            Refusal::SecretStore { .. } => Self::store(),
            Refusal::CutOff(_) | Refusal::Unfit(_) | Refusal::Recovering { .. } | Refusal::Unrecoverable => {
                let detail = "the broker cannot answer at this time: come back later, or ask another replica";
                Self::new(503, ErrorType::Unavailable, refusal.code(), detail)
            }
            // What failed is ours, and in our log; other refusals may name a secret.
            refusal => {
                let reason = if let Refusal::Internal(reason) = &refusal { reason } else { "" };
                tracing::error!(code = refusal.code(), reason, "the broker failed");
                let detail = "the broker failed: its log has the reason";
                Self::new(500, ErrorType::PluginInternalError, refusal.code(), detail)
            }
        }
    }
}

impl IntoResponse for Failure {
    fn into_response(self) -> Response {
        let body = ErrorBody::new(self.kind, self.detail).to_json();
        let mut response = (self.status, Json(body)).into_response();
        if matches!(self.status, StatusCode::TOO_MANY_REQUESTS | StatusCode::SERVICE_UNAVAILABLE) {
            response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from_static("1"));
        }
        response.extensions_mut().insert(RefusedWith(self.code.to_owned()));
        response
    }
}

//! Why the coordinator says no: one type, each case with its stable code and the data of the sentence.

use attested_tls::{claims::MalformedClaims, key::SpkiDigest};
use evidence::Platform;
use manifest::Faults;
use serde_json::{Value, json};

use crate::authority::AuthorityError;

/// A request that was refused; nothing was changed.
#[derive(Debug, thiserror::Error)]
pub enum Refusal {
    /// The connection has no client certificate.
    #[error("this request needs a client certificate, and none was presented")]
    NoCertificate,
    /// The certificate is no user's.
    #[error("the client certificate is not that of any user of the manifest")]
    UnknownUser,
    /// Not the owner.
    #[error(
        "only the owner may set the first manifest: key {expected} is named in the measured launch configuration, and {seen} was presented"
    )]
    NotOwner {
        /// The owner's key.
        expected: SpkiDigest,
        /// The caller's key.
        seen: SpkiDigest,
    },
    /// A user without the right.
    #[error("user {user:?} has no role that grants {action} on secret {secret:?}")]
    NotGranted {
        /// Who.
        user: String,
        /// What.
        action: &'static str,
        /// On what.
        secret: String,
    },
    /// Nothing to act on yet.
    #[error("no manifest has been set yet")]
    NoManifest,
    /// The first manifest is set once.
    #[error("a manifest is in force already (epoch {epoch})")]
    ManifestAlreadySet {
        /// The epoch in force.
        epoch: u64,
    },
    /// The manifest has faults.
    #[error("the manifest is refused")]
    Manifest(#[from] Faults),
    /// A secret that does not fit its declaration.
    #[error("secret {name:?} cannot be set like this: {reason}")]
    SecretShape {
        /// Its name.
        name: String,
        /// What does not fit.
        reason: String,
    },
    /// An empty request.
    #[error("the request names no secret")]
    NoSecrets,
    /// A Marble that the manifest does not have.
    #[error("the manifest has no Marble {marble:?}")]
    UnknownMarble {
        /// Its name.
        marble: String,
    },
    /// A platform that the Marble's package has no measurement for.
    #[error("Marble {marble:?} does not run on {platform}; the manifest accepts {}", accepted.join(", "))]
    Platform {
        /// Which Marble.
        marble: String,
        /// Offered.
        platform: Platform,
        /// By the manifest.
        accepted: Vec<String>,
    },
    /// Open advisories that the manifest does not accept.
    #[error("the platform has open advisories that the manifest does not accept for Marble {marble:?}: {}", unaccepted.join(", "))]
    Advisories {
        /// Which Marble.
        marble: String,
        /// Intel's names.
        unaccepted: Vec<String>,
    },
    /// Claims that do not parse.
    #[error("the Keep's claims are malformed")]
    ClaimsMalformed(#[from] MalformedClaims),
    /// Another workload than the manifest names.
    #[error(
        "the workload of Marble {marble:?} is not the one that the manifest names: expected sha256:{}, seen sha256:{}",
        hex::encode(expected),
        hex::encode(seen)
    )]
    Workload {
        /// Which Marble.
        marble: String,
        /// By the manifest.
        expected: [u8; 32],
        /// By the attested claims.
        seen: [u8; 32],
    },
    /// The manifest changed between appraisal and request.
    #[error(
        "the Evidence was appraised in epoch {appraised}, and epoch {current} is in force: connect again"
    )]
    StaleAppraisal {
        /// The connection's epoch.
        appraised: u64,
        /// The epoch in force.
        current: u64,
    },
    /// `MaxActivations` is reached.
    #[error("Marble {marble:?} was activated {limit} times, as often as the manifest allows")]
    ActivationsExhausted {
        /// Which Marble.
        marble: String,
        /// The limit.
        limit: u64,
    },
    /// Renewal without activation.
    #[error("this key was not activated as Marble {marble:?} in this epoch: activate first")]
    NotActivated {
        /// Which Marble.
        marble: String,
    },
    /// Parameters that cannot be filled in now.
    #[error("the parameters of Marble {marble:?} cannot be filled in: {reason}")]
    Parameters {
        /// Which Marble.
        marble: String,
        /// Which value is missing, never a value.
        reason: String,
    },
    /// Our own fault.
    #[error("the coordinator failed: {0}")]
    Internal(String),
}

impl From<AuthorityError> for Refusal {
    fn from(error: AuthorityError) -> Self {
        Self::Internal(error.to_string())
    }
}

impl Refusal {
    /// Stable code.
    pub fn code(&self) -> &'static str {
        match self {
            Self::NoCertificate => "CLIENT_CERTIFICATE_REQUIRED",
            Self::UnknownUser => "USER_UNKNOWN",
            Self::NotOwner { .. } => "OWNER_REQUIRED",
            Self::NotGranted { .. } => "NOT_GRANTED",
            Self::NoManifest => "MANIFEST_NOT_SET",
            Self::ManifestAlreadySet { .. } => "MANIFEST_ALREADY_SET",
            Self::Manifest(_) => "MANIFEST_REFUSED",
            Self::SecretShape { .. } => "SECRET_REFUSED",
            Self::NoSecrets => "SECRETS_MISSING",
            Self::UnknownMarble { .. } => "MARBLE_UNKNOWN",
            Self::Platform { .. } => "PLATFORM_NOT_ACCEPTED",
            Self::Advisories { .. } => "ADVISORIES_NOT_ACCEPTED",
            Self::ClaimsMalformed(_) => "CLAIMS_MALFORMED",
            Self::Workload { .. } => "WORKLOAD_MISMATCH",
            Self::StaleAppraisal { .. } => "APPRAISAL_STALE",
            Self::ActivationsExhausted { .. } => "ACTIVATIONS_EXHAUSTED",
            Self::NotActivated { .. } => "NOT_ACTIVATED",
            Self::Parameters { .. } => "PARAMETERS_INCOMPLETE",
            Self::Internal(_) => "INTERNAL",
        }
    }

    /// What a program may want beyond code and sentence.
    pub fn details(&self) -> Value {
        match self {
            Self::Manifest(faults) => faults
                .all()
                .iter()
                .map(|fault| {
                    json!({
                        "path": fault.path, "line": fault.line, "code": fault.code.to_string(),
                        "message": fault.message, "hint": fault.hint,
                    })
                })
                .collect(),
            Self::Workload { expected, seen, .. } => {
                json!({ "expected": hex::encode(expected), "seen": hex::encode(seen) })
            }
            _ => Value::Null,
        }
    }
}

//! Why the coordinator does not have this instance as a Marble.

use attested_tls::{channel::ChannelError, marble::PeerRefusal};

/// Why the coordinator does not have this instance as a Marble, or does not do what it asked for.
#[derive(Debug, thiserror::Error)]
pub enum MeshError {
    /// No connection.
    #[error("the coordinator at {address} cannot be reached")]
    Unreachable {
        /// The host's hint.
        address: String,
        /// Why.
        source: std::io::Error,
    },
    /// One side's Evidence was refused, or the exchange failed.
    #[error("attestation with the coordinator failed")]
    Channel(#[from] ChannelError),
    /// The coordinator said no.
    #[error("the coordinator refused: {reason}")]
    Refused {
        /// Stable code.
        code: String,
        /// Its sentence.
        reason: String,
    },
    /// An answer without a needed part.
    #[error("the coordinator's answer has no {0}")]
    Incomplete(&'static str),
    /// A certificate that is not ours.
    #[error("the coordinator's certificate cannot be used: {0}")]
    Certificate(String),
    /// The coordinator is another mesh's than the one that this instance is in.
    #[error(
        "the coordinator has another root than the mesh that this Marble is in: expected {}, seen {}; its host leads it \
         to another mesh: lead it back; or that mesh was recovered: start this Marble again, and verify it anew",
        hex::encode(expected),
        hex::encode(seen)
    )]
    OtherMesh {
        /// SHA-256 of the root of its mesh.
        expected: [u8; 32],
        /// Of this coordinator's.
        seen: [u8; 32],
    },
    /// A certificate without identity.
    #[error("the coordinator's certificate cannot be used")]
    Identity(#[from] PeerRefusal),
    /// Our own fault.
    #[error("this Marble failed: {0}")]
    Internal(String),
}

impl MeshError {
    /// Whether the coordinator sent this instance away for good.
    pub fn is_evicted(&self) -> bool {
        matches!(self, Self::Refused { code, .. } if code == "EVICTED")
    }

    /// Stable codes of the cause.
    pub fn codes(&self) -> Vec<String> {
        match self {
            Self::Unreachable { .. } => vec!["COORDINATOR_UNREACHABLE".into()],
            Self::Channel(error) => error.codes(),
            Self::Refused { code, .. } => vec![code.clone()],
            Self::OtherMesh { .. } => vec!["MESH_DIFFERS".into()],
            Self::Incomplete(_) | Self::Certificate(_) | Self::Identity(_) => vec!["ANSWER_UNUSABLE".into()],
            Self::Internal(_) => vec!["INTERNAL".into()],
        }
    }
}

/// The coordinator's refusal in a status: its code is in the details, its sentence the message.
pub fn refused(status: tonic::Status) -> MeshError {
    let code = std::str::from_utf8(status.details()).ok().filter(|code| !code.is_empty());
    MeshError::Refused {
        code: code.map_or_else(|| format!("{:?}", status.code()), str::to_owned),
        reason: status.message().to_owned(),
    }
}

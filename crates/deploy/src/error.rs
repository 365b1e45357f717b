//! Why a deployment did not come to its end.

use attested_tls::channel::ChannelError;
use keep_protocol::{
    ProtocolError,
    host::{HostErrorCode, Tee},
    keep::Refused,
};

use crate::{deployment::DeploymentError, endpoint::EndpointError, host::HostFailure};

/// Why a deployment did not come to its end.
#[derive(Debug, thiserror::Error)]
pub enum DeployError {
    /// No host.
    #[error(transparent)]
    Endpoint(#[from] EndpointError),
    /// No Keep would take it.
    #[error(transparent)]
    Deployment(#[from] DeploymentError),
    /// The host gave no Keep, or no way to it.
    #[error("the host gave no Keep")]
    Host(#[from] HostFailure),
    /// The host has none of the TEEs that would do.
    #[error("the host has no TEE that you accept: it says that it has {}; you accept {}", names(.offered), names(.wanted))]
    NoSuchTee {
        /// What it has, it says.
        offered: Vec<Tee>,
        /// What policy and reference values leave.
        wanted: Vec<Tee>,
    },
    /// What is at the other end is not what was wanted, or serves somebody else.
    #[error("the Keep is not used")]
    Keep(#[from] ChannelError),
    /// The Keep does not take the deployment.
    #[error("the Keep refused the deployment: {}", .0.message)]
    Refused(Box<Refused>),
    /// The Keep speaks other versions.
    #[error("the Keep speaks version {0} of the protocol; this client speaks {ours}", ours = keep_protocol::VERSION)]
    Version(u16),
    /// The Keep ran something else, by its own word.
    #[error("the Keep took another {0} than was sent")]
    Swapped(&'static str),
    /// The Keep says what does not belong there.
    #[error("the Keep broke the protocol: {0}")]
    OutOfOrder(&'static str),
    /// The Keep says what is no message.
    #[error("the Keep broke the protocol")]
    Malformed(#[from] ProtocolError),
    /// The connection ended before the workload did. What it had done until then, it had done.
    #[error("the connection to the Keep ended before the workload did")]
    Lost(#[source] Option<Box<dyn std::error::Error + Send + Sync>>),
    /// Our own side cannot hold a volume's new state.
    #[error("the new state of a volume cannot be held")]
    Held(#[source] std::io::Error),
    /// Our own side cannot take the workload's output.
    #[error("the workload's output cannot be written")]
    Output(#[source] std::io::Error),
}

impl DeployError {
    /// Stable codes.
    pub fn codes(&self) -> Vec<String> {
        let one = |code: &str| vec![code.to_owned()];
        match self {
            Self::Endpoint(_) => one("HOST_URL_INVALID"),
            Self::Deployment(_) => one("DEPLOYMENT_INVALID"),
            Self::Host(failure) => one(failure.code()),
            Self::NoSuchTee { .. } => one(HostErrorCode::NoSuchTee.as_str()),
            Self::Keep(error) => error.codes(),
            Self::Refused(refused) => {
                let code = refused.code.as_str();
                let detail = refused.detail.iter().filter(|detail| *detail != code).cloned();
                one(code).into_iter().chain(detail).collect()
            }
            Self::Version(_) => one("VERSION_UNSUPPORTED"),
            Self::Swapped(_) => one("DEPLOYMENT_SWAPPED"),
            Self::OutOfOrder(_) | Self::Malformed(_) => one("KEEP_MALFORMED"),
            Self::Lost(_) => one("KEEP_LOST"),
            Self::Held(_) => one("VOLUME_NOT_HELD"),
            Self::Output(_) => one("OUTPUT_FAILED"),
        }
    }
}

/// TEEs by name.
pub(crate) fn names(tees: &[Tee]) -> String {
    let name = |tee: &Tee| format!("{}{}", tee.platform, if tee.emulated { " (emulated)" } else { "" });
    if tees.is_empty() { "none".to_owned() } else { tees.iter().map(name).collect::<Vec<_>>().join(", ") }
}

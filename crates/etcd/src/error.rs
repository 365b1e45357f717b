//! Why etcd did not do what it was asked.

use tonic::{Code, Status};

/// Why etcd did not do what it was asked.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum EtcdError {
    /// No member answered, or none that has a leader. What was asked may have been done, or may yet be.
    #[error("no member of etcd does what it is asked: {0}")]
    Unreachable(String),
    /// etcd says no: nothing was done.
    #[error("etcd refuses: {0}")]
    Refused(String),
    /// What is asked for lies before etcd's last compaction.
    #[error("etcd has compacted the revision that was asked for")]
    Compacted,
    /// An answer that is none.
    #[error("etcd's answer is not of the form that is documented")]
    Malformed,
    /// TLS settings.
    #[error("the TLS settings for etcd are refused: {0}")]
    Tls(String),
}

impl From<Status> for EtcdError {
    fn from(status: Status) -> Self {
        match status.code() {
            Code::InvalidArgument
            | Code::FailedPrecondition
            | Code::NotFound
            | Code::PermissionDenied
            | Code::Unauthenticated
            | Code::Unimplemented => Self::Refused(status.message().to_owned()),
            Code::OutOfRange => Self::Compacted,
            _ => Self::Unreachable(status.message().to_owned()),
        }
    }
}

impl EtcdError {
    /// Whether another member, or the same one later, may do it.
    pub fn is_passing(&self) -> bool {
        matches!(self, Self::Unreachable(_))
    }
}

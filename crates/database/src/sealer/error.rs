//! Why sealing ends.

use std::io;

/// Why the sealer did not start, or ended. Whatever it is, nothing more is acknowledged.
#[derive(Debug, Clone, thiserror::Error)]
pub enum SealerError {
    /// The log.
    #[error(transparent)]
    Log(#[from] sealed_log::Error),
    /// PostgreSQL cannot be reached, or went away.
    #[error("PostgreSQL is not there: {0}")]
    EngineGone(io::ErrorKind),
    /// PostgreSQL refused what the sealer asked for.
    #[error("PostgreSQL refused ({code}): {message}")]
    EngineRefused {
        /// SQLSTATE.
        code: String,
        /// Its words.
        message: String,
    },
    /// PostgreSQL said something that the replication protocol does not have.
    #[error("PostgreSQL broke the replication protocol: {0}")]
    Protocol(&'static str),
    /// A setting without which a commit would be acknowledged before it is sealed.
    #[error("PostgreSQL's setting {name} must be {expected:?} and is {seen:?}")]
    Setting {
        /// Which one.
        name: &'static str,
        /// What it must be.
        expected: &'static str,
        /// What it is.
        seen: String,
    },
    /// A relation whose content is not in the write-ahead log.
    #[error("the relation {0} is not logged: its content would be lost")]
    Unlogged(String),
    /// The database has more than one folder.
    #[error("tablespaces are not supported")]
    Tablespace,
    /// The stream goes on elsewhere than where it was.
    #[error("the write-ahead log continues at {seen}, and not at {expected}")]
    Gap {
        /// Where it was.
        expected: crate::lsn::Lsn,
        /// Where it is.
        seen: crate::lsn::Lsn,
    },
    /// It was asked to end, or a thread of it failed.
    #[error("the sealer ended")]
    Ended,
}

impl SealerError {
    /// Stable code.
    pub fn code(&self) -> &'static str {
        match self {
            Self::Log(error) => error.code(),
            Self::EngineGone(_) => "ENGINE_GONE",
            Self::EngineRefused { .. } => "ENGINE_REFUSED",
            Self::Protocol(_) => "ENGINE_PROTOCOL",
            Self::Setting { .. } => "ENGINE_SETTING",
            Self::Unlogged(_) => "RELATION_UNLOGGED",
            Self::Tablespace => "TABLESPACE_UNSUPPORTED",
            Self::Gap { .. } => "WAL_GAP",
            Self::Ended => "SEALER_ENDED",
        }
    }
}

impl From<io::Error> for SealerError {
    fn from(error: io::Error) -> Self {
        Self::EngineGone(error.kind())
    }
}

//! What can go wrong, by name.

use std::io;

use volume::AnchorError;

/// Why a log cannot be read, or written on.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// A record or header is not what was written there.
    #[error("the log was altered at record {0}")]
    Tampered(u64),
    /// A file ends before a record that another file, or the anchor, says was there.
    #[error("the log was cut at record {0}")]
    Cut(u64),
    /// An old copy.
    #[error("the log is an old copy: it ends with record {found}, while its anchor is at {anchored}")]
    RolledBack {
        /// The newest record that the host has.
        found: u64,
        /// The newest that was acknowledged.
        anchored: u64,
    },
    /// Another history than the one that was acknowledged.
    #[error("the log is a copy that went another way at record {0}")]
    Forked(u64),
    /// The anchor itself was turned back.
    #[error("the log is at record {found}, but its anchor only at {anchored}: the anchor was turned back")]
    AheadOfAnchor {
        /// The newest record that the host has.
        found: u64,
        /// Where the anchor stands.
        anchored: u64,
    },
    /// The anchor knows the log, and the host has none of its files.
    #[error("the log's files are missing")]
    Missing,
    /// The host has a log that the anchor has never heard of.
    #[error("there is a log, but its anchor knows of none")]
    Unanchored,
    /// These are files of another log.
    #[error("these are the files of another log")]
    Swapped,
    /// A file has the name of another.
    #[error("a file of the log was renamed")]
    Renamed,
    /// Made by a version of Bailey that writes another format.
    #[error("the log has format {0}; this program knows format 1")]
    FormatUnknown(u32),
    /// An authentic record does not parse: the caller's kinds or ours, never the host.
    #[error("record {0} is authentic and cannot be understood")]
    Malformed(u64),
    /// More than a record can hold.
    #[error("a record may have at most {} bytes", crate::MAX_RECORD)]
    TooLarge,
    /// The host's disk is full. What was acknowledged stays.
    #[error("the host's disk is full")]
    HostFull,
    /// The host's disk failed.
    #[error("the host's disk failed: {0}")]
    Host(io::ErrorKind),
    /// Another instance on this host has it open.
    #[error("the log is in use by another instance on this host")]
    InUse,
    /// Another instance moved the anchor.
    #[error("another instance has taken the log over; nothing more is written")]
    Superseded,
    /// Whether the anchor moved is not known.
    #[error("the log's anchor does not answer: {0}")]
    AnchorUnreachable(String),
    /// An earlier failure ended the writer.
    #[error("the log's writer ended at an earlier failure")]
    Ended,
    /// Whoever reads the entries had enough of them.
    #[error("what the log holds was refused: {0}")]
    Refused(String),
}

impl Error {
    /// Stable code.
    pub fn code(&self) -> &'static str {
        match self {
            Self::Tampered(_) => "LOG_TAMPERED",
            Self::Cut(_) => "LOG_CUT",
            Self::RolledBack { .. } => "LOG_ROLLED_BACK",
            Self::Forked(_) => "LOG_FORKED",
            Self::AheadOfAnchor { .. } => "LOG_AHEAD_OF_ANCHOR",
            Self::Missing => "LOG_MISSING",
            Self::Unanchored => "LOG_UNANCHORED",
            Self::Swapped => "LOG_SWAPPED",
            Self::Renamed => "LOG_RENAMED",
            Self::FormatUnknown(_) => "LOG_FORMAT_UNKNOWN",
            Self::Malformed(_) => "LOG_MALFORMED",
            Self::TooLarge => "LOG_RECORD_TOO_LARGE",
            Self::HostFull => "HOST_DISK_FULL",
            Self::Host(_) => "HOST_DISK_FAILED",
            Self::InUse => "LOG_IN_USE",
            Self::Superseded => "LOG_SUPERSEDED",
            Self::AnchorUnreachable(_) => "ANCHOR_UNREACHABLE",
            Self::Ended => "LOG_ENDED",
            Self::Refused(_) => "LOG_REFUSED",
        }
    }

    /// What would mend it, for whoever operates the instance.
    pub fn remedy(&self) -> &'static str {
        match self {
            Self::HostFull => "make room on the host's disk and start again; nothing acknowledged is lost",
            Self::InUse | Self::Superseded => "run one instance of this log at a time",
            Self::AnchorUnreachable(_) => "see that the anchor can be reached, and start again",
            Self::Missing | Self::Swapped | Self::Renamed => "give the instance the folder of this log",
            Self::RolledBack { .. } | Self::Forked(_) => "put the newest copy of the log's folder back",
            Self::AheadOfAnchor { .. } | Self::Unanchored => {
                "restore the anchor's newest state; or, to begin anew, move the log's folder away"
            }
            Self::Tampered(_) | Self::Cut(_) => "restore the log's folder from a copy of its newest state",
            _ => "see docs/sealed-log.md",
        }
    }
}

impl From<io::Error> for Error {
    fn from(error: io::Error) -> Self {
        match error.kind() {
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => Self::HostFull,
            kind => Self::Host(kind),
        }
    }
}

impl From<AnchorError> for Error {
    fn from(error: AnchorError) -> Self {
        match error {
            AnchorError::Moved => Self::Superseded,
            AnchorError::Unreachable(reason) => Self::AnchorUnreachable(reason),
        }
    }
}

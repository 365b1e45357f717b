//! What can go wrong, by name.

use std::io;

use crate::{anchor::AnchorError, tree::TreeError};

/// Why a volume cannot be opened, or an operation on it failed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// A name, or a rule about names.
    #[error(transparent)]
    Tree(#[from] TreeError),
    /// Opened to be read.
    #[error("the volume is read-only")]
    ReadOnly,
    /// The volume's size is used up.
    #[error("the volume is full")]
    NoSpace,
    /// No file can have this size.
    #[error("the file would be too large")]
    TooLarge,
    /// A size of a volume that is not supported.
    #[error("a volume may have at most {} bytes", crate::MAX_SIZE)]
    SizeUnsupported,
    /// The host's disk is full. What was committed stays; what was not can be committed once there is room.
    #[error("the host's disk is full")]
    HostFull,
    /// The host's disk failed.
    #[error("the host's disk failed: {0}")]
    Host(io::ErrorKind),
    /// Another Keep of this host has it open.
    #[error("the volume is in use by another Keep on this host")]
    InUse,
    /// The anchor knows the volume, and the host has none of its files.
    #[error("the volume's files are missing")]
    Missing,
    /// The host has files of a volume that the anchor has never heard of.
    #[error("there are files of a volume, but its anchor knows of none")]
    Unanchored,
    /// These are files of another volume.
    #[error("these are the files of another volume")]
    Swapped,
    /// A file has the name of another.
    #[error("a file of the volume was renamed")]
    Renamed,
    /// Made by a version of Bailey that writes another format.
    #[error("the volume has format {0}; this Keep knows format 1")]
    FormatUnknown(u32),
    /// A file is shorter than it was written.
    #[error("the volume's {0} was cut")]
    Truncated(&'static str),
    /// Bytes are not those that were written there last.
    #[error("the volume's {0} was altered")]
    Tampered(&'static str),
    /// An old copy.
    #[error("the volume is an old copy: at commit {found}, while its anchor is at {anchored}")]
    RolledBack {
        /// The newest commit that the host has.
        found: u64,
        /// The newest that was acknowledged.
        anchored: u64,
    },
    /// Another history than the one that was acknowledged.
    #[error("the volume is a copy that went another way at commit {0}")]
    Forked(u64),
    /// The anchor itself was turned back.
    #[error("the volume is at commit {found}, but its anchor only at {anchored}: the anchor was turned back")]
    AheadOfAnchor {
        /// The newest commit that the host has.
        found: u64,
        /// Where the anchor stands.
        anchored: u64,
    },
    /// Another Keep opened the volume after this one did.
    #[error("another Keep has taken the volume over; nothing more is written")]
    Superseded,
    /// Whether the last commit was acknowledged is not known.
    #[error("the volume's anchor does not answer: {0}")]
    AnchorUnreachable(String),
}

impl Error {
    /// Stable code.
    pub fn code(&self) -> &'static str {
        match self {
            Self::Tree(_) => "NAME_REFUSED",
            Self::ReadOnly => "VOLUME_READ_ONLY",
            Self::NoSpace => "VOLUME_FULL",
            Self::TooLarge => "FILE_TOO_LARGE",
            Self::SizeUnsupported => "VOLUME_SIZE_UNSUPPORTED",
            Self::HostFull => "HOST_DISK_FULL",
            Self::Host(_) => "HOST_DISK_FAILED",
            Self::InUse => "VOLUME_IN_USE",
            Self::Missing => "VOLUME_MISSING",
            Self::Unanchored => "VOLUME_UNANCHORED",
            Self::Swapped => "VOLUME_SWAPPED",
            Self::Renamed => "VOLUME_RENAMED",
            Self::FormatUnknown(_) => "VOLUME_FORMAT_UNKNOWN",
            Self::Truncated(_) => "VOLUME_TRUNCATED",
            Self::Tampered(_) => "VOLUME_TAMPERED",
            Self::RolledBack { .. } => "VOLUME_ROLLED_BACK",
            Self::Forked(_) => "VOLUME_FORKED",
            Self::AheadOfAnchor { .. } => "VOLUME_AHEAD_OF_ANCHOR",
            Self::Superseded => "VOLUME_SUPERSEDED",
            Self::AnchorUnreachable(_) => "ANCHOR_UNREACHABLE",
        }
    }

    /// What would mend it, for whoever operates the Keep.
    pub fn remedy(&self) -> &'static str {
        match self {
            Self::HostFull => "make room on the host's disk; nothing that was committed is lost",
            Self::InUse | Self::Superseded => "run one Keep of this volume at a time",
            Self::AnchorUnreachable(_) => "see that the coordinator can be reached; the Keep tries again",
            Self::Missing | Self::Swapped | Self::Renamed => {
                "give the Keep the folder with this volume's files"
            }
            Self::RolledBack { .. } | Self::Forked(_) => "put the newest copy of the volume's folder back",
            Self::AheadOfAnchor { .. } | Self::Unanchored => {
                "restore the coordinator's newest state; or, to begin anew, move the volume's folder away"
            }
            Self::Tampered(_) | Self::Truncated(_) => {
                "restore the volume's folder from a copy of its newest state"
            }
            _ => "see docs/volumes.md",
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

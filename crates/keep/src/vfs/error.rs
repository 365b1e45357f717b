//! Why an operation on files fails, and what the two generations of WASI call that.

use volume::tree::TreeError;

use crate::{
    bindings::filesystem::types::ErrorCode, wasi03::bindings::filesystem::types::ErrorCode as ErrorCode03,
};

/// Why an operation fails; the workload is told.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Error {
    /// A name, or a rule about names.
    #[error(transparent)]
    Tree(#[from] TreeError),
    /// An absolute path, or one that leads above the directory that it starts from.
    #[error("the path leads out of its directory")]
    Outside,
    /// No path: empty, over 4096 bytes, with a zero byte; or an argument that makes no sense.
    #[error("the argument is invalid")]
    Invalid,
    /// The file system may only be read.
    #[error("this part of the file system is read-only")]
    ReadOnly,
    /// The descriptor was not opened for this.
    #[error("the descriptor was not opened for this")]
    BadDescriptor,
    /// From one mount to another.
    #[error("the two names are on different file systems")]
    CrossDevice,
    /// The mount's size, or the host's disk.
    #[error("there is no space left")]
    NoSpace,
    /// A size that no file can have.
    #[error("the file would be too large")]
    TooLarge,
    /// The workload's limit.
    #[error("too many files are open")]
    TooManyOpen,
    /// Links of both kinds.
    #[error("this file system has no links")]
    Unsupported,
    /// The host's files cannot be used. The Keep's log says why, by this code.
    #[error("the storage failed: {0}")]
    Storage(&'static str),
}

impl Error {
    /// As preview 1 numbers it (`wasi_snapshot_preview1`, `errno`).
    pub(crate) fn errno(self) -> u16 {
        match self {
            Self::Tree(error) => match error {
                TreeError::Absent => 44,
                TreeError::Exists => 20,
                TreeError::NotDirectory => 54,
                TreeError::IsDirectory => 31,
                TreeError::NotEmpty => 55,
                TreeError::InvalidName | TreeError::IntoItself => 28,
                TreeError::NameTooLong => 37,
                TreeError::TooMany => 51,
            },
            // What wasi-libc and its tests expect of a path that leaves its directory: `notcapable` as of old, `perm` now.
            Self::Outside => 63,
            Self::Invalid => 28,
            Self::ReadOnly => 69,
            Self::BadDescriptor => 8,
            Self::CrossDevice => 75,
            Self::NoSpace => 51,
            Self::TooLarge => 22,
            Self::TooManyOpen => 33,
            Self::Unsupported => 58,
            Self::Storage(_) => 29,
        }
    }
}

/// What components are told. Both generations have the same names for it.
macro_rules! told_as {
    ($($code:ty),*) => {$(
        impl From<Error> for $code {
            fn from(error: Error) -> Self {
                match error {
                    Error::Tree(error) => match error {
                        TreeError::Absent => Self::NoEntry,
                        TreeError::Exists => Self::Exist,
                        TreeError::NotDirectory => Self::NotDirectory,
                        TreeError::IsDirectory => Self::IsDirectory,
                        TreeError::NotEmpty => Self::NotEmpty,
                        TreeError::InvalidName | TreeError::IntoItself => Self::Invalid,
                        TreeError::NameTooLong => Self::NameTooLong,
                        TreeError::TooMany => Self::InsufficientSpace,
                    },
                    Error::Outside => Self::NotPermitted,
                    Error::Invalid => Self::Invalid,
                    Error::ReadOnly => Self::ReadOnly,
                    Error::BadDescriptor => Self::BadDescriptor,
                    Error::CrossDevice => Self::CrossDevice,
                    Error::NoSpace => Self::InsufficientSpace,
                    Error::TooLarge => Self::FileTooLarge,
                    // Neither has a word for it.
                    Error::TooManyOpen => Self::InsufficientMemory,
                    Error::Unsupported => Self::Unsupported,
                    Error::Storage(_) => Self::Io,
                }
            }
        }
    )*};
}

told_as!(ErrorCode, ErrorCode03);

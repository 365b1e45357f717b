//! Generated from `witx/`: the types and the calls of preview 1, and what becomes of pointers that lead nowhere.

#![allow(missing_docs, clippy::all, reason = "generated code")]

use wiggle::{GuestError, GuestErrorType};

use self::types::{Errno, Error};
use crate::{
    limit::{Exceeded, Which},
    net::Broken,
    pipe, vfs,
};

wiggle::from_witx!({
    witx: ["witx/wasi_snapshot_preview1.witx"],
    async: {
        wasi_snapshot_preview1::{
            fd_allocate, fd_datasync, fd_filestat_get, fd_filestat_set_size, fd_filestat_set_times, fd_pread,
            fd_pwrite, fd_read, fd_readdir, fd_seek, fd_sync, fd_write, path_create_directory, path_filestat_get,
            path_filestat_set_times, path_open, path_readlink, path_remove_directory, path_rename,
            path_unlink_file, poll_oneoff, random_get, sched_yield, sock_accept, sock_recv, sock_send
        }
    },
    errors: { errno => trappable Error },
    wasmtime: false,
});

impl GuestErrorType for Errno {
    fn success() -> Self {
        Self::Success
    }
}

/// A pointer or length that leads out of the module's memory is an error of the call, never of the Keep.
impl From<GuestError> for Errno {
    fn from(error: GuestError) -> Self {
        match error {
            GuestError::InFunc { err, .. } => Self::from(*err),
            GuestError::InvalidUtf8(_) => Self::Ilseq,
            GuestError::TryFromIntError(_)
            | GuestError::InvalidFlagValue(_)
            | GuestError::InvalidEnumValue(_)
            | GuestError::PtrNotAligned(..) => Self::Inval,
            _ => Self::Fault,
        }
    }
}

impl From<GuestError> for Error {
    fn from(error: GuestError) -> Self {
        Errno::from(error).into()
    }
}

impl From<vfs::Error> for Error {
    fn from(error: vfs::Error) -> Self {
        match error {
            vfs::Error::TooManyOpen => Self::trap(Exceeded(Which::OpenFiles).into()),
            error => Errno::try_from(error.errno()).unwrap_or(Errno::Io).into(),
        }
    }
}

/// What a plain socket would say.
impl From<Broken> for Errno {
    fn from(broken: Broken) -> Self {
        match broken {
            Broken::Truncated | Broken::Reset | Broken::Cut => Self::Connreset,
            Broken::Tls { .. } => Self::Io,
            Broken::Shut => Self::Pipe,
        }
    }
}

impl From<Broken> for Error {
    fn from(broken: Broken) -> Self {
        Errno::from(broken).into()
    }
}

impl From<pipe::Broken> for Error {
    fn from(_: pipe::Broken) -> Self {
        Errno::Pipe.into()
    }
}

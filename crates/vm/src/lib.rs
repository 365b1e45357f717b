//! Virtual machines that hold one Keep each: QEMU, for machines with a TPM a TPM of software (swtpm), and the words between
//! them and the host. It knows nothing of Keeps, Evidence or who asks; `docs/vm-guest.md` says what is measured.
//!
//! ```text
//!  Guest (folder of an image) ─┐
//!  Hardware, Protection ───────┼─► arguments ─► QEMU ◄─ QMP ─ Machine: console, end, stop
//!  Supplied (fw_cfg, disk) ────┘                  └─ swtpm, provisioned: bank, attestation key, certificate
//! ```

pub mod arguments;
pub mod authority;
mod console;
mod files;
mod machine;
mod qmp;
mod tpm;

pub use arguments::{Accelerator, Forward, Hardware, Protection, Supplied};
pub use files::Guest;
pub use machine::{Address, Happened, Launch, MAX_WORKLOAD, Machine, Stopper, storage};

/// Why a machine cannot be started or followed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum VmError {
    /// A program is not installed, or does not start.
    #[error("{program} does not start; is it installed? apt-get install {package}")]
    Program {
        /// Which one.
        program: &'static str,
        /// The Debian package that it is in.
        package: &'static str,
        /// Why.
        source: std::io::Error,
    },
    /// A program ended at once, with these words.
    #[error("{program} ended: {words}")]
    Ended {
        /// Which one.
        program: &'static str,
        /// Its last words.
        words: String,
    },
    /// A file cannot be read or written.
    #[error("{path}: {source}")]
    File {
        /// Which one.
        path: std::path::PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// What the host is to supply is too large.
    #[error("{what}: {size} bytes; at most {limit} are allowed")]
    TooLarge {
        /// Which of it.
        what: &'static str,
        /// Its size.
        size: usize,
        /// The most that is allowed.
        limit: usize,
    },
    /// A port of this host cannot be opened for the guest.
    #[error("nobody can listen on {address} of this host; {}", remedy(source.kind()))]
    Port {
        /// Which one.
        address: std::net::SocketAddrV4,
        /// Why.
        source: std::io::Error,
    },
    /// QEMU does not answer as its protocol says, or not in time.
    #[error("QEMU's monitor: {0}")]
    Monitor(String),
    /// The TPM could not be made ready.
    #[error("the machine's TPM could not be made ready")]
    Tpm(#[from] tpm_anchor::TpmError),
    /// The attestation key could not be certified.
    #[error("the TPM's attestation key could not be certified")]
    Authority(#[from] rcgen::Error),
    /// The machine is gone, or was never there.
    #[error("there is no machine any more")]
    Gone,
    /// It was let go.
    #[error("the machine was released")]
    Released,
}

fn remedy(kind: std::io::ErrorKind) -> &'static str {
    match kind {
        std::io::ErrorKind::AddrInUse => "end the program that has it, or choose another port",
        std::io::ErrorKind::AddrNotAvailable => {
            "choose an address that this host has, or 0.0.0.0 for all of them"
        }
        std::io::ErrorKind::PermissionDenied => {
            "choose a port from 1024 on, or let this program have lower ones"
        }
        _ => "choose another one",
    }
}

pub(crate) fn file(path: &std::path::Path) -> impl FnOnce(std::io::Error) -> VmError {
    let path = path.to_owned();
    move |source| VmError::File { path, source }
}

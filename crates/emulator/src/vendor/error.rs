//! What can go wrong with a platform directory or a request to it.

use std::io;
use std::path::PathBuf;

/// Why a platform could not be opened, or would not issue.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum PlatformError {
    /// The file system refused.
    #[error("cannot {action} {}", path.display())]
    Io {
        /// What was tried, as a verb.
        action: &'static str,
        /// On which file or directory.
        path: PathBuf,
        /// The answer of the operating system.
        source: io::Error,
    },
    /// The file with the private keys can be read, or its directory written, by other users.
    #[error("others may use {}, which must be private (mode {mode:04o}, required {required:04o})", path.display())]
    Exposed {
        /// The file or directory.
        path: PathBuf,
        /// What its permission bits should be.
        required: u32,
        /// Its permission bits.
        mode: u32,
    },
    /// The platform file is not what this emulator wrote. It is never repaired: sealed data hangs on its keys.
    #[error("{} is damaged or was written by another version", path.display())]
    Damaged {
        /// The file.
        path: PathBuf,
        /// Where it stops making sense.
        source: serde_json::Error,
    },
    /// There is a platform already, created with other options.
    #[error("{} was created with other options ({existing:?}); use another directory", path.display())]
    OtherOptions {
        /// The platform file.
        path: PathBuf,
        /// What it was created with.
        existing: super::PlatformOptions,
    },
    /// A measurement or digest that does not fit the platform's field.
    #[error("{what} of {platform} takes {expected:?} bytes, not {seen}")]
    Length {
        /// The field.
        what: &'static str,
        /// The platform whose Evidence was asked for.
        platform: evidence::Platform,
        /// Bytes that the field has.
        expected: Vec<usize>,
        /// Bytes that were given.
        seen: usize,
    },
    /// A kind of TEE that no emulated platform has.
    #[error("{0} is not emulated; sgx, tdx and snp are")]
    NotEmulated(evidence::Platform),
    /// A date that X.509 or Intel's JSON cannot say.
    #[error("cannot write collateral for this date")]
    Date,
    /// The cryptographic library failed, which it does when the machine has no entropy or no memory.
    #[error("cannot {operation}")]
    Cryptography {
        /// What was tried, as a verb.
        operation: &'static str,
    },
}

/// Shorthand of this module.
pub type Result<T> = std::result::Result<T, PlatformError>;

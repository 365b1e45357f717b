//! What a TEE offers to the code inside it, whatever the hardware: the trait, its values, its errors.

use evidence::{Platform, ReportData};
use zeroize::Zeroizing;

use crate::emulated::{DecodeError, FrameError, RefusalCode};

/// A TEE, seen from inside. Calls block for as long as the platform takes: microseconds to milliseconds.
pub trait Tee: Send + Sync {
    /// The kind of Evidence that this TEE issues.
    fn platform(&self) -> Platform;

    /// Whether this is an emulated platform, by the back end that speaks with it. For marking what this code
    /// makes; whoever verifies decides by the trust root of the Evidence instead.
    fn emulated(&self) -> bool;

    /// The launch configuration that was measured when this TEE was launched: the bytes themselves, whose
    /// digest is in the Evidence. What the host says is to be trusted only if it is in here.
    fn launch_configuration(&self) -> &[u8];

    /// Evidence over `report_data`, with the Endorsements that the platform staples to it.
    ///
    /// # Errors
    /// When the platform refuses, answers nonsense, or is gone.
    fn evidence(&self, report_data: &ReportData) -> Result<RawEvidence, AttesterError>;

    /// A key that only the same code with the same launch configuration on the same platform can obtain,
    /// different for each `context` (1 to [`crate::emulated::MAX_CONTEXT`] bytes).
    ///
    /// # Errors
    /// When the context is empty or too long, or the platform refuses, answers nonsense, or is gone.
    fn sealing_key(&self, context: &str) -> Result<SealingKey, AttesterError>;
}

/// Evidence as it came from the platform: bytes that nothing here has looked into.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RawEvidence {
    /// The quote or report in the vendor's format: `evidence::Evidence::parse` reads it.
    pub evidence: Vec<u8>,
    /// The stapled Endorsements: `evidence::Endorsements::from_bytes` reads them.
    pub endorsements: Vec<u8>,
}

/// 32 secret bytes, wiped when dropped, and absent from `Debug`.
#[derive(Clone, PartialEq, Eq)]
pub struct SealingKey(Zeroizing<[u8; 32]>);

impl SealingKey {
    /// Takes the bytes over.
    pub fn new(bytes: Zeroizing<[u8; 32]>) -> Self {
        Self(bytes)
    }

    /// The key. Whoever calls this takes the duty not to copy it about.
    pub fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }
}

impl std::fmt::Debug for SealingKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("SealingKey(…)")
    }
}

/// Why there is no Evidence or no sealing key.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum AttesterError {
    /// This process does not run in a TEE.
    #[error(
        "not inside a TEE: {reason}; start this program through `bailey host`, or launch it on a \
         `bailey-emulator`"
    )]
    NotInTee {
        /// What was looked for and not found.
        reason: &'static str,
    },
    /// [`crate::detect`] was called before: the platform's channel has one owner.
    #[error("the platform channel of this process is already taken")]
    AlreadyTaken,
    /// The platform is switched off.
    #[error("the platform is gone")]
    PlatformGone,
    /// An earlier call failed half-way, so that the next answer could belong to it.
    #[error("the platform channel is unusable since an earlier failure")]
    ChannelBroken,
    /// The context of a sealing key is empty or too long.
    #[error("a sealing context has 1 to {limit} bytes, not {length}")]
    Context {
        /// Its length in bytes.
        length: usize,
        /// The most that is allowed.
        limit: usize,
    },
    /// The platform said no.
    #[error("the platform refused ({code}): {reason}")]
    Refused {
        /// The stable code.
        code: RefusalCode,
        /// The platform's own words.
        reason: String,
    },
    /// The platform answered another question than was asked.
    #[error("the platform gave an answer that does not belong to the request")]
    UnexpectedResponse,
    /// The platform's answer could not be read.
    #[error("the platform's answer is malformed")]
    Decode(#[from] DecodeError),
    /// The channel failed.
    #[error("the platform channel failed")]
    Channel(#[from] FrameError),
    /// This platform derives no key for the code that runs on it.
    #[error("there is no sealing key: {reason}; keep the state elsewhere, or on a platform that has one")]
    NoSealingKey {
        /// Why.
        reason: &'static str,
    },
    /// TDX, and no way to a quote.
    #[error(
        "this is a TD, and its kernel offers no quotes: configfs-tsm is needed (Linux 6.7 or later, mounted at \
         /sys/kernel/config)"
    )]
    NoQuotes,
    /// A TEE that this code does not know.
    #[error("the kernel's provider of reports is {provider:?}, which is not known here")]
    UnknownProvider {
        /// As the kernel names it.
        provider: String,
    },
    /// Another TEE than at the beginning, or an enclave that does not attest.
    #[error("reports are to come from {expected:?}, and come from {seen:?}")]
    OtherProvider {
        /// As it was.
        expected: &'static str,
        /// As it is.
        seen: String,
    },
    /// Others asked for reports at the same time, and got between question and answer.
    #[error("another process asked for reports at the same time, over and over")]
    Raced,
    /// The firmware, or the host in its stead, said no.
    #[error(
        "the firmware refused: {code:#x} (AMD 56860, table \"Status Codes\"; above 2^32 it is the host's)"
    )]
    Firmware {
        /// `exitinfo2` of the guest request.
        code: u64,
    },
    /// Evidence that is none.
    #[error("what the platform gave is no Evidence")]
    Malformed(#[source] evidence::Malformed),
    /// A launch configuration is there, and what was measured cannot be told.
    #[error("there is a launch configuration, and without {missing} nothing tells whether it was measured")]
    Unmeasured {
        /// What would tell.
        missing: &'static str,
    },
    /// A launch configuration that was not measured.
    #[error("the launch configuration is another one than was measured")]
    OtherConfiguration {
        /// Its digest, measured at the launch.
        measured: Vec<u8>,
        /// The digest of what is there.
        seen: Vec<u8>,
    },
    /// A TPM gave no quote.
    #[error("the TPM gave no quote")]
    Tpm(#[source] tpm_anchor::TpmError),
    /// The operating system refused something that the channel needs.
    #[error("{attempt}")]
    System {
        /// What was attempted.
        attempt: &'static str,
        /// Its error.
        source: std::io::Error,
    },
}

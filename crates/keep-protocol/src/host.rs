//! The host agent's API. The agent is not trusted: what it says here are hints, by which a client chooses and which it
//! never believes. All bodies are one message; types of content are [`CONTENT_TYPE`].
//!
//! | request | answer |
//! |---|---|
//! | `GET /v1` | [`HostInfo`] |
//! | `POST /v1/keeps` with [`NewKeep`] | [`Lease`] |
//! | `GET /v1/keeps/{id}/channel`, `Upgrade: bailey-keep/1` | 101, then the Keep's own bytes |
//! | `GET /v1/keeps` | [`Keeps`] |
//! | `DELETE /v1/keeps/{id}` | nothing |
//!
//! Whatever fails is answered with [`HostError`]; so is a path of another version than `/v1`.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::{Message, ProtocolError};

/// The type of every body.
pub const CONTENT_TYPE: &str = "application/vnd.bailey.host+cbor";

/// The protocol that the channel is upgraded to.
pub const UPGRADE: &str = "bailey-keep/1";

const MAX_KEEPS: usize = 1024;
const MAX_NAME: usize = 256;
const MAX_WORDS: usize = 4096;

/// Whose Evidence a Keep gives.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Platform {
    /// Intel SGX.
    Sgx,
    /// Intel TDX.
    Tdx,
    /// AMD SEV-SNP.
    Snp,
    /// A TPM 2.0 of the machine that runs the guest.
    Tpm,
}

impl Platform {
    /// Every one.
    pub const ALL: [Self; 4] = [Self::Sgx, Self::Tdx, Self::Snp, Self::Tpm];

    /// Its word in messages.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Sgx => "sgx",
            Self::Tdx => "tdx",
            Self::Snp => "snp",
            Self::Tpm => "tpm",
        }
    }
}

impl fmt::Display for Platform {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

/// How a host runs Keeps.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum BackendKind {
    /// A process on the emulated platform.
    Process,
    /// A virtual machine with measured boot and a TPM.
    Vm,
    /// A confidential virtual machine of AMD's.
    Snp,
    /// A confidential virtual machine of Intel's.
    Tdx,
    /// An enclave.
    Sgx,
}

impl BackendKind {
    /// Its word in messages.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Process => "process",
            Self::Vm => "vm",
            Self::Snp => "snp",
            Self::Tdx => "tdx",
            Self::Sgx => "sgx",
        }
    }
}

impl fmt::Display for BackendKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

/// A TEE that a host offers, or that a client would take. Whether it is emulated is only a hint as well: Evidence says
/// so by the root that it ends in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Tee {
    /// Whether it is said to be emulated.
    pub emulated: bool,
    /// Whose Evidence it gives.
    pub platform: Platform,
}

/// What a host says of itself.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct HostInfo {
    /// The program and its version, such as `bailey-host/0.1.0`.
    pub agent: String,
    /// What it can run Keeps on.
    pub backends: Vec<Backend>,
    /// Whether it takes no new Keeps.
    pub draining: bool,
    /// Versions of the API that it speaks.
    pub versions: Vec<u16>,
}

/// One way in which a host runs Keeps.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Backend {
    /// What it is.
    pub tee: Tee,
    /// How many Keeps it has room for.
    pub free: u32,
    /// How it runs them.
    pub kind: BackendKind,
    /// How many Keeps are launched, attestable and idle.
    pub warm: u32,
    /// The processor, such as `Milan`, where the host knows it; empty otherwise.
    pub product: String,
}

/// A Keep is wanted.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NewKeep {
    /// What the client would take, best first; never empty.
    pub tees: Vec<Tee>,
    /// What its owner calls it in lists of the host, which reads it: at most 256 bytes; may be empty.
    pub label: String,
    /// Memory that the Keep should have, in bytes; 0: what the host gives.
    pub memory: u64,
    /// Whether it is to have the client's storage on this host, for volumes.
    pub volumes: bool,
}

/// A Keep is there, for whoever knows its name, once.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Lease {
    /// Its name in paths of the API: 32 lower-case hex digits that nobody can guess.
    pub id: String,
    /// What it is said to run on.
    pub tee: Tee,
    /// How the host runs it.
    pub kind: BackendKind,
    /// Whether it waited already.
    pub warm: bool,
    /// How long the host keeps it for a client that does not come, in milliseconds.
    pub ttl_ms: u64,
}

/// The Keeps of a client, or all of them for the host's own administrator.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Keeps {
    /// In the order of their age, oldest first.
    pub keeps: Vec<KeepSummary>,
}

/// One Keep, as its host sees it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct KeepSummary {
    /// Its name.
    pub id: String,
    /// What it is said to run on.
    pub tee: Tee,
    /// How the host runs it.
    pub kind: BackendKind,
    /// What its owner calls it.
    pub label: String,
    /// What it does.
    pub state: KeepState,
    /// How long ago it was leased or, while it is warm, launched; in milliseconds.
    pub age_ms: u64,
}

/// What a Keep does, as far as its host can see.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum KeepState {
    /// It is being launched.
    Starting,
    /// It waits, for nobody yet.
    Warm,
    /// It waits for the client that has its lease.
    Leased,
    /// Its client is connected.
    Connected,
    /// It is a Marble's.
    Marble,
    /// It has ended.
    Ended,
}

/// Something failed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct HostError {
    /// What.
    pub code: HostErrorCode,
    /// One sentence for people.
    pub message: String,
    /// Versions of the API that the host speaks.
    pub versions: Vec<u16>,
    /// When another attempt may succeed, in milliseconds; 0: never by itself.
    pub retry_after_ms: u64,
}

/// What failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum HostErrorCode {
    /// The request is of another version of the API.
    VersionUnsupported,
    /// The request's body is not the message that belongs there.
    Malformed,
    /// No such path, or no such method on it.
    NotFound,
    /// The client showed neither a certificate nor a token that counts here.
    Unauthorised,
    /// The client has as many Keeps, or as much memory, as it may have.
    QuotaExceeded,
    /// Too many requests.
    Busy,
    /// None of the TEEs that the client would take is here.
    NoSuchTee,
    /// The TEE is here, and has no room.
    NoRoom,
    /// The TEE is here, and has no storage for volumes.
    NoStorage,
    /// The host takes no new Keeps.
    Draining,
    /// There is no Keep of this name for this client.
    NoSuchKeep,
    /// The Keep had its client.
    KeepTaken,
    /// The Keep could not be launched.
    LaunchFailed,
    /// The host itself is at fault.
    Internal,
}

impl HostErrorCode {
    /// Its word in messages and for programs.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::VersionUnsupported => "VERSION_UNSUPPORTED",
            Self::Malformed => "MALFORMED",
            Self::NotFound => "NOT_FOUND",
            Self::Unauthorised => "UNAUTHORISED",
            Self::QuotaExceeded => "QUOTA_EXCEEDED",
            Self::Busy => "BUSY",
            Self::NoSuchTee => "NO_SUCH_TEE",
            Self::NoRoom => "NO_ROOM",
            Self::NoStorage => "NO_STORAGE",
            Self::Draining => "DRAINING",
            Self::NoSuchKeep => "NO_SUCH_KEEP",
            Self::KeepTaken => "KEEP_TAKEN",
            Self::LaunchFailed => "LAUNCH_FAILED",
            Self::Internal => "INTERNAL",
        }
    }

    /// The HTTP status that it goes with.
    pub fn status(self) -> u16 {
        match self {
            Self::Malformed => 400,
            Self::Unauthorised => 401,
            Self::VersionUnsupported | Self::NotFound | Self::NoSuchKeep => 404,
            Self::KeepTaken => 409,
            Self::NoSuchTee | Self::NoStorage => 422,
            Self::QuotaExceeded | Self::Busy => 429,
            Self::Internal => 500,
            Self::LaunchFailed => 502,
            Self::NoRoom | Self::Draining => 503,
        }
    }
}

impl HostError {
    /// With our versions, and no advice when to try again.
    pub fn new(code: HostErrorCode, message: impl Into<String>) -> Self {
        Self { code, message: message.into(), versions: vec![crate::VERSION], retry_after_ms: 0 }
    }
}

impl fmt::Display for HostError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.code.as_str(), self.message)
    }
}

impl std::error::Error for HostError {}

/// Whether `id` is a Keep's name: 32 lower-case hex digits.
pub fn is_keep_id(id: &str) -> bool {
    id.len() == 32 && id.bytes().all(|byte| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte))
}

const fn rule<T>(what: &'static str, field: &'static str, rule: &'static str) -> Result<T, ProtocolError> {
    Err(ProtocolError::Rule { what, field, rule })
}

fn id(what: &'static str, id: &str) -> Result<(), ProtocolError> {
    if is_keep_id(id) { Ok(()) } else { rule(what, "id", "it must be 32 lower-case hex digits") }
}

fn words(what: &'static str, field: &'static str, words: &str, max: usize) -> Result<(), ProtocolError> {
    if words.len() > max || words.chars().any(char::is_control) {
        return rule(what, field, "it is too long, or has control characters");
    }
    Ok(())
}

fn versions(what: &'static str, versions: &[u16]) -> Result<(), ProtocolError> {
    if versions.is_empty() || versions.len() > 16 {
        return rule(what, "versions", "there must be 1 to 16");
    }
    Ok(())
}

impl Message for HostInfo {
    const NAME: &'static str = "host-info";
    const MAX: usize = 64 << 10;

    fn check(&self) -> Result<(), ProtocolError> {
        words(Self::NAME, "agent", &self.agent, MAX_NAME)?;
        if self.backends.len() > 16 {
            return rule(Self::NAME, "backends", "there may be 16");
        }
        self.backends
            .iter()
            .try_for_each(|backend| words(Self::NAME, "product", &backend.product, MAX_NAME))?;
        versions(Self::NAME, &self.versions)
    }
}

impl Message for NewKeep {
    const NAME: &'static str = "new-keep";
    const MAX: usize = 4 << 10;

    fn check(&self) -> Result<(), ProtocolError> {
        if self.tees.is_empty() || self.tees.len() > 16 {
            return rule(Self::NAME, "tees", "there must be 1 to 16");
        }
        words(Self::NAME, "label", &self.label, MAX_NAME)
    }
}

impl Message for Lease {
    const NAME: &'static str = "lease";
    const MAX: usize = 4 << 10;

    fn check(&self) -> Result<(), ProtocolError> {
        id(Self::NAME, &self.id)
    }
}

impl Message for Keeps {
    const NAME: &'static str = "keeps";
    const MAX: usize = 2 << 20;

    fn check(&self) -> Result<(), ProtocolError> {
        if self.keeps.len() > MAX_KEEPS {
            return rule(Self::NAME, "keeps", "there may be 1024");
        }
        self.keeps.iter().try_for_each(|keep| {
            id(Self::NAME, &keep.id)?;
            words(Self::NAME, "label", &keep.label, MAX_NAME)
        })
    }
}

impl Message for HostError {
    const NAME: &'static str = "host-error";
    const MAX: usize = 8 << 10;

    fn check(&self) -> Result<(), ProtocolError> {
        words(Self::NAME, "message", &self.message, MAX_WORDS)?;
        versions(Self::NAME, &self.versions)
    }
}

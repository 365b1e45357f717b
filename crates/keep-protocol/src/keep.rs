//! What a client and its Keep say inside the attested connection: request and response of one `POST /v1/run` over
//! HTTP/2, each a CBOR sequence (RFC 8742) of a [`Preface`] and messages. They flow at the same time.
//!
//! The client says [`Deploy`], the workload in [`Chunk`](ToKeep::Chunk)s unless it is a package that the Keep fetches
//! ([`crate::package`]), and then, as long as the workload runs, `Stdin`, `StdinEnd` once, and perhaps `Cancel`. The Keep says `Accepted`, then what the workload prints and what
//! else becomes of it, and `Ended`; or, at any time before `Accepted`, `Refused`. Nothing follows `Ended` or `Refused`.
//!
//! Input comes when the Keep wants it, and not more of it (`StdinWanted`): so what a workload does not read never holds
//! up what the client says besides. A volume that is written has a new head with each commit, also when it is opened,
//! before `Accepted`: `VolumeHead`, answered by `VolumeKept` once the client holds it where nobody turns it back. Until
//! then the commit is not acknowledged to the workload.

use std::fmt;

use serde::{Deserialize, Serialize};
use serde_bytes::{ByteArray, ByteBuf};

use crate::{
    Message, ProtocolError, Sensitive, VERSION,
    package::{FetchedPackage, MAX_OPENED, PackageOrder},
    rules::{at_most, rule},
};

/// The path of the one request.
pub const RUN_PATH: &str = "/v1/run";

/// The type of both bodies.
pub const CONTENT_TYPE: &str = "application/vnd.bailey.keep+cbor-seq";

/// Largest workload, in bytes.
pub const MAX_WORKLOAD: u64 = 64 << 20;

/// Most bytes of workload, input or output in one message.
pub const MAX_CHUNK: usize = 256 << 10;

const MAX_CONFIG: usize = 256 << 10;
const MAX_ENTRIES: usize = 1024;
const MAX_NAME: usize = 256;
const MAX_STRING: usize = 128 << 10;
const MAX_SECRET: usize = 1 << 20;
const MAX_WORDS: usize = 4096;
const MAGIC: &str = "bailey-keep";

/// What each side says first, in this shape in every version, so that versions can be told apart.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Preface(String, u16);

impl Preface {
    /// Ours.
    pub fn ours() -> Self {
        Self(MAGIC.into(), VERSION)
    }

    /// That of a peer of this version.
    pub fn of_version(version: u16) -> Self {
        Self(MAGIC.into(), version)
    }

    /// The version that the peer speaks.
    pub fn version(&self) -> u16 {
        self.1
    }
}

/// From the client to its Keep.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub enum ToKeep {
    /// What to run: first, and once.
    Deploy(Box<Deploy>),
    /// The workload's next bytes, until there are as many as were announced.
    Chunk(ByteBuf),
    /// Input: 1 to [`MAX_CHUNK`] bytes, not more of it than was wanted.
    Stdin(ByteBuf),
    /// No more input.
    StdinEnd {},
    /// The workload is to end now.
    Cancel {},
    /// The client holds this state of a volume, and will give it with its next deployment.
    VolumeKept(VolumeHead),
    /// What was in the packet of an encrypted package that the Keep asked for; `None`: the client has no key that opens
    /// it.
    PacketOpened(Option<Sensitive>),
}

/// A deployment.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Deploy {
    /// Environment beside that of the configuration, which it wins over; by name, ascending. Values may be secret.
    pub env: Vec<(String, String)>,
    /// The workload's arguments after its name, in the place of those of the configuration.
    pub args: Option<Vec<String>>,
    /// The text of `Keep.toml`; `None`: that of the package, or where it has none the standard streams.
    pub config: Option<String>,
    /// What the configuration's secrets are; by name, ascending.
    pub secrets: Vec<Secret>,
    /// What opens the configuration's volumes; by name, ascending.
    pub volumes: Vec<VolumeKey>,
    /// The workload.
    pub workload: Brought,
}

/// How the workload comes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub enum Brought {
    /// It follows in chunks.
    Sent(WorkloadRef),
    /// The Keep fetches it out of a registry, and verifies it.
    Package(Box<PackageOrder>),
}

/// Names and numbers only.
impl fmt::Debug for Deploy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names: Vec<&str> = self.env.iter().map(|(name, _)| name.as_str()).collect();
        f.debug_struct("Deploy")
            .field("env", &names)
            .field("args", &self.args.as_ref().map(Vec::len))
            .field("config", &self.config.as_ref().map(String::len))
            .field("secrets", &self.secrets)
            .field("volumes", &self.volumes)
            .field("workload", &self.workload)
            .finish()
    }
}

/// One secret.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Secret {
    /// Its name in the configuration.
    pub name: String,
    /// Itself.
    pub value: Sensitive,
}

/// What opens a volume.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct VolumeKey {
    /// 32 bytes.
    pub key: Sensitive,
    /// What its newest state is, as far as the client knows; `None`: it is new.
    pub head: Option<Head>,
    /// Its name in the configuration.
    pub name: String,
}

/// One state of a volume.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Head {
    /// What the chain of its commits hashes to.
    pub digest: ByteArray<32>,
    /// How many commits there are.
    pub sequence: u64,
}

/// A workload by its content.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct WorkloadRef {
    /// Bytes.
    pub size: u64,
    /// SHA-256 of them.
    pub digest: ByteArray<32>,
}

/// From the Keep to its client.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub enum FromKeep {
    /// The workload runs now.
    Accepted(Accepted),
    /// It does not, and will not.
    Refused(Refused),
    /// The workload can be reached.
    Exposed(Exposed),
    /// So many more bytes of input may come.
    StdinWanted(u32),
    /// It printed this: 1 to [`MAX_CHUNK`] bytes.
    Stdout(ByteBuf),
    /// It printed this on the other stream.
    Stderr(ByteBuf),
    /// A volume has a new state, which is on the host's disk: to be held, and given with the next deployment.
    VolumeHead(VolumeHead),
    /// A packet of the package that it fetches, to be opened by the client's key, which stays there.
    PacketWanted(ByteBuf),
    /// The workload has ended.
    Ended(Ended),
}

/// The workload runs now.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Accepted {
    /// What the Keep recognised it as.
    pub kind: WorkloadKind,
    /// How long it took to compile it, or to find it compiled, in microseconds.
    pub load_us: u64,
    /// The package that it is of, where the Keep fetched it.
    pub package: Option<FetchedPackage>,
    /// SHA-256 of the workload that was loaded.
    pub workload: ByteArray<32>,
    /// SHA-256 of the text of the configuration.
    pub configuration: ByteArray<32>,
}

/// What a workload is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum WorkloadKind {
    /// It runs once.
    Command,
    /// It answers HTTP until it is cancelled.
    Http,
}

/// The workload can be reached.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Exposed {
    /// The name of the listener in the configuration; `http` for HTTP.
    pub name: String,
    /// Where the Keep listens. Which port of the host that is, is the host's business.
    pub port: u16,
    /// How it is protected.
    pub protection: Protection,
    /// The certificate that the Keep shows there, DER, whose key never leaves it. `None` without TLS.
    pub certificate: Option<ByteBuf>,
}

/// How a listener is protected.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Protection {
    /// It is not: the host reads everything.
    Tcp,
    /// TLS 1.3.
    Tls,
}

/// A volume has a new state.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct VolumeHead {
    /// Which.
    pub head: Head,
    /// The volume's name in the configuration.
    pub name: String,
}

/// The workload has ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Ended {
    /// How.
    pub outcome: Outcome,
    /// How long it ran, in microseconds, by the Keep's clock.
    pub wall_us: u64,
}

/// How a workload ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub enum Outcome {
    /// It returned, or called `exit`.
    Exit {
        /// Its code.
        code: u8,
    },
    /// It did what WebAssembly forbids.
    Trap {
        /// What, such as `UNREACHABLE`.
        code: String,
        /// One sentence.
        message: String,
    },
    /// It used more than it may.
    Limit {
        /// Of what.
        which: Limit,
        /// One sentence.
        message: String,
    },
    /// Its client wished it.
    Cancelled {},
    /// It could not be started, or not be served.
    Failed {
        /// Stable code.
        code: String,
        /// One sentence.
        message: String,
    },
}

/// What a workload used more of than it may.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Limit {
    /// Linear memory.
    Memory,
    /// Processor time.
    Cpu,
    /// Time.
    Wall,
    /// Files, directories and streams.
    OpenFiles,
    /// Connections.
    Connections,
    /// Bytes printed.
    Output,
}

impl Limit {
    /// Its word in messages.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Memory => "memory",
            Self::Cpu => "cpu",
            Self::Wall => "wall",
            Self::OpenFiles => "open-files",
            Self::Connections => "connections",
            Self::Output => "output",
        }
    }

    /// Stable code.
    pub fn code(self) -> &'static str {
        match self {
            Self::Memory => "MEMORY_LIMIT",
            Self::Cpu => "CPU_LIMIT",
            Self::Wall => "TIME_LIMIT",
            Self::OpenFiles => "OPEN_FILES_LIMIT",
            Self::Connections => "CONNECTIONS_LIMIT",
            Self::Output => "OUTPUT_LIMIT",
        }
    }
}

/// The deployment is not accepted. The Keep ends.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Refused {
    /// Why.
    pub code: RefusedCode,
    /// The stable code of the cause, such as `COMPONENT_INVALID`, where there is one.
    pub detail: Option<String>,
    /// Every fault that was found, with its place.
    pub faults: Vec<String>,
    /// One sentence.
    pub message: String,
    /// Versions of the protocol that the Keep speaks.
    pub versions: Vec<u16>,
}

impl Refused {
    /// Without detail or faults.
    pub fn new(code: RefusedCode, message: impl Into<String>) -> Self {
        Self { code, detail: None, faults: Vec::new(), message: message.into(), versions: vec![VERSION] }
    }
}

/// Why a deployment is not accepted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum RefusedCode {
    /// The client speaks another version.
    VersionUnsupported,
    /// A message is not one of this protocol.
    Malformed,
    /// A message comes where it does not belong.
    OutOfOrder,
    /// The request is not `POST /v1/run`, or the second one.
    NotFound,
    /// The client said nothing for too long.
    Timeout,
    /// The workload's bytes do not hash to what was announced.
    DigestMismatch,
    /// The package cannot be fetched, or is not what the client accepts.
    PackageRefused,
    /// The workload is too large, invalid, or needs what no Keep has.
    WorkloadInvalid,
    /// The configuration is invalid.
    ConfigInvalid,
    /// The configuration asks for what a direct deployment does not have.
    ConfigUnsupported,
    /// Secrets of the configuration did not come, or others did.
    SecretsMismatch,
    /// Volumes of the configuration did not come, or others did, or one cannot be opened.
    VolumesMismatch,
    /// A listener could not be had.
    ListenFailed,
    /// The Keep itself is at fault.
    Internal,
}

impl RefusedCode {
    /// Its word in messages and for programs.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::VersionUnsupported => "VERSION_UNSUPPORTED",
            Self::Malformed => "MALFORMED",
            Self::OutOfOrder => "OUT_OF_ORDER",
            Self::NotFound => "NOT_FOUND",
            Self::Timeout => "TIMEOUT",
            Self::DigestMismatch => "DIGEST_MISMATCH",
            Self::PackageRefused => "PACKAGE_REFUSED",
            Self::WorkloadInvalid => "WORKLOAD_INVALID",
            Self::ConfigInvalid => "CONFIG_INVALID",
            Self::ConfigUnsupported => "CONFIG_UNSUPPORTED",
            Self::SecretsMismatch => "SECRETS_MISMATCH",
            Self::VolumesMismatch => "VOLUMES_MISMATCH",
            Self::ListenFailed => "LISTEN_FAILED",
            Self::Internal => "INTERNAL",
        }
    }
}

fn chunk(what: &'static str, field: &'static str, bytes: &[u8]) -> Result<(), ProtocolError> {
    if bytes.is_empty() || bytes.len() > MAX_CHUNK {
        return rule(what, field, "it must have 1 to 262144 bytes");
    }
    Ok(())
}

/// Each name once, in order, so that a deployment has one encoding.
fn names<'a>(field: &'static str, names: impl Iterator<Item = &'a String>) -> Result<(), ProtocolError> {
    let (mut last, mut count): (Option<&String>, usize) = (None, 0);
    for name in names {
        if name.is_empty() || name.len() > MAX_NAME || name.contains(['\0', '=']) {
            return rule(ToKeep::NAME, field, "a name must have 1 to 256 bytes, and neither NUL nor =");
        }
        if last.is_some_and(|last| last >= name) {
            return rule(ToKeep::NAME, field, "names must ascend");
        }
        (last, count) = (Some(name), count + 1);
    }
    at_most(ToKeep::NAME, field, count, MAX_ENTRIES)
}

impl Deploy {
    fn check(&self) -> Result<(), ProtocolError> {
        let text = |field, text: &String| match text {
            text if text.contains('\0') => rule(ToKeep::NAME, field, "it must not have NUL"),
            text => at_most(ToKeep::NAME, field, text.len(), MAX_STRING),
        };
        names("env", self.env.iter().map(|(name, _)| name))?;
        self.env.iter().try_for_each(|(_, value)| text("env", value))?;
        let args = self.args.as_deref().unwrap_or_default();
        at_most(ToKeep::NAME, "args", args.len(), MAX_ENTRIES)?;
        args.iter().try_for_each(|arg| text("args", arg))?;
        at_most(ToKeep::NAME, "config", self.config.as_ref().map_or(0, String::len), MAX_CONFIG)?;
        names("secrets", self.secrets.iter().map(|secret| &secret.name))?;
        for secret in &self.secrets {
            at_most(ToKeep::NAME, "secrets", secret.value.as_bytes().len(), MAX_SECRET)?;
        }
        names("volumes", self.volumes.iter().map(|volume| &volume.name))?;
        if self.volumes.iter().any(|volume| volume.key.as_bytes().len() != 32) {
            return rule(ToKeep::NAME, "volumes", "a key must have 32 bytes");
        }
        match &self.workload {
            Brought::Sent(sent) if sent.size == 0 || sent.size > MAX_WORKLOAD => {
                rule(ToKeep::NAME, "workload", "it must have 1 to 67108864 bytes")
            }
            Brought::Sent(_) if self.config.is_none() => {
                rule(ToKeep::NAME, "config", "what is sent comes with a configuration")
            }
            Brought::Sent(_) => Ok(()),
            Brought::Package(order) => order.check(),
        }
    }
}

impl Message for Preface {
    const NAME: &'static str = "preface";
    const MAX: usize = 16;

    fn check(&self) -> Result<(), ProtocolError> {
        if self.0 == MAGIC { Ok(()) } else { rule(Self::NAME, "0", "it must be bailey-keep") }
    }
}

impl Message for ToKeep {
    const NAME: &'static str = "to-keep";
    const MAX: usize = 8 << 20;

    fn check(&self) -> Result<(), ProtocolError> {
        match self {
            Self::Deploy(deploy) => deploy.check(),
            Self::Chunk(bytes) => chunk(Self::NAME, "chunk", bytes),
            Self::Stdin(bytes) => chunk(Self::NAME, "stdin", bytes),
            Self::StdinEnd {} | Self::Cancel {} => Ok(()),
            Self::VolumeKept(head) => at_most(Self::NAME, "volume-kept", head.name.len(), MAX_NAME),
            Self::PacketOpened(options) => {
                let length = options.as_ref().map_or(0, |options| options.as_bytes().len());
                at_most(Self::NAME, "packet-opened", length, MAX_OPENED)
            }
        }
    }
}

impl Message for FromKeep {
    const NAME: &'static str = "from-keep";
    const MAX: usize = 1 << 20;

    fn check(&self) -> Result<(), ProtocolError> {
        match self {
            Self::Stdout(bytes) => chunk(Self::NAME, "stdout", bytes),
            Self::Stderr(bytes) => chunk(Self::NAME, "stderr", bytes),
            Self::Accepted(accepted) => accepted.package.as_ref().map_or(Ok(()), FetchedPackage::check),
            Self::StdinWanted(_) => Ok(()),
            Self::PacketWanted(packet) => chunk(Self::NAME, "packet-wanted", packet),
            Self::Exposed(exposed) => {
                at_most(Self::NAME, "exposed", exposed.name.len(), MAX_NAME)?;
                at_most(
                    Self::NAME,
                    "exposed",
                    exposed.certificate.as_ref().map_or(0, |der| der.len()),
                    1 << 14,
                )
            }
            Self::VolumeHead(head) => at_most(Self::NAME, "volume-head", head.name.len(), MAX_NAME),
            Self::Ended(ended) => match &ended.outcome {
                Outcome::Exit { .. } | Outcome::Cancelled {} => Ok(()),
                Outcome::Limit { message, .. } => at_most(Self::NAME, "ended", message.len(), MAX_WORDS),
                Outcome::Trap { code, message } | Outcome::Failed { code, message } => {
                    at_most(Self::NAME, "ended", code.len(), MAX_NAME)?;
                    at_most(Self::NAME, "ended", message.len(), MAX_WORDS)
                }
            },
            Self::Refused(refused) => {
                at_most(Self::NAME, "refused", refused.message.len(), MAX_WORDS)?;
                at_most(Self::NAME, "refused", refused.detail.as_ref().map_or(0, String::len), MAX_NAME)?;
                at_most(Self::NAME, "refused", refused.versions.len(), 16)?;
                at_most(Self::NAME, "refused", refused.faults.len(), 64)?;
                refused
                    .faults
                    .iter()
                    .try_for_each(|fault| at_most(Self::NAME, "refused", fault.len(), MAX_WORDS))
            }
        }
    }
}

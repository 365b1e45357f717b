//! The control socket: how a host asks the emulated platform to launch a process, and what it hears of it.
//!
//! One connection is one launched process. The host sends one [`Request`] and from then on reads
//! [`Event`]s; it stops the process by closing its half of the connection. A process that is launched with a
//! [`Handle`] outlives its connection: it ends by [`Request::Stop`], and whoever shows the handle on a new
//! connection ([`Request::Attach`]) takes the place of the old one. Nothing that a process inside
//! may ask of the platform (Evidence, sealing keys) exists here: such a request is told apart from garbage
//! and refused by its own code ([`RefusalCode::OnlyInside`]).

mod client;
mod handle;
mod isolation;

pub use client::{ControlError, Running, Stopper, attach, launch};
pub use handle::Handle;
pub use isolation::{Isolation, Network};

use std::path::{Path, PathBuf};

use attester::emulated::{DecodeError, byte_string, frame};
use evidence::{Measurement, Platform};
use serde::{Deserialize, Serialize};

/// The name of the control socket in the platform's directory.
pub const SOCKET_NAME: &str = "control.sock";

/// The longest launch configuration, in bytes.
pub const MAX_CONFIGURATION: usize = 256 * 1024;

/// The most arguments, and the most bytes in all of them.
pub const MAX_ARGUMENTS: (usize, usize) = (256, 64 * 1024);

/// The control socket of the platform in `directory`.
pub fn socket_path(directory: &Path) -> PathBuf {
    directory.join(SOCKET_NAME)
}

/// What a host may ask.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum Request {
    /// Launch a process; the connection is its life, unless it is [lasting](Launch::lasting).
    Launch(Box<Launch>),
    /// Listen to a process that was launched over another connection.
    Attach(Handle),
    /// End the process of this connection.
    Stop {},
}

/// A process to launch.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Launch {
    /// As what kind of TEE.
    pub platform: Platform,
    /// The program: an absolute path to an ELF file, measured and run from a private copy.
    pub executable: PathBuf,
    /// Measured: its digest is in the Evidence.
    #[serde(with = "byte_string")]
    pub configuration: Vec<u8>,
    /// Not measured: hints of the host (addresses, absolute paths), which the program must not trust.
    pub arguments: Vec<String>,
    /// A Unix socket to listen on, at an absolute path where nothing is yet: the process gets it as descriptor
    /// [`LISTENER_DESCRIPTOR`], bound by the platform, and needs no path to it.
    pub listener: Option<PathBuf>,
    /// Lets the process outlive this connection.
    pub lasting: Option<Lasting>,
    /// What stands between it and the host; without it, what stands between any two processes of one user.
    pub isolation: Option<Isolation>,
}

/// How a process outlives its connection.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Lasting {
    /// By what it is found again.
    pub handle: Handle,
    /// How long it may be without a connection before it is ended, in seconds.
    pub unattended_s: u32,
}

/// The descriptor of the socket that a process was launched to listen on.
pub const LISTENER_DESCRIPTOR: i32 = 4;

/// What a host hears.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum Event {
    /// First: the process runs.
    Launched {
        /// Its process id.
        pid: u32,
        /// The measurement that its Evidence will carry.
        measurement: Measurement,
        /// Which walls stand around it.
        walls: Vec<String>,
    },
    /// It wrote something.
    Output {
        /// Where to.
        stream: Stream,
        /// What: at most [`MAX_OUTPUT`] bytes, cut anywhere.
        #[serde(with = "byte_string")]
        bytes: Vec<u8>,
    },
    /// Last: it ended.
    Exited(Exit),
    /// The request was refused.
    Refused(Refusal),
}

/// The most bytes in one [`Event::Output`].
pub const MAX_OUTPUT: usize = 16 * 1024;

/// Where a process writes to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Stream {
    /// Standard output.
    Stdout,
    /// Standard error.
    Stderr,
}

/// How a process ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Exit {
    /// By itself, with this code.
    Code(i32),
    /// By this signal.
    Signal(i32),
}

impl std::fmt::Display for Exit {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Code(code) => write!(f, "exit code {code}"),
            Self::Signal(signal) => write!(f, "signal {signal}"),
        }
    }
}

/// Why the platform does not do what it is asked.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[serde(deny_unknown_fields)]
#[error("{code}: {reason}")]
pub struct Refusal {
    /// The stable code.
    pub code: RefusalCode,
    /// One sentence.
    pub reason: String,
}

impl Refusal {
    /// A refusal with this code and sentence.
    pub fn new(code: RefusalCode, reason: impl Into<String>) -> Self {
        Self { code, reason: reason.into() }
    }
}

/// The codes of [`Refusal`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
#[non_exhaustive]
pub enum RefusalCode {
    /// The request is no message of this protocol.
    MalformedRequest,
    /// Evidence and sealing keys are given to launched processes only, over their own channel.
    OnlyInside,
    /// The connection already has its process.
    AlreadyLaunched,
    /// The configuration or the arguments are too large, or cannot be passed to a process.
    InvalidArguments,
    /// The executable cannot be read: missing, no regular file, a symbolic link, too large.
    ExecutableUnreadable,
    /// The executable is no program that can be measured and run.
    ExecutableInvalid,
    /// The connection comes from another user.
    NotYourPlatform,
    /// As many processes run as the platform takes.
    Busy,
    /// No process of this handle is here (any more).
    NoSuchProcess,
    /// A process with this handle is here.
    HandleInUse,
    /// A wall that is required cannot be built on this machine.
    IsolationUnavailable,
    /// The platform is being switched off.
    Stopping,
    /// The platform itself failed.
    PlatformFailed,
}

impl std::fmt::Display for RefusalCode {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::MalformedRequest => "MALFORMED_REQUEST",
            Self::OnlyInside => "ONLY_INSIDE",
            Self::AlreadyLaunched => "ALREADY_LAUNCHED",
            Self::InvalidArguments => "INVALID_ARGUMENTS",
            Self::ExecutableUnreadable => "EXECUTABLE_UNREADABLE",
            Self::ExecutableInvalid => "EXECUTABLE_INVALID",
            Self::NotYourPlatform => "NOT_YOUR_PLATFORM",
            Self::Busy => "BUSY",
            Self::NoSuchProcess => "NO_SUCH_PROCESS",
            Self::HandleInUse => "HANDLE_IN_USE",
            Self::IsolationUnavailable => "ISOLATION_UNAVAILABLE",
            Self::Stopping => "STOPPING",
            Self::PlatformFailed => "PLATFORM_FAILED",
        })
    }
}

impl Request {
    /// Reads a request from the payload of a frame. What it says about sizes is checked here, too, so that
    /// a `Request` that was decoded is one that can be tried.
    ///
    /// # Errors
    /// The refusal to send back.
    pub fn decode(bytes: &[u8]) -> Result<Self, Refusal> {
        let request: Self = frame::decode(bytes).map_err(|error| {
            if attester::emulated::Request::decode(bytes).is_ok() {
                let reason =
                    "Evidence and sealing keys are given to launched processes only, over their own channel";
                Refusal::new(RefusalCode::OnlyInside, reason)
            } else {
                Refusal::new(RefusalCode::MalformedRequest, error.to_string())
            }
        })?;
        if let Self::Launch(launch) = &request {
            launch.check()?;
        }
        Ok(request)
    }
}

impl Launch {
    /// Of a program on a kind of TEE, with nothing else said.
    pub fn new(platform: Platform, executable: PathBuf) -> Self {
        let (configuration, arguments) = (Vec::new(), Vec::new());
        Self {
            platform,
            executable,
            configuration,
            arguments,
            listener: None,
            lasting: None,
            isolation: None,
        }
    }

    fn check(&self) -> Result<(), Refusal> {
        let refuse = |reason: String| Err(Refusal::new(RefusalCode::InvalidArguments, reason));
        if !Platform::KEEPS.contains(&self.platform) {
            return refuse(format!("{} is not emulated; sgx, tdx and snp are", self.platform));
        }
        let (count, bytes) = (self.arguments.len(), self.arguments.iter().map(String::len).sum::<usize>());
        if !self.executable.is_absolute() {
            return refuse(format!("{} is not an absolute path", self.executable.display()));
        }
        if self.configuration.len() > MAX_CONFIGURATION {
            let seen = self.configuration.len();
            return refuse(format!(
                "the launch configuration has {seen} bytes, at most {MAX_CONFIGURATION} are allowed"
            ));
        }
        if count > MAX_ARGUMENTS.0 || bytes > MAX_ARGUMENTS.1 {
            let (most, most_bytes) = MAX_ARGUMENTS;
            return refuse(format!(
                "{count} arguments of {bytes} bytes in all; at most {most} of {most_bytes} bytes are allowed"
            ));
        }
        if self.arguments.iter().any(|argument| argument.contains('\0')) {
            return refuse("an argument contains a NUL".into());
        }
        if self.listener.as_ref().is_some_and(|path| !path.is_absolute()) {
            return refuse("the path of the listener is not absolute".into());
        }
        self.isolation.as_ref().map_or(Ok(()), Isolation::check)
    }
}

impl Event {
    /// Reads an event from the payload of a frame.
    ///
    /// # Errors
    /// When it is not exactly one event in its one encoding.
    pub fn decode(bytes: &[u8]) -> Result<Self, DecodeError> {
        frame::decode(bytes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use evidence::ReportData;

    fn launch() -> Launch {
        Launch {
            configuration: b"{}".to_vec(),
            arguments: vec!["--listen".into()],
            ..Launch::new(Platform::Snp, "/bin/true".into())
        }
    }

    fn isolation() -> Isolation {
        Isolation {
            cpu_milli: Some(1000),
            memory_mib: Some(64),
            network: Network::None,
            required: true,
            user: Some(200_000),
            writable: vec!["/var/lib/bailey/volumes".into()],
        }
    }

    fn refused(launch: Launch) -> RefusalCode {
        Request::decode(&frame::encode(&Request::Launch(Box::new(launch))).unwrap()).unwrap_err().code
    }

    #[test]
    fn a_request_survives_the_round_trip() {
        let handle = Handle::generate().unwrap();
        let launch = Launch {
            listener: Some("/run/keep.sock".into()),
            lasting: Some(Lasting { handle: handle.clone(), unattended_s: 60 }),
            isolation: Some(isolation()),
            ..launch()
        };
        assert!(!format!("{launch:?}").contains(&hex::encode(handle.as_bytes())));
        for request in [Request::Launch(Box::new(launch)), Request::Attach(handle), Request::Stop {}] {
            assert_eq!(Request::decode(&frame::encode(&request).unwrap()).unwrap(), request);
        }
    }

    #[test]
    fn requests_of_the_inner_channel_are_refused_by_their_own_code() {
        for request in [
            attester::emulated::Request::Launch,
            attester::emulated::Request::Evidence { report_data: ReportData([0; 64]) },
            attester::emulated::Request::SealingKey { context: "state".into() },
        ] {
            let refusal = Request::decode(&frame::encode(&request).unwrap()).unwrap_err();
            assert_eq!(refusal.code, RefusalCode::OnlyInside);
        }
        assert_eq!(Request::decode(b"\xff").unwrap_err().code, RefusalCode::MalformedRequest);
    }

    #[test]
    fn s43_what_cannot_be_launched_is_refused_not_cut_to_size() {
        let invalid = RefusalCode::InvalidArguments;
        assert_eq!(refused(Launch { executable: "bin/true".into(), ..launch() }), invalid);
        assert_eq!(refused(Launch { configuration: vec![0; MAX_CONFIGURATION + 1], ..launch() }), invalid);
        assert_eq!(
            refused(Launch { arguments: vec![String::new(); MAX_ARGUMENTS.0 + 1], ..launch() }),
            invalid
        );
        assert_eq!(refused(Launch { arguments: vec!["x".repeat(MAX_ARGUMENTS.1 + 1)], ..launch() }), invalid);
        assert_eq!(refused(Launch { arguments: vec!["a\0b".into()], ..launch() }), invalid);
        assert_eq!(refused(Launch { platform: Platform::Nitro, ..launch() }), invalid);
        assert_eq!(refused(Launch { listener: Some("keep.sock".into()), ..launch() }), invalid);
        let isolated = |isolation| refused(Launch { isolation: Some(isolation), ..launch() });
        assert_eq!(isolated(Isolation { user: Some(0), ..isolation() }), invalid);
        assert_eq!(isolated(Isolation { user: Some(999), ..isolation() }), invalid);
        assert_eq!(isolated(Isolation { memory_mib: Some(0), ..isolation() }), invalid);
        assert_eq!(isolated(Isolation { cpu_milli: Some(0), ..isolation() }), invalid);
        assert_eq!(isolated(Isolation { writable: vec!["volumes".into()], ..isolation() }), invalid);
        assert_eq!(isolated(Isolation { writable: vec!["/x".into(); 17], ..isolation() }), invalid);
    }
}

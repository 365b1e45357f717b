//! Runs a command with secrets in files or in its environment, and takes the files away when it has ended.

mod environment;
mod place;

use std::{
    ffi::OsString,
    io,
    os::unix::{ffi::OsStringExt, process::ExitStatusExt},
    path::PathBuf,
    process::{ExitStatus, Stdio},
};

use rustix::process::{Pid, Signal};
use tokio::{
    process::{Child, Command},
    signal::unix::{SignalKind, signal},
};
use zeroize::Zeroizing;

pub use environment::{NameError, VariableName};
pub use place::{Place, PlaceError};

/// Where a command finds the folder of those files that have no absolute path.
pub const FOLDER_VARIABLE: &str = "BAILEY_SECRETS";
/// Where commands are looked for. It is not the caller's: with another one, another program would get the secrets.
const SEARCH_PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// What a command is started with.
pub struct Invocation {
    /// The program and its arguments.
    pub command: Vec<OsString>,
    /// Variables with secrets.
    pub secrets: Vec<(VariableName, Zeroizing<Vec<u8>>)>,
    /// Variables that it gets as we have them.
    pub kept: Vec<VariableName>,
}

/// Why a command was not run, or not to its end.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    /// A secret is no value of a variable.
    #[error("the secret for {0} has a zero byte, which no environment can hold; put it into a file instead")]
    ZeroByte(VariableName),
    /// It cannot be started.
    #[error("{} cannot be started", .program.display())]
    Start {
        /// The program.
        program: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The operating system fails us.
    #[error("{attempt} failed")]
    System {
        /// What was attempted.
        attempt: &'static str,
        /// Its error.
        source: io::Error,
    },
}

impl RunError {
    /// The exit code by the convention of `env` and `nohup`: 127 not found, 126 not to be executed, 125 else.
    pub fn exit_code(&self) -> u8 {
        match self {
            Self::Start { source, .. } if source.kind() == io::ErrorKind::NotFound => 127,
            Self::Start { .. } => 126,
            _ => 125,
        }
    }
}

impl Invocation {
    /// Runs it to its end, passes on the signals that are sent to us, and gives its exit code; 128 and its number,
    /// where a signal ended it.
    ///
    /// # Errors
    /// When it cannot be started or waited for.
    pub async fn run(self, folder: Option<&Place>, signals: &mut Signals) -> Result<u8, RunError> {
        let mut command = self.command(folder)?;
        let mut child = command.spawn().map_err(|source| RunError::Start {
            program: PathBuf::from(command.as_std().get_program()),
            source,
        })?;
        // The values are in the child now.
        drop(command);
        let status = loop {
            tokio::select! {
                status = child.wait() => {
                    break status.map_err(|source| RunError::System { attempt: "waiting for the command", source })?;
                }
                signal = signals.next() => pass_on(&child, signal),
            }
        };
        Ok(exit_code(status))
    }

    fn command(&self, folder: Option<&Place>) -> Result<Command, RunError> {
        let (program, arguments) = self.command.split_first().expect("the command line demands a program");
        let mut command = Command::new(program);
        command
            .args(arguments)
            .env_clear()
            .env("PATH", SEARCH_PATH)
            .stdin(Stdio::inherit())
            .kill_on_drop(true);
        for name in &self.kept {
            // The one door for what people ask to be passed on; nothing here decides by it.
            if let Some(value) = std::env::var_os(name.as_str()) {
                command.env(name.as_str(), value);
            }
        }
        for (name, value) in &self.secrets {
            if value.contains(&0) {
                return Err(RunError::ZeroByte(name.clone()));
            }
            command.env(name.as_str(), OsString::from_vec(value.to_vec()));
        }
        if let Some(folder) = folder {
            command.env(FOLDER_VARIABLE, folder.folder());
        }
        Ok(command)
    }
}

/// The signals that a supervisor or a terminal sends, and a command may want.
const PASSED_ON: [Signal; 7] =
    [Signal::TERM, Signal::INT, Signal::HUP, Signal::QUIT, Signal::USR1, Signal::USR2, Signal::WINCH];

/// Signals that came to us.
pub struct Signals(tokio::sync::mpsc::Receiver<Signal>);

impl Signals {
    /// Takes them from now on: none ends this process before it has taken its files away.
    ///
    /// # Errors
    /// Of the operating system.
    pub fn listen() -> Result<Self, RunError> {
        let (sender, receiver) = tokio::sync::mpsc::channel(PASSED_ON.len());
        for number in PASSED_ON {
            let mut listener = signal(SignalKind::from_raw(number.as_raw()))
                .map_err(|source| RunError::System { attempt: "listening for signals", source })?;
            let sender = sender.clone();
            tokio::spawn(async move {
                while listener.recv().await.is_some() && sender.send(number).await.is_ok() {}
            });
        }
        Ok(Self(receiver))
    }

    /// Waits for one that is to end a process that does not care for it, and gives the exit code for that.
    pub async fn end(&mut self) -> u8 {
        loop {
            let signal = self.next().await;
            if [Signal::TERM, Signal::INT, Signal::HUP, Signal::QUIT].contains(&signal) {
                return exit_code(ExitStatus::from_raw(signal.as_raw()));
            }
        }
    }

    async fn next(&mut self) -> Signal {
        match self.0.recv().await {
            Some(signal) => signal,
            None => std::future::pending().await,
        }
    }
}

fn pass_on(child: &Child, signal: Signal) {
    // While it was not waited for its number is its own.
    let pid = child.id().and_then(|pid| i32::try_from(pid).ok()).and_then(Pid::from_raw);
    if let Some(pid) = pid {
        // It may have ended just now, which is as well.
        let _ = rustix::process::kill_process(pid, signal);
    }
}

fn exit_code(status: ExitStatus) -> u8 {
    let code = status.code().or_else(|| status.signal().map(|signal| 128 + signal)).unwrap_or(125);
    u8::try_from(code).unwrap_or(125)
}

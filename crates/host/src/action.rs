//! All that can be asked of the agent: one enum, whether it comes over the socket or from the same process.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use crate::names::ProcessName;
use crate::overview::{KeepView, Overview};
use crate::process::{Limits, ProcessSpec, Restart};
use crate::status::Status;

/// A request. On the socket it is one line of JSON: `{"action":"stop","name":"tally"}`.
// Variants have braces even where they are empty: serde lets unit variants pass with unknown fields.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "action", rename_all = "snake_case", deny_unknown_fields)]
pub enum Action {
    /// What does each process do?
    Status {},
    /// What is the host, what does it offer, and whose are its Keeps?
    Host {},
    /// Launch another process, or one again that is stopped, perhaps with another description.
    Launch {
        /// Its description; paths are absolute.
        process: Box<ProcessSpec>,
    },
    /// End a process and leave it ended. Answered when it is gone.
    Stop {
        /// Which.
        name: ProcessName,
    },
    /// End a process and launch it again at once; or launch one that is stopped or waiting.
    Restart {
        /// Which.
        name: ProcessName,
    },
    /// All of one process, or of one client's Keep.
    Inspect {
        /// Which.
        name: ProcessName,
    },
    /// Take no new Keeps; those that are nobody's end, those of tenants go on unless they are to end now.
    Drain {
        /// End all Keeps.
        now: bool,
    },
    /// Is the agent drained?
    Draining {},
    /// End all processes and the agent.
    Shutdown {},
    /// End the agent; processes that outlive it go on.
    Leave {},
    /// As [`Action::Leave`], to another agent, which is given the sockets of the API with the answer. Connections
    /// of clients that are there already go on until they end.
    HandOver {},
}

/// The answer. On the socket it is one line of JSON.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "reply", rename_all = "snake_case", deny_unknown_fields)]
pub enum Reply {
    /// To [`Action::Status`]: all processes, by name.
    Processes {
        /// Each.
        processes: Vec<Status>,
    },
    /// To [`Action::Host`].
    Host {
        /// It.
        host: Overview,
    },
    /// To [`Action::Inspect`].
    Process {
        /// It.
        process: Box<Inspection>,
    },
    /// To [`Action::Draining`].
    Drain {
        /// Whether no new Keeps are taken.
        draining: bool,
        /// How many Keeps of clients are left.
        keeps: u64,
    },
    /// To [`Action::HandOver`]: the sockets come with it, in this order.
    HandedOver {
        /// What they are for.
        sockets: Vec<Handed>,
    },
    /// It is done.
    Done {},
    /// It is not done.
    Refused {
        /// The stable code.
        code: String,
        /// One sentence.
        reason: String,
    },
}

/// All that the agent knows of a process.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Inspection {
    /// What it does.
    pub status: Status,
    /// Whose it is and what it does, if it is a client's Keep.
    pub keep: Option<KeepView>,
    /// What it was launched from.
    pub executable: PathBuf,
    /// SHA-256 of its measured launch configuration, in hexadecimal.
    pub configuration_sha256: String,
    /// What it may use.
    pub limits: Limits,
    /// When it is launched again.
    pub restart: Restart,
    /// Where its output is, if it is kept.
    pub log: Option<PathBuf>,
    /// What launches the same again.
    pub spec: ProcessSpec,
}

/// A socket that one agent hands to the next.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Handed {
    /// Of the HTTPS API.
    Api,
    /// Of the metrics.
    Metrics,
}

/// Why an action is not done.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ActionError {
    /// The request is none.
    #[error("not a request: {0}")]
    Malformed(String),
    /// The description of a process has faults.
    #[error("{0}")]
    InvalidProcess(String),
    /// There is no such process.
    #[error("there is no process {0}")]
    NoSuchProcess(ProcessName),
    /// There is one of this name, and it is not stopped.
    #[error("there is a process {0} already; stop it first")]
    NameInUse(ProcessName),
    /// There are no Keeps of clients here.
    #[error("this agent has no API, and no Keeps of clients")]
    NoApi,
    /// Processes end with this agent.
    #[error(
        "the processes of this agent end with it; \"life\": \"beyond_agent\" in its configuration changes that"
    )]
    LivesWithAgent,
    /// The agent is ending.
    #[error("the host agent is shutting down")]
    ShuttingDown,
    /// The operating system refused.
    #[error("the host agent could not do it: {0}")]
    System(String),
}

impl ActionError {
    /// The stable code.
    pub fn code(&self) -> &'static str {
        match self {
            Self::Malformed(_) => "MALFORMED_REQUEST",
            Self::InvalidProcess(_) => "INVALID_PROCESS",
            Self::NoSuchProcess(_) => "NO_SUCH_PROCESS",
            Self::NameInUse(_) => "NAME_IN_USE",
            Self::NoApi => "NO_API",
            Self::LivesWithAgent => "LIVES_WITH_AGENT",
            Self::ShuttingDown => "SHUTTING_DOWN",
            Self::System(_) => "SYSTEM",
        }
    }
}

impl From<ActionError> for Reply {
    fn from(error: ActionError) -> Self {
        Self::Refused { code: error.code().to_owned(), reason: error.to_string() }
    }
}

impl Action {
    /// Reads one line of JSON.
    ///
    /// # Errors
    /// [`ActionError::Malformed`] when it is not exactly one action.
    pub fn parse(line: &[u8]) -> Result<Self, ActionError> {
        serde_json::from_slice(line).map_err(|error| ActionError::Malformed(error.to_string()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_are_read_strictly() {
        assert_eq!(Action::parse(br#"{"action":"status"}"#).unwrap(), Action::Status {});
        let stop = Action::Stop { name: "tally".parse().unwrap() };
        assert_eq!(Action::parse(br#"{"action":"stop","name":"tally"}"#).unwrap(), stop);
        for line in [
            r#"{"action":"status","name":"tally"}"#,
            r#"{"action":"shutdown","now":true}"#,
            r#"{"action":"stop"}"#,
            r#"{"action":"stop","name":"../x"}"#,
            r#"{"action":"stop","name":"a","name":"b"}"#,
            r#"{"action":"evidence"}"#,
            r#"{"action":"status"} {"action":"shutdown"}"#,
            "",
        ] {
            assert!(matches!(Action::parse(line.as_bytes()), Err(ActionError::Malformed(_))), "{line}");
        }
    }

    #[test]
    fn an_answer_is_one_flat_object() {
        let reply = Reply::from(ActionError::NoSuchProcess("tally".parse().unwrap()));
        let json = serde_json::to_string(&reply).unwrap();
        assert_eq!(
            json,
            r#"{"reply":"refused","code":"NO_SUCH_PROCESS","reason":"there is no process tally"}"#
        );
        assert_eq!(serde_json::from_str::<Reply>(&json).unwrap(), reply);
    }
}

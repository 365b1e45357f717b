//! All that can be asked of the agent: one enum, whether it comes over the socket or from the same process.

use serde::{Deserialize, Serialize};

use crate::names::ProcessName;
use crate::process::ProcessSpec;
use crate::status::Status;

/// A request. On the socket it is one line of JSON: `{"action":"stop","name":"tally"}`.
// Variants have braces even where they are empty: serde lets unit variants pass with unknown fields.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "action", rename_all = "snake_case", deny_unknown_fields)]
pub enum Action {
    /// What does each process do?
    Status {},
    /// Launch another process, or one again that is stopped, perhaps with another description.
    Launch {
        /// Its description; paths are absolute.
        process: ProcessSpec,
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
    /// End all processes and the agent.
    Shutdown {},
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

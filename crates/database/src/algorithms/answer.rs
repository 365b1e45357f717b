//! What a call gives: an answer, or a denial that says no more than it may.

use database_manifest::SqlType;
use database_receipt::{Digest, Receipt, Table};
use thiserror::Error;

use super::wasm::ModuleError;

/// Rows that may leave.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answer {
    /// Name and type of each column.
    pub columns: Vec<(String, SqlType)>,
    /// Values in PostgreSQL's text form; `None`: NULL.
    pub rows: Vec<Vec<Option<String>>>,
    /// What the database says of it, signed, where the caller asked.
    pub receipt: Option<Receipt>,
}

impl Answer {
    /// The digest that its receipt has.
    pub fn digest(&self) -> Digest {
        let columns = self.columns.iter().map(|(name, kind)| (name.as_str(), kind.sql()));
        database_receipt::answer_digest(columns, &self.rows)
    }

    /// As it leaves over HTTPS.
    pub fn table(&self) -> Table {
        let columns = self.columns.iter().map(|(name, kind)| (name.clone(), kind.sql().into())).collect();
        Table { columns, rows: self.rows.clone() }
    }
}

/// A call that is not answered. Callers get [`Self::sqlstate`] and [`Self::sentence`]; the audit log gets
/// [`Self::reason`]. Nothing that a caller gets depends on data: whatever went wrong after data was read is one sentence.
#[derive(Debug, Error)]
#[error("{reason}")]
pub struct Denied {
    #[from]
    reason: Reason,
}

/// Why a call was denied. For the audit log.
#[derive(Debug, Error)]
pub enum Reason {
    /// No such algorithm, or this party may not call it: callers cannot tell which.
    #[error("{party} may not call {algorithm}, or it does not exist")]
    NotACaller {
        /// Who called.
        party: String,
        /// What.
        algorithm: String,
    },
    /// Another number of arguments.
    #[error("{expected} arguments are expected, {seen} were given")]
    ArgumentCount {
        /// The algorithm's.
        expected: usize,
        /// The call's.
        seen: usize,
    },
    /// A value that is not let through.
    #[error("argument {name}: expected {expected}")]
    Argument {
        /// Its name.
        name: String,
        /// What the manifest lets through.
        expected: String,
    },
    /// Called too often.
    #[error("at most {calls} calls in {seconds} s")]
    Rate {
        /// Calls.
        calls: u64,
        /// In this time.
        seconds: u64,
    },
    /// The privacy budget does not suffice.
    #[error("the privacy budget is spent")]
    Budget,
    /// Too many calls at the same time.
    #[error("the database is busy")]
    Busy,
    /// The manifest changed while the call ran.
    #[error("the rules changed during the call: call again")]
    Changed,
    /// PostgreSQL refused or failed.
    #[error("PostgreSQL")]
    Engine(#[source] tokio_postgres::Error),
    /// No session could be had.
    #[error("no session: {0}")]
    Session(String),
    /// The query took too long.
    #[error("the query took longer than {0} s")]
    Time(u64),
    /// What the query or module gave is not what the manifest says.
    #[error("the result is not as the manifest says: {0}")]
    Result(String),
    /// The module failed.
    #[error("WebAssembly: {0}")]
    Module(String),
    /// No receipt can be made.
    #[error("receipt: {0}")]
    Receipt(String),
    /// The call could not be recorded, so no answer leaves.
    #[error("not recorded: {0}")]
    Record(String),
}

impl From<ModuleError> for Reason {
    fn from(error: ModuleError) -> Self {
        Self::Module(error.to_string())
    }
}

impl Denied {
    /// `42501` (insufficient privilege), always.
    pub fn sqlstate(&self) -> &'static str {
        "42501"
    }

    /// Whether the call, the manifest and earlier calls alone are the reason, so that the caller may know it.
    fn known(&self) -> bool {
        matches!(
            self.reason,
            Reason::NotACaller { .. }
                | Reason::ArgumentCount { .. }
                | Reason::Argument { .. }
                | Reason::Rate { .. }
                | Reason::Budget
                | Reason::Busy
                | Reason::Changed
        )
    }

    /// One sentence for the caller. It depends on the call, the manifest and earlier calls alone.
    pub fn sentence(&self) -> String {
        match &self.reason {
            Reason::NotACaller { .. } => "there is no algorithm of this name that you may call".into(),
            reason if self.known() => reason.to_string(),
            _ => "the call was not answered; the audit log says why".into(),
        }
    }

    /// As [`Self::sentence`], for programs: stable, and one for all that depends on data.
    pub fn public_code(&self) -> &'static str {
        if self.known() { self.code() } else { "NOT_ANSWERED" }
    }

    /// The true reason, for the audit log.
    pub fn reason(&self) -> &Reason {
        &self.reason
    }

    /// The reason and its causes, as the audit log has them. PostgreSQL's words can hold values of rows, so its code alone
    /// is told.
    pub fn told(&self) -> String {
        match &self.reason {
            Reason::Engine(error) => match error.code() {
                Some(code) => format!("PostgreSQL: {}", code.code()),
                None => "PostgreSQL does not answer".into(),
            },
            other => other.to_string(),
        }
    }

    /// Stable.
    pub fn code(&self) -> &'static str {
        match self.reason {
            Reason::NotACaller { .. } => "NOT_A_CALLER",
            Reason::ArgumentCount { .. } => "ARGUMENT_COUNT",
            Reason::Argument { .. } => "ARGUMENT",
            Reason::Rate { .. } => "RATE",
            Reason::Budget => "BUDGET_SPENT",
            Reason::Busy => "BUSY",
            Reason::Changed => "RULES_CHANGED",
            Reason::Engine(_) => "ENGINE",
            Reason::Session(_) => "NO_SESSION",
            Reason::Time(_) => "TIMEOUT",
            Reason::Result(_) => "UNEXPECTED_RESULT",
            Reason::Module(_) => "MODULE",
            Reason::Receipt(_) => "RECEIPT",
            Reason::Record(_) => "NOT_RECORDED",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_went_wrong_with_data_is_one_sentence() {
        let reasons = [
            Reason::Session("pid 7".into()),
            Reason::Time(30),
            Reason::Result("row 7".into()),
            Reason::Module("trap".into()),
            Reason::Receipt("key".into()),
            Reason::Record("disk".into()),
        ];
        let told = |reason| {
            let denied = Denied::from(reason);
            (denied.sqlstate(), denied.public_code(), denied.sentence())
        };
        let mut told: Vec<_> = reasons.into_iter().map(told).collect();
        told.dedup();
        let sentence = "the call was not answered; the audit log says why";
        assert_eq!(told, [("42501", "NOT_ANSWERED", sentence.into())]);
    }
}

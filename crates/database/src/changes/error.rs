//! Why a change is not made.

use database_manifest::{
    Digest, Faults, InvalidMigration, InvalidRestoration, PartyName, ProposalState as State, TableName,
};

use super::MOST_PENDING;
use crate::{audit::AuditError, engine::EngineError, installation::InstallationError, restore::PastError};

/// Why a change is not made.
#[derive(Debug, thiserror::Error)]
pub enum ChangeError {
    /// The caller's party does not decide.
    #[error("{0} is not among those who decide changes (`Updates.Approvers` of the manifest)")]
    NotAnApprover(PartyName),
    /// The proposed manifest is none.
    #[error(transparent)]
    Manifest(#[from] Faults),
    /// The migration is none.
    #[error(transparent)]
    Migration(#[from] InvalidMigration),
    /// A text that is no party's name.
    #[error("`{0}` is no name of a party whose rows could be deleted")]
    Erase(String),
    /// It starts from another manifest.
    #[error("the proposal starts from manifest {seen}; in force is {expected}: make it anew from that one")]
    Base {
        /// In force.
        expected: Digest,
        /// Named by the proposal.
        seen: Digest,
    },
    /// It would be refused whoever approves it.
    #[error("{0}")]
    Obstacle(String),
    /// The migration leads elsewhere than the manifest says.
    #[error("the migration does not lead to the schema of the new manifest:{}", differences(.missing, .surplus))]
    Schema {
        /// What the manifest has, and the database would not.
        missing: Vec<String>,
        /// What the database would have, and the manifest has not.
        surplus: Vec<String>,
    },
    /// PostgreSQL refuses a statement.
    #[error(transparent)]
    Installation(#[from] InstallationError),
    /// It is no restoration.
    #[error(transparent)]
    Restoration(#[from] InvalidRestoration),
    /// There are no rows of that time to be had.
    #[error(transparent)]
    Past(#[from] PastError),
    /// This instance has no log of its own.
    #[error("this instance has no log of its own that rows could come from")]
    NoHistory,
    /// A table is another one than then.
    #[error("{0} had other columns then, or is no table: its rows cannot be brought back")]
    Columns(TableName),
    /// What was deleted for good would come back.
    #[error("rows of {party} in {table} were deleted for good since then: name a later point")]
    Erased {
        /// Whose.
        party: String,
        /// Where.
        table: String,
    },
    /// Rows refer to rows that would not be there.
    #[error(
        "rows of {table} would refer to rows that are not there ({definition}): restore both tables together"
    )]
    Reference {
        /// From.
        table: String,
        /// As SQL.
        definition: String,
    },
    /// There is no such proposal.
    #[error("there is no proposal {0}")]
    Unknown(Digest),
    /// The same proposal is pending already.
    #[error("the proposal {0} is pending already: approve it")]
    Exists(Digest),
    /// Too many are pending.
    #[error("there are {MOST_PENDING} proposals to decide; reject some")]
    TooMany,
    /// It is decided.
    #[error("the proposal is {state}, and nothing changes that")]
    Over {
        /// How it ended.
        state: State,
    },
    /// What is stored is damaged.
    #[error("what the database holds of proposals cannot be read")]
    Stored,
    /// The audit log does not take it.
    #[error(transparent)]
    Audit(#[from] AuditError),
    /// The engine does not answer.
    #[error(transparent)]
    Engine(#[from] EngineError),
    /// PostgreSQL does not answer.
    #[error("the database did not answer")]
    Postgres(#[from] tokio_postgres::Error),
}

fn differences(missing: &[String], surplus: &[String]) -> String {
    let line = |mark: char| move |text: &String| format!("\n  {mark} {text}");
    missing.iter().map(line('-')).chain(surplus.iter().map(line('+'))).take(40).collect()
}

impl ChangeError {
    /// The stable code.
    #[must_use]
    pub fn code(&self) -> &'static str {
        match self {
            Self::NotAnApprover(_) => "NOT_AN_APPROVER",
            Self::Manifest(_) => "MANIFEST_FAULTS",
            Self::Migration(_) => "MIGRATION_INVALID",
            Self::Erase(_) => "UNKNOWN_PARTY",
            Self::Base { .. } => "BASE_NOT_IN_FORCE",
            Self::Obstacle(_) => "CHANGE_REFUSED",
            Self::Schema { .. } => "SCHEMA_DIFFERS",
            Self::Installation(InstallationError::Refused { .. }) => "STATEMENT_REFUSED",
            Self::Installation(InstallationError::Algorithm(_)) => "ALGORITHM_UNUSABLE",
            Self::Restoration(_) => "RESTORATION_INVALID",
            Self::Past(error) => error.code(),
            Self::NoHistory => "RESTORE_UNAVAILABLE",
            Self::Columns(_) => "RESTORE_COLUMNS_DIFFER",
            Self::Erased { .. } => "RESTORE_ERASED_ROWS",
            Self::Reference { .. } => "RESTORE_REFERENCES",
            Self::Unknown(_) => "UNKNOWN_PROPOSAL",
            Self::Exists(_) => "PROPOSAL_PENDING",
            Self::TooMany => "TOO_MANY_PROPOSALS",
            Self::Over { state } => state.code(),
            Self::Stored | Self::Installation(_) | Self::Audit(_) | Self::Engine(_) | Self::Postgres(_) => {
                "UNAVAILABLE"
            }
        }
    }
}

//! `bailey database receipt`: what a database said of an answer, verified by nothing but its root.

use std::path::PathBuf;

use clap::{Args, Subcommand};
use database_receipt::{Malformed, Receipt, Statement, Table, Untrusted, verify};
use serde::Deserialize;
use serde_json::{json, value::RawValue};
use time::{OffsetDateTime, format_description::well_known::Rfc3339};

use crate::{
    commands::{print_json, verify::read},
    failure::{Failure, Input, Outcome},
    identity,
};

/// Receipts of answers, for who is shown one.
#[derive(Subcommand)]
pub enum Receipts {
    /// Check a receipt by the database's root, offline, and print what it says
    Verify(Verify),
}

/// Check a receipt by the database's root, offline, and print what it says.
#[derive(Args)]
pub struct Verify {
    /// An answer with its receipt, as `bailey database call --receipt` wrote it and the API gives it, or a receipt alone
    file: PathBuf,
    /// The database's root certificate, as `bailey database verify --pin` wrote it
    #[arg(long, value_name = "FILE")]
    root: PathBuf,
    /// Require that the call was judged by this manifest, exact bytes
    #[arg(long, value_name = "FILE")]
    manifest: Option<PathBuf>,
    /// For a program
    #[arg(long)]
    json: bool,
}

impl Receipts {
    pub(super) fn run(self) -> Outcome {
        match self {
            Self::Verify(verify) => verify.run(),
        }
    }
}

/// An answer as the API gives it.
#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "PascalCase")]
struct Answered<'a> {
    columns: Vec<(String, String)>,
    rows: Vec<Vec<Option<String>>>,
    #[serde(borrow)]
    receipt: &'a RawValue,
}

impl Verify {
    fn run(self) -> Outcome {
        let bytes = read(&self.file)?;
        let root = identity::certificates(&self.root)?.swap_remove(0);
        let (receipt, answer) = match serde_json::from_slice::<Answered<'_>>(&bytes) {
            Ok(it) => {
                (parse(it.receipt.get().as_bytes())?, Some(Table { columns: it.columns, rows: it.rows }))
            }
            Err(_) => (parse(&bytes)?, None),
        };
        let verified = verify(receipt, &root).map_err(refused)?;
        if let Some(answer) = &answer {
            verified.is_about(answer).map_err(refused)?;
        }
        if let Some(manifest) = &self.manifest {
            verified.is_under(&read(manifest)?).map_err(refused)?;
        }
        let statement = verified.statement();
        if self.json {
            return print_json(
                &json!({ "verified": true, "answer": answer.is_some(), "statement": statement }),
            );
        }
        tell(statement, answer.is_some())
    }
}

fn parse(bytes: &[u8]) -> Outcome<Receipt> {
    Receipt::parse(bytes).map_err(|error: Malformed| {
        let code = error.code();
        let failure = Err::<(), _>(error).malformed(format!("no receipt [{code}]"));
        failure.err().unwrap_or_else(|| Failure::malformed(code))
    })
}

fn refused(error: Untrusted) -> Failure {
    Failure::refused(format!("{error} [{}]", error.code()))
}

fn tell(statement: &Statement, answer: bool) -> Outcome {
    let seconds = i64::try_from(statement.time).unwrap_or(i64::MAX);
    let time = OffsetDateTime::from_unix_timestamp(seconds).ok().and_then(|it| it.format(&Rfc3339).ok());
    crate::say!("verified   signed by the database whose root this is");
    crate::say!(
        "answer     {}",
        if answer { "the one that the receipt is about" } else { "not in the file" }
    );
    crate::say!("algorithm  {}({})", statement.algorithm, statement.arguments.join(", "));
    crate::say!("caller     {}, certificate {}", statement.caller, statement.certificate);
    crate::say!("database   {}, which began with manifest {}", statement.database, statement.first_manifest);
    crate::say!("manifest   {}, epoch {}", statement.manifest, statement.epoch);
    crate::say!("query      {}", statement.query);
    if let Some(module) = &statement.module {
        crate::say!("module     {module}");
    }
    for table in &statement.data {
        crate::say!("data       {} {}", table.table, table.rows);
    }
    crate::say!("log        sealed up to {}", statement.log_position);
    if let Some(epsilon) = &statement.epsilon {
        crate::say!("cost       epsilon {epsilon}");
    }
    crate::say!(
        "time       {} (the clock is the host's word)",
        time.unwrap_or_else(|| statement.time.to_string())
    );
    Ok(())
}

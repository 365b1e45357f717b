//! `bailey database call`: an algorithm, called over HTTPS.

use std::{collections::BTreeMap, path::PathBuf};

use clap::Args;
use comfy_table::{Table, presets};
use serde_json::{Value, json};

use super::remote::Remote;
use crate::{
    client::Declined,
    commands::print_json,
    failure::{Failure, Outcome},
    output::public_file,
};

/// Call an algorithm; without a name, list those that you may call.
#[derive(Args)]
pub struct Call {
    /// Its name
    algorithm: Option<String>,
    /// Its arguments: NAME=VALUE …, values as PostgreSQL writes them
    #[arg(value_name = "NAME=VALUE", value_parser = argument)]
    arguments: Vec<(String, String)>,
    #[command(flatten)]
    remote: Remote,
    /// Have a new noisy answer, charged to your budget, where you had one to the same request
    #[arg(long)]
    fresh: bool,
    /// Ask for a receipt, and write the answer with it here, for `bailey database receipt verify`
    #[arg(long, value_name = "FILE")]
    receipt: Option<PathBuf>,
    /// For a program
    #[arg(long)]
    json: bool,
}

fn argument(text: &str) -> Result<(String, String), String> {
    let (name, value) = text.split_once('=').ok_or("expected NAME=VALUE")?;
    Ok((name.into(), value.into()))
}

impl Call {
    /// Runs the command.
    pub async fn run(self) -> Outcome {
        let client = self.remote.party()?;
        let Some(algorithm) = &self.algorithm else {
            return print_json(&client.get("/v1/algorithms").await.map_err(refused)?);
        };
        let arguments: BTreeMap<_, _> = self.arguments.iter().cloned().collect();
        if arguments.len() != self.arguments.len() {
            return Err(Failure::malformed("an argument is given twice"));
        }
        let request =
            json!({ "Arguments": arguments, "Receipt": self.receipt.is_some(), "Fresh": self.fresh });
        let answer = client.post(&format!("/v1/algorithms/{algorithm}"), &request).await.map_err(refused)?;
        if let Some(file) = &self.receipt {
            public_file(file, format!("{answer:#}\n").as_bytes())?;
        }
        if self.json {
            return print_json(&answer);
        }
        crate::say!("{}", table(&answer));
        if let Some(file) = &self.receipt {
            crate::say!("\nanswer and receipt: {}", file.display());
        }
        Ok(())
    }
}

fn refused(error: anyhow::Error) -> Failure {
    match error.downcast_ref::<Declined>() {
        Some(declined) => Failure::refused(format!("{} [{}]", declined.message, declined.code)),
        None => error.into(),
    }
}

fn table(answer: &Value) -> Table {
    let rows = |name: &str| answer[name].as_array().cloned().unwrap_or_default();
    let cell = |value: &Value| value.as_str().map_or_else(|| "NULL".to_owned(), str::to_owned);
    let mut table = Table::new();
    table.load_preset(presets::NOTHING);
    table.set_header(rows("Columns").iter().map(|column| cell(&column[0])));
    for row in rows("Rows") {
        table.add_row(row.as_array().into_iter().flatten().map(cell));
    }
    table
}

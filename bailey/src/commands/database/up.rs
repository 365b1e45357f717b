//! `bailey database up`: a database on this machine, until Ctrl-C or until a command has ended.

use std::{
    path::{Path, PathBuf},
    process::ExitStatus,
};

use anyhow::Context;
use attested_tls::claims::DatabaseAnchor;
use clap::Args;
use serde_json::json;

use super::verify::connection;
use crate::{
    commands::{
        print_json,
        up::{Teller, wait_for_the_end},
    },
    failure::{Failure, Outcome},
    up::{DatabasePlan, Programs, RunningDatabase},
};

/// Start a whole example on this machine, on an emulated TEE: CAs, certificates, manifest, database.
#[derive(Args)]
pub struct Up {
    /// A folder with a database.toml, such as examples/database/banks
    folder: PathBuf,
    /// Keep keys, certificates and the sealed state here, and go on from what is there; without it, nothing stays
    #[arg(long, value_name = "DIR")]
    keep: Option<PathBuf>,
    /// Print the addresses as JSON when it serves
    #[arg(long)]
    json: bool,
    /// Run this when it serves, with libpq's variables set, and stop when it has ended; its exit code passes through
    #[arg(last = true, value_name = "COMMAND")]
    command: Vec<String>,
}

impl Up {
    /// Runs the command.
    pub async fn run(self) -> Outcome {
        let plan = DatabasePlan::load(&self.folder)?;
        let temporary = tempfile::Builder::new()
            .prefix("bailey-database-")
            .tempdir()
            .context("a temporary folder for keys, state and logs cannot be made")?;
        let folder = match &self.keep {
            Some(folder) => {
                std::fs::create_dir_all(folder)
                    .with_context(|| format!("{} cannot be made", folder.display()))?;
                folder.canonicalize().context("its path cannot be resolved")?
            }
            None => temporary.path().to_owned(),
        };
        let mut teller = Teller::new(self.json);
        let started = RunningDatabase::start(&plan, &folder, Programs::beside_this_one()?, &mut teller);
        let database = tokio::select! {
            database = started => database?,
            interrupted = tokio::signal::ctrl_c() => {
                interrupted.context("Ctrl-C cannot be waited for")?;
                return Ok(());
            }
        };
        self.tell(&database, &folder)?;
        let ended = match self.command.as_slice() {
            [] => wait_for_the_end().await.map(|()| None)?,
            _ if database.verified.claims.state.is_none() => {
                return Err(Failure::refused("the database waits for recovery: the command was not run"));
            }
            command => Some(run(command, &database, &folder).await?),
        };
        database.machine.shut_down()?;
        temporary.close().context("the temporary folder cannot be removed")?;
        match ended {
            None if !self.json => crate::say!("\nstopped; {}", self.left(&folder)),
            Some(status) if !status.success() => {
                return Err(Failure::refused(format!("{} ended with {status}", self.command.join(" "))));
            }
            _ => {}
        }
        Ok(())
    }

    fn left(&self, folder: &Path) -> String {
        match self.keep {
            Some(_) => format!("keys and the sealed state are in {}", folder.display()),
            None => "nothing is left behind".to_owned(),
        }
    }

    fn tell(&self, database: &RunningDatabase, folder: &Path) -> Outcome {
        let name = database.verified.claims.state.as_ref().map(|state| state.name.as_str());
        if self.json {
            return print_json(&json!({
                "emulated": true, "api": database.api.to_string(), "sql": database.sql, "database": name,
                "folder": folder, "root": folder.join("root.pem"),
            }));
        }
        let file = |name: &str| folder.join(name).display().to_string();
        let mut required = format!(
            "{} --reference {} --emulated-root {} --manifest {}",
            database.api,
            file("reference.json"),
            file("emulated-root.pem"),
            file("manifest.yaml")
        );
        if let DatabaseAnchor::Coordinator { .. } = database.verified.claims.anchor {
            required.push_str(&format!(" --mesh-root {}", file("mesh-root.pem")));
        }
        crate::say!("\nAPI   {}", database.api);
        let Some(name) = name else {
            crate::say!(
                "\nIts state was sealed by another TEE, or by another build: it waits for the holders of shares."
            );
            crate::say!("mend  bailey database recover {required} \\");
            crate::say!("          --holder NAME --key {}", file("holders/NAME.key"));
            return Ok(());
        };
        let port = database.sql.port().to_string();
        crate::say!("SQL   psql \"{}\"", connection("localhost", &port, name, &folder.join("root.pem")));
        let parties = file("parties");
        crate::say!("\nwho   certificates and keys of the parties' people: {parties}/PARTY/NAME.pem, .key");
        crate::say!("check bailey database verify {required}");
        if self.command.is_empty() {
            let what = self.left(folder);
            crate::say!("\nEmulated TEE: this protects nothing from this machine. Ctrl-C stops it; {what}.");
        } else {
            crate::say!("\nrun   {}\n", self.command.join(" "));
        }
        Ok(())
    }
}

/// The variables are those of libpq (PostgreSQL manual, §34.15): a program adds its certificate and key.
async fn run(command: &[String], database: &RunningDatabase, folder: &Path) -> Outcome<ExitStatus> {
    let Some((program, arguments)) = command.split_first() else {
        return Err(Failure::malformed("no command"));
    };
    let name = database.verified.claims.state.as_ref().map_or("", |state| &state.name);
    let status = tokio::process::Command::new(program)
        .args(arguments)
        .env("PGHOST", "localhost")
        .env("PGPORT", database.sql.port().to_string())
        .env("PGDATABASE", name)
        .env("PGSSLMODE", "verify-full")
        .env("PGSSLROOTCERT", folder.join("root.pem"))
        .env("BAILEY_DATABASE_API", database.api.to_string())
        .env("BAILEY_DATABASE_FOLDER", folder)
        .kill_on_drop(true)
        .status()
        .await
        .with_context(|| format!("{program} cannot be run"))?;
    Ok(status)
}

//! The confidential database's example, by the commands that its reader would run: two banks, a regulator and an analyst,
//! whose script fails when rings are not found, or when something is not refused that must be.

use std::{
    path::{Path, PathBuf},
    process::{Output, Stdio},
    time::Duration,
};

use anyhow::{Context, Result, ensure};
use bailey::up::Programs;
use tokio::process::Command;

const EXAMPLE: &str = "examples/database/banks";
const POSTGRESQL: &str = "/usr/lib/postgresql";
const ENDS_WITHIN: Duration = Duration::from_secs(180);
/// Rows of each bank: fewer than a reader loads, and the rings are the same.
const ROWS: &str = "10000";

/// What the example needs beside our own programs.
pub struct Here {
    root: PathBuf,
    /// Where `cargo xtask tools` installs packages for Python; it need not be there.
    packages: PathBuf,
}

impl Here {
    /// Looks for it. The error says what is missing, and what would mend it.
    pub async fn find() -> Result<Self> {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
        ensure!(Path::new(POSTGRESQL).is_dir(), "no PostgreSQL here: apt-get install postgresql");
        let here = Self { packages: root.join("target/tools/sql/python"), root };
        let found = here.python().args(["-c", "import psycopg"]).output().await;
        ensure!(
            found.is_ok_and(|output| output.status.success()),
            "no psycopg for python3 here: cargo xtask tools"
        );
        Ok(here)
    }

    fn python(&self) -> Command {
        let mut command = Command::new("python3");
        command.env("PYTHONPATH", &self.packages).stdin(Stdio::null()).kill_on_drop(true);
        command
    }

    /// It comes up, is appraised, and its script finds what was hidden in the data.
    pub async fn banks(&self, programs: &Programs) -> Result<String> {
        let example = self.root.join(EXAMPLE);
        let mut command = Command::new(programs.path("bailey")?);
        command.args(["database", "up"]).arg(&example).args(["--", "python3"]).arg(example.join("run.py"));
        command.env("PYTHONPATH", &self.packages).env("BANKS_ROWS", ROWS);
        command.stdin(Stdio::null()).kill_on_drop(true);
        let ran = tokio::time::timeout(ENDS_WITHIN, command.output());
        let Output { status, stdout, stderr } =
            ran.await.context("it did not end in time")?.context("bailey cannot be run")?;
        let (told, said) = (String::from_utf8_lossy(&stdout), String::from_utf8_lossy(&stderr));
        ensure!(status.success(), "it ended with {status}:\n{told}\n{said}");
        let refusals = told.lines().filter(|line| line.contains("refused, SQLSTATE 42501")).count();
        ensure!(told.contains("all of it as agreed") && refusals == 6, "it told something else:\n{told}");
        Ok(format!(
            "two banks load rows that nobody reads, an analyst counts rings across both, {refusals} attempts at more are refused"
        ))
    }
}

//! `bailey host deploy`: another version of a Marble's workload, within what the manifest allows. The host chooses which
//! package its Keep is told to take; whether it may run the Keep and the coordinator decide, and where they refuse, what
//! ran before is launched again.

use std::{
    fs::File,
    io::{Read, Seek, SeekFrom},
    path::{Path, PathBuf},
    time::Duration,
};

use clap::Args;
use host::{Action, Ending, Inspection, ProcessName, ProcessSpec, Reply, State};
use package::Pinned;
use serde_json::json;

use super::{Agent, act, ask, parse, unexpected};
use crate::{
    commands::print_json,
    failure::{Failure, Outcome},
};

/// What a Keep logs when its workload is served, or begins where it is a command, and before it ends.
const BEGUN: [&str; 2] = ["SERVING", "RUNNING"];
const ENDED: &str = "the Keep ends";
/// How many seconds it may take until a Keep runs its workload.
const WAIT: u64 = 120;
const LOOK: Duration = Duration::from_millis(200);
/// No log of a start is longer, in bytes.
const MAX_LOG: u64 = 1 << 20;

/// Versions that the manifest does not allow, or that are older than one that ran, are refused by the coordinator: then
/// what ran before is launched again, and the exit code is 1.
#[derive(Args)]
pub struct Deploy {
    /// The process whose Keep is to run it: a name of `bailey host list`, mostly the Marble's
    name: String,
    /// Which package: REGISTRY/REPOSITORY@sha256:…, as `bailey package push` printed it
    package: Pinned,
    /// How many seconds it may take until it runs
    #[arg(long, value_name = "SECONDS", default_value_t = WAIT)]
    wait: u64,
    /// For a program
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    agent: Agent,
}

impl Deploy {
    /// With the patience of the command line's default.
    pub fn new(name: String, package: Pinned, directory: PathBuf, json: bool) -> Self {
        Self { name, package, wait: WAIT, json, agent: Agent { directory } }
    }

    /// Runs the command.
    pub async fn run(self) -> Outcome {
        let (directory, name) = (&self.agent.directory, parse(&self.name)?);
        let Inspection { spec, log, .. } = inspect(directory, &name)?;
        let arguments = arguments(&spec.arguments, &self.package);
        let new = ProcessSpec { arguments, workload: None, ..spec.clone() };
        let log = log.map(Log::at_its_end);
        act(directory, &Action::Stop { name: name.clone() })?;
        act(directory, &Action::Launch { process: Box::new(new) })?;
        match self.watched(directory, &name, log).await {
            Ok(()) if self.json => {
                print_json(&json!({ "process": self.name, "package": self.package.to_string() }))
            }
            Ok(()) => {
                crate::say!("{} runs {}", self.name, self.package);
                Ok(())
            }
            Err(failure) => {
                act(directory, &Action::Stop { name })?;
                act(directory, &Action::Launch { process: Box::new(spec) })?;
                Err(failure.hint("what ran before is launched again"))
            }
        }
    }

    /// Until it runs, or is known not to.
    async fn watched(&self, directory: &Path, name: &ProcessName, log: Option<Log>) -> Outcome {
        let waiting = async {
            loop {
                let said = log.as_ref().map(Log::since).unwrap_or_default();
                if BEGUN.iter().any(|code| said.contains(code)) {
                    return Ok(());
                }
                let status = inspect(directory, name)?.status;
                let last = status.last_exit.map(|exit| exit.ending);
                if let (State::BackOff { .. } | State::Stopped, ending) = (&status.state, last) {
                    return Err(refused(&self.package, &said, ending));
                }
                tokio::time::sleep(LOOK).await;
            }
        };
        let waited = tokio::time::timeout(Duration::from_secs(self.wait), waiting).await;
        match (waited, &log) {
            (Ok(result), _) => result,
            // Nobody keeps what it prints: that it still runs is all that can be known.
            (Err(_), None) => Ok(()),
            (Err(_), Some(_)) => {
                Err(Failure::refused(format!("{} does not run after {} s", self.package, self.wait)))
            }
        }
    }
}

fn inspect(directory: &Path, name: &ProcessName) -> Outcome<Inspection> {
    match ask(directory, &Action::Inspect { name: name.clone() })? {
        Reply::Process { process } => Ok(*process),
        _ => unexpected(),
    }
}

fn refused(package: &Pinned, said: &str, ending: Option<Ending>) -> Failure {
    let line = said.lines().rev().find(|line| line.contains(ENDED));
    let reason = line.map(str::to_owned).or_else(|| ending.map(|ending| ending.to_string()));
    Failure::refused(format!("{package} does not run: {}", reason.as_deref().unwrap_or("it ended")))
}

/// The same, but for what the workload is.
fn arguments(before: &[String], package: &Pinned) -> Vec<String> {
    let (mut arguments, mut rest) = (Vec::new(), before.iter());
    while let Some(argument) = rest.next() {
        match argument.as_str() {
            "--workload" | "--package" => drop(rest.next()),
            other if other.starts_with("--workload=") || other.starts_with("--package=") => {}
            other => arguments.push(other.to_owned()),
        }
    }
    arguments.extend(["--package".to_owned(), package.to_string()]);
    arguments
}

/// What a process prints from now on.
struct Log {
    path: PathBuf,
    from: u64,
}

impl Log {
    fn at_its_end(path: PathBuf) -> Self {
        let from = std::fs::metadata(&path).map_or(0, |file| file.len());
        Self { path, from }
    }

    fn since(&self) -> String {
        let read = || {
            let mut file = File::open(&self.path)?;
            // A log that was set aside begins anew.
            let from = if file.metadata()?.len() < self.from { 0 } else { self.from };
            file.seek(SeekFrom::Start(from))?;
            let mut bytes = Vec::new();
            file.take(MAX_LOG).read_to_end(&mut bytes)?;
            Ok::<_, std::io::Error>(bytes)
        };
        String::from_utf8_lossy(&read().unwrap_or_default()).into_owned()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_the_workload_is_changes() {
        let package: Pinned = format!("registry.example/app@sha256:{}", "ab".repeat(32)).parse().unwrap();
        let after = |before: &[&str]| {
            arguments(&before.iter().map(ToString::to_string).collect::<Vec<_>>(), &package).join(" ")
        };
        let expected = format!("--coordinator a:1 --listen b:2 --package {package}");
        for before in [
            &["--coordinator", "a:1", "--workload", "app.wasm", "--listen", "b:2"][..],
            &["--coordinator", "a:1", "--workload=app.wasm", "--listen", "b:2"],
            &["--package", "registry.example/app@sha256:00", "--coordinator", "a:1", "--listen", "b:2"],
            &["--coordinator", "a:1", "--listen", "b:2"],
        ] {
            assert_eq!(after(before), expected, "{before:?}");
        }
    }
}

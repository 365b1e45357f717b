//! `bailey broker`: what guests that are no Marbles are given, and why they are not.

mod policy;
mod resource;

use clap::{Args, Subcommand};
use serde_json::Value;

use crate::{
    commands::{
        instances::text,
        print_json,
        remote::{Person, Remote},
    },
    failure::Outcome,
};

/// The key broker: resources, policies, and sessions of guests.
#[derive(Subcommand)]
pub enum Command {
    /// What the broker has
    Status(Look),
    /// Upload, download, list or delete resources
    #[command(subcommand)]
    Resource(resource::Command),
    /// List release policies, show one, or try one
    #[command(subcommand)]
    Policy(policy::Command),
    /// List the last guests that attested, or did not
    Sessions(Look),
    /// Say why a guest was refused, or what it was not given
    Explain(Explain),
}

/// What there is.
#[derive(Args)]
pub struct Look {
    /// For a program
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    remote: Remote,
    #[command(flatten)]
    person: Person,
}

/// One session.
#[derive(Args)]
pub struct Explain {
    /// The session, as the guest was told it, or as `bailey broker sessions` prints it
    session: String,
    #[command(flatten)]
    look: Look,
}

impl Command {
    /// Runs the command.
    pub async fn run(self) -> Outcome {
        match self {
            Self::Status(look) => look.status().await,
            Self::Resource(command) => command.run().await,
            Self::Policy(command) => command.run().await,
            Self::Sessions(look) => look.sessions().await,
            Self::Explain(explain) => explain.run().await,
        }
    }
}

impl Look {
    async fn get(&self, path: &str) -> Outcome<Value> {
        Ok(self.remote.client(Some(&self.person))?.get(path).await?)
    }

    async fn status(self) -> Outcome {
        let data = self.get("/api/v3/broker/status").await?;
        if self.json {
            return print_json(&data);
        }
        crate::say!("epoch {}, manifest {}", data["epoch"], text(&data, "manifest"));
        if data["sample"] == true {
            crate::say!("sample Evidence is accepted, which proves nothing");
        }
        crate::say!(
            "release policies: {}; tokens are valid for {} seconds; sessions held: {}",
            data["policies"],
            data["tokenSeconds"],
            data["sessions"]["held"]
        );
        let bytes = &data["resourceBytes"];
        crate::say!("uploaded resources have {} of at most {} bytes", bytes["used"], bytes["most"]);
        for repository in list(&data["repositories"]) {
            let uploads = match repository["uploads"].as_str() {
                Some(policy) => format!("{} uploaded, by policy {policy}", repository["uploaded"]),
                None => "takes no uploads".to_owned(),
            };
            crate::say!("{}  {} declared; {uploads}", text(repository, "name"), repository["declared"]);
        }
        Ok(())
    }

    async fn sessions(self) -> Outcome {
        let data = self.get("/api/v3/broker/sessions").await?;
        if self.json {
            return print_json(&data["sessions"]);
        }
        list(&data["sessions"]).for_each(|line| crate::say!("{}", session(line)));
        Ok(())
    }
}

/// The items of a list.
fn list(value: &Value) -> impl DoubleEndedIterator<Item = &Value> {
    value.as_array().into_iter().flatten()
}

/// The texts of a list, on one line.
fn joined(value: &Value) -> String {
    let texts: Vec<_> = list(value).filter_map(Value::as_str).collect();
    if texts.is_empty() { "none".to_owned() } else { texts.join(", ") }
}

/// One line for people.
fn session(line: &Value) -> String {
    let outcome = match text(line, "outcome") {
        "attested" => format!("attested as {}", joined(&line["packages"])),
        outcome => format!("{outcome}: {}", joined(&line["codes"])),
    };
    let refused = match line["refusedReleases"].as_u64() {
        None | Some(0) => String::new(),
        Some(1) => "; 1 resource was not released".to_owned(),
        Some(count) => format!("; {count} resources were not released"),
    };
    format!("{}  {} {}  {outcome}{refused}", text(line, "session"), text(line, "at"), text(line, "tee"))
}

impl Explain {
    async fn run(self) -> Outcome {
        // What a person typed becomes no other path.
        let session: String = self.session.chars().filter(char::is_ascii_alphanumeric).collect();
        let data = self.look.get(&format!("/api/v3/broker/sessions/{session}")).await?;
        if self.look.json {
            return print_json(&data);
        }
        crate::say!("{}", self::session(&data));
        if let Some(reason) = data["reason"].as_str() {
            crate::say!("{reason}");
        }
        for verdict in list(&data["verdicts"]) {
            let judged = text(&verdict["verdict"], "verdict");
            crate::say!("Evidence {}: {judged}", text(verdict, "piece"));
        }
        for release in list(&data["releases"]) {
            crate::say!("{} asked for {}", text(release, "at"), text(release, "resource"));
            crate::say!("{}", finding(&release["refused"]));
        }
        Ok(())
    }
}

/// What was expected and what was seen, a line for each rule, and what would mend those that do not hold.
fn finding(finding: &Value) -> String {
    let mut lines = Vec::new();
    if let Some(policy) = finding["policy"].as_str() {
        lines.push(format!("  policy {policy}"));
    }
    for check in list(&finding["checks"]) {
        let (name, expected, seen) = (text(check, "check"), text(check, "expected"), text(check, "seen"));
        if check["holds"] == true {
            lines.push(format!("  ✓ {name:<10} {seen}"));
            continue;
        }
        let code = text(check, "code");
        lines.push(format!("  ✗ {name:<10} expected {expected}, seen {seen}  {code}"));
        if let Some(mend) = check["mend"].as_str() {
            lines.push(format!("    {:<10} {mend}", "mend:"));
        }
    }
    lines.join("\n")
}

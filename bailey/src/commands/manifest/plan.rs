//! What another manifest would change, before anyone is asked to agree to it.

use std::{
    collections::BTreeMap,
    io::{BufRead, IsTerminal, Write},
    path::{Path, PathBuf},
};

use clap::{ArgMatches, Args, Command, FromArgMatches};
use serde_json::{Value, json};

use super::{faulty, request, with_faults};
use crate::{
    client::Client,
    commands::{
        print_json,
        remote::{Person, Remote},
        verify::read,
    },
    failure::{Failure, Input, Outcome},
};

/// Say what another manifest would change.
#[derive(Args)]
pub struct Plan {
    /// The manifest, JSON or YAML, or an update of packages
    file: PathBuf,
    /// Compare with this one, and ask no coordinator
    #[arg(long, value_name = "FILE", conflicts_with = "coordinator")]
    current: Option<PathBuf>,
    /// For a program
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    online: Online,
}

/// Whom to ask, where a coordinator is asked.
struct Online(Option<(Remote, Person)>);

impl FromArgMatches for Online {
    fn from_arg_matches(matches: &ArgMatches) -> Result<Self, clap::Error> {
        if !matches.contains_id("coordinator") {
            return Ok(Self(None));
        }
        Ok(Self(Some((Remote::from_arg_matches(matches)?, Person::from_arg_matches(matches)?))))
    }

    fn update_from_arg_matches(&mut self, matches: &ArgMatches) -> Result<(), clap::Error> {
        *self = Self::from_arg_matches(matches)?;
        Ok(())
    }
}

impl Args for Online {
    fn augment_args(command: Command) -> Command {
        let mut command = Person::augment_args(Remote::augment_args(command));
        for name in ["coordinator", "root", "cert", "key"] {
            command = command.mut_arg(name, |arg| arg.required(false).required_unless_present("current"));
        }
        command
    }

    fn augment_args_for_update(command: Command) -> Command {
        Self::augment_args(command)
    }
}

impl Plan {
    pub(super) async fn run(self) -> Outcome {
        let bytes = read(&self.file)?;
        let answer = match (&self.current, &self.online.0) {
            (Some(current), _) => json!({ "plan": between(current, &self.file, &bytes)? }),
            (None, Some((remote, person))) => ask(&remote.client(Some(person))?, &bytes).await?,
            (None, None) => {
                return Err(Failure::malformed("there is nothing to compare with")
                    .hint("name a coordinator with --coordinator, or a file with --current"));
            }
        };
        if self.json {
            return print_json(&answer);
        }
        crate::output::write(format_args!("{}", words(&answer)));
        Ok(())
    }
}

/// Without a coordinator: as if each secret had a value.
fn between(current: &Path, file: &Path, bytes: &[u8]) -> Outcome<Value> {
    let old = manifest::Manifest::parse(&read(current)?).map_err(|faults| faulty(current, faults))?;
    let new = if manifest::PackageUpdate::is_one(bytes) {
        let update = manifest::PackageUpdate::parse(bytes, &old).map_err(|faults| faulty(file, faults))?;
        old.with_security_versions(&update.0)
    } else {
        manifest::Manifest::parse(bytes).map_err(|faults| faulty(file, faults))?
    };
    Ok(serde_json::to_value(manifest::plan(&old, &new, |_| true)).map_err(anyhow::Error::from)?)
}

/// What the proposed manifest would change of the one in force: both are public, so no key is needed, and the changes
/// are found here rather than believed.
pub(super) async fn of_pending(client: &Client, pending: &Value) -> Outcome<Value> {
    let in_force = client.get("/api/v2/manifest").await?;
    let parse = |answer: &Value| {
        let faulty = "a manifest of this coordinator cannot be read by this version";
        manifest::Manifest::parse(&super::document(answer)?).malformed(faulty)
    };
    let versions: BTreeMap<String, u16> = serde_json::from_value(in_force["securityVersions"].clone())
        .malformed("the coordinator's answer has no security versions")?;
    let versions = versions.into_iter().filter_map(|(name, version)| Some((name.parse().ok()?, version)));
    let old = parse(&in_force)?.with_security_versions(&versions.collect());
    let plan = manifest::plan(&old, &parse(pending)?, |_| true);
    Ok(serde_json::to_value(plan).map_err(anyhow::Error::from)?)
}

/// What the coordinator says of it.
pub(super) async fn ask(client: &Client, bytes: &[u8]) -> Outcome<Value> {
    client.post("/api/v3/plan", &request(bytes)).await.map_err(with_faults)
}

/// Shows the plan and asks whether to go on; without a terminal only whoever said so before goes on.
pub(super) async fn confirmed(client: &Client, bytes: &[u8], yes: bool) -> Outcome {
    if yes {
        return Ok(());
    }
    let text = words(&ask(client, bytes).await?);
    crate::output::write(format_args!("{text}"));
    if !std::io::stdin().is_terminal() {
        return Err(Failure::malformed("nobody is here to agree to this plan").hint("if it is meant: --yes"));
    }
    eprint!("Propose this update? [y/N] ");
    let _ = std::io::stderr().flush();
    let mut answer = String::new();
    let read = std::io::stdin().lock().read_line(&mut answer);
    if read.is_ok() && matches!(answer.trim(), "y" | "Y" | "yes") {
        return Ok(());
    }
    Err(Failure::from(anyhow::anyhow!("nothing was proposed")))
}

/// A plan for people. Whoever wrote it is not trusted with the terminal.
pub(super) fn words(answer: &Value) -> String {
    let mut text = String::new();
    let plan = &answer["plan"];
    let mut line = |line: String| {
        text.extend(line.chars().filter(|c| !c.is_control()));
        text.push('\n');
    };
    let list = |value: &Value| value.as_array().cloned().unwrap_or_default();
    let changes = list(&plan["changes"]);
    if changes.is_empty() {
        line("Nothing that the manifest says would change.".into());
    }
    for change in &changes {
        let mark = match change["effect"].as_str() {
            Some("changes") => '~',
            Some("closes") => '-',
            _ => '!',
        };
        line(format!("{mark} {}", change["words"].as_str().unwrap_or("?")));
    }
    if changes.iter().any(|change| change["effect"] == "opens") {
        line("! marks what gives more access, lets other code run, or asks for less.".into());
    }
    if answer["fleet"].is_object() {
        fleet(&answer["fleet"], &mut line);
    }
    for obstacle in list(&plan["obstacles"]) {
        line(format!("This update would be refused: {}.", obstacle.as_str().unwrap_or("?")));
    }
    let downgrades: Vec<_> = list(&plan["downgrades"]);
    let named = downgrades.iter().filter_map(Value::as_str).map(|name| format!(" --allow-downgrade {name}"));
    let named: String = named.collect();
    if !named.is_empty() {
        line(format!("A security version falls. If that is meant, propose it with:{named}"));
    }
    text
}

fn fleet(fleet: &Value, line: &mut impl FnMut(String)) {
    let number = |value: &Value| value.as_u64().unwrap_or(0);
    let (running, empty) = (number(&fleet["running"]), Vec::new());
    let refused = fleet["refused"].as_array().unwrap_or(&empty);
    let sum: u64 = refused.iter().map(|it| number(&it["instances"])).sum();
    let marbles = if running == 1 { "Marble" } else { "Marbles" };
    if refused.is_empty() {
        line(format!("None of {running} running {marbles} is known to be refused by it."));
    } else {
        line(format!("{sum} of {running} running {marbles} would be refused:"));
    }
    for it in refused {
        let codes: Vec<_> = it["codes"].as_array().into_iter().flatten().filter_map(Value::as_str).collect();
        let marble = it["marble"].as_str().unwrap_or("?");
        line(format!("  {} of {marble}: {}", number(&it["instances"]), codes.join(", ")));
    }
    let unrecorded: u64 = fleet["unrecorded"].as_object().into_iter().flatten().map(|(_, n)| number(n)).sum();
    if unrecorded > 0 {
        line(format!(
            "The Evidence of {unrecorded} of {running} is not recorded here: it is when they renew their certificates."
        ));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_plan_is_told_in_words_and_cannot_write_to_the_terminal() {
        let change = |effect: &str, words: &str| json!({ "effect": effect, "words": words });
        let refused =
            |marble: &str, codes: &[&str]| json!({ "marble": marble, "codes": codes, "instances": 1 });
        let answer = json!({
            "plan": {
                "changes": [
                    change("opens", "frontend may now \u{1b}[2Jread db_password"),
                    change("changes", "salt is made anew"),
                    change("closes", "cron may no longer call frontend"),
                ],
                "downgrades": ["billing"],
                "obstacles": ["the seal mode of a mesh never changes"],
            },
            "fleet": {
                "running": 5,
                "refused": [refused("frontend", &["TCB_OUT_OF_DATE"]), refused("tally", &["WORKLOAD_MISMATCH"])],
                "unrecorded": { "asker": 1 },
            },
        });
        assert_eq!(
            words(&answer),
            "! frontend may now [2Jread db_password\n\
             ~ salt is made anew\n\
             - cron may no longer call frontend\n\
             ! marks what gives more access, lets other code run, or asks for less.\n\
             2 of 5 running Marbles would be refused:\n  1 of frontend: TCB_OUT_OF_DATE\n  1 of tally: WORKLOAD_MISMATCH\n\
             The Evidence of 1 of 5 is not recorded here: it is when they renew their certificates.\n\
             This update would be refused: the seal mode of a mesh never changes.\n\
             A security version falls. If that is meant, propose it with: --allow-downgrade billing\n"
        );
        let nothing = words(&json!({ "plan": { "changes": [] } }));
        assert_eq!(nothing, "Nothing that the manifest says would change.\n");
    }
}

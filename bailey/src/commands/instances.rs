//! `bailey instances`: who runs where, and who was sent away.

use clap::Args;
use serde_json::Value;

use crate::{
    commands::{
        print_json,
        remote::{Person, Remote},
    },
    failure::Outcome,
};

/// Instances whose certificate is valid, of the Marbles that your roles let you see.
#[derive(Args)]
pub struct Instances {
    /// Those that were evicted instead, and machines, as `Config.Reinstated` of a manifest takes them
    #[arg(long)]
    evicted: bool,
    /// For a program
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    remote: Remote,
    #[command(flatten)]
    person: Person,
}

impl Instances {
    /// Runs the command.
    pub async fn run(self) -> Outcome {
        let path = if self.evicted { "/api/v3/evictions" } else { "/api/v3/instances" };
        let data = self.remote.client(Some(&self.person))?.get(path).await?;
        let data = if self.evicted { &data } else { &data["instances"] };
        if self.json {
            return print_json(data);
        }
        if self.evicted {
            let all =
                [&data["instances"], &data["machines"]].into_iter().filter_map(Value::as_object).flatten();
            for (name, line) in all {
                let marble = line["marble"].as_str().map(|marble| format!(" ({marble})")).unwrap_or_default();
                crate::say!("{name}{marble}, by {} at {}", text(line, "user"), text(line, "at"));
            }
            return Ok(());
        }
        for line in data.as_array().into_iter().flatten() {
            crate::say!("{}", described(line));
        }
        Ok(())
    }
}

pub(super) fn text<'v>(value: &'v Value, field: &str) -> &'v str {
    value[field].as_str().unwrap_or("?")
}

/// Two lines for people.
pub(super) fn described(line: &Value) -> String {
    let machine = line["machine"].as_str().unwrap_or("a machine that its Evidence does not name");
    let has = |(name, given): (&String, &Value)| match given.as_array() {
        Some(versions) => {
            let versions: Vec<_> = versions.iter().map(ToString::to_string).collect();
            format!("{name} v{}", versions.join(", v"))
        }
        None if given == "own" => format!("{name} (its own)"),
        None => format!("{name} (stored outside)"),
    };
    let secrets: Vec<_> = line["secrets"].as_object().into_iter().flatten().map(has).collect();
    let secrets = if secrets.is_empty() { "no secrets".to_owned() } else { secrets.join(", ") };
    format!(
        "{}  {} on {machine}\n    epoch {}, since {}, until {}; has {secrets}",
        text(line, "instance"),
        text(line, "marble"),
        line["epoch"],
        text(line, "since"),
        text(line, "until"),
    )
}

//! `bailey status`.

use attested_tls::clock;
use clap::Args;
use serde_json::Value;

use crate::{
    commands::{print_json, remote::Remote},
    failure::{Input, Outcome},
    heads::{Heads, Held},
    identity,
};

/// What state a coordinator is in.
#[derive(Args)]
pub struct Status {
    #[command(flatten)]
    remote: Remote,
    #[command(flatten)]
    heads: Heads,
    /// For a program
    #[arg(long)]
    json: bool,
}

impl Status {
    /// Runs the command.
    pub async fn run(self) -> Outcome {
        let client = self.remote.client(None)?;
        let mut data = client.get("/api/v2/status").await?;
        if data["code"] != 1 {
            data["log"] = client.get("/api/v3/head").await?;
            let seen =
                Held::of_answer(&data["log"], &clock::system()).malformed("its head cannot be read")?;
            let root = identity::certificates(&self.remote.root)?.swap_remove(0);
            self.heads.meet(&client, &root, &seen).await?;
        }
        if self.json {
            return print_json(&data);
        }
        crate::say!("{}: {}", state(&data), data["message"].as_str().unwrap_or("no message"));
        if data["code"] == 1 {
            crate::say!("{}", missing(&data["missingRecoverySecrets"], &data["unfit"]["records"]));
        } else {
            crate::say!("state log: {} records, head {}", data["log"]["length"], word(&data["log"]["head"]));
            crate::say!("anchors: {}", anchors(&data["log"]["anchors"]));
        }
        Ok(())
    }
}

/// MarbleRun's numbers, in words.
fn state(data: &Value) -> &'static str {
    match data["code"].as_u64() {
        Some(1) if data["unfit"].is_object() => "serving nothing",
        Some(1) => "recovery",
        Some(2) => "accepting manifest",
        Some(3) => "running",
        _ => "unknown state",
    }
}

fn word(value: &Value) -> &str {
    value.as_str().unwrap_or("unknown")
}

/// What would notice an old copy of the state.
fn anchors(anchors: &Value) -> String {
    let one = |anchor: &Value| match anchor["key"].as_str() {
        Some(key) => format!("{} (key {key})", word(&anchor["kind"])),
        None => word(&anchor["kind"]).to_owned(),
    };
    let all: Vec<_> = anchors.as_array().into_iter().flatten().map(one).collect();
    if all.is_empty() {
        return "none: nothing outside its host would notice an old copy of the state, but those who hold its head"
            .into();
    }
    all.join(", ")
}

fn missing(remaining: &Value, records: &Value) -> String {
    if let Some(records) = records.as_u64() {
        return match remaining.as_u64() {
            Some(missing) => format!(
                "{missing} recovery secrets are missing to go on with these {records} records and lose what came after: \
                 bailey recover --accept-loss {records}"
            ),
            None => "nobody can accept the loss: there are no recovery keys".into(),
        };
    }
    match remaining.as_u64() {
        Some(1) => "1 recovery secret is missing: bailey recover".into(),
        Some(missing) => format!("{missing} recovery secrets are missing: bailey recover"),
        None => "nobody can recover it: its manifest named no recovery keys".into(),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    #[test]
    fn states_are_told_apart() {
        assert_eq!(super::state(&json!({ "code": 1 })), "recovery");
        assert_eq!(super::state(&json!({})), "unknown state");
        assert_eq!(super::state(&json!({ "code": 1, "unfit": {} })), "serving nothing");
        let recovery = json!(null);
        assert!(super::missing(&json!(2), &recovery).starts_with("2 recovery secrets"));
        assert!(super::missing(&json!(null), &recovery).starts_with("nobody"));
        assert!(super::missing(&json!(2), &json!(7)).ends_with("bailey recover --accept-loss 7"));
        assert!(super::missing(&json!(null), &json!(7)).starts_with("nobody"));
        assert!(super::anchors(&json!([])).starts_with("none"));
        assert_eq!(super::anchors(&json!([{ "kind": "tpm-nv", "key": "ab" }])), "tpm-nv (key ab)");
    }
}

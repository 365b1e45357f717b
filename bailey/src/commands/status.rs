//! `bailey status`.

use clap::Args;
use serde_json::Value;

use crate::{
    commands::{print_json, remote::Remote},
    failure::Outcome,
};

/// What state a coordinator is in.
#[derive(Args)]
pub struct Status {
    #[command(flatten)]
    remote: Remote,
    /// For a program
    #[arg(long)]
    json: bool,
}

impl Status {
    /// Runs the command.
    pub async fn run(self) -> Outcome {
        let data = self.remote.client(None)?.get("/api/v2/status").await?;
        if self.json {
            return print_json(&data);
        }
        crate::say!("{}: {}", state(&data), data["message"].as_str().unwrap_or("no message"));
        if data["code"] == 1 {
            crate::say!("{}", missing(&data["missingRecoverySecrets"]));
        }
        Ok(())
    }
}

/// MarbleRun's numbers, in words.
fn state(data: &Value) -> &'static str {
    match data["code"].as_u64() {
        Some(1) => "recovery",
        Some(2) => "accepting manifest",
        Some(3) => "running",
        _ => "unknown state",
    }
}

fn missing(remaining: &Value) -> String {
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
        assert!(super::missing(&json!(2)).starts_with("2 recovery secrets"));
        assert!(super::missing(&json!(null)).starts_with("nobody"));
    }
}

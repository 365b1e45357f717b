//! `bailey evict`: what could a lost node have read; and then it is sent away, and exactly that is rotated.

use std::io::{IsTerminal, Write};

use clap::Args;
use serde_json::{Value, json};

use crate::{
    client::Client,
    commands::{
        instances::text,
        print_json,
        remote::{Person, Remote},
    },
    failure::{Failure, Outcome},
};

/// Names what a lost instance, or everything on a lost machine, could have read. Then, if you say so, it never joins
/// again, its certificates count no more, and the generated secrets that it has are rotated.
#[derive(Args)]
pub struct Evict {
    /// The instance, as `bailey instances` lists it; the first 8 digits are enough where they are its alone
    #[arg(required_unless_present = "platform", conflicts_with = "platform")]
    instance: Option<String>,
    /// Everything on this machine instead, now and ever: as `bailey instances` lists it
    #[arg(long, value_name = "MACHINE")]
    platform: Option<String>,
    /// Deliver uploaded secrets that it could have read to nobody until their users replace them
    #[arg(long)]
    withhold: bool,
    /// Do it without asking
    #[arg(long, conflicts_with = "dry_run")]
    yes: bool,
    /// Only say what would be done
    #[arg(long)]
    dry_run: bool,
    /// For a program; does only what --yes says
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    remote: Remote,
    #[command(flatten)]
    person: Person,
}

impl Evict {
    /// Runs the command.
    pub async fn run(self) -> Outcome {
        let client = self.remote.client(Some(&self.person))?;
        let mut request = match (&self.instance, &self.platform) {
            (_, Some(machine)) => json!({ "machine": machine }),
            (instance, None) => {
                json!({ "instance": whole(&client, instance.as_deref().unwrap_or_default()).await? })
            }
        };
        request["withhold"] = json!(self.withhold);
        request["dryRun"] = json!(true);
        if !self.yes {
            let data = client.post("/api/v3/evictions", &request).await?;
            if self.json {
                return print_json(&data);
            }
            told(&data["found"], self.withhold, false);
            if self.dry_run || !confirmed()? {
                crate::say!("Nothing was done.");
                return Ok(());
            }
        }
        request["dryRun"] = json!(false);
        let data = client.post("/api/v3/evictions", &request).await?;
        if self.json {
            return print_json(&data);
        }
        told(&data["found"], self.withhold, true);
        crate::say!("Evicted. Marbles that run have the old values until they are activated again.");
        Ok(())
    }
}

/// The instance that begins like this.
async fn whole(client: &Client, digits: &str) -> Outcome<String> {
    if digits.len() == 64 {
        return Ok(digits.to_owned());
    }
    let hex = digits.len() >= 8 && digits.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'));
    if !hex {
        return Err(Failure::malformed(format!("{digits:?} is no instance: at least 8 hexadecimal digits"))
            .hint("a machine is named with --platform"));
    }
    let data = client.get("/api/v3/instances").await?;
    let known = data["instances"].as_array().into_iter().flatten().map(|line| text(line, "instance"));
    let fitting: Vec<_> = known.filter(|instance| instance.starts_with(digits)).collect();
    match fitting.as_slice() {
        [one] => Ok((*one).to_owned()),
        [] => Err(Failure::refused(format!("no instance that runs begins with {digits}"))),
        several => Err(Failure::refused(format!("{} instances begin with {digits}", several.len()))),
    }
}

/// A person at a terminal says yes; nobody else can.
fn confirmed() -> Outcome<bool> {
    if !std::io::stdin().is_terminal() {
        return Ok(false);
    }
    crate::output::write(format_args!("Evict? Type `yes`: "));
    let _ = std::io::stdout().flush();
    let mut line = String::new();
    std::io::stdin().read_line(&mut line).map_err(anyhow::Error::from)?;
    Ok(line.trim() == "yes")
}

fn told(found: &Value, withhold: bool, done: bool) {
    let list = |field: &str| found[field].as_array().cloned().unwrap_or_default();
    if let Some(machine) = found["machine"].as_str() {
        crate::say!("Machine {machine}: nothing joins from there again");
    }
    for line in list("instances") {
        crate::say!("Instance {} of Marble {}", text(&line, "instance"), text(&line, "marble"));
    }
    match found["certificates"].as_u64() {
        Some(1) => crate::say!("  1 certificate counts no more"),
        count => crate::say!("  {} certificates count no more", count.unwrap_or(0)),
    }
    let secrets = list("secrets");
    if secrets.is_empty() {
        crate::say!("It had no secrets.");
    } else {
        crate::say!("It could have read:");
    }
    for secret in secrets {
        crate::say!("  {}", fate(&secret, withhold, done));
    }
}

/// What becomes of a secret.
fn fate(secret: &Value, withhold: bool, done: bool) -> String {
    let versions: Vec<_> =
        secret["versions"].as_array().into_iter().flatten().map(ToString::to_string).collect();
    let read = if versions.is_empty() { String::new() } else { format!(" v{}", versions.join(", v")) };
    let what = match (text(secret, "fate"), done) {
        ("rotated", true) => format!("rotated to v{}", secret["to"]),
        ("rotated", false) => format!("would be rotated to v{}", secret["to"]),
        ("superseded", _) => format!("v{} is newer: not rotated again", secret["by"]),
        ("mustBeReplaced", _) if withhold => {
            "user-defined: a person must upload a new value, delivered to nobody until then".into()
        }
        ("mustBeReplaced", _) => "user-defined: a person must upload a new value".into(),
        ("inStore", _) => "in a store outside: a person must replace it there".into(),
        ("own", _) => "its own: nobody gets this value again".into(),
        (other, _) => other.to_owned(),
    };
    format!("{}{read} ({}): {what}", text(secret, "name"), text(secret, "kind"))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    #[test]
    fn fates_in_words() {
        let secret = |fate: &str, withhold, done| {
            let secret = json!({ "name": "salt", "kind": "plain", "versions": [1, 2], "fate": fate, "to": 3, "by": 4 });
            super::fate(&secret, withhold, done)
        };
        assert_eq!(secret("rotated", false, true), "salt v1, v2 (plain): rotated to v3");
        assert!(secret("rotated", false, false).contains("would be"));
        assert!(secret("superseded", false, true).contains("v4 is newer"));
        assert_ne!(secret("mustBeReplaced", true, true), secret("mustBeReplaced", false, true));
        assert!(secret("own", false, true).contains("nobody"));
    }
}

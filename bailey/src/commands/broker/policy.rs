//! `bailey broker policy`: which guests are given what, and dry runs.

use std::path::{Path, PathBuf};

use clap::{ArgGroup, Args, Subcommand};
use manifest::ResourcePath;
use serde_json::{Value, json};

use super::{
    Look, finding, joined, list,
    resource::{path, read},
};
use crate::{
    commands::{
        instances::text,
        print_json,
        remote::{Person, Remote},
    },
    failure::{Failure, Input, Outcome},
};

#[derive(Subcommand)]
pub enum Command {
    /// List the release policies of the manifest in force
    List(Look),
    /// Show one of them
    Show(Show),
    /// Try a policy on a guest, without releasing anything
    Check(Box<Check>),
}

/// All that it asks.
#[derive(Args)]
pub struct Show {
    /// Its name
    name: String,
    #[command(flatten)]
    look: Look,
}

/// A policy in force, or one that you have in a file; on a session that the broker remembers, on Evidence as a guest
/// sent it, or on a guest as it could be. Exit code 1 where it would not be released.
#[derive(Args)]
#[command(group(ArgGroup::new("tried").args(["policy", "policy_file", "rego"])))]
#[command(group(ArgGroup::new("guest").args(["session", "evidence", "said"]).required(true)))]
pub struct Check {
    /// What the guest asks for: repository/kind/tag
    #[arg(value_parser = path)]
    resource: ResourcePath,
    /// This policy of the manifest in force, instead of the one that the resource has
    #[arg(long, value_name = "NAME")]
    policy: Option<String>,
    /// A policy as in a manifest, JSON
    #[arg(long, value_name = "FILE")]
    policy_file: Option<PathBuf>,
    /// A policy in Rego alone, such as one of Trustee's
    #[arg(long, value_name = "FILE")]
    rego: Option<PathBuf>,
    /// A session, as `bailey broker sessions` prints it
    #[arg(long, value_name = "SESSION")]
    session: Option<String>,
    /// What a guest sent, JSON: {"version": "0.4.0", "tee": "snp", "attestation": {…}}
    #[arg(long, value_name = "FILE")]
    evidence: Option<PathBuf>,
    /// A guest as it could be, JSON: {"platform": "snp", "packages": ["kata"], "claims": {…}}
    #[arg(long = "guest", value_name = "FILE")]
    said: Option<PathBuf>,
    /// For a program
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    remote: Remote,
    #[command(flatten)]
    person: Person,
}

impl Command {
    pub async fn run(self) -> Outcome {
        match self {
            Self::List(look) => {
                let policies = policies(&look).await?;
                if look.json {
                    return print_json(&policies);
                }
                for policy in list(&policies) {
                    let (name, resources) = (text(policy, "name"), joined(&policy["resources"]));
                    crate::say!("{name}  packages {}; releases {resources}", joined(&policy["packages"]));
                }
                Ok(())
            }
            Self::Show(show) => show.run().await,
            Self::Check(check) => check.run().await,
        }
    }
}

async fn policies(look: &Look) -> Outcome<Value> {
    Ok(look.get("/api/v3/broker/policies").await?["policies"].take())
}

impl Show {
    async fn run(self) -> Outcome {
        let policies = policies(&self.look).await?;
        let policy = list(&policies).find(|policy| text(policy, "name") == self.name);
        let policy = policy.ok_or_else(|| {
            let known: Vec<_> = list(&policies).map(|policy| text(policy, "name")).collect();
            Failure::refused(format!("there is no release policy {:?}", self.name))
                .hint(format!("known here: {}", known.join(", ")))
        })?;
        if self.look.json {
            return print_json(policy);
        }
        let or_any = |field: &str| match &policy[field] {
            Value::Null => "any".to_owned(),
            items => joined(items),
        };
        crate::say!("releases   {}", joined(&policy["resources"]));
        crate::say!("packages   {}", joined(&policy["packages"]));
        crate::say!("platforms  {}", or_any("platforms"));
        crate::say!("init-data  {}", or_any("initData"));
        let epochs = &policy["epochs"];
        match (epochs["from"].as_u64(), epochs["to"].as_u64()) {
            (Some(from), Some(to)) => crate::say!("epochs     {from} to {to}"),
            (Some(from), None) => crate::say!("epochs     from {from} on"),
            _ => crate::say!("epochs     any"),
        }
        let emulated = if policy["emulated"] == true { "accepted, for tests" } else { "refused" };
        crate::say!("emulated   {emulated}");
        if let Some(rego) = policy["rego"].as_str() {
            crate::say!("rego\n{}", rego.trim());
        }
        Ok(())
    }
}

fn document(file: &Path) -> Outcome<Value> {
    serde_json::from_slice(&read(file)?).malformed(format!("{} is not JSON", file.display()))
}

impl Check {
    async fn run(self) -> Outcome {
        let policy = match (&self.policy, &self.policy_file, &self.rego) {
            (Some(name), _, _) => json!({ "named": name }),
            (_, Some(file), _) => json!({ "given": document(file)? }),
            (_, _, Some(file)) => {
                let text = String::from_utf8(read(file)?.to_vec());
                json!({ "rego": text.malformed(format!("{} is no text", file.display()))? })
            }
            _ => json!({ "inForce": {} }),
        };
        let guest = match (&self.session, &self.evidence, &self.said) {
            (Some(session), _, _) => json!({ "session": session }),
            (_, Some(file), _) => json!({ "recorded": document(file)? }),
            (_, _, Some(file)) => json!({ "said": document(file)? }),
            _ => return Err(Failure::malformed("say on whom: --session, --evidence or --guest")),
        };
        let body = json!({ "resource": self.resource, "policy": policy, "guest": guest });
        let data =
            self.remote.client(Some(&self.person))?.post("/api/v3/broker/policies/check", &body).await?;
        if self.json {
            print_json(&data)?;
        } else {
            told(&data);
        }
        if data["released"] == true {
            return Ok(());
        }
        Err(Failure::refused("it would not be released"))
    }
}

fn told(data: &Value) {
    let attested = &data["attested"];
    if attested.is_object() {
        crate::say!("the guest would not attest: {}", joined(&attested["codes"]));
        crate::say!("{}", text(attested, "reason"));
        return;
    }
    if let Some(packages) = data["guest"].get("packages") {
        crate::say!("the guest is {}", joined(packages));
    }
    crate::say!("{}", finding(data));
    if data["released"] == true {
        crate::say!("it would be released");
    }
}

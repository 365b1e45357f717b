//! The rules of a database: check and plan a manifest, propose another one or rows as they were, approve or reject it.

use std::{
    collections::BTreeSet,
    path::{Path, PathBuf},
};

use anyhow::Context;
use clap::Args;
use database_manifest::{
    Digest, InForce, Manifest, Migration, PartyName, Plan, Point, Proposal, ProposalState, ProposalStatus,
    Restoration,
};
use serde_json::{Value, json};

use super::remote::Remote;
use crate::{
    commands::print_json,
    failure::{Failure, Input, Outcome},
};

/// `bailey database check`.
#[derive(Args)]
pub struct Check {
    /// The manifest, JSON or YAML
    file: PathBuf,
    /// For a program
    #[arg(long)]
    json: bool,
}

impl Check {
    pub fn run(self) -> Outcome {
        let bytes = read(&self.file)?;
        match Manifest::parse(&bytes) {
            Ok(manifest) if self.json => {
                print_json(&json!({"Digest": Digest(manifest.digest), "Faults": []}))
            }
            Ok(manifest) => {
                crate::say!("no faults; digest {}", Digest(manifest.digest));
                Ok(())
            }
            Err(faults) if self.json => {
                print_json(&json!({"Digest": null, "Faults": faults.all()}))?;
                Err(Failure::malformed("the manifest has faults"))
            }
            Err(faults) => Err(Failure::malformed(faults)),
        }
    }
}

/// How one gets from one manifest to another.
#[derive(Args)]
struct Way {
    /// SQL that leads from one schema to the other
    #[arg(long, value_name = "FILE")]
    migration: Option<PathBuf>,
    /// A party whose rows are deleted; may be given again
    #[arg(long, value_name = "PARTY")]
    erase: Vec<String>,
}

impl Way {
    fn migration(&self) -> Outcome<String> {
        let Some(path) = &self.migration else { return Ok(String::new()) };
        std::fs::read_to_string(path).malformed(format!("{} cannot be read", path.display()))
    }
}

/// `bailey database plan`.
#[derive(Args)]
pub struct PlanOf {
    /// The manifest, JSON or YAML
    file: PathBuf,
    /// The manifest in force; without it, all that the manifest gives to whom
    #[arg(long, value_name = "FILE")]
    from: Option<PathBuf>,
    #[command(flatten)]
    way: Way,
    /// For a program
    #[arg(long)]
    json: bool,
}

impl PlanOf {
    pub fn run(self) -> Outcome {
        let new = manifest(&self.file)?;
        let old = self.from.as_deref().map(manifest).transpose()?;
        let proposal = Proposal {
            base: Digest(old.as_ref().map_or([0; 32], |old| old.digest)),
            manifest: String::new(),
            migration: self.way.migration()?,
            erase: self.way.erase,
            restore: None,
        };
        if old.is_none() && !(proposal.migration.is_empty() && proposal.erase.is_empty()) {
            return Err(Failure::malformed(
                "--migration and --erase need --from: there is nothing to change",
            ));
        }
        let plan = match &old {
            Some(old) => plan_of(old, &new, &proposal)?,
            None => Plan::between(None, &new, &Migration::default(), &BTreeSet::new()),
        };
        if self.json { print_json(&words(&plan)) } else { shown(&plan) }
    }
}

/// `bailey database manifest`.
#[derive(Args)]
pub struct Get {
    #[command(flatten)]
    remote: Remote,
    /// Epoch and digests too, for a program
    #[arg(long)]
    json: bool,
}

impl Get {
    pub async fn run(self) -> Outcome {
        let now = in_force(&self.remote.client()?).await?.0;
        if self.json {
            return print_json(&now);
        }
        crate::output::write(format_args!("{}", now.manifest));
        Ok(())
    }
}

/// Rows as they were.
#[derive(Args)]
#[group(id = "past")]
struct Before {
    /// Tables whose rows become again what they were; `all` is every table of the manifest in force
    #[arg(long, value_name = "TABLE,…", value_delimiter = ',', conflicts_with_all = ["file", "migration", "erase"])]
    restore: Vec<String>,
    /// As of this time by the database's clock, such as 2026-11-22T05:00:00Z
    #[arg(long, value_name = "TIME", requires = "restore", conflicts_with = "record")]
    at: Option<String>,
    /// As of this record of its log, which Evidence and receipts name
    #[arg(long, value_name = "NUMBER", requires = "restore")]
    record: Option<u64>,
}

impl Before {
    fn proposal(self, base: Digest, old: &Manifest) -> Outcome<Proposal> {
        let to = match (self.at, self.record) {
            (Some(time), _) => Point::Time(time),
            (None, Some(record)) => Point::Record(record),
            (None, None) => return Err(Failure::malformed("--restore needs --at TIME or --record NUMBER")),
        };
        let (manifest, migration) = (String::new(), String::new());
        // No table has this name: SQL has it as a word of its own.
        let restore = match self.restore.as_slice() {
            [all] if all == "all" => Restoration::of_all(old, to),
            _ => Restoration { tables: self.restore, to },
        };
        Ok(Proposal { base, manifest, migration, erase: Vec::new(), restore: Some(restore) })
    }
}

/// `bailey database propose`.
#[derive(Args)]
pub struct Propose {
    /// The new manifest, JSON or YAML
    #[arg(required_unless_present = "restore")]
    file: Option<PathBuf>,
    #[command(flatten)]
    way: Way,
    #[command(flatten)]
    before: Before,
    #[command(flatten)]
    remote: Remote,
    /// For a program
    #[arg(long)]
    json: bool,
}

impl Propose {
    pub async fn run(self) -> Outcome {
        let new = self.file.as_deref().map(manifest).transpose()?;
        let client = self.remote.party()?;
        let (now, old) = in_force(&client).await?;
        let proposal = match &new {
            None => self.before.proposal(now.digest, &old)?,
            Some(new) => Proposal {
                base: now.digest,
                manifest: String::from_utf8(new.text.to_vec()).malformed("the manifest is not UTF-8")?,
                migration: self.way.migration()?,
                erase: self.way.erase,
                restore: None,
            },
        };
        let plan = understood(&old, &proposal)?;
        let answer = client.post("/v1/proposals", &value(&proposal)?).await?;
        let status = status(answer, &proposal.digest())?;
        if self.json {
            return print_json(&status);
        }
        shown(&plan)?;
        counted(&status);
        crate::say!("proposed: {}", status.proposal);
        crate::say!("Approvers look at it with: bailey database proposals {}", status.proposal);
        Ok(())
    }
}

/// `bailey database approve` and `reject`.
#[derive(Args)]
pub struct Decide {
    /// The proposal, as `bailey database propose` printed it
    proposal: Digest,
    #[command(flatten)]
    remote: Remote,
    /// For a program
    #[arg(long)]
    json: bool,
}

impl Decide {
    pub async fn run(self, word: &str) -> Outcome {
        let client = self.remote.party()?;
        let digest = self.proposal;
        let before = status(client.get(&format!("/v1/proposals/{digest}")).await?, &digest)?;
        // What the word is given to is computed here, from what the database shows under that digest.
        let plan = match before.state {
            ProposalState::Pending => Some(understood(&in_force(&client).await?.1, &before.content)?),
            _ => None,
        };
        let answer = client.post(&format!("/v1/proposals/{digest}/{word}"), &Value::Null).await?;
        let after = status(answer, &digest)?;
        if self.json {
            return print_json(&after);
        }
        plan.iter().try_for_each(shown)?;
        counted(&before);
        told(&after);
        Ok(())
    }
}

/// `bailey database proposals`.
#[derive(Args)]
pub struct Proposals {
    /// One of them, with all that it contains
    proposal: Option<Digest>,
    #[command(flatten)]
    remote: Remote,
    /// For a program
    #[arg(long)]
    json: bool,
}

impl Proposals {
    pub async fn run(self) -> Outcome {
        let client = self.remote.party()?;
        let Some(digest) = self.proposal else {
            let answer = client.get("/v1/proposals").await?;
            let all: Vec<ProposalStatus> = serde_json::from_value(answer)
                .malformed("the database's list of proposals cannot be read")?;
            if self.json {
                return print_json(&all);
            }
            if all.is_empty() {
                crate::say!("there are no proposals");
            }
            all.iter().for_each(told);
            return Ok(());
        };
        let found = status(client.get(&format!("/v1/proposals/{digest}")).await?, &digest)?;
        if self.json {
            return print_json(&found);
        }
        let Proposal { base, manifest, migration, erase, restore } = &found.content;
        told(&found);
        crate::say!("from manifest {base}");
        if found.state == ProposalState::Pending {
            shown(&understood(&in_force(&client).await?.1, &found.content)?)?;
        }
        counted(&found);
        if restore.is_some() {
            return Ok(());
        }
        for party in erase {
            crate::say!("\nAll rows of {party} would be deleted.");
        }
        if !migration.is_empty() {
            crate::say!("\nMigration:\n{migration}");
        }
        crate::say!("\nManifest:\n{manifest}");
        Ok(())
    }
}

fn read(path: &Path) -> Outcome<Vec<u8>> {
    std::fs::read(path).malformed(format!("{} cannot be read", path.display()))
}

fn manifest(path: &Path) -> Outcome<Manifest> {
    Manifest::parse(&read(path)?).malformed(path.display())
}

fn value(it: &impl serde::Serialize) -> Outcome<Value> {
    Ok(serde_json::to_value(it).context("a request could not be written")?)
}

/// The manifest in force, which must be the one that its digest names.
async fn in_force(client: &crate::database::Client) -> Outcome<(InForce, Manifest)> {
    let answer = client.get("/v1/manifest").await?;
    let now: InForce = serde_json::from_value(answer).malformed("the database's manifest cannot be read")?;
    let manifest = Manifest::parse(now.manifest.as_bytes()).malformed("the manifest in force")?;
    if Digest(manifest.digest) != now.digest {
        return Err(Failure::malformed("the database names another digest than its manifest has"));
    }
    Ok((now, manifest))
}

/// A status of that proposal, whose content has that digest.
fn status(answer: Value, expected: &Digest) -> Outcome<ProposalStatus> {
    let status: ProposalStatus =
        serde_json::from_value(answer).malformed("the database's answer cannot be read")?;
    if status.content.digest() != *expected || status.proposal != *expected {
        return Err(Failure::refused("the database shows another proposal under this digest"));
    }
    Ok(status)
}

/// What a proposal means, as we read it.
fn understood(old: &Manifest, proposal: &Proposal) -> Outcome<Plan> {
    if let Some(restoration) = proposal.restoration().malformed("the proposal")? {
        return Plan::of_restoration(old, restoration).malformed("the proposal");
    }
    let new = Manifest::parse(proposal.manifest.as_bytes()).malformed("the proposed manifest")?;
    plan_of(old, &new, proposal)
}

fn plan_of(old: &Manifest, new: &Manifest, proposal: &Proposal) -> Outcome<Plan> {
    let migration = Migration::read(&proposal.migration, old).malformed("the migration is refused")?;
    let party = |name: &String| {
        PartyName::new(name).ok_or_else(|| Failure::malformed(format!("{name:?} is no name of a party")))
    };
    let erase = proposal.erase.iter().map(party).collect::<Outcome<_>>()?;
    Ok(Plan::between(Some(old), new, &migration, &erase))
}

fn shown(plan: &Plan) -> Outcome {
    crate::output::write(format_args!("{plan}"));
    Ok(())
}

/// Rows, as far as who asks may know of them.
fn counted(status: &ProposalStatus) {
    for (table, rows) in &status.rows {
        crate::say!("{table}: {} rows when it was proposed, {} then", rows.now, rows.then);
    }
}

fn words(plan: &Plan) -> Value {
    let changes: Vec<_> = plan
        .changes
        .iter()
        .map(|change| json!({"Effect": change.effect, "Subject": change.subject, "Words": change.words}))
        .collect();
    let required: serde_json::Map<_, _> =
        plan.required.iter().map(|(party, why)| (party.to_string(), json!(why))).collect();
    json!({
        "From": plan.from.map(Digest),
        "To": Digest(plan.to),
        "Changes": changes,
        "Threshold": plan.threshold,
        "Approvers": plan.approvers.iter().map(PartyName::as_str).collect::<Vec<_>>(),
        "Required": required,
        "Obstacles": plan.obstacles,
    })
}

fn told(status: &ProposalStatus) {
    let list = |names: &BTreeSet<String>| names.iter().map(String::as_str).collect::<Vec<_>>().join(", ");
    let mut line = format!("{} {}, by {}", status.proposal, status.state, status.proposer);
    for (word, names) in [("for it", &status.approved), ("against it", &status.rejected)] {
        if !names.is_empty() {
            line.push_str(&format!("; {word}: {}", list(names)));
        }
    }
    crate::say!("{line}");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn another_proposal_under_the_digest_is_refused() {
        let content = Proposal {
            base: Digest([1; 32]),
            manifest: "a".into(),
            migration: String::new(),
            erase: Vec::new(),
            restore: None,
        };
        let digest = content.digest();
        let shown = ProposalStatus {
            proposal: digest,
            state: ProposalState::Pending,
            manifest: Digest([2; 32]),
            proposer: "c".into(),
            expires: 0,
            approved: BTreeSet::new(),
            rejected: BTreeSet::new(),
            plan: None,
            rows: std::collections::BTreeMap::new(),
            content,
        };
        let answer = |status: &ProposalStatus| serde_json::to_value(status).unwrap();
        assert!(status(answer(&shown), &digest).is_ok());
        let content = Proposal { migration: "DELETE FROM t".into(), ..shown.content.clone() };
        assert!(status(answer(&ProposalStatus { content, ..shown.clone() }), &digest).is_err());
        assert!(status(answer(&ProposalStatus { proposal: Digest([3; 32]), ..shown }), &digest).is_err());
    }
}

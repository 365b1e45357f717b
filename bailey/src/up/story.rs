//! The whole way from a folder to a serving mesh, told step by step.

use std::{collections::BTreeMap, fs, net::SocketAddr, path::Path};

use ::manifest::Manifest;
use anyhow::Context;
use attested_tls::service::UserIdentity;
use aws_lc_rs::digest::{SHA256, digest};
use evidence::Platform;
use host::Restart;

use super::{
    CoordinatorPlan, Deployment, Facts, Keep, KeepOutcome, Machine, Mesh, Programs, Serving, free_address,
};
use crate::{
    client::Verified,
    commands::{manifest, secret},
    failure::{Failure, Input, Outcome},
    identity,
    output::PrivateFile,
};

/// Hears what was done, and what that proves.
pub trait Observer {
    /// A step begins that may take a moment.
    fn begins(&mut self, title: &str);
    /// It is done.
    fn done(&mut self, title: &str, proven: &str);
}

/// A mesh that is up.
pub struct Up {
    /// Platform and host agent.
    pub machine: Machine,
    /// The coordinator.
    pub mesh: Mesh,
    /// What the coordinator proved before it had a manifest.
    pub verified: Verified,
    /// Who set the manifest.
    pub owner: UserIdentity,
    /// The users' identities.
    pub users: BTreeMap<String, UserIdentity>,
    /// The manifest in force, exact bytes.
    pub manifest: Vec<u8>,
    /// The Keeps, in the order of their start.
    pub keeps: Vec<RunningKeep>,
    /// Where guests that are no Marbles attest; nowhere without a broker in the manifest.
    pub broker: Option<SocketAddr>,
}

/// A Keep that serves.
pub struct RunningKeep {
    /// The process.
    pub name: String,
    /// The Marble.
    pub marble: String,
    /// The TEE.
    pub platform: Platform,
    /// Where, and how fast.
    pub serving: Serving,
}

impl Up {
    /// Starts everything that `deployment` says below `folder`.
    pub async fn start(
        deployment: &Deployment,
        folder: &Path,
        programs: Programs,
        observer: &mut dyn Observer,
    ) -> Outcome<Self> {
        let people = folder.join("people");
        let owner = identity::create(&people, "owner")?;
        let mut users = BTreeMap::new();
        for name in deployment.users.keys() {
            users.insert(name.clone(), identity::create(&people, name)?);
        }

        observer.begins("platform");
        let machine = Machine::start(folder, programs)?;
        observer.done("platform", "an emulated TEE platform with its own roots, and an untrusted host agent");

        observer.begins("coordinator");
        let manifest = render(deployment, &machine, &users)?;
        let plan = &brokering(&deployment.coordinator, &manifest)?;
        let (mesh, verified) =
            Mesh::found(&machine, "coordinator", plan, identity::key_digest(&owner)?).await?;
        let text = format!("launched on emulated {}, root CA made, state sealed", plan.platform);
        observer.done("coordinator", &text);
        let text =
            "its Evidence covers this connection's key, the nonce and the root CA, which is now pinned";
        observer.done("verified", text);

        let client = mesh.client(Some(&owner))?;
        let answer = manifest::set(&client, &manifest).await?;
        let digest = hex::encode(digest(&SHA256, &manifest));
        observer.done(
            "manifest",
            &format!(
                "set by the owner whom the coordinator's measured configuration names; sha256 {}…",
                &digest[..16]
            ),
        );

        if let Some(broker) = plan.broker {
            observer.done("broker", &format!("guests attest at https://{broker}/kbs/v0"));
        }

        if let Some(secrets) = manifest::recovery_secrets(&answer["RecoverySecrets"])? {
            let path = folder.join("recovery-secrets.json");
            PrivateFile::create(&path)?.fill(secrets.as_bytes())?;
            let text = format!("each holder's secret, encrypted to the holder's key: {}", path.display());
            observer.done("recovery", &text);
        }

        for (name, user) in &deployment.users {
            let client = mesh.client(users.get(name))?;
            for (secret, value) in &user.secrets {
                secret::set(&client, secret, value.as_bytes()).await?;
                observer.done(
                    "secret",
                    &format!("{secret} uploaded by user {name}, whom the manifest lets write it"),
                );
            }
        }

        let mut up =
            Self { machine, mesh, verified, owner, users, manifest, keeps: Vec::new(), broker: plan.broker };
        for (name, plan) in &deployment.keeps {
            observer.begins(name);
            let running = up.launch(name, plan).await?;
            let text = format!(
                "Marble {} on emulated {}: attested and admitted, certificate for its own key, workload's digest as in the manifest; serving after {} ms",
                running.marble,
                running.platform,
                running.serving.took.as_millis()
            );
            observer.done("keep", &text);
            up.keeps.push(running);
        }
        Ok(up)
    }

    async fn launch(&self, name: &str, plan: &super::KeepPlan) -> Outcome<RunningKeep> {
        let peers = plan
            .peers
            .iter()
            .filter_map(|peer| self.keeps.iter().find(|keep| &keep.name == peer))
            .map(|keep| (keep.marble.clone(), keep.serving.address))
            .collect();
        let keep = Keep {
            name: name.to_owned(),
            plan: plan.clone(),
            program: None,
            peers,
            restart: Restart::Always,
        };
        match self.mesh.launch(&self.machine, &keep).await? {
            KeepOutcome::Serving(serving) => Ok(RunningKeep {
                name: name.to_owned(),
                marble: plan.marble.clone().unwrap_or_else(|| name.to_owned()),
                platform: plan.platform,
                serving,
            }),
            KeepOutcome::Refused { codes, reason } => Err(Failure::refused(format!(
                "Keep {name} was not admitted: {reason} [{}]",
                codes.join(", ")
            ))),
        }
    }

    /// The Keep of a name.
    pub fn keep(&self, name: &str) -> Option<&RunningKeep> {
        self.keeps.iter().find(|keep| keep.name == name)
    }
}

/// Where the manifest has a broker, it is served, also where `bailey.toml` does not say at which address.
fn brokering(plan: &CoordinatorPlan, manifest: &[u8]) -> Outcome<CoordinatorPlan> {
    let wanted = Manifest::parse(manifest).is_ok_and(|manifest| manifest.broker().is_some());
    let broker = match plan.broker {
        None if wanted => Some(free_address().context("no address is free on this machine")?),
        as_planned => as_planned,
    };
    Ok(CoordinatorPlan { broker, ..plan.clone() })
}

/// The manifest of a deployment with everything filled in that is known once things are built.
pub fn render(
    deployment: &Deployment,
    machine: &Machine,
    users: &BTreeMap<String, UserIdentity>,
) -> Outcome<Vec<u8>> {
    let template = fs::read_to_string(&deployment.manifest)
        .malformed(format!("{} cannot be read", deployment.manifest.display()))?;
    let facts = facts(deployment, machine, users)?;
    let manifest = facts.fill(&template)?.into_bytes();
    manifest::check_bytes(&deployment.manifest, &manifest)?;
    Ok(manifest)
}

fn facts(
    deployment: &Deployment,
    machine: &Machine,
    users: &BTreeMap<String, UserIdentity>,
) -> anyhow::Result<Facts> {
    let mut facts = Facts::default();
    for program in ["bailey-keep", "bailey-guest"] {
        for value in machine.programs().measure(program, None)? {
            let digest = value.measurement.context("a program without measurement")?.to_string();
            facts.insert(format!("measurement.{program}.{}", value.platform), &digest);
        }
    }
    for platform in Platform::KEEPS {
        facts.insert(format!("root.{platform}"), &machine.root_pem(platform)?);
    }
    for (name, keep) in deployment.keeps.iter().filter(|(_, keep)| keep.package.is_none()) {
        let component = fs::read(&keep.workload)
            .with_context(|| format!("{} cannot be read", keep.workload.display()))?;
        facts.insert(
            format!("workload.{name}"),
            &format!("sha256:{}", hex::encode(digest(&SHA256, &component))),
        );
    }
    for (name, user) in users {
        let leaf = user.chain.first().context("a user without certificate")?;
        let pem = evidence::pem::encode(&evidence::CertificateDer(leaf.to_vec()));
        facts.insert(format!("certificate.{name}"), &pem);
    }
    Ok(facts)
}

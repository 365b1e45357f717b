//! The mesh of a database on this machine: a coordinator, verified, under a manifest that has the database as its Marble.

use std::{
    fs,
    path::{Path, PathBuf},
};

use anyhow::Context;
use attested_tls::{
    claims::CoordinatorMode,
    key::sha256,
    launch::{CoordinatorRequirements, KeepConfiguration},
};
use evidence::Platform;
use serde::Deserialize;

use super::{CoordinatorPlan, Facts, Machine, Mesh};
use crate::{
    commands::manifest,
    failure::{Input, Outcome},
    identity,
};

/// What a database's folder says of its mesh. Nobody trusts it.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct MeshPlan {
    /// The template of the mesh's manifest: `${measurement.bailey-database.PLATFORM}`, `${root.PLATFORM}` and
    /// `${database.manifest}` are filled in.
    pub manifest: PathBuf,
    /// The Marble that the database is to be.
    pub marble: String,
    /// As what kind of TEE the coordinator runs.
    pub platform: Platform,
}

/// A mesh that has a database as its Marble.
pub struct Ledger {
    /// What fixes in the database's launch configuration that it is this Marble.
    pub configuration: KeepConfiguration,
    /// Where the coordinator's mesh API is.
    pub address: String,
    /// SHA-256 of the mesh's root.
    pub root: [u8; 32],
}

impl Ledger {
    /// Starts the coordinator below `folder`, or goes on with the one that an earlier start left there. Its root is
    /// written to `mesh-root.pem`, its owner's key to `people`.
    pub async fn start(plan: &MeshPlan, machine: &Machine, folder: &Path, first: [u8; 32]) -> Outcome<Self> {
        let people = folder.join("people");
        let owner = match people.join("owner.pem").exists() {
            true => identity::load(&people.join("owner.pem"), &people.join("owner.key"))?,
            false => identity::create(&people, "owner")?,
        };
        let coordinator = CoordinatorPlan {
            platform: plan.platform,
            names: vec!["localhost".into(), "127.0.0.1".into()],
            listen: None,
            mesh: None,
            marbles: None,
            metrics: None,
            broker: None,
            tpm: None,
            etcd: None,
        };
        let digest = identity::key_digest(&owner)?;
        let (mesh, verified) = Mesh::found(machine, "coordinator", &coordinator, digest).await?;
        if verified.claims.mode == CoordinatorMode::AcceptingManifest {
            let template = fs::read_to_string(&plan.manifest)
                .malformed(format!("{} cannot be read", plan.manifest.display()))?;
            let text = facts(machine, first)?.fill(&template)?.into_bytes();
            manifest::check_bytes(&plan.manifest, &text)?;
            manifest::set(&mesh.client(Some(&owner))?, &text).await?;
        }
        let root = evidence::pem::encode(&evidence::CertificateDer(mesh.root().to_vec()));
        fs::write(folder.join("mesh-root.pem"), root).context("the mesh's root cannot be written")?;
        let required = mesh.requirements();
        let coordinator = CoordinatorRequirements {
            policy: required.policy.clone(),
            measurements: required.measurements.clone(),
        };
        Ok(Self {
            configuration: KeepConfiguration { marble: plan.marble.clone(), coordinator },
            address: mesh.mesh_address().to_string(),
            root: sha256(mesh.root()),
        })
    }
}

fn facts(machine: &Machine, first: [u8; 32]) -> anyhow::Result<Facts> {
    let mut facts = Facts::default();
    for value in machine.programs().measure("bailey-database", None)? {
        let digest = value.measurement.context("a program without measurement")?.to_string();
        facts.insert(format!("measurement.bailey-database.{}", value.platform), &digest);
    }
    for platform in Platform::KEEPS {
        facts.insert(format!("root.{platform}"), &machine.root_pem(platform)?);
    }
    facts.insert("database.manifest", &format!("sha256:{}", hex::encode(first)));
    Ok(facts)
}

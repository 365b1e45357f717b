//! `bailey coordinator`: a coordinator alone, for whoever brings Marbles of their own.

use std::{
    net::SocketAddr,
    path::{Path, PathBuf},
};

use anyhow::Context;
use attested_tls::{claims::CoordinatorMode, key::SpkiDigest};
use clap::{Args, Subcommand};
use evidence::Platform;
use serde_json::json;

use crate::{
    commands::{print_json, up::wait_for_the_end},
    failure::{Input, Outcome},
    identity,
    up::{CoordinatorPlan, EtcdPlan, Machine, Mesh, Programs},
};

/// Run a coordinator of your own.
#[derive(Subcommand)]
pub enum Command {
    /// Start a coordinator on this machine, on an emulated TEE, and stop it on Ctrl-C
    Start(Start),
}

/// Start a coordinator on this machine, on an emulated TEE, and stop it on Ctrl-C.
#[derive(Args)]
pub struct Start {
    /// The certificate of the owner, who alone sets the first manifest (PEM); made in the folder unless given
    #[arg(long, value_name = "FILE")]
    owner: Option<PathBuf>,
    /// Keep platform, state and logs here; otherwise they go when it stops
    #[arg(long, value_name = "DIR")]
    folder: Option<PathBuf>,
    /// As what kind of TEE: sgx, tdx or snp
    #[arg(long, value_name = "KIND", default_value = "sgx")]
    platform: Platform,
    /// DNS names and addresses in its certificate; measured
    #[arg(long = "name", value_name = "NAME", default_values = ["localhost", "127.0.0.1"])]
    names: Vec<String>,
    /// Where its client API listens
    #[arg(long, value_name = "IP:PORT", default_value = "127.0.0.1:4433")]
    client_address: SocketAddr,
    /// Where native programs join by MarbleRun's protocol
    #[arg(long, value_name = "IP:PORT", default_value = "127.0.0.1:2001")]
    marble_address: SocketAddr,
    /// Where Keeps join
    #[arg(long, value_name = "IP:PORT", default_value = "127.0.0.1:2002")]
    mesh_address: SocketAddr,
    /// Where Prometheus finds metrics
    #[arg(long, value_name = "IP:PORT")]
    metrics_address: Option<SocketAddr>,
    /// Where guests that are no Marbles find the key broker (docs/broker.md)
    #[arg(long = "broker", value_name = "IP:PORT")]
    broker_address: Option<SocketAddr>,
    /// A member of etcd, as http://127.0.0.1:2379, in which coordinators share the state; may be given several times
    #[arg(long, value_name = "URL")]
    etcd: Vec<String>,
    /// PEM of the roots of etcd's certificates
    #[arg(long, value_name = "FILE", requires = "etcd")]
    etcd_ca: Option<PathBuf>,
    /// PEM of the certificate that etcd knows the coordinators by
    #[arg(long, value_name = "FILE", requires = "etcd_ca", requires = "etcd_key")]
    etcd_cert: Option<PathBuf>,
    /// PEM of its key
    #[arg(long, value_name = "FILE", requires = "etcd_cert")]
    etcd_key: Option<PathBuf>,
    /// How many coordinators to start on this machine; all but the first listen where there is room
    #[arg(long, value_name = "NUMBER", default_value_t = 1, requires = "etcd",
          value_parser = clap::value_parser!(u8).range(1..=9))]
    replicas: u8,
    /// Anchor its state in this TPM: /dev/tpmrm0, or unix:PATH or tcp:HOST:PORT of an emulator; that there must be one
    /// is measured
    #[arg(long, value_name = "TPM", conflicts_with = "etcd")]
    tpm: Option<String>,
    /// Print where everything is as JSON when it serves
    #[arg(long)]
    json: bool,
}

impl Command {
    /// Runs the command.
    pub async fn run(self) -> Outcome {
        match self {
            Self::Start(start) => start.run().await,
        }
    }
}

impl Start {
    async fn run(self) -> Outcome {
        let temporary = match &self.folder {
            Some(_) => None,
            None => Some(
                tempfile::Builder::new()
                    .prefix("bailey-")
                    .tempdir()
                    .context("a temporary folder for keys, state and logs cannot be made")?,
            ),
        };
        let folder = match (&self.folder, &temporary) {
            (Some(folder), _) => {
                std::path::absolute(folder).malformed("the folder's path cannot be resolved")?
            }
            (None, Some(temporary)) => temporary.path().to_owned(),
            (None, None) => return Ok(()),
        };
        std::fs::create_dir_all(&folder).with_context(|| format!("{} cannot be made", folder.display()))?;
        let (owner, files) = self.owner(&folder)?;
        let machine = Machine::start(&folder, Programs::beside_this_one()?)?;
        let plan = CoordinatorPlan {
            platform: self.platform,
            names: self.names.clone(),
            listen: Some(self.client_address),
            mesh: Some(self.mesh_address),
            marbles: Some(self.marble_address),
            metrics: self.metrics_address,
            broker: self.broker_address,
            etcd: self.etcd_plan()?,
            tpm: self.tpm.clone(),
        };
        let (mesh, verified) = Mesh::found(&machine, "coordinator", &plan, owner).await?;
        let mut replicas = Vec::new();
        for number in 2..=self.replicas {
            let plan = CoordinatorPlan {
                listen: None,
                mesh: None,
                marbles: None,
                metrics: None,
                broker: None,
                ..plan.clone()
            };
            let (replica, _) = Mesh::found(&machine, &format!("coordinator-{number}"), &plan, owner).await?;
            replicas.push(replica.endpoint().to_string());
        }
        let reference = folder.join("reference.json");
        let values = appraisal::ReferenceFile { reference_values: mesh.requirements().measurements.clone() };
        let text = serde_json::to_string_pretty(&values).map_err(anyhow::Error::from)?;
        std::fs::write(&reference, text).context("the reference values cannot be written")?;
        let told = Told {
            endpoint: mesh.endpoint().to_string(),
            roots: folder.join("platform/roots"),
            reference,
            folder: folder.clone(),
            owner: files,
            replicas,
            mode: verified.claims.mode,
        };
        self.tell(&told)?;
        wait_for_the_end().await?;
        machine.shut_down()?;
        if !self.json {
            crate::say!("\nstopped");
        }
        Ok(())
    }

    /// With absolute paths: the coordinator runs elsewhere.
    fn etcd_plan(&self) -> Outcome<Option<EtcdPlan>> {
        if self.etcd.is_empty() {
            return Ok(None);
        }
        let absolute = |path: &Option<PathBuf>| {
            let path = path.as_ref().map(std::path::absolute).transpose();
            path.malformed("a path of etcd's files cannot be resolved")
        };
        let certificate = absolute(&self.etcd_cert)?.zip(absolute(&self.etcd_key)?);
        Ok(Some(EtcdPlan { members: self.etcd.clone(), ca: absolute(&self.etcd_ca)?, certificate }))
    }

    /// The owner's key, and where certificate and key were made, if they were.
    fn owner(&self, folder: &Path) -> Outcome<(SpkiDigest, Option<(PathBuf, PathBuf)>)> {
        if let Some(path) = &self.owner {
            let chain = identity::certificates(path)?;
            let digest = SpkiDigest::of_certificate(&chain[0])
                .malformed(format!("{} has no certificate that can be read", path.display()))?;
            return Ok((digest, None));
        }
        let people = folder.join("people");
        let files = (people.join("owner.pem"), people.join("owner.key"));
        let owner = if files.0.is_file() {
            identity::load(&files.0, &files.1)?
        } else {
            identity::create(&people, "owner")?
        };
        Ok((identity::key_digest(&owner)?, Some(files)))
    }

    fn tell(&self, told: &Told) -> Outcome {
        if self.json {
            return print_json(&json!({
                "emulated": true, "coordinator": told.endpoint, "marbles": self.marble_address,
                "mesh": self.mesh_address, "metrics": self.metrics_address, "broker": self.broker_address,
                "reference": told.reference,
                "emulated_roots": told.roots, "folder": told.folder, "mode": told.mode,
                "replicas": told.replicas,
                "owner": told.owner.as_ref().map(|(certificate, key)| json!({ "certificate": certificate, "key": key })),
            }));
        }
        let mode = match told.mode {
            CoordinatorMode::AcceptingManifest => "it waits for its owner's manifest",
            CoordinatorMode::Running => "its manifest is in force",
            CoordinatorMode::Recovering => "it waits for recovery shares",
            CoordinatorMode::RolledBack => {
                "it serves nothing, for its state is not the newest (docs/rollback.md)"
            }
        };
        crate::say!("a coordinator on emulated {}, verified; {mode}", self.platform);
        crate::say!("  client API           {}", told.endpoint);
        for replica in &told.replicas {
            crate::say!("  and another replica  {replica}");
        }
        crate::say!("  MarbleRun's Marbles  {}   (EDG_MARBLE_COORDINATOR_ADDR)", self.marble_address);
        crate::say!("  Keeps                {}", self.mesh_address);
        if let Some(metrics) = self.metrics_address {
            crate::say!("  metrics              http://{metrics}/metrics");
        }
        if let Some(broker) = self.broker_address {
            crate::say!("  key broker           https://{broker}/kbs/v0   (for guests; docs/broker.md)");
        }
        crate::say!("  folder               {}", told.folder.display());
        let root = told.roots.join(if self.platform == Platform::Snp { "ark.pem" } else { "sgx-root.pem" });
        crate::say!("\nverify it:  bailey verify {} \\", told.endpoint);
        crate::say!("              --reference {} \\", told.reference.display());
        crate::say!("              --emulated-root {} --pin coordinator.pem", root.display());
        if let Some((certificate, key)) = &told.owner {
            crate::say!("\nset a manifest, as its owner, with");
            crate::say!("  --cert {} --key {}", certificate.display(), key.display());
        }
        crate::say!("\nEmulated TEEs: this protects nothing from this machine. Ctrl-C stops.");
        Ok(())
    }
}

struct Told {
    endpoint: String,
    roots: PathBuf,
    reference: PathBuf,
    folder: PathBuf,
    owner: Option<(PathBuf, PathBuf)>,
    /// Endpoints of the others.
    replicas: Vec<String>,
    mode: CoordinatorMode,
}

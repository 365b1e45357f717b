//! A coordinator on a [`Machine`], verified and pinned, and the Keeps that join it.

use std::{
    collections::BTreeMap,
    fs,
    net::SocketAddr,
    path::PathBuf,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, anyhow, bail};
use attested_tls::{
    claims::CoordinatorMode,
    clock::{self, Clock},
    key::SpkiDigest,
    launch::{CoordinatorConfiguration, CoordinatorRequirements, KeepConfiguration, RequiredTpm},
    service::UserIdentity,
};
use host::Restart;
use rustls::pki_types::CertificateDer;
use serde_json::Value;

use super::{CoordinatorPlan, EtcdPlan, KeepPlan, Machine, free_address};
use crate::client::{Client, Endpoint, Requirements, Verified, VerifyError, verify};

const START_WITHIN: Duration = Duration::from_secs(60);
/// So long a replica may take to be given the keys of its state.
const JOINED_WITHIN: Duration = Duration::from_secs(20);
const POLL: Duration = Duration::from_millis(10);

/// A coordinator on a machine.
pub struct Mesh {
    name: String,
    endpoint: Endpoint,
    mesh_address: SocketAddr,
    requirements: Requirements,
    root: CertificateDer<'static>,
    clock: Clock,
}

/// A Keep to launch.
pub struct Keep {
    /// The process's name.
    pub name: String,
    /// What the deployment says.
    pub plan: KeepPlan,
    /// Another program than `bailey-keep`, for showing that it is refused.
    pub program: Option<PathBuf>,
    /// Where peers listen: hints.
    pub peers: BTreeMap<String, SocketAddr>,
    /// What the host agent does when it ends.
    pub restart: Restart,
}

/// A Keep that serves.
#[derive(Debug, Clone)]
pub struct Serving {
    /// Where.
    pub address: SocketAddr,
    /// From launch to serving.
    pub took: Duration,
}

/// What became of a Keep.
#[derive(Debug, Clone)]
pub enum KeepOutcome {
    /// It was admitted, and serves or runs.
    Serving(Serving),
    /// It was not, and ended.
    Refused {
        /// Stable codes.
        codes: Vec<String>,
        /// The sentence.
        reason: String,
    },
}

impl Mesh {
    /// Launches a coordinator, and verifies it: its Evidence must chain to the machine's emulated root and
    /// show the measurement of the program with exactly this launch configuration.
    pub async fn found(
        machine: &Machine,
        name: &str,
        plan: &CoordinatorPlan,
        owner: SpkiDigest,
    ) -> Result<(Self, Verified)> {
        let configuration = CoordinatorConfiguration {
            owner,
            names: plan.names.clone(),
            tpm: plan.tpm.as_ref().map(|_| RequiredTpm { key: None }),
        }
        .to_json();
        let program = machine.programs().path("bailey-coordinator")?;
        let client_address = plan.listen.map_or_else(free_address, Ok)?;
        let mesh_address = plan.mesh.map_or_else(free_address, Ok)?;
        let state = machine.folder().join(format!("state-{name}"));
        let mut arguments = vec![
            "--state".into(),
            state.display().to_string(),
            "--client-address".into(),
            client_address.to_string(),
            "--mesh-address".into(),
            mesh_address.to_string(),
        ];
        let addresses = [
            ("--marble-address", plan.marbles),
            ("--metrics-address", plan.metrics),
            ("--broker-address", plan.broker),
        ];
        for (option, address) in addresses {
            arguments
                .extend(address.into_iter().flat_map(|address| [option.to_owned(), address.to_string()]));
        }
        arguments.extend(plan.etcd.iter().flat_map(EtcdPlan::arguments));
        arguments.extend(plan.tpm.iter().flat_map(|tpm| ["--tpm".to_owned(), tpm.clone()]));
        machine.launch(name, plan.platform, &program, configuration.clone(), arguments, Restart::Always)?;
        let log = Log::of(machine, name);
        log.until(|line| line["message"] == "serving").await.context("the coordinator did not start")?;

        let endpoint: Endpoint = format!("https://localhost:{}", client_address.port()).parse()?;
        let requirements = Requirements {
            policy: machine.policy()?,
            measurements: machine.programs().measure("bailey-coordinator", Some(&configuration))?,
            manifest: None,
        };
        let clock = clock::system();
        let verified = if plan.etcd.is_some() {
            joined(&endpoint, &requirements, &clock).await?
        } else {
            verify(&endpoint, &requirements, &clock).await?
        };
        let root = CertificateDer::from(verified.claims.root.to_vec());
        Ok((Self { name: name.to_owned(), endpoint, mesh_address, requirements, root, clock }, verified))
    }

    /// The coordinator's process name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Where the client API is.
    pub fn endpoint(&self) -> &Endpoint {
        &self.endpoint
    }

    /// Where the mesh API is.
    pub fn mesh_address(&self) -> SocketAddr {
        self.mesh_address
    }

    /// The pinned root.
    pub fn root(&self) -> &CertificateDer<'static> {
        &self.root
    }

    /// What the coordinator had to prove.
    pub fn requirements(&self) -> &Requirements {
        &self.requirements
    }

    /// Verifies again, against other requirements.
    pub async fn verify(&self, required: &Requirements) -> Result<Verified, VerifyError> {
        verify(&self.endpoint, required, &self.clock).await
    }

    /// A client of the pinned coordinator.
    pub fn client(&self, identity: Option<&UserIdentity>) -> Result<Client> {
        Client::new(self.endpoint.clone(), &self.root, identity, &self.clock)
    }

    /// Launches a Keep and waits until it serves, or runs its command, or is refused.
    pub async fn launch(&self, machine: &Machine, keep: &Keep) -> Result<KeepOutcome> {
        let marble = keep.plan.marble.as_ref().unwrap_or(&keep.name);
        let configuration = KeepConfiguration {
            marble: marble.clone(),
            coordinator: CoordinatorRequirements {
                policy: self.requirements.policy.clone(),
                measurements: self.requirements.measurements.clone(),
            },
        };
        let program = match &keep.program {
            Some(program) => program.clone(),
            None => machine.programs().path("bailey-keep")?,
        };
        let address = keep.plan.listen.map_or_else(free_address, Ok)?;
        let arguments = self.arguments(machine, keep, marble, address);
        let log = Log::of(machine, &keep.name);
        let launched = Instant::now();
        machine.launch(
            &keep.name,
            keep.plan.platform,
            &program,
            configuration.to_json(),
            arguments,
            keep.restart,
        )?;
        let line = log
            .until(|line| ["serving", "running", "the Keep ends"].iter().any(|word| line["message"] == *word))
            .await
            .with_context(|| format!("Keep {} gave no sign", keep.name))?;
        if line["message"] != "the Keep ends" {
            return Ok(KeepOutcome::Serving(Serving { address, took: launched.elapsed() }));
        }
        Ok(KeepOutcome::Refused {
            codes: line["codes"].as_str().unwrap_or_default().split(',').map(str::to_owned).collect(),
            reason: line["reason"].as_str().unwrap_or_default().to_owned(),
        })
    }

    fn arguments(&self, machine: &Machine, keep: &Keep, marble: &str, address: SocketAddr) -> Vec<String> {
        let mut arguments = vec![
            "--coordinator".into(),
            self.mesh_address.to_string(),
            "--listen".into(),
            address.to_string(),
            "--cache".into(),
            machine.folder().join("cache").join(&keep.name).display().to_string(),
            "--volumes".into(),
            // A Marble finds what it stored, whichever of its Keeps it is now.
            machine.folder().join("volumes").join(marble).display().to_string(),
        ];
        arguments.extend(match &keep.plan.package {
            Some(package) => ["--package".into(), package.to_string()],
            None => ["--workload".into(), keep.plan.workload.display().to_string()],
        });
        for (name, address) in &keep.peers {
            arguments.extend(["--peer".into(), format!("{name}={address}")]);
        }
        arguments
    }
}

/// The structured log of a process, as the host agent gathers it.
pub struct Log {
    path: PathBuf,
    from: u64,
}

impl Log {
    /// From what is written next.
    pub fn of(machine: &Machine, process: &str) -> Self {
        let path = machine.log_path(process);
        let from = fs::metadata(&path).map_or(0, |metadata| metadata.len());
        Self { path, from }
    }

    /// The lines since then that are JSON.
    pub fn lines(&self) -> Result<Vec<Value>> {
        let bytes = match fs::read(&self.path) {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Vec::new(),
            Err(error) => return Err(error).context("a log cannot be read"),
        };
        let new = bytes.get(usize::try_from(self.from)?..).unwrap_or_default();
        Ok(String::from_utf8_lossy(new).lines().filter_map(|line| serde_json::from_str(line).ok()).collect())
    }

    /// Waits for a line.
    pub async fn until(&self, wanted: impl Fn(&Value) -> bool) -> Result<Value> {
        let deadline = Instant::now() + START_WITHIN;
        loop {
            let lines = self.lines()?;
            if let Some(found) = lines.iter().find(|line| wanted(line)) {
                return Ok(found.clone());
            }
            if Instant::now() > deadline {
                bail!("{}", self.tail());
            }
            tokio::time::sleep(POLL).await;
        }
    }

    fn tail(&self) -> anyhow::Error {
        let text = fs::read_to_string(&self.path).unwrap_or_default();
        let last: Vec<_> = text.lines().rev().take(5).collect();
        let last: Vec<_> = last.into_iter().rev().collect();
        anyhow!("the last lines of {} are:\n{}", self.path.display(), last.join("\n"))
    }
}

/// A replica as soon as it answers and has its state open: another one may have to give it the keys first.
async fn joined(endpoint: &Endpoint, requirements: &Requirements, clock: &Clock) -> Result<Verified> {
    let deadline = Instant::now() + JOINED_WITHIN;
    loop {
        let verified = verify(endpoint, requirements, clock).await;
        let open = |verified: &Verified| verified.claims.mode != CoordinatorMode::Recovering;
        if verified.as_ref().is_ok_and(open) || Instant::now() > deadline {
            return Ok(verified?);
        }
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
}

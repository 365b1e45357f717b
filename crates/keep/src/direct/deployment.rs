//! A deployment: received whole and checked, then run to its end.

use std::{collections::BTreeMap, error::Error, time::Duration};

use hyper::body::Incoming;
use keep_config::{KeepConfig, WITHOUT_A_FILE};
use keep_protocol::{
    keep::{
        Accepted, Brought, Deploy, Ended, FromKeep, Outcome, Refused, RefusedCode, ToKeep, VolumeKey,
        WorkloadKind, WorkloadRef,
    },
    package::{FetchedPackage, PackageOrder},
};
use serde_bytes::ByteArray;
use tokio::time::Instant;
use zeroize::Zeroizing;

use super::{
    Waiting,
    attention::Attention,
    command,
    incoming::Messages,
    package::{self, Loaded},
    reply::{Gone, Reply},
    service,
};
use crate::runtime::{COMPILATION, LoadError, Workload, digest};

/// How long the client may be silent before its deployment is whole.
const PATIENCE: Duration = Duration::from_secs(30);
/// No sentence to the client is longer, in bytes.
const MAX_SENTENCE: usize = 2048;

/// What the client wants, with nothing left to check but the workload itself.
pub(super) struct Deployment {
    pub(super) config: KeepConfig,
    /// SHA-256 of its text.
    digest: [u8; 32],
    pub(super) secrets: BTreeMap<String, Zeroizing<Vec<u8>>>,
    pub(super) volumes: Vec<VolumeKey>,
}

/// Takes the client's deployment and runs it. Whatever happens is told to the client and to nobody else.
pub(super) async fn conduct(body: Incoming, reply: Reply, keep: &Waiting) {
    if reply.begin().await.is_err() {
        return;
    }
    if let Err(refused) = accept_and_run(body, &reply, keep).await {
        // A client that is gone does not hear it.
        let _ = reply.tell(&FromKeep::Refused(refused)).await;
    }
}

async fn accept_and_run(body: Incoming, reply: &Reply, keep: &Waiting) -> Result<(), Refused> {
    let mut messages = Messages::open(body, PATIENCE).await?;
    let deploy = match messages.next_within(PATIENCE).await? {
        Some(ToKeep::Deploy(deploy)) => *deploy,
        _ => return Err(Refused::new(RefusedCode::OutOfOrder, "a deployment begins with `deploy`")),
    };
    // What is wrong with a configuration that is here is told before anything is received or fetched.
    let given = deploy.config.as_deref().map(|config| Deployment::check(&deploy, config)).transpose()?;
    let workload = match deploy.workload {
        Brought::Sent(announced) => Source::Sent(receive(&mut messages, announced).await?),
        Brought::Package(ref order) => Source::Package(order.clone()),
    };

    let client = Attention::to(messages, reply);
    let prepare = async {
        let (workload, packaged, package) = workload.load(&client).await?;
        let deployment = match given {
            Some(deployment) => deployment,
            None => Deployment::check(&deploy, packaged.as_deref().unwrap_or(WITHOUT_A_FILE))?,
        };
        drop(deploy);
        let begun = Instant::now();
        let loading = keep.runtime.load_within(workload, keep.cache.clone(), COMPILATION);
        let workload = loading.await.map_err(invalid)?;
        let load_us = micros(begun);
        let configuration = ByteArray::new(deployment.digest);
        let prepared = Prepared::new(&workload, deployment, keep, reply, &client).await?;
        let kind = if workload.kind().is_command() { WorkloadKind::Command } else { WorkloadKind::Http };
        let digest = ByteArray::new(workload.digest());
        let accepted = Accepted { kind, load_us, package, workload: digest, configuration };
        Ok((workload, prepared, accepted))
    };
    let (workload, prepared, accepted) = tokio::select! {
        prepared = prepare => prepared?,
        () = client.over() => return Ok(()),
    };
    let begun = Instant::now();
    if reply.tell(&FromKeep::Accepted(accepted)).await.is_ok() {
        let outcome = prepared.run(workload, client, reply).await;
        if let Ok(outcome) = outcome {
            let ended = Ended { outcome, wall_us: micros(begun) };
            let _ = reply.tell(&FromKeep::Ended(ended)).await;
        }
    }
    Ok(())
}

/// Where the workload comes from.
enum Source {
    Sent(Vec<u8>),
    Package(Box<PackageOrder>),
}

impl Source {
    /// The workload; of a package also its configuration, and what the client is told of it.
    async fn load(
        self,
        client: &Attention,
    ) -> Result<(Vec<u8>, Option<String>, Option<FetchedPackage>), Refused> {
        match self {
            Self::Sent(workload) => Ok((workload, None, None)),
            Self::Package(order) => {
                let Loaded { workload, config, package } = package::load(*order, client.opening()).await?;
                Ok((workload, config, Some(package)))
            }
        }
    }
}

fn micros(since: Instant) -> u64 {
    u64::try_from(since.elapsed().as_micros()).unwrap_or(u64::MAX)
}

/// Either way of running, with everything that can be refused behind it.
enum Prepared {
    Command(command::Prepared),
    Service(service::Prepared),
}

impl Prepared {
    async fn new(
        workload: &Workload,
        deployment: Deployment,
        keep: &Waiting,
        reply: &Reply,
        client: &Attention,
    ) -> Result<Self, Refused> {
        if workload.kind().is_command() {
            command::Prepared::new(deployment, keep, reply, client).await.map(Self::Command)
        } else {
            service::Prepared::new(deployment, keep, reply, client).await.map(Self::Service)
        }
    }

    async fn run(self, workload: Workload, client: Attention, reply: &Reply) -> Result<Outcome, Gone> {
        match self {
            Self::Command(command) => Ok(command.run(&workload, client, reply).await),
            Self::Service(service) => service.run(workload, client, reply).await,
        }
    }
}

impl Deployment {
    fn check(deploy: &Deploy, text: &str) -> Result<Self, Refused> {
        let mut config = KeepConfig::parse(text).map_err(|error| Refused {
            faults: sentences(&error),
            ..Refused::new(RefusedCode::ConfigInvalid, "the configuration is invalid")
        })?;
        if let Some(args) = &deploy.args {
            config.args.clone_from(args);
        }
        config.env.extend(deploy.env.iter().cloned());
        if let Some(what) = unsupported(&config) {
            return Err(Refused::new(RefusedCode::ConfigUnsupported, what));
        }
        let secrets = deploy.secrets.iter();
        let secrets =
            secrets.map(|secret| (secret.name.clone(), secret.value.clone().into_inner())).collect();
        Ok(Self { config, digest: digest(text.as_bytes()), secrets, volumes: deploy.volumes.clone() })
    }
}

/// What a configuration may ask for, and a direct deployment does not have.
fn unsupported(config: &KeepConfig) -> Option<&'static str> {
    if !config.peers.is_empty() {
        return Some("`peers` are Marbles of a mesh, and a direct deployment is in none");
    }
    None
}

/// The workload's bytes, as many as were announced, with the digest that was announced.
async fn receive(messages: &mut Messages, announced: WorkloadRef) -> Result<Vec<u8>, Refused> {
    // Bounded by the message's own rule.
    let size = usize::try_from(announced.size).unwrap_or(usize::MAX);
    let mut workload = Vec::new();
    while workload.len() < size {
        match messages.next_within(PATIENCE).await? {
            Some(ToKeep::Chunk(bytes)) if workload.len() + bytes.len() <= size => workload.extend(bytes),
            Some(ToKeep::Chunk(_)) => {
                return Err(Refused::new(RefusedCode::OutOfOrder, "the workload is longer than announced"));
            }
            _ => return Err(Refused::new(RefusedCode::OutOfOrder, "the workload is shorter than announced")),
        }
    }
    if digest(&workload) != *announced.digest {
        return Err(Refused::new(
            RefusedCode::DigestMismatch,
            "the workload's bytes do not hash to what was announced",
        ));
    }
    Ok(workload)
}

fn invalid(error: LoadError) -> Refused {
    Refused {
        detail: Some(error.code().into()),
        faults: error.source().map(sentences).unwrap_or_default(),
        ..Refused::new(RefusedCode::WorkloadInvalid, error.to_string())
    }
}

/// An error and its causes, one line each, none too long. They are about what the client itself sent.
pub(super) fn sentences(error: &(dyn Error + 'static)) -> Vec<String> {
    let (mut text, mut cause) = (error.to_string(), error.source());
    while let Some(error) = cause {
        text = format!("{text}\n{error}");
        cause = error.source();
    }
    let mut lines: Vec<String> =
        text.lines().filter(|line| !line.trim().is_empty()).take(64).map(cut).collect();
    lines.dedup();
    lines
}

/// At most [`MAX_SENTENCE`] bytes of it.
pub(super) fn cut(text: &str) -> String {
    let mut end = text.len().min(MAX_SENTENCE);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    text[..end].to_owned()
}

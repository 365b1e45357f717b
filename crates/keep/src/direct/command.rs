//! A workload that runs once: its standard streams are the client's.

use std::sync::Arc;

use keep_config::File;
use keep_protocol::keep::{Exposed, FromKeep, Outcome, Refused, RefusedCode};
use tokio::{io::DuplexStream, task::JoinHandle};

use super::{
    Waiting,
    attention::Attention,
    deployment::{Deployment, cut},
    network::Network,
    printed::printed,
    reply::Reply,
    volumes,
};
use crate::{
    admission::Limits,
    command::{self, Ended, Stdio},
    output::Output,
    runtime::Workload,
    world::{Given, World, WorldError},
};

/// Input that is moved at a time.
const PIECE: usize = 8 << 10;

/// A command whose world is there.
pub(super) struct Prepared {
    world: World,
    exposed: Vec<Exposed>,
    stdio: Stdio,
    /// Where input goes, if the workload is to find any.
    input: Option<DuplexStream>,
    moving: [JoinHandle<std::io::Result<()>>; 2],
    output: Arc<Output>,
}

impl Prepared {
    pub(super) async fn new(
        deployment: Deployment,
        keep: &Waiting,
        reply: &Reply,
        client: &Attention,
    ) -> Result<Self, Refused> {
        let Deployment { config, secrets, volumes, .. } = deployment;
        let keyvalue_bytes = Limits::default().keyvalue_bytes;
        let network = Network::new(&config, keep).await?;
        let (exposed, net) = (network.exposed(&config), Some(network.net));
        let volumes = volumes::open(&config, &volumes, keep.storage.as_ref(), &client.holder()).await?;
        let given = Given { secrets, keyvalue_bytes, net, volumes, ..Given::default() };
        let world = World::new(&config, given).map_err(|error| mismatch(&error))?;
        let (input, stdin) = tokio::io::duplex(PIECE);
        let (stdout, out) = reply.stream(FromKeep::Stdout);
        let (stderr, err) = reply.stream(FromKeep::Stderr);
        let ([stdout, stderr], output) = printed(&config.log, &world.metrics, stdout, stderr);
        let stdio = Stdio { stdin: Box::new(stdin), stdout: Box::new(stdout), stderr: Box::new(stderr) };
        let reads = config.files.iter().any(|file| matches!(file, File::Stdin { .. }));
        Ok(Self { world, exposed, stdio, input: reads.then_some(input), moving: [out, err], output })
    }

    pub(super) async fn run(self, workload: &Workload, mut client: Attention, reply: &Reply) -> Outcome {
        let Self { world, exposed, stdio, input, moving, output } = self;
        for listener in exposed {
            // A client that is gone cancels the run below.
            let _ = reply.tell(&FromKeep::Exposed(listener)).await;
        }
        if let Some(input) = input {
            client.feed(input);
        }
        let ended = command::run_told(workload, world, stdio, Some(&output), client.over()).await;
        client.fed().await;
        for stream in moving {
            // It ends with the workload's end of it, which is gone.
            let _ = stream.await;
        }
        outcome(ended)
    }
}

pub(super) fn mismatch(error: &WorldError) -> Refused {
    let code = match error {
        WorldError::Files(_) => RefusedCode::ConfigInvalid,
        _ => RefusedCode::SecretsMismatch,
    };
    Refused {
        detail: Some(error.code().into()),
        faults: super::deployment::sentences(error),
        ..Refused::new(code, error.to_string())
    }
}

fn outcome(ended: Ended) -> Outcome {
    match ended {
        Ended::Exit(code) => Outcome::Exit { code },
        Ended::Trap { code, message } => Outcome::Trap { code: code.into(), message: cut(&message) },
        Ended::Limit(which) => Outcome::Limit { which: which.into(), message: which.to_string() },
        Ended::Cancelled => Outcome::Cancelled {},
        Ended::Failed(failure) => {
            Outcome::Failed { code: failure.code().into(), message: cut(&failure.to_string()) }
        }
    }
}

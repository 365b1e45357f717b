//! A workload that runs once: its standard streams are the client's.

use keep_config::Log;
use keep_protocol::keep::{Exposed, FromKeep, Limit, Outcome, Refused, RefusedCode, ToKeep};
use tokio::{
    io::{AsyncWriteExt, DuplexStream},
    task::JoinHandle,
};

use super::{
    Waiting,
    deployment::{Deployment, cut},
    incoming::Messages,
    network::Network,
    reply::Reply,
};
use crate::{
    admission::Limits,
    command::{self, Ended, Stdio, Which},
    runtime::Workload,
    world::{Given, World, WorldError},
};

/// Input that waits for the workload.
const INPUT_AHEAD: usize = 64 << 10;

/// A command whose world is there.
pub(super) struct Prepared {
    world: World,
    exposed: Vec<Exposed>,
    stdio: Stdio,
    input: DuplexStream,
    output: [JoinHandle<std::io::Result<()>>; 2],
}

impl Prepared {
    pub(super) async fn new(deployment: Deployment, keep: &Waiting, reply: &Reply) -> Result<Self, Refused> {
        if deployment.config.log != Log::Nobody {
            let message = "`log` for the host: what a command prints goes to its client, and to nobody else";
            return Err(Refused::new(RefusedCode::ConfigUnsupported, message));
        }
        let keyvalue_bytes = Limits::default().keyvalue_bytes;
        let network = Network::new(&deployment.config, keep).await?;
        let (exposed, net) = (network.exposed(&deployment.config), network.net);
        let given = Given { secrets: deployment.secrets, keyvalue_bytes, net: Some(net), ..Given::default() };
        let world = World::new(&deployment.config, given).map_err(|error| mismatch(&error))?;
        let (input, stdin) = tokio::io::duplex(INPUT_AHEAD);
        let (stdout, out) = reply.stream(FromKeep::Stdout);
        let (stderr, err) = reply.stream(FromKeep::Stderr);
        let (stdin, stdout, stderr) = (Box::new(stdin), Box::new(stdout), Box::new(stderr));
        let stdio = Stdio { stdin, stdout, stderr };
        Ok(Self { world, exposed, stdio, input, output: [out, err] })
    }

    pub(super) async fn run(self, workload: &Workload, messages: Messages, reply: &Reply) -> Outcome {
        let Self { world, exposed, stdio, input, output } = self;
        for listener in exposed {
            // A client that is gone cancels the run below.
            let _ = reply.tell(&FromKeep::Exposed(listener)).await;
        }
        let cancel = async {
            tokio::select! {
                () = cancelled(messages, input) => {}
                () = reply.gone() => {}
            }
        };
        let ended = command::run(workload, world, stdio, cancel).await;
        for stream in output {
            // It ends with the workload's end of it, which is gone.
            let _ = stream.await;
        }
        outcome(ended)
    }
}

/// Moves input to the workload. Returns when the client cancels, breaks off, or says what does not belong here.
async fn cancelled(mut messages: Messages, input: DuplexStream) {
    let mut input = Some(input);
    loop {
        match messages.next().await {
            Ok(Some(ToKeep::Stdin(bytes))) => match &mut input {
                // A workload that reads no more is no fault of its client.
                Some(stream) => drop(stream.write_all(&bytes).await),
                None => return,
            },
            Ok(Some(ToKeep::StdinEnd {})) => input = None,
            // The end of the request is the end of the input; the answer still goes out.
            Ok(None) => {
                drop(input.take());
                std::future::pending::<()>().await;
            }
            Ok(Some(ToKeep::Cancel {} | ToKeep::Deploy(_) | ToKeep::Chunk(_))) | Err(_) => return,
        }
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
        Ended::Limit(which) => Outcome::Limit { which: limit(which), message: which.to_string() },
        Ended::Cancelled => Outcome::Cancelled {},
        Ended::Failed(failure) => {
            Outcome::Failed { code: failure.code().into(), message: cut(&failure.to_string()) }
        }
    }
}

fn limit(which: Which) -> Limit {
    match which {
        Which::Memory => Limit::Memory,
        Which::Cpu => Limit::Cpu,
        Which::Wall => Limit::Wall,
        Which::OpenFiles => Limit::OpenFiles,
        Which::Connections => Limit::Connections,
        Which::Output => Limit::Output,
    }
}

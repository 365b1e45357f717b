//! A workload that answers HTTP until its client cancels or leaves. Clients of the workload find the certificate that
//! the deploying client is told, whose key is made here and never leaves.

use std::time::Duration;

use keep_config::{Clients, KeepConfig, Protection};
use keep_protocol::keep::{self, Exposed, FromKeep, Outcome, Refused, RefusedCode};
use serde_bytes::ByteBuf;
use tokio::{sync::mpsc, task::JoinHandle, time::timeout};

use super::{
    Waiting,
    attention::Attention,
    command::mismatch,
    deployment::{Deployment, sentences},
    network::Network,
    reply::{Gone, Reply},
    volumes,
};
use crate::{
    admission::{Limits, LogPolicy},
    http::{Surroundings, serve_in},
    net::{HTTP, Listener},
    output::{Line, Output},
    runtime::Workload,
    world::{Given, WORKLOAD_NAME, World},
};

/// How long the client has to take the last output.
const LAST_OUTPUT: Duration = Duration::from_secs(5);

/// A service whose world and port are there.
pub(super) struct Prepared {
    surroundings: Surroundings,
    listener: Listener,
    certificate: Vec<u8>,
    telling: JoinHandle<()>,
}

impl Prepared {
    pub(super) async fn new(
        deployment: Deployment,
        keep: &Waiting,
        reply: &Reply,
        client: &Attention,
    ) -> Result<Self, Refused> {
        let Deployment { config, secrets, volumes, .. } = deployment;
        let listen = &config.http.listen;
        if listen.protection != Protection::Tls(Clients::Anyone) {
            let message =
                "[http] of a direct deployment is TLS, for any client: leave `prot` and `client` out";
            return Err(Refused::new(RefusedCode::ConfigUnsupported, message));
        }
        let failed = |error: &(dyn std::error::Error + 'static)| Refused {
            faults: sentences(error),
            ..Refused::new(RefusedCode::ListenFailed, "the Keep cannot listen for HTTP")
        };
        let Network { net, certificate } = Network::new(&config, keep).await?;
        let listener = net.listen(listen, HTTP).map_err(|error| failed(&error))?;
        let limits = limits(&config);
        let keyvalue_bytes = limits.keyvalue_bytes;
        let volumes = volumes::open(&config, &volumes, keep.storage.as_ref(), &client.holder()).await?;
        let given = Given { secrets, keyvalue_bytes, net: Some(net), volumes, ..Given::default() };
        let world = World::new(&config, given).map_err(|error| mismatch(&error))?;
        let (output, printed) = Output::for_caller(WORKLOAD_NAME, LogPolicy::of(&config.log), &world.metrics);
        let surroundings = Surroundings { world, marble: WORKLOAD_NAME.into(), output, limits };
        let telling = tokio::spawn(tell(printed, reply.clone()));
        Ok(Self { surroundings, listener, certificate, telling })
    }

    pub(super) async fn run(
        self,
        workload: Workload,
        client: Attention,
        reply: &Reply,
    ) -> Result<Outcome, Gone> {
        let exposed = Exposed {
            name: "http".into(),
            port: self.listener.local_addr().port(),
            protection: keep::Protection::Tls,
            certificate: Some(ByteBuf::from(self.certificate)),
        };
        reply.tell(&FromKeep::Exposed(exposed)).await?;
        let served = serve_in(workload, self.surroundings, self.listener, client.over()).await;
        // The workload's end of it is gone, so it ends when all is told.
        let _ = timeout(LAST_OUTPUT, self.telling).await;
        match served {
            Ok(_) => Ok(Outcome::Cancelled {}),
            Err(error) => Ok(Outcome::Failed { code: "NOT_SERVED".into(), message: error.to_string() }),
        }
    }
}

/// Tells the client what is printed, until nobody prints any more or the client is gone.
async fn tell(mut printed: mpsc::Receiver<Line>, reply: Reply) {
    while let Some(Line { stream, bytes }) = printed.recv().await {
        let message = if stream == "stderr" { FromKeep::Stderr } else { FromKeep::Stdout };
        if reply.tell(&message(ByteBuf::from(bytes))).await.is_err() {
            return;
        }
    }
}

/// What the configuration says, and the Keep's defaults where it says nothing.
fn limits(config: &KeepConfig) -> Limits {
    let ms = |time: Duration| u64::try_from(time.as_millis()).unwrap_or(u64::MAX);
    let given = &config.limits;
    let default = Limits::default();
    Limits {
        memory_bytes: given.memory,
        cpu_ms_per_request: given.cpu.map_or(default.cpu_ms_per_request, ms),
        wall_ms_per_request: given.wall.map_or(default.wall_ms_per_request, ms),
        max_connections: given.connections,
        ..default
    }
}

//! A workload that answers HTTP until its client cancels or leaves. Clients of the workload find the certificate that
//! the deploying client is told, whose key is made here and never leaves.

use std::time::Duration;

use keep_config::{Clients, KeepConfig, Protection};
use keep_protocol::keep::{self, Exposed, FromKeep, Outcome, Refused, RefusedCode, ToKeep};
use serde_bytes::ByteBuf;

use super::{
    Waiting,
    command::mismatch,
    deployment::{Deployment, sentences},
    incoming::Messages,
    network::Network,
    reply::{Gone, Reply},
};
use crate::{
    admission::{Limits, LogPolicy},
    http::{Surroundings, serve_in},
    net::{HTTP, Listener},
    output::Output,
    runtime::Workload,
    world::{Given, World},
};

/// What the Keep's log calls a workload that has no name.
const NAMELESS: &str = "direct";

/// A service whose world and port are there.
pub(super) struct Prepared {
    surroundings: Surroundings,
    listener: Listener,
    certificate: Vec<u8>,
}

impl Prepared {
    pub(super) async fn new(deployment: Deployment, keep: &Waiting) -> Result<Self, Refused> {
        let Deployment { config, secrets } = deployment;
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
        let given = Given { secrets, keyvalue_bytes, net: Some(net), ..Given::default() };
        let world = World::new(&config, given).map_err(|error| mismatch(&error))?;
        let output = Output::new(NAMELESS, log(&config));
        let surroundings = Surroundings { world, marble: NAMELESS.into(), output, limits };
        Ok(Self { surroundings, listener, certificate })
    }

    pub(super) async fn run(
        self,
        workload: Workload,
        messages: Messages,
        reply: &Reply,
    ) -> Result<Outcome, Gone> {
        let exposed = Exposed {
            name: "http".into(),
            port: self.listener.local_addr().port(),
            protection: keep::Protection::Tls,
            certificate: Some(ByteBuf::from(self.certificate)),
        };
        reply.tell(&FromKeep::Exposed(exposed)).await?;
        let end = async {
            tokio::select! {
                () = cancelled(messages) => {}
                () = reply.gone() => {}
            }
        };
        match serve_in(workload, self.surroundings, self.listener, end).await {
            Ok(_) => Ok(Outcome::Cancelled {}),
            Err(error) => Ok(Outcome::Failed { code: "NOT_SERVED".into(), message: error.to_string() }),
        }
    }
}

/// Returns when the client cancels, breaks off, or says what does not belong here. It has no input to give.
async fn cancelled(mut messages: Messages) {
    loop {
        match messages.next().await {
            Ok(Some(ToKeep::StdinEnd {})) => {}
            Ok(None) => std::future::pending().await,
            Ok(Some(_)) | Err(_) => return,
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

fn log(config: &KeepConfig) -> LogPolicy {
    match config.log {
        keep_config::Log::Host => LogPolicy::Host,
        keep_config::Log::Nobody | keep_config::Log::Owner(_) => LogPolicy::Discard,
    }
}

//! `spiffe`: the Workload API for programs beside this one.

use std::sync::Arc;

use spiffe_workload::{Listener, MarbleSource, Peers, clock, serve};
use tokio::signal::unix::SignalKind;

use super::{Detected, Failure, guest, listener_for, say};
use crate::{arguments::Spiffe, spiffe::Identity};

pub(super) async fn run(command: Spiffe, detected: Detected) -> Result<(), Failure> {
    let (listener, place) = match (&command.socket, command.listen) {
        (Some(path), _) => {
            let peers = if command.group { Peers::Group } else { Peers::SameUser };
            let listener = Listener::unix(path, peers).map_err(Failure::workload_api)?;
            (listener, format!("unix://{}", path.display()))
        }
        (None, Some(address)) => {
            let listener = Listener::tcp(address).await.map_err(Failure::workload_api)?;
            (listener, format!("tcp://{address}"))
        }
        (None, None) => return Err(Failure::no_place()),
    };
    let (mut terminate, mut interrupt) =
        (listener_for(SignalKind::terminate())?, listener_for(SignalKind::interrupt())?);
    let end = async move {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
    };
    let served = match command.marble {
        Some(address) => {
            let source = marble(&address)?;
            say(&format!("ready: SPIFFE_ENDPOINT_SOCKET={place}"))?;
            serve(source, listener, clock::system(), end).await
        }
        None => {
            let identity = Identity(Arc::new(guest(command.connection, detected)?));
            say(&format!("ready: SPIFFE_ENDPOINT_SOCKET={place}"))?;
            serve(identity, listener, clock::system(), end).await
        }
    };
    served.map_err(|error| Failure::system("serving the Workload API", error))
}

/// A Marble by what MarbleRun's protocol puts into its environment.
fn marble(address: &str) -> Result<MarbleSource, Failure> {
    let found = |name: &'static str| {
        #[expect(
            clippy::disallowed_methods,
            reason = "where MarbleRun's protocol puts a Marble's credentials"
        )]
        let value = std::env::var(name);
        value.map_err(|_| Failure::no_marble(name))
    };
    let chain = found("MARBLE_PREDEFINED_MARBLE_CERTIFICATE_CHAIN")?;
    let key = zeroize::Zeroizing::new(found("MARBLE_PREDEFINED_PRIVATE_KEY")?);
    let root = found("MARBLE_PREDEFINED_COORDINATOR_ROOT_CA")?;
    MarbleSource::new(address, chain.as_bytes(), key.as_bytes(), root.as_bytes(), clock::system())
        .map_err(Failure::marble)
}

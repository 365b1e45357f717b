//! Telling Keeps whom they must not speak with any more: on an attested connection, at once and on every change, and
//! again and again in between, so that a Keep that hears nothing knows that it is cut off.

use std::{pin::Pin, sync::Arc, time::Duration};

use attested_tls::channel::AttestedPeer;
use mesh_api::Revocations;
use tokio::sync::{mpsc, watch};
use tokio_stream::wrappers::ReceiverStream;
use tonic::Status;

use super::{Coordinator, mesh_api::status};
use crate::core::{self, Refusal};

/// The longest silence. A Keep connects anew after three of them.
const BETWEEN: Duration = Duration::from_secs(20);

/// What a Keep hears.
pub(super) type Lists = Pin<Box<dyn tokio_stream::Stream<Item = Result<Revocations, Status>> + Send>>;

/// Lists for this peer, until it hangs up or is evicted itself.
pub(super) fn lists(coordinator: Arc<Coordinator>, peer: Arc<AttestedPeer>) -> Lists {
    // A Keep that does not read has one list waiting, not many.
    let (sender, receiver) = mpsc::channel(1);
    let changes = coordinator.evictions.subscribe();
    tokio::spawn(tell(coordinator, peer, changes, sender));
    Box::pin(ReceiverStream::new(receiver))
}

async fn tell(
    coordinator: Arc<Coordinator>,
    peer: Arc<AttestedPeer>,
    mut changes: watch::Receiver<u64>,
    sender: mpsc::Sender<Result<Revocations, Status>>,
) {
    loop {
        changes.mark_unchanged();
        let list = list(&coordinator, &peer).map_err(|refusal| status(&refusal));
        let last = list.is_err();
        if sender.send(list).await.is_err() || last {
            return;
        }
        tokio::select! {
            () = sender.closed() => return,
            changed = tokio::time::timeout(BETWEEN, changes.changed()) => {
                if matches!(changed, Ok(Err(_))) {
                    return;
                }
            }
        }
    }
}

fn list(coordinator: &Coordinator, peer: &AttestedPeer) -> Result<Revocations, Refusal> {
    let state = coordinator.snapshot()?.state;
    let mesh = state.mesh().ok_or(Refusal::NoManifest)?;
    core::may_stay(mesh, peer)?;
    let now = (coordinator.clock)();
    let serials = mesh.revocations().certificates(now.0);
    Ok(Revocations { certificates: serials.map(|(serial, ..)| serial.to_vec()).collect() })
}

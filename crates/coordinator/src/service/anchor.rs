//! Anchors at work: the chain in a TPM that goes with each batch, heads that clients bring, and what happens when one
//! of them says that this state is not the newest: nothing is served from it, until it is replaced or holders of
//! recovery keys accept the loss.

mod loss;
mod tether;

use std::{
    sync::{Arc, PoisonError},
    time::Duration,
};

use attested_tls::anchor::{AnchorClaim, AnchorKind};
use aws_lc_rs::signature::{ED25519, UnparsedPublicKey};
use tokio_util::sync::CancellationToken;

pub(super) use self::{
    loss::Accepting,
    tether::{AnchorFault, Tether},
};
use super::{Coordinator, Mode, Snapshot, StartError};
use crate::{
    authority::Authority,
    core::{
        Refusal,
        anchor::{Held, Position, Unfit},
    },
};

/// How long the TPM may be silent before nothing is served: twice this.
const BETWEEN_CHECKS: Duration = Duration::from_secs(15);

/// A state that is served to nobody.
#[derive(Clone)]
pub(super) struct Unserved {
    /// Of the moment: it signs nothing but the client API's certificate.
    pub(super) root: Arc<Authority>,
    pub(super) snapshot: Snapshot,
    pub(super) why: Unfit,
}

impl Snapshot {
    pub(super) fn position(&self) -> Position {
        Position { length: self.length, head: self.head }
    }
}

impl Coordinator {
    /// What would notice an old copy of the state.
    pub(super) fn anchors(&self) -> Vec<AnchorClaim> {
        let Mode::Open(snapshot) = self.mode() else { return Vec::new() };
        let tpm = snapshot.state.chain().map(|chain| chain.pin.key);
        let tpm = tpm.map(|key| AnchorClaim { kind: AnchorKind::TpmNv, key: Some(key) });
        let etcd = self.replicas.as_ref().map(|_| AnchorClaim { kind: AnchorKind::Etcd, key: None });
        tpm.into_iter().chain(etcd).collect()
    }

    /// Somebody holds a head that this mesh's log key signed. One that cannot be of this log ends the service.
    pub(super) fn witness(&self, held: &Position, signature: &[u8]) -> Result<Held, Refusal> {
        let snapshot = self.snapshot()?;
        if !signed(snapshot.state.log().key(), held, signature) {
            return Err(Refusal::PositionUnsigned);
        }
        let judged = self.heads.lock().unwrap_or_else(PoisonError::into_inner).judge(held);
        judged.map_err(|contradiction| {
            let unfit = Unfit::from(contradiction);
            self.serve_nothing(unfit.clone());
            Refusal::Unfit(unfit)
        })
    }

    /// Asks the TPM again and again: a clone that commits nothing would not notice that it was left behind, and neither
    /// would one whose host keeps the TPM from it (S-23).
    pub(super) async fn watch_anchor(self: Arc<Self>, shutdown: CancellationToken) -> Result<(), StartError> {
        if self.configuration.tpm.is_none() {
            shutdown.cancelled().await;
            return Ok(());
        }
        while tokio::time::timeout(BETWEEN_CHECKS, shutdown.cancelled()).await.is_err() {
            let coordinator = self.clone();
            let checked = tokio::task::spawn_blocking(move || coordinator.check_anchor());
            if tokio::time::timeout(BETWEEN_CHECKS, checked).await.is_err()
                && let Ok(Snapshot { length, .. }) = self.snapshot()
            {
                self.serve_nothing(Unfit::Unknowable { length, reason: "the TPM does not answer".into() });
            }
        }
        Ok(())
    }

    /// Looks whether the chain is where this coordinator left it: a clone of this state would have moved it. Without
    /// an answer of the TPM nobody could know, so it is the same.
    pub(super) fn check_anchor(&self) {
        let Ok(snapshot) = self.snapshot() else { return };
        let fault = self.committer.get().and_then(|committer| committer.check_tether().err());
        match fault {
            None => {}
            Some(AnchorFault::Moved) => self.serve_nothing(Unfit::Superseded { length: snapshot.length }),
            Some(AnchorFault::Tpm(error)) => {
                self.serve_nothing(Unfit::Unknowable { length: snapshot.length, reason: error.to_string() });
            }
        }
    }

    /// Ends the service of a state that turned out not to be the newest.
    pub(super) fn serve_nothing(&self, why: Unfit) {
        let Ok(snapshot) = self.snapshot() else { return };
        // Without a certificate nobody hears anything at all.
        let Ok(root) = Authority::root(self.tee.emulated(), (self.clock)()) else { return };
        tracing::error!(code = why.code(), reason = %why, "nothing is served any more");
        let unserved = Unserved { root: Arc::new(root), snapshot, why };
        *self.mode.write().unwrap_or_else(PoisonError::into_inner) = Mode::Unfit(Arc::new(unserved));
        self.root_changed.notify_one();
    }

    /// The transparency log's key signs where the state log is.
    pub(super) fn signed_position(&self, snapshot: &Snapshot) -> Vec<u8> {
        // A log whose key is of another TEE serves nobody.
        snapshot.state.log().sign_position(&snapshot.position()).map(Vec::from).unwrap_or_default()
    }
}

fn signed(key: &[u8; 32], position: &Position, signature: &[u8]) -> bool {
    UnparsedPublicKey::new(&ED25519, key).verify(&position.to_be_signed(), signature).is_ok()
}

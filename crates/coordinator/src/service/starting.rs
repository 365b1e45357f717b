//! How a coordinator comes to its state, and why it may not.

use std::sync::Arc;

use attested_tls::{clock::Clock, key::KeyError, launch::CoordinatorConfiguration};
use attester::Tee;

use super::{HostHints, Snapshot, anchor, outward::OutwardError, replica::Replicas};
use crate::{
    core::{self, Refusal, State},
    store::{Opened, Opening, Shares, Store, StoreError},
};

/// A log that was opened, or that waits for its keys.
pub(super) enum Begun {
    Open(Box<Resumed>),
    Locked(crate::store::Locked),
}

/// Opens the log, of this coordinator alone or of all that share it, or founds a mesh where it is empty.
pub(super) fn begin(
    replicas: Option<&Replicas>,
    tee: &dyn Tee,
    configuration: &CoordinatorConfiguration,
    hints: &HostHints,
    clock: &Clock,
) -> Result<Begun, StartError> {
    match replicas {
        None => open_file(tee, configuration, hints, clock),
        Some(replicas) => open_shared(replicas, tee, configuration, hints, clock),
    }
}

fn open_file(
    tee: &dyn Tee,
    configuration: &CoordinatorConfiguration,
    hints: &HostHints,
    clock: &Clock,
) -> Result<Begun, StartError> {
    match Store::open(&hints.state.join("state.redb"), tee)? {
        Opening::Open(opened) => {
            resumed(opened, tee, configuration, hints, clock).map(Box::new).map(Begun::Open)
        }
        Opening::Locked(locked) => Ok(Begun::Locked(locked)),
    }
}

/// Of several that begin at once one founds the mesh, and the others are locked until it gives them the keys.
fn open_shared(
    replicas: &Replicas,
    tee: &dyn Tee,
    configuration: &CoordinatorConfiguration,
    hints: &HostHints,
    clock: &Clock,
) -> Result<Begun, StartError> {
    loop {
        let opened = match replicas.open(tee)? {
            Opening::Locked(locked) => return Ok(Begun::Locked(locked)),
            Opening::Open(opened) => opened,
        };
        match resumed(opened, tee, configuration, hints, clock) {
            Err(StartError::Store(StoreError::Conflict)) => {}
            Err(error) => return Err(error),
            // Recovered by others while this one was away: they have the CA keys.
            Ok(resumed) if resumed.snapshot.state.root().key().is_err() => {
                return Ok(Begun::Locked(resumed.store.lock()?));
            }
            Ok(resumed) => return Ok(Begun::Open(Box::new(resumed))),
        }
    }
}

/// A log that was opened, and its state.
pub(super) struct Resumed {
    pub(super) store: Store,
    pub(super) snapshot: Snapshot,
    pub(super) tether: Option<anchor::Tether>,
    /// Why nothing is to be served from it.
    pub(super) unfit: Option<core::anchor::Unfit>,
}

/// The state of a log that was opened, and whether an anchor knows a newer one; a new mesh, where it is empty.
fn resumed(
    opened: Opened,
    tee: &dyn Tee,
    configuration: &CoordinatorConfiguration,
    hints: &HostHints,
    clock: &Clock,
) -> Result<Resumed, StartError> {
    let Opened { mut store, snapshot, records, identity } = opened;
    let first = store.length() - store.since_snapshot();
    let resumed = State::resume(snapshot.as_deref().map(Vec::as_slice), first, &records, &identity)?;
    let required = configuration.tpm.as_ref();
    let (state, tether) = match resumed {
        Some(state) => {
            let tether = match (required, state.chain()) {
                (None, None) => Ok(None),
                (Some(_), Some(chain)) => {
                    let position = (store.length(), &store.head());
                    anchor::Tether::resume(chain, position, hints.tpm.as_ref())?.map(Some)
                }
                (Some(_), None) | (None, Some(_)) => return Err(StartError::AnchorChanged),
            };
            (state, tether)
        }
        None => {
            let mut tether =
                required.map(|tpm| anchor::Tether::found(tpm, hints.tpm.as_ref())).transpose()?;
            let event = core::found(tee.emulated(), &identity, clock())?;
            let record = event.to_record();
            let (mut state, entry) = State::begin_logged(event, identity).map_err(StartError::Founding)?;
            let (mut records, mut entries) = (vec![record], vec![entry]);
            if let Some(tether) = &tether {
                let anchored = tether.announcement();
                records.push(anchored.to_record());
                let (then, entry) = state.step_logged(anchored).map_err(StartError::Founding)?;
                entries.push(entry);
                state = then;
            }
            store.append_with(&records, &entries, Shares::Keep)?;
            if let Some(tether) = &mut tether {
                tether.advance(&store.head()).map_err(|fault| match fault {
                    anchor::AnchorFault::Moved => StartError::ChainMoved,
                    anchor::AnchorFault::Tpm(error) => error.into(),
                })?;
            }
            (state, Ok(tether))
        }
    };
    let snapshot = Snapshot { state: Arc::new(state), head: store.head(), length: store.length() };
    let (tether, unfit) = match tether {
        Ok(tether) => (tether, None),
        Err(unfit) => (None, Some(unfit)),
    };
    Ok(Resumed { store, snapshot, tether, unfit })
}

/// Why the coordinator cannot start or go on.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The state directory.
    #[error("the state directory cannot be made")]
    Directory(#[source] std::io::Error),
    /// The sealed state.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// A key could not be made.
    #[error(transparent)]
    Key(#[from] KeyError),
    /// The mesh could not be founded.
    #[error("the mesh could not be founded: {0}")]
    Founding(String),
    /// The core refused.
    #[error(transparent)]
    Refused(#[from] Refusal),
    /// A certificate of our own.
    #[error(transparent)]
    Authority(#[from] crate::authority::AuthorityError),
    /// The listener for metrics.
    #[error("metrics cannot be served")]
    Metrics(#[source] std::io::Error),
    /// The file of decisions.
    #[error("the file for decisions cannot be opened")]
    Decisions(#[source] std::io::Error),
    /// The way to telemetry's listeners.
    #[error("telemetry cannot be sent")]
    Outward(#[from] OutwardError),
    /// The exporters. Their own words have the URL, whose path may be a token (S-44).
    #[error("the OpenTelemetry exporter cannot be set up")]
    Telemetry,
    /// TLS settings.
    #[error("the TLS configuration is refused")]
    Tls(#[from] rustls::Error),
    /// The way to etcd.
    #[error(transparent)]
    Etcd(etcd::EtcdError),
    /// A listener that cannot say where it listens.
    #[error("a listener has no address")]
    Listener(#[source] std::io::Error),
    /// Replicas, and a TPM that is one machine's.
    #[error(
        "the measured launch configuration requires a TPM as anchor, and the state is to be shared in etcd: a TPM is one \
         machine's and its chain is one writer's. Leave out one of the two"
    )]
    TpmShared,
    /// The TPM that is required was not named.
    #[error(
        "the measured launch configuration requires a TPM as anchor (`tpm-nv`), and the host names none: give \
         --tpm /dev/tpmrm0"
    )]
    NoTpm,
    /// The TPM that is required does not do its part.
    #[error("the TPM that the measured launch configuration requires as anchor cannot be used")]
    Tpm(#[from] tpm_anchor::TpmError),
    /// The chain moved while the mesh was founded.
    #[error("the chain in the TPM was moved by somebody else while the mesh was founded")]
    ChainMoved,
    /// A log that is tied to a TPM, and a configuration that knows of none, or the other way round.
    #[error("the state and the measured launch configuration disagree about a TPM as anchor: one has one")]
    AnchorChanged,
}

//! The service around the core: one log, one published snapshot, two listeners. Deciding happens in
//! [`crate::core`]; here an event is made durable, then applied, then answered.

mod certificate;
mod client_api;
mod envelope;
mod mesh_api;

use std::{
    net::SocketAddr,
    path::PathBuf,
    sync::{Arc, Mutex, PoisonError, RwLock},
    time::Duration,
};

use appraisal::Verifier;
use attested_tls::{
    claims::CoordinatorClaims,
    clock::Clock,
    key::{KeyError, TeeKey},
    launch::CoordinatorConfiguration,
};
use attester::Tee;
use serde_bytes::{ByteArray, ByteBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio_util::sync::CancellationToken;

use crate::{
    core::{self, Event, Refusal, State},
    store::{Head, Store, StoreError},
};

const AFTER_ACCEPT_ERROR: Duration = Duration::from_millis(50);

/// What the host chooses; none of it decides anything.
#[derive(Debug, Clone)]
pub struct HostHints {
    /// Where the sealed state lies.
    pub state: PathBuf,
    /// Where the client API listens.
    pub client_address: SocketAddr,
    /// Where the mesh API listens.
    pub mesh_address: SocketAddr,
}

/// A state and its place in the log.
#[derive(Clone)]
struct Snapshot {
    state: Arc<State>,
    head: Head,
    length: u64,
}

/// A running coordinator.
pub struct Coordinator {
    tee: Arc<dyn Tee>,
    clock: Clock,
    configuration: CoordinatorConfiguration,
    store: Mutex<Store>,
    published: RwLock<Snapshot>,
    client_key: TeeKey,
    mesh_key: Arc<TeeKey>,
    /// Keeps of a fleet come again and again with the same endorsements.
    verifier: Arc<Verifier>,
}

impl Coordinator {
    /// Unseals the state below `hints.state`, or founds a mesh where there is none.
    pub fn open(
        tee: Arc<dyn Tee>,
        configuration: CoordinatorConfiguration,
        hints: &HostHints,
        clock: Clock,
    ) -> Result<Arc<Self>, StartError> {
        std::fs::create_dir_all(&hints.state).map_err(StartError::Directory)?;
        let (mut store, records) = Store::open(&hints.state.join("state.redb"), tee.as_ref())?;
        let state = match State::replay(&records)? {
            Some(state) => state,
            None => {
                let event = core::found(tee.emulated(), clock())?;
                store.append(&[event.to_record()])?;
                State::step(None, event).map_err(StartError::Founding)?
            }
        };
        let published =
            RwLock::new(Snapshot { state: Arc::new(state), head: store.head(), length: store.length() });
        Ok(Arc::new(Self {
            tee,
            clock,
            configuration,
            store: Mutex::new(store),
            published,
            client_key: TeeKey::generate()?,
            mesh_key: Arc::new(TeeKey::generate()?),
            verifier: Arc::new(attested_tls::statement::verifier()),
        }))
    }

    /// Serves both interfaces until `shutdown`.
    pub async fn serve(
        self: Arc<Self>,
        client: TcpListener,
        mesh: TcpListener,
        shutdown: CancellationToken,
    ) -> Result<(), StartError> {
        let client_api = client_api::serve(self.clone(), client, shutdown.clone());
        let mesh_api = mesh_api::serve(self, mesh, shutdown);
        tokio::try_join!(client_api, mesh_api).map(|_| ())
    }

    fn snapshot(&self) -> Snapshot {
        self.published.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Decides on the newest state, makes the event durable, publishes the new state, and returns what
    /// `decide` had to say. One at a time; blocks for a disk write.
    fn commit<T>(&self, decide: impl FnOnce(&State) -> Result<(Event, T), Refusal>) -> Result<T, Refusal> {
        let mut store =
            self.store.lock().map_err(|_| Refusal::Internal("an earlier commit failed".into()))?;
        let current = self.snapshot().state;
        let (event, answer) = decide(&current)?;
        store.append(&[event.to_record()]).map_err(|error| Refusal::Internal(error.to_string()))?;
        let state = State::step(Some(current.as_ref().clone()), event).map_err(Refusal::Internal)?;
        *self.published.write().unwrap_or_else(PoisonError::into_inner) =
            Snapshot { state: Arc::new(state), head: store.head(), length: store.length() };
        Ok(answer)
    }

    /// What this coordinator says of itself in its Evidence.
    fn claims(&self) -> CoordinatorClaims {
        let snapshot = self.snapshot();
        let mesh = snapshot.state.mesh();
        CoordinatorClaims {
            root: ByteBuf::from(snapshot.state.root().certificate().to_vec()),
            owner: ByteArray::new(self.configuration.owner.0),
            epoch: mesh.map_or(0, core::Mesh::epoch),
            manifest: mesh.map(|mesh| ByteArray::new(mesh.manifest_digest())),
            log_head: ByteArray::new(snapshot.head),
            log_length: snapshot.length,
            intermediate: mesh.map(|mesh| ByteBuf::from(mesh.intermediate().certificate().to_vec())),
        }
    }
}

/// An accepted connection, answering at once instead of waiting for more to send. When none could be
/// accepted (no descriptors left, say), a moment passes before the next attempt.
async fn usable(accepted: std::io::Result<(TcpStream, SocketAddr)>) -> Option<TcpStream> {
    match accepted.and_then(|(stream, _)| stream.set_nodelay(true).map(|()| stream)) {
        Ok(stream) => Some(stream),
        Err(error) => {
            tracing::warn!(code = "ACCEPT_FAILED", reason = %error, "a connection was not accepted");
            tokio::time::sleep(AFTER_ACCEPT_ERROR).await;
            None
        }
    }
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
    /// TLS settings.
    #[error("the TLS configuration is refused")]
    Tls(#[from] rustls::Error),
}

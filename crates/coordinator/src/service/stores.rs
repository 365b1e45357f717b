//! Fetching from secret stores: before a decision, outside of every lock on the state, and never for longer than
//! seconds. What was fetched is kept for a minute, in memory only, so that a fleet that starts asks a store once; it is
//! dropped when the manifest or a credential changes. A store that fails is not asked again for a second, so that those
//! who wait for it learn the same and go.

use std::{
    collections::BTreeMap,
    path::PathBuf,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use attested_tls::{clock::Clock, key::sha256};
use manifest::{Secret, SecretName, StoreName, StoredPlace};
use secret_store::{Credential, Fetched, SecretStore, StoreError, StoreKey};
use tokio::{
    sync::{Mutex as AsyncMutex, Semaphore},
    task::JoinSet,
    time::Instant,
};
use tokio_util::sync::CancellationToken;
use zeroize::Zeroizing;

use super::{Coordinator, StartError};
use crate::core::{self, Mesh, Refusal, State, Stored};

/// How long a value is kept.
const KEPT: Duration = Duration::from_secs(60);
/// A larger value is fetched each time.
const LARGEST_KEPT: usize = 64 * 1024;
/// How long a failure counts for everybody.
const AVOIDED: Duration = Duration::from_secs(1);
/// For all values that one decision needs.
const ALL: Duration = Duration::from_secs(30);
/// Requests at a time, to one store.
const AT_ONCE: usize = 8;
const BETWEEN_CARE: Duration = Duration::from_secs(60);

/// The stores of the manifest in force.
pub(super) struct Stores {
    clock: Clock,
    /// Where the host says that the library for PKCS #11 lies.
    library: Option<PathBuf>,
    current: Mutex<Current>,
}

#[derive(Default)]
struct Current {
    epoch: u64,
    manifest: [u8; 32],
    clients: BTreeMap<StoreName, Arc<Client>>,
    values: BTreeMap<SecretName, Arc<Slot>>,
}

/// One value; whoever fetches it holds the lock, and the others wait for what comes.
type Slot = AsyncMutex<Option<(Instant, Arc<Fetched>)>>;

/// A client, while nobody else changes what is current.
type Opened<'a> = (Arc<Client>, MutexGuard<'a, Current>);

/// A store with the credential that it was opened with.
struct Client {
    credential: [u8; 32],
    store: Arc<dyn SecretStore>,
    places: Semaphore,
    failed: Mutex<Option<(Instant, StoreError)>>,
}

impl Client {
    async fn fetch(&self, place: &StoredPlace) -> Result<Fetched, StoreError> {
        let _place = self.places.acquire().await;
        let failed = lock(&self.failed).clone();
        if let Some((_, error)) = failed.filter(|(since, _)| since.elapsed() < AVOIDED) {
            return Err(error);
        }
        let fetched = self.store.fetch(place).await;
        if let Err(error @ (StoreError::Unreachable(_) | StoreError::Unavailable { .. })) = &fetched {
            *lock(&self.failed) = Some((Instant::now(), error.clone()));
        }
        fetched
    }

    async fn encrypt(&self, key: &StoreKey, plaintext: &[u8]) -> Result<Vec<u8>, StoreError> {
        let _place = self.places.acquire().await;
        self.store.encrypt(key, plaintext).await
    }

    async fn decrypt(&self, key: &StoreKey, ciphertext: &[u8]) -> Result<Zeroizing<Vec<u8>>, StoreError> {
        let _place = self.places.acquire().await;
        self.store.decrypt(key, ciphertext).await
    }
}

async fn in_time<T>(work: impl Future<Output = Result<T, StoreError>>) -> Result<T, StoreError> {
    let late = StoreError::Unreachable("no answer came in time");
    tokio::time::timeout(ALL, work).await.unwrap_or(Err(late))
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Stores {
    pub(super) fn new(clock: Clock, library: Option<PathBuf>) -> Self {
        Self { clock, library, current: Mutex::default() }
    }

    /// The client of a store; a new one where manifest or credential have changed.
    fn client(&self, mesh: &Mesh, store: &manifest::SecretStore) -> Result<Opened<'_>, StoreError> {
        let credential = core::credential(mesh, store)?;
        let digest = digest(&credential);
        let mut current = lock(&self.current);
        current.turn_to(mesh)?;
        if let Some(client) = current.clients.get(&store.name).filter(|client| client.credential == digest) {
            return Ok((client.clone(), current));
        }
        let client = Arc::new(Client {
            credential: digest,
            store: secret_store::open(store, credential, self.clock.clone(), self.library.as_deref())?,
            places: Semaphore::new(AT_ONCE),
            failed: Mutex::default(),
        });
        current.clients.insert(store.name.clone(), client.clone());
        let elsewhere = |name: &SecretName| {
            let at = mesh.manifest().secrets().get(name).and_then(core::stored_at);
            at.is_some_and(|at| at.store != store.name)
        };
        current.values.retain(|name, _| elsewhere(name));
        Ok((client, current))
    }

    async fn value(&self, mesh: &Mesh, secret: &Secret) -> Result<Arc<Fetched>, StoreError> {
        let at = core::stored_at(secret).ok_or(StoreError::Missing)?;
        let store = mesh.manifest().stores().get(&at.store).ok_or(StoreError::Missing)?;
        let (client, slot) = {
            let (client, mut current) = self.client(mesh, store)?;
            (client, current.values.entry(secret.name.clone()).or_default().clone())
        };
        let mut held = slot.lock().await;
        if let Some((_, value)) = held.as_ref().filter(|(since, _)| since.elapsed() < KEPT) {
            return Ok(value.clone());
        }
        *held = None;
        let value = Arc::new(client.fetch(&at.place).await?);
        tracing::info!(store = %at.store, secret = %secret.name, version = value.version, "fetched from a secret store");
        if value.value.len() <= LARGEST_KEPT {
            *held = Some((Instant::now(), value.clone()));
        }
        Ok(value)
    }

    /// Renews what would end soon, and forgets what was kept for long enough.
    async fn care(&self, state: Option<&State>) {
        let clients: Vec<_> = {
            let mut current = lock(&self.current);
            match state.and_then(State::mesh) {
                Some(mesh) => drop(current.turn_to(mesh)),
                None => *current = Current::default(),
            }
            // A slot that is locked is being filled.
            current.values.retain(|_, slot| {
                slot.try_lock()
                    .map_or(true, |held| held.as_ref().is_some_and(|(since, _)| since.elapsed() < KEPT))
            });
            current.clients.iter().map(|(name, client)| (name.clone(), client.clone())).collect()
        };
        for (name, client) in clients {
            if let Err(error) = client.store.keep().await {
                tracing::warn!(code = error.code(), store = %name, reason = %error, "access to a secret store could not be kept");
            }
        }
    }
}

impl Current {
    /// Forgets everything of another manifest. Whoever decides by one that is in force no longer gets nothing, for its
    /// stores may be others under the same names.
    fn turn_to(&mut self, mesh: &Mesh) -> Result<(), StoreError> {
        let (epoch, manifest) = (mesh.epoch(), mesh.manifest_digest());
        if epoch < self.epoch {
            return Err(StoreError::Unreachable("another manifest has come into force meanwhile"));
        }
        if (self.epoch, self.manifest) != (epoch, manifest) {
            *self = Self { epoch, manifest, ..Self::default() };
        }
        Ok(())
    }
}

fn digest(credential: &Credential) -> [u8; 32] {
    match credential {
        Credential::Text(text) => sha256(text),
        Credential::Certificate(identity) => {
            let leaf = identity.chain.first().map_or(&[][..], |leaf| leaf);
            sha256(&[&sha256(leaf)[..], &sha256(identity.key.secret_der())].concat())
        }
    }
}

impl Coordinator {
    /// The values of these secrets, from their stores or from memory.
    pub(super) async fn fetch(
        self: &Arc<Self>,
        state: &Arc<State>,
        names: Vec<SecretName>,
    ) -> Result<Stored, Refusal> {
        let mut stored = Stored::new(state.mesh().ok_or(Refusal::NoManifest)?);
        let mut tasks = JoinSet::new();
        for name in names {
            let (coordinator, state) = (self.clone(), state.clone());
            tasks.spawn(async move {
                let mesh = state.mesh().ok_or(Refusal::NoManifest)?;
                let secret = mesh.manifest().secrets().get(&name).ok_or(Refusal::NoSecrets)?;
                let fetched = tokio::time::timeout(ALL, coordinator.stores.value(mesh, secret)).await;
                let late = StoreError::Unreachable("no answer came in time");
                let fetched = fetched.unwrap_or(Err(late)).map_err(|error| core::refused(secret, error))?;
                Ok((secret.clone(), fetched))
            });
        }
        while let Some(fetched) = tasks.join_next().await {
            let cancelled = |_| Err(Refusal::Internal("the request was cancelled".into()));
            let (secret, fetched) = fetched.unwrap_or_else(cancelled)?;
            stored.insert(&secret, &fetched)?;
        }
        Ok(stored)
    }

    /// What a key that stays in a store encrypts something to. `secret` is the key's name, for the words of a refusal.
    pub(super) async fn encrypt_by(
        &self,
        mesh: &Mesh,
        secret: &SecretName,
        store: &StoreName,
        key: &StoreKey,
        plaintext: &[u8],
    ) -> Result<Vec<u8>, Refusal> {
        let (secret, client) = self.holder_of(mesh, secret, store)?;
        in_time(async { client.encrypt(key, plaintext).await })
            .await
            .map_err(|error| core::refused(secret, error))
    }

    /// As [`Self::encrypt_by`], and back.
    pub(super) async fn decrypt_by(
        &self,
        mesh: &Mesh,
        secret: &SecretName,
        store: &StoreName,
        key: &StoreKey,
        ciphertext: &[u8],
    ) -> Result<Zeroizing<Vec<u8>>, Refusal> {
        let (secret, client) = self.holder_of(mesh, secret, store)?;
        in_time(async { client.decrypt(key, ciphertext).await })
            .await
            .map_err(|error| core::refused(secret, error))
    }

    fn holder_of<'m>(
        &self,
        mesh: &'m Mesh,
        secret: &SecretName,
        store: &StoreName,
    ) -> Result<(&'m Secret, Arc<Client>), Refusal> {
        let secret = mesh.manifest().secrets().get(secret).ok_or(Refusal::NoSecrets)?;
        let store = mesh.manifest().stores().get(store).ok_or(Refusal::NoSecrets)?;
        let client = self.stores.client(mesh, store).map(|(client, _)| client);
        Ok((secret, client.map_err(|error| core::refused(secret, error))?))
    }

    /// Looks after the stores until `shutdown`.
    pub(super) async fn keep_stores(self: Arc<Self>, shutdown: CancellationToken) -> Result<(), StartError> {
        while tokio::time::timeout(BETWEEN_CARE, shutdown.cancelled()).await.is_err() {
            let state = self.snapshot().ok().map(|snapshot| snapshot.state);
            self.stores.care(state.as_deref()).await;
        }
        Ok(())
    }

    /// How a store is, and the secrets in it: asked anew.
    pub(super) async fn look_at(&self, mesh: &Mesh, name: &StoreName) -> Option<Look> {
        let store = mesh.manifest().stores().get(name)?;
        let client = self.stores.client(mesh, store).map(|(client, _)| client);
        let access = match &client {
            Ok(client) => client.store.check().await,
            Err(error) => Err(error.clone()),
        };
        let mut secrets = Vec::new();
        for secret in mesh.manifest().secrets().values() {
            let Some(at) = core::stored_at(secret).filter(|at| at.store == *name) else { continue };
            let found = match (&access, &client) {
                (Ok(()), Ok(client)) => looked_at(client, &at.place).await,
                (Err(error), _) | (_, Err(error)) => Err(error.clone()),
            };
            let found = found.and_then(|fetched| {
                // A value of another size than declared is of no use either.
                Stored::default()
                    .insert(secret, &fetched)
                    .map_err(|_| StoreError::Malformed("the value has not the key's declared size"))?;
                Ok(fetched.version)
            });
            secrets.push((secret.name.clone(), at.place.to_string(), found));
        }
        Some(Look { access, secrets })
    }
}

/// Whether it is there, and works where it has no value.
async fn looked_at(client: &Client, place: &StoredPlace) -> Result<Fetched, StoreError> {
    let StoredPlace::Held { label, mechanism } = place else { return client.store.fetch(place).await };
    let key = StoreKey::Token { key: label.clone(), mechanism: *mechanism };
    let encrypted = client.store.encrypt(&key, b"a look").await?;
    client.store.decrypt(&key, &encrypted).await.map(|value| Fetched { value, version: None })
}

/// How a store is.
pub(super) struct Look {
    /// Whether it lets us in.
    pub(super) access: Result<(), StoreError>,
    /// Each secret in it, where it lies, and whether it is there, in which version.
    pub(super) secrets: Vec<(SecretName, String, Result<Option<u64>, StoreError>)>,
}

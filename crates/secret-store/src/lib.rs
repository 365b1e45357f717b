//! Secret stores outside the mesh, by one trait: HashiCorp Vault and OpenBao over their HTTP API, PKCS #11 tokens.
//!
//! What a store is and where in it something lies is the manifest's word ([`manifest::SecretStore`],
//! [`manifest::StoredPlace`]); a [`Credential`] is the coordinator's. Whoever answers is known by the manifest's roots or
//! digest, and by nothing of the host. What comes back is bounded in size and time, and every failure is a
//! [`StoreError`], which has nothing that was secret and no word that the other side chose.
//!
//! It decides nothing: not who may have a value, nor when it is fetched, nor how long it is kept.
//!
//! ```no_run
//! # async fn example(store: &manifest::SecretStore, place: &manifest::StoredPlace) -> Result<(), secret_store::StoreError> {
//! use secret_store::{Credential, open};
//!
//! let token = Credential::Text(zeroize::Zeroizing::new(b"hvs.example".to_vec()));
//! let store = open(store, token, attested_tls::clock::system(), None)?;
//! let value = store.fetch(place).await?.value;
//! # Ok(()) }
//! ```

mod credential;
mod error;
mod token;
pub mod vault;

use std::{path::Path, sync::Arc};

use async_trait::async_trait;
use attested_tls::clock::Clock;
use manifest::{StoreKind, StoredPlace, WrapMechanism};
use zeroize::Zeroizing;

pub use credential::Credential;
pub use error::StoreError;

/// The most that a store's whole answer may have, in bytes.
pub const MAX_ANSWER: usize = 1024 * 1024;

/// A value out of a store.
#[derive(Clone, PartialEq, Eq)]
pub struct Fetched {
    /// As it is to be used: decoded, decrypted; never empty.
    pub value: Zeroizing<Vec<u8>>,
    /// Of which version, where the store counts them.
    pub version: Option<u64>,
}

impl std::fmt::Debug for Fetched {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Fetched").field("version", &self.version).finish_non_exhaustive()
    }
}

/// A key that never leaves its store.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum StoreKey {
    /// Of Vault's transit engine.
    Transit {
        /// Where the engine is mounted.
        mount: String,
        /// Its name.
        key: String,
    },
    /// Of a PKCS #11 token.
    Token {
        /// Its label.
        key: String,
        /// How it encrypts and decrypts.
        mechanism: WrapMechanism,
    },
}

/// A secret store. All of it ends within seconds, whatever the other side does.
#[async_trait]
pub trait SecretStore: Send + Sync {
    /// The value at a place, or what the store decrypts the place's ciphertext to.
    async fn fetch(&self, place: &StoredPlace) -> Result<Fetched, StoreError>;

    /// What a key of the store decrypts a ciphertext to: for ciphertexts that come with a request.
    async fn decrypt(&self, key: &StoreKey, ciphertext: &[u8]) -> Result<Zeroizing<Vec<u8>>, StoreError>;

    /// What a key of the store encrypts a plaintext to, for [`Self::decrypt`].
    async fn encrypt(&self, key: &StoreKey, plaintext: &[u8]) -> Result<Vec<u8>, StoreError>;

    /// Whether the store can be reached, is the one that the manifest names, and accepts the credential.
    async fn check(&self) -> Result<(), StoreError>;

    /// Keeps the access alive if it would otherwise end soon; does nothing where there is none yet. Call it every
    /// minute or so.
    async fn keep(&self) -> Result<(), StoreError>;
}

/// A store of the manifest. Nothing is dialled or loaded yet. `library` is where the host says that the library of PKCS #11
/// lies; which one it is, the manifest says.
///
/// # Errors
/// A credential that cannot be one, or roots that cannot; a PKCS #11 store without a library.
pub fn open(
    store: &manifest::SecretStore,
    credential: Credential,
    clock: Clock,
    library: Option<&Path>,
) -> Result<Arc<dyn SecretStore>, StoreError> {
    match &store.kind {
        StoreKind::Vault(vault) => Ok(Arc::new(vault::Vault::new(vault, credential, clock)?)),
        StoreKind::Pkcs11(token) => {
            let library = library.ok_or(StoreError::NoLibrary)?;
            Ok(Arc::new(token::TokenStore::new(token, &credential, library.to_owned())?))
        }
    }
}

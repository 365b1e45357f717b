//! PKCS #11 tokens. The library runs in this process, with all that this process may do: the manifest names it by its
//! digest, and what is loaded is what was measured (`pkcs11::measured_library`).

use std::{path::PathBuf, sync::Arc, time::Duration};

use async_trait::async_trait;
use manifest::{Pkcs11Store, StoredPlace, WrapMechanism};
use pkcs11::{LibraryError, Token, TokenError, Unwrapping, measured_library};
use tokio::sync::Mutex;
use zeroize::Zeroizing;

use crate::{Credential, Fetched, MAX_ANSWER, SecretStore, StoreError, StoreKey};

/// For everything that one call does. A library cannot be interrupted: one that hangs keeps its thread, and the calls
/// behind it end by this.
const CALL: Duration = Duration::from_secs(10);

pub(crate) struct TokenStore {
    /// Where the host says that the library lies.
    path: PathBuf,
    store: Pkcs11Store,
    pin: Zeroizing<String>,
    /// Tokens do one thing at a time.
    session: Arc<Mutex<Access>>,
}

enum Access {
    None,
    Open(Token),
    /// The token refused the PIN. It is not tried again, for a token locks itself after a few.
    Refused,
}

impl TokenStore {
    pub(crate) fn new(
        store: &Pkcs11Store,
        credential: &Credential,
        path: PathBuf,
    ) -> Result<Self, StoreError> {
        let (store, pin) = (store.clone(), credential.text()?);
        Ok(Self { path, store, pin, session: Arc::new(Mutex::new(Access::None)) })
    }

    /// Does something with the token. One that has lost the session, as networked ones may, is asked once more.
    async fn with<T: Send + 'static>(
        &self,
        work: impl Fn(&Token) -> Result<T, TokenError> + Send + 'static,
    ) -> Result<T, StoreError> {
        let (path, store, pin) = (self.path.clone(), self.store.clone(), self.pin.clone());
        let calls = async {
            let mut access = self.session.clone().lock_owned().await;
            let calls = tokio::task::spawn_blocking(move || {
                let held = matches!(*access, Access::Open(_));
                let first =
                    opened(&mut access, &path, &store, &pin).and_then(|token| work(token).map_err(fault));
                match first {
                    Err(StoreError::Unreachable(_)) if held => {
                        *access = Access::None;
                        opened(&mut access, &path, &store, &pin).and_then(|token| work(token).map_err(fault))
                    }
                    other => other,
                }
            });
            calls.await.unwrap_or(Err(StoreError::Unreachable("the library ended its thread")))
        };
        let late = StoreError::Unreachable("no answer came in time");
        tokio::time::timeout(CALL, calls).await.unwrap_or(Err(late))
    }

    async fn unwrap(
        &self,
        key: &str,
        how: WrapMechanism,
        ciphertext: &[u8],
    ) -> Result<Zeroizing<Vec<u8>>, StoreError> {
        let (key, ciphertext, how) = (key.to_owned(), ciphertext.to_vec(), unwrapping(how));
        whole(self.with(move |token| token.decrypt(&key, how, &ciphertext)).await?)
    }
}

fn unwrapping(how: WrapMechanism) -> Unwrapping {
    match how {
        WrapMechanism::RsaOaepSha256 => Unwrapping::RsaOaepSha256,
        WrapMechanism::RsaOaepSha1 => Unwrapping::RsaOaepSha1,
        WrapMechanism::AesGcm => Unwrapping::AesGcm,
    }
}

fn opened<'a>(
    access: &'a mut Access,
    path: &std::path::Path,
    store: &Pkcs11Store,
    pin: &str,
) -> Result<&'a Token, StoreError> {
    if let Access::None = access {
        let library = measured_library(path, &store.library).map_err(|error| match error {
            LibraryError::Unreadable => {
                StoreError::Library("it is no file that can be read, or too large, or a link")
            }
            LibraryError::Other { .. } => {
                StoreError::Library("its SHA-256 is not the one that the manifest names")
            }
            LibraryError::Unloadable(_) => StoreError::Library("it cannot be loaded, or does not start"),
        })?;
        match Token::open(&library, &store.token, pin) {
            Ok(token) => *access = Access::Open(token),
            Err(TokenError::Pin(_)) => *access = Access::Refused,
            Err(error) => return Err(fault(error)),
        }
    }
    match access {
        Access::Open(token) => Ok(token),
        Access::None | Access::Refused => Err(StoreError::Denied),
    }
}

fn fault(error: TokenError) -> StoreError {
    match error {
        TokenError::Tokens { .. } => StoreError::Unreachable("there is not one token of that label"),
        TokenError::Keys { found: 0, .. } => StoreError::Missing,
        TokenError::Keys { .. } => StoreError::Ambiguous,
        TokenError::Pin(_) | TokenError::NotReadable => StoreError::Denied,
        TokenError::TooShort | TokenError::NotOpened => StoreError::Rejected { status: 400 },
        _ => StoreError::Unreachable("the library reports a failure"),
    }
}

fn whole(value: Zeroizing<Vec<u8>>) -> Result<Zeroizing<Vec<u8>>, StoreError> {
    match value.len() {
        0 => Err(StoreError::Malformed("the value is empty")),
        1..=MAX_ANSWER => Ok(value),
        _ => Err(StoreError::TooLarge { most: MAX_ANSWER }),
    }
}

#[async_trait]
impl SecretStore for TokenStore {
    async fn fetch(&self, place: &StoredPlace) -> Result<Fetched, StoreError> {
        let value = match place {
            StoredPlace::Object { label } => {
                let label = label.clone();
                whole(self.with(move |token| token.value(&label)).await?)?
            }
            StoredPlace::Wrapped { key, mechanism, ciphertext } => {
                self.unwrap(key, *mechanism, ciphertext).await?
            }
            // There is no value to be had, only what it opens.
            StoredPlace::Held { .. } => return Err(StoreError::Denied),
            StoredPlace::Kv { .. } | StoredPlace::Transit { .. } => return Err(StoreError::Missing),
        };
        Ok(Fetched { value, version: None })
    }

    async fn decrypt(&self, key: &StoreKey, ciphertext: &[u8]) -> Result<Zeroizing<Vec<u8>>, StoreError> {
        match key {
            StoreKey::Token { key, mechanism } => self.unwrap(key, *mechanism, ciphertext).await,
            StoreKey::Transit { .. } => Err(StoreError::Missing),
        }
    }

    async fn encrypt(&self, key: &StoreKey, plaintext: &[u8]) -> Result<Vec<u8>, StoreError> {
        let StoreKey::Token { key, mechanism } = key else { return Err(StoreError::Missing) };
        let (key, plaintext) = (key.clone(), Zeroizing::new(plaintext.to_vec()));
        let how = unwrapping(*mechanism);
        self.with(move |token| token.encrypt(&key, how, &plaintext)).await
    }

    async fn check(&self) -> Result<(), StoreError> {
        self.with(|_| Ok(())).await
    }

    /// A session lasts as long as the token does.
    async fn keep(&self) -> Result<(), StoreError> {
        Ok(())
    }
}

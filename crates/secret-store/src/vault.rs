//! HashiCorp Vault and OpenBao, which speak the same API: key-value engines, the transit engine, and three ways to
//! authenticate.
//!
//! ```text
//!  none ──log in──▶ access ──half of its time──▶ renewed ──…
//!                     └──the server denies it──▶ none, and once more
//! ```

pub mod answer;
mod wire;

use std::time::Duration;

use async_trait::async_trait;
use attested_tls::{clock::Clock, service};
use hyper::{Method, header::HeaderValue};
use manifest::{StoredPlace, VaultAuth, VaultStore};
use rustls::pki_types::CertificateDer;
use serde_json::json;
use tokio::{sync::Mutex, time::Instant};
use zeroize::Zeroizing;

use self::{
    answer::Lease,
    wire::{Asked, Server},
};
use crate::{Credential, Fetched, SecretStore, StoreError, StoreKey};

/// For everything that one call does.
const CALL: Duration = Duration::from_secs(10);
/// Pauses between tries of what may be asked twice.
const PAUSES: [Duration; 2] = [Duration::from_millis(150), Duration::from_millis(600)];

/// A server with Vault's API.
pub struct Vault {
    server: Server,
    auth: VaultAuth,
    credential: Credential,
    access: Mutex<Option<Access>>,
}

struct Access {
    lease: Lease,
    since: Instant,
}

impl Access {
    fn has_used(&self, part: f64) -> bool {
        self.lease.lasts.is_some_and(|lasts| self.since.elapsed() >= lasts.mul_f64(part))
    }
}

impl Vault {
    /// A client; nothing is dialled yet.
    pub(crate) fn new(store: &VaultStore, credential: Credential, clock: Clock) -> Result<Self, StoreError> {
        let roots = store.roots.iter().map(|root| CertificateDer::from(root.0.clone()));
        let identity = match (&store.auth, &credential) {
            (VaultAuth::Certificate { .. }, Credential::Certificate(identity)) => Some(identity),
            (VaultAuth::Certificate { .. }, Credential::Text(_)) => {
                return Err(StoreError::Credential("it is text, and a certificate is needed"));
            }
            _ => credential.text().map(|_| None)?,
        };
        let tls = service::rooted_client(roots, identity, clock).map_err(|_| {
            StoreError::Credential("neither the roots nor the client's certificate are of any use to TLS")
        })?;
        let name = store.host.clone().try_into();
        let namespace = store.namespace.as_deref().map(HeaderValue::from_str).transpose();
        let malformed = StoreError::Malformed("neither its address nor its namespace can be used");
        let server = Server {
            host: store.host.clone(),
            port: store.port,
            name: name.map_err(|_| malformed.clone())?,
            tls,
            namespace: namespace.map_err(|_| malformed)?,
        };
        Ok(Self { server, auth: store.auth.clone(), credential, access: Mutex::new(None) })
    }

    /// Reads or decrypts: what does no harm when it is done twice. A token that the server denies may have been revoked
    /// before its time, so access is asked for once more.
    async fn call(&self, asked: &Asked) -> Result<Zeroizing<Vec<u8>>, StoreError> {
        let calls = async {
            let (token, fresh) = self.token().await?;
            match self.persist(asked, &token).await {
                Err(StoreError::Denied) if !fresh => {
                    self.forget(&token).await;
                    let (token, _) = self.token().await?;
                    self.persist(asked, &token).await
                }
                other => other,
            }
        };
        in_time(calls).await
    }

    async fn persist(&self, asked: &Asked, token: &str) -> Result<Zeroizing<Vec<u8>>, StoreError> {
        for pause in PAUSES {
            match self.server.ask(asked, Some(token)).await {
                Err(error) if error.is_passing() => tokio::time::sleep(pause).await,
                other => return other,
            }
        }
        self.server.ask(asked, Some(token)).await
    }

    /// A token that is valid for a while, and whether it is new.
    async fn token(&self) -> Result<(Zeroizing<String>, bool), StoreError> {
        let mut access = self.access.lock().await;
        if let Some(held) = access.as_mut() {
            self.renew(held).await;
            if !held.has_used(0.9) {
                return Ok((held.lease.token.clone(), false));
            }
        }
        *access = None;
        let lease = self.log_in().await?;
        let token = lease.token.clone();
        *access = Some(Access { lease, since: Instant::now() });
        Ok((token, true))
    }

    async fn forget(&self, token: &str) {
        let mut access = self.access.lock().await;
        if access.as_ref().is_some_and(|held| *held.lease.token == token) {
            *access = None;
        }
    }

    /// Makes the access last longer if half of its time is over. Where that fails, it lasts as long as it does.
    async fn renew(&self, access: &mut Access) {
        if !access.lease.renewable || !access.has_used(0.5) {
            return;
        }
        let asked = post("auth/token/renew-self".to_owned(), &json!({}));
        let token = access.lease.token.clone();
        if let Ok(lease) = self.server.ask(&asked, Some(&token)).await.and_then(|body| answer::login(&body)) {
            *access = Access { lease, since: Instant::now() };
        }
    }

    /// Done once: a secret ID may be good for one login only.
    async fn log_in(&self) -> Result<Lease, StoreError> {
        let (mount, body) = match &self.auth {
            VaultAuth::Token { .. } => return self.own_token().await,
            VaultAuth::AppRole { mount, role_id, .. } => {
                let secret_id = self.credential.text()?;
                (mount, json!({ "role_id": role_id, "secret_id": *secret_id }))
            }
            VaultAuth::Certificate { mount, role, .. } => match role {
                Some(role) => (mount, json!({ "name": role })),
                None => (mount, json!({})),
            },
        };
        let asked = post(format!("auth/{}/login", encoded(mount)), &body);
        match self.server.ask(&asked, None).await {
            // To a role or secret ID that it does not know, the server answers 400.
            Err(StoreError::Rejected { status: 400 }) => Err(StoreError::Denied),
            other => answer::login(&other?),
        }
    }

    /// How long the token lasts, if it may ask that; where not, it is taken as it is.
    async fn own_token(&self) -> Result<Lease, StoreError> {
        let token = self.credential.text()?;
        match self.server.ask(&get("auth/token/lookup-self".to_owned()), Some(&token)).await {
            Ok(body) => answer::own_token(&body, token),
            Err(StoreError::Denied) => Ok(Lease { token, lasts: None, renewable: false }),
            Err(error) => Err(error),
        }
    }

    async fn transit(&self, mount: &str, key: &str, ciphertext: &str) -> Result<Fetched, StoreError> {
        let path = format!("{}/decrypt/{}", encoded(mount), encoded(key));
        let body = self.call(&post(path, &json!({ "ciphertext": ciphertext }))).await?;
        Ok(Fetched { value: answer::plaintext(&body)?, version: None })
    }
}

#[async_trait]
impl SecretStore for Vault {
    async fn fetch(&self, place: &StoredPlace) -> Result<Fetched, StoreError> {
        match place {
            StoredPlace::Kv { mount, path, field, engine, encoding } => {
                let (mount, path) = (encoded(mount), encoded(path));
                let path = match engine {
                    manifest::KvEngine::One => format!("{mount}/{path}"),
                    manifest::KvEngine::Two(None) => format!("{mount}/data/{path}"),
                    manifest::KvEngine::Two(Some(version)) => {
                        format!("{mount}/data/{path}?version={version}")
                    }
                };
                let body = self.call(&get(path)).await?;
                answer::kv(&body, *engine, field, *encoding)
            }
            StoredPlace::Transit { mount, key, ciphertext } => self.transit(mount, key, ciphertext).await,
            StoredPlace::Object { .. } | StoredPlace::Wrapped { .. } | StoredPlace::Held { .. } => {
                Err(StoreError::Missing)
            }
        }
    }

    async fn decrypt(&self, key: &StoreKey, ciphertext: &[u8]) -> Result<Zeroizing<Vec<u8>>, StoreError> {
        let StoreKey::Transit { mount, key } = key else { return Err(StoreError::Missing) };
        let ciphertext = std::str::from_utf8(ciphertext).map_err(|_| StoreError::Rejected { status: 400 })?;
        self.transit(mount, key, ciphertext).await.map(|fetched| fetched.value)
    }

    /// No place of a manifest asks this of Vault.
    async fn encrypt(&self, _: &StoreKey, _: &[u8]) -> Result<Vec<u8>, StoreError> {
        Err(StoreError::Missing)
    }

    async fn check(&self) -> Result<(), StoreError> {
        self.call(&get("auth/token/lookup-self".to_owned())).await.map(|_| ())
    }

    async fn keep(&self) -> Result<(), StoreError> {
        let renewal = async {
            if let Some(access) = self.access.lock().await.as_mut() {
                self.renew(access).await;
            }
            Ok(())
        };
        in_time(renewal).await
    }
}

async fn in_time<T>(work: impl Future<Output = Result<T, StoreError>>) -> Result<T, StoreError> {
    let result = tokio::time::timeout(CALL, work).await;
    result.unwrap_or(Err(StoreError::Unreachable("no answer came in time")))
}

fn get(path: String) -> Asked {
    Asked { method: Method::GET, path, body: None }
}

fn post(path: String, body: &serde_json::Value) -> Asked {
    Asked { method: Method::POST, path, body: Some(Zeroizing::new(body.to_string().into_bytes())) }
}

/// RFC 3986 §2.1: whatever is not unreserved, slashes aside.
fn encoded(path: &str) -> String {
    let mut encoded = String::with_capacity(path.len());
    for byte in path.bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'_' | b'.' | b'~' | b'/' => {
                encoded.push(char::from(byte))
            }
            _ => encoded.push_str(&format!("%{byte:02X}")),
        }
    }
    encoded
}

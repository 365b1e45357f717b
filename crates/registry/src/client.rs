//! One registry: its manifests, blobs and lists of referrers.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use attested_tls::clock::Clock;
use hyper::{
    Method, StatusCode,
    body::Bytes,
    header::{ACCEPT, HeaderName, HeaderValue, LOCATION, RETRY_AFTER, WWW_AUTHENTICATE},
};
use package::{Descriptor, Digest, MANIFEST_TYPE, MAX_MANIFEST, Reference, Referrers, Repository};
use rustls::{ClientConfig, RootCertStore, pki_types::CertificateDer};
use zeroize::Zeroizing;

use crate::{
    RegistryError,
    auth::{Challenge, encoded},
    wire::{Answer, Asked, Place},
};

/// Answers that only tell whether something was done.
const MAX_RECEIPT: u64 = 64 * 1024;
/// How often a registry that is busy is asked.
const TRIES: usize = 4;
/// The longest that a busy registry is given.
const LONGEST_WAIT: u64 = 20;
/// More hops than this lead nowhere.
const MOST_REDIRECTS: usize = 4;

/// How a registry is known.
#[derive(Clone)]
pub enum Security {
    /// By its certificate.
    Tls(Arc<ClientConfig>),
    /// Not at all: what it says is checked, and everybody on the way sees it.
    Plain,
}

/// What proves to a registry who we are.
#[derive(Clone)]
pub struct Credentials {
    /// The user.
    pub username: String,
    /// Or a token.
    pub password: Zeroizing<String>,
}

/// A client of one registry.
pub struct Client {
    place: Place,
    credentials: Option<Credentials>,
    /// What the registry accepted last, and for what it was made.
    accepted: Mutex<Option<(String, HeaderValue)>>,
}

impl Security {
    /// By the CAs of the Web.
    ///
    /// # Errors
    /// [`RegistryError::Tls`].
    pub fn web(clock: Clock) -> Result<Self, RegistryError> {
        Self::tls(RootCertStore { roots: webpki_roots::TLS_SERVER_ROOTS.to_vec() }, clock)
    }

    /// By these CAs, DER, and no others.
    ///
    /// # Errors
    /// [`RegistryError::Tls`].
    pub fn roots(roots: impl IntoIterator<Item = Vec<u8>>, clock: Clock) -> Result<Self, RegistryError> {
        let mut store = RootCertStore::empty();
        for root in roots {
            store.add(CertificateDer::from(root)).map_err(|error| RegistryError::Tls(error.to_string()))?;
        }
        Self::tls(store, clock)
    }

    fn tls(roots: RootCertStore, clock: Clock) -> Result<Self, RegistryError> {
        let config = attested_tls::service::web_client(roots, clock);
        config.map(Self::Tls).map_err(|error| RegistryError::Tls(error.to_string()))
    }
}

impl Client {
    /// A client of the registry `HOST` or `HOST:PORT`.
    ///
    /// # Errors
    /// [`RegistryError::PlainCredentials`].
    pub fn new(
        registry: &str,
        security: Security,
        credentials: Option<Credentials>,
    ) -> Result<Self, RegistryError> {
        let tls = match security {
            Security::Tls(config) => Some(config),
            Security::Plain if credentials.is_some() => return Err(RegistryError::PlainCredentials),
            Security::Plain => None,
        };
        let place = Place { authority: registry.to_owned(), tls };
        Ok(Self { place, credentials, accepted: Mutex::new(None) })
    }

    /// The digest that a tag has now, by the registry's word; or that of the reference. What is fetched by it is
    /// checked, and what it ought to be nobody knows (S-29).
    ///
    /// # Errors
    /// [`RegistryError`].
    pub async fn resolve(&self, reference: &Reference) -> Result<Digest, RegistryError> {
        if let Some(digest) = reference.digest {
            return Ok(digest);
        }
        let tag = reference.tag.as_ref().map_or_else(|| "latest".to_owned(), ToString::to_string);
        let bytes = self.named_manifest(&reference.repository, &tag).await?;
        Ok(Digest::of(&bytes))
    }

    /// A manifest's exact bytes.
    ///
    /// # Errors
    /// [`RegistryError`].
    pub async fn manifest(&self, repository: &Repository, digest: Digest) -> Result<Vec<u8>, RegistryError> {
        let bytes = self.named_manifest(repository, &digest.to_string()).await?;
        checked("the manifest", digest, bytes)
    }

    async fn named_manifest(&self, repository: &Repository, name: &str) -> Result<Vec<u8>, RegistryError> {
        let asked = Asked::get(format!("/v2/{}/manifests/{name}", repository.path()));
        // An index is asked for too: that it is none of ours is for its reader to say.
        let asked =
            asked.with(ACCEPT, &format!("{MANIFEST_TYPE}, application/vnd.oci.image.index.v1+json"))?;
        let answer = self.ask(asked, &pull(repository), MAX_MANIFEST as u64).await?;
        expect(&answer, &[200], "manifest")?;
        Ok(answer.body)
    }

    /// A blob, as its descriptor has it.
    ///
    /// # Errors
    /// [`RegistryError`].
    pub async fn blob(&self, repository: &Repository, blob: &Descriptor) -> Result<Vec<u8>, RegistryError> {
        let asked = Asked::get(format!("/v2/{}/blobs/{}", repository.path(), blob.digest));
        let limit = blob.size.max(MAX_RECEIPT);
        let answer = self.ask(asked, &pull(repository), limit).await?;
        expect(&answer, &[200], "blob")?;
        let seen = answer.body.len() as u64;
        if seen != blob.size {
            return Err(RegistryError::Size { what: "a blob", expected: blob.size, seen });
        }
        checked("a blob", blob.digest, answer.body)
    }

    /// Puts a blob where it is not yet. Whether there was something to do.
    ///
    /// # Errors
    /// [`RegistryError`].
    pub async fn put_blob(
        &self,
        repository: &Repository,
        blob: &Descriptor,
        bytes: &[u8],
    ) -> Result<bool, RegistryError> {
        let mut there = Asked::get(format!("/v2/{}/blobs/{}", repository.path(), blob.digest));
        there.method = Method::HEAD;
        if self.ask(there, &both(repository), MAX_RECEIPT).await?.status == StatusCode::OK {
            return Ok(false);
        }
        let mut begin = Asked::get(format!("/v2/{}/blobs/uploads/", repository.path()));
        begin.method = Method::POST;
        let begun = self.ask(begin, &both(repository), MAX_RECEIPT).await?;
        expect(&begun, &[202], "repository")?;
        let (place, target) = self.place.located(&begun)?;
        let mark = if target.contains('?') { '&' } else { '?' };
        let target = format!("{target}{mark}digest={}", encoded(&blob.digest.to_string()));
        let mut put =
            Asked::get(target).carrying("application/octet-stream", Bytes::copy_from_slice(bytes))?;
        put.method = Method::PUT;
        let done = if place.authority == self.place.authority {
            self.ask(put, &both(repository), MAX_RECEIPT).await?
        } else {
            place.ask(&put, None, MAX_RECEIPT).await?
        };
        expect(&done, &[201], "upload")?;
        Ok(true)
    }

    /// Puts a manifest, under `name`: its digest, or a tag. Whether the registry lists it by its subject.
    ///
    /// # Errors
    /// [`RegistryError`].
    pub async fn put_manifest(
        &self,
        repository: &Repository,
        name: &str,
        kind: &str,
        bytes: &[u8],
    ) -> Result<bool, RegistryError> {
        let put = Asked::get(format!("/v2/{}/manifests/{name}", repository.path()));
        let mut put = put.carrying(kind, Bytes::copy_from_slice(bytes))?;
        put.method = Method::PUT;
        let done = self.ask(put, &both(repository), MAX_RECEIPT).await?;
        expect(&done, &[201], "repository")?;
        Ok(done.headers.contains_key(HeaderName::from_static("oci-subject")))
    }

    /// What is attached to a manifest: the registry's list, or that of the tag `sha256-…` where it keeps none (distribution
    /// specification 1.1, "Referrers Tag Schema").
    ///
    /// # Errors
    /// [`RegistryError`].
    pub async fn referrers(
        &self,
        repository: &Repository,
        subject: Digest,
    ) -> Result<Referrers, RegistryError> {
        let asked = Asked::get(format!("/v2/{}/referrers/{subject}", repository.path()));
        let answer = self.ask(asked, &pull(repository), MAX_MANIFEST as u64).await?;
        let bytes = match answer.status.as_u16() {
            200 => answer.body,
            // Registries before 1.1 do not know the path, and say so in several ways.
            _ => match self.named_manifest(repository, &fallback(subject)).await {
                Ok(bytes) => bytes,
                Err(RegistryError::NotFound { .. }) => return Ok(Referrers::default()),
                Err(error) => return Err(error),
            },
        };
        Referrers::read(&bytes).map_err(|_| RegistryError::Malformed("its list of referrers is none"))
    }

    /// One request with what it takes to be allowed, again where the registry is busy, and elsewhere where it says so.
    async fn ask(&self, asked: Asked, scope: &str, limit: u64) -> Result<Answer, RegistryError> {
        let accepted = self.accepted.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let mut authorisation = accepted.filter(|(of, _)| of == scope).map(|(_, value)| value);
        let mut challenged = false;
        for _ in 0..TRIES {
            let answer = self.place.ask(&asked, authorisation.as_ref(), limit).await?;
            match answer.status.as_u16() {
                401 if !challenged => {
                    challenged = true;
                    let value = self.challenged(&answer, scope).await?;
                    let kept = Some((scope.to_owned(), value.clone()));
                    *self.accepted.lock().unwrap_or_else(PoisonError::into_inner) = kept;
                    authorisation = Some(value);
                }
                401 => return Err(RegistryError::Unauthorised { given: self.credentials.is_some() }),
                403 => return Err(RegistryError::Denied),
                429 | 503 => tokio::time::sleep(wait(&answer)).await,
                301 | 302 | 303 | 307 | 308 if asked.method == Method::GET => {
                    return self.follow(answer, authorisation.as_ref(), limit).await;
                }
                _ => return Ok(answer),
            }
        }
        Err(RegistryError::Busy { status: 429 })
    }

    async fn challenged(&self, answer: &Answer, scope: &str) -> Result<HeaderValue, RegistryError> {
        let all = answer.headers.get_all(WWW_AUTHENTICATE).iter();
        let challenge = all.filter_map(|value| value.to_str().ok()).find_map(Challenge::parse);
        let challenge =
            challenge.ok_or(RegistryError::Malformed("it wants credentials of an unknown kind"))?;
        challenge.meet(&self.place, self.credentials.as_ref(), scope).await
    }

    /// What proves who we are goes to the registry itself only.
    async fn follow(
        &self,
        mut answer: Answer,
        authorisation: Option<&HeaderValue>,
        limit: u64,
    ) -> Result<Answer, RegistryError> {
        let mut place = self.place.clone();
        for _ in 0..MOST_REDIRECTS {
            let (next, target) = place.located(&answer)?;
            let own = next.authority == self.place.authority;
            answer = next.ask(&Asked::get(target), authorisation.filter(|_| own), limit).await?;
            match answer.status.as_u16() {
                301 | 302 | 303 | 307 | 308 => place = next,
                _ => return Ok(answer),
            }
        }
        Err(RegistryError::Redirected("and on and on"))
    }
}

impl Place {
    /// Where an answer sends us: never from TLS to no TLS.
    fn located(&self, answer: &Answer) -> Result<(Self, String), RegistryError> {
        let location = answer.headers.get(LOCATION).and_then(|value| value.to_str().ok());
        let location = location.ok_or(RegistryError::Redirected("and does not say where"))?;
        if location.starts_with('/') && !location.starts_with("//") {
            return Ok((self.clone(), location.to_owned()));
        }
        let scheme = if self.tls.is_some() { "https://" } else { "http://" };
        let rest = location
            .strip_prefix(scheme)
            .ok_or(RegistryError::Redirected("to where it would be less safe"))?;
        let (authority, target) = match rest.find('/') {
            Some(at) => rest.split_at(at),
            None => (rest, "/"),
        };
        if !Repository::is_registry(authority) {
            return Err(RegistryError::Redirected("to no server"));
        }
        Ok((Self { authority: authority.to_owned(), tls: self.tls.clone() }, target.to_owned()))
    }
}

/// The tag under which a registry without lists of referrers has one.
pub(crate) fn fallback(subject: Digest) -> String {
    format!("sha256-{}", subject.digits())
}

fn pull(repository: &Repository) -> String {
    format!("repository:{}:pull", repository.path())
}

fn both(repository: &Repository) -> String {
    format!("repository:{}:pull,push", repository.path())
}

fn wait(answer: &Answer) -> Duration {
    let seconds = answer.headers.get(RETRY_AFTER).and_then(|value| value.to_str().ok()?.parse().ok());
    Duration::from_secs(seconds.unwrap_or(1).min(LONGEST_WAIT))
}

fn checked(what: &'static str, expected: Digest, bytes: Vec<u8>) -> Result<Vec<u8>, RegistryError> {
    let seen = Digest::of(&bytes);
    if seen == expected { Ok(bytes) } else { Err(RegistryError::Digest { what, expected, seen }) }
}

fn expect(answer: &Answer, wanted: &[u16], what: &'static str) -> Result<(), RegistryError> {
    match answer.status.as_u16() {
        status if wanted.contains(&status) => Ok(()),
        404 => Err(RegistryError::NotFound { what }),
        status => Err(RegistryError::Status { status }),
    }
}

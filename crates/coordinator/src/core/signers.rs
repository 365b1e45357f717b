//! Keys that sign attestation tokens: one an epoch, where the manifest has a broker, below that epoch's CA. Like keys of
//! CAs they are sealed to the TEE that made them, so that no holder of recovery keys can sign (S-46). The public keys of
//! earlier epochs stay known until no token of theirs can be good any more.

use std::{sync::Arc, time::Duration};

use appraisal::UnixTime;
use attestation_result::{SigningKey, VerifyingKey, coco::PublishedKey};
use serde::{Deserialize, Serialize};
use serde_bytes::ByteBuf;
use x509_parser::prelude::{FromDer, X509Certificate};
use zeroize::Zeroizing;

use super::{IdentityKey, Refusal, event::SealedSigner};

/// The key of an epoch.
pub struct Signer {
    epoch: u64,
    /// Absent where another TEE made it: then nothing can be signed.
    key: Option<(Zeroizing<Vec<u8>>, SigningKey)>,
    published: PublishedKey,
}

/// A key of an epoch before, which signs no more.
#[derive(Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PastSigner {
    epoch: u64,
    /// DER, its own first.
    chain: Vec<ByteBuf>,
    /// When its last token has expired, seconds.
    until: i64,
}

/// The key of the epoch in force, and those of before that count.
#[derive(Clone, Default)]
pub struct Signers {
    current: Option<Arc<Signer>>,
    past: Vec<PastSigner>,
}

/// Which key a key id is that of.
#[derive(Debug, PartialEq, Eq)]
pub enum Known {
    /// That of the epoch in force.
    InForce(VerifyingKey),
    /// That of an epoch before.
    Past {
        /// Which one.
        epoch: u64,
    },
}

pub(super) fn sealed(
    key: &Zeroizing<Vec<u8>>,
    certificate: &[u8],
    identity: &IdentityKey,
) -> Result<SealedSigner, Refusal> {
    Ok(SealedSigner {
        key: ByteBuf::from(identity.seal(key)?),
        certificate: ByteBuf::from(certificate.to_vec()),
    })
}

fn published(chain: Vec<Vec<u8>>) -> Option<PublishedKey> {
    let (_, leaf) = X509Certificate::from_der(chain.first()?).ok()?;
    let key = VerifyingKey::from_spki(leaf.public_key().raw)?;
    Some(PublishedKey { key, chain })
}

impl Signer {
    /// Opens the key of an epoch, whose CA has the certificate `issuer`. An error says what of it is not so.
    pub(super) fn open(
        sealed: SealedSigner,
        (epoch, issuer): (u64, &[u8]),
        identity: &IdentityKey,
    ) -> Result<Self, String> {
        let chain = vec![sealed.certificate.into_vec(), issuer.to_vec()];
        let published = published(chain).ok_or("a token signer's certificate that is none")?;
        let key = match identity.open(&sealed.key) {
            None => None,
            Some(pkcs8) => {
                let key = SigningKey::from_pkcs8(&pkcs8).map_err(|error| error.to_string())?;
                if key.verifying_key() != published.key {
                    return Err("a token signer's certificate that is another's".into());
                }
                Some((pkcs8, key))
            }
        };
        Ok(Self { epoch, key, published })
    }

    /// As an event has it. An error where the key is in another TEE.
    pub(super) fn sealed(&self, identity: &IdentityKey) -> Result<SealedSigner, Refusal> {
        let (pkcs8, _) = self.key.as_ref().ok_or(crate::authority::AuthorityError::Lost)?;
        sealed(pkcs8, &self.published.chain[0], identity)
    }

    /// The key, where it is here.
    pub fn key(&self) -> Option<&SigningKey> {
        self.key.as_ref().map(|(_, key)| key)
    }

    /// Its certificate and that of the epoch's CA, DER.
    pub fn chain(&self) -> &[Vec<u8>] {
        &self.published.chain
    }
}

impl Signers {
    pub(super) fn new(current: Option<Signer>) -> Self {
        Self::resume(current, Vec::new())
    }

    pub(super) fn resume(current: Option<Signer>, past: Vec<PastSigner>) -> Self {
        Self { current: current.map(Arc::new), past }
    }

    /// The next epoch, from `at` on: tokens of the one before were good for `lifetime`, and may have been issued until
    /// then.
    pub(super) fn enter(&mut self, next: Option<Signer>, at: i64, lifetime: Duration) {
        self.past.retain(|signer| signer.until > at);
        if let Some(signer) = std::mem::replace(&mut self.current, next.map(Arc::new)) {
            let lifetime = i64::try_from(lifetime.as_secs()).unwrap_or(i64::MAX);
            self.past.push(PastSigner {
                epoch: signer.epoch,
                chain: signer.chain().iter().cloned().map(ByteBuf::from).collect(),
                until: at.saturating_add(lifetime),
            });
        }
    }

    /// Another root is in force: nothing of before is below it.
    pub(super) fn forget(&mut self) {
        self.past.clear();
    }

    pub(super) fn past(&self) -> &[PastSigner] {
        &self.past
    }

    /// The key of the epoch in force; none where its manifest has no broker.
    pub fn current(&self) -> Option<&Signer> {
        self.current.as_deref()
    }

    /// The keys whose tokens may be good, that of the epoch in force first.
    pub fn published(&self, now: UnixTime) -> Vec<PublishedKey> {
        let past = self.past.iter().rev().filter(|signer| signer.until > now.0);
        let past = past.filter_map(|signer| published(signer.chain.iter().map(|it| it.to_vec()).collect()));
        self.current.iter().map(|signer| signer.published.clone()).chain(past).collect()
    }

    /// Whose key id this is.
    pub fn known(&self, id: &str) -> Option<Known> {
        if let Some(signer) = self.current().filter(|signer| signer.published.key.id() == id) {
            return Some(Known::InForce(signer.published.key.clone()));
        }
        let of = |signer: &&PastSigner| {
            published(signer.chain.iter().map(|it| it.to_vec()).collect()).is_some_and(|it| it.key.id() == id)
        };
        self.past.iter().find(of).map(|signer| Known::Past { epoch: signer.epoch })
    }
}

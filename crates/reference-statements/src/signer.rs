//! Who may sign, under the names that the caller has for them.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use appraisal::{TrustAnchor, UnixTime};
use sigstore_verify::Verifier;
use sigstore_verify::{
    trust_root::{TransparencyLog, TrustedRoot},
    types::TimeRange,
};

use crate::key::PublicKey;

/// Signers by name.
#[derive(Clone, Debug, Default)]
pub struct Signers(BTreeMap<String, Signer>);

/// Somebody who may sign.
#[derive(Clone, Debug)]
pub enum Signer {
    /// Whoever has this key.
    Key {
        /// The key.
        key: PublicKey,
        /// Where given, only what is in one of its logs counts.
        log: Option<TrustRoot>,
    },
    /// Whoever proved an identity to a Sigstore CA, with an entry in a log.
    Sigstore {
        /// The subject of the certificate, such as a workflow's URI; equal, byte for byte.
        identity: String,
        /// Who vouched for it: the OpenID provider's URL.
        issuer: String,
        /// CAs and logs.
        root: TrustRoot,
    },
    /// A maker who signs CoRIMs.
    Corim(Vec<TrustAnchor>),
}

/// CAs, logs and timestamping authorities of a Sigstore instance, with an end.
#[derive(Clone)]
pub struct TrustRoot {
    pub(crate) verifier: Arc<Verifier>,
    /// The logs, by their ids, and the time in which their keys count.
    logs: Arc<[(Vec<u8>, TimeRange)]>,
    pub(crate) expires: UnixTime,
}

/// A trust root that nothing can be verified with.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the trust root cannot be used: {0}")]
pub struct InvalidTrustRoot(String);

impl TrustRoot {
    /// Reads `trusted_root.json`. It is believed until `expires`: the file itself has no end, and one that nobody
    /// replaces keeps keys that are long withdrawn (S-63).
    ///
    /// # Errors
    /// [`InvalidTrustRoot`], also where it has no log.
    pub fn from_json(json: &str, expires: UnixTime) -> Result<Self, InvalidTrustRoot> {
        let invalid = |error: &dyn fmt::Display| InvalidTrustRoot(error.to_string());
        let root = TrustedRoot::from_json(json).map_err(|error| invalid(&error))?;
        if root.tlogs.is_empty() {
            return Err(InvalidTrustRoot("it names no transparency log".into()));
        }
        let verifier = Verifier::new(&root).map_err(|error| invalid(&error))?;
        let window =
            |log: &TransparencyLog| Some((log.log_id.key_id.as_bytes().to_vec(), log.public_key.valid_for?));
        let logs = root.tlogs.iter().filter_map(window).collect();
        Ok(Self { verifier: Arc::new(verifier), logs, expires })
    }

    /// Whether what a log took in at this time counts. The verifier asks this of entries that have a time of their own;
    /// those of Rekor 2 have none, and their time is the signature's.
    pub(crate) fn is_log_at(&self, log: &[u8], time: UnixTime) -> bool {
        let mut windows = self.logs.iter().filter(|(id, _)| id == log).map(|(_, window)| window).peekable();
        let holds = |window: &TimeRange| {
            window.start.as_second() <= time.0 && window.end.is_none_or(|end| time.0 <= end.as_second())
        };
        windows.peek().is_none() || windows.any(holds)
    }
}

impl fmt::Debug for TrustRoot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "TrustRoot(until {})", self.expires)
    }
}

impl Signers {
    /// How many there are.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = (&str, &Signer)> {
        self.0.iter().map(|(name, signer)| (name.as_str(), signer))
    }
}

impl FromIterator<(String, Signer)> for Signers {
    fn from_iter<I: IntoIterator<Item = (String, Signer)>>(signers: I) -> Self {
        Self(signers.into_iter().collect())
    }
}

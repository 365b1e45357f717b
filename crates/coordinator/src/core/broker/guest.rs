//! Who attested: what its Evidence proved, and the key that its Evidence covers. All that is released to a [`Guest`] is
//! encrypted to that key.

use std::{borrow::Cow, collections::BTreeSet, fmt, str::FromStr, sync::Arc};

use appraisal::{Appraised, UnixTime};
use attestation_result::coco::Verified;
use aws_lc_rs::digest::{SHA256, digest};
use evidence::Platform;
use manifest::{InitDataDigest, ManifestDigest, PackageName};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::core::Refusal;

/// Which session: the first half of SHA-256 of its nonce, in hexadecimal. No secret; operators are shown it.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SessionId(pub(super) [u8; 16]);

impl SessionId {
    /// The session of a nonce.
    pub fn of(nonce: &[u8; 32]) -> Self {
        let mut id = [0; 16];
        id.copy_from_slice(&digest(&SHA256, nonce).as_ref()[..16]);
        Self(id)
    }
}

impl fmt::Display for SessionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&hex::encode(self.0))
    }
}

impl fmt::Debug for SessionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SessionId({self})")
    }
}

/// No session's name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a session is 32 hexadecimal digits in lower case")]
pub struct NotASession;

impl FromStr for SessionId {
    type Err = NotASession;

    fn from_str(text: &str) -> Result<Self, NotASession> {
        let mut id = [0; 16];
        hex::decode_to_slice(text, &mut id).map_err(|_| NotASession)?;
        let id = Self(id);
        if id.to_string() == text { Ok(id) } else { Err(NotASession) }
    }
}

/// A guest that attested. Its origins are [`Guest::attested`], by the proof; [`Guest::sampled`], on emulated platforms
/// alone; and what was kept of one of these under our own keys, in a session or in a token that we signed.
#[derive(Debug, Clone)]
pub struct Guest {
    platform: Option<Platform>,
    emulated: bool,
    of: Particulars,
}

/// What belongs to a guest beside what the proof says.
#[derive(Debug, Clone)]
pub struct Particulars {
    /// Its session.
    pub session: SessionId,
    /// The TEE by the protocol's name.
    pub tee: rcar::Tee,
    /// The manifest's packages that its Evidence meets.
    pub packages: BTreeSet<PackageName>,
    /// Of init-data that its Evidence proves.
    pub init_data: Option<InitDataDigest>,
    /// What policies and tokens say of it.
    pub claims: Arc<Value>,
    /// The key that its Evidence covers.
    pub key: rcar::PublicKey,
    /// The protocol's version that it speaks: old clients read another JWE.
    pub version: rcar::Version,
    /// By whose manifest it was appraised.
    pub epoch: u64,
    /// That manifest.
    pub manifest: ManifestDigest,
    /// When.
    pub attested: UnixTime,
    /// Until when it counts.
    pub expires: UnixTime,
}

impl Guest {
    /// By the proof that its Evidence was appraised and accepted, and that of its devices.
    pub fn attested(appraised: &Appraised, devices: &[Appraised], of: Particulars) -> Self {
        let emulated = appraised.emulated() || devices.iter().any(Appraised::emulated);
        Self { platform: Some(appraised.platform()), emulated, of }
    }

    /// By CoCo's sample attester, which proves nothing.
    pub fn sampled(_: super::admission::SampleAllowed, of: Particulars) -> Self {
        Self { platform: None, emulated: true, of }
    }

    /// As it is kept, in memory or sealed: only what these bytes came from makes them a guest again.
    pub fn to_bytes(&self) -> Result<Vec<u8>, Refusal> {
        let failed = |_| Refusal::Internal("a guest could not be written".into());
        serde_json::to_vec(&Kept {
            platform: self.platform,
            emulated: self.emulated,
            session: self.of.session.to_string(),
            tee: self.of.tee.to_string(),
            packages: self.of.packages.clone(),
            init_data: self.of.init_data.clone(),
            claims: Cow::Borrowed(&self.of.claims),
            key: Cow::Borrowed(self.of.key.to_json()),
            version: self.of.version.to_string(),
            epoch: self.of.epoch,
            manifest: self.of.manifest,
            attested: self.of.attested.0,
            expires: self.of.expires.0,
        })
        .map_err(failed)
    }

    /// What [`Guest::to_bytes`] wrote. Whoever calls it knows that nobody else did: the bytes were in our memory, or
    /// sealed under our key.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, Refusal> {
        let kept: Option<Kept<'_>> = serde_json::from_slice(bytes).ok();
        kept.and_then(Self::of_kept).ok_or_else(|| Refusal::Internal("a guest could not be read".into()))
    }

    fn of_kept(kept: Kept<'_>) -> Option<Self> {
        let of = Particulars {
            session: kept.session.parse().ok()?,
            tee: kept.tee.parse().ok()?,
            packages: kept.packages,
            init_data: kept.init_data,
            claims: Arc::new(kept.claims.into_owned()),
            key: rcar::PublicKey::from_value(kept.key.into_owned()).ok()?,
            version: kept.version.parse().ok()?,
            epoch: kept.epoch,
            manifest: kept.manifest,
            attested: UnixTime(kept.attested),
            expires: UnixTime(kept.expires),
        };
        Some(Self { platform: kept.platform, emulated: kept.emulated, of })
    }

    /// By a token of ours, which was verified: it says what was attested, and to which key. `None` where it says what we
    /// never sign.
    pub(super) fn of_token(token: &Verified) -> Option<Self> {
        let (issue, mesh) = (token.issue(), token.mesh());
        let about = &issue.about;
        let of = Particulars {
            session: issue.subject.strip_prefix("urn:bailey:session:")?.parse().ok()?,
            tee: about.tee.parse().ok()?,
            packages: mesh.packages.iter().map(|name| name.parse().ok()).collect::<Option<_>>()?,
            init_data: about.init_data.as_ref().map(|digest| digest.parse()).transpose().ok()?,
            claims: Arc::new(token.claims().clone()),
            key: rcar::PublicKey::from_value(Value::Object(token.key().clone())).ok()?,
            // Those who show tokens are not as old as the first clients, which have cookies alone.
            version: rcar::Version::NEWEST,
            epoch: mesh.epoch,
            manifest: mesh.manifest.parse().ok()?,
            attested: about.attested,
            expires: issue.expires,
        };
        Some(Self { platform: about.platform, emulated: about.emulated, of })
    }

    /// Its session.
    pub fn session(&self) -> SessionId {
        self.of.session
    }

    /// The TEE by the protocol's name.
    pub fn tee(&self) -> rcar::Tee {
        self.of.tee
    }

    /// Where it runs; nowhere that Evidence is known of, for CoCo's `sample`.
    pub fn platform(&self) -> Option<Platform> {
        self.platform
    }

    /// The manifest's packages that its Evidence meets.
    pub fn packages(&self) -> &BTreeSet<PackageName> {
        &self.of.packages
    }

    /// Whether it is on an emulated platform.
    pub fn emulated(&self) -> bool {
        self.emulated
    }

    /// Of init-data that its Evidence proves.
    pub fn init_data(&self) -> Option<&InitDataDigest> {
        self.of.init_data.as_ref()
    }

    /// What policies and tokens say of it.
    pub fn claims(&self) -> &Arc<Value> {
        &self.of.claims
    }

    /// The key that its Evidence covers.
    pub fn key(&self) -> &rcar::PublicKey {
        &self.of.key
    }

    /// Encrypts to the key that its Evidence covers, in the form that clients of its version read.
    ///
    /// # Errors
    /// [`rcar::Invalid`], which does not happen: the key was checked when it came.
    pub fn encrypt(&self, plaintext: &[u8]) -> Result<rcar::Jwe, rcar::Invalid> {
        self.of.key.encrypt_for(self.of.version, plaintext)
    }

    /// By whose manifest it was appraised.
    pub fn epoch(&self) -> u64 {
        self.of.epoch
    }

    /// That manifest.
    pub fn manifest(&self) -> &ManifestDigest {
        &self.of.manifest
    }

    /// When it was appraised.
    pub fn attested_at(&self) -> UnixTime {
        self.of.attested
    }

    /// Until when that counts.
    pub fn expires(&self) -> UnixTime {
        self.of.expires
    }
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Kept<'a> {
    platform: Option<Platform>,
    emulated: bool,
    session: String,
    tee: String,
    packages: BTreeSet<PackageName>,
    init_data: Option<InitDataDigest>,
    claims: Cow<'a, Value>,
    key: Cow<'a, Value>,
    version: String,
    epoch: u64,
    manifest: ManifestDigest,
    attested: i64,
    expires: i64,
}

//! A workload that the Keep fetches out of a registry: which package, how the registry is known, whose signature counts.
//! The client says it to a Keep that it has verified; the Keep fetches over whatever network its host gives it, and
//! checks all that comes. Texts are checked by the Keep, which has the types for them.

use serde::{Deserialize, Serialize};
use serde_bytes::{ByteArray, ByteBuf};

use crate::{
    Message, ProtocolError, Sensitive,
    keep::{FromKeep, ToKeep},
    rules::{at_most, rule, some},
};

/// What was in a packet: ocicrypt's private options, in bytes.
pub(crate) const MAX_OPENED: usize = 64 << 10;
/// References, and names and identities of signers, in bytes.
const MAX_REFERENCE: usize = 2048;
const MAX_TRUST_ROOT: usize = 256 << 10;
const MAX_PASSWORD: usize = 64 << 10;
const MAX_ROOT: usize = 16 << 10;
const MAX_SPKI: usize = 1024;
const MAX_WORDS: usize = 256;
const MOST: usize = 16;

/// Which package, and what makes it the right one.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PackageOrder {
    /// The client's clock, in seconds since 1970. The Keep's own is its host's; certificates and trust roots are held
    /// against this.
    pub now: u64,
    /// How the registry is known, and who asks.
    pub access: RegistryAccess,
    /// Whose signature counts; `None`: the digest is enough.
    pub signed: Option<Signed>,
    /// `REGISTRY/REPOSITORY@sha256:…`
    pub reference: String,
}

/// How the registry is known, and who asks.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RegistryAccess {
    /// Without TLS. No credentials then.
    pub plain: bool,
    /// CAs of its certificate, DER; none: those of the Web.
    pub roots: Vec<ByteBuf>,
    /// Who asks; `None`: anybody.
    pub credentials: Option<RegistryCredentials>,
}

/// What proves to the registry who asks.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RegistryCredentials {
    /// A password or token: UTF-8.
    pub password: Sensitive,
    /// The user.
    pub username: String,
}

/// Whose signature counts, over what.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Signed {
    /// As which package: `REGISTRY/REPOSITORY`.
    pub name: String,
    /// No older version.
    pub minimum: String,
    /// Any of these; by name, ascending.
    pub signers: Vec<Signer>,
}

/// Somebody who may sign.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Signer {
    /// What the client calls them.
    pub name: String,
    /// What shows that it is them.
    pub proof: Proof,
}

/// What shows who signed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub enum Proof {
    /// A key: `SubjectPublicKeyInfo`, DER.
    Key(ByteBuf),
    /// An identity, by a Sigstore instance.
    Sigstore(Box<Sigstore>),
}

/// An identity, by a Sigstore instance.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Sigstore {
    /// `trusted_root.json`.
    pub root: String,
    /// Who vouched: the OpenID provider's URL.
    pub issuer: String,
    /// As the certificate has it.
    pub identity: String,
}

/// The package that a Keep fetched and verified.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FetchedPackage {
    /// SHA-256 of its manifest.
    pub digest: ByteArray<32>,
    /// What the signature that counted says, where one was asked for.
    pub release: Option<FetchedRelease>,
}

/// What a signature says.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FetchedRelease {
    /// As which package.
    pub name: String,
    /// By whom, by the client's name.
    pub signer: String,
    /// As which version.
    pub version: String,
}

impl PackageOrder {
    pub(crate) fn check(&self) -> Result<(), ProtocolError> {
        const WHAT: &str = ToKeep::NAME;
        some(WHAT, "reference", self.reference.len(), MAX_REFERENCE)?;
        let RegistryAccess { roots, credentials, .. } = &self.access;
        at_most(WHAT, "roots", roots.len(), MOST)?;
        roots.iter().try_for_each(|root| some(WHAT, "roots", root.len(), MAX_ROOT))?;
        if let Some(RegistryCredentials { password, username }) = credentials {
            at_most(WHAT, "password", password.as_bytes().len(), MAX_PASSWORD)?;
            at_most(WHAT, "username", username.len(), MAX_WORDS)?;
        }
        self.signed.as_ref().map_or(Ok(()), Signed::check)
    }
}

impl Signed {
    fn check(&self) -> Result<(), ProtocolError> {
        const WHAT: &str = ToKeep::NAME;
        some(WHAT, "name", self.name.len(), MAX_REFERENCE)?;
        some(WHAT, "minimum", self.minimum.len(), MAX_WORDS)?;
        some(WHAT, "signers", self.signers.len(), MOST)?;
        if self.signers.windows(2).any(|pair| pair[0].name >= pair[1].name) {
            return rule(WHAT, "signers", "names must ascend");
        }
        self.signers.iter().try_for_each(Signer::check)
    }
}

impl Signer {
    fn check(&self) -> Result<(), ProtocolError> {
        const WHAT: &str = ToKeep::NAME;
        some(WHAT, "signers", self.name.len(), MAX_REFERENCE)?;
        match &self.proof {
            Proof::Key(spki) => some(WHAT, "key", spki.len(), MAX_SPKI),
            Proof::Sigstore(sigstore) => {
                some(WHAT, "root", sigstore.root.len(), MAX_TRUST_ROOT)?;
                some(WHAT, "issuer", sigstore.issuer.len(), MAX_REFERENCE)?;
                some(WHAT, "identity", sigstore.identity.len(), MAX_REFERENCE)
            }
        }
    }
}

impl FetchedPackage {
    pub(crate) fn check(&self) -> Result<(), ProtocolError> {
        const WHAT: &str = FromKeep::NAME;
        let Some(release) = &self.release else { return Ok(()) };
        some(WHAT, "name", release.name.len(), MAX_REFERENCE)?;
        some(WHAT, "signer", release.signer.len(), MAX_REFERENCE)?;
        some(WHAT, "version", release.version.len(), MAX_WORDS)
    }
}

//! Tokens for relying parties: who was not there when a guest was attested, and trusts a mesh's root certificate, or its
//! published keys.

use std::cell::Cell;

use appraisal::UnixTime;
use rustls_pki_types::{CertificateDer, UnixTime as X509Time};
use serde::Deserialize;
use serde_json::{Value as Json, json};
use webpki::aws_lc_rs::ECDSA_P256_SHA256;
use webpki::{
    EndEntityCert, ExtendedKeyUsageValidator, KeyPurposeIdIter, KeyUsage, RequiredEkuNotFoundContext,
    anchor_from_trusted_cert,
};

use super::strict;
use super::token::{Expected, Untrusted, Unverified, Verified};
use crate::VerifyingKey;

/// The purpose in certificates of keys that sign attestation tokens, which no other certificate of a mesh has (S-07).
/// Made at random below the arc of UUIDs (ITU-T X.667).
pub const SIGNER_OID: [u64; 3] = [2, 25, 7_202_917_846_213_359_034];
/// DER of the above, without tag and length.
const SIGNER_PURPOSE: &[u8] = &[0x69, 0xe3, 0xfa, 0xf9, 0xf3, 0xe5, 0x8e, 0xf9, 0xeb, 0x3a];
/// Longer sets of keys are refused unread.
const MAX_JWKS: usize = 256 * 1024;
/// No mesh has more epochs in a day.
const MAX_KEYS: usize = 256;

/// The name of a mesh as an issuer: its root certificate's SHA-256.
pub fn issuer_of(root: &[u8]) -> String {
    let digest = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, root);
    format!("urn:bailey:mesh:{}", hex::encode(digest))
}

/// A key that signs tokens, as others are told of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PublishedKey {
    /// The key.
    pub key: VerifyingKey,
    /// Its certificates, DER, its own first; the root left out.
    pub chain: Vec<Vec<u8>>,
}

/// The keys as a JSON Web Key Set (RFC 7517).
pub fn jwks(keys: impl IntoIterator<Item = PublishedKey>) -> Json {
    use base64::Engine;
    use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
    let one = |PublishedKey { key, chain }: PublishedKey| {
        let (x, y) = key.point()[1..].split_at(32);
        json!({
            "kty": "EC",
            "crv": "P-256",
            "alg": "ES256",
            "use": "sig",
            "kid": key.id(),
            "x": URL_SAFE_NO_PAD.encode(x),
            "y": URL_SAFE_NO_PAD.encode(y),
            "x5c": chain.iter().map(|certificate| STANDARD.encode(certificate)).collect::<Vec<_>>(),
        })
    };
    json!({ "keys": keys.into_iter().map(one).collect::<Vec<_>>() })
}

/// Why a trust anchor cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InvalidTrust {
    /// The root is no CA certificate.
    #[error("the root is no certificate that can be trusted: {0}")]
    Root(String),
    /// The set of keys cannot be read.
    #[error("no set of keys: {0}")]
    Keys(String),
}

/// What a relying party trusts.
#[derive(Clone, Debug)]
enum Trust {
    Root(CertificateDer<'static>),
    Keys(Vec<VerifyingKey>),
}

/// Whether tokens about emulated TEEs are believed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Emulation {
    /// They are not.
    #[default]
    Refused,
    /// They are; see [`super::Mesh::emulated`].
    Accepted,
}

/// A relying party: what it trusts, and who it is.
///
/// ```no_run
/// use attestation_result::coco::Verifier;
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let (root, token, now) = (vec![], "", appraisal::UnixTime(0));
/// let verified = Verifier::with_root(root, "https://db.example")?.verify(token, now)?;
/// println!("{} until {}", verified.mesh().packages.join(", "), verified.issue().expires);
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug)]
pub struct Verifier {
    trust: Trust,
    issuer: String,
    audience: String,
    emulation: Emulation,
}

impl Verifier {
    /// Trusts the mesh with this root certificate (DER), and takes what is for `audience`.
    ///
    /// # Errors
    /// [`InvalidTrust::Root`] when it is no certificate.
    pub fn with_root(root: impl Into<Vec<u8>>, audience: impl Into<String>) -> Result<Self, InvalidTrust> {
        let root = CertificateDer::from(root.into());
        anchor_from_trusted_cert(&root).map_err(|error| InvalidTrust::Root(error.to_string()))?;
        let issuer = issuer_of(&root);
        Ok(Self {
            trust: Trust::Root(root),
            issuer,
            audience: audience.into(),
            emulation: Emulation::Refused,
        })
    }

    /// Trusts the keys of a set, pinned, as those of `issuer`, and takes what is for `audience`. Keys of other kinds
    /// than our tokens are signed with are left out.
    ///
    /// # Errors
    /// [`InvalidTrust::Keys`] when it is no such set, has no key of ours, or a key under another id than its own.
    pub fn with_jwks(
        jwks: &[u8],
        issuer: impl Into<String>,
        audience: impl Into<String>,
    ) -> Result<Self, InvalidTrust> {
        let trust = Trust::Keys(read_jwks(jwks)?);
        let (issuer, audience) = (issuer.into(), audience.into());
        Ok(Self { trust, issuer, audience, emulation: Emulation::Refused })
    }

    /// Whether tokens about emulated TEEs are believed; they are not, unless this says so.
    #[must_use]
    pub fn emulation(self, emulation: Emulation) -> Self {
        Self { emulation, ..self }
    }

    /// Whose tokens are believed.
    pub fn issuer(&self) -> &str {
        &self.issuer
    }

    /// What a token says, if it is to be believed at `now`.
    ///
    /// # Errors
    /// [`Untrusted`] says why it is not.
    pub fn verify(&self, token: &str, now: UnixTime) -> Result<Verified, Untrusted> {
        let token = Unverified::parse(token.trim_ascii())?;
        let key = match &self.trust {
            Trust::Root(root) => certified(token.chain(), root, now)?,
            Trust::Keys(keys) => {
                keys.iter().find(|key| key.id() == token.key_id()).ok_or(Untrusted::Key)?.clone()
            }
        };
        let expected = Expected { issuer: &self.issuer, audience: &self.audience, now };
        let verified = token.verify(&key, &expected)?;
        match self.emulation {
            Emulation::Refused if verified.mesh().emulated => Err(Untrusted::Emulated),
            _ => Ok(verified),
        }
    }
}

/// The key of the first certificate, if it is one of a token signer below `root`, and valid at `now`.
fn certified(
    chain: &[Vec<u8>],
    root: &CertificateDer<'static>,
    now: UnixTime,
) -> Result<VerifyingKey, Untrusted> {
    let fault = |error: webpki::Error| Untrusted::Chain(error.to_string());
    let [leaf, intermediates @ ..] = chain else {
        return Err(Untrusted::Chain("it has none".into()));
    };
    let leaf = CertificateDer::from(leaf.as_slice());
    let intermediates: Vec<_> =
        intermediates.iter().map(|certificate| CertificateDer::from(certificate.as_slice())).collect();
    let anchors = [anchor_from_trusted_cert(root).map_err(fault)?];
    let seconds = u64::try_from(now.0).map_err(|_| Untrusted::Chain("there was no time yet".into()))?;
    let time = X509Time::since_unix_epoch(std::time::Duration::from_secs(seconds));
    let leaf = EndEntityCert::try_from(&leaf).map_err(fault)?;
    leaf.verify_for_usage(
        &[ECDSA_P256_SHA256],
        &anchors,
        &intermediates,
        time,
        Signer::default(),
        None,
        None,
    )
    .map_err(fault)?;
    VerifyingKey::from_spki(&leaf.subject_public_key_info())
        .ok_or_else(|| Untrusted::Chain("the first is not of a key on P-256".into()))
}

/// The key of a certificate, whoever issued it.
pub(super) fn key_of(certificate: &[u8]) -> Option<VerifyingKey> {
    let certificate = CertificateDer::from(certificate);
    let leaf = EndEntityCert::try_from(&certificate).ok()?;
    VerifyingKey::from_spki(&leaf.subject_public_key_info())
}

/// Demands the purpose of the leaf, which is looked at first. CAs of a mesh have none.
#[derive(Default)]
struct Signer {
    past_leaf: Cell<bool>,
}

impl ExtendedKeyUsageValidator for Signer {
    fn validate(&self, purposes: KeyPurposeIdIter<'_, '_>) -> Result<(), webpki::Error> {
        let wanted = webpki::KeyPurposeId::new(SIGNER_PURPOSE).to_decoded_oid();
        let mut seen = Vec::new();
        for purpose in purposes {
            seen.push(purpose?.to_decoded_oid());
        }
        let good = if self.past_leaf.replace(true) { seen.is_empty() } else { seen == [wanted] };
        let required = KeyUsage::required(SIGNER_PURPOSE);
        let context = RequiredEkuNotFoundContext { required, present: seen };
        if good { Ok(()) } else { Err(webpki::Error::RequiredEkuNotFoundContext(context)) }
    }
}

fn read_jwks(bytes: &[u8]) -> Result<Vec<VerifyingKey>, InvalidTrust> {
    #[derive(Deserialize)]
    struct Set {
        keys: Vec<Json>,
    }
    #[derive(Deserialize)]
    struct Key {
        kid: String,
        x: String,
        y: String,
    }
    let fault = |error: &dyn std::fmt::Display| InvalidTrust::Keys(error.to_string());
    if bytes.len() > MAX_JWKS {
        return Err(fault(&format_args!("{} bytes", bytes.len())));
    }
    let set = strict::parse(bytes).map_err(|error| fault(&error))?;
    let set: Set = serde_json::from_value(set).map_err(|error| fault(&error))?;
    if set.keys.len() > MAX_KEYS {
        return Err(fault(&"too many keys"));
    }
    let mut keys = Vec::new();
    for key in set.keys {
        let is = |name: &str, value: &str| key.get(name).and_then(Json::as_str) == Some(value);
        if !is("kty", "EC") || !is("crv", "P-256") || key.get("alg").is_some_and(|alg| alg != "ES256") {
            continue;
        }
        let Key { kid, x, y } = Key::deserialize(&key).map_err(|error| fault(&error))?;
        let key = point(&x, &y).ok_or_else(|| fault(&"a point that is none"))?;
        if kid != key.id() {
            return Err(fault(&"a key under another id than its own"));
        }
        keys.push(key);
    }
    if keys.is_empty() {
        return Err(fault(&"no key of ours in it"));
    }
    Ok(keys)
}

fn point(x: &str, y: &str) -> Option<VerifyingKey> {
    use base64::Engine;
    let decode = |text: &str| base64::engine::general_purpose::URL_SAFE_NO_PAD.decode(text).ok();
    let (x, y) = (decode(x)?, decode(y)?);
    if x.len() != 32 || y.len() != 32 {
        return None;
    }
    VerifyingKey::from_point(&[&[4], x.as_slice(), y.as_slice()].concat())
}

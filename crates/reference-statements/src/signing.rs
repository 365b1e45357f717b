//! Making statements: values signed by a key in a file, as a DSSE envelope or a JWS.

use aws_lc_rs::digest::{SHA256, digest};
use aws_lc_rs::encoding::{AsDer, PublicKeyX509Der};
use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::{
    ECDSA_P256_SHA256_ASN1_SIGNING, ECDSA_P256_SHA256_FIXED_SIGNING, ECDSA_P384_SHA384_ASN1_SIGNING,
    ECDSA_P384_SHA384_FIXED_SIGNING, EcdsaKeyPair, EcdsaSigningAlgorithm, Ed25519KeyPair, KeyPair,
};
use base64::{
    Engine,
    engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD},
};
use serde_json::{json, value::RawValue};
use zeroize::Zeroizing;

use crate::attestation::BUNDLE_TYPE;
use crate::dsse::{PAYLOAD_TYPE, pae};
use crate::intoto::PREDICATE_TYPE;
use crate::jws::TYPE;
use crate::key::PublicKey;
use crate::values::Values;

const BEGIN: &str = "-----BEGIN PRIVATE KEY-----";
const END: &str = "-----END PRIVATE KEY-----";

/// A key that signs statements: PKCS #8, P-256, P-384 or Ed25519.
pub struct SigningKey(Pair);

enum Pair {
    /// Signs DER, signs fixed: the library ties a pair to an encoding.
    Ecdsa(Box<(EcdsaKeyPair, EcdsaKeyPair)>, &'static str),
    Ed25519(Ed25519KeyPair),
}

/// A key that cannot sign.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum UnusableKey {
    /// It is none.
    #[error("expected one private key, PEM (PKCS #8), on P-256, P-384 or Ed25519")]
    Unknown,
    /// The library could not sign.
    #[error("the key could not sign")]
    Failed,
}

impl SigningKey {
    /// Reads `BEGIN PRIVATE KEY`.
    ///
    /// # Errors
    /// [`UnusableKey`].
    pub fn from_pem(text: &str) -> Result<Self, UnusableKey> {
        let digits = text.trim().strip_prefix(BEGIN).and_then(|text| text.strip_suffix(END));
        let digits: Zeroizing<String> =
            Zeroizing::new(digits.ok_or(UnusableKey::Unknown)?.split_whitespace().collect());
        let der = Zeroizing::new(STANDARD.decode(&*digits).map_err(|_| UnusableKey::Unknown)?);
        let pair = |encoding: &'static EcdsaSigningAlgorithm| EcdsaKeyPair::from_pkcs8(encoding, &der).ok();
        let p256 = pair(&ECDSA_P256_SHA256_ASN1_SIGNING).zip(pair(&ECDSA_P256_SHA256_FIXED_SIGNING));
        let p384 = pair(&ECDSA_P384_SHA384_ASN1_SIGNING).zip(pair(&ECDSA_P384_SHA384_FIXED_SIGNING));
        match (p256, p384, Ed25519KeyPair::from_pkcs8_maybe_unchecked(&der)) {
            (Some(pairs), ..) => Ok(Self(Pair::Ecdsa(Box::new(pairs), "ES256"))),
            (None, Some(pairs), _) => Ok(Self(Pair::Ecdsa(Box::new(pairs), "ES384"))),
            (None, None, Ok(pair)) => Ok(Self(Pair::Ed25519(pair))),
            (None, None, Err(_)) => Err(UnusableKey::Unknown),
        }
    }

    /// The key that verifies what this one signs.
    ///
    /// # Errors
    /// [`UnusableKey`].
    pub fn public(&self) -> Result<PublicKey, UnusableKey> {
        let der = match &self.0 {
            Pair::Ecdsa(pairs, _) => AsDer::<PublicKeyX509Der<'_>>::as_der(pairs.0.public_key()),
            Pair::Ed25519(pair) => AsDer::<PublicKeyX509Der<'_>>::as_der(pair.public_key()),
        };
        let der = der.map_err(|_| UnusableKey::Failed)?;
        PublicKey::from_spki(der.as_ref()).map_err(|_| UnusableKey::Failed)
    }

    /// A Sigstore bundle of a DSSE envelope of any in-toto statement, as `cosign sign --key` makes it without a log.
    ///
    /// # Errors
    /// [`UnusableKey`].
    pub fn bundle(&self, statement: &[u8]) -> Result<Vec<u8>, UnusableKey> {
        let envelope = String::from_utf8(self.envelope(statement)?).map_err(|_| UnusableKey::Failed)?;
        let envelope = RawValue::from_string(envelope).map_err(|_| UnusableKey::Failed)?;
        let hint = STANDARD.encode(digest(&SHA256, self.public()?.spki()));
        let bundle = json!({
            "mediaType": BUNDLE_TYPE,
            "verificationMaterial": { "publicKey": { "hint": hint } },
            "dsseEnvelope": envelope,
        });
        Ok(bundle.to_string().into_bytes())
    }

    /// A DSSE envelope of an in-toto statement whose subjects are those of the values.
    ///
    /// # Errors
    /// [`UnusableKey`].
    pub fn dsse(&self, values: &Values) -> Result<Vec<u8>, UnusableKey> {
        let subject: Vec<_> =
            values.subjects.iter().map(|it| json!({ "digest": { "sha256": hex::encode(it.0) } })).collect();
        let statement = json!({
            "_type": "https://in-toto.io/Statement/v1",
            "subject": subject,
            "predicateType": PREDICATE_TYPE,
            "predicate": values,
        });
        self.envelope(statement.to_string().as_bytes())
    }

    /// A DSSE envelope of any in-toto statement.
    ///
    /// # Errors
    /// [`UnusableKey`].
    pub fn envelope(&self, statement: &[u8]) -> Result<Vec<u8>, UnusableKey> {
        let message = pae(statement);
        let signature = match &self.0 {
            Pair::Ecdsa(pairs, _) => {
                pairs.0.sign(&SystemRandom::new(), &message).map_err(|_| UnusableKey::Failed)?
            }
            Pair::Ed25519(pair) => pair.sign(&message),
        };
        let envelope = json!({
            "payloadType": PAYLOAD_TYPE,
            "payload": STANDARD.encode(statement),
            "signatures": [{ "sig": STANDARD.encode(signature) }],
        });
        Ok(envelope.to_string().into_bytes())
    }

    /// A compact JWS.
    ///
    /// # Errors
    /// [`UnusableKey`].
    pub fn jws(&self, values: &Values) -> Result<Vec<u8>, UnusableKey> {
        let algorithm = match &self.0 {
            Pair::Ecdsa(_, algorithm) => *algorithm,
            Pair::Ed25519(_) => "EdDSA",
        };
        let header = json!({ "alg": algorithm, "typ": TYPE }).to_string();
        let payload = serde_json::to_vec(values).map_err(|_| UnusableKey::Failed)?;
        let signed = format!("{}.{}", URL_SAFE_NO_PAD.encode(header), URL_SAFE_NO_PAD.encode(payload));
        let message = signed.as_bytes();
        let signature = match &self.0 {
            Pair::Ecdsa(pairs, _) => {
                pairs.1.sign(&SystemRandom::new(), message).map_err(|_| UnusableKey::Failed)?
            }
            Pair::Ed25519(pair) => pair.sign(message),
        };
        Ok(format!("{signed}.{}", URL_SAFE_NO_PAD.encode(signature)).into_bytes())
    }
}

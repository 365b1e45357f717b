//! Making statements: values signed by a key in a file, as a DSSE envelope or a JWS.

use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::{
    ECDSA_P256_SHA256_ASN1_SIGNING, ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, Ed25519KeyPair,
};
use base64::{
    Engine,
    engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD},
};
use serde_json::json;
use zeroize::Zeroizing;

use crate::dsse::{PAYLOAD_TYPE, pae};
use crate::intoto::PREDICATE_TYPE;
use crate::jws::TYPE;
use crate::values::Values;

const BEGIN: &str = "-----BEGIN PRIVATE KEY-----";
const END: &str = "-----END PRIVATE KEY-----";

/// A key that signs statements: PKCS #8, P-256 or Ed25519.
pub struct SigningKey(Pair);

enum Pair {
    /// Signs DER, signs fixed: the library ties a pair to an encoding.
    P256(Box<(EcdsaKeyPair, EcdsaKeyPair)>),
    Ed25519(Ed25519KeyPair),
}

/// A key that cannot sign.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum UnusableKey {
    /// It is none.
    #[error("expected one private key, PEM (PKCS #8), on P-256 or Ed25519")]
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
        let pair = |encoding| EcdsaKeyPair::from_pkcs8(encoding, &der).ok();
        let p256 = pair(&ECDSA_P256_SHA256_ASN1_SIGNING).zip(pair(&ECDSA_P256_SHA256_FIXED_SIGNING));
        match (p256, Ed25519KeyPair::from_pkcs8_maybe_unchecked(&der)) {
            (Some(pairs), _) => Ok(Self(Pair::P256(Box::new(pairs)))),
            (None, Ok(pair)) => Ok(Self(Pair::Ed25519(pair))),
            (None, Err(_)) => Err(UnusableKey::Unknown),
        }
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
            Pair::P256(pairs) => {
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
            Pair::P256(_) => "ES256",
            Pair::Ed25519(_) => "EdDSA",
        };
        let header = json!({ "alg": algorithm, "typ": TYPE }).to_string();
        let payload = serde_json::to_vec(values).map_err(|_| UnusableKey::Failed)?;
        let signed = format!("{}.{}", URL_SAFE_NO_PAD.encode(header), URL_SAFE_NO_PAD.encode(payload));
        let message = signed.as_bytes();
        let signature = match &self.0 {
            Pair::P256(pairs) => {
                pairs.1.sign(&SystemRandom::new(), message).map_err(|_| UnusableKey::Failed)?
            }
            Pair::Ed25519(pair) => pair.sign(message),
        };
        Ok(format!("{signed}.{}", URL_SAFE_NO_PAD.encode(signature)).into_bytes())
    }
}

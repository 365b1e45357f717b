//! The signed forms: JWT (RFC 7519) and CWT (RFC 8392), both ES256. Whose key may be believed is the relying party's
//! own knowledge: none is ever taken from a token (S-38).

use appraisal::UnixTime;
use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::{
    ECDSA_P256_SHA256_FIXED, ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair, UnparsedPublicKey,
};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use coset::{CborSerializable, CoseSign1, CoseSign1Builder, HeaderBuilder, TaggedCborSerializable, iana};
use jsonwebtoken::{Algorithm, DecodingKey, Header, Validation};
use serde_json::Value as Json;

use crate::{Ear, PROFILE, Token};

/// Tokens that are longer are refused unread.
pub(crate) const MAX_TOKEN: usize = 1024 * 1024;
/// DER `SubjectPublicKeyInfo` of a P-256 key (RFC 5480), up to its point.
const P256_PREFIX: [u8; 26] = [
    0x30, 0x59, 0x30, 0x13, 0x06, 0x07, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x02, 0x01, 0x06, 0x08, 0x2a, 0x86,
    0x48, 0xce, 0x3d, 0x03, 0x01, 0x07, 0x03, 0x42, 0x00,
];
/// How far the clocks of verifier and relying party may differ, seconds.
const LEEWAY: u64 = 60;

/// The verifier's key: ECDSA over P-256. The library wipes it when it goes.
pub struct SigningKey {
    pair: EcdsaKeyPair,
    id: String,
}

/// Why no token could be made.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TokenError {
    /// The key is no PKCS#8 of an ECDSA key on P-256.
    #[error("the key is no PKCS#8 of a P-256 key")]
    Key,
    /// The library failed to sign.
    #[error("the token could not be signed")]
    Signing,
    /// The claims name no key of the guest.
    #[error("the claims name no key that the guest's Evidence covers")]
    Claims,
    /// It would be good for no time, or for longer than a day.
    #[error("a token must be good for some time, and for no more than a day")]
    Lifetime,
    /// It would be longer than readers take.
    #[error("the token would be too long")]
    TooLong,
}

/// Why a token is not believed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InvalidToken {
    /// It cannot be read, or is not what its profile says.
    #[error("not an EAR token: {0}")]
    Malformed(String),
    /// Another key signed it, or it was altered.
    #[error("the signature is not that of the expected key")]
    Signature,
    /// It is too old or too new.
    #[error("not valid now: issued {issued}, expires {expires}")]
    Time {
        /// When it was issued.
        issued: UnixTime,
        /// When it expires.
        expires: UnixTime,
    },
}

impl SigningKey {
    /// Takes PKCS#8, DER.
    ///
    /// # Errors
    /// [`TokenError::Key`] for anything else than an ECDSA key on P-256.
    pub fn from_pkcs8(der: &[u8]) -> Result<Self, TokenError> {
        let pair =
            EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, der).map_err(|_| TokenError::Key)?;
        let id = VerifyingKey { point: pair.public_key().as_ref().to_vec() }.id();
        Ok(Self { pair, id })
    }

    /// What a relying party needs to know of it.
    pub fn verifying_key(&self) -> VerifyingKey {
        VerifyingKey { point: self.pair.public_key().as_ref().to_vec() }
    }

    /// The first half of SHA-256 of its `SubjectPublicKeyInfo`, hexadecimal: the tokens' key id.
    pub fn id(&self) -> &str {
        &self.id
    }

    /// Header and claims as a JWS in the compact form (RFC 7515, §3.1).
    pub(crate) fn jws(&self, header: &Header, claims: &Json) -> Result<String, TokenError> {
        let part = |json: serde_json::Result<Vec<u8>>| {
            json.map(|json| URL_SAFE_NO_PAD.encode(json)).map_err(|_| TokenError::Signing)
        };
        let signed = format!("{}.{}", part(serde_json::to_vec(header))?, part(serde_json::to_vec(claims))?);
        let signature =
            self.pair.sign(&SystemRandom::new(), signed.as_bytes()).map_err(|_| TokenError::Signing)?;
        Ok(format!("{signed}.{}", URL_SAFE_NO_PAD.encode(signature)))
    }
}

/// A verifier's public key: an uncompressed point on P-256.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VerifyingKey {
    point: Vec<u8>,
}

impl VerifyingKey {
    /// Takes an uncompressed point, 65 bytes.
    pub fn from_point(point: &[u8]) -> Option<Self> {
        (point.len() == 65 && point[0] == 4).then(|| Self { point: point.to_vec() })
    }

    /// Takes DER `SubjectPublicKeyInfo` of a P-256 key with an uncompressed point (RFC 5480).
    pub fn from_spki(spki: &[u8]) -> Option<Self> {
        Self::from_point(spki.strip_prefix(&P256_PREFIX)?)
    }

    /// The uncompressed point, 65 bytes.
    pub fn point(&self) -> &[u8] {
        &self.point
    }

    /// The first half of SHA-256 of its `SubjectPublicKeyInfo`, hexadecimal: the tokens' key id.
    pub fn id(&self) -> String {
        let spki = [P256_PREFIX.as_slice(), &self.point].concat();
        let digest = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, &spki);
        hex::encode(&digest.as_ref()[..16])
    }

    /// The claims of a token of either form that this key signed, valid at `now`, under their names in JSON.
    ///
    /// # Errors
    /// [`InvalidToken`] says why it is not to be believed.
    pub fn verify(&self, token: &Token, now: UnixTime) -> Result<Json, InvalidToken> {
        match token {
            Token::Jwt(text) => self.verify_jwt(text, now),
            Token::Cwt(bytes) => {
                self.verify_cwt(bytes, now)?;
                token.unverified_claims()
            }
        }
    }
}

impl Ear {
    /// Signs the claims as a JWT.
    ///
    /// # Errors
    /// [`TokenError::Signing`] when the library fails.
    pub fn to_jwt(&self, key: &SigningKey) -> Result<String, TokenError> {
        let mut header = Header::new(Algorithm::ES256);
        header.kid = Some(key.id.clone());
        key.jws(&header, &self.to_json())
    }

    /// Signs the claims as a CWT: COSE_Sign1, tagged.
    ///
    /// # Errors
    /// [`TokenError::Signing`] when the library fails.
    pub fn to_cwt(&self, key: &SigningKey) -> Result<Vec<u8>, TokenError> {
        let protected = HeaderBuilder::new()
            .algorithm(iana::Algorithm::ES256)
            .key_id(key.id.clone().into_bytes())
            .build();
        CoseSign1Builder::new()
            .protected(protected)
            .payload(self.to_cbor())
            .try_create_signature(&[], |message| {
                key.pair
                    .sign(&SystemRandom::new(), message)
                    .map(|signature| signature.as_ref().to_vec())
                    .map_err(|_| TokenError::Signing)
            })?
            .build()
            .to_tagged_vec()
            .map_err(|_| TokenError::Signing)
    }
}

impl VerifyingKey {
    /// The claims of a JWT that this key signed, valid at `now`.
    ///
    /// # Errors
    /// [`InvalidToken`] says why it is not to be believed.
    pub fn verify_jwt(&self, token: &str, now: UnixTime) -> Result<Json, InvalidToken> {
        if token.len() > MAX_TOKEN {
            return Err(InvalidToken::Malformed(format!("{} bytes", token.len())));
        }
        let mut validation = Validation::new(Algorithm::ES256);
        // Time is checked below, against the time that is passed in.
        validation.validate_exp = false;
        validation.required_spec_claims.clear();
        let key = DecodingKey::from_ec_der(&self.point);
        let claims = jsonwebtoken::decode::<Json>(token, &key, &validation)
            .map_err(|error| match error.kind() {
                jsonwebtoken::errors::ErrorKind::InvalidSignature
                | jsonwebtoken::errors::ErrorKind::InvalidAlgorithm => InvalidToken::Signature,
                other => InvalidToken::Malformed(format!("{other:?}")),
            })?
            .claims;
        let number = |name: &str| claims.get(name).and_then(Json::as_i64);
        if !is_profile(&claims) {
            return Err(InvalidToken::Malformed("another profile".into()));
        }
        current(number("iat"), number("exp"), now)?;
        Ok(claims)
    }

    /// The claims of a CWT that this key signed, valid at `now`.
    ///
    /// # Errors
    /// [`InvalidToken`] says why it is not to be believed.
    pub fn verify_cwt(&self, token: &[u8], now: UnixTime) -> Result<ciborium::Value, InvalidToken> {
        if token.len() > MAX_TOKEN {
            return Err(InvalidToken::Malformed(format!("{} bytes", token.len())));
        }
        let malformed = |error: coset::CoseError| InvalidToken::Malformed(error.to_string());
        let signed = CoseSign1::from_tagged_slice(token)
            .or_else(|_| CoseSign1::from_slice(token))
            .map_err(malformed)?;
        let algorithm = coset::RegisteredLabelWithPrivate::Assigned(iana::Algorithm::ES256);
        if signed.protected.header.alg != Some(algorithm) {
            return Err(InvalidToken::Signature);
        }
        signed.verify_signature(&[], |signature, message| {
            UnparsedPublicKey::new(&ECDSA_P256_SHA256_FIXED, &self.point)
                .verify(message, signature)
                .map_err(|_| InvalidToken::Signature)
        })?;
        let payload = signed.payload.unwrap_or_default();
        let claims: ciborium::Value = ciborium::de::from_reader_with_recursion_limit(payload.as_slice(), 16)
            .map_err(|error| InvalidToken::Malformed(error.to_string()))?;
        let member = |key: i64| {
            claims
                .as_map()?
                .iter()
                .find(|(name, _)| name.as_integer() == Some(key.into()))
                .map(|(_, value)| value)
        };
        if member(265).and_then(ciborium::Value::as_text) != Some(PROFILE) {
            return Err(InvalidToken::Malformed("another profile".into()));
        }
        let number = |key: i64| member(key)?.as_integer().and_then(|number| i64::try_from(number).ok());
        current(number(6), number(4), now)?;
        Ok(claims)
    }
}

pub(crate) fn is_profile(claims: &Json) -> bool {
    claims.get("eat_profile").and_then(Json::as_str) == Some(PROFILE)
}

fn current(issued: Option<i64>, expires: Option<i64>, now: UnixTime) -> Result<(), InvalidToken> {
    let (Some(issued), Some(expires)) = (issued, expires) else {
        return Err(InvalidToken::Malformed("no time of issue or expiry".into()));
    };
    if now.0 < issued.saturating_sub(LEEWAY as i64) || now.0 >= expires {
        return Err(InvalidToken::Time { issued: UnixTime(issued), expires: UnixTime(expires) });
    }
    Ok(())
}

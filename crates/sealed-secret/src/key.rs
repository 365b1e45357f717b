//! Keys that sign sealed secrets: P-256, as JWK where Confidential Containers keeps them.

use aws_lc_rs::{
    rand::SystemRandom,
    signature::{
        ECDSA_P256_SHA256_FIXED, ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair, ParsedPublicKey,
    },
};
use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use serde::Deserialize;
use zeroize::Zeroizing;

/// The longest JWK, in bytes: one with a certificate chain in it is not longer.
const MAX_JWK: usize = 64 * 1024;
/// The length of a coordinate of P-256, in bytes.
const COORDINATE: usize = 32;

/// The public key that a sealed secret is verified with.
#[derive(Clone)]
pub struct VerifyingKey {
    key: ParsedPublicKey,
    point: [u8; 1 + 2 * COORDINATE],
}

/// The private key that seals.
pub struct SigningKey {
    pair: EcdsaKeyPair,
}

/// Why a key is none.
#[derive(Debug, thiserror::Error)]
pub enum KeyError {
    /// Not a JWK.
    #[error("the key is no JWK")]
    Json(#[source] serde_json::Error),
    /// Longer than any key.
    #[error("the key has {length} bytes, and no JWK has more than {MAX_JWK}")]
    TooLong {
        /// Its length in bytes.
        length: usize,
    },
    /// Another kind of key.
    #[error("the key's {member} is not {expected}")]
    Kind {
        /// The member of the JWK.
        member: &'static str,
        /// What it should be.
        expected: &'static str,
    },
    /// No point of the curve, or no PKCS #8.
    #[error("the key is no key of P-256")]
    Rejected,
    /// The cryptographic library failed.
    #[error("no key could be made")]
    Generate,
}

/// RFC 7517; members that are not named here are to be ignored (§4).
#[derive(Deserialize)]
struct Jwk {
    kty: String,
    crv: String,
    x: String,
    y: String,
    #[serde(default, rename = "use")]
    purpose: Option<String>,
    #[serde(default)]
    alg: Option<String>,
}

impl VerifyingKey {
    /// Reads a JWK, `{"kty":"EC","crv":"P-256","x":…,"y":…}`. A private one will do: only its public half is read.
    ///
    /// # Errors
    /// When it is another kind of key, for another purpose, or none at all.
    pub fn from_jwk(json: &[u8]) -> Result<Self, KeyError> {
        if json.len() > MAX_JWK {
            return Err(KeyError::TooLong { length: json.len() });
        }
        let jwk: Jwk = serde_json::from_slice(json).map_err(KeyError::Json)?;
        let purpose = jwk.purpose.as_deref().unwrap_or("sig");
        let algorithm = jwk.alg.as_deref().unwrap_or("ES256");
        for (member, seen, expected) in [
            ("kty", jwk.kty.as_str(), "EC"),
            ("crv", &jwk.crv, "P-256"),
            ("use", purpose, "sig"),
            ("alg", algorithm, "ES256"),
        ] {
            if seen != expected {
                return Err(KeyError::Kind { member, expected });
            }
        }
        let mut point = [4; 1 + 2 * COORDINATE];
        let (x, y) = point[1..].split_at_mut(COORDINATE);
        x.copy_from_slice(&coordinate(&jwk.x)?);
        y.copy_from_slice(&coordinate(&jwk.y)?);
        Self::from_point(point)
    }

    fn from_point(point: [u8; 1 + 2 * COORDINATE]) -> Result<Self, KeyError> {
        let key = ParsedPublicKey::new(&ECDSA_P256_SHA256_FIXED, point).map_err(|_| KeyError::Rejected)?;
        Ok(Self { key, point })
    }

    /// The JWK, to put where guests find it.
    pub fn to_jwk(&self) -> String {
        let (x, y) = self.point[1..].split_at(COORDINATE);
        let [x, y] = [x, y].map(|coordinate| URL_SAFE_NO_PAD.encode(coordinate));
        format!(r#"{{"kty":"EC","crv":"P-256","alg":"ES256","use":"sig","x":"{x}","y":"{y}"}}"#)
    }

    pub(crate) fn verifies(&self, message: &[u8], signature: &[u8]) -> bool {
        self.key.verify_sig(message, signature).is_ok()
    }
}

fn coordinate(text: &str) -> Result<[u8; COORDINATE], KeyError> {
    let bytes = URL_SAFE_NO_PAD.decode(text).map_err(|_| KeyError::Rejected)?;
    bytes.try_into().map_err(|_| KeyError::Rejected)
}

impl SigningKey {
    /// A new one.
    ///
    /// # Errors
    /// When there is no randomness.
    pub fn generate() -> Result<Self, KeyError> {
        let pair =
            EcdsaKeyPair::generate(&ECDSA_P256_SHA256_FIXED_SIGNING).map_err(|_| KeyError::Generate)?;
        Ok(Self { pair })
    }

    /// Reads PKCS #8, DER.
    ///
    /// # Errors
    /// When it holds no key of P-256.
    pub fn from_pkcs8(der: &[u8]) -> Result<Self, KeyError> {
        let pair = EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, der)
            .map_err(|_| KeyError::Rejected)?;
        Ok(Self { pair })
    }

    /// PKCS #8, DER.
    ///
    /// # Errors
    /// When the cryptographic library cannot write it.
    pub fn to_pkcs8(&self) -> Result<Zeroizing<Vec<u8>>, KeyError> {
        let der = self.pair.to_pkcs8v1().map_err(|_| KeyError::Rejected)?;
        Ok(Zeroizing::new(der.as_ref().to_vec()))
    }

    /// Its public half.
    pub fn verifying_key(&self) -> VerifyingKey {
        let mut point = [0; 1 + 2 * COORDINATE];
        point.copy_from_slice(self.pair.public_key().as_ref());
        VerifyingKey::from_point(point).expect("the public half of a key that was accepted")
    }

    /// `None` when there is no randomness.
    pub(crate) fn sign(&self, message: &[u8]) -> Option<Vec<u8>> {
        let signature = self.pair.sign(&SystemRandom::new(), message).ok()?;
        Some(signature.as_ref().to_vec())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// RFC 7515, Appendix A.3.
    const KEY: &str = r#"{"kty":"EC","crv":"P-256","x":"f83OJ3D2xF1Bg8vub9tLe1gHMzV76e8Tus9uPHvRVEU",
        "y":"x_FEzRu9m36HLN_tue659LNpXW6pCyStikYjKIWI5a0"}"#;
    const SIGNED: &str = "eyJhbGciOiJFUzI1NiJ9.eyJpc3MiOiJqb2UiLA0KICJleHAiOjEzMDA4MTkzODAsDQogImh0dHA6Ly9leGFtcGxlLmNvbS9pc19yb290Ijp0cnVlfQ";
    const SIGNATURE: &str =
        "DtEhU3ljbEg8L38VWAfUAqOyKAM6-Xx-F4GawxaepmXFCgfTjDxw5djxLa8ISlSApmWQxfKTUJqPP3-Kg6NU1Q";

    #[test]
    fn the_example_of_rfc_7515_verifies() {
        let key = VerifyingKey::from_jwk(KEY.as_bytes()).expect("a key");
        let signature = URL_SAFE_NO_PAD.decode(SIGNATURE).expect("base64");
        assert!(key.verifies(SIGNED.as_bytes(), &signature));
        assert!(!key.verifies(&SIGNED.as_bytes()[1..], &signature));
        let again = VerifyingKey::from_jwk(key.to_jwk().as_bytes()).expect("what it writes it reads");
        assert_eq!(again.point, key.point);
    }

    #[test]
    fn keys_of_other_kinds_and_purposes_are_refused() {
        for (from, to) in [
            (r#""EC""#, r#""RSA""#),
            (r#""P-256""#, r#""P-384""#),
            (r#""kty""#, r#""use":"enc","kty""#),
            (r#""kty""#, r#""alg":"ES384","kty""#),
        ] {
            let other = KEY.replacen(from, to, 1);
            assert!(
                matches!(VerifyingKey::from_jwk(other.as_bytes()), Err(KeyError::Kind { .. })),
                "{other}"
            );
        }
        let off_the_curve = KEY.replacen("f83O", "f83P", 1);
        assert!(matches!(VerifyingKey::from_jwk(off_the_curve.as_bytes()), Err(KeyError::Rejected)));
        assert!(matches!(VerifyingKey::from_jwk(b"-----BEGIN"), Err(KeyError::Json(_))));
        assert!(matches!(VerifyingKey::from_jwk(&vec![b' '; MAX_JWK + 1]), Err(KeyError::TooLong { .. })));
    }

    #[test]
    fn a_key_survives_its_file() {
        let key = SigningKey::generate().expect("a key");
        let again = SigningKey::from_pkcs8(&key.to_pkcs8().expect("PKCS #8")).expect("the same key");
        assert_eq!(again.verifying_key().point, key.verifying_key().point);
    }
}

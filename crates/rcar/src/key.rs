//! Keys that resources are encrypted to: a guest makes one, its Evidence covers the public half, and whatever is
//! released to the guest is encrypted to that.

use std::fmt;

use aws_lc_rs::agreement::{self, ECDH_P256, ECDH_P384, ECDH_P521};
use aws_lc_rs::encoding::{AsBigEndian, AsDer, EcPublicKeyUncompressedBin, Pkcs8V1Der};
use aws_lc_rs::kem::{self, DecapsulationKey, EncapsulationKey, ML_KEM_768};
use aws_lc_rs::rsa::{KeyPair, KeySize, PrivateDecryptingKey, PublicEncryptingKey, PublicKeyComponents};
use aws_lc_rs::signature::KeyPair as _;
use serde_json::{Map, Value, json};

use crate::json;
use crate::text::{decode, encode};
use crate::{Invalid, Jwe, Version, jwe};

/// No longer key is taken. The longest that honest clients send is that of ML-KEM, 1.6 KiB.
pub const MAX_JWK: usize = 8 * 1024;
/// The only public exponent that clients use. Others are refused: in version 0.1.x modulus and exponent were hashed
/// one after the other, and a boundary that can move gives another key the same hash.
const EXPONENT: [u8; 3] = [1, 0, 1];

/// The curves of the protocol.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Curve {
    P256,
    P384,
    P521,
}

impl Curve {
    const ALL: [Self; 3] = [Self::P256, Self::P384, Self::P521];

    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::P256 => "P-256",
            Self::P384 => "P-384",
            Self::P521 => "P-521",
        }
    }

    const fn coordinate(self) -> usize {
        match self {
            Self::P256 => 32,
            Self::P384 => 48,
            Self::P521 => 66,
        }
    }

    pub(crate) fn algorithm(self) -> &'static agreement::Algorithm {
        match self {
            Self::P256 => &ECDH_P256,
            Self::P384 => &ECDH_P384,
            Self::P521 => &ECDH_P521,
        }
    }

    fn of_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|curve| curve.name() == name)
    }

    /// The point of a JWK (RFC 7518, §6.2.1) in the uncompressed form of SEC 1, checked to be on the curve.
    pub(crate) fn point(self, jwk: &Map<String, Value>) -> Option<Vec<u8>> {
        let mut point = vec![4];
        for name in ["x", "y"] {
            let coordinate = decode(jwk.get(name)?.as_str()?)?;
            // Neither longer nor shorter, leading zeros included.
            (coordinate.len() == self.coordinate()).then(|| point.extend_from_slice(&coordinate))?;
        }
        let unparsed = agreement::UnparsedPublicKey::new(self.algorithm(), &point);
        agreement::ParsedPublicKey::try_from(unparsed).ok()?;
        Some(point)
    }

    /// The members `crv`, `kty`, `x`, `y` of a point, in that order.
    pub(crate) fn members(self, point: &[u8]) -> String {
        let (x, y) =
            point.get(1..).unwrap_or_default().split_at_checked(self.coordinate()).unwrap_or_default();
        format!(r#"{{"crv":"{}","kty":"EC","x":"{}","y":"{}"}}"#, self.name(), encode(x), encode(y))
    }
}

/// What kind of key pair, and how a key is wrapped for it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum KeyAlgorithm {
    /// RSA of 2048 bits, OAEP with SHA-256.
    RsaOaep256,
    /// ECDH-ES+A256KW with P-256, which CoCo's clients use when nothing is said.
    #[default]
    EcdhP256,
    /// ECDH-ES+A256KW with P-384.
    EcdhP384,
    /// ECDH-ES+A256KW with P-521.
    EcdhP521,
    /// ML-KEM-768+A192KW (draft-ietf-jose-pqc-kem-05).
    MlKem768,
}

impl KeyAlgorithm {
    /// All.
    pub const ALL: [Self; 5] =
        [Self::RsaOaep256, Self::EcdhP256, Self::EcdhP384, Self::EcdhP521, Self::MlKem768];

    /// Its name in CoCo's settings (`tee_key_algorithm`).
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::RsaOaep256 => "RSA-OAEP-256",
            Self::EcdhP256 => "ECDH-ES+A256KW-P256",
            Self::EcdhP384 => "ECDH-ES+A256KW-P384",
            Self::EcdhP521 => "ECDH-ES+A256KW-P521",
            Self::MlKem768 => "ML-KEM-768+A192KW",
        }
    }
}

impl fmt::Display for KeyAlgorithm {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl std::str::FromStr for KeyAlgorithm {
    type Err = Invalid;

    fn from_str(text: &str) -> Result<Self, Invalid> {
        Self::ALL.into_iter().find(|algorithm| algorithm.as_str() == text).ok_or(Invalid::Member {
            member: "the key algorithm",
            expected: "RSA-OAEP-256, ECDH-ES+A256KW-P256, -P384 or -P521, or ML-KEM-768+A192KW",
        })
    }
}

/// A public key of the kinds that resources are encrypted to, and the exact members that came with it.
#[derive(Clone)]
pub struct PublicKey {
    jwk: Value,
    pub(crate) kind: PublicKind,
}

#[derive(Clone)]
pub(crate) enum PublicKind {
    /// With OAEP, or else with PKCS #1 v1.5.
    Rsa { key: PublicEncryptingKey, oaep: bool },
    /// An uncompressed point.
    Ec { curve: Curve, point: Vec<u8> },
    /// An encapsulation key.
    MlKem(Vec<u8>),
}

impl PublicKey {
    /// Reads a JWK. Members beyond those of its kind are kept, as what is hashed is all of it; those of a private key
    /// are refused.
    ///
    /// # Errors
    /// [`Invalid`], also when `alg` does not fit `kty` and `crv`, a point is not on its curve, or an RSA modulus has
    /// not 2048 to 8192 bits.
    pub fn parse(jwk: &[u8]) -> Result<Self, Invalid> {
        Self::from_value(json::value("tee-pubkey", jwk, MAX_JWK)?)
    }

    /// As [`PublicKey::parse`], of JSON that was parsed already.
    ///
    /// # Errors
    /// As those of [`PublicKey::parse`].
    pub fn from_value(jwk: Value) -> Result<Self, Invalid> {
        let members = jwk.as_object().ok_or(Invalid::Key("a JWK is an object"))?;
        if ["d", "p", "q", "dp", "dq", "qi", "oth", "k", "priv"]
            .iter()
            .any(|name| members.contains_key(*name))
        {
            return Err(Invalid::Key("it has members of a private key, which no one may send"));
        }
        let text = |name: &str| members.get(name).and_then(Value::as_str);
        let kind = match (text("kty"), text("alg"), text("crv")) {
            (Some("RSA"), Some("RSA-OAEP-256"), None) => rsa_key(members, true)?,
            (Some("RSA"), Some("RSA1_5"), None) => rsa_key(members, false)?,
            (Some("EC"), Some("ECDH-ES+A256KW"), Some(name)) => {
                let curve = Curve::of_name(name).ok_or(Invalid::Key("crv must be P-256, P-384 or P-521"))?;
                let point =
                    curve.point(members).ok_or(Invalid::Key("x and y are not a point of the curve"))?;
                PublicKind::Ec { curve, point }
            }
            (Some("AKP"), Some("ML-KEM-768+A192KW"), None) => {
                let wrong = Invalid::Key("pub is not an encapsulation key of ML-KEM-768");
                let key = text("pub").and_then(decode).ok_or_else(|| wrong.clone())?;
                EncapsulationKey::new(&ML_KEM_768, &key).map_err(|_| wrong)?;
                PublicKind::MlKem(key)
            }
            _ => return Err(Invalid::Key("kty, crv and alg are not those of one of the protocol's kinds")),
        };
        Ok(Self { jwk, kind })
    }

    /// The JWK, with all members that it was read with.
    pub fn to_json(&self) -> &Value {
        &self.jwk
    }

    /// Encrypts for whoever has the private half.
    ///
    /// # Errors
    /// [`Invalid`] when the key turns out not to be one after all.
    pub fn encrypt(&self, plaintext: &[u8]) -> Result<Jwe, Invalid> {
        jwe::encrypt(self, Version::NEWEST, plaintext)
    }

    /// As [`PublicKey::encrypt`], in the form that clients of a version read: before 0.2.0 it was not that of RFC 7516.
    ///
    /// # Errors
    /// As those of [`PublicKey::encrypt`].
    pub fn encrypt_for(&self, version: Version, plaintext: &[u8]) -> Result<Jwe, Invalid> {
        jwe::encrypt(self, version, plaintext)
    }

    /// For RSA: `n` and `e` as they were written.
    pub(crate) fn rsa_members(&self) -> Option<[&str; 2]> {
        let member =
            |names: [&str; 2]| names.iter().find_map(|name| self.jwk.get(name)).and_then(Value::as_str);
        match self.kind {
            PublicKind::Rsa { .. } => Some([member(MODULUS)?, member(PUBLIC_EXPONENT)?]),
            _ => None,
        }
    }
}

/// The names that the very first clients used come second.
const MODULUS: [&str; 2] = ["n", "k-mod"];
const PUBLIC_EXPONENT: [&str; 2] = ["e", "k-exp"];

fn rsa_key(members: &Map<String, Value>, oaep: bool) -> Result<PublicKind, Invalid> {
    let number = |[name, old]: [&str; 2]| match (members.get(name), members.get(old)) {
        (Some(value), None) | (None, Some(value)) => value.as_str().and_then(decode),
        _ => None,
    };
    let modulus = number(MODULUS).ok_or(Invalid::Key("n must be base64url"))?;
    let exponent = number(PUBLIC_EXPONENT).ok_or(Invalid::Key("e must be base64url"))?;
    // The highest byte of a modulus says how many bits it has; a leading zero is a second way to write it.
    let bits = modulus.len() * 8 - modulus.first().map_or(0, |first| first.leading_zeros() as usize);
    if modulus.first() == Some(&0) || !(2048..=8192).contains(&bits) {
        return Err(Invalid::Key("an RSA modulus must have 2048 to 8192 bits, and no leading zeros"));
    }
    if exponent != EXPONENT {
        return Err(Invalid::Key("the public exponent must be 65537"));
    }
    let components = PublicKeyComponents { n: &modulus, e: &exponent };
    let key = components.try_into().map_err(|_| Invalid::Key("n and e are not an RSA key"))?;
    Ok(PublicKind::Rsa { key, oaep })
}

impl PartialEq for PublicKey {
    fn eq(&self, other: &Self) -> bool {
        self.jwk == other.jwk
    }
}

impl Eq for PublicKey {}

impl fmt::Debug for PublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "PublicKey({})", self.jwk)
    }
}

/// A key pair of a guest.
pub struct PrivateKey {
    pub(crate) kind: PrivateKind,
    pub(crate) public: PublicKey,
}

pub(crate) enum PrivateKind {
    Rsa(Box<PrivateDecryptingKey>),
    Ec { curve: Curve, key: Box<agreement::PrivateKey> },
    MlKem(Box<DecapsulationKey>),
}

impl PrivateKey {
    /// Makes a new one.
    ///
    /// # Errors
    /// [`Invalid::Key`] when the library cannot, which does not happen.
    pub fn generate(algorithm: KeyAlgorithm) -> Result<Self, Invalid> {
        let failed = Invalid::Key("it could not be made");
        let (kind, jwk) = match algorithm {
            KeyAlgorithm::RsaOaep256 => {
                let key = PrivateDecryptingKey::generate(KeySize::Rsa2048).map_err(|_| failed)?;
                Self::rsa(key)?
            }
            KeyAlgorithm::EcdhP256 => Self::ec(Curve::P256, None)?,
            KeyAlgorithm::EcdhP384 => Self::ec(Curve::P384, None)?,
            KeyAlgorithm::EcdhP521 => Self::ec(Curve::P521, None)?,
            KeyAlgorithm::MlKem768 => {
                let key = DecapsulationKey::generate(&ML_KEM_768).map_err(|_| failed)?;
                ml_kem(key)?
            }
        };
        Self::new(kind, jwk)
    }

    fn new(kind: PrivateKind, jwk: Value) -> Result<Self, Invalid> {
        Ok(Self { kind, public: PublicKey::from_value(jwk)? })
    }

    fn rsa(key: PrivateDecryptingKey) -> Result<(PrivateKind, Value), Invalid> {
        let failed = Invalid::Key("it is not an RSA key");
        let der: Pkcs8V1Der<'_> = key.as_der().map_err(|_| failed.clone())?;
        let pair = KeyPair::from_pkcs8(der.as_ref()).map_err(|_| failed.clone())?;
        // RSAPublicKey of PKCS #1 ends with the modulus and, as an INTEGER, the exponent that all generators take.
        let modulus = (pair.public_key().as_ref().strip_suffix(&[2, 3, 1, 0, 1]))
            .and_then(|rest| rest.get(rest.len().checked_sub(key.key_size_bytes())?..))
            .ok_or(failed)?;
        let jwk = json!({ "kty": "RSA", "alg": "RSA-OAEP-256", "n": encode(modulus), "e": encode(EXPONENT) });
        Ok((PrivateKind::Rsa(Box::new(key)), jwk))
    }

    /// Of a private scalar, or of a new one.
    fn ec(curve: Curve, scalar: Option<&[u8]>) -> Result<(PrivateKind, Value), Invalid> {
        let failed = Invalid::Key("it is not a key of its curve");
        let key = match scalar {
            None => agreement::PrivateKey::generate(curve.algorithm()).map_err(|_| failed.clone())?,
            Some(scalar) => agreement::PrivateKey::from_private_key(curve.algorithm(), scalar)
                .map_err(|_| failed.clone())?,
        };
        let public = key.compute_public_key().map_err(|_| failed.clone())?;
        let point: EcPublicKeyUncompressedBin<'_> = public.as_be_bytes().map_err(|_| failed.clone())?;
        let mut jwk: Value = serde_json::from_str(&curve.members(point.as_ref())).map_err(|_| failed)?;
        jwk["alg"] = "ECDH-ES+A256KW".into();
        Ok((PrivateKind::Ec { curve, key: Box::new(key) }, jwk))
    }

    #[cfg(test)]
    pub(crate) fn from_pkcs8(der: &[u8]) -> Result<Self, Invalid> {
        let key = PrivateDecryptingKey::from_pkcs8(der).map_err(|_| Invalid::Key("it is not an RSA key"))?;
        let (kind, jwk) = Self::rsa(key)?;
        Self::new(kind, jwk)
    }

    #[cfg(test)]
    pub(crate) fn from_scalar(curve: Curve, scalar: &[u8]) -> Result<Self, Invalid> {
        let (kind, jwk) = Self::ec(curve, Some(scalar))?;
        Self::new(kind, jwk)
    }

    #[cfg(test)]
    pub(crate) fn from_decapsulation_key(bytes: &[u8]) -> Result<Self, Invalid> {
        let failed = Invalid::Key("it is not a key of ML-KEM-768");
        let key = DecapsulationKey::new(&ML_KEM_768, bytes).map_err(|_| failed.clone())?;
        // A key of bytes does not tell its public half, which the bytes have in them (FIPS 203, algorithm 16).
        let public = bytes.get(1152..2336).ok_or(failed)?;
        let jwk = json!({ "kty": "AKP", "alg": "ML-KEM-768+A192KW", "pub": encode(public) });
        Self::new(PrivateKind::MlKem(Box::new(key)), jwk)
    }

    /// What is sent to the broker, and covered by Evidence.
    pub fn public(&self) -> &PublicKey {
        &self.public
    }

    /// Decrypts what was encrypted to the public half.
    ///
    /// # Errors
    /// [`Invalid::Jwe`], which does not tell why where that could help to find out the plaintext.
    pub fn decrypt(&self, jwe: &Jwe) -> Result<zeroize::Zeroizing<Vec<u8>>, Invalid> {
        jwe::decrypt(self, jwe)
    }
}

fn ml_kem(key: DecapsulationKey<kem::AlgorithmId>) -> Result<(PrivateKind, Value), Invalid> {
    let failed = Invalid::Key("it is not a key of ML-KEM-768");
    let public = key.encapsulation_key().and_then(|public| public.key_bytes().map(|bytes| encode(&*bytes)));
    let jwk = json!({ "kty": "AKP", "alg": "ML-KEM-768+A192KW", "pub": public.map_err(|_| failed)? });
    Ok((PrivateKind::MlKem(Box::new(key)), jwk))
}

impl fmt::Debug for PrivateKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "PrivateKey of {:?}", self.public)
    }
}

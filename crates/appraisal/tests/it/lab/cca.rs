//! A CCA-like platform with a realm: two tokens, encoded by `coset` and `ciborium`, which the code under test does not
//! use.

use appraisal::{Policy, TrustAnchor};
use aws_lc_rs::digest;
use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::{
    ECDSA_P256_SHA256_FIXED_SIGNING, ECDSA_P384_SHA384_FIXED_SIGNING, ECDSA_P521_SHA512_FIXED_SIGNING,
    EcdsaKeyPair, EcdsaSigningAlgorithm, KeyPair as _,
};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use ciborium::Value;
use coset::{CoseSign1Builder, HeaderBuilder, TaggedCborSerializable as _, iana};

use super::REPORT_DATA;

/// A platform in which everything is good; tests change one thing.
#[derive(Clone)]
pub struct Cca {
    pub platform_algorithm: iana::Algorithm,
    pub realm_algorithm: iana::Algorithm,
    pub key_hash: &'static str,
    /// The algorithm that the platform's challenge is really made with.
    pub bound_by: &'static str,
    pub cose_key: bool,
    pub other_realm_key: bool,
    pub platform_header: iana::Algorithm,
    pub lifecycle: u16,
    pub components: Vec<Value>,
    pub platform: Vec<(Value, Value)>,
    pub realm: Vec<(Value, Value)>,
    pub without: Option<i64>,
}

pub struct Made {
    pub token: Vec<u8>,
    pub jwk: String,
}

impl Cca {
    pub fn good() -> Self {
        Self {
            platform_algorithm: iana::Algorithm::ES384,
            realm_algorithm: iana::Algorithm::ES384,
            key_hash: "sha-256",
            bound_by: "sha-256",
            cose_key: true,
            other_realm_key: false,
            platform_header: iana::Algorithm::ES384,
            lifecycle: 0x3000,
            components: vec![component(Some("RMM"), 1), component(Some("BL"), 2)],
            platform: vec![],
            realm: vec![],
            without: None,
        }
    }

    pub fn signed_by(platform: iana::Algorithm, realm: iana::Algorithm) -> Self {
        Self {
            platform_algorithm: platform,
            platform_header: platform,
            realm_algorithm: realm,
            ..Self::good()
        }
    }

    pub fn make(&self) -> Made {
        let (cpak, rak) = (Key::new(self.platform_algorithm), Key::new(self.realm_algorithm));
        let claimed = if self.cose_key { rak.cose_key() } else { rak.point() };
        let bytes = |length, byte: u8| Value::Bytes(vec![byte; length]);
        let realm = self.claims(
            vec![
                (Value::from(265), Value::from("tag:arm.com,2023:realm#1.0.0")),
                (Value::from(10), Value::Bytes(REPORT_DATA.0.to_vec())),
                (Value::from(44235), bytes(64, 0x77)),
                (Value::from(44236), Value::from("sha-256")),
                (Value::from(44237), Value::Bytes(claimed.clone())),
                (Value::from(44238), bytes(32, 0xa1)),
                (Value::from(44239), Value::Array((0..4).map(|byte| bytes(32, byte)).collect())),
                (Value::from(44240), Value::from(self.key_hash)),
            ],
            &self.realm,
        );
        let algorithm = match self.bound_by {
            "sha-256" => &digest::SHA256,
            "sha-384" => &digest::SHA384,
            _ => &digest::SHA512,
        };
        let challenge = digest::digest(algorithm, &claimed).as_ref().to_vec();
        let platform = self.claims(
            vec![
                (Value::from(265), Value::from("tag:arm.com,2023:cca_platform#1.0.0")),
                (Value::from(10), Value::Bytes(challenge)),
                (Value::from(2396), bytes(32, 0x11)),
                (Value::from(256), bytes(33, 1)),
                (Value::from(2401), bytes(3, 0x33)),
                (Value::from(2395), Value::from(self.lifecycle)),
                (Value::from(2399), Value::Array(self.components.clone())),
                (Value::from(2402), Value::from("sha-256")),
            ],
            &self.platform,
        );
        let signer = if self.other_realm_key { Key::new(self.realm_algorithm) } else { rak };
        let collection = Value::Map(vec![
            (Value::from(44234), Value::Bytes(cpak.sign(self.platform_header, platform))),
            (Value::from(44241), Value::Bytes(signer.sign(self.realm_algorithm, realm))),
        ]);
        Made { token: encode(&Value::Tag(399, collection.into())), jwk: cpak.jwk() }
    }

    fn claims(&self, mut claims: Vec<(Value, Value)>, extra: &[(Value, Value)]) -> Vec<u8> {
        claims.retain(|(key, _)| self.without.is_none_or(|label| *key != Value::from(label)));
        claims.extend(extra.iter().cloned());
        encode(&Value::Map(claims))
    }
}

impl Made {
    pub fn policy(&self) -> Policy {
        let trust_anchors = TrustAnchor::from_file_bytes("lab", self.jwk.as_bytes()).unwrap();
        Policy { trust_anchors, ..Policy::production() }
    }

    /// The anchor in the form of rust-ccatoken, for one instance.
    pub fn policy_of_instance(&self, byte: u8) -> Policy {
        let id = format!("01{}", format!("{byte:02x}").repeat(32));
        let text = format!(r#"[{{"pkey":{},"instance-id":"{id}"}}]"#, self.jwk);
        let trust_anchors = TrustAnchor::from_file_bytes("lab", text.as_bytes()).unwrap();
        Policy { trust_anchors, ..Policy::production() }
    }
}

pub fn component(kind: Option<&str>, byte: u8) -> Value {
    let mut map = vec![
        (Value::from(2), Value::Bytes(vec![byte; 32])),
        (Value::from(5), Value::Bytes(vec![0xee; 32])),
        (Value::from(4), Value::from("1.0")),
    ];
    map.extend(kind.map(|kind| (Value::from(1), Value::from(kind))));
    Value::Map(map)
}

fn encode(value: &Value) -> Vec<u8> {
    let mut bytes = Vec::new();
    ciborium::into_writer(value, &mut bytes).unwrap();
    bytes
}

struct Key {
    algorithm: iana::Algorithm,
    pair: EcdsaKeyPair,
}

impl Key {
    fn new(algorithm: iana::Algorithm) -> Self {
        let signing: &'static EcdsaSigningAlgorithm = match algorithm {
            iana::Algorithm::ES256 => &ECDSA_P256_SHA256_FIXED_SIGNING,
            iana::Algorithm::ES384 => &ECDSA_P384_SHA384_FIXED_SIGNING,
            _ => &ECDSA_P521_SHA512_FIXED_SIGNING,
        };
        Self { algorithm, pair: EcdsaKeyPair::generate(signing).unwrap() }
    }

    fn point(&self) -> Vec<u8> {
        self.pair.public_key().as_ref().to_vec()
    }

    fn coordinates(&self) -> (Vec<u8>, Vec<u8>) {
        let point = self.point();
        let (x, y) = point[1..].split_at(point.len() / 2);
        (x.to_vec(), y.to_vec())
    }

    fn cose_key(&self) -> Vec<u8> {
        let curve = match self.algorithm {
            iana::Algorithm::ES256 => iana::EllipticCurve::P_256,
            iana::Algorithm::ES384 => iana::EllipticCurve::P_384,
            _ => iana::EllipticCurve::P_521,
        };
        let (x, y) = self.coordinates();
        let key = coset::CoseKeyBuilder::new_ec2_pub_key(curve, x, y).build();
        coset::CborSerializable::to_vec(key).unwrap()
    }

    fn jwk(&self) -> String {
        let curve = match self.algorithm {
            iana::Algorithm::ES256 => "P-256",
            iana::Algorithm::ES384 => "P-384",
            _ => "P-521",
        };
        let (x, y) = self.coordinates();
        let (x, y) = (URL_SAFE_NO_PAD.encode(x), URL_SAFE_NO_PAD.encode(y));
        format!(r#"{{"kty":"EC","crv":"{curve}","x":"{x}","y":"{y}"}}"#)
    }

    fn sign(&self, header: iana::Algorithm, payload: Vec<u8>) -> Vec<u8> {
        CoseSign1Builder::new()
            .protected(HeaderBuilder::new().algorithm(header).build())
            .payload(payload)
            .create_signature(b"", |message| {
                self.pair.sign(&SystemRandom::new(), message).unwrap().as_ref().to_vec()
            })
            .build()
            .to_tagged_vec()
            .unwrap()
    }
}

//! JWE (RFC 7516) in the flattened JSON serialisation, with the few algorithms of the protocol and no other: what a
//! header may say is fixed by the key that decrypts, never by the header.

use aws_lc_rs::aead::{AES_256_GCM, Aad, LessSafeKey, Nonce, UnboundKey};
use aws_lc_rs::agreement::{self, UnparsedPublicKey};
use aws_lc_rs::encoding::{AsBigEndian, EcPublicKeyUncompressedBin};
use aws_lc_rs::kem::{Ciphertext, EncapsulationKey, ML_KEM_768};
use aws_lc_rs::rand;
use aws_lc_rs::rsa::{
    OAEP_SHA256_MGF1SHA256, OaepPrivateDecryptingKey, OaepPublicEncryptingKey, Pkcs1PublicEncryptingKey,
};
use serde::Deserialize;
use serde_json::{Value, json};
use zeroize::Zeroizing;

use crate::derive::{concat_kdf, kmac_kdf};
use crate::key::{Curve, PrivateKind, PublicKind};
use crate::text::{decode, encode};
use crate::wrap::{unwrap, wrap};
use crate::{Invalid, PrivateKey, PublicKey, Version, json};

/// No longer JWE is taken by a guest. Resources are secrets and keys, sometimes files.
pub const MAX_JWE: usize = 24 * 1024 * 1024;
/// A header with the ciphertext of ML-KEM has about 1.6 KiB.
const MAX_HEADER: usize = 8 * 1024;
const MAX_ENCRYPTED_KEY: usize = 1024;
const IV: usize = 12;
const TAG: usize = 16;
const CONTENT_KEY: usize = 32;

/// One message, encrypted. Nothing in it is secret.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Jwe {
    /// The exact text of the header, base64url: what is authenticated is this text, not what it means.
    protected: String,
    encrypted_key: Vec<u8>,
    iv: [u8; IV],
    ciphertext: Vec<u8>,
    tag: [u8; TAG],
    form: Form,
}

/// How it is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Form {
    /// As RFC 7516 has it.
    Standard,
    /// As brokers wrote it before version 0.2.0 of the protocol: the header is plain JSON and not authenticated, the
    /// tag is at the end of the ciphertext.
    Old,
}

impl Jwe {
    /// Reads the flattened JSON serialisation. Members that are not protected are refused: `header`, `unprotected`,
    /// and `aad`, which no broker sends.
    ///
    /// # Errors
    /// [`Invalid`].
    pub fn parse(body: &[u8]) -> Result<Self, Invalid> {
        #[derive(Deserialize)]
        #[serde(deny_unknown_fields)]
        struct Wire {
            protected: String,
            encrypted_key: String,
            iv: String,
            ciphertext: String,
            tag: String,
        }
        let wire: Wire = json::read("the JWE", body, MAX_JWE)?;
        let bytes = |text: &str| decode(text).ok_or(Invalid::Jwe("its members must be base64url"));
        if wire.protected.len() > MAX_HEADER || wire.encrypted_key.len() > 2 * MAX_ENCRYPTED_KEY {
            return Err(Invalid::Jwe("its header or its encrypted key is too long"));
        }
        Ok(Self {
            encrypted_key: bytes(&wire.encrypted_key)?,
            iv: bytes(&wire.iv)?.try_into().map_err(|_| Invalid::Jwe("its IV must have 12 bytes"))?,
            ciphertext: bytes(&wire.ciphertext)?,
            tag: bytes(&wire.tag)?.try_into().map_err(|_| Invalid::Jwe("its tag must have 16 bytes"))?,
            protected: wire.protected,
            form: Form::Standard,
        })
    }

    /// The flattened JSON serialisation.
    pub fn to_json(&self) -> Value {
        let (ciphertext, tag) = match self.form {
            Form::Standard => (encode(&self.ciphertext), encode(self.tag)),
            Form::Old => (encode([&self.ciphertext[..], &self.tag].concat()), String::new()),
        };
        json!({
            "protected": self.protected,
            "encrypted_key": encode(&self.encrypted_key),
            "iv": encode(self.iv),
            "ciphertext": ciphertext,
            "tag": tag,
        })
    }
}

/// The header is written in the order `alg`, `enc`, others by name: CoCo's clients write it anew from its members, in
/// that order, and authenticate what they wrote.
fn header(algorithm: &str, further: &str) -> String {
    format!(r#"{{"alg":"{algorithm}","enc":"A256GCM"{further}}}"#)
}

const ECDH: &str = "ECDH-ES+A256KW";
const ML_KEM: &str = "ML-KEM-768+A192KW";
const OAEP: &str = "RSA-OAEP-256";

pub(crate) fn encrypt(to: &PublicKey, version: Version, plaintext: &[u8]) -> Result<Jwe, Invalid> {
    let form = if version < Version::V0_2_0 { Form::Old } else { Form::Standard };
    let mut content_key = Zeroizing::new([0; CONTENT_KEY]);
    rand::fill(&mut *content_key).map_err(|_| Invalid::Key("no randomness"))?;
    let (header, encrypted_key) = wrap_to(&to.kind, &content_key)?;
    let (protected, aad) = match form {
        Form::Standard => {
            let protected = encode(header);
            (protected.clone(), protected)
        }
        Form::Old => (header, String::new()),
    };
    let mut iv = [0; IV];
    rand::fill(&mut iv).map_err(|_| Invalid::Key("no randomness"))?;
    let mut ciphertext = plaintext.to_vec();
    let tag = cipher(&*content_key)?
        .seal_in_place_separate_tag(
            Nonce::assume_unique_for_key(iv),
            Aad::from(aad.as_bytes()),
            &mut ciphertext,
        )
        .map_err(|_| Invalid::Jwe("it is too long"))?;
    let tag = tag.as_ref().try_into().map_err(|_| Invalid::Jwe("its tag must have 16 bytes"))?;
    Ok(Jwe { protected, encrypted_key, iv, ciphertext, tag, form })
}

/// The header, and the content key encrypted.
fn wrap_to(to: &PublicKind, content_key: &[u8; CONTENT_KEY]) -> Result<(String, Vec<u8>), Invalid> {
    match to {
        PublicKind::Rsa { key, oaep } => {
            let failed = Invalid::Key("it does not encrypt");
            let mut encrypted = vec![0; key.key_size_bytes()];
            let algorithm = if *oaep {
                OaepPublicEncryptingKey::new(key.clone())
                    .and_then(|key| {
                        key.encrypt(&OAEP_SHA256_MGF1SHA256, content_key, &mut encrypted, None).map(drop)
                    })
                    .map_err(|_| failed)?;
                OAEP
            } else {
                Pkcs1PublicEncryptingKey::new(key.clone())
                    .and_then(|key| key.encrypt(content_key, &mut encrypted).map(drop))
                    .map_err(|_| failed)?;
                "RSA1_5"
            };
            Ok((header(algorithm, ""), encrypted))
        }
        PublicKind::Ec { curve, point } => {
            let failed = Invalid::Key("it does not agree");
            let ephemeral = agreement::PrivateKey::generate(curve.algorithm()).map_err(|_| failed.clone())?;
            let public = ephemeral.compute_public_key().map_err(|_| failed.clone())?;
            let public: EcPublicKeyUncompressedBin<'_> = public.as_be_bytes().map_err(|_| failed.clone())?;
            let further = format!(r#","epk":{}"#, curve.members(public.as_ref()));
            let key = agree(*curve, &ephemeral, point).ok_or(failed)?;
            Ok((header(ECDH, &further), wrap(&*key, content_key).ok_or(Invalid::Key("it does not wrap"))?))
        }
        PublicKind::MlKem(key) => {
            let failed = Invalid::Key("it does not encapsulate");
            let (ciphertext, secret) = EncapsulationKey::new(&ML_KEM_768, key)
                .map_err(|_| failed.clone())?
                .encapsulate()
                .map_err(|_| failed.clone())?;
            let further = format!(r#","ek":"{}""#, encode(&ciphertext));
            let key = kmac_kdf(secret.as_ref(), ML_KEM);
            Ok((header(ML_KEM, &further), wrap(&*key, content_key).ok_or(failed)?))
        }
    }
}

fn agree(curve: Curve, private: &agreement::PrivateKey, point: &[u8]) -> Option<Zeroizing<[u8; 32]>> {
    let public = UnparsedPublicKey::new(curve.algorithm(), point);
    agreement::agree(private, public, (), |secret| Ok(concat_kdf(secret, ECDH, b"", b""))).ok()
}

pub(crate) fn decrypt(with: &PrivateKey, jwe: &Jwe) -> Result<Zeroizing<Vec<u8>>, Invalid> {
    // One answer to everything that an attacker may have changed.
    let failed = Invalid::Jwe("it is not encrypted to this key, or was changed on the way");
    let content_key = unwrap_with(&with.kind, jwe)?.ok_or_else(|| failed.clone())?;
    open(&content_key, jwe.protected.as_bytes(), jwe.iv, &jwe.ciphertext, &jwe.tag).ok_or(failed)
}

/// The content key. None when it cannot be decrypted.
fn unwrap_with(with: &PrivateKind, jwe: &Jwe) -> Result<Option<Zeroizing<Vec<u8>>>, Invalid> {
    let header = decode(&jwe.protected).ok_or(Invalid::Jwe("its header must be base64url"))?;
    let header = json::value("the JWE's header", &header, MAX_HEADER)?;
    let header = header.as_object().ok_or(Invalid::Jwe("its header must be an object"))?;
    let (algorithm, further) = match with {
        PrivateKind::Rsa(_) => (OAEP, None),
        PrivateKind::Ec { .. } => (ECDH, Some("epk")),
        PrivateKind::MlKem(_) => (ML_KEM, Some("ek")),
    };
    let is = |name: &str, value: &str| header.get(name).and_then(Value::as_str) == Some(value);
    if !is("alg", algorithm) || !is("enc", "A256GCM") {
        return Err(Invalid::Jwe("its algorithms are not those of this key"));
    }
    // Whatever else a header may have changes how a message is processed (zip, crit, apu, apv, b64) or who is to be
    // trusted (jku, jwk, x5c), and no broker sends it.
    if header.keys().any(|name| !["alg", "enc"].contains(&name.as_str()) && Some(name.as_str()) != further) {
        return Err(Invalid::Jwe("its header has members that no broker sends"));
    }
    Ok(match with {
        PrivateKind::Rsa(key) => {
            let mut plain = Zeroizing::new(vec![0; key.key_size_bytes()]);
            let length = OaepPrivateDecryptingKey::new((**key).clone())
                .and_then(|key| {
                    key.decrypt(&OAEP_SHA256_MGF1SHA256, &jwe.encrypted_key, &mut plain, None)
                        .map(|plain| plain.len())
                })
                .ok();
            length.map(|length| Zeroizing::new(plain[..length].to_vec()))
        }
        PrivateKind::Ec { curve, key } => {
            let wrong = Invalid::Jwe("its epk is no point of the key's curve");
            let members = header.get("epk").and_then(Value::as_object).ok_or_else(|| wrong.clone())?;
            let is = |name: &str, value: &str| members.get(name).and_then(Value::as_str) == Some(value);
            if !is("kty", "EC") || !is("crv", curve.name()) || members.len() != 4 {
                return Err(wrong);
            }
            let point = curve.point(members).ok_or(wrong)?;
            agree(*curve, key, &point).and_then(|key| unwrap(&*key, &jwe.encrypted_key))
        }
        PrivateKind::MlKem(key) => {
            let ciphertext = header.get("ek").and_then(Value::as_str).and_then(decode);
            let ciphertext = ciphertext.ok_or(Invalid::Jwe("its ek must be base64url"))?;
            let secret = key.decapsulate(Ciphertext::from(&ciphertext[..])).ok();
            secret.and_then(|secret| unwrap(&*kmac_kdf(secret.as_ref(), ML_KEM), &jwe.encrypted_key))
        }
    })
}

fn cipher(content_key: &[u8]) -> Result<LessSafeKey, Invalid> {
    let key =
        UnboundKey::new(&AES_256_GCM, content_key).map_err(|_| Invalid::Jwe("its key must have 32 bytes"))?;
    Ok(LessSafeKey::new(key))
}

/// AES-256-GCM with a tag apart (RFC 7518, §5.3).
fn open(
    content_key: &[u8],
    aad: &[u8],
    iv: [u8; IV],
    ciphertext: &[u8],
    tag: &[u8; TAG],
) -> Option<Zeroizing<Vec<u8>>> {
    let mut plain = Zeroizing::new(Vec::with_capacity(ciphertext.len() + TAG));
    plain.extend_from_slice(ciphertext);
    plain.extend_from_slice(tag);
    let nonce = Nonce::assume_unique_for_key(iv);
    let length = cipher(content_key).ok()?.open_in_place(nonce, Aad::from(aad), &mut plain).ok()?.len();
    plain.truncate(length);
    Some(plain)
}

#[cfg(test)]
mod tests;

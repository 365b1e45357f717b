//! What the holder of a recovery key does with a recovery secret, away from any coordinator: decrypt it, sign it,
//! encrypt it to the coordinator that is to have it.

use std::path::Path;

use anyhow::{Context, anyhow};
use aws_lc_rs::{
    encoding::{AsDer, Pkcs8V1Der},
    rand::SystemRandom,
    rsa::{
        KeyPair, OAEP_SHA256_MGF1SHA256, OaepPrivateDecryptingKey, OaepPublicEncryptingKey,
        PrivateDecryptingKey, PublicEncryptingKey,
    },
    signature::RSA_PKCS1_SHA256,
};
use base64::{Engine, engine::general_purpose::STANDARD as BASE64};
use rustls::pki_types::{PrivateKeyDer, SubjectPublicKeyInfoDer, pem::PemObject};
use serde_json::Value;
use zeroize::Zeroizing;

use crate::failure::{Failure, Input, Outcome};

/// The private key of a holder.
pub struct HolderKey {
    pair: KeyPair,
    decrypting: PrivateDecryptingKey,
}

impl HolderKey {
    /// An RSA key from PEM, `PRIVATE KEY` or `RSA PRIVATE KEY`.
    pub fn load(path: &Path) -> Outcome<Self> {
        let what = || format!("{} has no RSA private key in PEM", path.display());
        let pair = match PrivateKeyDer::from_pem_file(path).malformed(what())? {
            PrivateKeyDer::Pkcs8(der) => KeyPair::from_pkcs8(der.secret_pkcs8_der()),
            PrivateKeyDer::Pkcs1(der) => KeyPair::from_der(der.secret_pkcs1_der()),
            _ => return Err(Failure::malformed(what())),
        };
        let pair = pair.malformed(what())?;
        let der: Pkcs8V1Der<'_> = pair.as_der().malformed(what())?;
        let decrypting = PrivateDecryptingKey::from_pkcs8(der.as_ref()).malformed(what())?;
        Ok(Self { pair, decrypting })
    }

    /// Decrypts what the coordinator gave to this holder (RSA-OAEP with SHA-256).
    pub fn open(&self, encrypted: &[u8]) -> anyhow::Result<Zeroizing<Vec<u8>>> {
        let key = OaepPrivateDecryptingKey::new(self.decrypting.clone())?;
        let mut out = Zeroizing::new(vec![0; key.min_output_size()]);
        let length = key
            .decrypt(&OAEP_SHA256_MGF1SHA256, encrypted, &mut out, None)
            .map_err(|_| anyhow!("it was encrypted to another key, or was damaged"))?
            .len();
        out.truncate(length);
        Ok(out)
    }

    /// Signs a recovery secret (RSA PKCS #1 v1.5 with SHA-256).
    pub fn sign(&self, share: &[u8]) -> anyhow::Result<Vec<u8>> {
        let mut signature = vec![0; self.pair.public_modulus_len()];
        self.pair
            .sign(&RSA_PKCS1_SHA256, &SystemRandom::new(), share, &mut signature)
            .map_err(|_| anyhow!("the key cannot sign"))?;
        Ok(signature)
    }
}

/// Encrypts a recovery secret to a coordinator's key (DER `SubjectPublicKeyInfo`).
pub fn encrypt(public_key: &[u8], share: &[u8]) -> anyhow::Result<Vec<u8>> {
    let what = "the coordinator's key is no RSA key";
    let key = OaepPublicEncryptingKey::new(PublicEncryptingKey::from_der(public_key).context(what)?)
        .context(what)?;
    let mut out = vec![0; key.ciphertext_size()];
    key.encrypt(&OAEP_SHA256_MGF1SHA256, share, &mut out, None)
        .map_err(|_| anyhow!("the recovery secret could not be encrypted"))?;
    Ok(out)
}

/// A coordinator's key from PEM, DER.
pub fn public_key(path: &Path) -> Outcome<Vec<u8>> {
    let what = format!("{} has no PEM block `PUBLIC KEY`", path.display());
    Ok(SubjectPublicKeyInfoDer::from_pem_file(path).malformed(what)?.to_vec())
}

/// A key as PEM (RFC 7468).
pub fn pem(label: &str, der: &[u8]) -> String {
    let body = Zeroizing::new(BASE64.encode(der));
    let lines = body.as_bytes().chunks(64).map(|line| String::from_utf8_lossy(line) + "\n");
    format!("-----BEGIN {label}-----\n{}-----END {label}-----\n", lines.collect::<String>())
}

/// A holder's encrypted recovery secret from a file: JSON as `bailey manifest set --recovery-secrets` writes it and
/// MarbleRun answers it, or the base64 of one secret. `holder` may be left out where there is only one.
pub fn encrypted(path: &Path, holder: Option<&str>) -> Outcome<Vec<u8>> {
    let text = std::fs::read_to_string(path).malformed(format!("{} cannot be read", path.display()))?;
    encrypted_in(&text, holder)
        .malformed(format!("{} has no recovery secret for this holder", path.display()))
}

fn encrypted_in(text: &str, holder: Option<&str>) -> anyhow::Result<Vec<u8>> {
    let secret = secret_in(text, holder)?;
    if secret.is_empty() { Err(anyhow!("it is empty")) } else { Ok(secret) }
}

fn secret_in(text: &str, holder: Option<&str>) -> anyhow::Result<Vec<u8>> {
    if !text.trim_start().starts_with('{') {
        return BASE64.decode(text.trim()).context("it is neither JSON nor base64");
    }
    let mut document: Value = serde_json::from_str(text).context("it is not JSON")?;
    for wrapper in ["RecoverySecrets", "recoverySecrets"] {
        if document[wrapper].is_object() {
            document = document[wrapper].take();
        }
    }
    let secrets = document.as_object().context("it is no JSON object")?;
    let names = || secrets.keys().map(String::as_str).collect::<Vec<_>>().join(", ");
    let secret = match holder {
        Some(name) => {
            secrets.get(name).with_context(|| format!("it has those of {}, and not of {name}", names()))?
        }
        None if secrets.len() == 1 => secrets.values().next().context("it is empty")?,
        None => return Err(anyhow!("say whose with --holder: it has those of {}", names())),
    };
    BASE64.decode(secret.as_str().context("the secret is no text")?).context("the secret is not base64")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_forms_of_a_private_key_and_no_other() {
        use aws_lc_rs::{rsa::KeySize, signature::KeyPair as _};
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("key.pem");
        let load = |text: String| {
            std::fs::write(&path, text).unwrap();
            HolderKey::load(&path)
        };
        let pair = KeyPair::generate(KeySize::Rsa2048).unwrap();
        let pkcs8: Pkcs8V1Der<'_> = pair.as_der().unwrap();
        let pkcs8 = pkcs8.as_ref();
        let public = pair.public_key().as_der().unwrap();
        let encrypted = encrypt(public.as_ref(), b"share").unwrap();
        // PKCS #8 of an RSA key is PKCS #1 after version, algorithm and the head of an octet string (RFC 5958).
        for (label, der) in [("PRIVATE KEY", pkcs8), ("RSA PRIVATE KEY", &pkcs8[26..])] {
            let key = load(pem(label, der)).unwrap_or_else(|failure| panic!("{label}: {}", failure.render()));
            assert_eq!(key.open(&encrypted).unwrap().as_slice(), b"share", "{label}");
            assert_eq!(key.sign(b"share").unwrap().len(), 256, "{label}");
        }
        for wrong in [pem("PRIVATE KEY", &pkcs8[26..]), pem("PUBLIC KEY", public.as_ref()), String::new()] {
            assert_eq!(load(wrong).err().unwrap().exit_code(), 2);
        }
        let mut damaged = encrypted.clone();
        damaged[7] ^= 1;
        assert!(
            HolderKey { decrypting: PrivateDecryptingKey::from_pkcs8(pkcs8).unwrap(), pair }
                .open(&damaged)
                .is_err()
        );
        assert!(encrypt(b"no key", b"share").is_err());
    }

    #[test]
    fn every_form_of_the_file() {
        for text in [
            "AAEC\n",
            r#"{"a": "AAEC"}"#,
            r#"{"RecoverySecrets": {"a": "AAEC"}}"#,
            r#"{"recoverySecrets":{"a":"AAEC"}}"#,
        ] {
            assert_eq!(encrypted_in(text, None).unwrap(), [0, 1, 2], "{text}");
        }
        let two = r#"{"RecoverySecrets": {"a": "AAEC", "b": "AwQF"}}"#;
        assert_eq!(encrypted_in(two, Some("b")).unwrap(), [3, 4, 5]);
        let reason = format!("{:#}", encrypted_in(two, None).unwrap_err());
        assert!(reason.contains("a, b"), "{reason}");
        for wrong in ["", "{", "[]", "{}", r#"{"a": 1}"#, r#"{"a": "?"}"#] {
            assert!(encrypted_in(wrong, Some("a")).is_err(), "{wrong}");
        }
        assert!(encrypted_in(two, Some("c")).is_err());
    }
}

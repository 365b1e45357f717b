//! Signing keys of tools in files: P-256, the private one as PEM of PKCS #8, the public one as PEM of
//! `SubjectPublicKeyInfo` beside it.

use std::ffi::OsString;
use std::path::{Path, PathBuf};

use anyhow::Context;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use endorsements::{BundleKey, BundleSigner};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{PrivatePkcs8KeyDer, SubjectPublicKeyInfoDer};

use crate::failure::{Failure, Input, Outcome};
use crate::identity;

/// A private key and its file.
pub struct SigningKeyFile {
    /// PKCS #8, DER.
    pub pkcs8: Vec<u8>,
    /// Where its public key was written, when the key was made just now.
    pub made: Option<PathBuf>,
}

/// Reads a key, or makes one where there is no file: `PATH` (mode 0600), and the public key in `PATH.pub`.
pub fn signing_key(path: &Path) -> Outcome<SigningKeyFile> {
    if path.exists() {
        let key = PrivatePkcs8KeyDer::from_pem_file(path)
            .malformed(format!("{} has no PEM private key in PKCS #8", path.display()))?;
        return Ok(SigningKeyFile { pkcs8: key.secret_pkcs8_der().to_vec(), made: None });
    }
    let (signer, pkcs8) = BundleSigner::generate().context("no key could be made")?;
    identity::write(path, 0o600, &pem("PRIVATE KEY", &pkcs8))?;
    let public = beside(path);
    identity::write(&public, 0o644, &pem("PUBLIC KEY", signer.public_key().spki()))?;
    Ok(SigningKeyFile { pkcs8, made: Some(public) })
}

/// A public key of P-256: PEM or DER of its `SubjectPublicKeyInfo`.
pub fn public_key(path: &Path) -> Outcome<BundleKey> {
    let bytes = crate::commands::evidence::read(path)?;
    let spki = match SubjectPublicKeyInfoDer::from_pem_slice(&bytes) {
        Ok(spki) => spki.as_ref().to_vec(),
        Err(_) => bytes,
    };
    BundleKey::from_spki(&spki).malformed(format!("{} is no public key", path.display())).map_err(
        |failure: Failure| failure.hint("a public key of P-256 is expected, PEM (\"PUBLIC KEY\") or DER"),
    )
}

fn beside(path: &Path) -> PathBuf {
    let mut name: OsString = path.into();
    name.push(".pub");
    name.into()
}

fn pem(label: &str, der: &[u8]) -> String {
    let text = STANDARD.encode(der);
    let lines: Vec<&str> = text.as_bytes().chunks(64).filter_map(|line| str::from_utf8(line).ok()).collect();
    format!("-----BEGIN {label}-----\n{}\n-----END {label}-----\n", lines.join("\n"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_made_once_and_read_after() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("bundles.key");
        let made = signing_key(&path).unwrap();
        let read = signing_key(&path).unwrap();
        assert_eq!((read.pkcs8.clone(), read.made), (made.pkcs8, None));
        let signer = BundleSigner::from_pkcs8(&read.pkcs8).unwrap();
        assert_eq!(&public_key(&made.made.unwrap()).unwrap(), signer.public_key());
        // A private key in its place is no public key.
        assert_eq!(public_key(&path).unwrap_err().exit_code(), 2);
        use std::os::unix::fs::PermissionsExt;
        assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
    }
}

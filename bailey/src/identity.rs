//! Certificates and keys of people: the owner, users.

use std::{fs, io::Write, os::unix::fs::OpenOptionsExt, path::Path};

use anyhow::Context;
use attested_tls::{key::SpkiDigest, service::UserIdentity};
use rcgen::{CertificateParams, DistinguishedName, DnType, KeyPair, PKCS_ECDSA_P256_SHA256};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject};

use crate::failure::{Input, Outcome};

/// A certificate chain from a PEM file, leaf first.
pub fn certificates(path: &Path) -> Outcome<Vec<CertificateDer<'static>>> {
    let what = || format!("{} has no PEM certificate", path.display());
    let chain = CertificateDer::pem_file_iter(path)
        .malformed(format!("{} cannot be read", path.display()))?
        .collect::<Result<Vec<_>, _>>()
        .malformed(what())?;
    if chain.is_empty() {
        return Err(crate::failure::Failure::malformed(what()));
    }
    Ok(chain)
}

/// A person's certificate and key from PEM files.
pub fn load(certificate: &Path, key: &Path) -> Outcome<UserIdentity> {
    let chain = certificates(certificate)?;
    let key =
        PrivateKeyDer::from_pem_file(key).malformed(format!("{} has no PEM private key", key.display()))?;
    Ok(UserIdentity { chain, key })
}

/// Makes a person's key with a self-signed certificate: `NAME.pem` and `NAME.key` (mode 0600) in `folder`.
pub fn create(folder: &Path, name: &str) -> anyhow::Result<UserIdentity> {
    let pair = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256)?;
    let mut params = CertificateParams::default();
    params.distinguished_name = DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, name);
    let certificate = params.self_signed(&pair)?;
    fs::create_dir_all(folder).with_context(|| format!("{} cannot be made", folder.display()))?;
    write(&folder.join(format!("{name}.key")), 0o600, &pair.serialize_pem())?;
    write(&folder.join(format!("{name}.pem")), 0o644, &certificate.pem())?;
    Ok(UserIdentity {
        chain: vec![certificate.der().clone()],
        key: PrivateKeyDer::try_from(pair.serialize_der()).map_err(anyhow::Error::msg)?,
    })
}

/// Writes a new file with these permissions; one that is there is not replaced.
pub fn write(path: &Path, mode: u32, text: &str) -> anyhow::Result<()> {
    fs::OpenOptions::new()
        .create_new(true)
        .write(true)
        .mode(mode)
        .open(path)
        .and_then(|mut file| file.write_all(text.as_bytes()))
        .with_context(|| format!("{} cannot be written", path.display()))
}

/// The digest by which a measured launch configuration names a person's key.
pub fn key_digest(identity: &UserIdentity) -> anyhow::Result<SpkiDigest> {
    let leaf = identity.chain.first().context("the identity has no certificate")?;
    Ok(SpkiDigest::of_certificate(leaf)?)
}

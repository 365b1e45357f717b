//! Who vouches for the TPMs of this host: a CA of the host's own, which certifies the attestation key of each TPM that it
//! runs, as clouds do for theirs. Whoever names this CA in a policy trusts this host to run its TPMs as TPMs.

use std::{
    fs::{self, OpenOptions},
    io::{ErrorKind, Write},
    os::unix::fs::OpenOptionsExt,
    path::{Path, PathBuf},
};

use evidence::{CertificateDer, CrlDer, Endorsements, TpmCollateral};
use rcgen::{
    BasicConstraints, CertificateParams, CertificateRevocationListParams, DnType, ExtendedKeyUsagePurpose,
    IsCa, Issuer, KeyIdMethod, KeyPair, KeyUsagePurpose, SerialNumber, SubjectPublicKeyInfo,
};
use time::{Duration, OffsetDateTime};

use crate::{VmError, file};

const KEY: &str = "tpm-authority.key";
const CERTIFICATE: &str = "tpm-authority.pem";
const NAME: &str = "Bailey host TPM CA";
const CA_LIFE: Duration = Duration::days(10 * 365);
/// A machine that runs longer is started anew, or its key enrolled by the policy.
const KEY_LIFE: Duration = Duration::days(90);
/// Clocks differ.
const LEEWAY: Duration = Duration::minutes(10);
/// tcg-kp-AIKCertificate (TCG EK Credential Profile, §3.2.16).
const ATTESTATION_KEY: [u64; 5] = [2, 23, 133, 8, 3];
/// SubjectPublicKeyInfo of a point on P-256, up to the point (RFC 5480).
const P256: [u8; 27] = [
    0x30, 0x59, 0x30, 0x13, 0x06, 0x07, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x02, 0x01, 0x06, 0x08, 0x2a, 0x86,
    0x48, 0xce, 0x3d, 0x03, 0x01, 0x07, 0x03, 0x42, 0x00, 0x04,
];

/// The CA.
pub struct Authority {
    issuer: Issuer<'static, KeyPair>,
    /// The certificate: what a policy names under `trust_anchors`.
    path: PathBuf,
}

impl Authority {
    /// The CA in a folder; a new one, where there is none.
    ///
    /// # Errors
    /// [`VmError`] when its files cannot be read or written, or are none.
    pub fn open(folder: &Path, now: OffsetDateTime) -> Result<Self, VmError> {
        let (key, certificate) = (folder.join(KEY), folder.join(CERTIFICATE));
        // Machines are launched at the same time, and there is one CA.
        let alone = fs::File::open(folder).map_err(file(folder))?;
        alone.lock().map_err(file(folder))?;
        let pair = match fs::read_to_string(&key) {
            Ok(text) => KeyPair::from_pem(&text)?,
            Err(error) if error.kind() == ErrorKind::NotFound => {
                let pair = KeyPair::generate()?;
                let own = params(now)?.self_signed(&pair)?;
                fs::write(&certificate, own.pem()).map_err(file(&certificate))?;
                let mut options = OpenOptions::new();
                options.write(true).create_new(true).mode(0o600);
                let written =
                    options.open(&key).and_then(|mut out| out.write_all(pair.serialize_pem().as_bytes()));
                written.map_err(file(&key))?;
                pair
            }
            Err(error) => return Err(file(&key)(error)),
        };
        Ok(Self { issuer: Issuer::new(params(now)?, pair), path: certificate })
    }

    /// Where the CA's certificate is.
    pub fn certificate(&self) -> &Path {
        &self.path
    }

    /// A certificate for the attestation key with this point on P-256, and a list of revoked ones, which is empty: a host
    /// forgets a key with its machine.
    ///
    /// # Errors
    /// [`VmError::Authority`].
    pub fn certify(&self, point: &[u8; 64], now: OffsetDateTime) -> Result<Endorsements, VmError> {
        let key = SubjectPublicKeyInfo::from_der(&[&P256[..], point].concat())?;
        let mut leaf = CertificateParams::default();
        leaf.distinguished_name.push(DnType::CommonName, "Attestation key of a virtual machine");
        leaf.not_before = now - LEEWAY;
        leaf.not_after = now + KEY_LIFE;
        leaf.is_ca = IsCa::ExplicitNoCa;
        leaf.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        leaf.extended_key_usages = vec![ExtendedKeyUsagePurpose::Other(ATTESTATION_KEY.to_vec())];
        leaf.use_authority_key_identifier_extension = true;
        let certificate = leaf.signed_by(&key, &self.issuer)?;
        let revoked = CertificateRevocationListParams {
            this_update: now - LEEWAY,
            next_update: now + KEY_LIFE,
            crl_number: SerialNumber::from(u64::try_from(now.unix_timestamp()).unwrap_or(0)),
            issuing_distribution_point: None,
            revoked_certs: Vec::new(),
            key_identifier_method: KeyIdMethod::Sha256,
        };
        let revoked = revoked.signed_by(&self.issuer)?;
        let tpm = TpmCollateral {
            certificates: vec![CertificateDer(certificate.der().to_vec())],
            crls: vec![CrlDer(revoked.der().to_vec())],
        };
        Ok(Endorsements { tpm: Some(tpm), ..Endorsements::default() })
    }
}

fn params(now: OffsetDateTime) -> Result<CertificateParams, VmError> {
    let mut params = CertificateParams::new(Vec::new())?;
    params.distinguished_name.push(DnType::CommonName, NAME);
    params.not_before = now - LEEWAY;
    params.not_after = now + CA_LIFE;
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    Ok(params)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn machines_that_are_launched_at_once_have_one_authority() {
        let folder = tempfile::tempdir().unwrap();
        let open = || Authority::open(folder.path(), OffsetDateTime::UNIX_EPOCH).unwrap();
        let all: Vec<Authority> = std::thread::scope(|scope| {
            let threads: Vec<_> = (0..8).map(|_| scope.spawn(open)).collect();
            threads.into_iter().map(|thread| thread.join().unwrap()).collect()
        });
        let pem = fs::read(all[0].certificate()).unwrap();
        let certificate = &evidence::pem::certificates(&pem).unwrap()[0].0;
        for authority in &all {
            let own = authority.issuer.key().public_key_raw();
            assert!(certificate.windows(own.len()).any(|bytes| bytes == own));
        }
    }
}

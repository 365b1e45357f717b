//! The CA of a party of a database: by its key, and by nothing else, the database knows the party's people and devices.

use std::path::Path;

use anyhow::Context;
use appraisal::UnixTime;
use attested_tls::{certificate::params, key::SpkiDigest};
use rcgen::{
    BasicConstraints, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair, KeyUsagePurpose,
    PKCS_ECDSA_P256_SHA256, PublicKeyData as _,
};
use rustls::pki_types::CertificateDer;
use time::Duration;

use crate::{
    commands::verify::sha256,
    failure::{Failure, Input, Outcome},
    identity,
};

/// How long a CA that is made here lasts.
const LIFETIME: Duration = Duration::days(10 * 365);

/// A CA with its key.
pub struct Authority {
    certificate: CertificateDer<'static>,
    issuer: Issuer<'static, KeyPair>,
}

/// A certificate that a CA issued, with its key, both PEM.
pub struct Issued {
    /// The certificate, X.509 v3.
    pub certificate: String,
    /// Its key, PKCS #8.
    pub key: String,
}

impl Authority {
    /// A new CA: `ca.pem` and `ca.key` (mode 0600) in `folder`.
    pub fn create(folder: &Path, name: &str, now: UnixTime) -> anyhow::Result<Self> {
        let pair = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256)?;
        let mut params = params(&format!("{name} CA"), now, LIFETIME)?;
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        let certificate = params.self_signed(&pair)?;
        std::fs::create_dir_all(folder).with_context(|| format!("{} cannot be made", folder.display()))?;
        identity::write(&folder.join("ca.key"), 0o600, &pair.serialize_pem())?;
        identity::write(&folder.join("ca.pem"), 0o644, &certificate.pem())?;
        let certificate = certificate.der().clone();
        let issuer = Issuer::from_ca_cert_der(&certificate, pair)?;
        Ok(Self { certificate, issuer })
    }

    /// The CA in these PEM files.
    pub fn load(certificate: &Path, key: &Path) -> Outcome<Self> {
        let chain = identity::certificates(certificate)?;
        let what = || format!("{} has no PEM private key of a CA", key.display());
        let text = std::fs::read_to_string(key).malformed(what())?;
        let pair = KeyPair::from_pem(&text).malformed(what())?;
        let certificate = chain.into_iter().next().expect("a chain has a leaf");
        let known = SpkiDigest::of_certificate(&certificate).malformed(what())?;
        if known.0 != sha256(&pair.subject_public_key_info()) {
            return Err(Failure::malformed(format!("{} is the key of another certificate", key.display())));
        }
        let issuer = Issuer::from_ca_cert_der(&certificate, pair)
            .malformed(format!("{} is no CA's certificate", key.display()))?;
        Ok(Self { certificate, issuer })
    }

    /// Its certificate, PEM: an anchor for the manifest.
    pub fn pem(&self) -> String {
        evidence::pem::encode(&evidence::CertificateDer(self.certificate.to_vec()))
    }

    /// A certificate for a client of the database.
    pub fn issue(&self, subject: &str, lifetime: Duration, now: UnixTime) -> anyhow::Result<Issued> {
        let pair = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256)?;
        let mut params = params(subject, now, lifetime)?;
        params.is_ca = IsCa::ExplicitNoCa;
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
        params.use_authority_key_identifier_extension = true;
        let certificate = params.signed_by(&pair, &self.issuer)?;
        Ok(Issued { certificate: certificate.pem(), key: pair.serialize_pem() })
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use rustls::{
        RootCertStore,
        pki_types::{UnixTime as TlsTime, pem::PemObject},
        server::WebPkiClientVerifier,
    };

    use super::*;

    const NOW: UnixTime = UnixTime(1_900_000_000);

    #[test]
    fn what_a_ca_issued_is_a_clients_certificate_of_it_and_of_no_other() {
        let folder = tempfile::tempdir().unwrap();
        Authority::create(&folder.path().join("a"), "a", NOW).unwrap();
        let path = |name: &str| folder.path().join(name);
        let (a, b) = (
            Authority::load(&path("a/ca.pem"), &path("a/ca.key")).unwrap(),
            Authority::create(&path("b"), "b", NOW).unwrap(),
        );
        let issued = a.issue("someone", Duration::days(1), NOW).unwrap();
        let leaf = CertificateDer::from_pem_slice(issued.certificate.as_bytes()).unwrap();
        let verify = |authority: &Authority, at: i64| {
            let mut roots = RootCertStore::empty();
            roots.add(authority.certificate.clone()).unwrap();
            let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
            let verifier =
                WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider).build().unwrap();
            let at = TlsTime::since_unix_epoch(std::time::Duration::from_secs(at.unsigned_abs()));
            verifier.verify_client_cert(&leaf, &[], at).is_ok()
        };
        assert!(verify(&a, NOW.0));
        assert!(!verify(&b, NOW.0));
        assert!(!verify(&a, NOW.0 + 2 * 24 * 3600));
        assert!(Authority::load(&path("a/ca.pem"), &path("b/ca.key")).is_err(), "a key of another CA");
        assert!(Authority::create(&path("a"), "a", NOW).is_err(), "a CA is not overwritten");
    }
}

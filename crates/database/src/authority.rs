//! The database's own CA, made inside the TEE: Evidence covers its certificate, and it issues the one that both servers
//! show and that signs receipts and heads of the audit log.

use std::sync::{Arc, RwLock};

use appraisal::UnixTime;
use attested_tls::{
    certificate::{ParamsError, marked, params},
    key::TeeKey,
};
use aws_lc_rs::{
    rand::SystemRandom,
    signature::{ECDSA_P256_SHA256_ASN1_SIGNING, EcdsaKeyPair},
};
use rcgen::{
    BasicConstraints, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair, KeyUsagePurpose,
    PKCS_ECDSA_P256_SHA256, SanType, SubjectPublicKeyInfo,
};
use rustls::{
    crypto::aws_lc_rs::sign::any_ecdsa_type,
    pki_types::{CertificateDer, PrivatePkcs8KeyDer},
    server::{ClientHello, ResolvesServerCert},
    sign::CertifiedKey,
};
use time::Duration;
use zeroize::Zeroizing;

/// How long a certificate of the servers lasts; it is renewed at half of that.
pub const LIFETIME: Duration = Duration::hours(24);
const AUTHORITY_LIFETIME: Duration = Duration::days(10 * 365);

/// The CA: its key and its certificate.
pub struct Authority {
    key: Zeroizing<Vec<u8>>,
    certificate: CertificateDer<'static>,
}

impl Authority {
    /// A new one.
    ///
    /// # Errors
    /// No randomness, or a time that no certificate can hold.
    pub fn generate(emulated: bool, now: UnixTime) -> Result<Self, AuthorityError> {
        let pair = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256)?;
        let mut params = params(&marked("Bailey Database Root CA", emulated), now, AUTHORITY_LIFETIME)?;
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::DigitalSignature];
        let certificate = params.self_signed(&pair)?.der().clone();
        Ok(Self { key: Zeroizing::new(pair.serialize_der()), certificate })
    }

    /// One that was kept sealed: its key (PKCS #8) and its certificate.
    ///
    /// # Errors
    /// When they are none.
    pub fn from_parts(key: Zeroizing<Vec<u8>>, certificate: Vec<u8>) -> Result<Self, AuthorityError> {
        let authority = Self { key, certificate: certificate.into() };
        Issuer::from_ca_cert_der(&authority.certificate, authority.pair()?)?;
        Ok(authority)
    }

    /// Its certificate.
    pub fn certificate(&self) -> &CertificateDer<'static> {
        &self.certificate
    }

    /// Its private key, PKCS #8, to be sealed.
    pub(crate) fn key(&self) -> &[u8] {
        &self.key
    }

    fn pair(&self) -> Result<KeyPair, AuthorityError> {
        let key = PrivatePkcs8KeyDer::from(self.key.as_slice());
        Ok(KeyPair::from_pkcs8_der_and_sign_algo(&key, &PKCS_ECDSA_P256_SHA256)?)
    }

    /// Certifies the key of the servers for DNS names and IP addresses.
    ///
    /// # Errors
    /// As [`Authority::generate`], and for a name that no certificate can hold.
    pub fn certify(
        &self,
        key: &TeeKey,
        names: &[String],
        emulated: bool,
        now: UnixTime,
    ) -> Result<Certified, AuthorityError> {
        let mut params = params(&marked("Bailey Database", emulated), now, LIFETIME)?;
        params.is_ca = IsCa::ExplicitNoCa;
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        params.use_authority_key_identifier_extension = true;
        for name in names {
            params.subject_alt_names.push(match name.parse() {
                Ok(address) => SanType::IpAddress(address),
                Err(_) => SanType::DnsName(name.as_str().try_into().map_err(|_| AuthorityError::Name)?),
            });
        }
        let issuer = Issuer::from_ca_cert_der(&self.certificate, self.pair()?)?;
        let public = SubjectPublicKeyInfo::from_der(&key.public_key_info())?;
        let leaf = params.signed_by(&public, &issuer)?.der().clone();
        let key = key.private_key();
        let tls = any_ecdsa_type(&key).map_err(|_| AuthorityError::Key)?;
        let signing = EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_ASN1_SIGNING, key.secret_der());
        let chain = vec![leaf, self.certificate.clone()];
        Ok(Certified {
            signing: signing.map_err(|_| AuthorityError::Key)?,
            tls: Arc::new(CertifiedKey::new(chain, tls)),
        })
    }
}

/// A key of the servers and its certificates.
pub struct Certified {
    signing: EcdsaKeyPair,
    tls: Arc<CertifiedKey>,
}

impl Certified {
    /// The leaf and the root.
    pub fn chain(&self) -> &[CertificateDer<'static>] {
        &self.tls.cert
    }

    /// ECDSA with P-256 and SHA-256, ASN.1. What is signed begins with a label that says what it is.
    ///
    /// # Errors
    /// No randomness.
    pub fn sign(&self, message: &[u8]) -> Result<Vec<u8>, AuthorityError> {
        let signature = self.signing.sign(&SystemRandom::new(), message);
        Ok(signature.map_err(|_| AuthorityError::Randomness)?.as_ref().to_vec())
    }
}

/// The key of this moment, for those who show or use it; it is exchanged while connections go on.
#[derive(Clone)]
pub struct Current(Arc<RwLock<Arc<Certified>>>);

impl Current {
    /// Beginning with this one.
    pub fn new(certified: Certified) -> Self {
        Self(Arc::new(RwLock::new(Arc::new(certified))))
    }

    /// The one of now.
    pub fn certified(&self) -> Arc<Certified> {
        Arc::clone(&self.0.read().unwrap_or_else(std::sync::PoisonError::into_inner))
    }

    /// Another one from now on.
    pub fn replace(&self, certified: Certified) {
        *self.0.write().unwrap_or_else(std::sync::PoisonError::into_inner) = Arc::new(certified);
    }
}

impl std::fmt::Debug for Current {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Current")
    }
}

impl ResolvesServerCert for Current {
    fn resolve(&self, _hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(Arc::clone(&self.certified().tls))
    }
}

/// Why there is no certificate or signature.
#[derive(Debug, thiserror::Error)]
pub enum AuthorityError {
    /// Key or signature.
    #[error("the certificate could not be made")]
    Certificate(#[from] rcgen::Error),
    /// A key that cannot be used.
    #[error("the key cannot be used")]
    Key,
    /// A name that no certificate can hold.
    #[error("a name of the launch configuration's `Names` is not valid in X.509")]
    Name,
    /// A time that no certificate can hold.
    #[error("the time is out of range")]
    Time,
    /// No random numbers.
    #[error("no random numbers could be had")]
    Randomness,
}

impl From<ParamsError> for AuthorityError {
    fn from(error: ParamsError) -> Self {
        match error {
            ParamsError::Time => Self::Time,
            ParamsError::Randomness => Self::Randomness,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: UnixTime = UnixTime(1_760_000_000);

    #[test]
    fn a_certificate_leads_to_the_root_and_its_key_signs() {
        let authority = Authority::generate(true, NOW).unwrap();
        let names = ["localhost".into(), "127.0.0.1".into()];
        let certified = authority.certify(&TeeKey::generate().unwrap(), &names, true, NOW).unwrap();
        let [leaf, root] = certified.chain() else { panic!("two certificates") };
        assert_eq!(root, authority.certificate());
        let signature = certified.sign(b"bailey/test").unwrap();
        let leaf = webpki::EndEntityCert::try_from(leaf).unwrap();
        let known = webpki::aws_lc_rs::ECDSA_P256_SHA256;
        leaf.verify_signature(known, b"bailey/test", &signature).unwrap();
        assert!(leaf.verify_signature(known, b"bailey/tesT", &signature).is_err());
        let anchor = webpki::anchor_from_trusted_cert(root).unwrap();
        let time =
            rustls::pki_types::UnixTime::since_unix_epoch(std::time::Duration::from_secs(1_760_000_000));
        let usage = webpki::KeyUsage::server_auth();
        leaf.verify_for_usage(&[known], &[anchor], &[], time, usage, None, None).unwrap();
    }

    #[test]
    fn it_is_the_same_again_from_its_parts() {
        let authority = Authority::generate(false, NOW).unwrap();
        let parts = (Zeroizing::new(authority.key().to_vec()), authority.certificate().to_vec());
        let again = Authority::from_parts(parts.0, parts.1).unwrap();
        let certified = again.certify(&TeeKey::generate().unwrap(), &["a".into()], false, NOW).unwrap();
        assert_eq!(certified.chain()[1], *authority.certificate());
        assert!(Authority::from_parts(Zeroizing::new(vec![1]), vec![2]).is_err());
    }

    #[test]
    fn s03_a_certificate_of_an_emulated_tee_says_so() {
        let named = |emulated| {
            let authority = Authority::generate(emulated, NOW).unwrap();
            let text = String::from_utf8_lossy(authority.certificate()).into_owned();
            text.contains("(emulated TEE)")
        };
        assert!(named(true) && !named(false));
    }

    #[test]
    fn names_that_none_can_have_are_refused() {
        let authority = Authority::generate(true, NOW).unwrap();
        let refused = authority.certify(&TeeKey::generate().unwrap(), &["ä".into()], true, NOW);
        assert!(matches!(refused, Err(AuthorityError::Name)));
    }
}

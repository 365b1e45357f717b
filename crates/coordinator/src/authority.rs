//! Certificates: one root for the life of a mesh, one intermediate an epoch, short-lived leaves for keys
//! that their holders made themselves. What a certificate says comes from the manifest and the appraisal,
//! never from a request (S-07).

use attested_tls::marble::{IDENTITY_OID, MarbleIdentity};
use aws_lc_rs::digest;
use rcgen::{
    BasicConstraints, CertificateParams, CustomExtension, DistinguishedName, DnType, ExtendedKeyUsagePurpose,
    IsCa, Issuer, KeyPair, KeyUsagePurpose, PKCS_ECDSA_P256_SHA256, PublicKeyData, SanType, SerialNumber,
    SubjectPublicKeyInfo,
};
use rustls::pki_types::{CertificateDer, PrivatePkcs8KeyDer};
use time::{Duration, OffsetDateTime};
use zeroize::Zeroizing;

use appraisal::UnixTime;

/// How long a Marble's certificate lasts; it is renewed at half of that.
pub const MARBLE_LIFETIME: Duration = Duration::hours(12);
/// How long the certificate of the client API lasts; it is renewed at half of that.
pub const CLIENT_API_LIFETIME: Duration = Duration::hours(24);
const AUTHORITY_LIFETIME: Duration = Duration::days(10 * 365);
/// Certificates begin a little early: machines disagree about the time.
const BACKDATE: Duration = Duration::minutes(5);

/// A CA: its key and its certificate.
#[derive(Clone)]
pub struct Authority {
    key: Zeroizing<Vec<u8>>,
    certificate: CertificateDer<'static>,
}

impl Authority {
    /// A new self-signed root.
    pub fn root(emulated: bool, now: UnixTime) -> Result<Self, AuthorityError> {
        let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256)?;
        let params = ca_params(&marked("Bailey Coordinator Root CA", emulated), now)?;
        let certificate = params.self_signed(&key)?.der().clone();
        Ok(Self { key: Zeroizing::new(key.serialize_der()), certificate })
    }

    /// The intermediate of one epoch, signed by this root.
    pub fn intermediate(&self, epoch: u64, emulated: bool, now: UnixTime) -> Result<Self, AuthorityError> {
        let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256)?;
        let mut params = ca_params(&marked(&format!("Bailey Mesh CA, epoch {epoch}"), emulated), now)?;
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        let certificate = params.signed_by(&key, &self.issuer()?)?.der().clone();
        Ok(Self { key: Zeroizing::new(key.serialize_der()), certificate })
    }

    /// An authority that was kept sealed.
    pub fn from_parts(key: Zeroizing<Vec<u8>>, certificate: Vec<u8>) -> Result<Self, AuthorityError> {
        let authority = Self { key, certificate: CertificateDer::from(certificate) };
        authority.issuer()?;
        Ok(authority)
    }

    /// The private key, PKCS #8 DER: for the sealed state only.
    pub fn key(&self) -> &Zeroizing<Vec<u8>> {
        &self.key
    }

    /// The certificate, DER.
    pub fn certificate(&self) -> &CertificateDer<'static> {
        &self.certificate
    }

    /// SHA-256 of the certificate: names the mesh, for instance as SPIFFE trust domain.
    pub fn fingerprint(&self) -> [u8; 32] {
        let mut out = [0; 32];
        out.copy_from_slice(digest::digest(&digest::SHA256, &self.certificate).as_ref());
        out
    }

    /// Signs `message` with ECDSA P-256 and SHA-256, ASN.1 form.
    pub fn sign(&self, message: &[u8]) -> Result<Vec<u8>, AuthorityError> {
        use rcgen::SigningKey;
        Ok(self.pair()?.sign(message)?)
    }

    /// Certifies a Marble's own key.
    pub fn certify_marble(
        &self,
        public_key: &[u8],
        identity: &MarbleIdentity,
        mesh: &str,
        names: &[String],
        now: UnixTime,
    ) -> Result<Leaf, AuthorityError> {
        let mut params =
            leaf_params(&marked(&identity.marble, identity.emulated), names, now, MARBLE_LIFETIME)?;
        let spiffe = format!("spiffe://{mesh}/marble/{}", identity.marble);
        params.subject_alt_names.push(SanType::URI(spiffe.try_into().map_err(|_| AuthorityError::Name)?));
        params.extended_key_usages.push(ExtendedKeyUsagePurpose::ClientAuth);
        params
            .custom_extensions
            .push(CustomExtension::from_oid_content(&IDENTITY_OID, identity.to_extension()));
        self.certify(params, &SubjectPublicKeyInfo::from_der(public_key)?)
    }

    /// Certifies the key of the client API, for server use only and without any Marble identity.
    pub fn certify_client_api(
        &self,
        public_key: &[u8],
        names: &[String],
        emulated: bool,
        now: UnixTime,
    ) -> Result<Leaf, AuthorityError> {
        let params = leaf_params(&marked("Bailey Coordinator", emulated), names, now, CLIENT_API_LIFETIME)?;
        self.certify(params, &SubjectPublicKeyInfo::from_der(public_key)?)
    }

    fn certify(&self, params: CertificateParams, key: &impl PublicKeyData) -> Result<Leaf, AuthorityError> {
        let not_after = UnixTime(params.not_after.unix_timestamp());
        let certificate = params.signed_by(key, &self.issuer()?)?.der().clone();
        Ok(Leaf { certificate, not_after })
    }

    fn pair(&self) -> Result<KeyPair, AuthorityError> {
        let key = PrivatePkcs8KeyDer::from(self.key.as_slice());
        Ok(KeyPair::from_pkcs8_der_and_sign_algo(&key, &PKCS_ECDSA_P256_SHA256)?)
    }

    fn issuer(&self) -> Result<Issuer<'_, KeyPair>, AuthorityError> {
        Ok(Issuer::from_ca_cert_der(&self.certificate, self.pair()?)?)
    }
}

/// A certificate that was just issued.
pub struct Leaf {
    /// DER.
    pub certificate: CertificateDer<'static>,
    /// When it ends.
    pub not_after: UnixTime,
}

/// Every certificate that follows from emulated Evidence says so in its subject (design.md promise 3).
fn marked(name: &str, emulated: bool) -> String {
    if emulated { format!("{name} (emulated TEE)") } else { name.to_owned() }
}

fn ca_params(name: &str, now: UnixTime) -> Result<CertificateParams, AuthorityError> {
    let mut params = params(name, now, AUTHORITY_LIFETIME)?;
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(1));
    params.key_usages =
        vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign, KeyUsagePurpose::DigitalSignature];
    Ok(params)
}

fn leaf_params(
    name: &str,
    names: &[String],
    now: UnixTime,
    lifetime: Duration,
) -> Result<CertificateParams, AuthorityError> {
    let mut params = params(name, now, lifetime)?;
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
    Ok(params)
}

fn params(name: &str, now: UnixTime, lifetime: Duration) -> Result<CertificateParams, AuthorityError> {
    let now = OffsetDateTime::from_unix_timestamp(now.0).map_err(|_| AuthorityError::Time)?;
    let mut params = CertificateParams::default();
    params.not_before = now - BACKDATE;
    params.not_after = now + lifetime;
    params.distinguished_name = DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, name);
    params.serial_number = Some(serial()?);
    Ok(params)
}

/// 127 random bits, positive, as CAs must (CA/Browser Forum Baseline Requirements, §7.1).
fn serial() -> Result<SerialNumber, AuthorityError> {
    let mut bytes = [0; 16];
    aws_lc_rs::rand::fill(&mut bytes).map_err(|_| AuthorityError::Randomness)?;
    bytes[0] = (bytes[0] & 0x7f) | 0x40;
    Ok(SerialNumber::from_slice(&bytes))
}

/// Why a certificate could not be issued.
#[derive(Debug, thiserror::Error)]
pub enum AuthorityError {
    /// Key or signature.
    #[error("the certificate could not be made")]
    Certificate(#[from] rcgen::Error),
    /// A name that no certificate can hold.
    #[error("a name of the certificate is not valid in X.509")]
    Name,
    /// A time that no certificate can hold.
    #[error("the time is out of range")]
    Time,
    /// No random numbers.
    #[error("no random numbers could be had")]
    Randomness,
}

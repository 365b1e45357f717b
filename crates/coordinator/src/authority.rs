//! Certificates: one root for the life of a mesh, one intermediate an epoch, short-lived leaves for keys
//! that their holders made themselves. What a certificate says comes from the manifest and the appraisal,
//! never from a request (S-07).

use attestation_result::coco::SIGNER_OID;
use attested_tls::{
    certificate::{ParamsError, marked, params, serial},
    marble::{IDENTITY_OID, MarbleIdentity},
};
use aws_lc_rs::{
    digest,
    signature::{ECDSA_P256_SHA256_ASN1, UnparsedPublicKey},
};
use manifest::{CertificateSecret, CertificateTemplate, End, ExtendedKeyUsage, KeyKind, Subject};
use rcgen::{
    BasicConstraints, CertificateParams, CertificateRevocationListParams, CustomExtension, DistinguishedName,
    DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyIdMethod, KeyPair, KeyUsagePurpose,
    PKCS_ECDSA_P256_SHA256, PKCS_ECDSA_P384_SHA384, PKCS_ECDSA_P521_SHA512, PKCS_ED25519, PKCS_RSA_SHA256,
    PublicKeyData, RevocationReason, RevokedCertParams, SanType, SerialNumber, SubjectPublicKeyInfo,
};
use rustls::pki_types::{CertificateDer, PrivatePkcs8KeyDer};
use serde_bytes::ByteArray;
use time::{Duration, OffsetDateTime};
use x509_parser::{
    oid_registry::OID_SIG_ECDSA_WITH_SHA256,
    prelude::{ASN1Time, FromDer, X509Certificate},
};
use zeroize::Zeroizing;

use appraisal::UnixTime;

use crate::core::{Issued, SecretValue};

mod svid;

pub use svid::{CsrFault, SVID_OID, SvidRole, requested_key};

/// MarbleRun's extension that names the type of a Marble.
const MARBLERUN_TYPE_OID: [u64; 5] = [1, 3, 9903, 2, 1];

/// How long a Marble's certificate lasts; it is renewed at half of that.
pub const MARBLE_LIFETIME: Duration = Duration::hours(12);
/// How long the certificate of the client API lasts; it is renewed at half of that.
pub const CLIENT_API_LIFETIME: Duration = Duration::hours(24);
/// How long the certificate of a native program lasts: MarbleRun's protocol has no renewal but a restart.
const NATIVE_LIFETIME: Duration = Duration::days(90);
const AUTHORITY_LIFETIME: Duration = Duration::days(10 * 365);

/// A CA: its key and its certificate.
#[derive(Clone)]
pub struct Authority {
    /// Absent where another TEE made it: then nothing can be issued.
    key: Option<Zeroizing<Vec<u8>>>,
    certificate: CertificateDer<'static>,
}

impl Authority {
    /// A new self-signed root.
    pub fn root(emulated: bool, now: UnixTime) -> Result<Self, AuthorityError> {
        let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256)?;
        let params = ca_params(&marked("Bailey Coordinator Root CA", emulated), now)?;
        let certificate = params.self_signed(&key)?.der().clone();
        Ok(Self { key: Some(Zeroizing::new(key.serialize_der())), certificate })
    }

    /// The intermediate of one epoch, signed by this root.
    pub fn intermediate(&self, epoch: u64, emulated: bool, now: UnixTime) -> Result<Self, AuthorityError> {
        let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256)?;
        let mut params = ca_params(&marked(&format!("Bailey Mesh CA, epoch {epoch}"), emulated), now)?;
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        let certificate = params.signed_by(&key, &self.issuer()?)?.der().clone();
        Ok(Self { key: Some(Zeroizing::new(key.serialize_der())), certificate })
    }

    /// An authority that was kept sealed. Without its key it is known, and can issue nothing.
    pub fn from_parts(key: Option<Zeroizing<Vec<u8>>>, certificate: Vec<u8>) -> Result<Self, AuthorityError> {
        let authority = Self { key, certificate: CertificateDer::from(certificate) };
        if authority.key.is_some() {
            authority.issuer()?;
        }
        Ok(authority)
    }

    /// The private key, PKCS #8 DER: for the sealed state only.
    pub fn key(&self) -> Result<&Zeroizing<Vec<u8>>, AuthorityError> {
        self.key.as_ref().ok_or(AuthorityError::Lost)
    }

    /// The same key and name as a certificate signed by itself. Verifiers that accept no intermediate as an anchor
    /// (OpenSSL) can trust this one. It issues no Marble's certificate, and may have CAs below it.
    pub fn self_signed(&self, now: UnixTime) -> Result<CertificateDer<'static>, AuthorityError> {
        let pair = self.pair()?;
        let (_, own) = X509Certificate::from_der(&self.certificate).map_err(|_| AuthorityError::Name)?;
        let name = own.subject().iter_common_name().next().and_then(|name| name.as_str().ok());
        let mut params = ca_params(name.ok_or(AuthorityError::Name)?, now)?;
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        Ok(params.self_signed(&pair)?.der().clone())
    }

    /// A key and a certificate for it, as the manifest asks for.
    pub fn issue(&self, secret: &CertificateSecret, now: UnixTime) -> Result<SecretValue, AuthorityError> {
        let key = secret_key(secret.key)?;
        let params = secret_params(&secret.template, now)?;
        let certificate = params.signed_by(&key, &self.issuer()?)?.der().to_vec();
        let public = key.subject_public_key_info();
        Ok(SecretValue::Certificate { certificate, public, private: Zeroizing::new(key.serialize_der()) })
    }

    /// A key and a certificate for a native program, which makes none itself.
    pub fn certify_native(
        &self,
        identity: &MarbleIdentity,
        (mesh, uuid): (&str, &str),
        names: &[String],
        now: UnixTime,
    ) -> Result<(Leaf, Zeroizing<Vec<u8>>), AuthorityError> {
        let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256)?;
        let mut params = self.marble_params(identity, mesh, names, NATIVE_LIFETIME, now)?;
        params.distinguished_name = DistinguishedName::new();
        params.distinguished_name.push(DnType::CommonName, marked(uuid, identity.emulated));
        params.key_usages.push(KeyUsagePurpose::KeyAgreement);
        let marble = identity.marble.as_bytes().to_vec();
        params.custom_extensions.push(CustomExtension::from_oid_content(&MARBLERUN_TYPE_OID, marble));
        Ok((self.certify(params, &key)?, Zeroizing::new(key.serialize_der())))
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
        let params = self.marble_params(identity, mesh, names, MARBLE_LIFETIME, now)?;
        self.certify(params, &SubjectPublicKeyInfo::from_der(public_key)?)
    }

    fn marble_params(
        &self,
        identity: &MarbleIdentity,
        mesh: &str,
        names: &[String],
        lifetime: Duration,
        now: UnixTime,
    ) -> Result<CertificateParams, AuthorityError> {
        let mut params = leaf_params(&marked(&identity.marble, identity.emulated), names, now, lifetime)?;
        let spiffe = format!("spiffe://{mesh}/marble/{}", identity.marble);
        params.subject_alt_names.push(SanType::URI(spiffe.try_into().map_err(|_| AuthorityError::Name)?));
        params.extended_key_usages.push(ExtendedKeyUsagePurpose::ClientAuth);
        params
            .custom_extensions
            .push(CustomExtension::from_oid_content(&IDENTITY_OID, identity.to_extension()));
        Ok(params)
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

    /// A key that signs attestation tokens for as long as the epoch lasts, and its certificate: for that purpose and no
    /// other, under no name that anything is reached at (S-07).
    pub fn token_signer(
        &self,
        epoch: u64,
        emulated: bool,
        now: UnixTime,
    ) -> Result<(Zeroizing<Vec<u8>>, Leaf), AuthorityError> {
        let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256)?;
        let name = marked(&format!("Bailey Token Signer, epoch {epoch}"), emulated);
        let mut params = leaf_params(&name, &[], now, AUTHORITY_LIFETIME)?;
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::Other(SIGNER_OID.to_vec())];
        Ok((Zeroizing::new(key.serialize_der()), self.certify(params, &key)?))
    }

    fn certify(&self, params: CertificateParams, key: &impl PublicKeyData) -> Result<Leaf, AuthorityError> {
        let not_after = UnixTime(params.not_after.unix_timestamp());
        let certificate = params.signed_by(key, &self.issuer()?)?.der().clone();
        let issued = issued(&certificate)?;
        Ok(Leaf { certificate, not_after, issued })
    }

    /// The Marble whose certificate this is, if this CA issued it and it is valid now.
    pub fn marble_of(&self, certificate: &[u8], now: UnixTime) -> Option<MarbleIdentity> {
        let (rest, leaf) = X509Certificate::from_der(certificate).ok()?;
        let (_, authority) = X509Certificate::from_der(&self.certificate).ok()?;
        let time = ASN1Time::from_timestamp(now.0).ok()?;
        let issued = rest.is_empty()
            && leaf.issuer() == authority.subject()
            && leaf.validity().is_valid_at(time)
            && leaf.signature_algorithm.algorithm == OID_SIG_ECDSA_WITH_SHA256;
        let key =
            UnparsedPublicKey::new(&ECDSA_P256_SHA256_ASN1, &authority.public_key().subject_public_key.data);
        let signed = key.verify(leaf.tbs_certificate.as_ref(), &leaf.signature_value.data).is_ok();
        if issued && signed { MarbleIdentity::of_certificate(certificate).ok() } else { None }
    }

    /// A list of certificates of this CA that count no more (RFC 5280, §5), DER: serial numbers, and when each was
    /// revoked. It is good for `lifetime`.
    pub fn revoke(
        &self,
        revoked: impl Iterator<Item = [u8; 16]>,
        lifetime: Duration,
        now: UnixTime,
    ) -> Result<Vec<u8>, AuthorityError> {
        let time = OffsetDateTime::from_unix_timestamp(now.0).map_err(|_| AuthorityError::Time)?;
        let entry = |serial: [u8; 16]| RevokedCertParams {
            serial_number: SerialNumber::from_slice(&serial),
            revocation_time: time,
            reason_code: Some(RevocationReason::CessationOfOperation),
            invalidity_date: None,
        };
        let list = CertificateRevocationListParams {
            this_update: time,
            next_update: time + lifetime,
            crl_number: SerialNumber::from(u64::try_from(now.0).map_err(|_| AuthorityError::Time)?),
            issuing_distribution_point: None,
            revoked_certs: revoked.map(entry).collect(),
            key_identifier_method: KeyIdMethod::Sha256,
        };
        Ok(list.signed_by(&self.issuer()?)?.der().to_vec())
    }

    fn pair(&self) -> Result<KeyPair, AuthorityError> {
        let key = PrivatePkcs8KeyDer::from(self.key()?.as_slice());
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
    /// By what a list of revoked certificates names it.
    pub issued: Issued,
}

/// By what a list of revoked certificates names a certificate of ours.
pub(crate) fn issued(certificate: &[u8]) -> Result<Issued, AuthorityError> {
    let (_, parsed) = X509Certificate::from_der(certificate).map_err(|_| AuthorityError::Name)?;
    let serial: [u8; 16] = parsed.raw_serial().try_into().map_err(|_| AuthorityError::Name)?;
    Ok(Issued { serial: ByteArray::new(serial), until: parsed.validity().not_after.timestamp() })
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

fn secret_key(kind: KeyKind) -> Result<KeyPair, AuthorityError> {
    let algorithm = match kind {
        KeyKind::Rsa(bits) => return rsa_key(bits),
        KeyKind::P256 => &PKCS_ECDSA_P256_SHA256,
        KeyKind::P384 => &PKCS_ECDSA_P384_SHA384,
        KeyKind::P521 => &PKCS_ECDSA_P521_SHA512,
        KeyKind::Ed25519 => &PKCS_ED25519,
    };
    Ok(KeyPair::generate_for(algorithm)?)
}

fn rsa_key(bits: u16) -> Result<KeyPair, AuthorityError> {
    use aws_lc_rs::{
        encoding::AsDer,
        rsa::{KeyPair as Rsa, KeySize},
    };
    let size = match bits {
        2048 => KeySize::Rsa2048,
        3072 => KeySize::Rsa3072,
        4096 => KeySize::Rsa4096,
        _ => KeySize::Rsa8192,
    };
    let key = Rsa::generate(size).map_err(|_| AuthorityError::Randomness)?;
    let der = key.as_der().map_err(|_| AuthorityError::Randomness)?;
    let der = PrivatePkcs8KeyDer::from(der.as_ref());
    Ok(KeyPair::from_pkcs8_der_and_sign_algo(&der, &PKCS_RSA_SHA256)?)
}

fn secret_params(template: &CertificateTemplate, now: UnixTime) -> Result<CertificateParams, AuthorityError> {
    let time = |seconds| OffsetDateTime::from_unix_timestamp(seconds).map_err(|_| AuthorityError::Time);
    let mut params = CertificateParams::default();
    params.serial_number = Some(serial()?);
    params.not_before = time(template.not_before.unwrap_or(now.0))?;
    params.not_after = match template.end {
        End::Days(days) => time(now.0)? + Duration::days(i64::from(days)),
        End::At(end) => time(end)?,
    };
    params.distinguished_name = subject(&template.subject);
    for name in &template.dns_names {
        let name = name.as_str().try_into().map_err(|_| AuthorityError::Name)?;
        params.subject_alt_names.push(SanType::DnsName(name));
    }
    params.subject_alt_names.extend(template.addresses.iter().map(|address| SanType::IpAddress(*address)));
    for email in &template.emails {
        let email = email.as_str().try_into().map_err(|_| AuthorityError::Name)?;
        params.subject_alt_names.push(SanType::Rfc822Name(email));
    }
    params.is_ca = match template.authority {
        None => IsCa::ExplicitNoCa,
        Some(None) => IsCa::Ca(BasicConstraints::Unconstrained),
        Some(Some(length)) => IsCa::Ca(BasicConstraints::Constrained(length)),
    };
    params.key_usages = KEY_USAGES
        .into_iter()
        .enumerate()
        .filter(|(bit, _)| template.key_usage >> bit & 1 == 1)
        .map(|(_, usage)| usage)
        .collect();
    params.extended_key_usages = template.extended.iter().copied().map(extended).collect();
    params.use_authority_key_identifier_extension = true;
    Ok(params)
}

/// In the order of RFC 5280, §4.2.1.3, which is also that of Go's bits.
const KEY_USAGES: [KeyUsagePurpose; 9] = [
    KeyUsagePurpose::DigitalSignature,
    KeyUsagePurpose::ContentCommitment,
    KeyUsagePurpose::KeyEncipherment,
    KeyUsagePurpose::DataEncipherment,
    KeyUsagePurpose::KeyAgreement,
    KeyUsagePurpose::KeyCertSign,
    KeyUsagePurpose::CrlSign,
    KeyUsagePurpose::EncipherOnly,
    KeyUsagePurpose::DecipherOnly,
];

fn extended(usage: ExtendedKeyUsage) -> ExtendedKeyUsagePurpose {
    match usage {
        ExtendedKeyUsage::Any => ExtendedKeyUsagePurpose::Any,
        ExtendedKeyUsage::ServerAuth => ExtendedKeyUsagePurpose::ServerAuth,
        ExtendedKeyUsage::ClientAuth => ExtendedKeyUsagePurpose::ClientAuth,
        ExtendedKeyUsage::CodeSigning => ExtendedKeyUsagePurpose::CodeSigning,
        ExtendedKeyUsage::EmailProtection => ExtendedKeyUsagePurpose::EmailProtection,
        ExtendedKeyUsage::TimeStamping => ExtendedKeyUsagePurpose::TimeStamping,
        ExtendedKeyUsage::OcspSigning => ExtendedKeyUsagePurpose::OcspSigning,
    }
}

fn subject(subject: &Subject) -> DistinguishedName {
    let mut name = DistinguishedName::new();
    let lists = [
        (DnType::CountryName, &subject.countries),
        (DnType::StateOrProvinceName, &subject.provinces),
        (DnType::LocalityName, &subject.localities),
        (DnType::OrganizationName, &subject.organizations),
        (DnType::OrganizationalUnitName, &subject.organizational_units),
    ];
    for (kind, words) in lists {
        for word in words {
            name.push(kind.clone(), word.as_str());
        }
    }
    if let Some(common) = &subject.common_name {
        name.push(DnType::CommonName, common.as_str());
    }
    name
}

/// Why a certificate could not be issued.
#[derive(Debug, thiserror::Error)]
pub enum AuthorityError {
    /// Its key is in another TEE.
    #[error("the key of this CA is in another TEE: recover the state first")]
    Lost,
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

impl From<ParamsError> for AuthorityError {
    fn from(error: ParamsError) -> Self {
        match error {
            ParamsError::Time => Self::Time,
            ParamsError::Randomness => Self::Randomness,
        }
    }
}

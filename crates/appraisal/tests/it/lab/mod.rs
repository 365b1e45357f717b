//! Hierarchies made for the tests, in the vendors' formats, in which one thing at a time can be wrong. Written
//! from the formats and not from the code under test; the emulated platform has its own, third, encoder.

pub mod amd;
pub mod cca;
pub mod intel;
pub mod nitro;
pub mod nvidia;
pub mod tpm;

use appraisal::{Appraised, Code, EmulatedRoot, Policy, ReferenceValue, ReferenceValues, Refused, UnixTime};
use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::{
    ECDSA_P256_SHA256_FIXED_SIGNING, ECDSA_P384_SHA384_FIXED_SIGNING, EcdsaKeyPair, EcdsaSigningAlgorithm,
    KeyPair as _,
};
use crypto_aws_lc::AwsLc;
use evidence::{CertificateDer, CrlDer, Endorsements, Evidence, Measurement, ReportData};
use rcgen::{
    BasicConstraints, CertificateParams, CertificateRevocationListParams, CustomExtension, DnType, IsCa,
    Issuer, KeyIdMethod, KeyPair, KeyUsagePurpose, PKCS_ECDSA_P256_SHA256, PKCS_ECDSA_P384_SHA384,
    RevokedCertParams, SerialNumber,
};

/// The time of all lab appraisals: 2026-06-15T12:00:00Z.
pub const NOW: i64 = 1_781_524_800;
pub const DAY: i64 = 86_400;

/// A validity, in days from [`NOW`].
#[derive(Clone, Copy)]
pub struct Window(pub i64, pub i64);

impl Window {
    pub const GOOD: Self = Self(-10, 20);
    pub const LONG: Self = Self(-1000, 3000);

    fn ends(self) -> (i64, i64) {
        (NOW + self.0 * DAY, NOW + self.1 * DAY)
    }

    pub fn json(self) -> String {
        let (start, end) = self.ends();
        format!(r#""issueDate":"{}","nextUpdate":"{}""#, UnixTime(start), UnixTime(end))
    }
}

#[derive(Clone, Copy, PartialEq)]
pub enum Curve {
    P256,
    P384,
}

/// A key that signs certificates (through rcgen) and anything else (through aws-lc).
pub struct Key {
    pair: KeyPair,
    raw: EcdsaKeyPair,
}

impl Key {
    pub fn new(curve: Curve) -> Self {
        let (algorithm, fixed): (_, &'static EcdsaSigningAlgorithm) = match curve {
            Curve::P256 => (&PKCS_ECDSA_P256_SHA256, &ECDSA_P256_SHA256_FIXED_SIGNING),
            Curve::P384 => (&PKCS_ECDSA_P384_SHA384, &ECDSA_P384_SHA384_FIXED_SIGNING),
        };
        let pair = KeyPair::generate_for(algorithm).unwrap();
        let raw = EcdsaKeyPair::from_pkcs8(fixed, &pair.serialize_der()).unwrap();
        Self { pair, raw }
    }

    pub fn sign(&self, message: &[u8]) -> Vec<u8> {
        self.raw.sign(&SystemRandom::new(), message).unwrap().as_ref().to_vec()
    }

    /// The public point without the byte that says that it is uncompressed.
    pub fn point(&self) -> Vec<u8> {
        self.raw.public_key().as_ref()[1..].to_vec()
    }
}

/// A certificate with its key.
pub struct Certified {
    pub key: Key,
    pub der: CertificateDer,
    params: CertificateParams,
}

pub struct Template<'a> {
    pub name: &'a str,
    pub curve: Curve,
    pub ca: bool,
    pub serial: u64,
    pub window: Window,
    pub extensions: Vec<(&'static [u64], Vec<u8>)>,
}

impl Template<'_> {
    pub fn issue(self, issuer: Option<&Certified>) -> Certified {
        let mut params = CertificateParams::default();
        params.distinguished_name.push(DnType::CommonName, self.name);
        params.serial_number = Some(SerialNumber::from(self.serial));
        let (start, end) = self.window.ends();
        params.not_before = date(start);
        params.not_after = date(end);
        if self.ca {
            params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
            params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        } else {
            params.is_ca = IsCa::ExplicitNoCa;
        }
        params.custom_extensions = self
            .extensions
            .iter()
            .map(|(oid, value)| CustomExtension::from_oid_content(oid, value.clone()))
            .collect();
        let key = Key::new(self.curve);
        let certificate = match issuer {
            None => params.self_signed(&key.pair).unwrap(),
            Some(issuer) => params.signed_by(&key.pair, &issuer.issuer()).unwrap(),
        };
        Certified { der: CertificateDer(certificate.der().to_vec()), key, params }
    }
}

fn date(seconds: i64) -> time::OffsetDateTime {
    time::OffsetDateTime::from_unix_timestamp(seconds).unwrap()
}

impl Certified {
    /// DER of the name: a common name alone.
    pub fn subject(&self) -> Vec<u8> {
        let Some(rcgen::DnValue::Utf8String(name)) = self.params.distinguished_name.get(&DnType::CommonName)
        else {
            panic!("no common name")
        };
        let attribute = [&[6, 3, 0x55, 4, 3][..], &der(0x0c, name.as_bytes())].concat();
        der(0x30, &der(0x31, &der(0x30, &attribute)))
    }

    fn issuer(&self) -> Issuer<'_, &KeyPair> {
        Issuer::from_params(&self.params, &self.key.pair)
    }

    pub fn crl(&self, window: Window, revoked: &[u64]) -> CrlDer {
        let (start, end) = window.ends();
        let revoked_certs = revoked
            .iter()
            .map(|&serial| RevokedCertParams {
                serial_number: SerialNumber::from(serial),
                revocation_time: date(start),
                reason_code: None,
                invalidity_date: None,
            })
            .collect();
        let params = CertificateRevocationListParams {
            this_update: date(start),
            next_update: date(end),
            crl_number: SerialNumber::from(7u64),
            issuing_distribution_point: None,
            revoked_certs,
            key_identifier_method: KeyIdMethod::Sha256,
        };
        CrlDer(params.signed_by(&self.issuer()).unwrap().der().to_vec())
    }
}

/// What a lab gives to an appraisal.
pub struct Presented {
    pub evidence: Evidence,
    pub endorsements: Endorsements,
    pub root: CertificateDer,
}

pub const REPORT_DATA: ReportData = ReportData([0x5a; 64]);

impl Presented {
    pub fn policy(&self) -> Policy {
        Policy::production().trust_emulated([EmulatedRoot::new("lab", &self.root.0).unwrap()])
    }

    pub fn reference(&self) -> ReferenceValues {
        let measurement = self.evidence.measurement().unwrap();
        let value = ReferenceValue::program("lab", self.evidence.platform(), measurement);
        ReferenceValues { report_data: REPORT_DATA.into(), measurements: vec![value] }
    }

    pub fn appraise(&self) -> Result<Appraised, Refused> {
        self.appraise_under(&self.policy())
    }

    pub fn appraise_under(&self, policy: &Policy) -> Result<Appraised, Refused> {
        let reference = self.reference();
        appraisal::appraise(&self.evidence, &self.endorsements, &reference, policy, UnixTime(NOW), &AwsLc)
    }

    /// The codes of the refusal; panics when there is none.
    #[track_caller]
    pub fn refusal(&self) -> Vec<Code> {
        self.appraise().map(|appraised| panic!("accepted:\n{}", appraised.verdict())).unwrap_err().codes()
    }

    #[track_caller]
    pub fn refusal_under(&self, policy: &Policy) -> Vec<Code> {
        self.appraise_under(policy)
            .map(|appraised| panic!("accepted:\n{}", appraised.verdict()))
            .unwrap_err()
            .codes()
    }
}

/// The codes of what was accepted with a warning.
pub fn warned(appraised: &Appraised) -> Vec<Code> {
    appraised.verdict().warnings().iter().map(|reason| reason.code).collect()
}

impl Presented {
    /// The lab's policy, changed.
    pub fn policy_with(&self, change: impl FnOnce(&mut Policy)) -> Policy {
        let mut policy = self.policy();
        change(&mut policy);
        policy
    }

    /// The codes of the warnings under the changed policy; panics when it refuses.
    #[track_caller]
    pub fn accepted_with(&self, change: impl FnOnce(&mut Policy)) -> Vec<Code> {
        let accepted = self.appraise_under(&self.policy_with(change));
        warned(&accepted.unwrap_or_else(|refused| panic!("{}", refused.verdict())))
    }

    /// The codes of the refusal under the changed policy.
    #[track_caller]
    pub fn refused_with(&self, change: impl FnOnce(&mut Policy)) -> Vec<Code> {
        self.refusal_under(&self.policy_with(change))
    }
}

pub fn measurement(bytes: &[u8]) -> Measurement {
    Measurement::new(bytes).unwrap()
}

/// DER: tag, length below 65536, contents.
pub fn der(tag: u8, contents: &[u8]) -> Vec<u8> {
    let mut bytes = vec![tag];
    match contents.len() {
        short @ 0..=0x7f => bytes.push(short as u8),
        medium @ 0x80..=0xff => bytes.extend([0x81, medium as u8]),
        long => {
            bytes.push(0x82);
            bytes.extend((long as u16).to_be_bytes());
        }
    }
    [bytes, contents.to_vec()].concat()
}

pub fn der_integer(value: u16) -> Vec<u8> {
    let bytes = value.to_be_bytes();
    let digits: &[u8] = if bytes[0] == 0 { &bytes[1..] } else { &bytes };
    let lead: &[u8] = if digits[0] & 0x80 != 0 { &[0] } else { &[] };
    der(2, &[lead, digits].concat())
}

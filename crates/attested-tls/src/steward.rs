//! What Enarx' Steward asks for and gives: a PKCS #10 request whose extension carries Evidence, and a chain of
//! certificates for the key that the Evidence covers. Formats as Enarx 0.7 and Steward have them; nothing here does
//! I/O, and nothing here appraises: that is Steward's work, and those who trust its root.
//!
//! Tried against a double of Steward, never against Steward itself, and not yet run on hardware.

use evidence::{Endorsements, Platform, ReportData};
use rcgen::{
    CertificateParams, CustomExtension, DistinguishedName, KeyPair, PKCS_ECDSA_P256_SHA256,
    PKCS_ECDSA_P384_SHA384, PublicKeyData, SignatureAlgorithm,
};
use rustls_pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};
use x509_parser::{
    prelude::{FromDer, X509Certificate},
    revocation_list::CertificateRevocationList,
};

/// Enarx' arc for Evidence in requests.
const ARC: [u64; 8] = [1, 3, 6, 1, 4, 1, 58270, 1];
/// A longer answer, in bytes, is refused unread.
pub const MAX_PATH: usize = 64 << 10;
const MAX_CERTIFICATES: usize = 8;

/// Why there is no request, or the answer is none.
#[derive(Debug, thiserror::Error)]
pub enum StewardError {
    /// Steward knows no Evidence of this platform.
    #[error(
        "Steward takes Evidence of SGX and SNP, and this Keep runs on {0}; leave `steward` out, or run it elsewhere"
    )]
    Platform(Platform),
    /// The platform gave no Evidence, or without what vendors sign about it.
    #[error("there is no Evidence for Steward: {0}")]
    Evidence(String),
    /// The key could not be made or used.
    #[error("the key for Steward's certificate could not be made or used")]
    Key(#[from] rcgen::Error),
    /// What came is no PkiPath for our key.
    #[error("Steward's answer is not a certificate chain for this Keep's key: {0}")]
    Answer(&'static str),
}

impl StewardError {
    /// Stable code.
    pub fn code(&self) -> &'static str {
        match self {
            Self::Platform(_) => "STEWARD_PLATFORM_UNKNOWN",
            Self::Evidence(_) => "STEWARD_WITHOUT_EVIDENCE",
            Self::Key(_) => "INTERNAL",
            Self::Answer(_) => "STEWARD_ANSWER_UNUSABLE",
        }
    }
}

/// A fresh key, and what to say about it.
pub struct Request {
    key: KeyPair,
    platform: Platform,
}

impl Request {
    /// A fresh key of the kind that Steward wants to see with Evidence of `platform`.
    ///
    /// # Errors
    /// When Steward knows no such Evidence.
    pub fn new(platform: Platform) -> Result<Self, StewardError> {
        let algorithm: &SignatureAlgorithm = match platform {
            Platform::Snp => &PKCS_ECDSA_P384_SHA384,
            Platform::Sgx => &PKCS_ECDSA_P256_SHA256,
            other => return Err(StewardError::Platform(other)),
        };
        Ok(Self { key: KeyPair::generate_for(algorithm)?, platform })
    }

    /// What the Evidence must cover: SHA-384 (SNP) or SHA-256 (SGX) of the SubjectPublicKeyInfo, then zeroes.
    pub fn report_data(&self) -> ReportData {
        let algorithm = match self.platform {
            Platform::Snp => &aws_lc_rs::digest::SHA384,
            _ => &aws_lc_rs::digest::SHA256,
        };
        let digest = aws_lc_rs::digest::digest(algorithm, &self.key.subject_public_key_info());
        let mut data = [0; 64];
        data[..digest.as_ref().len()].copy_from_slice(digest.as_ref());
        ReportData(data)
    }

    /// The request, DER: empty subject, and one extension request with the Evidence, which is not critical.
    ///
    /// # Errors
    /// When what vendors sign is missing or cannot be read.
    pub fn to_der(&self, evidence: &[u8], endorsements: &Endorsements) -> Result<Vec<u8>, StewardError> {
        let (last, content) = match self.platform {
            Platform::Snp => (3, snp(evidence, endorsements)?),
            _ => (2, sgx(evidence, endorsements)?),
        };
        let oid: Vec<u64> = ARC.into_iter().chain([last]).collect();
        let mut params = CertificateParams::default();
        params.distinguished_name = DistinguishedName::new();
        params.custom_extensions = vec![CustomExtension::from_oid_content(&oid, content)];
        Ok(params.serialize_request(&self.key)?.der().to_vec())
    }

    /// The chain (leaf first) and its key, from Steward's PkiPath (RFC 6066 §10.1: issuer first).
    ///
    /// # Errors
    /// When it is no such path, or ends in another key.
    pub fn accept(
        self,
        path: &[u8],
    ) -> Result<(Vec<CertificateDer<'static>>, PrivateKeyDer<'static>), StewardError> {
        let mut chain = certificates(path)?;
        chain.reverse();
        let parsed = chain.iter().map(|der| match X509Certificate::from_der(der) {
            Ok(([], certificate)) => Ok(certificate),
            _ => Err(StewardError::Answer("a certificate in it cannot be read")),
        });
        let parsed: Vec<X509Certificate<'_>> = parsed.collect::<Result<_, _>>()?;
        let leaf = parsed.first().ok_or(StewardError::Answer("it is empty"))?;
        if leaf.tbs_certificate.subject_pki.raw != self.key.subject_public_key_info() {
            return Err(StewardError::Answer("its last certificate is for another key"));
        }
        let linked = |pair: &[X509Certificate<'_>]| pair[0].issuer().as_raw() == pair[1].subject().as_raw();
        if !parsed.windows(2).all(linked) {
            return Err(StewardError::Answer("its certificates are not each other's issuers"));
        }
        drop(parsed);
        Ok((chain, PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(self.key.serialize_der()))))
    }
}

/// `SEQUENCE { SEQUENCE { vcek Certificate, CrlList }, report OCTET STRING }`
fn snp(report: &[u8], endorsements: &Endorsements) -> Result<Vec<u8>, StewardError> {
    let missing = || StewardError::Evidence("AMD's certificate of the platform's key is missing".into());
    let amd = endorsements.amd.as_ref().ok_or_else(missing)?;
    let (_, vcek) = X509Certificate::from_der(&amd.vek.0).map_err(|_| missing())?;
    let issuer = vcek.issuer().to_string();
    let product =
        ["Milan", "Genoa", "Turin"].into_iter().find(|name| issuer.contains(name)).unwrap_or("Milan");
    let url = format!("https://kdsintf.amd.com/vcek/v1/{product}/crl");
    let crls: Vec<(&str, &[u8])> = amd.crl.iter().map(|crl| (url.as_str(), crl.0.as_slice())).collect();
    let signed = sequence(&[&amd.vek.0, &crl_list(&crls)]);
    Ok(sequence(&[&signed, &tlv(OCTET_STRING, report)]))
}

/// `SEQUENCE { quote OCTET STRING, CrlList, SEQUENCE { SEQUENCE OF Certificate, OCTET STRING } }`
fn sgx(quote: &[u8], endorsements: &Endorsements) -> Result<Vec<u8>, StewardError> {
    const ROOT: &str = "https://certificates.trustedservices.intel.com/IntelSGXRootCA.der";
    let missing = || StewardError::Evidence("Intel's collateral of the platform is missing".into());
    let intel = endorsements.intel.as_ref().ok_or_else(missing)?;
    let (_, crl) = CertificateRevocationList::from_der(&intel.pck_crl.0).map_err(|_| missing())?;
    let ca = if crl.issuer().to_string().contains("Platform") { "platform" } else { "processor" };
    let pck =
        format!("https://api.trustedservices.intel.com/sgx/certification/v3/pckcrl?ca={ca}&encoding=der");
    let crls = crl_list(&[(ROOT, &intel.root_ca_crl.0), (&pck, &intel.pck_crl.0)]);
    let issuers: Vec<&[u8]> =
        intel.tcb_info.issuer_chain.iter().map(|certificate| certificate.0.as_slice()).collect();
    // As Intel's service answers: the signed bytes within, unchanged.
    let mut json = b"{\"tcbInfo\":".to_vec();
    json.extend_from_slice(&intel.tcb_info.body);
    json.extend_from_slice(
        format!(",\"signature\":\"{}\"}}", hex::encode(intel.tcb_info.signature)).as_bytes(),
    );
    let tcb = sequence(&[&sequence(&issuers), &tlv(OCTET_STRING, &json)]);
    Ok(sequence(&[&tlv(OCTET_STRING, quote), &crls, &tcb]))
}

/// `CrlList ::= SEQUENCE { SEQUENCE OF SEQUENCE { url UTF8String, crl CertificateList } }`
fn crl_list(crls: &[(&str, &[u8])]) -> Vec<u8> {
    let entries: Vec<Vec<u8>> =
        crls.iter().map(|(url, crl)| sequence(&[&tlv(UTF8_STRING, url.as_bytes()), crl])).collect();
    let entries: Vec<&[u8]> = entries.iter().map(Vec::as_slice).collect();
    sequence(&[&sequence(&entries)])
}

const OCTET_STRING: u8 = 0x04;
const UTF8_STRING: u8 = 0x0c;
const SEQUENCE: u8 = 0x30;

fn sequence(parts: &[&[u8]]) -> Vec<u8> {
    tlv(SEQUENCE, &parts.concat())
}

/// X.690 §8.1, with definite lengths in the fewest bytes (§10.1).
fn tlv(tag: u8, content: &[u8]) -> Vec<u8> {
    let mut out = vec![tag];
    if content.len() < 0x80 {
        out.push(content.len() as u8);
    } else {
        let length = content.len().to_be_bytes();
        let length = &length[length.iter().take_while(|byte| **byte == 0).count()..];
        out.push(0x80 | length.len() as u8);
        out.extend_from_slice(length);
    }
    out.extend_from_slice(content);
    out
}

/// The elements of a PkiPath, each as it is, issuer first. Nothing is verified.
///
/// # Errors
/// When it is no DER SEQUENCE of SEQUENCEs, or has too many of them.
pub fn certificates(path: &[u8]) -> Result<Vec<CertificateDer<'static>>, StewardError> {
    const NONE: StewardError = StewardError::Answer("it is no DER SEQUENCE of certificates");
    if path.len() > MAX_PATH {
        return Err(StewardError::Answer("it is too long"));
    }
    let (mut rest, after) = split(path).map(|(element, after)| (content(element), after)).ok_or(NONE)?;
    if !after.is_empty() {
        return Err(NONE);
    }
    let mut certificates = Vec::new();
    while !rest.is_empty() {
        let (element, after) = split(rest).ok_or(NONE)?;
        if certificates.len() == MAX_CERTIFICATES {
            return Err(StewardError::Answer("it has more than 8 certificates"));
        }
        certificates.push(CertificateDer::from(element.to_vec()));
        rest = after;
    }
    Ok(certificates)
}

/// The first element, a SEQUENCE, with its header, and what is after it.
fn split(der: &[u8]) -> Option<(&[u8], &[u8])> {
    let (header, length) = header(der)?;
    der.split_at_checked(header.checked_add(length)?)
}

fn content(element: &[u8]) -> &[u8] {
    header(element).map_or(&[], |(header, _)| &element[header..])
}

fn header(der: &[u8]) -> Option<(usize, usize)> {
    let (&[tag, first], rest) = der.split_first_chunk()?;
    if tag != SEQUENCE {
        return None;
    }
    if first < 0x80 {
        return Some((2, first.into()));
    }
    let bytes = rest.get(..usize::from(first & 0x7f)).filter(|bytes| (1..=4).contains(&bytes.len()))?;
    let length = bytes.iter().fold(0_usize, |length, byte| length << 8 | usize::from(*byte));
    Some((2 + bytes.len(), length))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_is_for_our_key_or_refused() {
        let issuer = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).unwrap();
        let mut params = CertificateParams::default();
        params.distinguished_name.push(rcgen::DnType::CommonName, "Steward");
        let root = params.self_signed(&issuer).unwrap();
        let issuer = rcgen::Issuer::new(params, issuer);
        let path = |key: &KeyPair| {
            let leaf = CertificateParams::new(Vec::new()).unwrap().signed_by(key, &issuer).unwrap();
            sequence(&[root.der(), leaf.der()])
        };
        let request = Request::new(Platform::Sgx).unwrap();
        let good = path(&request.key);
        let other = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).unwrap();
        let refused = |bytes: &[u8]| {
            let request = Request {
                key: KeyPair::from_pem(&request.key.serialize_pem()).unwrap(),
                platform: Platform::Sgx,
            };
            request.accept(bytes).map(|_| ()).unwrap_err().code()
        };
        let only_root = sequence(&[root.der()]);
        let mut longer = good.clone();
        longer.push(0);
        let nine = sequence(&[root.der().as_ref(); 9]);
        for bad in [&path(&other), &only_root, &longer, &nine, &sequence(&[]), &vec![0x30; 300]] {
            assert_eq!(refused(bad), "STEWARD_ANSWER_UNUSABLE");
        }
        for cut in 0..good.len() {
            assert_eq!(refused(&good[..cut]), "STEWARD_ANSWER_UNUSABLE");
        }
        let (chain, _key) = request.accept(&good).unwrap();
        assert_eq!(chain[1], *root.der(), "leaf first");
    }

    #[test]
    fn platforms_that_steward_does_not_know_are_refused() {
        assert_eq!(Request::new(Platform::Tdx).err().unwrap().code(), "STEWARD_PLATFORM_UNKNOWN");
        assert_eq!(Request::new(Platform::Tpm).err().unwrap().code(), "STEWARD_PLATFORM_UNKNOWN");
    }
}

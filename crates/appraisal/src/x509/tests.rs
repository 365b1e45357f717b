//! Another parser reads the same.

use std::fs;
use std::path::Path;

use evidence::{CertificateDer, CrlDer};
use x509_parser::certificate::X509Certificate;
use x509_parser::prelude::FromDer;
use x509_parser::revocation_list::CertificateRevocationList;

use super::*;

/// All certificates and lists of the corpus.
fn corpus() -> (Vec<CertificateDer>, Vec<CrlDer>) {
    let vectors = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/vectors");
    let files = |folder| fs::read_dir(vectors.join(folder)).unwrap().map(|entry| entry.unwrap().path());
    let (mut certificates, mut lists) = (vec![], vec![]);
    for file in files("amd-collateral") {
        let der = fs::read(&file).unwrap();
        match file.to_str().unwrap().contains("-crl-") {
            true => lists.push(CrlDer(der)),
            false => certificates.push(CertificateDer(der)),
        }
    }
    for file in files("bundles") {
        let endorsements = evidence::Endorsements::from_dcap_json(&fs::read(&file).unwrap()).unwrap();
        let intel = endorsements.intel.unwrap();
        certificates.extend(intel.tcb_info.issuer_chain);
        certificates.extend(intel.pck_crl_issuer_chain);
        lists.extend([intel.root_ca_crl, intel.pck_crl]);
    }
    for file in files("sgx").chain(files("tdx")) {
        let quote = fs::read(&file).unwrap();
        let start = quote.windows(11).position(|window| window == b"-----BEGIN ");
        let Some(start) = start else { continue };
        let end = quote.iter().rposition(|&byte| byte == b'-').unwrap();
        certificates.extend(evidence::pem::certificates(&quote[start..=end]).unwrap());
    }
    certificates.sort_by(|one, other| one.0.cmp(&other.0));
    certificates.dedup();
    lists.sort_by(|one, other| one.0.cmp(&other.0));
    lists.dedup();
    assert!(certificates.len() > 40 && lists.len() > 10, "{} {}", certificates.len(), lists.len());
    (certificates, lists)
}

fn certificate_agrees(der: &CertificateDer) -> bool {
    let Ok(own) = ParsedCertificate::parse(der) else { return false };
    let (rest, other) = X509Certificate::from_der(&der.0).unwrap();
    assert!(rest.is_empty());
    let tbs = &other.tbs_certificate;
    assert_eq!(own.subject, tbs.subject.as_raw());
    assert_eq!(own.issuer, tbs.issuer.as_raw());
    assert_eq!(own.serial, tbs.raw_serial());
    assert_eq!(own.not_before.0, other.validity().not_before.timestamp());
    assert_eq!(own.not_after.0, other.validity().not_after.timestamp());
    assert_eq!(own.is_ca, other.is_ca());
    let usage = other.key_usage().unwrap().map(|usage| usage.value.key_cert_sign());
    assert_eq!(own.may_sign_certificates, usage.unwrap_or(true));
    assert_eq!(own.extensions.iter().count(), other.extensions().len());
    for extension in other.extensions() {
        assert_eq!(own.extension(&extension.oid), Some(extension.value));
    }
    let (PublicKey::P256(key) | PublicKey::P384(key) | PublicKey::Rsa(key)) = own.key();
    assert_eq!(**key, *tbs.subject_pki.subject_public_key.data);
    true
}

fn list_agrees(der: &CrlDer) -> bool {
    let Ok(own) = ParsedCrl::parse(der) else { return false };
    let (rest, other) = CertificateRevocationList::from_der(&der.0).unwrap();
    assert!(rest.is_empty());
    assert_eq!(own.issuer, other.tbs_cert_list.issuer.as_raw());
    assert_eq!(own.this_update.0, other.last_update().timestamp());
    assert_eq!(own.next_update.0, other.next_update().unwrap().timestamp());
    assert_eq!(own.number, other.crl_number().and_then(|number| u64::try_from(number.clone()).ok()));
    for revoked in other.iter_revoked_certificates() {
        assert!(own.revokes(revoked.raw_serial()));
    }
    assert!(!own.revokes(&[0x42; 20]));
    true
}

/// Another parser, and a more tolerant one, reads the same from all that ours accepts.
#[test]
fn certificates_and_lists_are_read_as_x509_parser_reads_them() {
    let (certificates, lists) = corpus();
    assert!(certificates.iter().all(certificate_agrees));
    assert!(lists.iter().all(list_agrees));
}

#[test]
fn flipped_certificates_and_lists_are_read_alike_or_refused() {
    let (certificates, lists) = corpus();
    for mut certificate in certificates.into_iter().step_by(5) {
        for offset in 0..certificate.0.len() {
            certificate.0[offset] ^= 1 << (offset % 8);
            certificate_agrees(&certificate);
            certificate.0[offset] ^= 1 << (offset % 8);
        }
    }
    for mut list in lists.into_iter().step_by(4) {
        for offset in 0..list.0.len() {
            list.0[offset] ^= 1 << (offset % 8);
            list_agrees(&list);
            list.0[offset] ^= 1 << (offset % 8);
        }
    }
}

//! TPM and Azure Evidence by the public API: real samples (those of the appraisal crate) in each container, whole,
//! cut, and changed.

use std::path::Path;

use evidence::eventlog::HashAlgorithm;
use evidence::tpm::{Attestation, AttestationKey, Container, Parts, PublicKey, QuoteParts, Scheme};
use evidence::{Evidence, MalformedKind, Platform};

fn read(file: &str) -> Vec<u8> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../appraisal/tests/vectors").join(file);
    std::fs::read(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

const CONTAINERS: [(&str, Container, usize); 7] = [
    ("tpm/go-tpm-tools-gce-cos-85-nonce9009.pb", Container::GoTpmTools, 72),
    ("tpm/go-tpm-tools-gce-cos-85-no-nonce.pb", Container::GoTpmTools, 72),
    ("tpm/trustee-tpm_evidence.json", Container::Trustee, 24),
    ("tpm/dstack-tpm_quote_sample.bin", Container::Bare, 0),
    ("tpm/services-evidence.cbor", Container::Parsec, 0),
    ("eventlog/go-eventlog-windows_gcp_shielded_vm.json", Container::GoAttestation, 24),
    ("azure/trustee-az-snp-tpm-quote-v1.json", Container::AzureQuote, 24),
];

fn tpm(bytes: &[u8]) -> Attestation {
    match Evidence::parse(bytes) {
        Ok(Evidence::Tpm(attestation)) => *attestation,
        other => panic!("{other:?}"),
    }
}

fn parts() -> Parts {
    let part = |kind: &str| read(&format!("tpm/swtpm-ecdsa-sha1-bank.{kind}"));
    let values = part("pcrs");
    let values =
        (0..).zip(values.chunks(20)).map(|(index, value)| (HashAlgorithm::Sha1, index, value.to_vec()));
    let quote = QuoteParts { message: part("msg"), signature: part("sig"), values: values.collect() };
    Parts { public: part("pub"), quotes: vec![quote], event_log: None, certificates: vec![] }
}

#[test]
fn containers_are_recognised_by_content() {
    for (file, container, registers) in CONTAINERS {
        let parsed = Evidence::parse(&read(file)).unwrap();
        assert_eq!(parsed.platform(), Platform::Tpm);
        assert!(parsed.measurement().is_none() && parsed.launch_configuration().is_empty());
        let measured = parsed.measured();
        assert_eq!(measured.keys().filter(|name| name.starts_with("pcr")).count(), registers, "{file}");
        assert!(measured.contains_key("firmware_version"));
        assert_eq!(tpm(&read(file)).container(), container, "{file}");
    }
}

#[test]
fn a_structure_alone_may_have_its_length_before_it() {
    let attest = read("tpm/dstack-tpm_quote_sample.bin");
    let length = u16::try_from(attest.len()).unwrap().to_be_bytes();
    let sized = [&length[..], &attest].concat();
    assert_eq!(tpm(&sized), tpm(&attest));
    assert_eq!(tpm(&attest).covered().as_bytes(), [0x12, 0x34, 0x56, 0x78]);
    let quotes = tpm(&attest);
    let quote = &quotes.quotes()[0].attest;
    assert_eq!((quote.clock.reset_count, quote.clock.restart_count, quote.clock.safe), (16, 0, true));
    assert_eq!(quote.selections[0].registers, [0, 1, 2]);
}

#[test]
fn parts_round_trip_in_one_encoding_only() {
    let parts = parts();
    let bytes = parts.to_bytes();
    assert_eq!(Parts::from_bytes(&bytes), Ok(parts.clone()));
    assert_eq!(tpm(&bytes), Attestation::from_parts(&parts).unwrap());
    for length in 0..bytes.len() {
        assert!(Evidence::parse(&bytes[..length]).is_err(), "{length}");
    }
    assert!(Evidence::parse(&[&bytes[..], &[0]].concat()).is_err());
    // The array's header with a length of one byte.
    assert!(Parts::from_bytes(&[&[0x98, 5], &bytes[1..]].concat()).is_err());
}

#[test]
fn no_cut_and_no_flip_panics() {
    let azure = ["azure/attestation-rs-az-tdx-live-evidence.json", "azure/trustee-az-snp-evidence-v2.json"];
    for file in CONTAINERS.iter().map(|(file, ..)| *file).chain(azure) {
        let bytes = read(file);
        // About 250 places of each, at different phases of whatever encoding.
        for offset in (0..bytes.len()).step_by((bytes.len() / 250) | 1) {
            let _ = Evidence::parse(&bytes[..offset]);
            let mut flipped = bytes.clone();
            flipped[offset] ^= 1 << (offset % 8);
            let _ = Evidence::parse(&flipped);
        }
    }
}

#[test]
fn keys_have_one_encoding() {
    for (file, kind) in [("rsassa-sha256", "RSA"), ("ecdsa-p256", "P-256")] {
        let bytes = read(&format!("tpm/swtpm-{file}.pub"));
        let key = AttestationKey::parse(&bytes).unwrap();
        assert_eq!(key.public.kind(), kind);
        // TPM2B_PUBLIC and TPMT_PUBLIC are the same key.
        assert_eq!(AttestationKey::parse(&bytes[2..]).unwrap(), key);
        let spki = key.public.spki();
        assert_eq!(PublicKey::from_spki(&spki), Ok(key.public));
        for length in 0..spki.len() {
            assert!(PublicKey::from_spki(&spki[..length]).is_err());
        }
        assert!(PublicKey::from_spki(&[&spki[..], &[0]].concat()).is_err());
        assert!(AttestationKey::parse(&bytes[2..bytes.len() - 1]).is_err());
        let mut unknown = bytes[2..].to_vec();
        unknown[1] = 0x25;
        assert_eq!(AttestationKey::parse(&unknown).unwrap_err().kind, MalformedKind::Unsupported);
    }
}

#[test]
fn signatures_have_three_schemes() {
    let schemes = ["rsassa-sha256", "rsapss-sha256", "ecdsa-p256"]
        .map(|name| evidence::tpm::Signature::parse(&read(&format!("tpm/swtpm-{name}.sig"))).unwrap().scheme);
    assert_eq!(schemes, [Scheme::RsaSsa, Scheme::RsaPss, Scheme::Ecdsa]);
    let mut other = read("tpm/swtpm-rsassa-sha256.sig");
    other[1] = 0x1a;
    assert_eq!(evidence::tpm::Signature::parse(&other).unwrap_err().kind, MalformedKind::Unsupported);
}

#[test]
fn quotes_of_several_nonces_are_no_evidence() {
    let mut parts = parts();
    let other = read("tpm/swtpm-rsassa-sha256.msg");
    let mut other = QuoteParts { message: other, values: vec![], ..parts.quotes[0].clone() };
    // The nonce follows magic, type, qualified signer (2 + 34) and its own length.
    other.message[44] ^= 1;
    parts.quotes.push(other);
    assert_eq!(Attestation::from_parts(&parts).unwrap_err().field, "extraData");
}

#[test]
fn hcl_reports_of_both_kinds_are_read() {
    for (file, platform) in [
        ("azure/trustee-az-snp-hcl-report.bin", Platform::AzureSnp),
        ("azure/trustee-az-tdx-hcl-report.bin", Platform::AzureTdx),
    ] {
        let bytes = read(file);
        let parsed = Evidence::parse(&bytes).unwrap();
        assert_eq!(parsed.platform(), platform);
        let spoiled = |offset: usize, byte: u8| {
            let mut bytes = bytes.clone();
            bytes[offset] = byte;
            Evidence::parse(&bytes).unwrap_err().field
        };
        assert_eq!(spoiled(4, 3), "version");
        assert_eq!(spoiled(1216 + 8, 9), "report type");
        assert_eq!(spoiled(1216 + 12, 9), "report data hash type");
        assert_eq!(spoiled(1216, 0), "runtime data size");
        assert_eq!(spoiled(2599, 1), "padding");
        for length in (0..1300).step_by(11) {
            assert!(Evidence::parse(&bytes[..length]).is_err());
        }
    }
}

//! Parsing by the public API: real samples (those of the appraisal crate), and each field that a parser checks,
//! changed to what it must refuse, with the error that names it.

use std::path::Path;

use evidence::{Evidence, Malformed, MalformedKind, Platform};

const SGX: &str = "negatives/sgx3-ok.quote";
const TDX: &str = "negatives/tdx4-ok.quote";
const TDX_5: &str = "tdx/trustee-tdx_quote_5.dat.quote-v5-tdx-586c2b.bin";
const TD_15_EX: &str = "tdx/dcap-qvl-0.7.1-tdx_quote_td15ex.quote-v5-tdx-fd8857.bin";
const SNP: &str = "snp/oak-genoa_oc_evidence.report-v5-6d1cef.bin";

fn read(file: &str) -> Vec<u8> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../appraisal/tests/vectors").join(file);
    std::fs::read(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// The error of the sample with `bytes` written at `offset`.
fn spoiled(file: &str, offset: usize, bytes: &[u8]) -> Malformed {
    let mut sample = read(file);
    sample[offset..offset + bytes.len()].copy_from_slice(bytes);
    Evidence::parse(&sample).expect_err(file)
}

#[test]
fn samples_are_recognised_by_content() {
    for (file, platform, measured, configured) in [
        (SGX, Platform::Sgx, 32, 64),
        (TDX, Platform::Tdx, 48, 48),
        (TDX_5, Platform::Tdx, 48, 48),
        (TD_15_EX, Platform::Tdx, 48, 48),
        (SNP, Platform::Snp, 48, 32),
    ] {
        let parsed = Evidence::parse(&read(file)).unwrap();
        assert_eq!(parsed.platform(), platform);
        assert_eq!(parsed.measurement().unwrap().as_bytes().len(), measured);
        assert_eq!(parsed.launch_configuration().len(), configured);
        assert_eq!(parsed.padding(), 0);
    }
}

#[test]
fn each_checked_field_is_named_with_its_offset() {
    use MalformedKind::{Truncated, Unsupported, Value};
    let cases: &[(&str, usize, &[u8], MalformedKind, &str)] = &[
        (SGX, 0, &[6], Unsupported, "version"),
        (TDX, 0, &[6], Unsupported, "version"),
        (SGX, 2, &[3], Unsupported, "attestation key type"),
        (TDX, 2, &[3], Unsupported, "attestation key type"),
        (SGX, 4, &[0x81], Value, "TEE type"),
        (TDX, 4, &[1], Unsupported, "TEE type"),
        (SGX, 12, &[0], Unsupported, "QE vendor id"),
        (TDX, 12, &[0], Unsupported, "QE vendor id"),
        (SGX, 432, &[0xff; 4], Truncated, "signature data"),
        (TDX, 632, &[0xff; 4], Truncated, "signature data"),
        (TDX, 764, &[7], Unsupported, "certification data kind"),
        (TDX, 766, &[0xff; 4], Truncated, "certification data"),
        (TDX_5, 48, &[1], Unsupported, "body kind"),
        (TDX_5, 48, &[5], Unsupported, "body kind"),
        (TDX_5, 48, &[4], Value, "body length"),
        (TDX_5, 50, &[0], Value, "body length"),
        (TD_15_EX, 50, &[0], Value, "body length"),
        (TD_15_EX, 4, &[0], Unsupported, "body kind"),
        (SGX, 1012, &[0xff; 2], Truncated, "QE authentication data"),
        (SGX, 1046, &[0], Unsupported, "certification data kind"),
        (SGX, 1046, &[6], Unsupported, "certification data kind"),
        (SGX, 1048, &[0xff; 4], Truncated, "certification data"),
        (SNP, 0x34, &[2], Unsupported, "SIGNATURE_ALGO"),
        (SNP, 0x2a0 + 48, &[1], Value, "signature R"),
        (SNP, 0x2a0 + 72 + 71, &[1], Value, "signature S"),
        (SNP, 1183, &[1], Value, "reserved after the signature"),
    ];
    for &(file, offset, bytes, kind, field) in cases {
        let error = spoiled(file, offset, bytes);
        assert_eq!((error.kind, error.field), (kind, field), "{file} at {offset}: {error}");
        // The kind of a body of another TEE stands after the header.
        let near = error.offset.abs_diff(offset) <= 4 || (offset, error.offset) == (4, 48);
        assert!(near, "{file} at {offset}: {error}");
    }
}

/// A length that leaves bytes over within the signature data would hide them from every check.
#[test]
fn a_signature_data_length_must_fit_its_contents() {
    let mut quote = read(SGX);
    let length = u32::from_le_bytes(quote[432..436].try_into().unwrap()) + 5;
    quote[432..436].copy_from_slice(&length.to_le_bytes());
    quote.extend([0; 5]);
    let error = Evidence::parse(&quote).unwrap_err();
    assert_eq!((error.kind, error.field), (MalformedKind::Value, "signature data length"), "{error}");
}

#[test]
fn absurd_sizes_are_refused_unread() {
    let error = Evidence::parse(&vec![0; evidence::MAX_EVIDENCE + 1]).unwrap_err();
    assert_eq!(error.kind, MalformedKind::TooLong);
    assert!(Evidence::parse(&[]).is_err());
}

#[test]
fn report_versions_outside_2_to_5_are_refused() {
    for version in [0, 1, 6, 0xff] {
        assert_eq!(spoiled(SNP, 0, &[version]).kind, MalformedKind::Unsupported);
    }
}

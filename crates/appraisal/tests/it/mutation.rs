//! Every byte of a real sample is flipped once: no flip of a signed byte may be accepted, and none may panic.
//! `cargo test` flips one bit of each byte; bytes that no signature covers are listed by name.

use appraisal::{Policy, UnixTime, assess};
use crypto_aws_lc::AwsLc;
use evidence::{Endorsements, Evidence};

use crate::vectors::{amd_certificates, at, dcap, evidence, read};

/// Flips one bit of every `step`th byte, and gives the offsets at which the Evidence was accepted still.
fn accepted_flips(file: &str, endorsements: &Endorsements, now: UnixTime, step: usize) -> Vec<usize> {
    let original = read(file);
    let accepted = |bytes: &[u8]| {
        Evidence::parse(bytes).is_ok_and(|evidence| {
            assess(&evidence, endorsements, None, None, &Policy::genuine(), now, &AwsLc)
                .verdict()
                .is_accepted()
        })
    };
    assert!(accepted(&original), "{file}");
    let flips = (0..original.len()).step_by(step).filter(|&offset| {
        let mut bytes = original.clone();
        bytes[offset] ^= 1 << (offset % 8);
        accepted(&bytes)
    });
    flips.collect()
}

/// The certificate chain of a quote has the root's certificate, which is not used: the compiled-in one is.
/// Its text may change as long as it can be read, and so may the white space around lines.
fn is_harmless(quote: &[u8], offset: usize) -> bool {
    const BEGIN: &[u8] = b"-----BEGIN CERTIFICATE-----";
    let start = quote.windows(BEGIN.len()).rposition(|window| window == BEGIN).unwrap();
    offset > start || quote[offset].is_ascii_whitespace()
}

/// DCAP collateral has the certificate of the PCK CA, too, and one good copy is enough.
fn without_second_copy(file: &str) -> Endorsements {
    let mut endorsements = dcap(file);
    let intel = endorsements.intel.as_mut().unwrap();
    intel.pck_crl_issuer_chain.clear();
    intel.pck_chain.clear();
    endorsements
}

#[test]
fn no_flip_of_a_signed_byte_of_an_sgx_quote_is_accepted() {
    let file = "negatives/sgx3-ok.quote";
    let endorsements = without_second_copy("negatives/sgx3-ok.collateral.json");
    let quote = read(file);
    let accepted = accepted_flips(file, &endorsements, at("2025-07-04T10:28:44Z"), 1);
    let harmful: Vec<_> = accepted.into_iter().filter(|&offset| !is_harmless(&quote, offset)).collect();
    assert!(harmful.is_empty(), "{harmful:?}");
}

#[test]
fn no_flip_of_a_signed_byte_of_a_tdx_quote_is_accepted() {
    let file = "negatives/tdx4-ok.quote";
    let endorsements = without_second_copy("negatives/tdx4-ok.collateral.json");
    let quote = read(file);
    let accepted = accepted_flips(file, &endorsements, at("2025-07-04T10:16:31Z"), 1);
    let harmful: Vec<_> = accepted.into_iter().filter(|&offset| !is_harmless(&quote, offset)).collect();
    assert!(harmful.is_empty(), "{harmful:?}");
}

#[test]
fn no_flip_of_a_signed_byte_of_an_extended_tdx_quote_is_accepted() {
    let file = "negatives/tdx5ex-ok.quote";
    let endorsements = without_second_copy("negatives/tdx5ex-ok.collateral.json");
    let quote = read(file);
    let accepted = accepted_flips(file, &endorsements, at("2026-10-23T00:06:48Z"), 1);
    let harmful: Vec<_> = accepted.into_iter().filter(|&offset| !is_harmless(&quote, offset)).collect();
    assert!(harmful.is_empty(), "{harmful:?}");
}

#[test]
fn no_flip_of_an_snp_report_is_accepted() {
    let file = "snp/oak-genoa_oc_evidence.report-v5-6d1cef.bin";
    let now = at("2025-08-08T17:21:41Z");
    let endorsements = amd_certificates().fit(&evidence(file), now);
    // All of a report is signed, or must be zero.
    let accepted = accepted_flips(file, &endorsements, now, 1);
    assert!(accepted.is_empty(), "{accepted:?}");
}

/// Endorsements of a quote: each byte of what Intel signed counts. The chains beside it may hold the root's
/// certificate, which is not used.
#[test]
fn no_flip_of_signed_collateral_is_accepted() {
    let quote = evidence("negatives/tdx4-ok.quote");
    let now = at("2025-07-04T10:16:31Z");
    let good = dcap("negatives/tdx4-ok.collateral.json");
    let accepted = |endorsements: &Endorsements| {
        assess(&quote, endorsements, None, None, &Policy::genuine(), now, &AwsLc).verdict().is_accepted()
    };
    assert!(accepted(&good));
    type Part = fn(&mut evidence::IntelCollateral) -> &mut [u8];
    let parts: [(&str, usize, Part); 6] = [
        ("TCB info", 7, |intel| &mut intel.tcb_info.body),
        ("TCB info signature", 1, |intel| &mut intel.tcb_info.signature),
        ("QE identity", 3, |intel| &mut intel.qe_identity.body),
        ("TCB signer", 3, |intel| &mut intel.tcb_info.issuer_chain[0].0),
        ("root CRL", 1, |intel| &mut intel.root_ca_crl.0),
        ("PCK CRL", 7, |intel| &mut intel.pck_crl.0),
    ];
    for (name, step, part) in parts {
        let mut changed = good.clone();
        let length = part(changed.intel.as_mut().unwrap()).len();
        for offset in (0..length).step_by(step) {
            part(changed.intel.as_mut().unwrap())[offset] ^= 1;
            assert!(!accepted(&changed), "{name} at {offset}");
            part(changed.intel.as_mut().unwrap())[offset] ^= 1;
        }
    }
}

#[test]
fn every_truncation_is_malformed() {
    for file in [
        "negatives/sgx3-ok.quote",
        "negatives/tdx4-ok.quote",
        "negatives/tdx5ex-ok.quote",
        "snp/oak-genoa_oc_evidence.report-v5-6d1cef.bin",
    ] {
        let bytes = read(file);
        for length in 0..bytes.len() {
            assert!(Evidence::parse(&bytes[..length]).is_err(), "{file} cut to {length}");
        }
    }
}

#[test]
fn padding_of_zeros_is_tolerated_and_counted_and_nothing_else_is() {
    for file in ["negatives/sgx3-ok.quote", "negatives/tdx4-ok.quote", "negatives/tdx5ex-ok.quote"] {
        let good = read(file);
        let padded = [&good[..], &[0; 3065]].concat();
        let parsed = Evidence::parse(&padded).unwrap();
        assert_eq!(parsed.padding(), 3065);
        let mut dirty = padded.clone();
        *dirty.last_mut().unwrap() = 1;
        assert_eq!(Evidence::parse(&dirty).unwrap_err().offset, dirty.len() - 1);
    }
    let report = [read("snp/oak-genoa_oc_evidence.report-v5-6d1cef.bin"), vec![0]].concat();
    assert!(Evidence::parse(&report).is_err());
}

//! What people and programs read: golden text of verdicts on recorded Evidence, and the JSON's keys.
//! `BLESS=1 cargo test -p appraisal` writes the golden files anew; review them like code.

use std::path::Path;

use appraisal::{Policy, SnpMinimum, assess};
use crypto_aws_lc::AwsLc;
use evidence::Endorsements;

use crate::lab::intel::Intel;
use crate::vectors::{amd_certificates, at, dcap, evidence, look};

#[track_caller]
pub fn golden(name: &str, text: &str) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden").join(name);
    // Tests may be told to bless by their caller's environment; the crate itself reads none.
    if option_env!("BLESS").is_some() {
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(&path, text).unwrap();
    }
    let expected = std::fs::read_to_string(&path).unwrap_or_default();
    assert!(text == expected, "{name} differs from its golden file; it is now:\n{text}");
}

#[test]
fn a_good_tdx_quote() {
    let quote = evidence("negatives/tdx4-ok.quote");
    let assessment = look(&quote, &dcap("negatives/tdx4-ok.collateral.json"), at("2025-07-04T10:16:31Z"));
    golden("tdx-accepted.txt", &assessment.verdict().render(false));
    golden("tdx-accepted-all.txt", &assessment.verdict().render_all(false));
    let json = serde_json::to_string_pretty(assessment.verdict()).unwrap() + "\n";
    golden("tdx-accepted.json", &json);
}

#[test]
fn an_outdated_tdx_platform() {
    let quote = evidence("tdx/attestation-rs-tdx_quote_live.dat.quote-v4-tdx-3ab56d.bin");
    let bundle = dcap("bundles/quote-v4-tdx-3ab56d67-20261008T0009-e20.collateral.json");
    let assessment = look(&quote, &bundle, at("2026-10-23T00:06:48Z"));
    golden("tdx-out-of-date.txt", &assessment.verdict().render(false));
}

#[test]
fn a_td_that_should_be_relaunched() {
    let now = Intel::tdx().tee_tcb_svn;
    let mut launch = now;
    launch[0] = 4;
    let platform = Intel { tee_tcb_svn: launch, current_svn: Some(now), ..Intel::tdx() };
    let refused = platform.present().appraise().unwrap_err();
    golden("tdx-relaunch.txt", &refused.verdict().render(false));
}

#[test]
fn a_quote_that_only_names_its_certificate() {
    let refused = Intel { certification_kind: 1, ..Intel::sgx() }.present().appraise().unwrap_err();
    golden("sgx-look-up.txt", &refused.verdict().render(false));
}

#[test]
fn an_outdated_sgx_platform_in_debug() {
    let quote = evidence("sgx/trustee-occlum_quote.dat.quote-v3-sgx-77bcbd.bin");
    let bundle = dcap("bundles/quote-v3-sgx-77bcbdfa-20250606T1230-e19.collateral.json");
    let assessment = look(&quote, &bundle, at("2025-06-20T10:55:09Z"));
    golden("sgx-debug-out-of-date.txt", &assessment.verdict().render(false));
}

#[test]
fn a_milan_below_the_floor() {
    let report = evidence("snp/dstack-sev-snp-attestation.report-v3-a20e02.bin");
    let now = at("2026-06-18T01:05:04Z");
    let mut policy = Policy::genuine();
    policy.minimum.snp = vec![SnpMinimum { microcode: 219, snp: 24, ..SnpMinimum::default() }];
    let endorsements = amd_certificates().fit(&report, now);
    let assessment = assess(&report, &endorsements, None, None, &policy, now, &AwsLc);
    golden("snp-below-minimum.txt", &assessment.verdict().render(false));
    golden("snp-below-minimum.ansi", &assessment.verdict().render(true));
}

#[test]
fn a_turin_without_its_certificate() {
    let report = evidence("snp/oak-turin_oc_evidence.report-v5-3f44a0.bin");
    let assessment = look(&report, &Endorsements::default(), at("2025-07-18T17:04:46Z"));
    golden("snp-no-endorsements.txt", &assessment.verdict().render(false));
}

#[test]
fn json_has_the_promised_keys() {
    let presented = Intel::tdx().present();
    let accepted = serde_json::to_value(presented.appraise().unwrap().verdict()).unwrap();
    assert_eq!(accepted["verdict"], "accepted");
    assert_eq!(accepted["platform"], "tdx");
    assert_eq!(accepted["emulated"], true);
    assert_eq!(accepted["tcb"]["status"], "UpToDate");
    assert!(accepted["tcb"]["advisories"].is_array());
    assert_eq!(accepted["measurements"]["mrtd"], "d1".repeat(48));
    assert_eq!(accepted["report_data"], "5a".repeat(64));
    assert_eq!(accepted["reasons"], serde_json::json!([]));
    let refused = presented.appraise_under(&Policy::production()).unwrap_err();
    let refused = serde_json::to_value(refused.verdict()).unwrap();
    assert_eq!(refused["verdict"], "refused");
    assert_eq!(refused["emulated"], serde_json::Value::Null);
    assert_eq!(refused["reasons"][0]["code"], "ROOT_NOT_TRUSTED");
}

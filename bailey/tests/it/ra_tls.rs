//! `bailey evidence show` and `verify` on certificates that carry Evidence about their own key.

use std::time::Duration;

use appraisal::ra_tls;
use attested_tls::interop::{certify, extension};
use attester::Tee;
use crypto_aws_lc::AwsLc;
use evidence::ra_tls::{Claims, Dialect};
use evidence::{CertificateDer, Platform, ReportData, pem};
use rcgen::{CertificateParams, KeyPair, PublicKeyData};
use serde_json::Value;
use testkit::tee::{EmulatedTee, NOW, machine};

use crate::{bailey, text, vector};

/// Verifies, and gives the exit code and the verdict.
fn verify(folder: &std::path::Path, file: &str, more: &[&str]) -> (Option<i32>, Value) {
    let path = |name: &str| folder.join(name).display().to_string();
    let (file, root, endorsements, now) =
        (path(file), path("root.der"), path("endorsements"), NOW.to_string());
    let words = ["evidence", "verify", &file, "--root", &root, "--endorsements", &endorsements, "--at", &now];
    let output = bailey(&[&words[..], &["--json"], more].concat());
    (output.status.code(), serde_json::from_slice(&output.stdout).expect("a verdict"))
}

fn codes(verdict: &Value) -> Vec<&str> {
    verdict["reasons"]
        .as_array()
        .expect("reasons")
        .iter()
        .filter_map(|reason| reason["code"].as_str())
        .collect()
}

#[test]
fn a_certificate_is_shown_and_verified_with_its_key() {
    let folder = tempfile::tempdir().expect("a folder");
    let write = |name: &str, bytes: &[u8]| std::fs::write(folder.path().join(name), bytes).expect("written");
    let tee = EmulatedTee::launch(Platform::Tdx, b"the server's code", b"");
    let endorsements = tee.evidence(&ReportData([0; 64])).expect("Evidence").endorsements;
    write("endorsements", &endorsements);
    write("root.der", &machine().roots().intel.0);
    let (pair, stranger) = (KeyPair::generate().expect("a key"), KeyPair::generate().expect("a key"));
    let day = Duration::from_secs(24 * 60 * 60);
    let certificate = certify(&*tee, &pair, Some(b"12345678"), Dialect::Gramine, (NOW, day)).expect("made");
    write("good.der", &certificate);
    write("good.pem", pem::encode(&CertificateDer(certificate.to_vec())).as_bytes());
    for file in ["good.der", "good.pem"] {
        let (code, verdict) = verify(folder.path(), file, &[]);
        assert_eq!((code, verdict["verdict"].as_str()), (Some(0), Some("accepted")), "{verdict}");
        let checks = verdict["checks"].as_array().expect("checks");
        let of_key = checks.iter().find(|check| check["name"] == "tls-key").expect("the check of the key");
        assert_eq!(of_key["outcome"], "passed");
    }
    let shown =
        bailey(&["evidence", "show", &folder.path().join("good.pem").display().to_string(), "--json"]);
    let shown: Value = serde_json::from_slice(&shown.stdout).expect("JSON");
    assert_eq!(shown["ra_tls"]["nonce"], "3132333435363738");
    assert_eq!(shown["ra_tls"]["pubkey_hash_algorithm"], "sha256");

    // The honest Evidence in a stranger's certificate.
    let claims =
        |pair: &KeyPair| Claims::new(attested_tls::key::sha256(&pair.subject_public_key_info()), None);
    let certificate = |claims_in_it: &Claims, evidence: &[u8]| {
        let mut params = CertificateParams::default();
        let extension = extension(Dialect::Gramine, evidence, claims_in_it).expect("an extension");
        params.custom_extensions.push(extension);
        params.self_signed(&stranger).expect("a certificate").der().to_vec()
    };
    let honest = tee.evidence(&ra_tls::report_data(&claims(&pair), &AwsLc)).expect("Evidence").evidence;
    write("stolen.der", &certificate(&claims(&pair), &honest));
    let (code, verdict) = verify(folder.path(), "stolen.der", &[]);
    assert_eq!((code, codes(&verdict)), (Some(1), vec!["CERTIFICATE_KEY_NOT_BOUND"]));
    // Its own claims, which the Evidence does not cover; not even if the caller expects what it covers.
    write("lying.der", &certificate(&claims(&stranger), &honest));
    let (code, verdict) = verify(folder.path(), "lying.der", &[]);
    assert_eq!((code, codes(&verdict)), (Some(1), vec!["REPORT_DATA_MISMATCH", "CERTIFICATE_KEY_NOT_BOUND"]));
    let covered = verdict["report_data"].as_str().expect("report data");
    let (code, verdict) = verify(folder.path(), "lying.der", &["--report-data", covered]);
    assert_eq!((code, codes(&verdict)), (Some(1), vec!["CERTIFICATE_KEY_NOT_BOUND"]));

    // A real quote, taken from where it was published.
    let quote = std::fs::read(vector("tdx", "f1c850")).expect("a quote");
    write("real.der", &certificate(&claims(&stranger), &quote));
    let (code, verdict) = verify(folder.path(), "real.der", &[]);
    assert_eq!(code, Some(1));
    assert!(codes(&verdict).contains(&"CERTIFICATE_KEY_NOT_BOUND"));

    // A certificate without Evidence is none.
    let plain = CertificateParams::default().self_signed(&pair).expect("a certificate").der().to_vec();
    write("plain.der", &plain);
    let output = bailey(&["evidence", "show", &folder.path().join("plain.der").display().to_string()]);
    assert_eq!(output.status.code(), Some(2), "{}", text(&output.stderr));
}

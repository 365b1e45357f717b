//! The verdict as an EAR: written for accepted and refused, read again, and checked by another implementation.

use std::path::Path;
use std::process::{Command, Output};

use serde_json::Value;
use tempfile::TempDir;
use testkit::vectors::path;

use crate::text;

const QUOTE: &str = "negatives/tdx4-ok.quote";
const COLLATERAL: &str = "negatives/tdx4-ok.collateral.json";
const AT: &str = "2025-07-04T10:16:31Z";
const NONCE: &str = "0102030405060708";

fn bailey(folder: &TempDir, arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_bailey"))
        .args(arguments)
        .current_dir(folder.path())
        .output()
        .expect("bailey runs")
}

/// Verifies the quote with these words more, and gives the exit code.
fn verify(folder: &TempDir, more: &[&str]) -> (Option<i32>, Output) {
    let (quote, collateral) = (path(QUOTE).display().to_string(), path(COLLATERAL).display().to_string());
    let start = ["evidence", "verify", &quote, "--endorsements", &collateral, "--at", AT];
    let output = bailey(folder, &[&start[..], more].concat());
    (output.status.code(), output)
}

fn result(folder: &TempDir, file: &str, more: &[&str]) -> (Option<i32>, Value, String) {
    let start = ["evidence", "result", "verify", file, "--key", "verifier.key.pub", "--json"];
    let output = bailey(folder, &[&start[..], more].concat());
    let claims = serde_json::from_slice(&output.stdout).unwrap_or(Value::Null);
    (output.status.code(), claims, text(&output.stderr))
}

const EAR: [&str; 6] = ["--ear", "result.ear", "--ear-key", "verifier.key", "--ear-nonce", NONCE];

#[test]
fn an_accepted_verdict_is_signed_in_both_forms_and_they_say_the_same() {
    let folder = tempfile::tempdir().expect("a folder");
    let mut told = Vec::new();
    for format in ["jwt", "cwt"] {
        let (code, output) = verify(&folder, &[&EAR[..], &["--ear-format", format]].concat());
        assert_eq!(code, Some(0), "{}", text(&output.stderr));
        let (code, claims, complaint) = result(&folder, "result.ear", &["--at", AT, "--nonce", NONCE]);
        assert_eq!(code, Some(0), "{complaint}");
        assert_eq!(claims["ear_status"], "affirming");
        assert_eq!(claims["submods"]["tdx"]["ear_verifier_claims"]["verdict"], "accepted");
        let shown = bailey(&folder, &["evidence", "result", "show", "result.ear", "--json"]);
        assert_eq!(serde_json::from_slice::<Value>(&shown.stdout).expect("JSON"), claims);
        told.push(claims);
    }
    assert_eq!(told[0], told[1]);
}

#[test]
fn a_refusal_is_signed_too_and_no_result_to_rely_on() {
    let folder = tempfile::tempdir().expect("a folder");
    let wrong = "00".repeat(64);
    for format in ["jwt", "cwt"] {
        let words = [&EAR[..], &["--ear-format", format, "--report-data", &wrong]].concat();
        assert_eq!(verify(&folder, &words).0, Some(1));
        let (code, claims, complaint) = result(&folder, "result.ear", &["--at", AT]);
        assert_eq!(code, Some(1));
        assert!(complaint.contains("the verifier says contraindicated"), "{complaint}");
        let reasons = &claims["submods"]["tdx"]["ear_verifier_claims"]["reasons"];
        assert_eq!(reasons[0], "REPORT_DATA_MISMATCH");
    }
}

#[test]
fn s38_another_key_another_nonce_another_time_are_refused() {
    let folder = tempfile::tempdir().expect("a folder");
    assert_eq!(verify(&folder, &EAR).0, Some(0));
    let (code, _, complaint) = result(&folder, "result.ear", &["--at", AT, "--nonce", "0102030405060709"]);
    assert!(code == Some(1) && complaint.contains("expected nonce"), "{complaint}");
    // After the five minutes that it is good for; and today, without a time.
    for late in [&["--at", "2025-07-04T10:21:31Z"][..], &[]] {
        let (code, _, complaint) = result(&folder, "result.ear", late);
        assert!(code == Some(1) && complaint.contains("not valid now"), "{complaint}");
    }
    let other = ["--ear", "other.ear", "--ear-key", "other.key"];
    assert_eq!(verify(&folder, &other).0, Some(0));
    let (code, _, complaint) = result(&folder, "other.ear", &["--at", AT]);
    assert!(code == Some(1) && complaint.contains("not that of the expected key"), "{complaint}");
    // Not a token at all.
    std::fs::write(folder.path().join("no.ear"), "no token").expect("written");
    assert_eq!(result(&folder, "no.ear", &["--at", AT]).0, Some(2));
    let shown = bailey(&folder, &["evidence", "result", "show", "no.ear"]);
    assert_eq!(shown.status.code(), Some(2));
}

#[test]
fn a_token_needs_a_key_and_a_place() {
    let folder = tempfile::tempdir().expect("a folder");
    for words in [
        &["--ear", "result.ear"][..],
        &["--ear-key", "verifier.key"],
        &["--ear", "-", "--ear-key", "verifier.key", "--json"],
        &["--ear", "-", "--ear-key", "verifier.key", "--ear-nonce", "01"],
    ] {
        assert_eq!(verify(&folder, words).0, Some(2), "{words:?}");
    }
    let (code, output) = verify(&folder, &["--ear", "-", "--ear-key", "verifier.key"]);
    assert_eq!(code, Some(0));
    assert_eq!(text(&output.stdout).trim().split('.').count(), 3, "nothing but the token");
    assert!(text(&output.stderr).contains("accepted"));
}

/// Python and OpenSSL, which know nothing of our code, verify the signature and read the claims.
#[test]
fn another_implementation_verifies_the_jwt() {
    const SCRIPT: &str = r#"
import base64, json, sys
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import encode_dss_signature
part = lambda text: base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))
header, payload, signature = open("result.ear").read().strip().split(".")
assert json.loads(part(header))["alg"] == "ES256"
raw = part(signature)
assert len(raw) == 64
signature = encode_dss_signature(int.from_bytes(raw[:32], "big"), int.from_bytes(raw[32:], "big"))
key = serialization.load_pem_public_key(open("verifier.key.pub", "rb").read())
key.verify(signature, (header + "." + payload).encode(), ec.ECDSA(hashes.SHA256()))
claims = json.loads(part(payload))
print(claims["eat_profile"], claims["ear_status"], claims["exp"] - claims["iat"])
"#;
    let has_library = Command::new("python3").args(["-c", "import cryptography"]).output();
    if !has_library.is_ok_and(|output| output.status.success()) {
        eprintln!("no python3 with its library cryptography here: nothing checked");
        return;
    }
    let folder = tempfile::tempdir().expect("a folder");
    assert_eq!(verify(&folder, &EAR).0, Some(0));
    let python = |folder: &Path| {
        Command::new("python3").args(["-c", SCRIPT]).current_dir(folder).output().expect("python runs")
    };
    let output = python(folder.path());
    assert!(output.status.success(), "{}", text(&output.stderr));
    assert_eq!(text(&output.stdout), "tag:ietf.org,2026:rats/ear#04 affirming 300\n");
    let file = folder.path().join("result.ear");
    let token = std::fs::read_to_string(&file).expect("a token");
    std::fs::write(&file, token.replacen("ey", "ez", 2)).expect("written");
    assert!(!python(folder.path()).status.success());
}

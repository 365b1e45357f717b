//! The command line as a user runs it: exit codes, what is said, and where it is said.

use std::{
    path::{Path, PathBuf},
    process::{Command, Output},
};

use serde_json::Value;

#[path = "it/database_commands.rs"]
mod database_commands;
#[path = "it/database_failover.rs"]
mod database_failover;
#[path = "it/database_marble.rs"]
mod database_marble;
#[path = "it/database_rules.rs"]
mod database_rules;
#[path = "it/deploy.rs"]
mod deploy;
#[path = "it/ear.rs"]
mod ear;
#[path = "it/endorsements.rs"]
mod endorsements;
#[path = "it/guest.rs"]
mod guest;
#[path = "it/host.rs"]
mod host;
#[path = "it/machine.rs"]
mod machine;
#[path = "it/machine_marble.rs"]
mod machine_marble;
#[path = "it/marbles.rs"]
mod marbles;
#[path = "it/package.rs"]
mod package;
#[path = "it/ra_tls.rs"]
mod ra_tls;
#[path = "it/receipt.rs"]
mod receipt;
#[path = "it/token.rs"]
mod token;
#[path = "it/wrap.rs"]
mod wrap;

fn bailey(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_bailey")).args(arguments).output().expect("bailey runs")
}

fn vectors() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../crates/appraisal/tests/vectors")
}

/// The file in a folder of the vectors whose name contains `part`.
fn vector(folder: &str, part: &str) -> String {
    let mut found: Vec<_> = std::fs::read_dir(vectors().join(folder))
        .expect("vectors")
        .map(|entry| entry.expect("an entry").path().display().to_string())
        .filter(|path| path.contains(part))
        .collect();
    found.sort();
    found.first().unwrap_or_else(|| panic!("no {part} in {folder}")).clone()
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

fn verify(quote: &str, endorsements: &str, at: &str, more: &[&str]) -> (i32, Value) {
    let mut arguments =
        vec!["evidence", "verify", quote, "--endorsements", endorsements, "--at", at, "--json"];
    arguments.extend(more);
    let output = bailey(&arguments);
    let json = serde_json::from_slice(&output.stdout).unwrap_or(Value::Null);
    (output.status.code().expect("an exit code"), json)
}

/// The same quote under three sets of real collateral of one day, which differ in their evaluation number.
#[test]
fn one_quote_three_verdicts() {
    let quote = vector("sgx", "268c06");
    let at = "2025-06-20T00:00:00Z";
    for (evaluation, code, status) in
        [("1230-e17", 0, "SWHardeningNeeded"), ("1142-e18", 1, "OutOfDate"), ("1230-e19", 1, "OutOfDate")]
    {
        let bundle = vector("bundles", &format!("sgx-268c0681-20250606T{evaluation}"));
        let (exit, verdict) = verify(&quote, &bundle, at, &[]);
        assert_eq!((exit, verdict["tcb"]["status"].as_str()), (code, Some(status)), "{evaluation}");
        assert_eq!(verdict["verdict"], if code == 0 { "accepted" } else { "refused" });
        assert_eq!(verdict["emulated"], false);
        assert_eq!(verdict["workload_checked"], false);
    }
}

#[test]
fn real_snp_evidence_with_a_folder_of_endorsements() {
    let folder = vectors().join("amd-collateral").display().to_string();
    let report = vector("snp", "oak-milan_oc_release");
    let (exit, verdict) = verify(&report, &folder, "2025-01-16T21:21:54Z", &[]);
    assert_eq!((exit, verdict["platform"].as_str()), (0, Some("snp")), "{verdict}");
    // The same under the policy for production: AMD's CRL is missing or old, and Milan's seeds are out.
    let strict = tempfile::NamedTempFile::new().expect("a file");
    std::fs::write(strict.path(), "{}").expect("written");
    let (exit, verdict) =
        verify(&report, &folder, "2025-01-16T21:21:54Z", &["--policy", &strict.path().display().to_string()]);
    assert_eq!(exit, 1);
    let codes: Vec<_> =
        verdict["reasons"].as_array().expect("reasons").iter().map(|reason| &reason["code"]).collect();
    assert!(codes.iter().any(|code| code.as_str().is_some_and(|code| code.starts_with("CRL_"))), "{codes:?}");
}

#[test]
fn report_data_and_time_are_checked() {
    let quote = vector("sgx", "268c06");
    let bundle = vector("bundles", "sgx-268c0681-20250606T1230-e17");
    let (exit, verdict) =
        verify(&quote, &bundle, "2025-06-20T00:00:00Z", &["--report-data", &"00".repeat(64)]);
    assert_eq!((exit, verdict["reasons"][0]["code"].as_str()), (1, Some("REPORT_DATA_MISMATCH")));
    let (exit, _) = verify(&quote, &bundle, "2035-06-20T00:00:00Z", &[]);
    assert_eq!(exit, 1, "expired collateral is refused");
}

#[test]
fn malformed_input_is_exit_code_2_with_a_sentence() {
    let quote = vector("tdx", "4b2319");
    let short = tempfile::NamedTempFile::new().expect("a file");
    std::fs::write(short.path(), &std::fs::read(&quote).expect("a quote")[..500]).expect("written");
    let short = short.path().display().to_string();
    let huge = tempfile::NamedTempFile::new().expect("a file");
    huge.as_file().set_len(64 << 20).expect("a large file");
    let huge = huge.path().display().to_string();
    for arguments in [
        vec!["evidence", "verify", &short],
        vec!["evidence", "verify", &huge],
        vec!["evidence", "verify", "/nonexistent"],
        vec!["evidence", "show", &short],
        vec!["evidence", "verify", &quote, "--endorsements", &quote],
        vec!["evidence", "verify", &quote, "--at", "yesterday"],
        vec!["evidence", "verify", &quote, "--report-data", "0g"],
        vec!["evidence", "verify", &quote, "--policy", &quote],
        vec!["evidence", "verify", &quote, "--reference", &quote],
        vec!["evidence", "verify", &quote, "--root", &quote],
        vec!["manifest", "check", &quote],
        vec!["verify", "http://localhost", "--reference", &quote],
        vec!["verify", "https://localhost", "--reference", &quote],
        vec!["up", "/nonexistent"],
        vec!["no-such-command"],
    ] {
        let output = bailey(&arguments);
        let said = text(&output.stderr);
        assert_eq!(output.status.code(), Some(2), "{arguments:?}: {said}");
        assert!(said.starts_with("error: "), "{arguments:?}: {said}");
        assert!(!said.contains("panicked"), "{arguments:?}: {said}");
    }
}

#[test]
fn an_unreachable_coordinator_is_exit_code_1() {
    let folder = tempfile::tempdir().expect("a folder");
    let reference = folder.path().join("reference.json");
    let program = testkit::binary("bailey").display().to_string();
    let measured = bailey(&["measure", &program, "--label", "this"]);
    assert!(measured.status.success());
    std::fs::write(&reference, &measured.stdout).expect("written");
    let output = bailey(&["verify", "https://127.0.0.1:1", "--reference", &reference.display().to_string()]);
    assert_eq!(output.status.code(), Some(1));
    assert!(text(&output.stderr).contains("cannot be reached"), "{}", text(&output.stderr));
}

#[test]
fn a_manifest_with_faults_names_all_of_them() {
    let file = tempfile::NamedTempFile::new().expect("a file");
    std::fs::write(file.path(), "Packages: { a: { UniqeID: x } }\nMarbels: {}\n").expect("written");
    let output = bailey(&["manifest", "check", &file.path().display().to_string()]);
    let said = text(&output.stderr);
    assert_eq!(output.status.code(), Some(2));
    assert!(said.contains("did you mean `UniqueID`?") && said.contains("did you mean `Marbles`?"), "{said}");
}

#[test]
fn a_reader_that_goes_away_is_no_panic() {
    let quote = vector("tdx", "4b2319");
    let program = testkit::binary("bailey");
    let script = format!("{} evidence show {quote} --json | true", program.display());
    let output = Command::new("sh").args(["-c", &script]).output().expect("sh runs");
    assert!(!text(&output.stderr).contains("panicked"), "{}", text(&output.stderr));
}

#[test]
fn a_policy_in_rego_narrows() {
    let quote = vector("negatives", "tdx4-ok.quote");
    let collateral = vector("negatives", "tdx4-ok.collateral");
    let at = "2025-07-04T10:16:31Z";
    let policy = |text: &str| {
        let file = tempfile::NamedTempFile::new().expect("a file");
        std::fs::write(file.path(), text).expect("written");
        let (exit, verdict) =
            verify(&quote, &collateral, at, &["--rego", &file.path().display().to_string()]);
        (exit, verdict["reasons"][0]["code"].as_str().unwrap_or_default().to_owned())
    };
    assert_eq!(policy("package bailey\nallow if input.platform == \"tdx\""), (0, String::new()));
    assert_eq!(policy("package bailey\nallow if input.platform == \"snp\""), (1, "REGO_DENIED".to_owned()));
    assert_eq!(policy("package bailey\nallow := http.send({})"), (2, String::new()));
}

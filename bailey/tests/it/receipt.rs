//! `bailey database receipt verify`: what somebody types who is shown an answer with its receipt.

use std::process::{Command, Output};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use database_receipt::{CertificateDer, Digest, Receipt, Statement, Table, VERSION};
use evidence::pem;
use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair, SigningKey as _};
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::text;

const MANIFEST: &str = "Name: banks\n";

/// A receipt, alone and with its answer, its root, another database's root and the manifest, in files.
fn files() -> TempDir {
    let folder = tempfile::tempdir().expect("a folder");
    let write = |name: &str, text: &str| std::fs::write(folder.path().join(name), text).expect("written");
    let mut params = CertificateParams::default();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    for name in ["other.pem", "root.pem"] {
        let key = KeyPair::generate().expect("a key");
        let root = params.self_signed(&key).expect("a root").der().clone();
        write(name, &pem::encode(&evidence::CertificateDer(root.to_vec())));
        let issuer = Issuer::new(params.clone(), key);
        let (answer, receipt) = answer(&issuer);
        write("receipt.json", &receipt.to_json().to_string());
        let answer = json!({ "Columns": answer.columns, "Rows": answer.rows, "Receipt": receipt.to_json() });
        write("answer.json", &answer.to_string());
    }
    write("manifest.yaml", MANIFEST);
    write("rubbish.json", "{}");
    folder
}

fn answer(issuer: &Issuer<'_, KeyPair>) -> (Table, Receipt) {
    let key = KeyPair::generate().expect("a key");
    let leaf = CertificateParams::new(vec!["localhost".into()]).expect("a name").signed_by(&key, issuer);
    let certificates = vec![CertificateDer::from(leaf.expect("a leaf").der().to_vec())];
    let answer = Table {
        columns: vec![("month".into(), "text".into()), ("rings".into(), "bigint".into())],
        rows: vec![vec![Some("2026-03".into()), Some("30".into())]],
    };
    let digest = |text: &str| Digest::of(text.as_bytes());
    let statement = Statement {
        version: VERSION,
        database: "banks".into(),
        first_manifest: digest("first"),
        manifest: digest(MANIFEST),
        epoch: 1,
        caller: "analyst".into(),
        certificate: digest("ada"),
        algorithm: "rings_by_month".into(),
        query: digest("SELECT"),
        module: None,
        arguments: vec!["5000".into()],
        answer: answer.digest(),
        data: Vec::new(),
        log_position: "0/16B3748".into(),
        epsilon: None,
        time: 1_800_000_000,
    };
    let signature = key.sign(&statement.signed_bytes()).expect("signed");
    (answer, Receipt { statement, certificates, signature })
}

fn verify(folder: &TempDir, file: &str, root: &str, more: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_bailey"));
    command.current_dir(folder).args(["database", "receipt", "verify", file, "--root", root]).args(more);
    command.output().expect("bailey runs")
}

#[test]
fn a_receipt_is_verified_with_its_answer_and_its_manifest() {
    let folder = files();
    let said = verify(&folder, "answer.json", "root.pem", &["--manifest", "manifest.yaml"]);
    assert_eq!(said.status.code(), Some(0), "{}", text(&said.stderr));
    for line in
        ["answer     the one that the receipt is about", "algorithm  rings_by_month(5000)", "0/16B3748"]
    {
        assert!(text(&said.stdout).contains(line), "{}", text(&said.stdout));
    }
    let said = verify(&folder, "receipt.json", "root.pem", &["--json"]);
    let said: Value = serde_json::from_slice(&said.stdout).expect("JSON");
    assert_eq!((&said["verified"], &said["answer"]), (&json!(true), &json!(false)));
    assert_eq!(said["statement"]["Caller"], "analyst");
}

#[test]
fn what_is_not_the_databases_word_is_refused_by_code() {
    let folder = files();
    let written = std::fs::read_to_string(folder.path().join("answer.json")).expect("read");
    let mut changed: Value = serde_json::from_str(&written).expect("JSON");
    changed["Rows"][0][1] = json!("31");
    std::fs::write(folder.path().join("changed.json"), changed.to_string()).expect("written");
    changed = serde_json::from_str(&written).expect("JSON");
    changed["Receipt"]["Statement"]["Caller"] = json!("north");
    std::fs::write(folder.path().join("forged.json"), changed.to_string()).expect("written");
    changed = serde_json::from_str(&written).expect("JSON");
    changed["Receipt"]["Signature"] = json!(STANDARD.encode([0; 70]));
    std::fs::write(folder.path().join("unsigned.json"), changed.to_string()).expect("written");
    for (file, root, more, exit, code) in [
        ("answer.json", "other.pem", &[] as &[_], 1, "RECEIPT_CHAIN"),
        ("changed.json", "root.pem", &[], 1, "RECEIPT_OTHER_ANSWER"),
        ("forged.json", "root.pem", &[], 1, "RECEIPT_SIGNATURE"),
        ("unsigned.json", "root.pem", &[], 1, "RECEIPT_SIGNATURE"),
        ("answer.json", "root.pem", &["--manifest", "rubbish.json"], 1, "RECEIPT_OTHER_MANIFEST"),
        ("rubbish.json", "root.pem", &[], 2, "RECEIPT_MALFORMED"),
    ] {
        let said = verify(&folder, file, root, more);
        assert_eq!(said.status.code(), Some(exit), "{file}: {}", text(&said.stderr));
        assert!(text(&said.stderr).contains(code), "{file}: {}", text(&said.stderr));
    }
}

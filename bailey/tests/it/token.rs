//! `bailey token verify`: what a relying party types, with the root of a mesh or with its keys.

use std::process::{Command, Output};

use appraisal::UnixTime;
use attestation_result::{
    SigningKey,
    coco::{self, About, Issue, PROFILE, PublishedKey, SIGNER_OID},
};
use evidence::{CertificateDer, Platform, pem};
use rcgen::{
    BasicConstraints, CertificateParams, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair, KeyUsagePurpose,
};
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::text;

const ISSUED: &str = "2026-03-01T12:00:00Z";
const AUDIENCE: &str = "https://db.example";

fn params() -> CertificateParams {
    let mut params = CertificateParams::default();
    params.not_before = rcgen::date_time_ymd(2026, 1, 1);
    params.not_after = rcgen::date_time_ymd(2030, 1, 1);
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::DigitalSignature];
    params
}

/// A mesh's root and keys, and a token, in files; what the mesh is called.
fn files(emulated: bool) -> (TempDir, String) {
    let folder = tempfile::tempdir().expect("a folder");
    let write = |name: &str, text: &str| std::fs::write(folder.path().join(name), text).expect("written");
    let (root_key, pair) = (KeyPair::generate().expect("a key"), KeyPair::generate().expect("a key"));
    let mut params_of_root = params();
    params_of_root.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let root = params_of_root.self_signed(&root_key).expect("a root").der().clone();
    let mut leaf = params();
    leaf.extended_key_usages = vec![ExtendedKeyUsagePurpose::Other(SIGNER_OID.to_vec())];
    let by_root = Issuer::from_ca_cert_der(&root, root_key).expect("an issuer");
    let chain = vec![leaf.signed_by(&pair, &by_root).expect("a leaf").der().to_vec()];
    let key = SigningKey::from_pkcs8(&pair.serialize_der()).expect("a key");
    let issuer = coco::issuer_of(&root);
    let issued: UnixTime = ISSUED.parse().expect("a time");
    let claims = json!({
        "eat_profile": PROFILE,
        "submods": { "cpu0": {
            "ear.status": if emulated { "warning" } else { "affirming" },
            "ear.veraison.annotated-evidence": { "runtime_data_claims": { "tee-pubkey": { "kty": "EC" } } },
        } },
        "bailey": {
            "mesh": "aa", "epoch": 3, "manifest": "bb".repeat(32), "packages": ["kata"], "emulated": emulated,
        },
    });
    let about = About {
        tee: "snp".into(),
        platform: Some(Platform::Snp),
        init_data: Some(format!("sha256:{}", "cc".repeat(32))),
        emulated,
        attested: issued,
    };
    let issue = Issue {
        issuer: issuer.clone(),
        audiences: vec![issuer.clone(), AUDIENCE.into()],
        subject: format!("urn:bailey:session:{}", "dd".repeat(16)),
        id: "1".into(),
        issued,
        expires: UnixTime(issued.0 + 300),
        about,
    };
    let token = coco::sign(&claims, &issue, &key, &chain).expect("a token");
    write("token.jwt", &format!("{token}\n"));
    write("answer.json", &json!({ "token": token, "tee_keypair": "" }).to_string());
    write("root.pem", &pem::encode(&CertificateDer(root.to_vec())));
    write("jwks.json", &coco::jwks([PublishedKey { key: key.verifying_key(), chain }]).to_string());
    (folder, issuer)
}

fn verify(folder: &TempDir, arguments: &[&str]) -> (Option<i32>, Output) {
    let start = ["token", "verify", "--audience", AUDIENCE];
    let mut command = Command::new(env!("CARGO_BIN_EXE_bailey"));
    let output =
        command.args(start).args(arguments).current_dir(folder.path()).output().expect("bailey runs");
    (output.status.code(), output)
}

const SOON: [&str; 2] = ["--at", "2026-03-01T12:01:00Z"];

#[test]
fn a_token_is_verified_by_root_or_keys_and_says_who_what_and_until_when() {
    let (folder, issuer) = files(false);
    for file in ["token.jwt", "answer.json"] {
        let (code, output) = verify(&folder, &[&[file, "--root", "root.pem"][..], &SOON].concat());
        assert_eq!(code, Some(0), "{}", text(&output.stderr));
        let said = text(&output.stdout);
        for line in [
            &format!("{file}: issued by {issuer}"),
            "packages   kata",
            "platform   snp\n",
            "status     affirming",
            &format!("manifest   sha256:{}, epoch 3", "bb".repeat(32)),
            &format!("who        urn:bailey:session:{}", "dd".repeat(16)),
            "until      2026-03-01T12:05:00Z",
        ] {
            assert!(said.contains(line), "{line}: {said}");
        }
    }
    let by_keys = ["token.jwt", "--jwks", "jwks.json", "--issuer", &issuer, "--json"];
    let (code, output) = verify(&folder, &[&by_keys[..], &SOON].concat());
    assert_eq!(code, Some(0), "{}", text(&output.stderr));
    let said: Value = serde_json::from_slice(&output.stdout).expect("JSON");
    assert_eq!(said["packages"], json!(["kata"]));
    assert_eq!((&said["platform"], &said["emulated"]), (&json!("snp"), &json!(false)));
    assert_eq!(said["expires"], "2026-03-01T12:05:00Z");
    assert_eq!(said["key"], json!({ "kty": "EC" }));
}

#[test]
fn what_is_not_to_be_believed_is_refused_with_code_and_remedy() {
    let (folder, issuer) = files(false);
    let (other, _) = files(false);
    std::fs::copy(other.path().join("root.pem"), folder.path().join("other.pem")).expect("copied");
    let late = ["--at", "2026-03-01T12:05:00Z"];
    for (arguments, when, code) in [
        (vec!["token.jwt", "--root", "other.pem"], SOON, "ATTESTATION_TOKEN_CHAIN"),
        (vec!["token.jwt", "--root", "root.pem"], late, "ATTESTATION_TOKEN_EXPIRED"),
        (vec!["token.jwt", "--jwks", "jwks.json", "--issuer", "urn:x"], SOON, "ATTESTATION_TOKEN_ISSUER"),
        (vec!["token.jwt", "--root", "root.pem", "--audience", "me"], SOON, "ATTESTATION_TOKEN_AUDIENCE"),
    ] {
        let mut words = vec!["token", "verify"];
        if !arguments.contains(&"--audience") {
            words.extend(["--audience", AUDIENCE]);
        }
        words.extend(arguments);
        words.extend(when);
        let output = Command::new(env!("CARGO_BIN_EXE_bailey"))
            .args(&words)
            .current_dir(folder.path())
            .output()
            .expect("bailey runs");
        let said = text(&output.stderr);
        assert_eq!(output.status.code(), Some(1), "{said}");
        assert!(said.contains(code) && said.contains("hint:"), "{said}");
    }
    let (emulated, _) = files(true);
    let by_root = ["token.jwt", "--root", "root.pem"];
    let (code, output) = verify(&emulated, &[&by_root[..], &SOON].concat());
    assert_eq!(code, Some(1));
    assert!(text(&output.stderr).contains("--emulated"), "{}", text(&output.stderr));
    let (code, output) = verify(&emulated, &[&by_root[..], &SOON, &["--emulated"]].concat());
    assert_eq!(code, Some(0), "{}", text(&output.stderr));
    assert!(text(&output.stdout).contains("platform   snp, emulated: it proves nothing"));
    // Malformed, or too little to verify by.
    for arguments in [
        vec!["root.pem", "--root", "root.pem"],
        vec!["token.jwt", "--root", "token.jwt"],
        vec!["token.jwt", "--jwks", "root.pem", "--issuer", &issuer],
        vec!["token.jwt", "--jwks", "jwks.json"],
        vec!["token.jwt"],
    ] {
        assert_eq!(verify(&folder, &arguments).0, Some(2), "{arguments:?}");
    }
}

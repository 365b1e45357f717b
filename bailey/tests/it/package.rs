//! Packages by the command line, in the distribution project's registry.

use rcgen::{KeyPair, PKCS_ED25519};
use serde_json::Value;
use testkit::registry::{Registry, USER};

use crate::{bailey, text};

const WASM: &[u8] = b"\0asm\x01\0\0\0\0\x04\x03abc";

struct Folder(tempfile::TempDir);

impl Folder {
    fn write(&self, name: &str, bytes: &[u8]) -> String {
        let path = self.0.path().join(name);
        std::fs::write(&path, bytes).expect("a file");
        path.display().to_string()
    }

    fn path(&self, name: &str) -> String {
        self.0.path().join(name).display().to_string()
    }
}

#[test]
fn a_package_is_pushed_signed_inspected_and_pulled() {
    let Some(registry) = Registry::private() else { return };
    let folder = Folder(tempfile::tempdir().expect("a folder"));
    let root = folder.write("root.pem", registry.root_pem.as_bytes());
    let password = folder.write("password", format!("{}\n", USER.1).as_bytes());
    let wasm = folder.write("app.wasm", WASM);
    let config = folder.write("Keep.toml", b"args = [\"hello\"]\n");
    let pair = KeyPair::generate_for(&PKCS_ED25519).expect("a key");
    let key = folder.write("key.pem", pair.serialize_pem().as_bytes());
    let public = folder.write("key.pub", pair.public_key_pem().as_bytes());
    let repository = format!("{}/team/app", registry.host);
    let access = ["--root-ca", &root, "--username", USER.0, "--password-file", &password];
    let run = |words: &[&str]| bailey(&[&["package"], words, &access].concat());
    let json = |words: &[&str]| -> Value {
        let output = run(words);
        assert!(output.status.success(), "{}", text(&output.stderr));
        serde_json::from_slice(&output.stdout).expect("JSON")
    };

    let tagged = format!("{repository}:1.2.0");
    let pushed = json(&["push", &wasm, &tagged, "--config", &config, "--json"]);
    let package = pushed["package"].as_str().expect("a reference").to_owned();
    assert_eq!(pushed["version"], "1.2.0");
    // The same again is the same.
    let again = run(&["push", &wasm, &tagged, "--config", &config]);
    assert_eq!(text(&again.stdout).trim(), package);

    let out = folder.path("out.wasm");
    let pull = ["pull", &package, "--output", &out, "--signer", &public];
    let unsigned = run(&pull);
    assert_eq!(unsigned.status.code(), Some(1));
    assert!(text(&unsigned.stderr).contains("WORKLOAD_UNSIGNED"), "{}", text(&unsigned.stderr));
    // A tag alone is nothing to sign (S-29).
    assert_eq!(run(&["sign", &tagged, "--key", &key]).status.code(), Some(2));
    assert!(run(&["sign", &package, "--key", &key]).status.success());
    let pulled = json(&[&pull[..], &["--json", "--config", &folder.path("out.toml")]].concat());
    assert_eq!(
        (pulled["version"].as_str(), std::fs::read(&out).expect("the workload")),
        (Some("1.2.0"), WASM.to_vec())
    );
    assert_eq!(std::fs::read(folder.path("out.toml")).expect("the file"), b"args = [\"hello\"]\n");
    let newer = run(&[&pull[..], &["--minimum-version", "1.2.1"]].concat());
    assert!(text(&newer.stderr).contains("WORKLOAD_VERSION_TOO_LOW"), "{}", text(&newer.stderr));

    let seen = json(&["inspect", &tagged, "--signer", &public, "--json"]);
    assert_eq!(
        (&seen["signatures"][0]["counts"], &seen["version"]),
        (&Value::Bool(true), &Value::from("1.2.0"))
    );
    let stranger = json(&["inspect", &tagged, "--json"]);
    assert_eq!(stranger["signatures"][0]["code"], "STATEMENT_SIGNER_UNKNOWN");
    let table = text(&run(&["inspect", &tagged, "--signer", &public]).stdout);
    for word in ["1.2.0", "in the package", "signature", &repository] {
        assert!(table.contains(word), "{table}");
    }

    let kek = folder.write("kek", &[7; 32]);
    let sealed = format!("{repository}:2.0.0");
    let name = ["--encryption-key", "kbs:///default/key/app", "--key-file", &kek];
    let pushed = json(&[&["push", &wasm, &sealed, "--json"][..], &name].concat());
    let sealed = pushed["package"].as_str().expect("a reference");
    assert_eq!(json(&["inspect", sealed, "--json"])["encryptedBy"][0], "kbs:///default/key/app");
    let closed = run(&["pull", sealed, "--output", &out]);
    assert!(text(&closed.stderr).contains("WORKLOAD_KEY_NOT_OPENED"), "{}", text(&closed.stderr));
    assert!(run(&["pull", sealed, "--output", &out, "--key-file", &kek]).status.success());
    assert_eq!(std::fs::read(&out).expect("the workload"), WASM);
}

#[test]
fn what_is_no_package_is_malformed_input() {
    let folder = Folder(tempfile::tempdir().expect("a folder"));
    let (wasm, script) = (folder.write("app.wasm", WASM), folder.write("app.sh", b"#!/bin/sh\n"));
    let broken = folder.write("Keep.toml", b"arguments = 1\n");
    for words in [
        &["push", &wasm, "localhost/app"][..],
        &["push", &wasm, "localhost/app:latest"],
        &["push", &wasm, "localhost/app:1.0.0+build"],
        &["push", &wasm, "app:1.0.0"],
        &["push", &script, "localhost/app:1.0.0"],
        &["push", &wasm, "localhost/app:1.0.0", "--config", &broken],
        &[
            "pull",
            "localhost/app",
            "--plain-http",
            "--username",
            "a",
            "--password-file",
            &wasm,
            "--output",
            "x",
        ],
    ] {
        let output = bailey(&[&["package"], words].concat());
        assert_eq!(output.status.code(), Some(2), "{words:?}: {}", text(&output.stderr));
    }
    let unreachable = bailey(&["package", "inspect", "localhost:1/app", "--plain-http"]);
    assert_eq!(unreachable.status.code(), Some(1));
    assert!(text(&unreachable.stderr).contains("REGISTRY_UNREACHABLE"));
}

/// The image of a guest: what is missing is said with what would make it.
#[test]
fn folders_that_hold_no_image_and_no_parts_are_malformed_input() {
    let folder = Folder(tempfile::tempdir().expect("a folder"));
    let (nowhere, out) = (folder.path("nowhere"), folder.path("out"));
    for (words, hint) in [
        (&["build", &nowhere, "--out", &out][..], "cargo xtask tools"),
        (&["measure", &nowhere], "bailey image build"),
    ] {
        let output = bailey(&[&["image"], words].concat());
        let said = text(&output.stderr);
        assert!(output.status.code() == Some(2) && said.contains("hint:") && said.contains(hint), "{said}");
    }
}

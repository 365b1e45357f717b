//! `bailey reference` as a user runs it: what it prints is what `bailey evidence verify --reference` reads.

use std::{
    path::{Path, PathBuf},
    process::{Command, Output},
};

use serde_json::Value;

fn bailey(arguments: &[&str]) -> Output {
    Command::new(testkit::binary("bailey")).args(arguments).output().expect("bailey runs")
}

fn crates() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../crates")
}

fn artefact(name: &str) -> String {
    crates().join("reference/tests/vectors").join(name).display().to_string()
}

fn vector(name: &str) -> String {
    crates().join("appraisal/tests/vectors").join(name).display().to_string()
}

/// The one reference value that is printed.
fn printed(arguments: &[&str]) -> Value {
    let output = bailey(arguments);
    assert!(output.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
    let json: Value = serde_json::from_slice(&output.stdout).expect("JSON");
    json["reference_values"][0].clone()
}

fn codes(arguments: &[&str]) -> Vec<String> {
    let json: Value = serde_json::from_slice(&bailey(arguments).stdout).expect("a verdict");
    assert_eq!(json["workload_checked"], true, "{json}");
    let reasons = json["reasons"].as_array().expect("reasons");
    reasons.iter().map(|reason| reason["code"].as_str().expect("a code").to_owned()).collect()
}

#[test]
fn uki_prints_what_systemd_measure_prints() {
    let published: Value =
        serde_json::from_slice(&std::fs::read(artefact("uki/systemd-measure.json")).expect("read"))
            .expect("JSON");
    let image = artefact("uki/bailey.efi");
    for (row, phase) in ["enter-initrd", "leave-initrd", "sysinit", "ready"].into_iter().enumerate() {
        let value = printed(&["reference", "uki", &image, "--phase", phase, "--bank", "sha384"]);
        assert_eq!(value["registers"]["pcr11.sha384"], published["sha384"][row]["hash"], "{phase}");
        assert_eq!((&value["label"], &value["platform"]), (&"bailey.efi".into(), &"tpm".into()));
    }
    let loader = artefact("uki/kernel.signed.efi");
    let all = printed(&[
        "reference",
        "uki",
        &image,
        "--pcr4",
        "loaded",
        "--boot-loader",
        &loader,
        "--command-line",
        "quiet",
        "--bank",
        "sha1",
        "--bank",
        "sha256",
        "--platform",
        "azure-tdx",
    ]);
    assert_eq!(all["registers"].as_object().map(|registers| registers.len()), Some(6));
    let started = printed(&["reference", "uki", &image, "--pcr4", "started"]);
    assert_ne!(started["registers"]["pcr4.sha256"], all["registers"]["pcr4.sha256"]);
}

/// Firmware as its publisher has it; `reference/tests/tdx.rs` says what the short form is.
fn firmware(folder: &Path) -> String {
    let pages = std::fs::read(artefact("tdx/ubuntu-OVMF-2025.02-8ubuntu3.pages")).expect("read");
    let (mut firmware, mut rest) = (Vec::new(), &pages[..]);
    while let Some((kind, after)) = rest.split_first() {
        let (page, after) = if *kind == 1 { after.split_at(4096) } else { (&[*kind; 4096][..], after) };
        firmware.extend_from_slice(page);
        rest = after;
    }
    let path = folder.join("OVMF.fd");
    std::fs::write(&path, firmware).expect("written");
    path.display().to_string()
}

#[test]
fn tdx_prints_what_a_real_quote_has() {
    let folder = tempfile::tempdir().expect("a folder");
    let firmware = firmware(folder.path());
    let output = bailey(&["reference", "tdx", "--firmware", &firmware]);
    let reference = folder.path().join("reference.json").display().to_string();
    std::fs::write(&reference, &output.stdout).expect("written");
    let quote = vector("tdx/attestation-rs-tdx_quote_live.dat.quote-v4-tdx-3ab56d.bin");
    let mine = codes(&["evidence", "verify", &quote, "--reference", &reference, "--json"]);
    assert!(!mine.contains(&"MEASUREMENT_MISMATCH".to_owned()), "{mine:?}");
    let other = vector("tdx/dcap-qvl-quote-from-tappd.quote-v4-tdx-32f070.bin");
    let others = codes(&["evidence", "verify", &other, "--reference", &reference, "--json"]);
    assert!(others.contains(&"MEASUREMENT_MISMATCH".to_owned()), "{others:?}");

    let kernel = artefact("uki/kernel.efi");
    let direct = |hint| {
        printed(&[
            "reference",
            "tdx",
            "--firmware",
            &firmware,
            "--kernel",
            &kernel,
            "--initrd",
            &kernel,
            "--command-line",
            "quiet",
            "--initrd-hint",
            hint,
        ])
    };
    let (before, after) = (direct("before"), direct("after"));
    assert_eq!(before["registers"]["rtmr1"], after["registers"]["rtmr1"]);
    assert_ne!(before["registers"]["rtmr2"], after["registers"]["rtmr2"]);
}

#[test]
fn sgx_prints_what_the_author_signed() {
    let file = artefact("sgx/encl.ss");
    let enclave = printed(&["reference", "sgx", &file]);
    assert_eq!(enclave["measurement"], "b999536238fcf4e9d360ef6cd3e0c20ef8a684c7b93f74a9c4a4c6d517d61fc0");
    let signer = printed(&["reference", "sgx", &file, "--by", "signer"]);
    assert_eq!((&signer["measurement"], &signer["minimum"]["isv_svn"]), (&Value::Null, &0.into()));
    assert!(signer["registers"]["mrsigner"].is_string());

    let folder = tempfile::tempdir().expect("a folder");
    let altered = folder.path().join("altered.sig");
    let mut bytes = std::fs::read(&file).expect("read");
    bytes[970] ^= 1;
    std::fs::write(&altered, bytes).expect("written");
    let output = bailey(&["reference", "sgx", &altered.display().to_string()]);
    assert_eq!(output.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&output.stderr).contains("sign the enclave again"));
}

#[test]
fn a_corim_is_read_where_its_signer_is_named_or_the_caller_vouches_for_it() {
    let corim = vector("corim/services-corim-sevsnp-valid.cbor");
    let report = vector("composite/services-sevsnp-tsm-report.json");
    let refused = bailey(&["evidence", "verify", &report, "--reference", &corim]);
    let said = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert_eq!(refused.status.code(), Some(2));
    assert!(said.contains("not signed") && said.contains("--unsigned-reference"), "{said}");

    let mine =
        codes(&["evidence", "verify", &report, "--reference", &corim, "--unsigned-reference", "--json"]);
    assert!(!mine.contains(&"MEASUREMENT_MISMATCH".to_owned()), "{mine:?}");
    let value = printed(&["reference", "corim", &corim, "--unsigned-reference"]);
    assert_eq!((&value["platform"], value["measurement"].as_str().map(str::len)), (&"snp".into(), Some(96)));
}

#[test]
fn artefacts_of_another_kind_are_exit_code_2_with_a_cause() {
    let (quote, kernel) =
        (vector("tdx/dcap-qvl-quote-from-tappd.quote-v4-tdx-32f070.bin"), artefact("uki/kernel.efi"));
    for arguments in [
        vec!["reference", "uki", &quote],
        vec!["reference", "uki", &kernel],
        vec!["reference", "uki", &kernel, "--platform", "sgx"],
        vec!["reference", "uki", &kernel, "--boot-loader", &kernel],
        vec!["reference", "tdx", "--firmware", &kernel],
        vec!["reference", "tdx", "--firmware", &kernel, "--kernel", &kernel],
        vec!["reference", "sgx", &kernel],
        vec!["reference", "corim", &quote],
        vec!["reference", "corim", &kernel, "--reference-signer", &kernel],
        vec!["reference", "snp", "--firmware", &kernel],
        vec!["reference", "uki", "/nonexistent"],
    ] {
        let output = bailey(&arguments);
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(2), "{arguments:?}: {said}");
        assert!(said.starts_with("error: ") && !said.contains("panicked"), "{arguments:?}: {said}");
    }
}

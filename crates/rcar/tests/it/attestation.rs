//! Attestations of each version, and what their Evidence must cover.

use std::path::Path;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use evidence::{Evidence, Platform, coco};
use rcar::{
    Attestation, Content, HashAlgorithm, Invalid, KeyAlgorithm, MAX_ATTESTATION, Opened, PrivateKey, Tee,
    Version, canonical, fitted,
};
use serde_json::{Value, json};

const NONCE: &str = "pu0/rK3bKTz1hHRHTVYfwcVsGdJqPdXc9y0yFHVkvhw=";
const TOML: &str = "version = \"0.1.0\"\nalgorithm = \"sha384\"\n[data]\n";

fn vector(file: &str) -> Vec<u8> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../appraisal/tests/vectors").join(file);
    std::fs::read(&path).unwrap_or_else(|error| panic!("{file}: {error}"))
}

fn opened(version: Version, tee: Tee) -> Opened {
    Opened { version, tee, nonce: NONCE.into() }
}

fn key() -> Value {
    PrivateKey::generate(KeyAlgorithm::EcdhP256).expect("a key").public().to_json().clone()
}

fn rsa_key() -> Value {
    let mut key = PrivateKey::generate(KeyAlgorithm::RsaOaep256).expect("a key").public().to_json().clone();
    key["alg"] = "RSA1_5".into();
    key
}

fn todays(key: &Value, additional: &str) -> Value {
    json!({
        "init-data": null,
        "runtime-data": { "nonce": NONCE, "tee-pubkey": key },
        "tee-evidence": { "primary_evidence": { "svn": "1", "report_data": "" }, "additional_evidence": additional },
    })
}

fn parse(body: &Value, opened: &Opened) -> Result<Attestation, Invalid> {
    Attestation::parse(body.to_string().as_bytes(), opened)
}

fn sha384(text: &str) -> Vec<u8> {
    HashAlgorithm::Sha384.digest(text.as_bytes())
}

/// A report of the corpus with other report data: its signature is wrong, which nothing here looks at.
fn snp_that_covers(data: &[u8]) -> Evidence {
    let mut report = vector("snp/oak-genoa_oc_evidence.report-v5-6d1cef.bin");
    report[0x50..0x90].fill(0);
    report[0x50..0x50 + data.len()].copy_from_slice(data);
    Evidence::parse(&report).expect("a report")
}

#[test]
fn the_transcripts_of_todays_clients() {
    let key = key();
    let devices = r#"{"nvidia":{"device_evidence_list":[]}}"#;
    let attestation =
        parse(&todays(&key, devices), &opened(Version::V0_4_0, Tee::Snp)).expect("an attestation");
    let [cpu, gpu] = attestation.pieces() else { panic!("two pieces") };
    assert_eq!((cpu.tee(), gpu.tee()), (Tee::Snp, Tee::Nvidia));
    // By hand, as RFC 8785 has it: members in order, nothing between.
    let text = format!(
        r#"{{"nonce":"{NONCE}","tee-pubkey":{{"alg":"ECDH-ES+A256KW","crv":"P-256","kty":"EC","x":{},"y":{}}}}}"#,
        key["x"], key["y"]
    );
    assert_eq!(gpu.digest().as_bytes(), sha384(&text));
    let text = format!(r#"{{"additional-evidence":{},{}"#, canonical(&json!(devices)), &text[1..]);
    assert_eq!(cpu.digest().as_bytes(), sha384(&text));
    assert_eq!(attestation.additional_evidence(), devices);
    // Without devices the member is there and empty.
    let attestation = parse(&todays(&key, ""), &opened(Version::V0_4_0, Tee::Tdx)).expect("an attestation");
    let text = text.replacen(&canonical(&json!(devices)), "\"\"", 1);
    assert_eq!(attestation.pieces()[0].digest().as_bytes(), sha384(&text));
}

#[test]
fn the_transcripts_of_older_clients() {
    let key = rsa_key();
    let plain = json!({ "tee-pubkey": key, "tee-evidence": "{\"svn\":\"1\",\"report_data\":\"\"}" });
    let simple = sha384(&canonical(&json!({ "nonce": NONCE, "tee-pubkey": key })));
    let row = sha384(&format!("{NONCE}{}{}", key["n"].as_str().expect("n"), key["e"].as_str().expect("e")));
    for version in [Version::V0_1_0, Version::V0_1_1, Version::V0_2_0, Version::V0_3_0] {
        let attestation = parse(&plain, &opened(version, Tee::Snp)).expect("an attestation");
        let digest = attestation.pieces()[0].digest();
        let accepts = |data: &[u8]| {
            let evidence = snp_that_covers(data);
            digest.expected(&evidence) == evidence.covered()
        };
        assert!(accepts(&simple), "{version}");
        assert_eq!(accepts(&row), version < Version::V0_2_0, "{version}");
        assert!(!accepts(&sha384(NONCE)), "{version}");
    }
    // The names of the first clients: hashed in a row they are the same, as JSON they are as sent.
    let old = json!({ "kty": "RSA", "alg": "RSA1_5", "k-mod": key["n"], "k-exp": key["e"] });
    let body = json!({ "tee-pubkey": old, "tee-evidence": "{}" });
    let attestation = parse(&body, &opened(Version::V0_1_0, Tee::Snp)).expect("an attestation");
    let evidence = snp_that_covers(&row);
    assert_eq!(attestation.pieces()[0].digest().expected(&evidence), evidence.covered());
    // Runtime data apart, with the Evidence itself or in today's form.
    let runtime = json!({ "nonce": NONCE, "tee-pubkey": key });
    for tee_evidence in [json!({}), json!({ "primary_evidence": {}, "additional_evidence": "" })] {
        let body = json!({ "runtime-data": runtime, "tee-evidence": tee_evidence });
        let attestation = parse(&body, &opened(Version::V0_3_0, Tee::Snp)).expect("an attestation");
        let evidence = snp_that_covers(&simple);
        assert_eq!(attestation.pieces()[0].digest().expected(&evidence), evidence.covered());
        assert_eq!(attestation.pieces()[0].json(), "{}");
    }
}

#[test]
fn s43_a_boundary_between_modulus_and_exponent_cannot_move() {
    // In version 0.1.x they were hashed in a row. Another key with the same row needs another exponent.
    let key = rsa_key();
    let (n, e) = (key["n"].as_str().expect("n"), key["e"].as_str().expect("e"));
    for cut in [1, 2, 4, 40] {
        let (n, e) = (&n[..n.len() - cut], format!("{}{e}", &n[n.len() - cut..]));
        let moved = json!({ "kty": "RSA", "alg": "RSA1_5", "n": n, "e": e });
        let body = json!({ "tee-pubkey": moved, "tee-evidence": "{}" });
        let refused = parse(&body, &opened(Version::V0_1_0, Tee::Snp));
        assert!(matches!(refused, Err(Invalid::Key(_))), "{cut}");
    }
}

#[test]
fn digests_are_fitted_to_the_field_of_the_platform() {
    let digest = sha384("x");
    for (platform, length) in [
        (Platform::Sgx, 64),
        (Platform::Tdx, 64),
        (Platform::Snp, 64),
        (Platform::Cca, 64),
        (Platform::Tpm, 32),
        (Platform::Nvidia, 32),
        (Platform::AzureSnp, 48),
        (Platform::AzureTdx, 48),
    ] {
        let fitted = fitted(&digest, platform);
        let same = length.min(48);
        assert_eq!((fitted.len(), &fitted[..same]), (length, &digest[..same]), "{platform}");
        assert!(fitted[same..].iter().all(|&byte| byte == 0), "{platform}");
    }
}

#[test]
fn what_evidence_does_not_cover_is_still_what_is_expected() {
    let attestation = parse(&todays(&key(), ""), &opened(Version::V0_4_0, Tee::Snp)).expect("an attestation");
    let digest = attestation.pieces()[0].digest();
    let other = snp_that_covers(&sha384("another key"));
    assert_ne!(digest.expected(&other), other.covered());
    let cut = snp_that_covers(&digest.as_bytes()[..32]);
    assert_ne!(digest.expected(&cut), cut.covered());
    let right = snp_that_covers(digest.as_bytes());
    assert_eq!(digest.expected(&right), right.covered());
    assert!(
        digest.is_in_sample(digest.as_bytes())
            && digest.is_in_sample(&fitted(digest.as_bytes(), Platform::Snp))
    );
    assert!(!digest.is_in_sample(&digest.as_bytes()[..32]) && !digest.is_in_sample(&[]));
}

#[test]
fn a_nonce_of_another_session_is_refused() {
    let mut body = todays(&key(), "");
    body["runtime-data"]["nonce"] = "AAAA".into();
    assert_eq!(parse(&body, &opened(Version::V0_4_0, Tee::Snp)).expect_err("refused"), Invalid::Nonce);
}

#[test]
fn evidence_is_read_and_must_be_what_it_was_announced_as() {
    let mut body = todays(&key(), "");
    body["tee-evidence"]["primary_evidence"] =
        serde_json::from_slice(&vector("composite/trustee-evidence.json")).expect("JSON");
    for tee in Tee::ALL {
        let attestation = parse(&body, &opened(Version::V0_4_0, tee)).expect("an attestation");
        let read = attestation.pieces()[0].read();
        match tee {
            Tee::Snp => {
                let Ok(Content::Evidence(conveyed)) = read else { panic!("{read:?}") };
                assert_eq!((conveyed.evidence.len(), conveyed.stapled.is_empty()), (1, false));
            }
            Tee::Csv | Tee::HygonDcu | Tee::NvidiaDpu | Tee::Se => {
                assert_eq!(read, Err(Invalid::Unsupported { tee }));
            }
            _ => assert!(matches!(read, Err(Invalid::Evidence(_))), "{tee}"),
        }
    }
    let attestation =
        parse(&todays(&key(), ""), &opened(Version::V0_4_0, Tee::Sample)).expect("an attestation");
    assert!(matches!(attestation.pieces()[0].read(), Ok(Content::Sample(_))));
}

#[test]
fn init_data_comes_along_as_toml() {
    let mut body = todays(&key(), "");
    body["init-data"] = json!({ "format": "toml", "body": TOML });
    let attestation = parse(&body, &opened(Version::V0_4_0, Tee::Snp)).expect("an attestation");
    assert_eq!(attestation.init_data.expect("init-data").digest(), sha384(TOML));
    for wrong in [
        json!({ "format": "json", "body": "{}" }),
        json!({ "format": "toml", "body": "x" }),
        json!({ "format": "toml" }),
        json!({ "format": "toml", "body": TOML, "more": 1 }),
        json!(TOML),
    ] {
        body["init-data"] = wrong.clone();
        assert!(parse(&body, &opened(Version::V0_4_0, Tee::Snp)).is_err(), "{wrong}");
    }
}

#[test]
fn one_kind_of_device_once() {
    let opened = opened(Version::V0_4_0, Tee::Snp);
    for devices in [
        r#"{"nvidia":{},"nvidia":{}}"#,
        r#"{"nvidia-dpu":{},"nvidiadpu":{}}"#,
        r#"{"cpu":{}}"#,
        r#"[]"#,
        r#"{"nvidia":{}"#,
        "null",
        " ",
    ] {
        assert!(parse(&todays(&key(), devices), &opened).is_err(), "{devices}");
    }
    let every = format!("{{{}}}", Tee::ALL.map(|tee| format!("\"{tee}\":{{}}")).join(","));
    assert!(parse(&todays(&key(), &every), &opened).is_err());
    assert_eq!(
        parse(&todays(&key(), r#"{"nvidia":{},"tpm":{}}"#), &opened).expect("devices").pieces().len(),
        3
    );
}

#[test]
fn what_is_no_attestation_is_refused() {
    let opened = opened(Version::V0_4_0, Tee::Snp);
    let good = todays(&key(), "");
    assert!(parse(&good, &opened).is_ok());
    for path in [
        "/runtime-data",
        "/tee-evidence",
        "/runtime-data/nonce",
        "/runtime-data/tee-pubkey",
        "/tee-evidence/primary_evidence",
        "/tee-evidence/additional_evidence",
    ] {
        let (parent, name) = path.rsplit_once('/').expect("a path");
        let mut body = good.clone();
        body.pointer_mut(parent).and_then(Value::as_object_mut).expect("an object").remove(name);
        assert!(parse(&body, &opened).is_err(), "no {path}");
    }
    for parent in ["", "/runtime-data", "/tee-evidence"] {
        let mut body = good.clone();
        body.pointer_mut(parent).expect("an object")["more"] = 1.into();
        assert!(parse(&body, &opened).is_err(), "more in {parent}");
    }
    // Forms of older versions in a session of today's.
    let key = key();
    for body in [
        json!({ "tee-pubkey": key, "tee-evidence": good["tee-evidence"] }),
        json!({ "runtime-data": good["runtime-data"], "tee-evidence": {} }),
        json!({ "runtime-data": good["runtime-data"], "tee-pubkey": key, "tee-evidence": good["tee-evidence"] }),
    ] {
        assert!(parse(&body, &opened).is_err(), "{body}");
    }
    let text = good.to_string();
    let twice = text.replacen("\"nonce\":", "\"nonce\":\"x\",\"nonce\":", 1);
    assert!(Attestation::parse(twice.as_bytes(), &opened).is_err());
    assert!(Attestation::parse(format!("{text}{{}}").as_bytes(), &opened).is_err());
    let long = vec![b' '; MAX_ATTESTATION + 1];
    assert!(Attestation::parse(&long, &opened).expect_err("long").is_too_long());
    let deep = text.replacen("\"1\"", &format!("{}{}", "[".repeat(100_000), "]".repeat(100_000)), 1);
    let deep = Attestation::parse(deep.as_bytes(), &opened);
    assert!(deep.is_err() || deep.is_ok_and(|deep| deep.pieces()[0].read().is_err()));
}

/// The recorded quote with another nonce: its signature is wrong, which nothing here looks at.
fn tpm_that_covers(data: &[u8]) -> Evidence {
    let mut json: Value = serde_json::from_slice(&vector("tpm/trustee-tpm_evidence.json")).expect("JSON");
    let message =
        json["tpm_quote"]["message"].as_str().and_then(|text| STANDARD.decode(text).ok()).expect("base64");
    let old =
        coco::read(Platform::Tpm, json.to_string().as_bytes()).expect("Evidence").evidence[0].1.covered();
    let old = old.as_bytes();
    assert_eq!((old.len(), &old[48..]), (64, &[0; 16][..]), "a SHA-384 digest, filled");
    let at = message.windows(64).position(|window| window == old).expect("the nonce");
    let length = [0, data.len() as u8];
    let message = [&message[..at - 2], &length, data, &message[at + 64..]].concat();
    json["tpm_quote"]["message"] = STANDARD.encode(message).into();
    let conveyed = coco::read(Platform::Tpm, json.to_string().as_bytes()).expect("Evidence");
    conveyed.evidence[0].1.clone()
}

#[test]
fn tpm_attesters_fill_64_bytes_or_cut_to_32() {
    let attestation = parse(&todays(&key(), ""), &opened(Version::V0_4_0, Tee::Tpm)).expect("an attestation");
    let digest = attestation.pieces()[0].digest();
    let whole = digest.as_bytes();
    for (data, good) in [
        (fitted(whole, Platform::Tpm), true),
        (fitted(whole, Platform::Snp), true),
        (whole[..16].to_vec(), false),
        (vec![7; 32], false),
        (vec![7; 64], false),
    ] {
        let evidence = tpm_that_covers(&data);
        assert_eq!(digest.expected(&evidence) == evidence.covered(), good, "{} bytes", data.len());
    }
}

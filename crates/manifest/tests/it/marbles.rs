//! Marbles, their workloads and parameters.

use super::*;

#[test]
fn marbles_refer_to_what_exists() {
    for (pointer, value, expected) in [
        ("/Marbles/tally/Package", json!(""), "Marbles.tally.Package MISSING"),
        ("/Marbles/tally/Package", json!("kepp"), "Marbles.tally.Package UNKNOWN_REFERENCE"),
        ("/Marbles/tally/TLS", json!(["web"]), "Marbles.tally.TLS[0] UNKNOWN_REFERENCE"),
        ("/Marbles/tally/Peers", json!(["frontent"]), "Marbles.tally.Peers[0] UNKNOWN_REFERENCE"),
        ("/Marbles/frontend/Peers", json!(["tally"]), "Marbles.frontend.Peers CONFLICT"),
        ("/Marbles/tally/Access", json!("public"), "Marbles.tally.Access INVALID_VALUE"),
        ("/Marbles/tally/Log", json!("host"), "Marbles.tally.Log INVALID_VALUE"),
        ("/Marbles/tally/Names", json!(["frontend"]), "Marbles.tally.Names[0] CONFLICT"),
        ("/Marbles/tally/Names", json!(["*.example.org"]), "Marbles.tally.Names[0] INVALID_NAME"),
        ("/Marbles/tally/Names", json!(["a", "a"]), "Marbles.tally.Names[1] DUPLICATE_VALUE"),
        ("/Marbles/tally/DisableSecretBinding", json!(true), "Marbles.tally.DisableSecretBinding UNSAFE"),
        ("/Marbles/bad.name", json!({"Package": "keep"}), "Marbles[\"bad.name\"] INVALID_NAME"),
        ("/Marbles/TALLY", json!({"Package": "keep"}), "Marbles.tally DUPLICATE_VALUE"),
    ] {
        refused(keeps(), pointer, value, &[expected]);
    }
    let keep = keeps()["Marbles"]["tally"].clone();
    refused(keeps(), "/Marbles/not_a_host", keep, &["Marbles.not_a_host INVALID_NAME"]);
}

#[test]
fn s29_a_workload_is_named_by_digest() {
    let digits = "ab".repeat(32);
    for text in [
        "",
        "latest",
        &digits,
        &format!("sha256:{}", &digits[2..]),
        &format!("sha512:{digits}"),
        &format!("sha256:{}", digits.to_uppercase()),
    ] {
        let expected = ["Marbles.tally.Workload.Digest INVALID_VALUE"];
        refused(keeps(), "/Marbles/tally/Workload/Digest", json!(text), &expected);
    }
    for field in ["Limits", "Access", "Peers", "Log"] {
        let value = match field {
            "Limits" => json!({}),
            "Peers" => json!([]),
            "Access" => json!("Peers"),
            _ => json!("Host"),
        };
        let expected = format!("Marbles.frontend.{field} NOT_APPLICABLE");
        refused(marblerun(), &format!("/Marbles/frontend/{field}"), value, &[&expected]);
    }
}

#[test]
fn limits_have_units_and_ranges() {
    for (field, value) in [
        ("Memory", json!("64MB")),
        ("Memory", json!("0MiB")),
        ("CpuPerRequest", json!("1m")),
        ("ConcurrentRequests", json!(0)),
        ("ConcurrentRequests", json!(65_537)),
        ("BodySize", json!("1")),
    ] {
        let expected = format!("Marbles.tally.Limits.{field} INVALID_VALUE");
        refused(keeps(), &format!("/Marbles/tally/Limits/{field}"), value, &[&expected]);
    }
}

#[test]
fn s24_environment_that_chooses_code_is_refused() {
    let pointer = "/Marbles/frontend/Parameters";
    for name in
        ["LD_PRELOAD", "LD_LIBRARY_PATH", "PATH", "BASH_ENV", "DOCKER_HOST", "GLIBC_TUNABLES", "DYLD_X"]
    {
        let expected = format!("Marbles.frontend.Parameters.Env.{name} DANGEROUS_ENV");
        refused(marblerun(), pointer, json!({"Env": {name: "x"}}), &[&expected]);
    }
    for name in ["MARBLE_PREDEFINED_ROOT_CA", "MARBLE_TTLS_CONFIG"] {
        let expected = format!("Marbles.frontend.Parameters.Env.{name} RESERVED_ENV");
        refused(marblerun(), pointer, json!({"Env": {name: "x"}}), &[&expected]);
    }
    for name in ["", "A=B", "A B", "1A", "A\u{0}", "Ä"] {
        let found = faults(&with(marblerun(), pointer, json!({"Env": {name: "x"}})));
        assert!(found.len() == 1 && found[0].ends_with("INVALID_NAME"), "{name:?}: {found:?}");
    }
}

#[test]
fn parameters_are_decoded_and_bounded() {
    let env = |value: Value| with(marblerun(), "/Marbles/frontend/Parameters", json!({"Env": {"A": value}}));
    let at = "Marbles.frontend.Parameters.Env.A";
    for (value, expected) in [
        (json!({"Data": "aGk", "Encoding": "base64"}), format!("{at}.Data INVALID_VALUE")),
        (json!({"Data": "0", "Encoding": "hex"}), format!("{at}.Data INVALID_VALUE")),
        (json!({"Data": "x", "Encoding": "utf8"}), format!("{at}.Encoding INVALID_VALUE")),
        (json!({"Data": "00", "Encoding": "hex"}), format!("{at} INVALID_VALUE")),
        (json!({"Data": "a\u{0}b", "NoTemplates": true}), format!("{at} INVALID_VALUE")),
        (json!("{{ raw .Secrets.api_key }}"), format!("{at} TEMPLATE_FUNCTION")),
        (json!("{{ hex .Secrets.nothing }}"), format!("{at} TEMPLATE_REFERENCE")),
        (json!("{{ if true }}"), format!("{at} TEMPLATE_SYNTAX")),
        (json!({"Data": "e3sgeCB9fQ==", "Encoding": "base64"}), format!("{at} TEMPLATE_SYNTAX")),
    ] {
        assert_eq!(faults(&env(value.clone())), [expected], "{value}");
    }
    assert_eq!(faults(&env(json!({"Data": "{{ x }}", "NoTemplates": true}))), [""; 0]);
    for path in ["", "/", "/etc/", "../x", "/a/../b", "/a\nb"] {
        let found = faults(&with(marblerun(), "/Marbles/frontend/Parameters", json!({"Files": {path: "x"}})));
        assert!(found.len() == 1 && found[0].ends_with("INVALID_NAME"), "{path:?}: {found:?}");
    }
    let found = faults(&with(marblerun(), "/Marbles/frontend/Parameters", json!({"Argv": ["a", "b\u{0}"]})));
    assert_eq!(found, ["Marbles.frontend.Parameters.Argv[1] INVALID_VALUE"]);
}

#[test]
fn parameters_are_rendered() {
    let manifest = parse(&marblerun()).expect("a manifest");
    let parameters = &manifest.marble("backend_first").expect("a Marble").parameters;
    let values: BTreeMap<_, &[u8]> = [
        (".Secrets.shared_key", &b"\x01\xab"[..]),
        (".Secrets.api_key", &b"canary"[..]),
        (".MarbleRun.RootCA.Cert", &b"der"[..]),
    ]
    .into();
    assert_eq!(parameters.references().count(), 3);
    let rendered = parameters.render(&Fixed(values.clone())).expect("rendered");
    assert_eq!(rendered.files["/run/key.hex"].as_slice(), b"01ab");
    assert_eq!(rendered.files["/run/blob"].as_slice(), b"\x00\xff");
    assert_eq!(
        rendered.files["/run/ca.pem"].as_slice(),
        b"-----BEGIN CERTIFICATE-----\nZGVy\n-----END CERTIFICATE-----\n"
    );
    assert_eq!(rendered.env["API_KEY"].as_slice(), b"canary");
    assert_eq!(rendered.env["HEX"].as_slice(), b"Hi");
    assert_eq!(rendered.argv[2], "{{ not a template }}");
    assert!(!format!("{rendered:?}").contains("canary"), "S-44: Debug shows no value");

    let mut missing = values;
    missing.remove(".Secrets.api_key");
    let error = parameters.render(&Fixed(missing)).expect_err("not uploaded yet");
    assert_eq!((error.kind, error.name.as_str()), ("environment variable", "API_KEY"));
    assert_eq!(error.source.to_string(), "there is no value for .Secrets.api_key yet");
}

#[test]
fn references_tell_generations_and_parts_apart() {
    let text = "{{ hex .Previous.Secrets.own_key }}{{ hex .Secrets.own_key }}{{ pem .MarbleRun.MarbleCert.Private }}";
    let manifest = parse(&with(marblerun(), "/Marbles/frontend/Parameters", json!({"Env": {"A": text}})));
    let manifest = manifest.unwrap_or_else(|faults| panic!("{faults}"));
    let references: Vec<_> = manifest.marble("frontend").expect("a Marble").parameters.references().collect();
    assert_eq!(references[0].to_string(), ".Previous.Secrets.own_key");
    assert_ne!(references[0], references[1]);
    assert_eq!(references[2], &Reference::MarbleCertificate(KeyPart::Private));
}

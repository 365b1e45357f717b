//! What governs the coordinator itself.

use super::*;

#[test]
fn what_would_be_ignored_is_refused() {
    for (pointer, value, expected) in [
        ("/Config/FeatureGates", json!(["AzureHSMSealing"]), "Config.FeatureGates[0] NOT_YET_SUPPORTED"),
        (
            "/TLS",
            json!({"t": {"Incoming": [{"Port": "1", "Addr": "x"}]}}),
            "TLS.t.Incoming[0].Addr NOT_APPLICABLE",
        ),
        (
            "/TLS",
            json!({"t": {"Outgoing": [{"Port": "1", "Addr": "x", "Cert": "own_key"}]}}),
            "TLS.t.Outgoing[0].Cert NOT_APPLICABLE",
        ),
    ] {
        refused(marblerun(), pointer, value, &[expected]);
    }
    refused(keeps(), "/TLS", json!({"web": {}}), &[""; 0]);
    let tagged = with(keeps(), "/TLS", json!({"web": {}}));
    refused(tagged, "/Marbles/tally/TLS", json!(["web"]), &["Marbles.tally.TLS NOT_APPLICABLE"]);
}

#[test]
fn settings_are_checked() {
    for (pointer, value, expected) in [
        ("/Infrastructures", json!({"a": {"QESVN": 65_536}}), "Infrastructures.a.QESVN INVALID_VALUE"),
        ("/Infrastructures", json!({"a": {"CPUSVN": "AAAA"}}), "Infrastructures.a.CPUSVN INVALID_VALUE"),
        ("/RecoveryKeys", json!({"a": EC}), "RecoveryKeys.a INVALID_CERTIFICATE"),
        ("/RecoveryKeys", json!({"a": ALICE}), "RecoveryKeys.a INVALID_CERTIFICATE"),
        ("/RecoveryKeys", json!({"a": RSA, "b": RSA}), "RecoveryKeys.b DUPLICATE_VALUE"),
        ("/TLS", json!({"t": {"Incoming": [{}]}}), "TLS.t.Incoming[0].Port MISSING"),
        ("/TLS", json!({"t": {"Incoming": [{"Port": "x"}]}}), "TLS.t.Incoming[0].Port INVALID_VALUE"),
        ("/TLS", json!({"t": {"Outgoing": [{"Port": "1"}]}}), "TLS.t.Outgoing[0].Addr MISSING"),
        (
            "/TLS",
            json!({"t": {"Incoming": [{"Port": "1", "DisableClientAuth": true}]}}),
            "TLS.t.Incoming[0].DisableClientAuth CONFLICT",
        ),
        (
            "/TLS",
            json!({"t": {"Incoming": [{"Port": "1", "Cert": "own_key", "DisableClientAuth": true}]}}),
            "TLS.t.Incoming[0].Cert CONFLICT",
        ),
        (
            "/TLS",
            json!({"t": {"Incoming": [{"Port": "1", "Cert": "none", "DisableClientAuth": true}]}}),
            "TLS.t.Incoming[0].Cert UNKNOWN_REFERENCE",
        ),
        ("/Config/FeatureGates", json!(["x"]), "Config.FeatureGates[0] INVALID_VALUE"),
        ("/Config/UpdateThreshold", json!(1), "Config.UpdateThreshold INVALID_VALUE"),
        ("/Config/UpdateDeadline", json!("soon"), "Config.UpdateDeadline INVALID_VALUE"),
        ("/Config/RecoveryThreshold", json!(2), "Config.RecoveryThreshold INVALID_VALUE"),
        ("/Config/SealMode", json!("productkey"), "Config.SealMode INVALID_VALUE"),
    ] {
        refused(marblerun(), pointer, value, &[expected]);
    }
    let document = with(marblerun(), "/RecoveryKeys", json!({"a": RSA}));
    refused(document, "/Config/RecoveryThreshold", json!(1), &["Config.RecoveryThreshold INVALID_VALUE"]);
}

#[test]
fn settings_are_typed() {
    let mut document = marblerun();
    for (pointer, value) in [
        ("/Infrastructures", json!({"azure": {"QESVN": 2, "CPUSVN": vec![1; 16]}})),
        ("/RecoveryKeys", json!({"holder": RSA})),
        ("/Secrets/cert", json!({"Type": "cert-ecdsa", "Size": 256, "ValidFor": 7, "Shared": true})),
        (
            "/TLS",
            json!({"web": {
                "Incoming": [{"Port": "443", "Cert": "cert", "DisableClientAuth": true}, {"Port": 8443}],
                "Outgoing": [{"Port": 80, "Addr": "db"}]
            }}),
        ),
        ("/Marbles/frontend/TLS", json!(["web"])),
        ("/Config/SealMode", json!("Disabled")),
        ("/Config/FeatureGates", json!(["monotoniccounter", "SignQuoteEndpoint"])),
        ("/Config/UpdateDeadline", json!("48h")),
        ("/Roles/admin", json!({"ResourceType": "Manifest", "Actions": ["updatemanifest"]})),
        ("/Users/alice/Roles", json!(["admin"])),
        ("/Config/UpdateThreshold", json!(1)),
        ("/Packages/backend", json!({"SignerID": sgx(), "ProductID": 3, "SecurityVersion": 2})),
        (
            "/Roles/raiser",
            json!({"ResourceType": "Packages", "ResourceNames": ["backend"], "Actions": ["UpdateSecurityVersion"]}),
        ),
        ("/Users/bob/Roles", json!(["raiser"])),
    ] {
        document = with(document, pointer, value);
    }
    let manifest = parse(&document).unwrap_or_else(|faults| panic!("{faults}"));
    let settings = manifest.settings();
    assert_eq!(settings.infrastructures["azure"].cpu_svn, Some([1; 16]));
    assert!(settings.recovery_keys["holder"].public_key.len() > 256);
    assert_eq!((settings.seal_mode, settings.gates.len()), (SealMode::Disabled, 2));
    assert_eq!(settings.update_deadline, Duration::from_secs(48 * 3600));
    assert_eq!(manifest.update_threshold(), 1);
    let (alice, bob) = (&manifest.users()["alice"], &manifest.users()["bob"]);
    assert_eq!((alice.may_update(), alice.may_raise("backend")), (true, false));
    assert_eq!((bob.may_update(), bob.may_raise("backend"), bob.may_raise("other")), (false, true, false));
    let tag = &manifest.marble("frontend").expect("a Marble").tls[0];
    assert_eq!(tag.incoming[0].certificate.as_ref().map(|name| name.as_str()), Some("cert"));
    assert_eq!((tag.incoming[1].port, &tag.incoming[1].certificate), (8443, &None));
    assert_eq!((tag.outgoing[0].address.as_str(), tag.outgoing[0].port), ("db", 80));
    let SecretKind::Certificate(certificate) = &manifest.secrets()["cert"].kind else { panic!() };
    assert_eq!((certificate.key, certificate.template.end), (KeyKind::P256, End::Days(7)));
    assert_eq!(certificate.template.dns_names, ["localhost"]);
    assert_eq!(certificate.template.key_usage, 33);

    let AcceptedCode::Signer(signer) = &manifest.packages()["backend"].accepted[&Platform::Sgx].code else {
        panic!()
    };
    assert_eq!((signer.product, signer.security_version), (3, 2));
    let update = |version: Value| {
        let text = json!({"Packages": {"backend": {"SecurityVersion": version}}}).to_string();
        assert!(PackageUpdate::is_one(text.as_bytes()));
        PackageUpdate::parse(text.as_bytes(), &manifest)
    };
    let raised = manifest.with_security_versions(&update(json!(4)).expect("an update").0);
    assert_eq!(raised.packages()["backend"].security_version(), Some(4));
    assert_eq!(raised.marble("frontend").expect("a Marble").package.security_version(), Some(4));
    assert_eq!(raised.digest(), manifest.digest());
    assert_eq!(update(json!(1)).expect_err("lower").all()[0].code, Code::Conflict);
    assert_eq!(update(Value::Null).expect_err("none").all()[0].code, Code::Missing);
    for (package, code) in [
        (json!({"other": {"SecurityVersion": 3}}), Code::UnknownReference),
        (json!({"backend": {"SecurityVersion": 3, "Debug": true}}), Code::NotApplicable),
        (json!({}), Code::Missing),
    ] {
        let text = json!({"Packages": package}).to_string();
        assert_eq!(
            PackageUpdate::parse(text.as_bytes(), &manifest).expect_err("a fault").all()[0].code,
            code
        );
    }
    assert!(!PackageUpdate::is_one(document.to_string().as_bytes()));
}

#[test]
fn whoever_is_reinstated_is_named_exactly() {
    let config = |names: Value| with(marblerun(), "/Config/Reinstated", names);
    let (instance, chip) = ("0a".repeat(32), format!("snp:{}", "0a".repeat(64)));
    let emulated = format!("emulated-intel:{}", "0a".repeat(16));
    let manifest =
        parse(&config(json!([instance, chip, emulated]))).unwrap_or_else(|faults| panic!("{faults}"));
    assert_eq!(manifest.settings().reinstated.len(), 3);
    for wrong in ["", "0a", "snp:0a", &"0A".repeat(32), &format!("tdx:{}", "0a".repeat(16)), "intel:"] {
        assert_eq!(faults(&config(json!([wrong]))), ["Config.Reinstated[0] INVALID_VALUE"], "{wrong}");
    }
    assert_eq!(faults(&config(json!([instance, instance]))), ["Config.Reinstated[1] DUPLICATE_VALUE"]);
}

#[test]
fn witnesses_have_keys_of_their_own_and_a_quorum() {
    let (one, other) = (
        "w1+248cda26+BAEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEB",
        "w2+77d428b8+BAICAgICAgICAgICAgICAgICAgICAgICAgICAgICAgIC",
    );
    let document = with(marblerun(), "/Transparency", json!({ "Witnesses": [one, other], "Quorum": 1 }));
    let manifest = parse(&document).unwrap_or_else(|faults| panic!("{faults}"));
    let witnesses = &manifest.settings().witnesses;
    assert_eq!((witnesses.keys.len(), witnesses.quorum, witnesses.keys[0].name()), (2, 1, "w1"));
    let document = with(marblerun(), "/Transparency", json!({ "Witnesses": [one, other] }));
    assert_eq!(parse(&document).unwrap().settings().witnesses.quorum, 2, "all of them");
    assert_eq!(parse(&marblerun()).unwrap().settings().witnesses.quorum, 0);
    let many = vec![one; 16];
    for (value, expected) in [
        (
            json!({ "Witnesses": [one, "w3+351186b7+AQMDAwMDAwMDAwMDAwMDAwMDAwMDAwMDAwMDAwMDAwMD"] }),
            "Transparency.Witnesses[1] INVALID_VALUE",
        ),
        (
            json!({ "Witnesses": [one, "w4+d5f19b3a+BAEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEB"] }),
            "Transparency.Witnesses[1] INVALID_VALUE",
        ),
        (
            json!({ "Witnesses": [one, "w1+d02bb316+BAUFBQUFBQUFBQUFBQUFBQUFBQUFBQUFBQUFBQUFBQUF"] }),
            "Transparency.Witnesses[1] INVALID_VALUE",
        ),
        (json!({ "Witnesses": ["w1"] }), "Transparency.Witnesses[0] INVALID_VALUE"),
        (json!({ "Witnesses": [one], "Quorum": 2 }), "Transparency.Quorum INVALID_VALUE"),
        (json!({ "Witnesses": [one], "Quorum": 0 }), "Transparency.Quorum INVALID_VALUE"),
        (json!({ "Quorum": 1 }), "Transparency.Quorum INVALID_VALUE"),
        (json!({ "Witness": [one] }), "Transparency.Witness UNKNOWN_FIELD"),
    ] {
        refused(marblerun(), "/Transparency", value, &[expected]);
    }
    let faults = parse(&with(marblerun(), "/Transparency", json!({ "Witnesses": many }))).unwrap_err();
    assert!(faults.to_string().contains("more than 15 witnesses"), "{faults}");
}

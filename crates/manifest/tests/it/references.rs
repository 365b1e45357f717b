//! Reference values beside plain measurements: tuples, and what others sign.

use evidence::Platform;
use manifest::{AcceptedCode, Choices, Manifest, ReferenceSigner, plan};
use serde_json::{Value, json};

use super::{ALICE, broker::broker, faults, long, parse, with};

/// RFC 8410 §10.1.
const KEY: &str = "-----BEGIN PUBLIC KEY-----\nMCowBQYDK2VwAyEAGb9ECWmEzf6FQbrBZ9w7lshQhqowtrbLDFw4rXAxZuE=\n-----END PUBLIC KEY-----\n";

fn root(version: u64) -> Value {
    json!({ "Json": "{}", "Version": version, "Expires": "2027-06-01T00:00:00Z" })
}

fn stated() -> Value {
    let mut document = broker();
    document["Packages"]["kata"] = json!({
        "References": { "Series": "kata-guest", "Signers": ["release", "builder"], "Threshold": 1 },
    });
    document["Packages"]["libos"] = json!({ "ReferenceValues": [
        { "Platform": "tpm", "Registers": { "pcr7.sha256": "ab".repeat(32) } },
        { "Platform": "tdx", "Measurement": long(), "Registers": { "rtmr1": "cd".repeat(48) }, "Minimum": { "isv_svn": 2 } },
        { "Platform": "snp", "Measurement": long(), "LaunchConfiguration": "11".repeat(32) },
    ] });
    document["Platforms"]["Tpm"] = json!({ "TrustAnchors": [ALICE], "Registers": [0, 7] });
    document["Platforms"]["AzureSnp"] = json!({ "Paravisors": [long()] });
    document["Platforms"]["AzureTdx"] = json!({});
    document["Platforms"]["Cca"] = json!({ "TrustAnchors": [KEY] });
    document["Broker"]["ReferenceSigners"] = json!({
        "release": { "Key": KEY },
        "logged": { "Key": KEY, "Log": root(1) },
        "builder": { "Sigstore": { "Identity": "workflow", "Issuer": "https://forge", "TrustedRoot": root(3) } },
        "maker": { "Corim": [KEY, ALICE] },
    });
    document
}

fn good(document: &Value) -> Manifest {
    parse(document).unwrap_or_else(|faults| panic!("{faults:#?}"))
}

#[track_caller]
fn refused(pointer: &str, value: Value, expected: &[&str]) {
    assert_eq!(faults(&with(stated(), pointer, value)), expected, "{pointer}");
}

#[test]
fn packages_are_known_by_statements_and_by_tuples() {
    let manifest = good(&stated());
    assert_eq!(manifest.reference_signers().len(), 4);
    let kata = &manifest.packages()["kata"].accepted;
    assert_eq!(kata.len(), 7, "statements say on which of the accepted platforms it runs");
    let AcceptedCode::References(stated) = &kata[&Platform::Cca].code else { panic!() };
    assert_eq!((stated.series.as_str(), stated.signers.len(), stated.threshold), ("kata-guest", 2, 1));
    let libos = &manifest.packages()["libos"].accepted;
    assert_eq!(libos.keys().copied().collect::<Vec<_>>(), [Platform::Tdx, Platform::Snp, Platform::Tpm]);
    let AcceptedCode::Values(tuples) = &libos[&Platform::Tdx].code else { panic!() };
    assert_eq!((tuples.len(), tuples[0].minimum["isv_svn"]), (1, 2));
    assert_eq!(libos[&Platform::Tpm].policy.registers.as_ref().map(|it| it.len()), Some(2));
    assert!(matches!(manifest.reference_signers()["logged"], ReferenceSigner::Key { log: Some(_), .. }));
    let mut all = self::stated();
    all["Packages"]["kata"]["References"].as_object_mut().unwrap().remove("Threshold");
    let all = good(&all);
    let AcceptedCode::References(stated) = &all.packages()["kata"].accepted[&Platform::Snp].code else {
        panic!()
    };
    assert_eq!(stated.threshold, 2, "all, where the manifest says nothing");
}

#[test]
fn statements_are_strict() {
    let at = "Packages.kata.References";
    refused("/Packages/kata/References/Series", json!(""), &[&format!("{at}.Series MISSING")]);
    refused("/Packages/kata/References/Threshold", json!(0), &[&format!("{at}.Threshold INVALID_VALUE")]);
    refused("/Packages/kata/References/Threshold", json!(3), &[&format!("{at}.Threshold INVALID_VALUE")]);
    refused(
        "/Packages/kata/References/Signers",
        json!(["release", "nobody"]),
        &[&format!("{at}.Signers[1] UNKNOWN_REFERENCE")],
    );
    refused(
        "/Packages/kata/References/Signers",
        json!(["release", "release"]),
        &[&format!("{at}.Signers[1] DUPLICATE_VALUE")],
    );
    refused("/Packages/kata/UniqueID", json!("1a".repeat(32)), &["Packages.kata CONFLICT"]);
    refused(
        "/Packages/kata/ReferenceValues",
        stated()["Packages"]["libos"]["ReferenceValues"].clone(),
        &["Packages.kata CONFLICT"],
    );
}

#[test]
fn tuples_are_strict() {
    let list = "/Packages/libos/ReferenceValues";
    let at = "Packages.libos.ReferenceValues";
    let of = |value: Value, fault: &str| refused(list, json!([value]), &[&format!("{at}{fault}")]);
    of(json!({ "Platform": "riscv", "Measurement": long() }), "[0].Platform INVALID_VALUE");
    of(json!({ "Platform": "snp" }), "[0] MISSING");
    of(json!({ "Platform": "snp", "Minimum": { "svn": 1 } }), "[0] MISSING");
    of(json!({ "Platform": "snp", "Measurement": "ab" }), "[0].Measurement INVALID_MEASUREMENT");
    of(
        json!({ "Platform": "snp", "Measurement": long(), "LaunchConfiguration": "00" }),
        "[0].LaunchConfiguration INVALID_MEASUREMENT",
    );
    of(json!({ "Platform": "tdx", "Registers": { "rtmr1": "AB" } }), "[0].Registers.rtmr1 INVALID_VALUE");
    of(json!({ "Platform": "nvidia", "Registers": { "x": "ab" } }), " PLATFORM_NOT_LISTED");
    let twice = json!({ "Platform": "tdx", "Measurement": long() });
    refused(list, json!([twice, twice]), &[&format!("{at}[1] DUPLICATE_VALUE")]);
}

#[test]
fn signers_are_strict() {
    let at = "Broker.ReferenceSigners";
    let of = |value: Value, expected: &[&str]| {
        let expected: Vec<_> = expected.iter().map(|fault| format!("{at}.maker{fault}")).collect();
        let expected: Vec<_> = expected.iter().map(String::as_str).collect();
        refused("/Broker/ReferenceSigners/maker", value, &expected);
    };
    of(json!({}), &[" MISSING"]);
    of(json!({ "Key": KEY, "Corim": KEY }), &[" CONFLICT"]);
    of(json!({ "Key": ALICE }), &[".Key INVALID_CERTIFICATE"]);
    of(json!({ "Corim": ["x"] }), &[".Corim[0] INVALID_CERTIFICATE"]);
    of(json!({ "Corim": [KEY], "Log": root(1) }), &[".Log NOT_APPLICABLE"]);
    let sigstore = |identity: &str, issuer: &str, root: Value| json!({ "Sigstore": { "Identity": identity, "Issuer": issuer, "TrustedRoot": root } });
    of(sigstore("", "b", root(1)), &[".Sigstore.Identity MISSING"]);
    of(sigstore("a", "", root(1)), &[".Sigstore.Issuer MISSING"]);
    of(sigstore("a", "b", Value::Null), &[".Sigstore.TrustedRoot MISSING"]);
    let without = |field: &str, value: Value| {
        let mut root = root(1);
        root[field] = value;
        sigstore("a", "b", root)
    };
    of(without("Version", Value::Null), &[".Sigstore.TrustedRoot.Version MISSING"]);
    of(without("Json", json!("[]")), &[".Sigstore.TrustedRoot.Json INVALID_VALUE"]);
    of(without("Expires", json!("soon")), &[".Sigstore.TrustedRoot.Expires INVALID_VALUE"]);
}

#[test]
fn further_platforms_have_their_own_settings() {
    refused("/Platforms/Cca/TrustAnchors", json!([]), &["Platforms.Cca.TrustAnchors MISSING"]);
    refused("/Platforms/Cca/Registers", json!([1]), &["Platforms.Cca.Registers NOT_APPLICABLE"]);
    refused("/Platforms/Tpm/Registers", json!([24]), &["Platforms.Tpm.Registers[0] INVALID_VALUE"]);
    refused("/Platforms/Tpm/Registers", json!([1, 1]), &["Platforms.Tpm.Registers[1] DUPLICATE_VALUE"]);
    refused("/Platforms/Tpm/MinimumTcb", json!({}), &["Platforms.Tpm.MinimumTcb NOT_APPLICABLE"]);
    refused(
        "/Platforms/AzureSnp/Paravisors",
        json!(["ab"]),
        &["Platforms.AzureSnp.Paravisors[0] INVALID_MEASUREMENT"],
    );
    refused("/Platforms/Snp/TrustAnchors", json!([ALICE]), &["Platforms.Snp.TrustAnchors NOT_APPLICABLE"]);
}

#[test]
fn a_plan_tells_what_changes_about_signers_and_statements() {
    let before = good(&stated());
    let told = |pointer: &str, value: Value| {
        let plan = plan(&before, &good(&with(stated(), pointer, value)), |_| true);
        (plan.to_string(), plan.obstacles.len())
    };
    let (text, _) = told("/Packages/kata/References/Threshold", json!(2));
    assert!(text.contains("what 2 of builder, release state in series kata-guest"), "{text}");
    let (text, _) = told("/Broker/ReferenceSigners/other", json!({ "Key": KEY }));
    assert!(text.contains("! other may sign reference values"), "{text}");
    let (text, _) = told("/Broker/ReferenceSigners/logged", json!({ "Key": KEY }));
    assert!(text.contains("! signer logged need not be in a log any more"), "{text}");
    let (text, obstacles) = told("/Broker/ReferenceSigners/builder/Sigstore/TrustedRoot/Version", json!(4));
    assert!(text.contains("version 4 (was 3)") && obstacles == 0, "{text}");
    let (text, _) = told("/Platforms/Tpm/Registers", json!([7]));
    assert!(text.contains("! on tpm"), "{text}");
}

#[test]
fn s63_an_older_trust_root_stands_in_the_way() {
    let before = good(&stated());
    let root = "/Broker/ReferenceSigners/builder/Sigstore/TrustedRoot";
    for (field, value) in [("Version", json!(2)), ("Json", json!("{\"other\": 1}"))] {
        let after = good(&with(stated(), &format!("{root}/{field}"), value));
        let choices = Choices::between(&before, &after, |_| true);
        assert_eq!(choices.trust_roots.len(), 1, "{field}");
        assert_eq!(plan(&before, &after, |_| true).obstacles.len(), 1, "{field}");
    }
}

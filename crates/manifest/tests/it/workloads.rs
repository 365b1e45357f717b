//! Workloads that are known by their package or by who signs it, and registries.

use manifest::{Effect, Manifest, WorkloadCode, plan};
use serde_json::{Value, json};

use super::{ROOT, broker::broker, faults, parse, with};

/// RFC 8410 §10.1.
const KEY: &str = "-----BEGIN PUBLIC KEY-----\nMCowBQYDK2VwAyEAGb9ECWmEzf6FQbrBZ9w7lshQhqowtrbLDFw4rXAxZuE=\n-----END PUBLIC KEY-----\n";
const DIGEST: &str = "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";

fn signed() -> Value {
    let mut document = broker();
    let root = |version: u64| json!({ "Json": "{}", "Version": version, "Expires": "2027-06-01T00:00:00Z" });
    document["WorkloadSigners"] = json!({
        "release": { "Key": KEY },
        "builder": { "Sigstore": { "Identity": "workflow", "Issuer": "https://forge", "TrustedRoot": root(3) } },
    });
    document["Registries"] = json!({
        "registry.example:5000": { "Username": "mesh", "Password": "password", "RootCA": ROOT },
        "localhost": { "Plain": true },
    });
    document["Marbles"] = json!({
        "web": { "Package": "kata", "Workload": {
            "Repository": "registry.example:5000/team/web", "Name": "ghcr.io/team/web",
            "Signers": ["release", "builder"], "MinimumVersion": "1.2.0", "Keys": ["default/image/app"],
        } },
        "pinned": { "Package": "kata", "Workload": { "Package": format!("localhost/team/web@{DIGEST}") } },
    });
    document
}

fn good(document: &Value) -> Manifest {
    parse(document).unwrap_or_else(|faults| panic!("{faults:#?}"))
}

#[track_caller]
fn refused(pointer: &str, value: Value, expected: &[&str]) {
    assert_eq!(faults(&with(signed(), pointer, value)), expected, "{pointer}");
}

#[test]
fn workloads_are_known_by_signers_or_by_their_package() {
    let manifest = good(&signed());
    let web = manifest.marble("web").unwrap().workload.as_ref().unwrap();
    let WorkloadCode::Signed(code) = &web.code else { panic!() };
    assert_eq!(
        (code.repository.registry(), code.name.to_string().as_str()),
        ("registry.example:5000", "ghcr.io/team/web")
    );
    assert_eq!((code.signers.len(), code.minimum.to_string().as_str(), code.older), (2, "1.2.0", false));
    assert_eq!(web.keys.len(), 1);
    let pinned = manifest.marble("pinned").unwrap().workload.as_ref().unwrap();
    assert_eq!(pinned.code.to_string(), format!("localhost/team/web@{DIGEST}"));
    let registry = &manifest.registries()["registry.example:5000"];
    assert_eq!((registry.roots.len(), registry.plain), (1, false));
    assert!(manifest.referenced_secrets().iter().any(|secret| secret.as_str() == "password"));
}

#[test]
fn s29_a_package_without_a_digest_is_refused() {
    let at = "/Marbles/pinned/Workload/Package";
    for wrong in
        ["localhost/team/web", "localhost/team/web:1.2.0", &format!("localhost/web:1@{DIGEST}"), "web"]
    {
        let code = if wrong.contains('@') { "UNSAFE" } else { "INVALID_VALUE" };
        refused(at, json!(wrong), &[&format!("Marbles.pinned.Workload.Package {code}")]);
    }
    refused(
        "/Marbles/web/Workload/Repository",
        json!("registry.example/web:1.2.0"),
        &["Marbles.web.Workload.Repository INVALID_VALUE"],
    );
}

#[test]
fn what_may_run_is_said_in_one_way_and_whole() {
    refused("/Marbles/web/Workload", json!({}), &["Marbles.web.Workload MISSING"]);
    let both = json!({ "Digest": DIGEST, "Package": format!("localhost/web@{DIGEST}") });
    refused("/Marbles/web/Workload", both, &["Marbles.web.Workload CONFLICT"]);
    let bare = json!({ "Repository": "localhost/web" });
    refused(
        "/Marbles/web/Workload",
        bare,
        &["Marbles.web.Workload.MinimumVersion MISSING", "Marbles.web.Workload.Signers MISSING"],
    );
    let idle = json!({ "Digest": DIGEST, "Signers": ["release"], "MinimumVersion": "1.0.0", "Keys": ["default/image/app"] });
    refused(
        "/Marbles/web/Workload",
        idle,
        &[
            "Marbles.web.Workload.Signers NOT_APPLICABLE",
            "Marbles.web.Workload.MinimumVersion NOT_APPLICABLE",
            "Marbles.web.Workload.Keys[0] NOT_APPLICABLE",
        ],
    );
    refused(
        "/Marbles/web/Workload/MinimumVersion",
        json!("latest"),
        &["Marbles.web.Workload.MinimumVersion INVALID_VALUE"],
    );
    refused(
        "/Marbles/web/Workload/Signers",
        json!(["relaese"]),
        &["Marbles.web.Workload.Signers[0] UNKNOWN_REFERENCE"],
    );
    refused(
        "/Marbles/web/Workload/Signers",
        json!(["release", "release"]),
        &["Marbles.web.Workload.Signers[1] DUPLICATE_VALUE"],
    );
    refused(
        "/Marbles/web/Workload/Keys",
        json!(["default/image/none"]),
        &["Marbles.web.Workload.Keys[0] UNKNOWN_REFERENCE"],
    );
    refused("/Marbles/web/Workload/Keys", json!(["../key"]), &["Marbles.web.Workload.Keys[0] INVALID_NAME"]);
    refused(
        "/WorkloadSigners/release",
        json!({ "Corim": [KEY] }),
        &["WorkloadSigners.release.Corim NOT_APPLICABLE"],
    );
}

#[test]
fn credentials_are_secrets_and_go_over_tls() {
    let at = "/Registries/registry.example:5000";
    let here = "Registries.\"registry.example:5000\"";
    let code = |document: Value| faults(&with(signed(), at, document)).join(" ");
    assert!(code(json!({ "Username": "mesh" })).contains("MISSING"), "{here}");
    assert!(code(json!({ "Username": "mesh", "Password": "none" })).contains("UNKNOWN_REFERENCE"));
    assert!(code(json!({ "Username": "mesh", "Password": "db-key" })).contains("CONFLICT"));
    assert!(code(json!({ "Username": "a:b", "Password": "password" })).contains("INVALID_VALUE"));
    assert!(code(json!({ "Username": "mesh", "Password": "password", "Plain": true })).contains("CONFLICT"));
    assert!(code(json!({ "RootCA": "none" })).contains("INVALID_CERTIFICATE"));
    let mut document = signed();
    document["Registries"]["https://registry.example"] = json!({});
    assert!(faults(&document).join(" ").contains("INVALID_NAME"));
}

#[test]
fn a_plan_tells_who_may_sign_what_now() {
    let words = |pointer: &str, value: Value| {
        let plan = plan(&good(&signed()), &good(&with(signed(), pointer, value)), |_| true);
        let line = |change: &manifest::Change| (change.effect, change.words.clone());
        plan.changes.iter().map(line).find(|(_, words)| !words.contains("anew")).unwrap()
    };
    let at = |field: &str| format!("/Marbles/web/Workload/{field}");
    for (pointer, value, effect, expected) in [
        (at("MinimumVersion"), json!("1.1.0"), Effect::Opens, "web runs version 1.1.0 or later (was 1.2.0)"),
        (at("MinimumVersion"), json!("1.3.0"), Effect::Closes, "web runs version 1.3.0 or later (was 1.2.0)"),
        (at("Signers"), json!(["release"]), Effect::Closes, "web may no longer run what builder signs"),
        (
            at("OlderVersions"),
            json!(true),
            Effect::Opens,
            "web may now run a version that is older than one that ran",
        ),
        (
            at("Keys"),
            json!([]),
            Effect::Closes,
            "the workload of web may no longer be one that is encrypted by default/image/app",
        ),
        (
            "/Registries/localhost".to_owned(),
            json!({}),
            Effect::Changes,
            "registry localhost is known otherwise, or gets other credentials",
        ),
    ] {
        assert_eq!(words(&pointer, value), (effect, expected.to_owned()), "{pointer}");
    }
    let (effect, said) = words("/Marbles/web/Workload", json!({ "Digest": DIGEST }));
    assert_eq!(effect, Effect::Opens);
    assert!(
        said.starts_with(&format!(
            "web runs other code: {DIGEST} (was registry.example:5000/team/web from 1.2.0 on, as "
        )),
        "{said}"
    );
}

#[test]
fn s63_a_trust_root_of_workload_signers_is_not_replaced_by_an_older_one() {
    let version = "/WorkloadSigners/builder/Sigstore/TrustedRoot/Version";
    let choices = |value: u64| {
        let new = good(&with(signed(), version, json!(value)));
        manifest::Choices::between(&good(&signed()), &new, |_| true).trust_roots.len()
    };
    assert_eq!((choices(2), choices(3), choices(4)), (1, 0, 0));
}

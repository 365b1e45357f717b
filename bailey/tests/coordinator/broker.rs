//! The key broker's operators: resources up and down, policies shown and tried.

use serde_json::{Value, json};

use crate::bench::{Bench, Serving, bailey, mode};

fn manifest(bench: &Bench) -> Value {
    let mut manifest = bench.manifest();
    manifest["Secrets"]["kek"] = json!({ "Type": "symmetric-key", "Size": 256, "Shared": true });
    manifest["Broker"] = json!({
        "Policies": { "pods": {
            "Packages": ["keep"], "Platforms": ["tdx"],
            "Rego": "package policy\nallow if input.submods.cpu0[\"ear.status\"] == \"affirming\"",
        } },
        "Repositories": { "default": {
            "Policy": "pods", "Resources": { "image/kek": { "Secret": "kek", "Use": "unwrap" } },
        } },
    });
    manifest["Roles"]["broker"] = json!({
        "ResourceType": "Repositories", "ResourceNames": ["default"],
        "Actions": ["ReadResource", "WriteResource", "DeleteResource", "ListResources", "ExplainSessions"],
    });
    manifest["Users"]["ann"]["Roles"] = json!(["admin", "all", "raise", "broker"]);
    manifest
}

async fn running(bench: &Bench) -> Serving {
    let serving = bench.serve(b"coordinator", None).await;
    let file = bench.write("manifest.json", manifest(bench).to_string());
    assert!(bailey(&["manifest", "check", &file]).ok().contains("accepted"));
    bench.act(&serving, "owner", &["manifest", "set", &file]).ok();
    serving
}

#[tokio::test(flavor = "multi_thread")]
async fn resources_up_and_down() {
    let bench = Bench::new();
    let serving = running(&bench).await;
    let ann = |arguments: &[&str]| bench.act(&serving, "ann", &[&["broker"], arguments].concat());
    let (one, two) = (bench.write("one", "first\0value"), bench.write("two", "second"));
    let said = ann(&["resource", "put", "default/key/db", "--file", &one]).ok();
    assert_eq!(said, "kbs:///default/key/db is version 1 now\n");
    ann(&["resource", "put", "kbs:///default/key/db", "--file", &two, "--follows", "1"]).ok();
    let late = ann(&["resource", "put", "default/key/db", "--file", &one, "--follows", "1"]).failed(1);
    assert!(late.contains("RESOURCE_CHANGED"), "{late}");

    assert_eq!(ann(&["resource", "get", "default/key/db", "--output", "-"]).ok(), "second");
    let out = bench.path("out");
    ann(&["resource", "get", "default/key/db", "--output", &out, "--version", "1"]).ok();
    assert_eq!((bench.read("out").as_str(), mode(&out)), ("first\0value", 0o600));
    ann(&["resource", "get", "default/key/db"]).failed(2);

    let listed = ann(&["resource", "list"]).ok();
    assert!(listed.contains("default/key/db  uploaded, by policy pods"), "{listed}");
    assert!(listed.contains("default/image/kek  secret kek, unwraps only, by policy pods"), "{listed}");
    assert!(listed.contains("    version 2  6 bytes, ") && !listed.contains("second"), "{listed}");
    let json: Value = serde_json::from_str(&ann(&["resource", "list", "default", "--json"]).ok()).unwrap();
    assert_eq!(json[1]["versions"].as_array().unwrap().len(), 2);
    let status = ann(&["status"]).ok();
    assert!(status.contains("default  1 declared; 1 uploaded, by policy pods"), "{status}");

    for path in ["default/key", "default/../db", "a/b/c/d", "default/key/db%2f"] {
        ann(&["resource", "delete", path]).failed(2);
    }
    let refused = bench.act(&serving, "ben", &["broker", "resource", "delete", "default/key/db"]).failed(1);
    assert!(refused.contains("NOT_GRANTED"), "{refused}");
    let said = ann(&["resource", "delete", "default/key/db"]).ok();
    assert_eq!(said, "kbs:///default/key/db is deleted\n");
    assert!(ann(&["resource", "delete", "default/key/db"]).failed(1).contains("RESOURCE_UNKNOWN"));
    assert_eq!(ann(&["sessions"]).ok(), "");
    assert!(ann(&["explain", &"0".repeat(32)]).failed(1).contains("SESSION_UNKNOWN"));
}

#[tokio::test(flavor = "multi_thread")]
async fn policies_are_shown_and_tried() {
    let bench = Bench::new();
    let serving = running(&bench).await;
    let ann = |arguments: &[&str]| bench.act(&serving, "ann", &[&["broker", "policy"], arguments].concat());
    let listed = ann(&["list"]).ok();
    assert_eq!(listed, "pods  packages keep; releases default/*, default/image/kek\n");
    let shown = ann(&["show", "pods"]).ok();
    assert!(shown.contains("platforms  tdx\n") && shown.contains("emulated   refused\n"), "{shown}");
    assert!(ann(&["show", "none"]).failed(1).contains("known here: pods"));

    let guest = |status: &str, platform: &str| {
        let claims = json!({ "submods": { "cpu0": { "ear.status": status } } });
        let guest = json!({ "platform": platform, "packages": ["keep"], "claims": claims });
        bench.write("guest.json", guest.to_string())
    };
    let good = guest("affirming", "tdx");
    let said = ann(&["check", "default/key/db", "--guest", &good]).ok();
    assert!(said.contains("✓ rego") && said.ends_with("it would be released\n"), "{said}");
    let said = ann(&["check", "default/key/db", "--guest", &guest("warning", "tdx")]);
    assert_eq!(said.code, 1);
    assert!(
        said.out.contains("✗ rego       expected `allow` is true, seen not true  REGO_DENIED"),
        "{}",
        said.out
    );
    let said = ann(&["check", "default/key/db", "--guest", &guest("affirming", "snp"), "--json"]);
    let found: Value = serde_json::from_str(&said.out).unwrap();
    assert_eq!((said.code, &found["released"]), (1, &json!(false)));

    let rego = bench.write("a.rego", "package policy\nallow { data[\"resource-path\"][0] == \"default\" }");
    ann(&["check", "default/key/db", "--rego", &rego, "--guest", &good]).ok();
    let given = bench.write("policy.json", json!({ "Packages": ["signed"] }).to_string());
    let said = ann(&["check", "default/key/db", "--policy-file", &given, "--guest", &good]);
    assert!(said.out.contains("expected one of signed, seen keep  PACKAGE_NOT_GRANTED"), "{}", said.out);
    ann(&["check", "default/key/db"]).failed(2);

    // A manifest with a policy that cannot be run is not even sent.
    let mut bad = manifest(&bench);
    bad["Broker"]["Policies"]["pods"]["Rego"] = json!("package policy\nallow if http.send({})");
    let bad = bench.write("bad.json", bad.to_string());
    let said = bailey(&["manifest", "check", &bad]).failed(2);
    assert!(
        said.contains("Broker.Policies.pods.Rego") && said.contains("http.send is not available"),
        "{said}"
    );
}

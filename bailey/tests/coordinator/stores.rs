//! Secret stores outside, as people see them.

use serde_json::{Value, json};
use testkit::vault::{Mood, Vault};

use crate::bench::{Bench, bailey};

#[tokio::test(flavor = "multi_thread")]
async fn what_lies_where_and_whether_it_is_there() {
    let bench = Bench::new();
    let vault = Vault::start(&["localhost"], None).await;
    vault.token("hvs.token", 0, false);
    vault.put("db", json!({ "password": "CANARY-77aa" }));
    let mut manifest = bench.manifest();
    manifest["SecretStores"] = json!({ "corp": { "Vault": {
        "Address": vault.url(), "RootCA": vault.root(), "Auth": { "Token": "word" }
    } } });
    let place = json!({ "Name": "corp", "KV": { "Path": "db", "Field": "password" } });
    manifest["Secrets"]["password"] = json!({ "Type": "plain", "Store": place });
    let file = bench.write("manifest.json", manifest.to_string());

    let said = bailey(&["manifest", "check", &file]).ok();
    assert!(said.ends_with("  password lies in corp: KV secret/db, field password\n"), "{said}");
    let said = bailey(&["manifest", "check", &file, "--json"]).ok();
    let stored = &serde_json::from_str::<Value>(&said).unwrap()["stored"][0];
    assert_eq!((&stored["secret"], &stored["store"]), (&json!("password"), &json!("corp")));

    let serving = bench.serve(b"coordinator", None).await;
    bench.act(&serving, "owner", &["manifest", "set", &file]).ok();
    let before = bench.act(&serving, "ann", &["secret", "stores"]);
    assert_eq!(before.code, 1);
    assert!(
        before.out.contains("✗ SECRET_STORE_CREDENTIAL") && before.out.contains("mend: upload"),
        "{}",
        before.out
    );
    let token = bench.write("token", "hvs.token\n");
    bench.act(&serving, "ann", &["secret", "set", "word", "--file", &token]).ok();
    let said = bench.act(&serving, "ann", &["secret", "stores"]).ok();
    assert!(said.contains("✓ lets the coordinator in") && said.contains("✓ there, version 1"), "{said}");
    assert!(!said.contains("CANARY"));
    let said = bench.act(&serving, "ann", &["secret", "stores", "--json"]).ok();
    assert_eq!(serde_json::from_str::<Value>(&said).unwrap()[0]["available"], true);
    vault.becomes(Mood::Sealed);
    let said = bench.act(&serving, "ann", &["secret", "stores"]);
    assert_eq!(said.code, 1);
    assert!(
        said.out.contains("SECRET_STORE_UNAVAILABLE: the store cannot answer now (HTTP 503)"),
        "{}",
        said.out
    );
}

//! Secrets that users define.

use serde_json::{Value, json};

use crate::bench::{Bench, Serving, mode};

async fn running(bench: &Bench) -> Serving {
    let serving = bench.serve(b"coordinator", None).await;
    let manifest = bench.write("manifest.json", bench.manifest().to_string());
    bench.act(&serving, "owner", &["manifest", "set", &manifest]).ok();
    serving
}

#[tokio::test(flavor = "multi_thread")]
async fn certificates_from_pem_and_back() {
    let bench = Bench::new();
    let serving = running(&bench).await;
    let pem = bench.read("ben.pem") + &bench.read("ben.key");
    let file = bench.write("both.pem", &pem);
    assert!(bench.act(&serving, "ann", &["secret", "get", "cert"]).failed(1).contains("not set yet"));
    let said = bench.act(&serving, "ann", &["secret", "set", "--from-pem", &format!("cert={file}")]).ok();
    assert_eq!(said, "cert is set\n");
    let got = bench.act(&serving, "ben", &["secret", "get", "cert"]).ok();
    assert_eq!(got.replace('\r', ""), pem.replace('\r', ""));

    // A key of another certificate, no certificate, no name.
    let wrong = bench.write("wrong.pem", bench.read("ben.pem") + &bench.read("ann.key"));
    let said =
        bench.act(&serving, "ann", &["secret", "set", "--from-pem", &format!("cert={wrong}")]).failed(1);
    assert!(said.contains("SECRET_REFUSED"), "{said}");
    let key = bench.path("ann.key");
    bench.act(&serving, "ann", &["secret", "set", "--from-pem", &format!("cert={key}")]).failed(2);
    bench.act(&serving, "ann", &["secret", "set", "--from-pem", &file]).failed(2);
}

#[tokio::test(flavor = "multi_thread")]
async fn many_at_once_and_into_a_file() {
    let bench = Bench::new();
    let serving = running(&bench).await;
    let file =
        bench.write("secrets.json", json!({ "word": {"Key": "YQ=="}, "other": {"Key": "Yg=="} }).to_string());
    assert_eq!(bench.act(&serving, "ann", &["secret", "set", &file]).ok(), "other is set\nword is set\n");
    let out = bench.path("got.json");
    bench.act(&serving, "ben", &["secret", "get", "word", "other", "--output", &out]).ok();
    assert_eq!(mode(&out), 0o600);
    let got: Value = serde_json::from_str(&bench.read("got.json")).unwrap();
    assert_eq!((&got["word"]["Private"], &got["other"]["Private"]), (&json!("YQ=="), &json!("Yg==")));
    assert_eq!(bench.act(&serving, "ben", &["secret", "get", "word"]).ok(), "a");
    let one = bench.act(&serving, "ben", &["secret", "get", "word", "--json"]).ok();
    assert_eq!(serde_json::from_str::<Value>(&one).unwrap()["word"]["Type"], "plain");
    assert!(
        bench.act(&serving, "ben", &["secret", "get", "word", "--output", &out]).failed(2).contains("anew")
    );
    let refused = bench.path("refused");
    let said = bench.act(&serving, "ben", &["secret", "get", "made", "--output", &refused]).failed(1);
    assert!(said.contains("NOT_GRANTED") && !std::path::Path::new(&refused).exists(), "{said}");
    for malformed in [
        vec!["secret", "set"],
        vec!["secret", "set", "--file", &file],
        vec!["secret", "set", &out, "--from-pem", "x"],
    ] {
        bench.act(&serving, "ann", &malformed).failed(2);
    }
}

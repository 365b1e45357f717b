//! What a coordinator proved, appraised by somebody who was not there.

use base64::{Engine, prelude::BASE64_STANDARD as BASE64};
use serde_json::{Value, json};

use crate::bench::{Bench, Said, bailey};

const NONCE: &str = "5d5d5d5d5d5d5d5d5d5d5d5d5d5d5d5d5d5d5d5d5d5d5d5d5d5d5d5d5d5d5d5d";

/// The file, as its receiver appraises it.
fn received(bench: &Bench, file: &str, nonce: &str) -> Said {
    let (root, reference) = (bench.path("emulated.pem"), bench.path("reference.json"));
    let held =
        ["--root", &root, "--reference", &reference, "--policy", "production", "--nonce", nonce, "--json"];
    bailey(&[&["evidence", "verify", file][..], &held].concat())
}

#[tokio::test(flavor = "multi_thread")]
async fn cluster_evidence_is_appraised_without_the_cluster() {
    let bench = Bench::new();
    let serving = bench.serve(b"coordinator", None).await;
    let manifest = bench.write("manifest.json", bench.manifest().to_string());
    bench.act(&serving, "owner", &["manifest", "set", &manifest]).ok();
    let digest = bailey(&["manifest", "digest", &manifest]).ok();
    let file = bench.path("cluster.json");
    bench.appraise(&serving.url, &["verify", &serving.url, "--save", &file, "--nonce", NONCE]).ok();
    drop(serving);

    let verdict: Value = serde_json::from_str(&received(&bench, &file, NONCE).ok()).unwrap();
    let says = verdict["checks"].as_array().unwrap().iter().find(|check| check["name"] == "says").unwrap();
    assert!(says["text"].as_str().unwrap().contains(digest.trim()), "{says}");
    assert_eq!(verdict["emulated"], json!(true));
    assert!(bailey(&["evidence", "show", &file]).ok().contains("tdx"));

    // Of another nonce: it is old, or made for somebody else.
    let replayed = received(&bench, &file, &NONCE.replace('5', "6")).failed(1);
    assert!(replayed.contains("REPORT_DATA_MISMATCH"), "{replayed}");
    // With another manifest in its claims.
    let mut forged: Value = serde_json::from_str(&bench.read("cluster.json")).unwrap();
    let mut claims = BASE64.decode(forged["claims"].as_str().unwrap()).unwrap();
    let digest = hex::decode(digest.trim()).unwrap();
    let at = claims.windows(32).position(|window| window == digest).unwrap();
    claims[at] ^= 1;
    forged["claims"] = BASE64.encode(claims).into();
    let forged = bench.write("forged.json", forged.to_string());
    assert!(received(&bench, &forged, NONCE).failed(1).contains("REPORT_DATA_MISMATCH"));
    // With something beside it that nobody checks.
    let mut more: Value = serde_json::from_str(&bench.read("cluster.json")).unwrap();
    more["mode"] = "production".into();
    let more = bench.write("more.json", more.to_string());
    received(&bench, &more, NONCE).failed(2);
}

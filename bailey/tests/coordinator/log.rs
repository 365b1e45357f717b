//! The transparency log on the command line.

use serde_json::Value;

use crate::bench::{Bench, Serving};

async fn running(bench: &Bench) -> Serving {
    let serving = bench.serve(b"coordinator", None).await;
    let manifest = bench.write("manifest.json", bench.manifest().to_string());
    bench.act(&serving, "owner", &["manifest", "set", &manifest]).ok();
    serving
}

fn upload(bench: &Bench, serving: &Serving, name: &str) {
    let file = bench.write("value", "a value");
    bench.act(serving, "ann", &["secret", "set", name, "--file", &file]).ok();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_log_is_replayed_remembered_and_proven() {
    let bench = Bench::new();
    let serving = running(&bench).await;
    upload(&bench, &serving, "word");
    let (first, second) = (bench.path("first.json"), bench.path("second.json"));
    let said = bench.appraise(&serving.url, &["log", "audit", &serving.url, "--from", &first]).ok();
    for words in [
        "the mesh was founded (emulated)",
        "epoch 1: the first manifest",
        "ann uploaded 1 secret",
        "3 entries",
    ] {
        assert!(said.contains(words), "{said}");
    }
    assert!(!said.contains("word"), "names of secrets are not told: {said}");
    std::fs::copy(&first, &second).unwrap();
    bench.act(&serving, "ben", &["secret", "get", "word"]).ok();
    let said =
        bench.appraise(&serving.url, &["log", "audit", &serving.url, "--from", &second, "--json"]).ok();
    let told: Value = serde_json::from_str(&said).unwrap();
    assert_eq!((&told["size"], &told["epoch"]), (&4.into(), &1.into()));
    assert_eq!(told["entries"][3]["entry"]["fact"]["kind"], "secrets-read");
    let said = bench.appraise(&serving.url, &["log", "audit", &serving.url, "--last", "1"]).ok();
    assert!(said.starts_with("… 3 earlier entries\n") && said.contains("ben downloaded 1 secret"), "{said}");

    let said = bench.ask(&serving, &["log", "consistency", &first, &second]).ok();
    assert!(said.contains("4 entries continues that of 3"), "{said}");
    assert!(bench.ask(&serving, &["log", "consistency", &second, &first]).failed(1).contains("LOG_FORKED"));

    let proof = bench.path("entry.tlog-proof");
    bench.ask(&serving, &["log", "prove", "2", "--from", &first, "--out", &proof]).ok();
    let said = crate::bench::bailey(&["log", "check", &proof, "--from", &first]).ok();
    assert!(said.contains("ann uploaded 1 secret") && said.contains("is in the log bailey-mesh/"), "{said}");
    let forged = bench.write("forged", bench.read("entry.tlog-proof").replace("index 2", "index 1"));
    assert!(
        crate::bench::bailey(&["log", "check", &forged, "--from", &first]).failed(1).contains("LOG_PROOF")
    );
    bench.ask(&serving, &["log", "prove", "9", "--from", &first, "--out", &proof]).failed(1);
    crate::bench::bailey(&["log", "check", &first, "--from", &first]).failed(2);
    crate::bench::bailey(&["log", "check", &proof, "--from", &proof]).failed(2);
}

/// S-16: whoever remembers a head finds an old state that was put back, and the fork that grows from it.
#[tokio::test(flavor = "multi_thread")]
async fn s16_an_audit_finds_a_state_that_was_put_back_and_the_fork_from_it() {
    let bench = Bench::new();
    let serving = running(&bench).await;
    let old = bench.folder.path().join("old");
    std::fs::create_dir(&old).unwrap();
    std::fs::copy(serving.state.join("state.redb"), old.join("state.redb")).unwrap();
    upload(&bench, &serving, "word");
    let remembered = bench.path("log.json");
    bench.appraise(&serving.url, &["log", "audit", &serving.url, "--from", &remembered]).ok();
    let kept = bench.read("log.json");

    std::fs::remove_file(serving.state.join("state.redb")).unwrap();
    let back = bench.serve(b"coordinator", Some(&old)).await;
    let audit = ["log", "audit", &back.url, "--from", &remembered];
    assert!(bench.appraise(&back.url, &audit).failed(1).contains("[LOG_ROLLED_BACK]"));
    // As many entries as before, and others.
    upload(&bench, &back, "other");
    let said = bench.appraise(&back.url, &audit).failed(1);
    assert!(said.contains("[LOG_FORKED]") && said.contains("hint:"), "{said}");
    assert_eq!(bench.read("log.json"), kept, "what was remembered stays as proof");
    assert!(bench.appraise(&back.url, &audit[..3]).code == 0, "nobody who remembers nothing can tell");
}

//! The transparency log on the command line.

use aws_lc_rs::signature::{ED25519, Ed25519KeyPair, KeyPair, UnparsedPublicKey};
use serde_json::{Value, json};
use transparency::{AddCheckpoint, Checkpoint, NoteKey, Signer, signed_checkpoint};

use crate::bench::{Bench, Serving, bailey};

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
    let said = bailey(&["log", "check", &proof, "--from", &first]).ok();
    assert!(said.contains("ann uploaded 1 secret") && said.contains("is in the log bailey-mesh/"), "{said}");
    let forged = bench.write("forged", bench.read("entry.tlog-proof").replace("index 2", "index 1"));
    assert!(bailey(&["log", "check", &forged, "--from", &first]).failed(1).contains("LOG_PROOF"));
    bench.ask(&serving, &["log", "prove", "9", "--from", &first, "--out", &proof]).failed(1);
    bailey(&["log", "check", &first, "--from", &first]).failed(2);
    bailey(&["log", "check", &proof, "--from", &proof]).failed(2);
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
    // What `bailey verify` remembers by itself is not asked here.
    let heads = bench.path("heads");
    let audit = ["log", "audit", &back.url, "--heads", &heads, "--from", &remembered];
    let said = bench.appraise(&back.url, &audit).failed(1);
    assert!(said.contains("[LOG_ROLLED_BACK]"), "{said}");
    // As many entries as before, and others.
    upload(&bench, &back, "other");
    let said = bench.appraise(&back.url, &audit).failed(1);
    assert!(said.contains("[LOG_FORKED]") && said.contains("hint:"), "{said}");
    assert_eq!(bench.read("log.json"), kept, "what was remembered stays as proof");
    assert!(bench.appraise(&back.url, &audit[..5]).code == 0, "nobody who remembers nothing can tell");
}

/// A witness by C2SP tlog-witness, which is asked with files.
struct Witness {
    pair: Ed25519KeyPair,
    key: NoteKey,
    seen: Option<Checkpoint>,
}

impl Witness {
    fn new() -> Self {
        let pair = Ed25519KeyPair::from_seed_unchecked(&[7; 32]).unwrap();
        let public = pair.public_key().as_ref().try_into().unwrap();
        Self { key: NoteKey::new("witness.example/w1", Signer::Witness, public).unwrap(), pair, seen: None }
    }

    fn add_checkpoint(&mut self, body: &str, log: &NoteKey) -> String {
        let request = AddCheckpoint::parse(body.as_bytes()).unwrap();
        let verify = |key: &[u8; 32], message: &[u8], signature: &[u8; 64]| {
            UnparsedPublicKey::new(&ED25519, key).verify(message, signature).is_ok()
        };
        let checkpoint = signed_checkpoint(&request.checkpoint, log, &verify).unwrap();
        assert_eq!(request.old, self.seen.as_ref().map_or(0, |seen| seen.head.size));
        if let Some(seen) = &self.seen {
            seen.is_prefix_of(&checkpoint, &request.proof).unwrap();
        }
        let signature = self.pair.sign(self.key.message(&checkpoint.text(), 9).as_bytes());
        self.seen = Some(checkpoint);
        self.key.signature(9, signature.as_ref().try_into().unwrap()).to_line()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_witness_is_asked_with_files_and_an_audit_requires_it() {
    let (bench, mut witness) = (Bench::new(), Witness::new());
    let key = witness.key.to_string();
    let serving = bench.serve(b"coordinator", None).await;
    let mut manifest = bench.manifest();
    manifest["Transparency"] = json!({ "Witnesses": [key] });
    let manifest = bench.write("manifest.json", manifest.to_string());
    bench.act(&serving, "owner", &["manifest", "set", &manifest]).ok();
    let (kept, body) = (bench.path("log.json"), bench.path("body"));
    let audit = |more: &[&str]| {
        let arguments = [&["log", "audit", &serving.url, "--from", &kept][..], more].concat();
        bench.appraise(&serving.url, &arguments)
    };
    audit(&[]).ok();
    assert!(audit(&["--witness", &key]).failed(1).contains("LOG_NOT_WITNESSED"));
    let remembered: Value = serde_json::from_str(&bench.read("log.json")).unwrap();
    let log = NoteKey::parse(remembered["key"].as_str().unwrap()).unwrap();
    for old in ["0", "2"] {
        bench.ask(&serving, &["log", "request", "--from", &kept, "--old", old, "--out", &body]).ok();
        let lines = bench.write("lines", witness.add_checkpoint(&bench.read("body"), &log));
        let said = bench.ask(&serving, &["log", "cosign", &body, &lines]).ok();
        assert!(said.contains("has 1 cosignatures, and 1 are a quorum"), "{said}");
        upload(&bench, &serving, "word");
    }
    audit(&["--witness", &key]).ok();
    let stranger = NoteKey::new("witness.example/w1", Signer::Witness, [1; 32]).unwrap().to_string();
    assert!(audit(&["--witness", &stranger]).failed(1).contains("[LOG_UNWITNESSED]"));
    audit(&["--witness", &log.to_string()]).failed(2);
    let wrong = bench.write("wrong", "no lines");
    bench.ask(&serving, &["log", "cosign", &body, &wrong]).failed(2);
    bench.ask(&serving, &["log", "request", "--from", &kept, "--old", "99", "--out", &body]).failed(1);
}

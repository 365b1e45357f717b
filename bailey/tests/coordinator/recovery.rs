//! Recovery secrets: given out once, rehearsed, used.

use std::path::Path;

use serde_json::{Value, json};

use crate::bench::{Bench, Serving, mode};

const HOLDERS: [&str; 3] = ["alice", "bob", "carol"];

/// Under a manifest that takes two of three holders; their secrets in `secrets.json`.
pub async fn recoverable(bench: &Bench) -> Serving {
    let serving = bench.serve(b"coordinator", None).await;
    let mut manifest = bench.manifest();
    for holder in HOLDERS {
        manifest["RecoveryKeys"][holder] = json!(bench.holder(holder));
    }
    manifest["Config"] = json!({ "RecoveryThreshold": 2, "UpdateThreshold": 1 });
    let manifest = bench.write("manifest.json", manifest.to_string());
    let secrets = bench.path("secrets.json");
    let taken = bench.write("taken.json", "mine");
    let said = bench.act(&serving, "owner", &["manifest", "set", &manifest, "-r", &taken]).failed(2);
    assert!(said.contains("cannot be made anew"), "an existing file is kept, and nothing is sent: {said}");
    let said = bench.act(&serving, "owner", &["manifest", "set", &manifest, "-r", &secrets]).ok();
    assert!(said.contains("recovery secrets of 3 holders"), "{said}");
    assert_eq!(mode(&secrets), 0o600);
    serving
}

pub fn recover(bench: &Bench, serving: &Serving, holder: &str, more: &[&str]) -> crate::bench::Said {
    let (secrets, key) = (bench.path("secrets.json"), bench.path(&format!("{holder}.rsa.pem")));
    let arguments = ["recover", &secrets, "--holder", holder, "--key", &key];
    bench.ask(serving, &[&arguments[..], more].concat())
}

#[tokio::test(flavor = "multi_thread")]
async fn s46_holders_recover_the_state_on_another_machine() {
    let bench = Bench::new();
    let lost = recoverable(&bench).await;
    let word = bench.write("word", "the word");
    bench.act(&lost, "ann", &["secret", "set", "word", "--file", &word]).ok();
    let said = recover(&bench, &lost, "alice", &[]).failed(1);
    assert!(said.contains("RECOVERY_NOT_PENDING") && said.contains("--rehearse"), "{said}");

    let serving = bench.serve(b"elsewhere", Some(&lost.state)).await;
    let said = bench.appraise(&serving.url, &["verify", &serving.url]).ok();
    assert!(said.contains("mode         recovering"), "{said}");
    let said = bench.ask(&serving, &["status"]).ok();
    assert!(said.starts_with("recovery: ") && said.contains("2 recovery secrets are missing"), "{said}");
    let said = recover(&bench, &serving, "alice", &["--rehearse"]).failed(1);
    assert!(said.contains("RECOVERY_PENDING"), "there is nothing to rehearse with: {said}");

    // The wrong key, no holder, another's secret.
    let key = bench.path("bob.rsa.pem");
    let secrets = bench.path("secrets.json");
    let said = bench.ask(&serving, &["recover", &secrets, "--holder", "alice", "--key", &key]).failed(2);
    assert!(said.contains("cannot be decrypted"), "{said}");
    let said = bench.ask(&serving, &["recover", &secrets, "--key", &key]).failed(2);
    assert!(said.contains("--holder"), "{said}");
    let said =
        bench.ask(&serving, &["recover", &secrets, "--holder", "bob", "--key", &bench.path("ann.key")]);
    assert!(said.failed(2).contains("no RSA private key"));

    let said = recover(&bench, &serving, "alice", &[]).ok();
    assert!(said.contains("Remaining secrets: 1"), "{said}");
    assert!(recover(&bench, &serving, "alice", &[]).failed(1).contains("SHARE_REPEATED"));
    assert!(bench.ask(&serving, &["status"]).ok().contains("1 recovery secret is missing"));

    // Bob's key is on a machine without a network.
    let [public, signature, encrypted] = ["public.pem", "bob.sig", "bob.enc"].map(|name| bench.path(name));
    bench.ask(&serving, &["recover", "public-key", "--output", &public]).ok();
    let bob = [&secrets, "--holder", "bob", "--key", &key].map(String::from);
    let bob: Vec<_> = bob.iter().map(String::as_str).collect();
    let offline = |arguments: &[&str]| crate::bench::bailey(arguments);
    offline(&[&["recover", "sign"], &bob[..], &["--output", &signature]].concat()).ok();
    offline(
        &[&["recover", "encrypt"], &bob[..], &["--public-key", &public, "--output", &encrypted]].concat(),
    )
    .ok();
    assert_eq!((mode(&signature), mode(&encrypted)), (0o600, 0o600));
    let wrong = bench.ask(&serving, &["recover", "upload", &encrypted, "--signature", &public]);
    assert!(wrong.failed(1).contains("SHARE_NOT_SIGNED"));
    let said = bench.ask(&serving, &["recover", "upload", &encrypted, "--signature", &signature]).ok();
    assert!(said.contains("Recovery successful") && said.contains("new root"), "{said}");

    // The pinned root was one of the moment: it is no more.
    bench.ask(&serving, &["status"]).failed(1);
    bench.appraise(&serving.url, &["verify", &serving.url, "--pin", &bench.path("root.pem")]).ok();
    assert!(bench.ask(&serving, &["status"]).ok().starts_with("running: "));
    assert_eq!(bench.act(&serving, "ben", &["secret", "get", "word"]).ok(), "the word");
    let log = bench.ask(&serving, &["manifest", "log"]).ok();
    assert!(log.contains("State recovered") && log.contains(r#"holders=["alice","bob"]"#), "{log}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rehearsal_proves_the_secrets_and_changes_nothing() {
    let bench = Bench::new();
    let serving = recoverable(&bench).await;
    let before = bench.ask(&serving, &["manifest", "get"]).ok();
    let said = recover(&bench, &serving, "carol", &["--rehearse"]).ok();
    assert!(said.contains("1 of 2 recovery secrets are missing"), "{said}");
    assert!(bench.ask(&serving, &["recover", "progress"]).ok().contains("rehearsed so far: carol"));
    assert!(recover(&bench, &serving, "carol", &["--rehearse"]).failed(1).contains("SHARE_REPEATED"));
    let said = recover(&bench, &serving, "bob", &["--rehearse"]).ok();
    assert!(said.contains("Nothing was changed"), "{said}");
    let progress = bench.ask(&serving, &["recover", "progress", "--json"]).ok();
    let progress: Value = serde_json::from_str(&progress).unwrap();
    assert_eq!((&progress["remaining"], &progress["given"]), (&json!(2), &json!([])), "the next is another");
    assert_eq!(bench.ask(&serving, &["manifest", "get"]).ok(), before);
    let log = bench.ask(&serving, &["manifest", "log"]).ok();
    assert_eq!(log.lines().count(), 2, "{log}");
    assert!(log.contains(r#"Recovery rehearsed  holders=["bob","carol"]"#), "{log}");
}

#[tokio::test(flavor = "multi_thread")]
async fn new_holders_get_new_secrets_and_nobody_overlooks_them() {
    let bench = Bench::new();
    let serving = recoverable(&bench).await;
    let mut manifest: Value = serde_json::from_str(&bench.read("manifest.json")).unwrap();
    let mut last = |name: &str| {
        manifest["RecoveryKeys"]["carol"] = json!(bench.holder(name));
        bench.write("next.json", manifest.to_string())
    };
    // Without a file they are printed, and loudly.
    let said = bench.act(&serving, "ann", &["manifest", "update", "--yes", &last("carol-2")]);
    assert!(said.err.contains("KEEP THEM") && said.err.contains("3 holders"), "{}", said.err);
    assert!(said.out.contains("RecoverySecrets") && said.out.contains("carol"), "{}", said.out);
    let new = bench.path("new.json");
    bench
        .act(&serving, "ann", &["manifest", "update", "--yes", &last("carol-3"), "--recovery-secrets", &new])
        .ok();
    let stale = recover(&bench, &serving, "alice", &["--rehearse"]).failed(1);
    assert!(stale.contains("SHARE_WRONG"), "{stale}");
    let key = bench.path("carol-3.rsa.pem");
    bench.ask(&serving, &["recover", "--rehearse", &new, "--holder", "carol", "--key", &key]).ok();
    // An update that gives none leaves no empty file.
    manifest["Marbles"]["tally"]["MaxActivations"] = json!(9);
    let next = bench.write("next.json", manifest.to_string());
    let none = bench.path("none.json");
    bench.act(&serving, "ann", &["manifest", "update", "--yes", &next, "-r", &none]).ok();
    assert!(!Path::new(&none).exists());
}

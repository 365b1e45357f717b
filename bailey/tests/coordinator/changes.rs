//! Setting, changing and looking at a manifest.

use serde_json::{Value, json};

use crate::bench::{Bench, Serving};

/// Under a manifest that both users have to agree to change.
async fn running(bench: &Bench) -> Serving {
    let serving = bench.serve(b"coordinator", None).await;
    let manifest = bench.write("manifest.json", bench.manifest().to_string());
    let said = bench.ask(&serving, &["status"]).ok();
    assert!(said.starts_with("accepting manifest: "), "{said}");
    let none =
        bench.appraise(&serving.url, &["certificate", "chain", &serving.url, "-o", &bench.path("c.pem")]);
    assert!(none.failed(1).contains("no manifest is in force"));
    let refused = bench.act(&serving, "ann", &["manifest", "set", &manifest]).failed(1);
    assert!(refused.contains("OWNER_REQUIRED"), "{refused}");
    bench.act(&serving, "owner", &["manifest", "set", &manifest]).ok();
    serving
}

#[tokio::test(flavor = "multi_thread")]
async fn two_users_update_and_everyone_can_see_it() {
    let bench = Bench::new();
    let serving = running(&bench).await;
    let mut next = bench.manifest();
    next["Marbles"]["tally"]["MaxActivations"] = json!(3);
    let next = bench.write("next.json", next.to_string());

    assert!(bench.ask(&serving, &["manifest", "pending"]).failed(1).contains("UPDATE_ABSENT"));
    let said = bench.act(&serving, "ann", &["manifest", "update", "--yes", &next]).ok();
    assert!(said.contains("1 user still needs") && said.contains("can acknowledge it: ben"), "{said}");
    let twice = bench.act(&serving, "ben", &["manifest", "update", "--yes", &next]).failed(1);
    assert!(twice.contains("UPDATE_PENDING"), "{twice}");
    let said = bench.ask(&serving, &["manifest", "pending", "--output", &bench.path("proposed.json")]).ok();
    assert!(said.contains("missing:   1") && said.contains("ben") && said.contains("fall: none"), "{said}");
    assert_eq!(bench.read("proposed.json"), bench.read("next.json"));
    let pending = bench.ask(&serving, &["manifest", "pending", "--json"]).ok();
    let pending: Value = serde_json::from_str(&pending).unwrap();
    assert_eq!(pending["missingUsers"], json!(["ben"]));

    let other = bench.act(&serving, "ben", &["manifest", "acknowledge", &bench.path("manifest.json")]);
    assert!(other.failed(1).contains("UPDATE_MISMATCH"));
    let said = bench.act(&serving, "ben", &["manifest", "acknowledge", &bench.path("proposed.json")]).ok();
    assert!(said.contains("Update successful"), "{said}");
    assert_eq!(bench.ask(&serving, &["manifest", "get"]).ok(), bench.read("next.json"));

    let digest = crate::bench::bailey(&["manifest", "digest", &next]).ok();
    for manifest in [next.as_str(), digest.trim()] {
        let said = bench.appraise(&serving.url, &["manifest", "verify", manifest, &serving.url]).ok();
        assert!(said.contains("in epoch 2"), "{said}");
    }
    let old = bench.path("manifest.json");
    let said = bench.appraise(&serving.url, &["manifest", "verify", &old, &serving.url]).failed(1);
    assert!(said.contains("another manifest"), "{said}");
    bench.appraise(&serving.url, &["manifest", "verify", "no-such-file", &serving.url]).failed(2);
    let said = bench.appraise(&serving.url, &["verify", &serving.url]).ok();
    assert!(said.contains("mode         running"), "{said}");
    let said = bench.appraise(&serving.url, &["verify", &serving.url, "--json"]).ok();
    assert_eq!(serde_json::from_str::<Value>(&said).unwrap()["coordinator"]["mode"], "running");

    let log = bench.ask(&serving, &["manifest", "log"]).ok();
    let lines: Vec<_> = log.lines().collect();
    assert_eq!(lines.len(), 4, "{log}");
    assert!(lines[1].contains("update initiated by user") && lines[1].contains("user=ann"), "{log}");
    let log: Value = serde_json::from_str(&bench.ask(&serving, &["manifest", "log", "--json"]).ok()).unwrap();
    assert_eq!((&log[3]["update"], &log[3]["epoch"]), (&json!("Complete Manifest updated"), &json!(2)));
}

#[tokio::test(flavor = "multi_thread")]
async fn versions_rise_at_once_and_fall_only_when_it_is_said() {
    let bench = Bench::new();
    let serving = running(&bench).await;
    let raise = bench.write("raise.json", r#"{"Packages": {"signed": {"SecurityVersion": 5}}}"#);
    let said = bench.act(&serving, "ann", &["manifest", "update", "--yes", &raise]).ok();
    assert!(said.contains("Update successful"), "{said}");
    // The document is the same; what is in force is shown on demand.
    assert_eq!(bench.ask(&serving, &["manifest", "get"]).ok(), bench.read("manifest.json"));
    bench.ask(&serving, &["manifest", "get", "--raised", "--output", &bench.path("raised.json")]).ok();
    let raised: Value = serde_json::from_str(&bench.read("raised.json")).unwrap();
    let mut expected = bench.manifest();
    expected["Packages"]["signed"]["SecurityVersion"] = json!(5);
    assert_eq!(raised, expected);
    let signed = bench.ask(&serving, &["manifest", "get", "--signature"]).ok();
    let signed: Value = serde_json::from_str(&signed).unwrap();
    assert!(signed["manifestSignatureRootECDSA"].is_string() && signed["manifestFingerprint"].is_string());

    let old = bench.path("manifest.json");
    let said = bench.act(&serving, "ann", &["manifest", "update", "--yes", &old]).failed(1);
    assert!(said.contains("SECURITY_VERSION_DOWNGRADE") && said.contains("--allow-downgrade"), "{said}");
    bench.act(&serving, "ann", &["manifest", "update", "--yes", &old, "--allow-downgrade", "signed"]).ok();
    assert!(bench.ask(&serving, &["manifest", "pending"]).ok().contains("fall: signed"));
    assert!(bench.act(&serving, "owner", &["manifest", "cancel"]).failed(1).contains("USER_UNKNOWN"));
    assert!(bench.act(&serving, "ben", &["manifest", "cancel"]).ok().contains("cancelled"));
    assert!(bench.act(&serving, "ben", &["manifest", "cancel"]).failed(1).contains("UPDATE_ABSENT"));
}

#[tokio::test(flavor = "multi_thread")]
async fn certificates_of_an_appraised_coordinator() {
    let bench = Bench::new();
    let serving = running(&bench).await;
    let get = |part: &str| {
        let path = bench.path(&format!("{part}.pem"));
        bench.appraise(&serving.url, &["certificate", part, &serving.url, "--output", &path]).ok();
        bench.read(&format!("{part}.pem"))
    };
    let (root, intermediate, chain) = (get("root"), get("intermediate"), get("chain"));
    assert_eq!(chain, format!("{intermediate}{root}"));
    // Another program is not appraised, and nothing is written.
    let output = bench.path("other.pem");
    let measured = crate::bench::bailey(&["measure", &bench.path("ann.pem")]).ok();
    bench.write("reference.json", measured);
    bench.appraise(&serving.url, &["certificate", "root", &serving.url, "--output", &output]).failed(1);
    assert!(!std::path::Path::new(&output).exists());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_plan_is_seen_before_an_update_is_proposed_or_agreed_to() {
    let bench = Bench::new();
    let serving = running(&bench).await;
    let mut next = bench.manifest();
    next["Marbles"]["tally"]["MaxActivations"] = json!(3);
    next["Packages"]["signed"]["SecurityVersion"] = json!(1);
    let (old, next) = (bench.path("manifest.json"), bench.write("next.json", next.to_string()));

    let offline = crate::bench::bailey(&["manifest", "plan", &next, "--current", &old]).ok();
    assert!(offline.starts_with("! the security version of package signed FALLS from 3 to 1\n"), "{offline}");
    assert!(offline.contains("propose it with: --allow-downgrade signed"), "{offline}");
    assert!(offline.contains("- tally may be activated at most 3 times"), "{offline}");
    let asked = bench.act(&serving, "ann", &["manifest", "plan", &next]).ok();
    assert!(asked.contains("FALLS") && asked.contains("None of 0 running Marbles"), "{asked}");
    let json = bench.act(&serving, "owner", &["manifest", "plan", &next, "--json"]).ok();
    let json: Value = serde_json::from_str(&json).unwrap();
    assert_eq!(json["plan"]["downgrades"], json!(["signed"]));
    assert_eq!((&json["epoch"], &json["fleet"]["running"]), (&json!(1), &json!(0)));
    crate::bench::bailey(&["manifest", "plan", &next]).failed(2);
    let both = bench.act(&serving, "ann", &["manifest", "plan", &next, "--current", &old]);
    both.failed(2);

    // Nobody is at a terminal here, so the plan is shown and nothing is proposed.
    let refused = bench.act(&serving, "ann", &["manifest", "update", &next, "--allow-downgrade", "signed"]);
    assert!(refused.out.contains("FALLS") && refused.err.contains("--yes"), "{}{}", refused.out, refused.err);
    assert_eq!(refused.code, 2);
    assert!(bench.ask(&serving, &["manifest", "pending"]).failed(1).contains("UPDATE_ABSENT"));
    let update = ["manifest", "update", "--yes", &next, "--allow-downgrade", "signed"];
    bench.act(&serving, "ann", &update).ok();
    let pending = bench.ask(&serving, &["manifest", "pending", "--plan"]).ok();
    assert!(pending.contains("fall: signed\n! the security version of package signed FALLS"), "{pending}");
}

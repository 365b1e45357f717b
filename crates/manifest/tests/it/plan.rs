//! Plans of updates as people read them, and each rule by itself.

use manifest::{Effect, Kind, Manifest, Plan, plan};
use serde_json::{Value, json};

use super::{ALICE, BOB, ROOT, RSA};

fn shop() -> Value {
    json!({
        "Packages": {
            "keep": {"Measurements": {"Snp": "2b".repeat(48)}},
            "native": {"SignerID": "5a".repeat(32), "ProductID": 1, "SecurityVersion": 5},
        },
        "Platforms": {"Sgx": {}, "Snp": {"MinimumTcb": {"Microcode": 8}}},
        "Marbles": {
            "frontend": {
                "Package": "keep", "Access": "Public", "MaxActivations": 2,
                "Workload": {"Digest": format!("sha256:{}", "33".repeat(32))},
                "Parameters": {"Env": {"TOKEN": "{{ hex .Secrets.token }}"}},
            },
            "database": {
                "Package": "keep", "Peers": ["frontend"],
                "Workload": {"Digest": format!("sha256:{}", "44".repeat(32))},
                "Parameters": {"Env": {"PASSWORD": "{{ hex .Secrets.db_password }}"}},
            },
            "cron": {"Package": "native"},
        },
        "Secrets": {
            "token": {"Type": "symmetric-key", "Size": 128, "Shared": true},
            "db_password": {"Type": "symmetric-key", "Size": 256, "Shared": true},
            "upload": {"Type": "symmetric-key", "Size": 128, "UserDefined": true},
            "site": {"Type": "cert-ecdsa", "Size": 256, "Shared": true},
        },
        "Users": {
            "alice": {"Certificate": ALICE, "Roles": ["admin", "write"]},
            "bob": {"Certificate": BOB, "Roles": ["admin"]},
        },
        "Roles": {
            "admin": {"ResourceType": "Manifest", "Actions": ["UpdateManifest"]},
            "write": {"ResourceType": "Secrets", "ResourceNames": ["upload"], "Actions": ["WriteSecret"]},
            "sites": {"ResourceType": "Secrets", "ResourceNames": ["site"], "Actions": ["ReadSecret"]},
        },
        "RecoveryKeys": {"holder": RSA},
    })
}

fn parse(text: &Value) -> Manifest {
    Manifest::parse(text.to_string().as_bytes()).unwrap_or_else(|faults| panic!("{faults}"))
}

fn changed(pointer: &str, value: Value) -> Plan {
    let mut new = shop();
    let (parent, field) = pointer.rsplit_once('/').unwrap();
    let place = if parent.is_empty() { &mut new } else { new.pointer_mut(parent).unwrap() };
    place[field] = value;
    plan(&parse(&shop()), &parse(&new), |_| true)
}

/// Mark and words of each change, without what happens on every update.
fn words(plan: &Plan) -> Vec<String> {
    let always = |line: &String| !line.contains("site is made anew");
    let line = |change: &manifest::Change| format!("{} {}", change.effect.mark(), change.words);
    plan.changes.iter().map(line).filter(always).collect()
}

#[test]
fn golden_a_plan_of_many_changes() {
    let mut new = shop();
    new["Packages"]["native"]["SecurityVersion"] = json!(3);
    new["Packages"]["keep"]["Measurements"]["Snp"] = json!(["2b".repeat(48), "3c".repeat(48)]);
    new["Platforms"]["Snp"] = json!({"MinimumTcb": {"Microcode": 6}, "EmulatedRoots": [ROOT]});
    new["Platforms"]["Sgx"] = json!({"AcceptedTCBStatuses": ["OutOfDate"]});
    let frontend = &mut new["Marbles"]["frontend"];
    frontend["Workload"]["Digest"] = json!(format!("sha256:{}", "55".repeat(32)));
    frontend["MaxActivations"] = json!(5);
    frontend["Log"] = json!("Host");
    frontend["Names"] = json!(["shop.example.org"]);
    frontend["Limits"] = json!({"Memory": "128MiB"});
    frontend["Parameters"]["Env"]["DB"] = json!("{{ hex .Secrets.db_password }}");
    new["Marbles"]["database"]["Peers"] = json!(["cron"]);
    new["Secrets"]["token"]["Size"] = json!(256);
    new["Secrets"]["upload"]["Size"] = json!(256);
    new["Users"]["bob"]["Roles"] = json!(["write", "sites"]);
    new["Config"] = json!({"FeatureGates": ["MonotonicCounter"], "UpdateDeadline": "2d"});
    new["RecoveryKeys"] = json!({});
    let plan = plan(&parse(&shop()), &parse(&new), |_| true);
    let text = plan.to_string();
    let json = format!("{:#}\n", serde_json::to_value(&plan).unwrap());
    if std::option_env!("BLESS").is_some() {
        let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/golden/");
        std::fs::write(format!("{folder}plan.txt"), &text).unwrap();
        std::fs::write(format!("{folder}plan.json"), &json).unwrap();
    }
    assert_eq!(text, include_str!("../golden/plan.txt"));
    assert_eq!(json, include_str!("../golden/plan.json"));
    assert!(plan.changes.is_sorted_by_key(|change| change.effect), "danger first");
}

#[test]
fn a_plan_without_changes_says_so() {
    let mut shop = shop();
    shop["Secrets"].as_object_mut().unwrap().remove("site");
    shop["Roles"].as_object_mut().unwrap().remove("sites");
    let plan = plan(&parse(&shop), &parse(&shop), |_| true);
    assert_eq!(plan.to_string(), "Nothing that the manifest says would change.\n");
}

#[test]
fn each_change_is_told_with_its_effect() {
    for (pointer, value, expected) in [
        ("/Marbles/database/Peers", json!(["frontend", "cron"]), "! database may now be called by cron"),
        ("/Marbles/database/Peers", json!([]), "- database may no longer be called by frontend"),
        ("/Marbles/frontend/Access", json!("Peers"), "- frontend may no longer be called by just anyone"),
        (
            "/Marbles/frontend/MaxActivations",
            json!(1),
            "- frontend may be activated at most 1 times in all (was at most 2 times)",
        ),
        (
            "/Marbles/frontend/MaxActivations",
            json!(0),
            "! frontend may be activated any number of times in all (was at most 2 times)",
        ),
        ("/Marbles/frontend/Parameters", json!({}), "- frontend may no longer read token"),
        ("/Marbles/cron/Parameters", json!({"Argv": ["a"]}), "~ cron gets other arguments"),
        ("/Marbles/cron/Package", json!("keep"), "! cron is of package keep now (was native)"),
        (
            "/Packages/native/SecurityVersion",
            json!(6),
            "- package native needs security version 6 or later (was 5)",
        ),
        ("/Packages/native/ProductID", json!(2), "! package native may now also be product 2 of signer"),
        ("/Platforms/Snp", json!({}), "! on snp, for keep: the microcode may now be any (least was 8)"),
        (
            "/Platforms/Snp/MinimumTcb/Snp",
            json!(2),
            "- on snp, for keep: the SNP firmware must be 2 or later (was any)",
        ),
        (
            "/Platforms/Snp/DeniedFamilies",
            json!(["Milan"]),
            "- on snp, for keep: processors of the Milan family are refused now",
        ),
        (
            "/Platforms/Sgx/AcceptedAdvisories",
            json!(["INTEL-SA-1"]),
            "- on sgx, for native: no advisory may be open but INTEL-SA-1",
        ),
        ("/Users/bob/Roles", json!(["admin", "write"]), "! user bob may now write upload"),
        ("/Users/alice/Roles", json!(["admin"]), "- user alice may no longer write upload"),
        ("/Users/bob/Roles", json!([]), "- user bob may no longer take part in updates of the manifest"),
        (
            "/Config",
            json!({"UpdateThreshold": 1}),
            "! 1 of 2 users who may update must agree to an update (was 2 of 2)",
        ),
        (
            "/Config",
            json!({"RotateRootSecret": true}),
            "~ token is made anew; its old value stays readable as the previous one",
        ),
        (
            "/Config",
            json!({"RotateRootSecret": true}),
            "~ every secret that is made for single instances is made anew",
        ),
        (
            "/Config",
            json!({"RolloutWindow": "2h"}),
            "! Marbles of the epoch before may speak with the new ones for 2h (was never)",
        ),
        (
            "/Config",
            json!({"RollBackAfter": "10m"}),
            "~ an update is rolled back unless all Marbles that ran run again within 10m (was never)",
        ),
        ("/Infrastructures", json!({"a": {}}), "- infrastructure a is accepted"),
        ("/RecoveryKeys", json!({}), "- holder no longer holds a recovery share"),
        ("/Secrets/token/Size", json!(256), "~ token is made anew; its old value is lost"),
    ] {
        let plan = changed(pointer, value.clone());
        let words = words(&plan);
        assert!(words.iter().any(|line| line.starts_with(expected)), "{pointer} {value}: {words:#?}");
    }
}

#[test]
fn a_marble_that_anyone_may_call_from_now_on_is_told() {
    let mut before = shop();
    before["Marbles"]["frontend"]["Access"] = json!("Peers");
    let plan = plan(&parse(&before), &parse(&shop()), |_| true);
    assert_eq!(words(&plan), ["! frontend may now be called by anyone"]);
}

#[test]
fn s45_a_version_falls_also_where_its_package_goes_or_is_known_otherwise() {
    let mut gone = shop();
    gone["Marbles"]["cron"]["Package"] = json!("keep");
    let mut pinned = shop();
    pinned["Packages"]["native"] = json!({"UniqueID": "6b".repeat(32)});
    let mut lower = shop();
    lower["Packages"]["native"]["SecurityVersion"] = json!(4);
    for (new, words) in [(gone, "gone"), (pinned, "measurements"), (lower, "from 5 to 4")] {
        let plan = plan(&parse(&shop()), &parse(&new), |_| true);
        assert_eq!(plan.downgrades, ["native".to_owned()].into(), "{words}");
        let first = &plan.changes[0];
        assert_eq!((first.kind, first.effect), (Kind::VersionFalls, Effect::Opens));
        assert!(first.words.contains("FALLS") && first.words.contains(words), "{}", first.words);
        assert!(plan.to_string().ends_with("propose it with: --allow-downgrade native\n"));
    }
    assert!(changed("/Packages/native/SecurityVersion", json!(6)).downgrades.is_empty());
}

#[test]
fn what_would_be_refused_is_said() {
    let plan = changed("/Secrets/upload/Size", json!(256));
    assert!(plan.obstacles[0].contains("upload"), "{:?}", plan.obstacles);
    let mut larger = shop();
    larger["Secrets"]["upload"]["Size"] = json!(256);
    let unset = manifest::plan(&parse(&shop()), &parse(&larger), |name| name.as_str() != "upload");
    assert!(unset.obstacles.is_empty(), "there is no value that would not fit");
    let mut shares = shop();
    shares["RecoveryKeys"] = json!({});
    shares["Config"] = json!({"RollBackAfter": "10m"});
    let shares = manifest::plan(&parse(&shop()), &parse(&shares), |_| true);
    assert!(shares.obstacles[0].contains("cannot be rolled back"), "{:?}", shares.obstacles);
    assert!(changed("/Config", json!({"SealMode": "Disabled"})).obstacles[0].contains("seal mode"));
}

#[test]
fn times_of_roll_out_and_roll_back_are_strict() {
    for field in ["RolloutWindow", "RollBackAfter"] {
        for wrong in ["", "0", "0h", "2", "2 h", "1h30m", "366d", "-1h", "2s"] {
            let mut text = shop();
            text["Config"] = json!({ field: wrong });
            let faults = Manifest::parse(text.to_string().as_bytes()).unwrap_err();
            assert_eq!(faults.all()[0].path, format!("Config.{field}"), "{wrong:?}");
        }
        let mut text = shop();
        text["Config"] = json!({ field: "90m" });
        let settings = parse(&text).settings().clone();
        let times = (settings.rollout_window, settings.roll_back_after);
        assert_eq!(times.0.xor(times.1).map(|time| time.as_secs()), Some(5400));
    }
}

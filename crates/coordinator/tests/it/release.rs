//! What is released to whom: each rule of a policy, and what a refusal tells the operator.

use appraisal::UnixTime;
use coordinator::core::{
    Refusal, State, Stored,
    broker::{
        guest::Guest,
        release::{NotReleased, Releasable, release},
    },
    resources,
};
use manifest::{ResourcePath, Use};
use rcar::{KeyAlgorithm, PrivateKey};
use serde_json::{Value, json};
use testkit::tee::NOW;
use zeroize::Zeroizing;

use crate::world::{acknowledge, caller, founded, later, manifest, people, set, step, update};

pub fn digest(byte: &str) -> String {
    format!("sha384:{}", byte.repeat(48))
}

/// A broker whose resource `default/key/db` is released by `policy`.
pub fn with_policy(policy: Value) -> Value {
    let mut manifest = manifest();
    manifest["Packages"]["kata"] =
        json!({ "Measurements": { "Snp": "ab".repeat(48), "Tdx": "cd".repeat(48) } });
    manifest["Secrets"]["kek"] = json!({ "Type": "symmetric-key", "Size": 256, "Shared": true });
    manifest["Broker"] = json!({
        "Policies": { "tried": policy },
        "Repositories": { "default": {
            "Policy": "tried",
            "Resources": {
                "key/db": { "Secret": "salt" },
                "key/question": { "Secret": "question" },
                "image/kek": { "Secret": "kek", "Use": "unwrap" },
            },
        } },
    });
    manifest["Users"]["writer"]["Roles"] = json!(["write", "read-own", "resources", "update"]);
    manifest["Roles"]["update"] = json!({ "ResourceType": "Manifest", "Actions": ["UpdateManifest"] });
    manifest["Roles"]["resources"] = json!({
        "ResourceType": "Repositories", "ResourceNames": ["default"],
        "Actions": ["ReadResource", "WriteResource", "DeleteResource", "ListResources", "ExplainSessions"],
    });
    manifest
}

pub fn under(manifest: &Value) -> State {
    let state = founded();
    let event = set(&state, manifest).unwrap_or_else(|refusal| panic!("{refusal}"));
    step(state, event)
}

/// What a guest on hardware of package `kata` is kept as.
pub fn kept(state: &State) -> Value {
    let mesh = state.mesh().unwrap();
    json!({
        "platform": "snp", "emulated": false, "session": "0".repeat(32), "tee": "snp", "version": "0.4.0",
        "packages": ["kata"], "init_data": digest("ab"),
        "claims": {"submods": {"cpu0": {"ear.status": "affirming"}}},
        "key": PrivateKey::generate(KeyAlgorithm::EcdhP256).unwrap().public().to_json(),
        "epoch": mesh.epoch(), "manifest": mesh.manifest().digest(),
        "attested": NOW.0, "expires": NOW.0 + 300,
    })
}

pub fn guest(kept: &Value) -> Guest {
    Guest::from_bytes(kept.to_string().as_bytes()).unwrap()
}

pub fn path(text: &str) -> ResourcePath {
    text.parse().unwrap()
}

fn ask(state: &State, kept: &Value, at: &str, now: UnixTime) -> Result<Releasable, NotReleased> {
    release(state, &guest(kept), &path(at), Use::Read, now)
}

fn value(state: &State, kept: &Value, at: &str) -> Zeroizing<Vec<u8>> {
    let releasable = ask(state, kept, at, NOW).unwrap_or_else(|why| panic!("{:#}", why.tree()));
    releasable.value(state.mesh().unwrap(), &Stored::default()).unwrap()
}

#[track_caller]
fn refused(state: &State, kept: &Value, at: &str) -> Vec<&'static str> {
    let why = ask(state, kept, at, NOW).expect_err("it is not released");
    for check in why.0.checks.iter().filter(|check| !check.holds) {
        assert!(check.mend.is_some() && !check.expected.is_empty() && !check.seen.is_empty(), "{check:?}");
    }
    why.codes()
}

/// A guest that is otherwise good, changed in one member, under a policy.
#[track_caller]
fn judged(policy: &Value, member: &str, seen: Value) -> Vec<&'static str> {
    let state = under(&with_policy(policy.clone()));
    assert_eq!(value(&state, &kept(&state), "default/key/db").len(), 32, "{policy}");
    let mut kept = kept(&state);
    kept[member] = seen;
    refused(&state, &kept, "default/key/db")
}

#[test]
fn a_guest_that_meets_the_policy_gets_the_value() {
    let policy = json!({
        "Packages": ["kata"], "Platforms": ["snp"], "InitData": [digest("ab")], "Epochs": {"From": 1, "To": 1},
        "Rego": "package policy\nallow if input.submods.cpu0[\"ear.status\"] == \"affirming\"",
    });
    let state = under(&with_policy(policy));
    assert_eq!(value(&state, &kept(&state), "default/key/db").len(), 32);
}

#[test]
fn each_typed_rule_refuses_by_itself() {
    let all = json!({"Packages": ["kata"], "Platforms": ["snp"], "InitData": [digest("ab")]});
    assert_eq!(judged(&all, "packages", json!(["keep"])), ["PACKAGE_NOT_GRANTED"]);
    assert_eq!(judged(&all, "packages", json!([])), ["PACKAGE_NOT_GRANTED"]);
    assert_eq!(judged(&all, "platform", json!("tdx")), ["PLATFORM_NOT_GRANTED"]);
    assert_eq!(judged(&all, "platform", Value::Null), ["PLATFORM_NOT_GRANTED"]);
    assert_eq!(judged(&all, "init_data", json!(digest("cd"))), ["INIT_DATA_NOT_GRANTED"]);
    assert_eq!(judged(&all, "init_data", Value::Null), ["INIT_DATA_NOT_GRANTED"]);
    assert_eq!(judged(&all, "emulated", json!(true)), ["EMULATED_NOT_GRANTED"]);
    assert_eq!(judged(&all, "epoch", json!(2)), ["SESSION_STALE"]);
    assert_eq!(judged(&all, "manifest", json!("ab".repeat(32))), ["SESSION_STALE"]);
    assert_eq!(judged(&all, "expires", json!(NOW.0)), ["SESSION_EXPIRED"]);
}

#[test]
fn a_policy_for_other_epochs_refuses() {
    let state = under(&with_policy(json!({"Packages": ["kata"], "Epochs": {"From": 2}})));
    assert_eq!(refused(&state, &kept(&state), "default/key/db"), ["EPOCH_NOT_GRANTED"]);
}

#[test]
fn all_that_is_wrong_is_told_at_once() {
    let policy = json!({"Packages": ["keep"], "Platforms": ["tdx"], "InitData": [digest("cd")]});
    let state = under(&with_policy(policy));
    let mut kept = kept(&state);
    kept["emulated"] = json!(true);
    let why = ask(&state, &kept, "default/key/db", NOW).expect_err("it is not released");
    let expected =
        ["PACKAGE_NOT_GRANTED", "PLATFORM_NOT_GRANTED", "EMULATED_NOT_GRANTED", "INIT_DATA_NOT_GRANTED"];
    assert_eq!(why.codes(), expected);
    let tree = why.tree();
    assert_eq!((&tree["resource"], &tree["policy"]), (&json!("default/key/db"), &json!("tried")));
    let table: Vec<_> = tree["checks"]
        .as_array()
        .unwrap()
        .iter()
        .map(|it| (&it["check"], &it["expected"], &it["seen"]))
        .collect();
    assert!(table.contains(&(&json!("package"), &json!("one of keep"), &json!("kata"))), "{tree:#}");
    assert!(table.contains(&(&json!("platform"), &json!("one of tdx"), &json!("snp"))));
    assert_eq!(why.to_string(), format!("the resource is not released ({})", expected.join(", ")));
}

/// It takes the policy, and a root that the manifest names for the guest's package.
#[test]
fn an_emulated_guest_needs_policy_and_root() {
    let policy = json!({"Packages": ["kata"], "Emulated": true});
    let mut manifest = with_policy(policy);
    let state = under(&manifest);
    let mut kept_there = kept(&state);
    kept_there["emulated"] = json!(true);
    assert_eq!(value(&state, &kept_there, "default/key/db").len(), 32);
    // CoCo's sample, which is on no platform: only where the manifest says so, too.
    kept_there["platform"] = Value::Null;
    assert_eq!(refused(&state, &kept_there, "default/key/db"), ["EMULATED_NOT_GRANTED"]);
    manifest["Broker"]["Sample"] = json!(true);
    let state = under(&manifest);
    let mut sample = kept(&state);
    (sample["emulated"], sample["platform"]) = (json!(true), Value::Null);
    assert_eq!(value(&state, &sample, "default/key/db").len(), 32);

    manifest["Platforms"]["Snp"] = json!({});
    let state = under(&manifest);
    let mut kept_there = kept(&state);
    kept_there["emulated"] = json!(true);
    assert_eq!(refused(&state, &kept_there, "default/key/db"), ["EMULATED_NOT_GRANTED"]);
}

#[test]
fn rego_is_asked_last_and_refuses_by_default() {
    let rego = |rule: &str| {
        let policy = json!({"Packages": ["kata"], "Rego": format!("package policy\nimport rego.v1\n{rule}")});
        let state = under(&with_policy(policy));
        ask(&state, &kept(&state), "default/key/db", NOW).map(drop).map_err(|why| why.codes())
    };
    assert_eq!(rego("allow := true"), Ok(()));
    assert_eq!(rego("default allow := false"), Err(vec!["REGO_DENIED"]));
    assert_eq!(rego("allow if input.no.such"), Err(vec!["REGO_DENIED"]));
    assert_eq!(rego("allow := 1"), Err(vec!["REGO_DENIED"]));
    assert_eq!(rego("allow if data[\"resource-path\"] == [\"default\", \"key\", \"db\"]"), Ok(()));
    assert_eq!(rego("allow if data[\"resource-path\"][2] == \"other\""), Err(vec!["REGO_DENIED"]));
    assert_eq!(rego("allow if count(1) > 0"), Err(vec!["REGO_INVALID"]));
    let digits = "a := [0, 1, 2, 3, 4, 5, 6, 7, 8, 9]\n";
    let some: String = (0..8).map(|index| format!("some x{index} in a; ")).collect();
    assert_eq!(rego(&format!("{digits}allow if {{ {some} x0 > 100 }}")), Err(vec!["REGO_LIMIT"]));
    // Not asked about who is refused anyway, so a table without it.
    let policy = json!({"Packages": ["keep"], "Rego": "package policy\nallow := true"});
    let state = under(&with_policy(policy));
    let why = ask(&state, &kept(&state), "default/key/db", NOW).expect_err("another package");
    assert!(why.0.checks.iter().all(|check| check.check != "rego"));
}

#[test]
fn the_policys_reasons_are_the_operators() {
    let policy = json!({"Packages": ["kata"], "Rego": "package policy\nallow := false\nreasons contains \"not on Sundays\""});
    let state = under(&with_policy(policy));
    let why = ask(&state, &kept(&state), "default/key/db", NOW).expect_err("it is denied");
    assert_eq!(why.0.checks.last().unwrap().seen, "not on Sundays");
}

#[test]
fn a_manifest_whose_rego_cannot_be_run_is_refused() {
    for (rego, expected) in [
        ("package policy\nallow if http.send({})", "http.send is not available"),
        ("package policy\nallow if {", ""),
        ("package other\nallow := true", "its package is not `policy`"),
    ] {
        let bad = with_policy(json!({"Packages": ["kata"], "Rego": rego}));
        let Err(Refusal::Manifest(faults)) = set(&founded(), &bad) else { panic!("{rego}") };
        assert_eq!(faults.all()[0].path, "Broker.Policies.tried.Rego");
        assert!(faults.all()[0].message.contains(expected), "{faults}");
        // Neither can it be proposed.
        let state = under(&with_policy(json!({"Packages": ["kata"]})));
        let proposed =
            update(&state, &caller(&people().writer), bad.to_string().into_bytes(), [].into(), NOW);
        assert!(matches!(proposed, Err(Refusal::Manifest(_))), "{rego}");
    }
}

#[test]
fn what_does_not_exist_is_refused_as_such_to_operators_only() {
    let state = under(&with_policy(json!({"Packages": ["kata"]})));
    for at in ["default/key/none", "other/key/db"] {
        assert_eq!(refused(&state, &kept(&state), at), ["RESOURCE_UNKNOWN"]);
    }
    assert_eq!(refused(&state, &kept(&state), "default/key/question"), ["VALUE_UNAVAILABLE"]);
}

#[test]
fn a_key_that_unwraps_is_not_read() {
    let state = under(&with_policy(json!({"Packages": ["kata"]})));
    assert_eq!(refused(&state, &kept(&state), "default/image/kek"), ["USE_NOT_GRANTED"]);
    let unwrap = |at: &str| release(&state, &guest(&kept(&state)), &path(at), Use::Unwrap, NOW);
    assert!(unwrap("default/image/kek").is_ok());
    assert!(unwrap("default/key/db").is_ok(), "whoever may read it may unwrap with it");
}

/// What was appraised under a manifest counts under that one alone, also where the new one would accept it.
#[test]
fn s45_a_session_ends_with_its_manifest() {
    let mut manifest = with_policy(json!({"Packages": ["kata"]}));
    let state = under(&manifest);
    let before = kept(&state);
    assert!(ask(&state, &before, "default/key/db", NOW).is_ok());
    manifest["Broker"]["Tokens"] = json!({"Lifetime": "1m"});
    let bytes = manifest.to_string().into_bytes();
    let writer = caller(&people().writer);
    let (events, progress) = update(&state, &writer, bytes.clone(), [].into(), NOW).unwrap();
    assert_eq!(progress.missing, 0);
    let state = events.into_iter().fold(state, step);
    assert_eq!(refused(&state, &before, "default/key/db"), ["SESSION_STALE"]);
    assert!(ask(&state, &kept(&state), "default/key/db", NOW).is_ok());
    assert!(acknowledge(&state, &writer, &bytes, NOW).is_err());
}

/// S-39: whatever a session was given before, each release asks the policy that is in force.
#[test]
fn s39_each_release_asks_again() {
    let state = under(&with_policy(json!({"Packages": ["kata"]})));
    let kept = kept(&state);
    assert!(ask(&state, &kept, "default/key/db", NOW).is_ok());
    assert!(ask(&state, &kept, "default/key/db", later(299)).is_ok());
    let why = ask(&state, &kept, "default/key/db", later(300)).expect_err("its time is up");
    assert_eq!(why.codes(), ["SESSION_EXPIRED"]);

    // What a user deletes is gone for sessions that have read it.
    let writer = caller(&people().writer);
    let value = Zeroizing::new(b"v".to_vec());
    let (event, _) = resources::put(&state, &writer, &path("default/a/b"), &value, None, NOW).unwrap();
    let state = step(state, event);
    assert!(ask(&state, &kept, "default/a/b", NOW).is_ok());
    let event = resources::delete(&state, &writer, &path("default/a/b"), NOW).unwrap();
    let state = step(state, event);
    assert_eq!(refused(&state, &kept, "default/a/b"), ["RESOURCE_UNKNOWN"]);
}

/// S-44: neither what is logged of a refusal nor its debug form has a value, and the message has no name.
#[test]
fn s44_a_refusal_names_no_resource() {
    let state = under(&with_policy(json!({"Packages": ["keep"]})));
    let why = ask(&state, &kept(&state), "default/key/db", NOW).expect_err("another package");
    assert!(!why.to_string().contains("key/db"));
    let state = under(&with_policy(json!({"Packages": ["kata"]})));
    let releasable = ask(&state, &kept(&state), "default/key/db", NOW).unwrap();
    let shown = format!("{releasable:?}");
    let value = releasable.value(state.mesh().unwrap(), &Stored::default()).unwrap();
    assert!(!shown.contains(&format!("{:?}", &value[..4]).replace(['[', ']'], "")), "{shown}");
}

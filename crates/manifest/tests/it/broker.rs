//! The key broker: what the manifest says of it, what each rule refuses, and what a plan tells.

use manifest::{Broker, Manifest, ResourceAction, ResourcePath, SecretName, Use, plan};
use serde_json::{Value, json};

use super::{ALICE, ROOT, long};

fn digest() -> String {
    format!("sha384:{}", "ab".repeat(48))
}

pub fn broker() -> Value {
    json!({
        "Packages": {
            "kata": {"Measurements": {"Snp": long(), "Tdx": long()}},
            "libos": {"UniqueID": "1a".repeat(32)},
        },
        "Platforms": {"Sgx": {}, "Tdx": {}, "Snp": {"EmulatedRoots": [ROOT]}},
        "Secrets": {
            "db-key": {"Type": "symmetric-key", "Size": 128, "Shared": true},
            "image-kek": {"Type": "symmetric-key", "Size": 256, "Shared": true},
            "password": {"Type": "plain", "UserDefined": true},
            "own": {"Type": "symmetric-key", "Size": 256},
            "machine": {"Type": "symmetric-key", "Size": 256, "Scope": "Platform"},
            "site": {"Type": "cert-ecdsa", "Size": 256, "Shared": true},
        },
        "Broker": {
            "Policies": {
                "pods": {
                    "Packages": ["kata"], "Platforms": ["snp", "tdx"], "InitData": [digest()],
                    "Epochs": {"From": 2, "To": 9}, "Emulated": true, "Rego": "package policy\nallow := true",
                },
                "other": {"Packages": ["kata", "libos"]},
            },
            "Repositories": {
                "default": {
                    "Policy": "pods",
                    "Resources": {
                        "key/db": {"Secret": "db-key", "Policy": "other", "Use": "read"},
                        "key/pw": {"Secret": "password"},
                        "image/app": {"Secret": "image-kek", "Use": "unwrap"},
                    },
                },
                "fixed": {"Resources": {"a/b": {"Secret": "db-key", "Policy": "other"}}},
            },
            "Tokens": {"Lifetime": "10m", "Audiences": ["https://api.example.org"]},
        },
        "Users": {"alice": {"Certificate": ALICE, "Roles": ["operator", "statements"]}},
        "Roles": {
            "operator": {
                "ResourceType": "Repositories", "ResourceNames": ["default"],
                "Actions": ["ReadResource", "WriteResource", "deleteresource", "ListResources"],
            },
            "statements": {"ResourceType": "References", "Actions": ["WriteReference"]},
        },
    })
}

fn parse(document: &Value) -> Result<Manifest, Vec<String>> {
    Manifest::parse(document.to_string().as_bytes())
        .map_err(|faults| faults.all().iter().map(|fault| format!("{} {}", fault.path, fault.code)).collect())
}

fn good(document: &Value) -> Manifest {
    parse(document).unwrap_or_else(|faults| panic!("{faults:#?}"))
}

fn with(pointer: &str, value: Value) -> Value {
    let mut document = broker();
    let (parent, field) = pointer.rsplit_once('/').expect("a pointer");
    let field = field.replace("~1", "/");
    let place =
        if parent.is_empty() { &mut document } else { document.pointer_mut(parent).expect("a place") };
    place[field] = value;
    document
}

#[track_caller]
fn refused(pointer: &str, value: Value, expected: &[&str]) {
    assert_eq!(parse(&with(pointer, value)).expect_err("a fault"), expected);
}

fn path(text: &str) -> ResourcePath {
    text.parse().expect("a path")
}

#[test]
fn a_broker_resolves_and_needs_no_marbles() {
    let manifest = good(&broker());
    let Broker { policies, tokens, sample, .. } = manifest.broker().expect("a broker");
    assert!(manifest.marbles().is_empty() && !sample);
    assert_eq!(manifest.packages().len(), 2, "a guest may be any package");
    assert_eq!((tokens.lifetime.as_secs(), tokens.audiences.len()), (600, 1));
    let pods = &policies["pods"];
    assert!(pods.emulated && pods.rego.is_some());
    assert_eq!(pods.platforms.as_ref().expect("platforms").len(), 2);
    assert_eq!(pods.init_data.as_ref().expect("digests").first().expect("one").to_string(), digest());
    let epochs = pods.epochs.expect("epochs");
    assert_eq!([1, 2, 9, 10].map(|epoch| epochs.contains(epoch)), [false, true, true, false]);

    let broker = manifest.broker().expect("a broker");
    let resource = broker.declared(&path("default/key/db")).expect("a resource");
    assert_eq!((resource.policy.name.as_str(), resource.usage), ("other", Use::Read));
    let inherited = broker.declared(&path("default/key/pw")).expect("a resource");
    assert_eq!(inherited.policy.name.as_str(), "pods");
    assert_eq!(broker.declared(&path("default/image/app")).expect("a resource").usage, Use::Unwrap);
    assert!(broker.declared(&path("other/key/db")).is_none());
    assert_eq!(broker.upload_policy(&path("default/any/thing")).expect("a policy").name.as_str(), "pods");
    assert!(broker.upload_policy(&path("default/key/db")).is_none(), "what is declared is not uploaded");
    assert!(broker.upload_policy(&path("fixed/any/thing")).is_none());
    let referenced = manifest.referenced_secrets();
    for name in ["db-key", "image-kek", "password"] {
        assert!(referenced.contains::<SecretName>(&name.parse().expect("a name")), "{name}");
    }
}

#[test]
fn a_verifier_alone_has_no_repositories() {
    let mut document = broker();
    document["Broker"] = json!({});
    document["Roles"] = json!({});
    document["Users"] = json!({});
    let manifest = good(&document);
    assert_eq!(manifest.packages().len(), 2);
    assert!(manifest.broker().expect("a broker").repositories.is_empty());
    document.as_object_mut().expect("an object").remove("Broker");
    assert_eq!(parse(&document).expect_err("no Marbles either"), ["Marbles MISSING"]);
}

#[test]
fn a_policy_is_for_someone() {
    let at = "/Broker/Policies/other";
    let refused_at = |field: &str, value: Value, expected: &str| {
        let expected = format!("Broker.Policies.other.{expected}");
        refused(&format!("{at}/{field}"), value, &[&expected]);
    };
    refused_at("Packages", json!([]), "Packages MISSING");
    refused_at("Packages", json!(["katta"]), "Packages[0] UNKNOWN_REFERENCE");
    refused_at("Packages", json!(["kata", "kata"]), "Packages[1] DUPLICATE_VALUE");
    refused_at("Platforms", json!([]), "Platforms MISSING");
    refused_at("Platforms", json!(["Snp"]), "Platforms[0] INVALID_VALUE");
    refused_at("Platforms", json!(["snp", "snp"]), "Platforms[1] DUPLICATE_VALUE");
    refused_at("Platforms", json!(["nitro"]), "Platforms[0] PLATFORM_NOT_LISTED");
    refused_at("InitData", json!([]), "InitData MISSING");
    refused_at("InitData", json!(["sha384:abcd"]), "InitData[0] INVALID_VALUE");
    refused_at("InitData", json!([digest(), digest()]), "InitData[1] DUPLICATE_VALUE");
    refused_at("Epochs", json!({}), "Epochs MISSING");
    refused_at("Epochs", json!({"From": 3, "To": 2}), "Epochs INVALID_VALUE");
    refused_at("Rego", json!(" \n"), "Rego MISSING");
    refused_at("Rego", json!("x".repeat(32 * 1024 + 1)), "Rego INVALID_VALUE");
    refused_at("Regoo", json!(""), "Regoo UNKNOWN_FIELD");
}

#[test]
fn rego_is_checked_by_whom_will_run_it() {
    let document = broker().to_string();
    let check = |text: &str| if text.contains("true") { Err("not that".to_owned()) } else { Ok(()) };
    let faults = Manifest::parse_checking(document.as_bytes(), &check).expect_err("a fault");
    assert_eq!(faults.all().len(), 1);
    assert_eq!(faults.all()[0].path, "Broker.Policies.pods.Rego");
    assert_eq!(faults.all()[0].message, "not that");
    assert!(Manifest::parse_checking(document.as_bytes(), &|_| Ok(())).is_ok());
}

#[test]
fn an_emulated_guest_needs_a_root_of_its_platform() {
    let mut document = with("/Platforms/Snp", json!({}));
    assert_eq!(parse(&document).expect_err("no root"), ["Broker.Policies.pods.Emulated NOT_APPLICABLE"]);
    document["Platforms"]["Snp"] = json!({"EmulatedRoots": [ROOT]});
    document["Broker"]["Policies"]["pods"]["Platforms"] = json!(["tdx"]);
    assert_eq!(parse(&document).expect_err("no root"), ["Broker.Policies.pods.Emulated NOT_APPLICABLE"]);
}

#[test]
fn a_resource_without_a_policy_is_a_fault() {
    let resources = "Broker.Repositories.fixed.Resources[\"a/b\"]";
    let at = "/Broker/Repositories/fixed/Resources/a~1b";
    refused(at, json!({"Secret": "db-key"}), &[&format!("{resources}.Policy MISSING")]);
    refused(
        at,
        json!({"Secret": "db-key", "Policy": "none"}),
        &[&format!("{resources}.Policy UNKNOWN_REFERENCE")],
    );
    refused(
        "/Broker/Repositories/default/Policy",
        json!("none"),
        &["Broker.Repositories.default.Policy UNKNOWN_REFERENCE"],
    );
    refused("/Broker/Repositories/empty", json!({}), &["Broker.Repositories.empty MISSING"]);
}

#[test]
fn a_resource_is_a_secret_that_all_have_in_common() {
    let at = "/Broker/Repositories/fixed/Resources/a~1b";
    let expected = |code: &str| format!("Broker.Repositories.fixed.Resources[\"a/b\"].Secret {code}");
    for (secret, code) in [
        ("none", "UNKNOWN_REFERENCE"),
        ("own", "NOT_APPLICABLE"),
        ("machine", "NOT_APPLICABLE"),
        ("site", "NOT_APPLICABLE"),
    ] {
        refused(at, json!({"Secret": secret, "Policy": "other"}), &[&expected(code)]);
    }
}

#[test]
fn a_key_that_unwraps_never_leaves() {
    let at = "/Broker/Repositories/fixed/Resources/a~1b";
    let resource = |what: &str| format!("Broker.Repositories.fixed.Resources[\"a/b\"].{what}");
    let unwraps = |secret: &str, usage: &str| json!({"Secret": secret, "Policy": "other", "Use": usage});
    refused(at, unwraps("image-kek", "read"), &[&resource("Use CONFLICT")]);
    refused(at, unwraps("image-kek", "wrap"), &[&resource("Use INVALID_VALUE")]);
    let mut short = with(at, unwraps("db-key", "unwrap"));
    let default = &mut short["Broker"]["Repositories"]["default"]["Resources"];
    default.as_object_mut().expect("an object").remove("key/db");
    assert_eq!(parse(&short).expect_err("too short"), [resource("Secret NOT_APPLICABLE")]);
}

#[test]
fn paths_and_names_are_plain() {
    for name in ["key", "a/b/c", "../b", "a/..", "a/.b", "a//b", "/b", "a/", "a/b%2f", "a/ö"] {
        let mut document = broker();
        let resource = json!({"Secret": "db-key", "Policy": "other"});
        document["Broker"]["Repositories"]["fixed"]["Resources"] = json!({name: resource});
        let expected = format!("Broker.Repositories.fixed.Resources[\"{name}\"] INVALID_NAME");
        let faults = parse(&document).expect_err(name);
        assert!(faults == [expected] || name == "key", "{faults:?}");
    }
    let repository = json!({"Policy": "other"});
    refused("/Broker/Repositories/..", repository, &["Broker.Repositories[\"..\"] INVALID_NAME"]);
    refused(
        "/Broker/Policies/a b",
        json!({"Packages": ["kata"]}),
        &["Broker.Policies[\"a b\"] INVALID_NAME"],
    );
}

#[test]
fn tokens_live_a_day_at_most() {
    let at = "/Broker/Tokens";
    for lifetime in ["25h", "0m", "10", "1d1h", ""] {
        refused(at, json!({"Lifetime": lifetime}), &["Broker.Tokens.Lifetime INVALID_VALUE"]);
    }
    refused(at, json!({"Audiences": [""]}), &["Broker.Tokens.Audiences[0] INVALID_VALUE"]);
    refused(at, json!({"Audiences": ["a b"]}), &["Broker.Tokens.Audiences[0] INVALID_VALUE"]);
    refused(at, json!({"Audiences": ["a", "a"]}), &["Broker.Tokens.Audiences[1] DUPLICATE_VALUE"]);
}

#[test]
fn roles_name_repositories_and_what_may_be_done_there() {
    let manifest = good(&broker());
    let alice = &manifest.users()["alice"];
    let name = |text: &str| text.parse().expect("a name");
    for action in ResourceAction::ALL {
        let granted = !matches!(action, ResourceAction::ExplainSessions | ResourceAction::WrapKey);
        assert_eq!(alice.may_in(action, &name("default")), granted, "{action:?}");
        assert_eq!(alice.may_in_some(action), granted, "{action:?}");
        assert!(!alice.may_in(action, &name("fixed")), "{action:?}");
    }
    assert!(alice.may_write_references());

    let at = "/Roles/operator";
    let role = |names: Value, actions: Value| json!({"ResourceType": "Repositories", "ResourceNames": names, "Actions": actions});
    refused(at, role(json!(["none"]), json!([])), &["Roles.operator.ResourceNames[0] UNKNOWN_REFERENCE"]);
    refused(at, role(json!(["fixed"]), json!(["ReadSecret"])), &["Roles.operator.Actions[0] INVALID_VALUE"]);
    refused(
        at,
        role(json!(["fixed"]), json!(["WriteResource"])),
        &["Roles.operator.ResourceNames[0] ROLE_NOT_PERMITTED"],
    );
    let references =
        json!({"ResourceType": "References", "ResourceNames": ["a"], "Actions": ["WriteReference"]});
    refused("/Roles/statements", references, &["Roles.statements.ResourceNames NOT_APPLICABLE"]);
}

#[test]
fn the_page_about_resources_has_a_manifest() {
    let page = include_str!("../../../../docs/broker-resources.md");
    let example = page.split("```yaml\n").nth(1).and_then(|rest| rest.split("```").next());
    let example =
        example.expect("an example").replace("<measurement>", &long()).replace("<digest>", &"ab".repeat(48));
    let manifest = Manifest::parse(example.as_bytes()).unwrap_or_else(|faults| panic!("{faults}\n{example}"));
    let broker = manifest.broker().expect("a broker");
    assert_eq!(broker.declared(&path("default/image/app")).expect("a resource").usage, Use::Unwrap);
    assert_eq!(broker.declared(&path("default/key/db")).expect("a resource").policy.name.as_str(), "pods");
}

/// Mark and words of what a change of the broker's section does.
fn told(old: &Value, new: &Value) -> Vec<String> {
    let plan = plan(&good(old), &good(new), |_| true);
    let about_values = |line: &String| !line.contains("made anew");
    let line = |change: &manifest::Change| format!("{} {}", change.effect.mark(), change.words);
    plan.changes.iter().map(line).filter(about_values).collect()
}

#[test]
fn a_plan_tells_what_opens_and_what_closes() {
    let now = broker();
    let pods = "/Broker/Policies/pods";
    let other = format!("sha384:{}", "cd".repeat(48));
    for (pointer, value, expected) in [
        (format!("{pods}/Packages"), json!(["kata", "libos"]), "! policy pods: package libos now meets it"),
        (format!("{pods}/Platforms"), json!(["snp"]), "- policy pods: the platform may no longer be tdx"),
        (format!("{pods}/Platforms"), Value::Null, "! policy pods: the platform may now be any"),
        (format!("{pods}/InitData"), Value::Null, "! policy pods: the init-data may now be any"),
        (
            format!("{pods}/Epochs"),
            json!({"From": 2}),
            "! policy pods: met from epoch 2 on (was from epoch 2 to 9)",
        ),
        (
            format!("{pods}/Epochs"),
            json!({"From": 3, "To": 9}),
            "- policy pods: met from epoch 3 to 9 (was from epoch 2 to 9)",
        ),
        (
            format!("{pods}/Emulated"),
            json!(false),
            "- policy pods: a guest may no longer be on an emulated platform",
        ),
        (
            format!("{pods}/Rego"),
            json!("package policy\nallow := false"),
            "! policy pods: its policy in Rego is another one",
        ),
        (format!("{pods}/Rego"), Value::Null, "! policy pods: its policy in Rego is gone"),
        (
            "/Broker/Sample".into(),
            json!(true),
            "! sample Evidence is now accepted, and proves nothing at all",
        ),
        ("/Broker/Tokens/Lifetime".into(), json!("20m"), "! a guest's token is valid for 20m (was 10m)"),
        (
            "/Broker/Tokens/Audiences".into(),
            json!([]),
            "- guests' tokens are no longer made for https://api.example.org",
        ),
        (
            "/Broker/Repositories/default/Resources/key~1new".into(),
            json!({"Secret": "db-key"}),
            "! db-key is given to guests as default/key/new, by policy pods",
        ),
        (
            "/Broker/Repositories/default/Resources/key~1db/Policy".into(),
            json!("pods"),
            "! default/key/db is released by policy pods now (was other)",
        ),
        (
            "/Broker/Repositories/default/Resources/key~1db/Secret".into(),
            json!("password"),
            "! default/key/db is secret password now (was db-key)",
        ),
        (
            "/Broker/Repositories/default/Resources/image~1app/Use".into(),
            json!("read"),
            "! default/image/app is given away now, and not only used to unwrap",
        ),
        (
            "/Broker/Repositories/fixed/Policy".into(),
            json!("other"),
            "! what is uploaded into repository fixed is released by policy other",
        ),
        (
            "/Roles/operator/Actions".into(),
            json!(["ReadResource", "WriteResource", "DeleteResource"]),
            "- user alice may no longer list repository default",
        ),
        (
            "/Roles/statements/Actions".into(),
            json!([]),
            "- user alice may no longer bring and remove statements about reference values",
        ),
    ] {
        let escaped =
            pointer.rsplit_once('/').map(|(parent, field)| (parent.to_owned(), field.replace("~1", "/")));
        let (parent, field) = escaped.expect("a pointer");
        let mut new = now.clone();
        new.pointer_mut(&parent).expect("a place")[field] = value;
        assert_eq!(told(&now, &new), [expected], "{pointer}");
        if pointer.ends_with("InitData") {
            new["Broker"]["Policies"]["pods"]["InitData"] = json!([digest(), other]);
            assert_eq!(told(&now, &new), [format!("! policy pods: the init-data may now be {other}")]);
        }
    }
    let mut without = now.clone();
    without["Broker"]["Repositories"].as_object_mut().expect("an object").remove("fixed");
    assert_eq!(told(&now, &without), ["- fixed/a/b is released to nobody any more"]);
    without["Roles"] = json!({});
    without["Users"] = json!({});
    let mut none = without.clone();
    none["Broker"] = json!({});
    let lines = told(&without, &none);
    assert!(
        lines.contains(
            &"- repository default takes no uploads any more, and what was uploaded is lost".into()
        ),
        "{lines:?}"
    );
}

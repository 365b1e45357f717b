//! Marbles that are databases.

use manifest::{Effect, plan};

use super::*;

fn database() -> Value {
    let mut document = keeps();
    document["Marbles"]["ledger"] =
        json!({ "Package": "keep", "Database": { "Manifest": format!("sha256:{}", "0a".repeat(32)) } });
    document
}

#[track_caller]
fn refused(field: &str, value: Value, expected: &[&str]) {
    assert_eq!(faults(&with(database(), &format!("/Marbles/ledger/{field}"), value)), expected, "{field}");
}

#[test]
fn a_marble_can_be_the_database_that_began_with_a_manifest() {
    let manifest = parse(&database()).expect("a manifest");
    let ledger = manifest.marble("ledger").expect("a Marble");
    assert!(ledger.workload.is_none());
    assert_eq!(ledger.database.map(|database| database.first), Some([0x0a; 32]));
    assert!(manifest.marble("tally").unwrap().database.is_none());
    let frontend = "frontend".parse().unwrap();
    assert!(manifest.reachable_from(&frontend).all(|marble| marble.name.as_str() != "ledger"));
}

#[test]
fn which_database_it_is_must_be_said() {
    refused("Database", json!({}), &["Marbles.ledger.Database.Manifest INVALID_VALUE"]);
    for wrong in ["0a".repeat(32), format!("sha256:{}", "0A".repeat(32)), "sha256:0a".into()] {
        let database = json!({ "Manifest": wrong });
        refused("Database", database, &["Marbles.ledger.Database.Manifest INVALID_VALUE"]);
    }
    let unknown = json!({ "Manifest": format!("sha256:{}", "0a".repeat(32)), "Volume": "x" });
    refused("Database", unknown, &["Marbles.ledger.Database.Volume UNKNOWN_FIELD"]);
}

#[test]
fn what_a_database_would_not_heed_is_refused() {
    let workload = json!({ "Digest": format!("sha256:{}", "ab".repeat(32)) });
    refused("Workload", workload, &["Marbles.ledger.Database CONFLICT"]);
    let variable = json!({ "Env": { "A": "1" } });
    refused("Parameters", variable, &["Marbles.ledger.Parameters NOT_APPLICABLE"]);
    refused("Names", json!(["db.example.org"]), &["Marbles.ledger.Names NOT_APPLICABLE"]);
    refused("Access", json!("Public"), &["Marbles.ledger.Access NOT_APPLICABLE"]);
    refused("Log", json!("Host"), &["Marbles.ledger.Log NOT_APPLICABLE"]);
}

#[test]
fn a_plan_says_who_gets_the_key_of_a_database() {
    let (none, first) = (parse(&keeps()).unwrap(), parse(&database()).unwrap());
    let other = json!(format!("sha256:{}", "0b".repeat(32)));
    let second = parse(&with(database(), "/Marbles/ledger/Database/Manifest", other)).unwrap();
    let mut native = database();
    native["Marbles"]["ledger"].as_object_mut().unwrap().remove("Database");
    let native = parse(&native).unwrap();
    let words = |old: &Manifest, new: &Manifest| -> Vec<(Effect, String)> {
        let changes = plan(old, new, |_| true).changes;
        changes.into_iter().map(|change| (change.effect, change.words)).collect()
    };
    let [(effect, said)] = &words(&first, &second)[..] else { panic!() };
    assert_eq!(*effect, Effect::Opens);
    assert!(said.starts_with("ledger is another database now: the database that began"), "{said}");
    let [(effect, said)] = &words(&first, &native)[..] else { panic!() };
    assert_eq!((*effect, said.as_str()), (Effect::Closes, "ledger is no database any more; its key is kept"));
    let [(effect, said)] = &words(&native, &first)[..] else { panic!() };
    assert_eq!(*effect, Effect::Opens);
    assert!(said.starts_with("ledger is the database that began with the manifest sha256:0a0a"), "{said}");
    assert!(words(&none, &first).iter().any(|(_, said)| said == "Marble ledger is new, of package keep"));
}

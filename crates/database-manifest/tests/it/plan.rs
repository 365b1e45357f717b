//! What a change means, and who must agree.

use std::collections::BTreeSet;

use database_manifest::{Effect, Manifest, Migration, PartyName, Plan, Point, Restoration};
use serde_json::{Value, json};
use testkit::parties::Parties;

use crate::manifest::parse;

fn pair(change: impl FnOnce(&mut Value)) -> (Manifest, Manifest) {
    let mut document = Parties::new().manifest();
    let old = parse(&document).expect("no faults");
    change(&mut document);
    (old, parse(&document).unwrap_or_else(|faults| panic!("{faults}")))
}

fn planned(change: impl FnOnce(&mut Value)) -> Plan {
    let (old, new) = pair(change);
    Plan::between(Some(&old), &new, &Migration::default(), &BTreeSet::new())
}

fn required(plan: &Plan) -> Vec<&str> {
    plan.required.keys().map(PartyName::as_str).collect()
}

fn says(plan: &Plan, words: &str) {
    assert!(plan.to_string().contains(words), "{words}:\n{plan}");
}

#[test]
fn the_first_manifest_is_told_whole() {
    let manifest = parse(&Parties::new().manifest()).expect("no faults");
    let plan = Plan::between(None, &manifest, &Migration::default(), &BTreeSet::new());
    for words in [
        "! bank_a may write payments",
        "! auditor may read every row of notes",
        "! auditor may read the audit log",
        "! analyst may call volume, which reads payments; each row of its answer is about 10 contributors or more",
        "! analyst may call total, which reads payments; its answers are noisy, within a budget of epsilon 1",
        "! it runs without an anchor",
        "Later changes need 2 of approver_c, approver_d.",
    ] {
        says(&plan, words);
    }
}

#[test]
fn the_same_manifest_changes_nothing() {
    let plan = planned(|_| ());
    assert!(plan.changes.is_empty(), "{plan}");
    assert!(plan.required.is_empty());
}

#[test]
fn each_change_is_told_and_needs_whom_it_concerns() {
    type Case = (fn(&mut Value), &'static str, &'static [&'static str]);
    let cases: [Case; 16] = [
        (
            |it| it["Tables"]["payments"]["Readers"] = json!(["auditor"]),
            "! auditor may now read every row of payments",
            &["approver_c"],
        ),
        (
            |it| it["Tables"]["payments"]["Writers"] = json!(["bank_a"]),
            "- bank_b may no longer write payments",
            &["approver_c"],
        ),
        (
            |it| it["Tables"]["notes"]["Owner"] = json!("approver_c"),
            "! notes is now owned by approver_c",
            &["approver_c", "approver_d"],
        ),
        (
            |it| it["Tables"]["payments"]["Stamp"] = json!(null),
            "! rows of payments no longer say which party",
            &["approver_c"],
        ),
        (
            |it| it["Algorithms"]["volume"]["Output"]["MinContributors"] = json!(5),
            "! rows of volume with 5 contributors leave; it was 10",
            &["approver_c"],
        ),
        (
            |it| it["Algorithms"]["volume"]["Output"]["MaxRows"] = json!(50),
            "- 50 rows of volume may leave; it was 100",
            &["approver_c"],
        ),
        (
            |it| it["Algorithms"]["volume"]["Callers"] = json!(["analyst", "bank_a"]),
            "! bank_a may now call volume",
            &["approver_c"],
        ),
        (
            |it| it["Algorithms"]["total"]["Output"]["Privacy"]["Epsilon"] = json!(2),
            "! the budget of total is epsilon 2",
            &["approver_c"],
        ),
        (
            |it| it["Algorithms"]["total"]["Sql"] = json!("SELECT count(*) AS payments FROM notes"),
            "! total now also reads notes",
            &["approver_c", "approver_d"],
        ),
        (
            |it| drop(it["Algorithms"].as_object_mut().expect("them").remove("total")),
            "- analyst may no longer call total",
            &["approver_c"],
        ),
        (
            |it| it["Updates"]["Threshold"] = json!(1),
            "! 1 of 2 approvers change the manifest; it was 2 of 2",
            &[],
        ),
        (|it| it["Audit"]["Readers"] = json!([]), "- auditor may no longer read the audit log", &[]),
        (|it| it["Freshness"]["AnchorRequired"] = json!(true), "- it refuses to run without an anchor", &[]),
        (
            |it| it["Freshness"]["MaxLag"] = json!("2s"),
            "! the last 2 s of commits may be taken back unnoticed",
            &[],
        ),
        (
            |it| it["History"] = json!("1GiB"),
            "~ 1024 MiB of the log before the last base backup stay, encrypted, with rows that were deleted since; it was 0 MiB",
            &[],
        ),
        (|it| it["MaxSize"] = json!("2GiB"), "~ the data may take 2048 MiB; it was 1024 MiB", &[]),
    ];
    for (change, words, parties) in cases {
        let plan = planned(change);
        says(&plan, words);
        assert_eq!(required(&plan), parties, "{words}");
    }
}

#[test]
fn whoever_gets_another_anchor_must_agree() {
    let other = Parties::new().approver_c.pem;
    let plan = planned(|it| it["Parties"]["approver_c"]["Anchors"] = json!([other]));
    assert_eq!(required(&plan), ["approver_c"], "else its name could be taken over");
    says(&plan, "is now approver_c");
}

#[test]
fn a_new_view_of_a_table_needs_its_owner() {
    let plan = planned(|it| {
        let schema = it["Schema"].as_str().expect("SQL").to_owned();
        it["Schema"] = json!(schema + "CREATE VIEW peek AS SELECT * FROM notes;");
        it["Tables"]["peek"] = json!({"Readers": ["bank_a"], "Owner": "approver_c"});
    });
    says(&plan, "! bank_a may now read every row of peek");
    assert_eq!(required(&plan), ["approver_d"]);
}

#[test]
fn a_migration_needs_the_owners_of_all_that_it_touches() {
    let (old, new) = pair(|_| ());
    let text = "INSERT INTO notes (id, body) SELECT id, account FROM payments";
    let migration = Migration::read(text, &old).expect("a migration");
    let plan = Plan::between(Some(&old), &new, &migration, &BTreeSet::new());
    assert_eq!(required(&plan), ["approver_c", "approver_d"]);
}

#[test]
fn agreement_is_the_threshold_and_everyone_concerned() {
    let plan = planned(|it| it["Tables"]["payments"]["Readers"] = json!(["auditor"]));
    let set = |names: &[&str]| names.iter().filter_map(|name| PartyName::new(name)).collect::<BTreeSet<_>>();
    assert!(!plan.agreed(&set(&["approver_c"])));
    assert!(!plan.agreed(&set(&["approver_d", "bank_a", "analyst"])), "others do not count");
    assert!(plan.agreed(&set(&["approver_c", "approver_d"])));
    assert!(plan.refused(&set(&["approver_d"])), "two of two are needed");
    assert!(!plan.refused(&set(&["bank_a"])));
    let opening = plan.changes.first().expect("a change");
    assert_eq!(opening.effect, Effect::Opens);
}

#[test]
fn bringing_back_rows_needs_the_owners_of_their_tables() {
    let (manifest, _) = pair(|_| ());
    let plan = |tables: &[&str]| {
        let tables = tables.iter().map(|table| (*table).to_owned()).collect();
        let restoration = Restoration { tables, to: Point::Time("2026-11-22T05:00:00Z".into()) };
        Plan::of_restoration(&manifest, &restoration).expect("a restoration")
    };
    let both = plan(&["notes", "payments"]);
    says(&both, "~ the rows of notes become those of 2026-11-22T05:00:00Z: later ones are gone");
    assert_eq!(required(&both), ["approver_c", "approver_d"]);
    assert_eq!(both.from, Some(both.to), "the manifest stays");
    let one = plan(&["payments"]);
    assert_eq!(required(&one), ["approver_c"]);
    assert!(one.obstacles.is_empty());
    assert_eq!(plan(&["nowhere"]).obstacles, ["there is no table nowhere"]);
    assert!(!one.to_string().contains("the whole database"), "{one}");
}

#[test]
fn bringing_back_all_is_every_table_and_needs_all_their_owners() {
    let (_, manifest) = pair(|it| {
        let schema = it["Schema"].as_str().expect("SQL").to_owned();
        it["Schema"] = json!(format!("{schema}CREATE VIEW bodies AS SELECT body FROM notes;"));
        it["Tables"]["bodies"] = json!({"Owner": "approver_d", "Readers": ["auditor"]});
    });
    let all = Restoration::of_all(&manifest, Point::Record(7));
    assert_eq!(all.tables, ["accounts", "notes", "payments"], "a view has no rows of its own");
    let plan = Plan::of_restoration(&manifest, &all).expect("a restoration");
    says(&plan, "~ the whole database becomes that of record 7, but for budgets, audit log and rules");
    assert_eq!(required(&plan), ["approver_c", "approver_d"]);
    assert!(plan.obstacles.is_empty());
    let view = Restoration { tables: vec!["bodies".into()], ..all };
    let plan = Plan::of_restoration(&manifest, &view).expect("a restoration");
    assert_eq!(plan.obstacles, ["there is no table bodies"]);
}

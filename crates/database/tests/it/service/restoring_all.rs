//! The whole database as it was: every table at once, by joint approval, and nothing that must not go back.

use database::audit::Event;
use database_manifest::{Manifest, Point, Restoration};
use serde_json::json;

use super::{
    Served, World,
    restoring::{audited, decided, inside, notes, proposed, refused},
};

/// A fresh answer, which is paid for: its status, and the code of a refusal.
async fn total(served: &Served, world: &World) -> (u16, String) {
    let (analyst, body) = (world.parties.analyst.issue("person"), json!({ "Arguments": {}, "Fresh": true }));
    let (status, answer) = served.json(Some(&analyst), "POST /v1/algorithms/total", &body.to_string()).await;
    (status, answer["Code"].as_str().unwrap_or_default().to_owned())
}

#[tokio::test(flavor = "multi_thread")]
async fn the_whole_database_goes_back_by_joint_approval_and_no_budget_with_it() {
    let Some(world) = World::new() else { return };
    let (served, parties) = (world.start().await, &world.parties);
    served.serving().await;
    let (bank_a, bank_b) = (served.session(&parties.bank_a).await, served.session(&parties.bank_b).await);
    let written = async |id: u32| {
        let payment = format!("INSERT INTO payments (account, city, amount) VALUES ('a{id}', 'Bonn', 5)");
        bank_a.batch_execute(&payment).await.unwrap();
        bank_a.batch_execute(&format!("INSERT INTO accounts VALUES ('a{id}', '2026-01-01')")).await.unwrap();
        bank_b.batch_execute(&format!("INSERT INTO notes VALUES ({id}, 'x')")).await.unwrap();
    };
    written(1).await;
    let record = served.claims().await.state.unwrap().log_sequence;
    written(2).await;
    // At that record nothing was spent.
    for _ in 0..4 {
        assert_eq!(total(&served, &world).await.0, 200);
    }
    let (database, auditor) = (inside(&world).await, served.session(&parties.auditor).await);
    let rows = async || -> (i64, i64) {
        let counts = "SELECT (SELECT count(*) FROM payments), (SELECT count(*) FROM accounts)";
        let row = database.query_one(counts, &[]).await.unwrap();
        (row.get(0), row.get(1))
    };
    let before = format!("{:?}", audited(&served, &world).await);

    let manifest = Manifest::parse(&world.manifest).unwrap();
    let all = Restoration::of_all(&manifest, Point::Record(record));
    assert_eq!(all.tables, ["accounts", "notes", "payments"]);
    let all = serde_json::to_value(all).unwrap();
    let (status, refusal) = proposed(&served, &parties.bank_a, all.clone()).await;
    assert_eq!((status, &refusal["Code"]), (403, &json!("NOT_AN_APPROVER")));
    let (status, proposal) = proposed(&served, &parties.approver_c, all.clone()).await;
    assert_eq!(status, 200, "{proposal}");
    let plan = proposal["Plan"].as_str().unwrap();
    assert!(plan.contains(&format!("the whole database becomes that of record {record}")), "{plan}");
    let digest = &proposal["Proposal"];
    decided(&served, &parties.approver_c, digest, "approve").await;
    let (status, refusal) = decided(&served, &parties.bank_b, digest, "approve").await;
    assert_eq!((status, &refusal["Code"]), (403, &json!("NOT_AN_APPROVER")));
    let (_, rejected) = decided(&served, &parties.approver_d, digest, "reject").await;
    assert_eq!(rejected["State"], json!("rejected"));
    let (status, refusal) = decided(&served, &parties.approver_d, digest, "approve").await;
    assert_eq!((status, &refusal["Code"]), (409, &json!("PROPOSAL_REJECTED")));
    assert_eq!((notes(&auditor).await, rows().await), (vec![1, 2], (2, 2)), "one word is not enough");
    let path = format!("POST /v1/proposals/{}/approve", digest.as_str().unwrap());
    assert_eq!(refused(&served, &world, &path).await, ["NOT_AN_APPROVER", "PROPOSAL_REJECTED"]);

    let (_, proposal) = proposed(&served, &parties.approver_d, all).await;
    decided(&served, &parties.approver_d, &proposal["Proposal"], "approve").await;
    let newest = served.claims().await.state.unwrap().log_sequence;
    let (status, active) = decided(&served, &parties.approver_c, &proposal["Proposal"], "approve").await;
    assert_eq!((status, &active["State"]), (200, &json!("active")), "{active}");
    assert_eq!((notes(&auditor).await, rows().await), (vec![1], (1, 1)));
    let state = served.claims().await.state.unwrap();
    assert!(state.epoch == 0 && state.log_sequence > newest, "the log goes on, and the lineage is the same");
    let events = audited(&served, &world).await;
    let restored = events.iter().filter_map(|event| match event {
        Event::Restored { table, before: 2, rows: 1, .. } => Some(table.as_str()),
        _ => None,
    });
    assert_eq!(restored.collect::<Vec<_>>(), ["accounts", "notes", "payments"]);
    let events = format!("{events:?}");
    assert!(events.starts_with(before.strip_suffix(']').unwrap()), "no entry is gone: {events}");

    // Ten answers in all.
    for _ in 4..10 {
        assert_eq!(total(&served, &world).await.0, 200);
    }
    let spent = (429, "BUDGET_SPENT".to_owned());
    assert_eq!(total(&served, &world).await, spent);
    served.stopped().await;
    let served = world.start().await;
    served.serving().await;
    assert_eq!(notes(&served.session(&parties.auditor).await).await, [1]);
    assert_eq!(total(&served, &world).await, spent);
}

//! Joint change: proposals, approvals, activation.

use axum::{
    Extension,
    body::Body,
    http::{Method, Request, StatusCode},
};
use database::{
    changes::{ChangeError, Decision, State, routes},
    engine::SUPERUSER,
    identity::Caller,
};
use http_body_util::BodyExt as _;
use serde_json::{Value, json};
use tower::ServiceExt as _;

use crate::parties::Scene;

const ALTER: &str = "ALTER TABLE notes ADD COLUMN topic text";

fn with_topic(document: &mut Value) {
    let schema = document["Schema"]
        .as_str()
        .expect("SQL")
        .replace("body text NOT NULL", "body text NOT NULL, topic text");
    document["Schema"] = json!(schema);
}

/// What happened.
fn kinds(events: &[Value]) -> Vec<&str> {
    events.iter().filter_map(|event| event["event"].as_str()).filter(|kind| *kind != "denied").collect()
}

/// What was refused, and why.
fn refusals(events: &[Value]) -> Vec<(&str, &str, &str)> {
    fn text(value: &Value) -> &str {
        value.as_str().unwrap()
    }
    let denied = events.iter().filter(|event| event["event"] == "denied");
    denied.map(|it| (text(&it["code"]), text(&it["caller"]["party"]), text(&it["what"]["path"]))).collect()
}

#[tokio::test]
async fn holders_of_c_and_d_change_the_rules_only_together() {
    let Some(scene) = Scene::new().await else { return };
    let (c, d) = (scene.caller(&scene.parties.approver_c), scene.caller(&scene.parties.approver_d));
    let mut rules = scene.changes.rules();
    let before = rules.borrow_and_update().manifest.digest;
    let proposal =
        scene.proposal("", |document| document["Tables"]["notes"]["Writers"] = json!(["bank_a", "bank_b"]));
    let proposed = scene.changes.propose(&c, &proposal).await.unwrap_or_else(|error| panic!("{error}"));
    assert_eq!(proposed.state, State::Pending);
    assert!(
        proposed.plan.as_deref().is_some_and(|plan| plan.contains("! bank_a may now write notes")),
        "{proposed:?}"
    );
    let approved = scene.changes.decide(&c, &proposed.proposal, Decision::Approve).await.expect("C's word");
    assert_eq!(approved.state, State::Pending, "C alone changes nothing");
    let again =
        scene.changes.decide(&c, &proposed.proposal, Decision::Approve).await.expect("C's word again");
    assert_eq!(again.state, State::Pending, "C twice is C");
    assert_eq!(rules.borrow().manifest.digest, before);
    let bank = scene.session("bank_a").await;
    let insert = "INSERT INTO notes (id, body) VALUES (1, 'x')";
    bank.batch_execute(insert).await.expect_err("not yet");
    let active = scene.changes.decide(&d, &proposed.proposal, Decision::Approve).await.expect("D's word");
    assert_eq!(active.state, State::Active);
    assert!(rules.has_changed().expect("open"), "whoever watches is told");
    let now = rules.borrow_and_update().clone();
    assert_eq!((now.epoch, now.first), (1, before));
    assert_eq!(hex::encode(now.manifest.digest), active.manifest.to_string());
    bank.batch_execute(insert).await.expect("a running session has the new rights");
    let events = scene.audited().await;
    assert_eq!(kinds(&events), ["proposed", "approved", "approved", "approved", "activated"]);
    let error = scene.changes.decide(&d, &proposed.proposal, Decision::Reject).await.expect_err("over");
    assert_eq!(error.code(), "PROPOSAL_ACTIVE");
    let now = scene.changes.in_force().await.expect("a manifest");
    assert_eq!((now.epoch, now.digest, now.lineage.len()), (1, active.manifest, 2));
}

#[tokio::test]
async fn whoever_does_not_decide_neither_proposes_nor_approves() {
    let Some(scene) = Scene::new().await else { return };
    let proposal = scene.proposal("", |document| document["MaxSize"] = json!("2GiB"));
    for party in [&scene.parties.bank_a, &scene.parties.analyst, &scene.parties.auditor] {
        let caller = scene.caller(party);
        let error = scene.changes.propose(&caller, &proposal).await.expect_err("no approver");
        assert_eq!(error.code(), "NOT_AN_APPROVER");
        let error = scene
            .changes
            .decide(&caller, &proposal.digest(), Decision::Approve)
            .await
            .expect_err("no approver");
        assert_eq!(error.code(), "NOT_AN_APPROVER");
    }
    let approve = format!("POST /v1/proposals/{}/approve", proposal.digest());
    let both =
        |party| [("NOT_AN_APPROVER", party, "POST /v1/proposals"), ("NOT_AN_APPROVER", party, &*approve)];
    let expected: Vec<_> = ["bank_a", "analyst", "auditor"].into_iter().flat_map(both).collect();
    assert_eq!(refusals(&scene.audited().await), expected);
}

#[tokio::test]
async fn nothing_about_a_table_changes_without_its_owner() {
    let three = |document: &mut Value| {
        document["Updates"]["Approvers"] = json!(["approver_c", "approver_d", "auditor"]);
    };
    let Some(scene) = Scene::with(three).await else { return };
    let (c, d) = (scene.caller(&scene.parties.approver_c), scene.caller(&scene.parties.approver_d));
    let third = scene.caller(&scene.parties.auditor);
    let proposal =
        scene.proposal("", |document| document["Tables"]["payments"]["Readers"] = json!(["auditor"]));
    let digest = scene.changes.propose(&d, &proposal).await.expect("a proposal").proposal;
    scene.changes.decide(&d, &digest, Decision::Approve).await.expect("D");
    let two = scene.changes.decide(&third, &digest, Decision::Approve).await.expect("the third");
    assert_eq!(two.state, State::Pending, "two of three, and not the owner of payments");
    assert!(two.plan.is_some_and(|plan| plan.contains("among them approver_c (owner of payments)")));
    let all = scene.changes.decide(&c, &digest, Decision::Approve).await.expect("C");
    assert_eq!(all.state, State::Active);
    // What concerns nobody in particular needs no more than the threshold.
    let proposal = scene.proposal("", |document| {
        document["Tables"]["payments"]["Readers"] = json!(["auditor"]);
        document["MaxSize"] = json!("2GiB");
    });
    let digest = scene.changes.propose(&d, &proposal).await.expect("a proposal").proposal;
    scene.changes.decide(&d, &digest, Decision::Approve).await.expect("D");
    let two = scene.changes.decide(&third, &digest, Decision::Approve).await.expect("the third");
    assert_eq!(two.state, State::Active);
}

#[tokio::test]
async fn the_second_of_two_proposals_must_start_anew() {
    let Some(scene) = Scene::new().await else { return };
    let (c, d) = (scene.caller(&scene.parties.approver_c), scene.caller(&scene.parties.approver_d));
    let first = scene.proposal("", |document| document["MaxSize"] = json!("2GiB"));
    let second = scene.proposal("", |document| document["MaxSize"] = json!("3GiB"));
    for proposal in [&first, &second] {
        scene.changes.propose(&c, proposal).await.expect("a proposal");
        scene.changes.decide(&c, &proposal.digest(), Decision::Approve).await.expect("C");
    }
    let error = scene.changes.propose(&d, &second).await.expect_err("it is there");
    assert_eq!(error.code(), "PROPOSAL_PENDING");
    scene.changes.decide(&d, &first.digest(), Decision::Approve).await.expect("D");
    let error = scene.changes.decide(&d, &second.digest(), Decision::Approve).await.expect_err("superseded");
    assert_eq!(error.code(), "PROPOSAL_SUPERSEDED");
    assert_eq!(scene.changes.status(&c, &second.digest()).await.expect("a status").state, State::Superseded);
    let error = scene.changes.propose(&c, &second).await.expect_err("an old base");
    assert_eq!(error.code(), "BASE_NOT_IN_FORCE");
    assert_eq!(kinds(&scene.audited().await).last(), Some(&"lapsed"));
}

#[tokio::test]
async fn rejected_and_expired_are_told_apart() {
    let Some(scene) = Scene::new().await else { return };
    let (c, d) = (scene.caller(&scene.parties.approver_c), scene.caller(&scene.parties.approver_d));
    let first = scene.proposal("", |document| document["MaxSize"] = json!("2GiB"));
    scene.changes.propose(&c, &first).await.expect("a proposal");
    scene.changes.decide(&c, &first.digest(), Decision::Approve).await.expect("C");
    let rejected = scene.changes.decide(&d, &first.digest(), Decision::Reject).await.expect("D's word");
    assert_eq!(rejected.state, State::Rejected);
    let error = scene.changes.decide(&d, &first.digest(), Decision::Approve).await.expect_err("over");
    assert_eq!(error.code(), "PROPOSAL_REJECTED");
    let second = scene.proposal("", |document| document["MaxSize"] = json!("3GiB"));
    scene.changes.propose(&c, &second).await.expect("a proposal");
    scene.changes.decide(&c, &second.digest(), Decision::Approve).await.expect("C");
    scene.later(7 * 24 * 3600);
    let error = scene.changes.decide(&d, &second.digest(), Decision::Approve).await.expect_err("too late");
    assert_eq!(error.code(), "PROPOSAL_EXPIRED");
    let states: Vec<_> =
        scene.changes.list(&c).await.expect("a list").iter().map(|status| status.state).collect();
    assert_eq!(states, [State::Expired, State::Rejected]);
    // The same may be proposed again.
    let anew = scene.changes.propose(&c, &first).await.expect("a proposal");
    assert_eq!((anew.state, anew.approved.len()), (State::Pending, 0), "words of before do not count");
}

#[tokio::test]
async fn a_migration_leads_where_the_manifest_says_or_nowhere() {
    let Some(scene) = Scene::new().await else { return };
    let (c, d) = (scene.caller(&scene.parties.approver_c), scene.caller(&scene.parties.approver_d));
    scene
        .session("bank_b")
        .await
        .batch_execute("INSERT INTO notes (id, body) VALUES (1, 'x')")
        .await
        .expect("a row");
    for (migration, code) in [
        ("", "SCHEMA_DIFFERS"),
        ("ALTER TABLE notes ADD COLUMN topic int", "SCHEMA_DIFFERS"),
        ("ALTER TABLE notes ADD COLUMN topic text; CREATE INDEX i ON notes (body)", "SCHEMA_DIFFERS"),
        (
            "ALTER TABLE notes ADD COLUMN topic text; ALTER TABLE notes ADD CONSTRAINT u UNIQUE (body)",
            "SCHEMA_DIFFERS",
        ),
        (
            "ALTER TABLE notes ADD COLUMN topic text; CREATE VIEW v AS SELECT body FROM notes",
            "SCHEMA_DIFFERS",
        ),
        ("ALTER TABLE notes ADD COLUMN topic text NOT NULL", "STATEMENT_REFUSED"),
        ("ALTER TABLE notes ADD COLUMN body text", "STATEMENT_REFUSED"),
        ("GRANT SELECT ON notes TO party_bank_a", "MIGRATION_INVALID"),
        ("ALTER TABLE nowhere ADD COLUMN topic text", "MIGRATION_INVALID"),
    ] {
        let proposal = scene.proposal(migration, with_topic);
        let error = scene.changes.propose(&c, &proposal).await.expect_err(migration);
        assert_eq!(error.code(), code, "{migration}: {error}");
    }
    let error = scene.changes.propose(&c, &scene.proposal("", with_topic)).await.expect_err("no migration");
    let ChangeError::Schema { missing, surplus } = error else { panic!("{error}") };
    assert_eq!((missing, surplus), (vec!["column notes.topic text".to_owned()], vec![]));
    let proposal = scene.proposal(&format!("{ALTER}; UPDATE notes SET topic = lower(body)"), with_topic);
    scene.changes.propose(&c, &proposal).await.unwrap_or_else(|error| panic!("{error}"));
    scene.changes.decide(&c, &proposal.digest(), Decision::Approve).await.expect("C");
    let active = scene.changes.decide(&d, &proposal.digest(), Decision::Approve).await.expect("D");
    assert_eq!(active.state, State::Active);
    let row = scene.session("auditor").await.query_one("SELECT topic FROM notes", &[]).await.expect("a row");
    assert_eq!(row.get::<_, String>(0), "x");
}

#[tokio::test]
async fn a_party_joins_and_another_leaves_with_its_rows() {
    let Some(scene) = Scene::new().await else { return };
    let (c, d) = (scene.caller(&scene.parties.approver_c), scene.caller(&scene.parties.approver_d));
    let insert = "INSERT INTO payments (account, city, amount) VALUES ('1', 'Bonn', 5)";
    let leaving = scene.session("bank_b").await;
    for session in [&leaving, &scene.session("bank_a").await] {
        session.batch_execute(insert).await.expect("a row");
    }
    leaving.batch_execute("INSERT INTO notes (id, body) VALUES (1, 'x')").await.expect("a row");
    let anchor = testkit::parties::Authority::new("Bank E").pem;
    let mut proposal = scene.proposal("", |document| {
        let parties = document["Parties"].as_object_mut().expect("parties");
        parties.remove("bank_b");
        parties.insert("bank_e".into(), json!({"Anchors": [anchor]}));
        document["Tables"]["payments"]["Writers"] = json!(["bank_a", "bank_e"]);
        document["Tables"]["notes"]["Writers"] = json!(["bank_e"]);
    });
    proposal.erase = vec!["bank_b".to_owned()];
    let status = scene.changes.propose(&c, &proposal).await.unwrap_or_else(|error| panic!("{error}"));
    let plan = status.plan.expect("a plan");
    assert!(plan.contains("all rows of bank_b are deleted: those in notes, payments"), "{plan}");
    for caller in [&c, &d] {
        scene
            .changes
            .decide(caller, &status.proposal, Decision::Approve)
            .await
            .unwrap_or_else(|error| panic!("{error}"));
    }
    let client = scene.running.session(SUPERUSER).await.expect("a session");
    let rows =
        client.query("SELECT bank FROM payments UNION ALL SELECT body FROM notes", &[]).await.expect("rows");
    assert_eq!(rows.iter().map(|row| row.get::<_, String>(0)).collect::<Vec<_>>(), ["bank_a"]);
    let deleted: Vec<_> =
        scene.audited().await.into_iter().filter(|event| event["event"] == "deleted").collect();
    assert_eq!(
        deleted,
        [
            json!({"event": "deleted", "party": "bank_b", "table": "notes", "rows": 1}),
            json!({"event": "deleted", "party": "bank_b", "table": "payments", "rows": 1}),
        ]
    );
    leaving.batch_execute(insert).await.expect_err("a running session of whoever left");
    scene.session("bank_e").await.batch_execute(insert).await.expect("a row of whoever joined");
    assert!(scene.running.session("party_bank_b").await.is_err(), "the role is gone");
}

#[tokio::test]
async fn an_approver_may_think_again_while_it_is_pending() {
    let Some(scene) = Scene::new().await else { return };
    let (c, d) = (scene.caller(&scene.parties.approver_c), scene.caller(&scene.parties.approver_d));
    let proposal = scene.proposal("", |document| document["MaxSize"] = json!("2GiB"));
    scene.changes.propose(&c, &proposal).await.expect("a proposal");
    scene.changes.decide(&c, &proposal.digest(), Decision::Approve).await.expect("C");
    let withdrawn = scene.changes.decide(&c, &proposal.digest(), Decision::Reject).await.expect("C again");
    assert_eq!(withdrawn.state, State::Rejected);
    let error = scene.changes.decide(&d, &proposal.digest(), Decision::Approve).await.expect_err("over");
    assert_eq!(error.code(), "PROPOSAL_REJECTED");
}

async fn ask(
    scene: &Scene,
    caller: Option<&Caller>,
    method: Method,
    path: &str,
    body: Option<Value>,
) -> (StatusCode, Value) {
    let router = routes(scene.changes.clone()).layer(Extension(caller.cloned()));
    let body = body.map_or_else(Body::empty, |body| Body::from(body.to_string()));
    let request =
        Request::builder().method(method).uri(path).header("content-type", "application/json").body(body);
    let answer = router.oneshot(request.expect("a request")).await.expect("an answer");
    let status = answer.status();
    let bytes = answer.into_body().collect().await.expect("a body").to_bytes();
    (status, serde_json::from_slice(&bytes).unwrap_or(Value::Null))
}

#[tokio::test]
async fn over_https_a_proposal_goes_its_whole_way() {
    let Some(scene) = Scene::new().await else { return };
    let (c, d) = (scene.caller(&scene.parties.approver_c), scene.caller(&scene.parties.approver_d));
    let analyst = scene.caller(&scene.parties.analyst);
    let proposal = serde_json::to_value(scene.proposal(ALTER, with_topic)).expect("JSON");
    let (status, body) = ask(&scene, None, Method::POST, "/v1/proposals", Some(proposal.clone())).await;
    assert_eq!((status, &body["Code"]), (StatusCode::UNAUTHORIZED, &json!("NOT_A_PARTY")));
    let (status, body) =
        ask(&scene, Some(&analyst), Method::POST, "/v1/proposals", Some(proposal.clone())).await;
    assert_eq!((status, &body["Code"]), (StatusCode::FORBIDDEN, &json!("NOT_AN_APPROVER")));
    let (status, body) =
        ask(&scene, Some(&c), Method::POST, "/v1/proposals", Some(json!({"Base": "x"}))).await;
    assert_eq!((status, &body["Code"]), (StatusCode::BAD_REQUEST, &json!("MALFORMED")));
    let (status, body) = ask(&scene, Some(&c), Method::POST, "/v1/proposals", Some(proposal)).await;
    assert_eq!(status, StatusCode::OK, "{body}");
    let path = format!("/v1/proposals/{}", body["Proposal"].as_str().expect("a digest"));
    for (caller, state) in [(&c, "pending"), (&d, "active")] {
        let (status, body) = ask(&scene, Some(caller), Method::POST, &format!("{path}/approve"), None).await;
        assert_eq!((status, &body["State"]), (StatusCode::OK, &json!(state)), "{body}");
    }
    let (status, body) = ask(&scene, Some(&analyst), Method::GET, &path, None).await;
    assert_eq!((status, &body["State"]), (StatusCode::OK, &json!("active")), "any party may look");
    let (status, body) = ask(&scene, Some(&d), Method::POST, &format!("{path}/reject"), None).await;
    assert_eq!((status, &body["Code"]), (StatusCode::CONFLICT, &json!("PROPOSAL_ACTIVE")));
    let unknown = format!("/v1/proposals/{}", "00".repeat(32));
    assert_eq!(ask(&scene, Some(&c), Method::GET, &unknown, None).await.0, StatusCode::NOT_FOUND);
    let (_, now) = ask(&scene, None, Method::GET, "/v1/manifest", None).await;
    assert_eq!((&now["Epoch"], now["Lineage"].as_array().map(Vec::len)), (&json!(1), Some(2)));
    assert!(now["Manifest"].as_str().is_some_and(|text| text.contains("topic")));
}

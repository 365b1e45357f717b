//! Rows as they were, by joint approval: what comes back, what never does, and what a crash in the middle leaves.

use std::time::Duration;

use database::audit::{Event, Line, Refused};
use serde_json::{Value, json};
use testkit::parties::Authority;
use tokio_postgres::{Client, Config, NoTls};

use super::{Served, World};

/// A session that only this machine's root has, as the service itself.
pub(super) async fn inside(world: &World) -> Client {
    let mut places = std::fs::read_dir(world.memory.path()).unwrap().map(|it| it.unwrap().path());
    let place = places.find(|it| it.is_dir()).unwrap();
    let mut config = Config::new();
    config.host_path(place.join("socket")).user("bailey").dbname("shared");
    let (client, connection) = config.connect(NoTls).await.unwrap();
    tokio::spawn(connection);
    client
}

pub(super) async fn proposed(served: &Served, party: &Authority, restore: Value) -> (u16, Value) {
    let person = party.issue("person");
    let (_, now) = served.json(None, "GET /v1/manifest", "").await;
    let body = json!({ "Base": now["Digest"], "Restore": restore }).to_string();
    served.json(Some(&person), "POST /v1/proposals", &body).await
}

pub(super) async fn decided(
    served: &Served,
    party: &Authority,
    proposal: &Value,
    word: &str,
) -> (u16, Value) {
    let path = format!("POST /v1/proposals/{}/{word}", proposal.as_str().unwrap());
    served.json(Some(&party.issue("person")), &path, "").await
}

async fn shown(served: &Served, party: &Authority, proposal: &Value) -> Value {
    let path = format!("GET /v1/proposals/{}", proposal.as_str().unwrap());
    served.json(Some(&party.issue("person")), &path, "").await.1
}

pub(super) async fn notes(client: &Client) -> Vec<i64> {
    let rows = client.query("SELECT id::bigint FROM notes ORDER BY id", &[]).await.unwrap();
    rows.iter().map(|row| row.get(0)).collect()
}

/// Codes of what was refused on this path.
pub(super) async fn refused(served: &Served, world: &World, path: &str) -> Vec<String> {
    let code = |event| match event {
        Event::Denied { what: Refused::Request { path: asked }, code, .. } if asked == path => Some(code),
        _ => None,
    };
    audited(served, world).await.into_iter().filter_map(code).collect()
}

pub(super) async fn audited(served: &Served, world: &World) -> Vec<Event> {
    let person = world.parties.auditor.issue("person");
    let (_, export) = served.json(Some(&person), "GET /v1/audit", "").await;
    let lines: Vec<Line> = serde_json::from_value(export["Lines"].clone()).unwrap();
    lines.iter().filter_map(Line::read).collect()
}

/// A world with one note, the record that has it, and then rows that are to go.
async fn begun(world: &World) -> (Served, u64) {
    let served = world.start().await;
    served.serving().await;
    let bank = served.session(&world.parties.bank_b).await;
    bank.batch_execute("INSERT INTO notes VALUES (1, 'kept')").await.unwrap();
    let record = served.claims().await.state.unwrap().log_sequence;
    bank.batch_execute("INSERT INTO notes VALUES (2, 'wrong')").await.unwrap();
    (served, record)
}

#[tokio::test(flavor = "multi_thread")]
async fn rows_come_back_by_joint_approval_and_budget_audit_and_other_tables_stay() {
    let Some(world) = World::new() else { return };
    let (served, record) = begun(&world).await;
    let parties = &world.parties;
    let analyst = served.session(&parties.analyst).await;
    let total = || analyst.query("SELECT * FROM algorithm.total()", &[]);
    let bank = served.session(&parties.bank_a).await;
    bank.batch_execute("INSERT INTO payments (account, city, amount) VALUES ('a1', 'Bonn', 5)")
        .await
        .unwrap();
    total().await.unwrap();
    let database = inside(&world).await;
    let spent = async || -> String {
        let query =
            "SELECT string_agg(s::text, ' ') || (SELECT count(*) FROM bailey.calls) FROM bailey.spent s";
        database.query_one(query, &[]).await.unwrap().get(0)
    };
    let before = spent().await;
    let events = audited(&served, &world).await.len();

    let restore = json!({ "Tables": ["notes"], "To": { "Record": record } });
    let (status, refusal) = proposed(&served, &parties.bank_b, restore.clone()).await;
    assert_eq!((status, &refusal["Code"]), (403, &json!("NOT_AN_APPROVER")));
    let (status, proposal) = proposed(&served, &parties.approver_c, restore).await;
    assert_eq!(status, 200, "{proposal}");
    let plan = proposal["Plan"].as_str().unwrap();
    assert!(plan.contains("the rows of notes become those of record"), "{plan}");
    assert!(plan.contains("among them approver_d (owner of notes)"), "{plan}");
    let digest = &proposal["Proposal"];
    // How many rows there are, only those learn who may count them anyway, and the owner.
    let rows = json!({ "notes": { "Now": 2, "Then": 1 } });
    assert_eq!(proposal["Rows"], Value::Null, "C neither owns nor reads notes");
    assert_eq!(shown(&served, &parties.approver_d, digest).await["Rows"], rows);
    assert_eq!(shown(&served, &parties.auditor, digest).await["Rows"], rows);
    assert_eq!(shown(&served, &parties.bank_b, digest).await["Rows"], Value::Null);

    let (_, pending) = decided(&served, &parties.approver_c, digest, "approve").await;
    assert_eq!(pending["State"], json!("pending"));
    let auditor = served.session(&parties.auditor).await;
    assert_eq!(notes(&auditor).await, [1, 2], "nothing happens with one word");
    let (status, active) = decided(&served, &parties.approver_d, digest, "approve").await;
    assert_eq!((status, &active["State"]), (200, &json!("active")), "{active}");
    assert_eq!(notes(&auditor).await, [1]);
    assert_eq!(spent().await, before, "what was spent is spent");
    let payments: i64 = database.query_one("SELECT count(*) FROM payments", &[]).await.unwrap().get(0);
    assert_eq!(payments, 1, "a table that nobody named");
    let now = audited(&served, &world).await;
    assert!(now.len() > events + 3);
    let restored = now.iter().find_map(|event| match event {
        Event::Restored { table, before, rows, .. } => Some((table.as_str(), *before, *rows)),
        _ => None,
    });
    assert_eq!(restored, Some(("notes", 2, 1)));
    let claims = served.claims().await;
    assert_eq!(claims.state.unwrap().epoch, 0, "the rules are the same");
    assert!(!database.query_one("SELECT 1", &[]).await.unwrap().is_empty());
    served.stopped().await;
    let served = world.start().await;
    served.serving().await;
    assert_eq!(notes(&served.session(&parties.auditor).await).await, [1]);
    assert_eq!(std::fs::read_dir(world.memory.path()).unwrap().count(), 2, "one place and its lock");
}

#[tokio::test(flavor = "multi_thread")]
async fn rows_of_a_time_come_back_and_times_out_of_reach_are_refused() {
    let Some(world) = World::new() else { return };
    let (served, _) = begun(&world).await;
    let database = inside(&world).await;
    let parties = &world.parties;
    let iso = |expression: &str| {
        format!("SELECT to_char(({expression}) AT TIME ZONE 'UTC', 'YYYY-MM-DD\"T\"HH24:MI:SS.US\"Z\"')")
    };
    // A base backup says when it began to the second: what is within that second is not told apart.
    database.batch_execute("SELECT pg_sleep(2)").await.unwrap();
    let time: String = database.query_one(&iso("clock_timestamp()"), &[]).await.unwrap().get(0);
    let bank = served.session(&parties.bank_b).await;
    bank.batch_execute("INSERT INTO notes VALUES (3, 'later')").await.unwrap();
    let at = |time: &str| json!({ "Tables": ["notes"], "To": { "Time": time } });
    for past in ["clock_timestamp() - interval '1 day'", "clock_timestamp() + interval '1 hour'"] {
        let wrong: String = database.query_one(&iso(past), &[]).await.unwrap().get(0);
        let (status, refusal) = proposed(&served, &parties.approver_d, at(&wrong)).await;
        assert_eq!((status, &refusal["Code"]), (422, &json!("RESTORE_OUT_OF_REACH")), "{past}: {refusal}");
    }
    for (wrong, code) in [
        (json!({ "Tables": ["notes"], "To": { "Time": "yesterday" } }), "RESTORATION_INVALID"),
        (json!({ "Tables": [], "To": { "Record": 1 } }), "RESTORATION_INVALID"),
        (json!({ "Tables": ["notes"], "To": { "Record": 1 } }), "RESTORE_OUT_OF_REACH"),
        (json!({ "Tables": ["notes"], "To": { "Record": 1_000_000 } }), "RESTORE_OUT_OF_REACH"),
        (json!({ "Tables": ["nowhere"], "To": { "Record": 1 } }), "CHANGE_REFUSED"),
    ] {
        let (status, refusal) = proposed(&served, &parties.approver_d, wrong.clone()).await;
        assert_eq!((status, &refusal["Code"]), (422, &json!(code)), "{wrong}: {refusal}");
    }
    let (reach, invalid) = ("RESTORE_OUT_OF_REACH", "RESTORATION_INVALID");
    assert_eq!(
        refused(&served, &world, "POST /v1/proposals").await,
        [reach, reach, invalid, invalid, reach, reach, "CHANGE_REFUSED"],
        "each is in the audit log"
    );
    let (status, proposal) = proposed(&served, &parties.approver_d, at(&time)).await;
    assert_eq!(status, 200, "{proposal}");
    assert_eq!(proposal["Rows"], json!({ "notes": { "Now": 3, "Then": 2 } }));
    for party in [&parties.approver_c, &parties.approver_d] {
        let (status, answer) = decided(&served, party, &proposal["Proposal"], "approve").await;
        assert_eq!(status, 200, "{answer}");
    }
    assert_eq!(notes(&served.session(&parties.auditor).await).await, [1, 2]);
}

#[tokio::test(flavor = "multi_thread")]
async fn kill_9_in_the_middle_of_a_restoration_leaves_the_rows_of_before() {
    let Some(world) = World::new() else { return };
    let (served, record) = begun(&world).await;
    let parties = &world.parties;
    let restore = json!({ "Tables": ["notes"], "To": { "Record": record } });
    let (_, proposal) = proposed(&served, &parties.approver_c, restore).await;
    let digest = proposal["Proposal"].clone();
    decided(&served, &parties.approver_c, &digest, "approve").await;
    // Whoever holds this row holds up the end of the transaction: the entry in the audit log.
    let mut holding = inside(&world).await;
    let held = holding.transaction().await.unwrap();
    held.query_one("SELECT 1 FROM bailey.audit_head FOR UPDATE", &[]).await.unwrap();
    let (way, person) = (served.way.clone(), parties.approver_d.issue("person"));
    let path = format!("POST /v1/proposals/{}/approve", digest.as_str().unwrap());
    let deciding = tokio::spawn(async move {
        let stream = way.api(Some(&person)).await;
        super::attempted(stream, &path, "").await
    });
    let watching = inside(&world).await;
    let waits =
        "SELECT pid FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND query LIKE '%audit_head%'";
    let halted = async {
        loop {
            if let Some(row) = watching.query_opt(waits, &[]).await.unwrap() {
                return row.get::<_, i32>(0);
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    let halted = tokio::time::timeout(Duration::from_secs(60), halted).await.expect("it is in the middle");
    super::crashes::kill9(halted);
    served.ended().await.expect_err("PostgreSQL is gone");
    drop(held);
    let _ = deciding.await;
    let served = world.start().await;
    served.serving().await;
    assert_eq!(notes(&served.session(&parties.auditor).await).await, [1, 2]);
    assert_eq!(shown(&served, &parties.approver_d, &digest).await["State"], json!("pending"));
    let (status, active) = decided(&served, &parties.approver_d, &digest, "approve").await;
    assert_eq!((status, &active["State"]), (200, &json!("active")), "{active}");
    assert_eq!(notes(&served.session(&parties.auditor).await).await, [1]);
}

const LINES: &str = "CREATE TABLE lines (id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, \
    note bigint NOT NULL REFERENCES notes ON DELETE CASCADE, \
    twice bigint GENERATED ALWAYS AS (note * 2) STORED);";

#[tokio::test(flavor = "multi_thread")]
async fn references_hold_and_rows_that_were_deleted_for_good_stay_away() {
    let refers = |manifest: &mut Value| {
        let schema = manifest["Schema"].as_str().unwrap();
        manifest["Schema"] = json!(format!("{schema}{LINES}"));
        manifest["Tables"]["lines"] =
            json!({ "Owner": "approver_d", "Writers": ["bank_b"], "Readers": ["auditor"] });
    };
    let Some(world) = World::with(refers) else { return };
    let (served, first) = begun(&world).await;
    let parties = &world.parties;
    let bank = served.session(&parties.bank_b).await;
    bank.batch_execute("INSERT INTO lines (note) VALUES (1), (2)").await.unwrap();
    let second = served.claims().await.state.unwrap().log_sequence;
    bank.batch_execute("INSERT INTO notes VALUES (3, 'x')").await.unwrap();
    let restored = async |tables: Value, record: u64| -> (u16, Value) {
        let (status, proposal) =
            proposed(&served, &parties.approver_c, json!({ "Tables": tables, "To": { "Record": record } }))
                .await;
        if status != 200 {
            return (status, proposal);
        }
        decided(&served, &parties.approver_c, &proposal["Proposal"], "approve").await;
        decided(&served, &parties.approver_d, &proposal["Proposal"], "approve").await
    };
    let (status, refusal) = restored(json!(["notes"]), first).await;
    assert_eq!((status, &refusal["Code"]), (422, &json!("RESTORE_REFERENCES")), "{refusal}");
    let denied = audited(&served, &world).await.into_iter().filter_map(|event| match event {
        Event::Denied { caller, code, .. } => Some((caller.party, code)),
        _ => None,
    });
    assert_eq!(denied.collect::<Vec<_>>(), [("approver_d".to_owned(), "RESTORE_REFERENCES".to_owned())]);
    let auditor = served.session(&parties.auditor).await;
    assert_eq!(notes(&auditor).await, [1, 2, 3], "all of it or nothing");
    let (status, active) = restored(json!(["notes"]), second).await;
    assert_eq!((status, &active["State"]), (200, &json!("active")), "{active}");
    assert_eq!(notes(&auditor).await, [1, 2]);
    let lines = async || auditor.query("SELECT id, twice FROM lines", &[]).await.unwrap().len();
    assert_eq!(lines().await, 2, "no reference that cascades took rows away");
    let (status, active) = restored(json!(["lines", "notes"]), first).await;
    assert_eq!((status, &active["State"]), (200, &json!("active")), "{active}");
    assert_eq!((notes(&auditor).await, lines().await), (vec![1], 0));
    bank.batch_execute("INSERT INTO lines (note) VALUES (1)").await.unwrap();
    assert!(
        bank.batch_execute("INSERT INTO lines (note) VALUES (9)").await.is_err(),
        "the reference is there"
    );

    // The bank leaves, and its rows are deleted with proof.
    let mut manifest: Value = serde_json::from_slice(&world.manifest).unwrap();
    manifest["MaxSize"] = json!("2GiB");
    let (_, now) = served.json(None, "GET /v1/manifest", "").await;
    let body =
        json!({ "Base": now["Digest"], "Manifest": manifest.to_string(), "Erase": ["bank_b"] }).to_string();
    let person = parties.approver_c.issue("person");
    let (status, proposal) = served.json(Some(&person), "POST /v1/proposals", &body).await;
    assert_eq!(status, 200, "{proposal}");
    for party in [&parties.approver_c, &parties.approver_d] {
        decided(&served, party, &proposal["Proposal"], "approve").await;
    }
    assert!(notes(&auditor).await.is_empty());
    let (status, refusal) = restored(json!(["lines", "notes"]), second).await;
    assert_eq!((status, &refusal["Code"]), (422, &json!("RESTORE_ERASED_ROWS")), "{refusal}");
}

#[tokio::test(flavor = "multi_thread")]
async fn rows_of_a_table_with_other_columns_than_then_do_not_come_back() {
    let Some(world) = World::new() else { return };
    let (served, record) = begun(&world).await;
    let parties = &world.parties;
    // It could be done when it was proposed.
    let restore = json!({ "Tables": ["notes"], "To": { "Record": record } });
    let (status, early) = proposed(&served, &parties.approver_c, restore.clone()).await;
    assert_eq!(status, 200, "{early}");
    let mut manifest: Value = serde_json::from_slice(&world.manifest).unwrap();
    let schema = manifest["Schema"].as_str().unwrap();
    manifest["Schema"] = json!(schema.replace("body text NOT NULL", "body text NOT NULL, topic text"));
    let (_, now) = served.json(None, "GET /v1/manifest", "").await;
    let body = json!({
        "Base": now["Digest"], "Manifest": manifest.to_string(),
        "Migration": "ALTER TABLE notes ADD COLUMN topic text",
    });
    let person = parties.approver_c.issue("person");
    let (status, migration) = served.json(Some(&person), "POST /v1/proposals", &body.to_string()).await;
    assert_eq!(status, 200, "{migration}");
    for party in [&parties.approver_c, &parties.approver_d] {
        decided(&served, party, &migration["Proposal"], "approve").await;
    }
    assert_eq!(shown(&served, &parties.approver_d, &early["Proposal"]).await["State"], json!("superseded"));
    let (status, refusal) = proposed(&served, &parties.approver_c, restore).await;
    assert_eq!((status, &refusal["Code"]), (422, &json!("RESTORE_COLUMNS_DIFFER")), "{refusal}");
    assert_eq!(refused(&served, &world, "POST /v1/proposals").await, ["RESTORE_COLUMNS_DIFFER"]);
    assert_eq!(notes(&served.session(&parties.auditor).await).await, [1, 2]);
}

#[tokio::test(flavor = "multi_thread")]
async fn rows_for_which_there_is_no_room_do_not_come_back() {
    let small = |manifest: &mut Value| manifest["MaxSize"] = json!("64MiB");
    let Some(world) = World::with(small) else { return };
    let (served, before) = begun(&world).await;
    let parties = &world.parties;
    let restore = |record: u64| json!({ "Tables": ["notes"], "To": { "Record": record } });
    // The rows of then and those of now together would be more than the manifest allows.
    let database = inside(&world).await;
    let fill = |first: u32, bytes: u32| {
        let last = first + bytes / 1000;
        format!(
            "INSERT INTO notes SELECT i, repeat(md5(i::text), 30) FROM generate_series({first}, {last}) i"
        )
    };
    database.batch_execute("ALTER TABLE notes ALTER body SET STORAGE PLAIN").await.unwrap();
    database.batch_execute(&fill(10, 32 << 20)).await.unwrap();
    let record = served.claims().await.state.unwrap().log_sequence;
    database.batch_execute("TRUNCATE notes").await.unwrap();
    let other =
        "CREATE TABLE public.filling AS SELECT repeat(md5(i::text), 30) FROM generate_series(1, 33000) i";
    database.batch_execute(other).await.unwrap();
    let (status, refusal) = proposed(&served, &parties.approver_d, restore(record)).await;
    assert_eq!((status, &refusal["Code"]), (507, &json!("RESTORE_NO_ROOM")), "{refusal}");
    let (status, proposal) = proposed(&served, &parties.approver_d, restore(before)).await;
    assert_eq!(status, 200, "of those of before there were few: {proposal}");

    // A log of which a second copy would not fit into memory; here it is the host that says so.
    let vast = world.log().join("log-ffffffffffffffff");
    std::fs::File::create(&vast).unwrap().set_len(1 << 42).unwrap();
    let (status, refusal) = decided(&served, &parties.approver_d, &proposal["Proposal"], "approve").await;
    assert_eq!(status, 200, "one word: {refusal}");
    let (status, refusal) = decided(&served, &parties.approver_c, &proposal["Proposal"], "approve").await;
    assert_eq!((status, &refusal["Code"]), (507, &json!("RESTORE_NO_ROOM")), "{refusal}");
    let path = format!("POST /v1/proposals/{}/approve", proposal["Proposal"].as_str().unwrap());
    for path in [&*path, "POST /v1/proposals"] {
        assert_eq!(refused(&served, &world, path).await, ["RESTORE_NO_ROOM"], "{path}");
    }
    std::fs::remove_file(vast).unwrap();
    let (status, active) = decided(&served, &parties.approver_c, &proposal["Proposal"], "approve").await;
    assert_eq!((status, &active["State"]), (200, &json!("active")), "it can be decided again: {active}");
}

/// Until a base backup was made and the log cut before it.
async fn checkpointed(world: &World) {
    let database = inside(world).await;
    let cut = |log: &std::path::Path| {
        let mut names = std::fs::read_dir(log).unwrap().map(|it| it.unwrap().file_name());
        names.any(|name| name.to_string_lossy().starts_with("heads-"))
    };
    let growing = async {
        while !cut(&world.log()) {
            let grow = "UPDATE bailey.audit_head SET sequence = sequence";
            database.batch_execute(grow).await.unwrap();
            database.batch_execute("SELECT pg_switch_wal()").await.unwrap();
        }
    };
    tokio::time::timeout(Duration::from_secs(240), growing).await.expect("a checkpoint");
}

#[tokio::test(flavor = "multi_thread")]
async fn rows_of_before_the_last_base_backup_come_back_as_far_as_the_manifest_keeps_the_log() {
    for history in [None, Some("1GiB")] {
        let keeps = |manifest: &mut Value| {
            if let Some(history) = history {
                manifest["History"] = json!(history);
            }
        };
        let Some(world) = World::with(keeps) else { return };
        let (served, record) = begun(&world).await;
        let parties = &world.parties;
        let iso = "SELECT to_char(clock_timestamp() AT TIME ZONE 'UTC', 'YYYY-MM-DD\"T\"HH24:MI:SS.US\"Z\"')";
        let database = inside(&world).await;
        database.batch_execute("SELECT pg_sleep(2)").await.unwrap();
        let time: String = database.query_one(iso, &[]).await.unwrap().get(0);
        let bank = served.session(&parties.bank_b).await;
        bank.batch_execute("INSERT INTO notes VALUES (3, 'later')").await.unwrap();
        checkpointed(&world).await;
        // With or without: what starts again goes on from the last base backup.
        served.stopped().await;
        let served = world.start().await;
        served.serving().await;
        let of = |to: Value| json!({ "Tables": ["notes"], "To": to });
        let (by_record, by_time) = (of(json!({ "Record": record })), of(json!({ "Time": time })));
        if history.is_none() {
            for restore in [by_record, by_time] {
                let (status, refusal) = proposed(&served, &parties.approver_c, restore).await;
                assert_eq!((status, &refusal["Code"]), (422, &json!("RESTORE_OUT_OF_REACH")), "{refusal}");
            }
            continue;
        }
        for (restore, there) in [(by_time, vec![1, 2]), (by_record, vec![1])] {
            let (status, proposal) = proposed(&served, &parties.approver_c, restore).await;
            assert_eq!(status, 200, "{proposal}");
            for party in [&parties.approver_c, &parties.approver_d] {
                let (status, answer) = decided(&served, party, &proposal["Proposal"], "approve").await;
                assert_eq!(status, 200, "{answer}");
            }
            assert_eq!(notes(&served.session(&parties.auditor).await).await, there);
        }
    }
}

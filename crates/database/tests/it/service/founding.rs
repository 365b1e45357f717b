//! Founded, attested, used, and started again; and what a host may not do to it.

use attested_tls::{claims::DatabaseAnchor, key::sha256};
use database::audit::{Event, Head, Interface, Line, SignedHead, verify};
use rustls::pki_types::CertificateDer;
use serde::Deserialize;

use super::World;

const INSERT: &str = "INSERT INTO payments (account, city, amount) VALUES ('a1', 'Bonn', 5)";

#[tokio::test(flavor = "multi_thread")]
async fn it_is_founded_attests_serves_and_is_the_same_after_a_restart() {
    let Some(world) = World::new() else { return };
    let served = world.start().await;
    let claims = served.serving().await;
    let state = claims.state.clone().unwrap();
    assert_eq!((state.name.as_str(), state.epoch), ("shared", 0));
    assert_eq!(*state.manifest, sha256(&world.manifest));
    assert_eq!(claims.first, state.manifest);
    assert!(claims.engine.contains("PostgreSQL"), "{}", claims.engine);
    assert_eq!(claims.anchor, DatabaseAnchor::Receipts);
    let bank = served.session(&world.parties.bank_a).await;
    for _ in 0..20 {
        bank.batch_execute(INSERT).await.unwrap();
    }
    let later = served.claims().await;
    assert!(later.state.unwrap().log_sequence > state.log_sequence, "each commit is in a record of the log");
    served.stopped().await;

    let served = world.start().await;
    let again = served.serving().await;
    assert_eq!(again.root, claims.root, "clients go on with the root that they pinned");
    let bank = served.session(&world.parties.bank_a).await;
    bank.batch_execute(INSERT).await.unwrap();
    let analyst = served.session(&world.parties.analyst).await;
    let rows = analyst.query("SELECT * FROM algorithm.total()", &[]).await.unwrap();
    assert_eq!(rows.len(), 1);
    let analyst = world.parties.analyst.issue("person");
    let request = r#"{"Receipt": true}"#;
    let (status, answer) = served.json(Some(&analyst), "POST /v1/algorithms/total", request).await;
    assert_eq!(status, 200, "{answer}");
    assert!(answer["Receipt"].is_object());
}

#[tokio::test(flavor = "multi_thread")]
async fn s23_files_of_the_host_show_no_row_and_no_key() {
    let Some(world) = World::new() else { return };
    let served = world.start().await;
    served.serving().await;
    let bank = served.session(&world.parties.bank_a).await;
    let insert = "INSERT INTO payments (account, city, amount) VALUES ('MARKEDVALUE', 'Bonn', 5)";
    bank.batch_execute(insert).await.unwrap();
    served.stopped().await;
    let mut seen = 0;
    for folder in [world.hints().state, world.log()] {
        for entry in std::fs::read_dir(folder).unwrap().map(Result::unwrap) {
            if entry.path().is_file() {
                let bytes = std::fs::read(entry.path()).unwrap();
                let clear = bytes.windows(11).any(|it| it == b"MARKEDVALUE");
                assert!(!clear, "{} shows it", entry.path().display());
                seen += bytes.len();
            }
        }
    }
    assert!(seen > 1_000_000, "the base backup is there");
    assert_eq!(std::fs::read_dir(world.memory.path()).unwrap().count(), 0, "nothing is left in memory");
}

#[tokio::test(flavor = "multi_thread")]
async fn s41_another_manifest_than_the_measured_one_founds_nothing() {
    let Some(world) = World::new() else { return };
    let path = world.hints().manifest.unwrap();
    std::fs::write(&path, [world.manifest.as_slice(), b" "].concat()).unwrap();
    assert_eq!(world.refused().await.code(), "MANIFEST_DIFFERS");
    std::fs::remove_file(&path).unwrap();
    assert_eq!(world.refused().await.code(), "STATE_UNREADABLE");
    assert!(!world.hints().state.join("key").exists());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_manifest_that_requires_an_anchor_is_not_served_without_one() {
    let anchored = |manifest: &mut serde_json::Value| manifest["Freshness"]["AnchorRequired"] = true.into();
    let Some(world) = World::with(anchored) else { return };
    assert_eq!(world.refused().await.code(), "ANCHOR_REQUIRED");
}

#[tokio::test(flavor = "multi_thread")]
async fn s16_a_state_without_its_log_or_its_key_is_not_founded_anew() {
    let Some(world) = World::new() else { return };
    let served = world.start().await;
    served.serving().await;
    assert_eq!(world.refused().await.code(), "STATE_IN_USE");
    served.stopped().await;
    let (log, aside) = (world.log(), world.hints().state.join("aside"));
    std::fs::rename(&log, &aside).unwrap();
    assert_eq!(world.refused().await.code(), "LOG_MISSING");
    let _ = std::fs::remove_dir_all(&log);
    std::fs::rename(&aside, &log).unwrap();
    let key = world.hints().state.join("key");
    let sealed = std::fs::read(&key).unwrap();
    std::fs::remove_file(&key).unwrap();
    assert_eq!(world.refused().await.code(), "KEY_MISSING");
    let mut altered = sealed.clone();
    altered[20] ^= 1;
    std::fs::write(&key, altered).unwrap();
    assert_eq!(world.refused().await.code(), "UNRECOVERABLE");
    std::fs::write(&key, sealed).unwrap();
    let served = world.start().await;
    served.serving().await;
    let first = std::fs::read_dir(world.log()).unwrap().map(|it| it.unwrap().path());
    let first = first.filter(|path| path.to_string_lossy().contains("log-")).min().unwrap();
    served.stopped().await;
    let mut bytes = std::fs::read(&first).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    std::fs::write(&first, bytes).unwrap();
    assert_eq!(world.refused().await.code(), "LOG_TAMPERED");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_audit_log_is_for_those_whom_the_manifest_names_and_its_heads_are_signed() {
    #[derive(Deserialize)]
    #[serde(rename_all = "PascalCase")]
    struct Export {
        head: SignedHead,
        lines: Vec<Line>,
    }
    let Some(world) = World::new() else { return };
    let served = world.start().await;
    let claims = served.serving().await;
    let root = CertificateDer::from(claims.root.to_vec());
    let bank = served.session(&world.parties.bank_a).await;
    assert!(bank.batch_execute("SELECT * FROM payments").await.is_err());
    let analyst = world.parties.analyst.issue("person");
    let (status, refusal) = served.json(Some(&analyst), "GET /v1/audit", "").await;
    assert_eq!((status, refusal["Code"].as_str()), (403, Some("NOT_AN_AUDIT_READER")));
    assert_eq!(served.json(None, "GET /v1/audit", "").await.0, 401);
    assert_eq!(served.json(None, "GET /v1/audit/head", "").await.0, 401);

    let (status, held) = served.asked(Some(&analyst), "GET /v1/audit/head", "").await;
    assert_eq!(status, 200);
    let held: SignedHead = serde_json::from_slice(&held).unwrap();
    let held_head = held.verify(&root).expect("signed by the database");
    let other = SignedHead { sequence: held.sequence + 1, ..held };
    assert!(other.verify(&root).is_err(), "another head is not what was signed");

    let auditor = world.parties.auditor.issue("person");
    let (status, export) = served.asked(Some(&auditor), "GET /v1/audit?from=1", "").await;
    assert_eq!(status, 200);
    let export: Export = serde_json::from_slice(&export).unwrap();
    let head = export.head.verify(&root).expect("signed by the database");
    assert_eq!(verify(Head::NONE, &export.lines), Ok(head));
    let kept = usize::try_from(held_head.sequence).unwrap();
    assert_eq!(verify(Head::NONE, &export.lines[..kept]), Ok(held_head), "it continues what was held");
    let events: Vec<Event> = export.lines.iter().filter_map(Line::read).collect();
    assert_eq!(events.len(), export.lines.len());
    assert!(matches!(events[0], Event::Started { epoch: 0, .. }));
    assert!(events.iter().any(|it| matches!(it, Event::Login { caller, .. } if caller.party == "bank_a")));
    assert!(events.iter().any(|it| matches!(it, Event::Denied { caller, .. } if caller.party == "bank_a")));
    assert!(events.iter().any(|it| matches!(it, Event::Denied { caller, .. } if caller.party == "analyst")));
    let (_, again) = served.asked(Some(&auditor), "GET /v1/audit", "").await;
    let again: Export = serde_json::from_slice(&again).unwrap();
    let last: Option<Event> = again.lines.last().and_then(Line::read);
    assert!(matches!(last, Some(Event::Exported { caller, .. }) if caller.party == "auditor"));
}

#[tokio::test(flavor = "multi_thread")]
async fn without_a_nonce_or_with_half_of_one_there_is_no_evidence() {
    let Some(world) = World::new() else { return };
    let served = world.start().await;
    served.serving().await;
    for query in ["", "?nonce=", "?nonce=00", "?nonce=zz", "?x=1"] {
        let (status, answer) = served.json(None, &format!("GET /v1/attestation{query}"), "").await;
        assert_eq!((status, answer["Code"].as_str()), (400, Some("NONCE_MALFORMED")), "{query}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn who_writes_is_told_when_there_is_no_room_and_readers_go_on() {
    let small = |manifest: &mut serde_json::Value| manifest["MaxSize"] = "64MiB".into();
    let Some(world) = World::with(small) else { return };
    let served = world.start().await;
    served.serving().await;
    let holder = world.parties.bank_b.issue("client");
    let auditor = served.session(&world.parties.auditor).await;
    let (mut told, mut rows) = (None, 0);
    for round in 0..400 {
        let Ok(bank) = served.attempt(&holder).await else {
            told = Some("at its login");
            break;
        };
        let values: Vec<String> =
            (0..500).map(|n| format!("({}, repeat('x', 1000))", round * 500 + n)).collect();
        if bank.batch_execute(&format!("INSERT INTO notes VALUES {}", values.join(","))).await.is_err() {
            told = Some("in its session");
            break;
        }
        rows += 500;
        tokio::time::sleep(std::time::Duration::from_millis(50)).await;
    }
    assert!(told.is_some(), "{rows} rows of 1 kB are more than there is room for");
    let counted: i64 = auditor.query_one("SELECT count(*) FROM notes", &[]).await.unwrap().get(0);
    assert!(counted >= rows);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_certificate_of_no_party_at_the_api_is_an_entry_as_over_sql() {
    let Some(world) = World::new() else { return };
    let served = world.start().await;
    served.serving().await;
    let stranger = testkit::parties::Authority::new("Nobody").issue("stranger");
    let day = time::Duration::days(1);
    let then = time::OffsetDateTime::from_unix_timestamp(testkit::tee::NOW.0).unwrap() - day * 2;
    let late = world.parties.analyst.issue_for("late", then, day);
    for holder in [&stranger, &late] {
        assert_eq!(served.json(Some(holder), "GET /v1/proposals", "").await.0, 401);
        assert_eq!(served.json(Some(holder), "GET /v1/manifest", "").await.0, 200, "that is for anyone");
        assert!(served.attempt(holder).await.is_err());
    }
    assert_eq!(served.json(None, "GET /v1/proposals", "").await.0, 401, "who shows none is not recorded");
    let auditor = world.parties.auditor.issue("person");
    let (_, export) = served.json(Some(&auditor), "GET /v1/audit", "").await;
    let lines: Vec<Line> = serde_json::from_value(export["Lines"].clone()).unwrap();
    let denied: Vec<_> = lines
        .iter()
        .filter_map(Line::read)
        .filter_map(|event| match event {
            Event::LoginDenied { certificate, interface, code, .. } => {
                assert!(
                    [&stranger, &late].iter().any(|it| certificate == Some(hex::encode(sha256(&it.der))))
                );
                Some((interface, code))
            }
            _ => None,
        })
        .collect();
    let each = |code: &str| {
        let of = |interface| (interface, code.to_owned());
        [of(Interface::Https), of(Interface::Https), of(Interface::Sql)]
    };
    assert_eq!(denied, [each("CERTIFICATE_UNKNOWN_ISSUER"), each("CERTIFICATE_EXPIRED")].concat());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_head_that_was_kept_is_held_against_the_history_also_beyond_checkpoints() {
    let Some(world) = World::new() else { return };
    let served = world.start().await;
    let state = served.serving().await.state.unwrap();
    let asked = async |sequence: u64, hash: &str| {
        let (status, answer) = served.json(None, &format!("GET /v1/log/{sequence}/{hash}"), "").await;
        assert_eq!(status, 200, "{answer}");
        answer["Held"].as_str().unwrap().to_owned()
    };
    let head = hex::encode(state.log_head.as_slice());
    assert_eq!(asked(state.log_sequence, &head).await, "contained");
    assert_eq!(asked(state.log_sequence, &"00".repeat(32)).await, "contradicted");
    assert_eq!(asked(state.log_sequence + 1_000_000, &head).await, "contradicted");
    // The founding made a base backup, so the first record was cut off: its hash is in a file of the host.
    let file = std::fs::read(world.log().join("heads-0000000000000001"));
    if let Ok(file) = file {
        assert_eq!(asked(1, &hex::encode(&file[..32])).await, "contained");
        assert_eq!(asked(1, &head).await, "contradicted");
        std::fs::remove_file(world.log().join("heads-0000000000000001")).unwrap();
    }
    for bad in ["0/00", "x/y", "1/zz"] {
        let (status, refusal) = served.json(None, &format!("GET /v1/log/{bad}"), "").await;
        assert_eq!((status, refusal["Code"].as_str()), (400, Some("MALFORMED_REQUEST")), "{bad}");
    }
}

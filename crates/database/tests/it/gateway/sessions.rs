//! Who comes in, and what parties do.

use database::audit::{Event, Refused};
use futures_util::{SinkExt, TryStreamExt};
use time::macros::datetime;
use tokio_postgres::error::SqlState;

use super::{SSL_REQUEST, Served, said, served, served_with, state};

async fn refused(served: &Served, holder: Option<&testkit::parties::Holder>) -> (SqlState, String) {
    let error = served.attempt(holder).await.expect_err("it is refused");
    (state(&error).clone(), said(&error))
}

#[tokio::test]
async fn the_anchor_decides_who_it_is_and_no_name_does() {
    let Some(served) = served().await else { return };
    // A certificate of bank B whose subject says that it is bank A's.
    let client = served.attempt(Some(&served.parties.bank_b.issue("Bank A"))).await.expect("a session");
    let row =
        client.query_one("SELECT current_user::text, session_user::text", &[]).await.expect("who it is");
    assert_eq!((row.get(0), row.get(1)), ("party_bank_b", "party_bank_b"));
    let error =
        client.execute("INSERT INTO accounts VALUES ('x', '2020-01-01')", &[]).await.expect_err("A's table");
    assert_eq!(state(&error), &SqlState::INSUFFICIENT_PRIVILEGE);
    client.execute("INSERT INTO notes VALUES (1, 'x')", &[]).await.expect("its own table");
}

#[tokio::test]
async fn whoever_shows_no_certificate_of_a_party_is_told_why() {
    let Some(served) = served().await else { return };
    let stranger = testkit::parties::Authority::new("Bank A");
    let invalid = SqlState::INVALID_AUTHORIZATION_SPECIFICATION;
    let (code, sentence) = refused(&served, None).await;
    assert_eq!((code, sentence.contains("certificate is required")), (invalid.clone(), true));
    let (code, sentence) = refused(&served, Some(&stranger.issue("x"))).await;
    assert_eq!((code, sentence.contains("not issued by a party")), (invalid.clone(), true));
    let old = served.parties.bank_a.issue_valid(
        "x",
        datetime!(2001-01-01 00:00 UTC),
        datetime!(2002-01-01 00:00 UTC),
    );
    let (code, sentence) = refused(&served, Some(&old)).await;
    assert_eq!((code, sentence.contains("expired")), (invalid, true));
    let codes: Vec<_> = served
        .audited()
        .await
        .into_iter()
        .filter_map(|it| match it {
            Event::LoginDenied { code, .. } => Some(code),
            _ => None,
        })
        .collect();
    assert_eq!(codes, ["NO_CERTIFICATE", "CERTIFICATE_UNKNOWN_ISSUER", "CERTIFICATE_EXPIRED"]);
}

#[tokio::test]
async fn a_writer_inserts_and_copies_and_a_reader_reads_and_copies() {
    let Some(served) = served().await else { return };
    let mut writer = served.session(&served.parties.bank_b).await;
    let insert =
        writer.prepare("INSERT INTO notes (id, body) VALUES ($1, $2)").await.expect("it is prepared");
    for number in 0..10_i64 {
        assert_eq!(writer.execute(&insert, &[&number, &"body"]).await.expect("a row"), 1);
    }
    let transaction = writer.transaction().await.expect("a transaction");
    transaction.execute(&insert, &[&10_i64, &"gone"]).await.expect("a row");
    transaction.rollback().await.expect("it is rolled back");
    let sink = writer.copy_in("COPY notes (id, body) FROM STDIN").await.expect("COPY");
    tokio::pin!(sink);
    let rows: String = (100..5100).map(|it| format!("{it}\tx\n")).collect();
    for part in rows.as_bytes().chunks(10_000) {
        sink.send(bytes::Bytes::copy_from_slice(part)).await.expect("rows");
    }
    assert_eq!(sink.finish().await.expect("all rows"), 5000);
    writer.execute(&insert, &[&11_i64, &"after"]).await.expect("the session goes on");

    let reader = served.session(&served.parties.auditor).await;
    let row = reader
        .query_one("SELECT count(*), max(id) FROM notes WHERE id <> $1", &[&3_i64])
        .await
        .expect("a row");
    assert_eq!((row.get::<_, i64>(0), row.get::<_, i64>(1)), (5010, 5099));
    let copied: Vec<_> = reader
        .copy_out("COPY (SELECT id FROM notes WHERE id < 20 ORDER BY id) TO STDOUT WITH (FORMAT csv)")
        .await
        .expect("COPY")
        .try_collect()
        .await
        .expect("rows");
    assert_eq!(copied.concat(), b"0\n1\n2\n3\n4\n5\n6\n7\n8\n9\n11\n");
    reader.query("EXPLAIN SELECT * FROM notes", &[]).await.expect("a plan");
}

#[tokio::test]
async fn the_writer_of_a_row_is_stamped() {
    let Some(served) = served().await else { return };
    for bank in [&served.parties.bank_a, &served.parties.bank_b] {
        let client = served.session(bank).await;
        let insert = "INSERT INTO payments (account, city, amount, bank) VALUES ('a', 'Rome', 1, 'bank_a')";
        client.execute(insert, &[]).await.expect("a row");
    }
    let rows =
        served.superuser().await.query("SELECT bank FROM payments ORDER BY id", &[]).await.expect("rows");
    assert_eq!(rows.iter().map(|it| it.get::<_, &str>(0)).collect::<Vec<_>>(), ["bank_a", "bank_b"]);
}

#[tokio::test]
async fn a_refused_statement_fails_its_transaction_and_the_session_goes_on() {
    let Some(served) = served().await else { return };
    let client = served.session(&served.parties.bank_b).await;
    client.batch_execute("BEGIN").await.expect("a transaction");
    client.batch_execute("INSERT INTO notes VALUES (1, 'x')").await.expect("a row");
    let error = client.batch_execute("DELETE FROM notes").await.expect_err("it is refused");
    assert_eq!(state(&error), &SqlState::INSUFFICIENT_PRIVILEGE);
    let error = client.batch_execute("INSERT INTO notes VALUES (2, 'x')").await.expect_err("it has failed");
    assert_eq!(state(&error), &SqlState::IN_FAILED_SQL_TRANSACTION);
    client.batch_execute("ROLLBACK").await.expect("its end");
    client.batch_execute("INSERT INTO notes VALUES (3, 'x')").await.expect("a row");
    let rows = served.superuser().await.query("SELECT id FROM notes", &[]).await.expect("rows");
    assert_eq!(rows.iter().map(|it| it.get::<_, i64>(0)).collect::<Vec<_>>(), [3]);
    let commands: Vec<_> = served
        .audited()
        .await
        .into_iter()
        .filter_map(|it| match it {
            Event::Denied { what: Refused::Statement { command, digest }, code, caller, .. } => {
                assert_eq!((digest.len(), caller.party.as_str()), (64, "bank_b"));
                Some((command, code))
            }
            _ => None,
        })
        .collect();
    assert_eq!(commands, [("DELETE".to_owned(), "STATEMENT_REFUSED".to_owned())]);
}

#[tokio::test]
async fn a_cancelled_statement_ends_and_an_insert_that_commits_is_not_interrupted() {
    let Some(served) = served().await else { return };
    let client = served.session(&served.parties.auditor).await;
    let token = client.cancel_token();
    let cancel = async {
        loop {
            tokio::time::sleep(std::time::Duration::from_millis(50)).await;
            let mut stream = tokio::net::TcpStream::connect(served.address).await.expect("a connection");
            tokio::io::AsyncWriteExt::write_all(&mut stream, &SSL_REQUEST).await.expect("a request");
            assert_eq!(tokio::io::AsyncReadExt::read_u8(&mut stream).await.expect("an answer"), b'S');
            let stream =
                served.tls(None).connect("localhost".try_into().expect("a name"), stream).await.expect("TLS");
            token.cancel_query_raw(stream, tokio_postgres::NoTls).await.expect("it is sent");
        }
    };
    let long = "SELECT count(*) FROM generate_series(1, 1000000) a, generate_series(1, 1000000) b";
    let error = tokio::select! {
        result = client.query(long, &[]) => result.expect_err("it is cancelled"),
        () = cancel => unreachable!(),
    };
    assert_eq!(state(&error), &SqlState::QUERY_CANCELED);
    client.query_one("SELECT 1", &[]).await.expect("the session goes on");

    // An INSERT that waits, for a lock here, for the sealer in earnest: it is not interrupted.
    let writer = served.session(&served.parties.bank_b).await;
    let insert = writer.prepare("INSERT INTO notes VALUES (7, 'x')").await.expect("it is prepared");
    let admin = served.superuser().await;
    admin.batch_execute("BEGIN; LOCK TABLE notes IN EXCLUSIVE MODE").await.expect("a lock");
    let token = writer.cancel_token();
    let inserting = tokio::spawn(async move { writer.execute(&insert, &[]).await });
    for _ in 0..5 {
        tokio::time::sleep(std::time::Duration::from_millis(30)).await;
        let stream = tokio::net::TcpStream::connect(served.address).await.expect("a connection");
        token
            .cancel_query_raw(stream, tokio_postgres::NoTls)
            .await
            .expect("in the clear, as older clients do");
    }
    admin.batch_execute("COMMIT").await.expect("the lock is released");
    assert_eq!(inserting.await.expect("it ran").expect("it was not interrupted"), 1);
}

#[tokio::test]
async fn sessions_are_looked_at_again_when_the_rules_change() {
    let Some(served) = served().await else { return };
    let auditor = served.session(&served.parties.auditor).await;
    let writer = served.session(&served.parties.bank_b).await;
    auditor.query("SELECT * FROM notes", &[]).await.expect("it reads");
    let mut tree = served.parties.manifest();
    tree["Name"] = "test".into();
    tree["Tables"]["notes"]["Readers"] = serde_json::json!([]);
    let manifest = database_manifest::Manifest::parse(tree.to_string().as_bytes()).expect("a manifest");
    let old = served.rules.borrow().clone();
    let new = database::Rules { manifest: manifest.into(), epoch: 1, first: old.first };
    served.rules.send(new.into()).expect("it is watched");
    let error = loop {
        match auditor.query("SELECT * FROM notes", &[]).await {
            Ok(_) => tokio::time::sleep(std::time::Duration::from_millis(10)).await,
            Err(error) => break error,
        }
    };
    assert!(error.is_closed() || state(&error) == &SqlState::ADMIN_SHUTDOWN, "{error:?}");
    writer
        .execute("INSERT INTO notes VALUES (1, 'x')", &[])
        .await
        .expect("whose rights are as before goes on");
    let auditor = served.session(&served.parties.auditor).await;
    let error = auditor.query("SELECT * FROM notes", &[]).await.expect_err("no more");
    assert_eq!(state(&error), &SqlState::INSUFFICIENT_PRIVILEGE);
}

#[tokio::test]
async fn a_party_has_no_more_sessions_than_it_may_and_leaves_room_for_others() {
    let limits = database::gateway::Limits { sessions_per_party: 2, ..Default::default() };
    let Some(served) = served_with(limits, |_| {}).await else { return };
    let mut sessions = Vec::new();
    for _ in 0..2 {
        sessions.push(served.session(&served.parties.bank_a).await);
    }
    let error = served.attempt(Some(&served.parties.bank_a.issue("x"))).await.expect_err("one too many");
    assert_eq!(state(&error), &SqlState::TOO_MANY_CONNECTIONS);
    served.session(&served.parties.bank_b).await.query_one("SELECT 1", &[]).await.expect("another party's");
    sessions.clear();
    while served.attempt(Some(&served.parties.bank_a.issue("x"))).await.is_err() {
        tokio::time::sleep(std::time::Duration::from_millis(10)).await;
    }
}

//! Algorithms over SQL, by both protocols.

use std::sync::atomic::Ordering;

use tokio_postgres::{SimpleQueryMessage, error::SqlState};

use super::{said, served, state};

#[tokio::test]
async fn an_algorithm_answers_in_the_extended_protocol_with_binary_values() {
    let Some(served) = served().await else { return };
    let client = served.session(&served.parties.analyst).await;
    let statement = client.prepare("SELECT * FROM algorithm.volume($1)").await.expect("it is prepared");
    let columns: Vec<_> = statement.columns().iter().map(|it| (it.name(), it.type_().name())).collect();
    assert_eq!(columns, [("city", "text"), ("total", "numeric")]);
    assert_eq!(statement.params().iter().map(|it| it.name()).collect::<Vec<_>>(), ["int8"]);
    for least in [100_i64, -5] {
        let rows = client.query(&statement, &[&least]).await.expect("an answer");
        assert_eq!(rows[0].get::<_, &str>(0), "O'Hara \\ \"x\"");
        assert_eq!(rows[1].get::<_, Option<&str>>(0), None);
    }
    let row = client.query_one("SELECT * FROM algorithm.total()", &[]).await.expect("an answer");
    assert_eq!(row.get::<_, i64>(0), 42);
    let asked = served.algorithms.asked.lock().unwrap().clone();
    let texts: Vec<_> = asked.iter().map(|(name, arguments)| (name.as_str(), arguments.join(","))).collect();
    assert_eq!(texts, [("volume", "100".to_owned()), ("volume", "-5".to_owned()), ("total", String::new())]);
}

#[tokio::test]
async fn an_algorithm_answers_in_the_simple_protocol() {
    let Some(served) = served().await else { return };
    let client = served.session(&served.parties.analyst).await;
    for text in [
        "SELECT * FROM algorithm.volume(7)",
        "select * from algorithm.volume('7') ;",
        "SELECT * FROM algorithm.volume(007::int) -- seven",
    ] {
        let messages = client.simple_query(text).await.expect(text);
        let rows: Vec<_> = messages
            .iter()
            .filter_map(|it| match it {
                SimpleQueryMessage::Row(row) => Some((row.get(0), row.get(1))),
                _ => None,
            })
            .collect();
        assert_eq!(rows, [(Some("O'Hara \\ \"x\""), Some("12.50")), (None, Some("-3"))]);
    }
    let asked = served.algorithms.asked.lock().unwrap().clone();
    assert!(asked.iter().all(|it| it.1 == ["7"]), "{asked:?}");
}

#[tokio::test]
async fn a_call_that_is_denied_fails_its_transaction_and_the_session_goes_on() {
    let Some(served) = served().await else { return };
    let mut client = served.session(&served.parties.analyst).await;
    let statement = client.prepare("SELECT * FROM algorithm.volume($1)").await.expect("it is prepared");
    let transaction = client.transaction().await.expect("a transaction");
    transaction.query(&statement, &[&1_i64]).await.expect("an answer");
    served.algorithms.busy.store(true, Ordering::SeqCst);
    let error = transaction.query(&statement, &[&1_i64]).await.expect_err("it is denied");
    assert_eq!(
        (state(&error), said(&error).as_str()),
        (&SqlState::INSUFFICIENT_PRIVILEGE, "the database is busy")
    );
    let error = transaction.query("SELECT 1", &[]).await.expect_err("it has failed");
    assert_eq!(state(&error), &SqlState::IN_FAILED_SQL_TRANSACTION);
    transaction.rollback().await.expect("its end");
    let error = client.simple_query("SELECT * FROM algorithm.total()").await.expect_err("it is denied");
    assert_eq!(state(&error), &SqlState::INSUFFICIENT_PRIVILEGE);
    served.algorithms.busy.store(false, Ordering::SeqCst);
    client.query(&statement, &[&1_i64]).await.expect("an answer");
    let error = client.query("SELECT * FROM algorithm.volume($1)", &[&None::<i64>]).await.expect_err("NULL");
    assert_eq!(state(&error).code(), "22004");
    client.query_one("SELECT 1", &[]).await.expect("the session goes on");
}

#[tokio::test]
async fn a_call_is_nothing_but_a_call_and_only_of_what_one_may_call() {
    let Some(served) = served().await else { return };
    let analyst = served.session(&served.parties.analyst).await;
    for text in [
        "SELECT total FROM algorithm.volume(1)",
        "SELECT * FROM algorithm.volume(1) WHERE total > 3",
        "SELECT * FROM algorithm.volume(1) AS x",
        "SELECT * FROM algorithm.volume(1), pg_class",
        "SELECT * FROM algorithm.volume((SELECT 1))",
        "SELECT * FROM algorithm.volume(1 + 1)",
        "SELECT * FROM algorithm.volume(NULL)",
        "SELECT * FROM algorithm.volume()",
        "SELECT * FROM algorithm.volume(1, 2)",
        "SELECT * FROM algorithm.unknown(1)",
        "SELECT algorithm.volume(1)",
        "INSERT INTO payments SELECT * FROM algorithm.volume(1)",
        "COPY (SELECT * FROM algorithm.total()) TO STDOUT",
        "WITH x AS (SELECT * FROM algorithm.total()) SELECT * FROM x",
    ] {
        let error = analyst.simple_query(text).await.expect_err(text);
        assert_eq!(state(&error), &SqlState::INSUFFICIENT_PRIVILEGE, "{text}");
    }
    let writer = served.session(&served.parties.bank_a).await;
    let error = writer.simple_query("SELECT * FROM algorithm.total()").await.expect_err("it may not");
    assert_eq!(said(&error), "there is no algorithm of this name that you may call");
    assert!(served.algorithms.asked.lock().unwrap().is_empty(), "none was asked");
}

#[tokio::test]
async fn calls_keep_their_place_among_other_statements_of_a_pipeline() {
    let Some(served) = served().await else { return };
    let client = served.session(&served.parties.analyst).await;
    let total = client.prepare("SELECT * FROM algorithm.total()").await.expect("it is prepared");
    let number = client.prepare("SELECT $1::int8").await.expect("it is prepared");
    let (a, b, c, d, e): (_, _, _, _, Result<_, _>) = tokio::join!(
        client.query_one(&number, &[&1_i64]),
        client.query_one(&total, &[]),
        client.query_one(&number, &[&2_i64]),
        client.query_one(&total, &[]),
        client.query_one("SELECT * FROM payments", &[]),
    );
    let seen: Vec<i64> = [a, b, c, d].map(|it| it.expect("an answer").get(0)).to_vec();
    assert_eq!(seen, [1, 42, 2, 42]);
    assert_eq!(state(&e.expect_err("it is refused")), &SqlState::INSUFFICIENT_PRIVILEGE);
}

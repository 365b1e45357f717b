//! Who calls what, and what leaves.

use super::*;
use database::installation::READER;

#[tokio::test]
async fn a_group_of_nine_is_absent_where_ten_are_asked_and_nothing_hints_at_it() {
    let Some(database) = database(|_| {}).await else { return };
    let answer = database.call("volume", &["0"]).await.unwrap();
    assert_eq!(answer.rows, [vec![Some("ten".into()), Some("550".into())]]);
    let names: Vec<_> = answer.columns.iter().map(|(name, _)| name.as_str()).collect();
    assert_eq!(names, ["city", "total"], "the count of contributors is never shown");
    assert_eq!(database.call("volume", &["20"]).await.unwrap().rows, Vec::<Vec<_>>::new(), "nine are left");
}

#[tokio::test]
async fn who_is_no_caller_cannot_tell_whether_it_exists() {
    let Some(database) = database(|_| {}).await else { return };
    let denied = |party: &'static str, name: &'static str| {
        let (algorithms, caller) = (database.algorithms.clone(), database.caller(party));
        async move {
            let denied =
                algorithms.call(&caller, &algorithm(name), vec!["x".into()], false).await.unwrap_err();
            (denied.sqlstate(), denied.public_code(), denied.sentence())
        }
    };
    assert_eq!(denied("bank_a", "volume").await, denied("analyst", "nothing").await);
}

#[tokio::test]
async fn arguments_are_values_and_no_sql() {
    let change = |document: &mut Value| {
        document["Algorithms"]["volume"]["Arguments"] = json!([{"Name": "city", "Type": "text"}]);
        document["Algorithms"]["volume"]["Sql"] = json!(
            "SELECT city, sum(amount) AS total, count(DISTINCT account) AS contributors FROM payments \
             WHERE city = $1 GROUP BY city -- the end"
        );
    };
    let Some(database) = database(change).await else { return };
    for hostile in ["' OR true --", "ten'; DROP TABLE payments; --", "$1", "\\"] {
        assert!(database.call("volume", &[hostile]).await.unwrap().rows.is_empty(), "{hostile}");
    }
    assert_eq!(database.call("volume", &["ten"]).await.unwrap().rows.len(), 1);
    for bad in [&[] as &[&str], &["a", "b"], &["a\0b"], &[&"x".repeat(257)]] {
        let denied = database.call("volume", bad).await.unwrap_err();
        assert!(denied.code().starts_with("ARGUMENT"), "{bad:?}: {denied}");
    }
}

#[tokio::test]
async fn values_of_every_type_leave_in_postgresqls_text() {
    let change = |document: &mut Value| {
        let typed = ["boolean", "integer", "float", "numeric", "text", "date", "timestamp"];
        let values = ["true", "-7", "0.1", "1.50", "ä", "2026-11-22", "2026-11-22T01:02:03.5Z"];
        let arguments: Vec<_> = typed
            .iter()
            .enumerate()
            .map(|(i, kind)| json!({"Name": format!("a{i}"), "Type": kind}))
            .collect();
        let columns: Vec<_> = typed
            .iter()
            .enumerate()
            .map(|(i, kind)| json!({"Name": format!("c{i}"), "Type": kind}))
            .collect();
        let selected: Vec<_> = (0..values.len()).map(|i| format!("${} AS c{i}", i + 1)).collect();
        document["Algorithms"]["volume"] = json!({
            "Callers": ["analyst"], "Arguments": arguments,
            "Sql": format!("SELECT {} FROM payments", selected.join(", ")),
            "Output": {"Columns": columns, "MaxRows": 1},
        });
    };
    let Some(database) = database(change).await else { return };
    let given = ["true", "-7", "0.1", "1.50", "ä", "2026-11-22", "2026-11-22T01:02:03.5Z"];
    let answer = database.call("volume", &given).await.unwrap();
    let expected = ["t", "-7", "0.1", "1.5", "ä", "2026-11-22", "2026-11-22 01:02:03.500000+00"];
    assert_eq!(answer.rows, [expected.map(|it| Some(it.to_owned())).to_vec()], "and no second row");
}

#[tokio::test]
async fn the_reading_role_writes_nothing() {
    let Some(database) = database(|_| {}).await else { return };
    let reader = database.engine.session(READER).await.unwrap();
    for statement in [
        "INSERT INTO notes VALUES (1, 'x')",
        "SET default_transaction_read_only = off; INSERT INTO notes VALUES (1, 'x')",
        "SET default_transaction_read_only = off; CREATE TABLE t (a int)",
        "SET default_transaction_read_only = off; CREATE TEMP TABLE t (a int)",
        "SELECT * FROM bailey.spent",
    ] {
        let error = reader.batch_execute(statement).await.unwrap_err();
        let code = error.code().unwrap().code().to_owned();
        assert!(["42501", "25006"].contains(&code.as_str()), "{statement}: {error}");
    }
}

#[tokio::test]
async fn a_change_of_the_rules_during_a_call_counts() {
    let Some(database) = database(|_| {}).await else { return };
    database.sealed.send_replace(Lsn(0));
    let database = Arc::new(database);
    let calling = Arc::clone(&database);
    let call = tokio::spawn(async move { calling.call("volume", &["0"]).await });
    // It waits for the seal, by when it has looked at the rules.
    while database.sealed.receiver_count() < 2 {
        tokio::task::yield_now().await;
    }
    database.rules.send_modify(|rules| *rules = Arc::new(Rules { epoch: 1, ..Rules::clone(rules) }));
    database.sealed.send_replace(Lsn(u64::MAX));
    assert_eq!(call.await.unwrap().unwrap_err().code(), "RULES_CHANGED");
}

#[tokio::test]
async fn calls_and_denials_are_recorded() {
    let Some(database) = database(|_| {}).await else { return };
    database.call("volume", &["7"]).await.unwrap();
    database.call("total", &[]).await.unwrap();
    database.call("volume", &["-1"]).await.unwrap_err();
    let events = database.audited().await;
    let [
        Event::Call { algorithm, arguments, rows, epsilon, .. },
        Event::Call { epsilon: paid, .. },
        Event::Denied { code, reason, .. },
    ] = events.as_slice()
    else {
        panic!("{events:?}")
    };
    assert_eq!((algorithm.as_str(), arguments.as_slice(), *rows), ("volume", ["7".to_owned()].as_slice(), 1));
    assert_eq!((*epsilon, *paid), (0.0, 0.1));
    assert_eq!((code.as_str(), reason.as_str()), ("ARGUMENT", "argument least: expected 0 to 1000000"));
}

#[tokio::test]
async fn an_algorithm_that_could_not_run_is_not_installed() {
    let Some((settings, _folder)) = prepared() else { return };
    let engine = Engine::start(&settings).await.unwrap();
    let mut document = Parties::new().manifest();
    document["Name"] = json!(DATABASE);
    document["Algorithms"]["volume"]["Sql"] =
        json!("SELECT city, amount > 'x'::text AS total, $1::bigint AS contributors FROM payments");
    let manifest =
        Manifest::parse(document.to_string().as_bytes()).unwrap_or_else(|faults| panic!("{faults}"));
    let mut client = engine.session(SUPERUSER).await.unwrap();
    let refused = installation::install(&mut client, &manifest, UnixTime(NOW)).await.unwrap_err();
    assert!(refused.to_string().contains("algorithm volume"), "{refused}");
}

#[tokio::test]
async fn a_call_ends_in_postgresql_too_when_its_time_is_over() {
    let change = |document: &mut Value| {
        let payments: Vec<_> = (1..9).map(|number| format!("payments p{number}")).collect();
        let sql = format!(
            "SELECT p1.city, sum(p2.amount) AS total, count(DISTINCT p3.account) AS contributors FROM {} \
             WHERE p1.amount >= $1 GROUP BY p1.city",
            payments.join(", ")
        );
        document["Algorithms"]["volume"]["Sql"] = json!(sql);
        document["Algorithms"]["volume"]["Time"] = json!("300ms");
    };
    let Some(database) = database(change).await else { return };
    let denied = database.call("volume", &["0"]).await.expect_err("it would run for hours");
    assert!(denied.told().contains("57014"), "PostgreSQL itself ended it: {}", denied.told());
}

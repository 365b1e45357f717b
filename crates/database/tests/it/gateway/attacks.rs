//! Statements that try to get at more than the manifest gives. Each is refused with 42501, and recorded.

use database::audit::{Event, Refused};
use testkit::parties::Authority;
use tokio_postgres::error::SqlState;

use super::{Served, said, served, state};

/// As simple statements, and prepared.
async fn all_refused(served: &Served, party: &Authority, statements: &[&str]) {
    let client = served.session(party).await;
    for text in statements {
        let error = client.simple_query(text).await.err().unwrap_or_else(|| panic!("it passes: {text}"));
        assert_eq!(state(&error), &SqlState::INSUFFICIENT_PRIVILEGE, "{text}: {}", said(&error));
        let error = client.prepare(text).await.err().unwrap_or_else(|| panic!("it is prepared: {text}"));
        assert_eq!(state(&error), &SqlState::INSUFFICIENT_PRIVILEGE, "{text}: {}", said(&error));
    }
    client.simple_query("SELECT 1").await.expect("the session goes on");
    let denied = |it: &Event| matches!(it, Event::Denied { what: Refused::Statement { .. }, .. });
    let recorded = served.audited().await.iter().filter(|it| denied(it)).count();
    assert_eq!(recorded, 2 * statements.len(), "each is recorded");
}

#[tokio::test]
async fn analysts_reach_no_table() {
    let Some(served) = served().await else { return };
    let statements = [
        "SELECT * FROM payments",
        "SELECT * FROM public.payments",
        "SELECT * FROM \"payments\"",
        "TABLE payments",
        "SELECT 1 WHERE EXISTS (SELECT FROM payments)",
        "SELECT (SELECT count(*) FROM payments)",
        "WITH x AS (SELECT * FROM payments) SELECT * FROM x",
        "SELECT * FROM (VALUES (1)) v JOIN payments ON true",
        "SELECT 1 ORDER BY (SELECT amount FROM payments LIMIT 1)",
        "SELECT count(*) FILTER (WHERE EXISTS (SELECT FROM payments))",
        "COPY payments TO STDOUT",
        "COPY (SELECT * FROM payments) TO STDOUT",
        "INSERT INTO payments (account) VALUES ('x')",
        "EXPLAIN SELECT * FROM payments",
        "SELECT * FROM bailey.manifests",
        "SELECT * FROM pg_stat_user_tables",
        "SELECT * FROM pg_catalog.pg_stats",
        "SELECT reltuples FROM pg_class",
        "SELECT \"relpages\" FROM pg_catalog.pg_class",
        "SELECT x FROM pg_class AS v (x, reltuples)",
        "SELECT * FROM pg_locks",
        "SELECT * FROM pg_largeobject",
        "SELECT * FROM other.pg_catalog.pg_class",
    ];
    all_refused(&served, &served.parties.analyst, &statements).await;
}

/// PostgreSQL itself keeps them from whoever asks for all columns.
#[tokio::test]
async fn estimates_of_how_many_rows_there_are_reach_nobody() {
    let Some(served) = served().await else { return };
    let client = served.session(&served.parties.analyst).await;
    for text in ["SELECT * FROM pg_class", "TABLE pg_class", "SELECT v::text FROM pg_class AS v"] {
        let error = client.simple_query(text).await.err().unwrap_or_else(|| panic!("it passes: {text}"));
        assert_eq!(state(&error), &SqlState::INSUFFICIENT_PRIVILEGE, "{text}: {}", said(&error));
    }
    client.simple_query("SELECT relname FROM pg_class").await.expect("names are no secret");
}

#[tokio::test]
async fn several_statements_at_once_are_refused() {
    let Some(served) = served().await else { return };
    let statements = [
        "SELECT 1; DELETE FROM notes",
        "SELECT 1;SELECT 2",
        "INSERT INTO notes VALUES (1, 'x'); ROLLBACK",
        "BEGIN; COMMIT",
    ];
    all_refused(&served, &served.parties.bank_b, &statements).await;
}

#[tokio::test]
async fn copy_reaches_no_file_and_no_program() {
    let Some(served) = served().await else { return };
    let statements = [
        "COPY notes FROM PROGRAM 'id'",
        "COPY notes TO PROGRAM 'cat > /tmp/x'",
        "COPY notes FROM '/etc/passwd'",
        "COPY notes TO '/tmp/x'",
        "COPY (SELECT * FROM notes) TO PROGRAM 'cat'",
        "COPY notes TO STDOUT",
        "COPY notes FROM STDIN WITH (FREEZE true)",
        "COPY notes FROM STDIN WITH (ENCODING 'SJIS')",
        "COPY pg_class TO STDOUT",
        "COPY pg_catalog.pg_authid TO STDOUT",
    ];
    all_refused(&served, &served.parties.bank_b, &statements).await;
}

#[tokio::test]
async fn large_objects_files_and_functions_with_side_effects_are_refused_wherever_they_stand() {
    let Some(served) = served().await else { return };
    let calls = [
        "lo_import('/etc/passwd')",
        "lo_create(1)",
        "lo_get(1)",
        "pg_read_file('/etc/passwd')",
        "pg_catalog.pg_read_file('/etc/passwd')",
        "pg_ls_dir('/')",
        "pg_stat_file('/etc/passwd')",
        "pg_sleep(1)",
        "pg_advisory_lock(1)",
        "pg_notify('a', 'b')",
        "pg_terminate_backend(1)",
        "pg_reload_conf()",
        "nextval('payments_id_seq')",
        "currval('payments_id_seq')",
        "lastval()",
        "setval('payments_id_seq', 1)",
        "query_to_xml('SELECT 1', true, true, '')",
        "table_to_xml('notes', true, true, '')",
        "set_config('synchronous_commit', 'off', false)",
        "set_config('TimeZone', 'UTC', false)",
        "current_setting('data_directory')",
        "current_setting(chr(100))",
        "pg_table_size('payments')",
        "pg_total_relation_size('payments')",
        "pg_stat_get_live_tuples(1)",
        "dblink('x', 'y')",
        "public.something()",
        "bailey.stamp_payments()",
        "\"pg_sleep\"(1)",
        "PG_SLEEP(1)",
    ];
    let statements: Vec<_> = calls.iter().map(|it| format!("SELECT {it}")).collect();
    let statements: Vec<_> = statements.iter().map(String::as_str).collect();
    all_refused(&served, &served.parties.auditor, &statements).await;
}

#[tokio::test]
async fn no_place_in_a_query_hides_a_function() {
    let Some(served) = served().await else { return };
    let places = [
        "SELECT abs(X)",
        "SELECT 1 WHERE X IS NULL",
        "SELECT count(*) FILTER (WHERE X IS NULL)",
        "SELECT percentile_cont(0.5) WITHIN GROUP (ORDER BY X)",
        "SELECT count(*) OVER (PARTITION BY X)",
        "SELECT count(*) OVER (ORDER BY X)",
        "SELECT count(*) OVER w FROM notes WINDOW w AS (ORDER BY X)",
        "SELECT sum(id) OVER (ORDER BY id ROWS BETWEEN X PRECEDING AND CURRENT ROW) FROM notes",
        "SELECT string_agg(body, ',' ORDER BY X) FROM notes",
        "SELECT 1 ORDER BY X",
        "SELECT 1 LIMIT X",
        "SELECT 1 OFFSET X",
        "SELECT DISTINCT ON (X) 1",
        "SELECT 1 GROUP BY X",
        "SELECT 1 GROUP BY ROLLUP (X)",
        "SELECT 1 GROUP BY GROUPING SETS ((X))",
        "SELECT 1 HAVING X IS NULL",
        "SELECT 1 FROM notes JOIN notes n ON X IS NULL",
        "SELECT * FROM X",
        "SELECT * FROM X AS y",
        "SELECT * FROM notes, LATERAL X",
        "SELECT * FROM notes CROSS JOIN LATERAL X AS z",
        "SELECT * FROM unnest(ARRAY[X])",
        "SELECT * FROM generate_series(1, X)",
        "VALUES (X)",
        "SELECT CASE WHEN X IS NULL THEN 1 END",
        "SELECT CASE 1 WHEN X THEN 1 ELSE 2 END",
        "SELECT ARRAY[X]",
        "SELECT ARRAY(SELECT X)",
        "SELECT (ARRAY[1])[X]",
        "SELECT (ARRAY[1, 2])[1:X]",
        "SELECT ROW(X)",
        "SELECT X::text",
        "SELECT CAST(X AS text)",
        "SELECT 1 IN (X)",
        "SELECT 1 = ANY (ARRAY[X])",
        "SELECT 1 BETWEEN X AND 2",
        "SELECT 'a' LIKE X",
        "SELECT X IS DISTINCT FROM 1",
        "SELECT -X",
        "SELECT extract(year FROM X)",
        "SELECT substring('a' FROM X)",
        "SELECT position('a' IN X)",
        "SELECT trim(X)",
        "SELECT overlay('a' PLACING X FROM 1)",
        "SELECT now() AT TIME ZONE X",
        "SELECT 'a' COLLATE \"C\" || X",
        "SELECT EXISTS (SELECT X)",
        "SELECT 1 UNION SELECT X",
        "WITH a AS (SELECT X) SELECT 1",
        "WITH RECURSIVE a AS (SELECT 1 UNION ALL SELECT X FROM a) SELECT 1",
        "SELECT (X).x",
        "SELECT (SELECT X)",
        "COPY (SELECT X) TO STDOUT",
        "EXPLAIN SELECT X",
        "SELECT 1 FROM notes TABLESAMPLE SYSTEM (X)",
        "SELECT * FROM ROWS FROM (X)",
        "SELECT * FROM json_each(json_build_object('a', X))",
    ];
    let statements: Vec<_> = places.iter().map(|it| it.replace('X', "pg_sleep(9)")).collect();
    let statements: Vec<_> = statements.iter().map(String::as_str).collect();
    all_refused(&served, &served.parties.auditor, &statements).await;
}

#[tokio::test]
async fn roles_settings_and_search_path_stay_as_they_are() {
    let Some(served) = served().await else { return };
    let statements = [
        "SET ROLE bailey",
        "SET LOCAL ROLE bailey",
        "SET SESSION AUTHORIZATION bailey",
        "SET SESSION AUTHORIZATION DEFAULT",
        "RESET SESSION AUTHORIZATION",
        "SET synchronous_commit = off",
        "SET LOCAL synchronous_commit TO local",
        "RESET synchronous_commit",
        "SET search_path = bailey, public",
        "SET search_path TO pg_temp",
        "SET standard_conforming_strings = off",
        "SET client_encoding = 'SJIS'",
        "SET NAMES 'SJIS'",
        "SET row_security = off",
        "SET statement_timeout = 0",
        "SET session_replication_role = replica",
        "SET transaction_read_only TO maybe",
        "SET DateStyle = 'German'",
        "SHOW data_directory",
        "SHOW ALL",
        "GRANT SELECT ON notes TO party_bank_b",
        "ALTER ROLE party_bank_b SET search_path = bailey",
        "SET TRANSACTION SNAPSHOT '1'",
    ];
    all_refused(&served, &served.parties.bank_b, &statements).await;
}

#[tokio::test]
async fn what_is_no_query_and_no_insert_is_refused() {
    let Some(served) = served().await else { return };
    let statements = [
        "DO $$ BEGIN PERFORM 1; END $$",
        "CALL something()",
        "DELETE FROM notes",
        "UPDATE notes SET body = 'x'",
        "TRUNCATE notes",
        "MERGE INTO notes USING notes n ON true WHEN MATCHED THEN DELETE",
        "CREATE TABLE x (a int)",
        "CREATE TEMP TABLE x (a int)",
        "CREATE TABLE x AS SELECT 1",
        "SELECT 1 INTO x",
        "CREATE FUNCTION f() RETURNS int LANGUAGE sql AS 'SELECT 1'",
        "CREATE EXTENSION dblink",
        "DROP TABLE notes",
        "ALTER TABLE notes DISABLE TRIGGER ALL",
        "LOCK TABLE notes",
        "LISTEN a",
        "UNLISTEN *",
        "NOTIFY a",
        "DECLARE c CURSOR FOR SELECT 1",
        "FETCH 1 FROM c",
        "MOVE 1 FROM c",
        "CLOSE c",
        "PREPARE x AS DELETE FROM notes",
        "PREPARE x AS SELECT 1",
        "EXECUTE x",
        "EXPLAIN ANALYZE SELECT 1",
        "EXPLAIN (ANALYZE) SELECT 1",
        "EXPLAIN (ANALYZE true, COSTS off) SELECT 1",
        "EXPLAIN INSERT INTO notes VALUES (1, 'x')",
        "VACUUM",
        "ANALYZE notes",
        "REINDEX TABLE notes",
        "CHECKPOINT",
        "LOAD 'x'",
        "COMMENT ON TABLE notes IS 'x'",
        "SECURITY LABEL ON TABLE notes IS 'x'",
        "PREPARE TRANSACTION 'x'",
        "COMMIT PREPARED 'x'",
        "WITH x AS (DELETE FROM notes RETURNING *) SELECT * FROM x",
        "WITH x AS (INSERT INTO notes VALUES (1, 'x') RETURNING *) SELECT * FROM x",
        "SELECT * FROM notes FOR UPDATE",
        "this is no SQL",
        "SELECT \u{201c}x\u{201d} FROM",
        "SELECT 'x",
        "/* SELECT 1",
    ];
    all_refused(&served, &served.parties.bank_b, &statements).await;
}

#[tokio::test]
async fn s59_blind_writers_learn_nothing_of_what_is_there() {
    let Some(served) = served().await else { return };
    let statements = [
        "INSERT INTO notes VALUES (1, 'x') RETURNING *",
        "INSERT INTO notes VALUES (1, 'x') RETURNING id",
        "INSERT INTO notes VALUES (1, 'x') ON CONFLICT DO NOTHING",
        "INSERT INTO notes VALUES (1, 'x') ON CONFLICT (id) DO UPDATE SET body = 'y'",
        "INSERT INTO notes SELECT * FROM notes",
        "INSERT INTO notes VALUES ((SELECT max(id) FROM notes), 'x')",
        "INSERT INTO notes VALUES (nextval('x'), 'x')",
        "SELECT * FROM notes",
        "EXPLAIN SELECT * FROM notes",
        "SELECT 1 FROM accounts",
    ];
    all_refused(&served, &served.parties.bank_b, &statements).await;
}

#[tokio::test]
async fn s59_errors_of_a_blind_writer_name_no_key_and_no_constraint() {
    let Some(served) = served().await else { return };
    let client = served.session(&served.parties.bank_b).await;
    client.execute("INSERT INTO notes VALUES (1, 'secret')", &[]).await.expect("a row");
    let mut seen = Vec::new();
    // A key that there is; a column that must not be NULL; by COPY.
    for text in ["INSERT INTO notes VALUES (1, 'x')", "INSERT INTO notes (id) VALUES (2)"] {
        let error = client.execute(text, &[]).await.expect_err(text);
        seen.push(error.as_db_error().expect("the database's").clone());
    }
    let sink = client.copy_in("COPY notes FROM STDIN").await.expect("COPY");
    tokio::pin!(sink);
    futures_util::SinkExt::send(&mut sink, bytes::Bytes::from_static(b"1\tx\n")).await.expect("a row");
    let error = sink.finish().await.expect_err("there is such a key");
    seen.push(error.as_db_error().expect("the database's").clone());
    for error in seen {
        assert_eq!((error.code().code(), error.message()), ("23000", "a row breaks a rule of its table"));
        let more =
            [error.detail(), error.hint(), error.table(), error.column(), error.constraint(), error.where_()];
        assert_eq!(more, [None; 6]);
        assert_eq!((error.file(), error.line(), error.routine()), (None, None, None));
    }
}

#[tokio::test]
async fn s59_errors_tell_nothing_of_the_servers_inside() {
    let Some(served) = served().await else { return };
    let client = served.session(&served.parties.auditor).await;
    for text in ["SELECT 1 / 0", "SELECT no_such_column FROM notes", "SELECT 'x'::int"] {
        let error = client.simple_query(text).await.expect_err(text);
        let error = error.as_db_error().expect("the database's").clone();
        assert_eq!((error.file(), error.line(), error.routine(), error.where_()), (None, None, None, None));
    }
}

#[tokio::test]
async fn a_statement_is_passed_on_as_it_was_understood() {
    let Some(served) = served().await else { return };
    let client = served.session(&served.parties.auditor).await;
    // What two parsers could read differently is either the same in both, or refused.
    for (text, seen) in [
        ("SELECT 'a''b' /* x /* y */ z */ AS c -- '", "a'b"),
        ("SELECT 'a\\' AS c", "a\\"),
        ("SELECT E'a\\'b' AS c", "a'b"),
        ("SELECT $x$a'b$x$ AS c", "a'b"),
        ("SELECT U&'a\\0062' AS c", "ab"),
        ("SELECT 'a'\n'b' AS c", "ab"),
        ("SELECT '--' || '/*' AS c", "--/*"),
    ] {
        match client.simple_query(text).await {
            Ok(messages) => {
                let row = messages.iter().find_map(|it| match it {
                    tokio_postgres::SimpleQueryMessage::Row(row) => row.get(0),
                    _ => None,
                });
                assert_eq!(row, Some(seen), "{text}");
            }
            Err(error) => assert_eq!(state(&error), &SqlState::INSUFFICIENT_PRIVILEGE, "{text}"),
        }
    }
    let deep = format!("SELECT {}1{}", "(".repeat(5000), ")".repeat(5000));
    let error = client.simple_query(&deep).await.expect_err("too deep");
    assert_eq!(state(&error), &SqlState::INSUFFICIENT_PRIVILEGE);
    let long = format!("SELECT '{}'", "x".repeat(257 << 10));
    let error = client.simple_query(&long).await.expect_err("too long");
    assert_eq!(state(&error), &SqlState::INSUFFICIENT_PRIVILEGE);
}

#[tokio::test]
async fn prepared_statements_do_not_outlive_the_rights_under_which_they_were_prepared() {
    let Some(served) = served().await else { return };
    let client = served.session(&served.parties.auditor).await;
    let statement = client.prepare("SELECT * FROM notes").await.expect("it is prepared");
    let mut tree = served.parties.manifest();
    tree["Name"] = "test".into();
    tree["Tables"]["notes"]["Readers"] = serde_json::json!([]);
    let manifest = database_manifest::Manifest::parse(tree.to_string().as_bytes()).expect("a manifest");
    let first = served.rules.borrow().first;
    served
        .rules
        .send(database::Rules { manifest: manifest.into(), epoch: 1, first }.into())
        .expect("it is watched");
    while !client.is_closed() {
        tokio::time::sleep(std::time::Duration::from_millis(10)).await;
    }
    client.query(&statement, &[]).await.expect_err("the session is over, and with it the statement");
}

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
        "SELECT * FROM pg_stat_sys_tables",
        "SELECT * FROM pg_stat_user_indexes",
        "SELECT * FROM pg_statio_user_tables",
        "SELECT * FROM pg_catalog.pg_stats",
        "SELECT * FROM bailey_catalog.pg_authid",
        "SELECT * FROM pg_locks",
        "SELECT * FROM pg_largeobject",
        "SELECT * FROM other.pg_catalog.pg_class",
    ];
    all_refused(&served, &served.parties.analyst, &statements).await;
}

/// How often PostgreSQL itself refused what the gateway had let through.
async fn refused_inside(served: &Served) -> usize {
    let inside = |it: &Event| matches!(it, Event::Denied { code, .. } if code == "ENGINE_REFUSED");
    served.audited().await.iter().filter(|it| inside(it)).count()
}

/// What the catalog estimates is not there, for tools that ask for it; and in PostgreSQL itself parties have no right to it.
#[tokio::test]
async fn estimates_of_how_many_rows_there_are_reach_nobody() {
    let Some(served) = served().await else { return };
    let writer = served.session(&served.parties.bank_b).await;
    writer
        .execute("INSERT INTO notes SELECT n, 'x' FROM generate_series(1, 5000) n", &[])
        .await
        .expect("rows");
    let admin = served.superuser().await;
    admin.batch_execute("VACUUM ANALYZE notes").await.expect("estimates");
    let query = "SELECT reltuples, relpages FROM pg_catalog.pg_class WHERE relname = 'notes'";
    let known = admin.query_one(query, &[]).await.expect("a row");
    assert_eq!((known.get::<_, f32>(0), known.get::<_, i32>(1) > 0), (5000.0, true));

    let client = served.session(&served.parties.analyst).await;
    for text in [
        query,
        "SELECT \"reltuples\", relpages FROM pg_class WHERE relname = 'notes'",
        "SELECT c.reltuples, c.relpages FROM (SELECT * FROM pg_class) AS c WHERE c.relname = 'notes'",
        "SELECT pg_class.reltuples, pg_class.relpages FROM pg_class WHERE pg_class.relname = 'notes'",
        "WITH c AS (SELECT * FROM pg_class) SELECT reltuples, relpages FROM c WHERE relname = 'notes'",
    ] {
        let row = client.query_one(text, &[]).await.expect(text);
        assert_eq!((row.get::<_, f32>(0), row.get::<_, i32>(1)), (-1.0, 0), "{text}");
    }
    let text = "SELECT relname::text, n_live_tup, n_tup_ins, seq_scan FROM pg_stat_user_tables WHERE relname = 'notes'";
    let row = client.query_one(text, &[]).await.expect("a row");
    let counts = [1, 2, 3].map(|at| row.get::<_, Option<i64>>(at));
    assert_eq!((row.get::<_, &str>(0), counts), ("notes", [None; 3]));
    let text = "SELECT pg_relation_size('notes') IS NULL AND pg_catalog.pg_stat_get_numscans(1) IS NULL";
    assert!(client.query_one(text, &[]).await.expect("a row").get::<_, bool>(0));

    let beside = served.running.session("party_analyst").await.expect("a session beside the gateway");
    for text in [query, "SELECT * FROM pg_class", "SELECT pg_relation_size('notes')"] {
        let error = beside.simple_query(text).await.expect_err(text);
        assert_eq!(state(&error), &SqlState::INSUFFICIENT_PRIVILEGE, "{text}");
    }
}

/// Behind the gateway a party has no more rights than the manifest gives, and what meets those is recorded too.
#[tokio::test]
async fn names_of_a_query_within_reach_no_table_without() {
    let Some(served) = served().await else { return };
    let client = served.session(&served.parties.analyst).await;
    let text = "SELECT * FROM (WITH payments AS (SELECT 1) SELECT * FROM payments) AS x, payments";
    let error = client.simple_query(text).await.expect_err("it passes");
    assert_eq!(state(&error), &SqlState::INSUFFICIENT_PRIVILEGE);
    let error = client.query(text, &[]).await.expect_err("it passes, prepared");
    assert_eq!(state(&error), &SqlState::INSUFFICIENT_PRIVILEGE);
    assert_eq!(refused_inside(&served).await, 2);
}

#[tokio::test]
async fn a_function_is_no_cover_for_a_table_of_its_name() {
    let named = |tree: &mut serde_json::Value| {
        let schema = tree["Schema"].as_str().unwrap_or_default().to_owned();
        tree["Schema"] = format!("{schema} CREATE TABLE log (id bigint PRIMARY KEY);").into();
        tree["Tables"]["log"] = serde_json::json!({"Owner": "approver_c", "Writers": ["bank_a"]});
    };
    let Some(served) = super::served_with(database::gateway::Limits::default(), named).await else { return };
    let statements = ["SELECT * FROM log(10) AS f, log", "SELECT * FROM log, log(10) AS f"];
    all_refused(&served, &served.parties.analyst, &statements).await;
}

#[tokio::test]
async fn search_path_tricks_reach_nothing_of_another_schema() {
    let Some(served) = served().await else { return };
    let statements = [
        "SET search_path = pg_temp, public",
        "SET LOCAL search_path TO bailey",
        "SET SCHEMA 'bailey'",
        "SELECT set_config('search_path', 'bailey', false)",
        "RESET ROLE",
        "SELECT * FROM pg_temp.notes",
        "SELECT * FROM pg_temp_3.x",
        "SELECT * FROM pg_toast.pg_toast_1262",
        "SELECT pg_temp.f()",
        "SELECT pg_temp.abs(1)",
        "SELECT public.abs(1)",
        "SELECT bailey.abs(1)",
        "SELECT information_schema.abs(1)",
        "SELECT 1 OPERATOR(public.+) 1",
        "SELECT 1 OPERATOR(pg_temp.=) 1",
        "SELECT * FROM public.pg_class",
        "SELECT * FROM pg_catalog.notes",
        "CREATE TEMP VIEW notes AS SELECT 1",
        "CREATE SCHEMA x",
        "SELECT * FROM \"Notes\"",
    ];
    all_refused(&served, &served.parties.auditor, &statements).await;
}

#[tokio::test]
async fn explain_runs_nothing() {
    let Some(served) = served().await else { return };
    let statements = [
        "EXPLAIN ANALYZE SELECT * FROM notes",
        "EXPLAIN ANALYSE SELECT * FROM notes",
        "EXPLAIN (ANALYZE) SELECT * FROM notes",
        "EXPLAIN (analyze on, verbose) SELECT * FROM notes",
        "EXPLAIN (BUFFERS) SELECT * FROM notes",
        "EXPLAIN (WAL) SELECT * FROM notes",
        "EXPLAIN VERBOSE ANALYZE SELECT * FROM notes",
        "EXPLAIN INSERT INTO notes VALUES (1, 'x')",
        "EXPLAIN EXECUTE x",
        "EXPLAIN DECLARE c CURSOR FOR SELECT 1",
        "EXPLAIN CREATE TABLE x AS SELECT 1",
        "EXPLAIN SELECT * FROM payments",
    ];
    all_refused(&served, &served.parties.auditor, &statements).await;
}

#[tokio::test]
async fn cursors_and_channels_are_refused_also_to_readers() {
    let Some(served) = served().await else { return };
    let statements = [
        "DECLARE c CURSOR FOR SELECT * FROM notes",
        "DECLARE c CURSOR WITH HOLD FOR SELECT * FROM notes",
        "DECLARE c BINARY CURSOR FOR SELECT 1",
        "FETCH ALL FROM c",
        "FETCH FORWARD 1 FROM c",
        "MOVE 1 FROM c",
        "CLOSE ALL",
        "DELETE FROM notes WHERE CURRENT OF c",
        "LISTEN a",
        "NOTIFY a, 'b'",
        "UNLISTEN *",
        "SELECT pg_notify('a', 'b')",
        "SELECT pg_notification_queue_usage()",
        "SELECT * FROM pg_listening_channels()",
        "SELECT * FROM cursor_to_xml('c', 1, true, true, '')",
    ];
    all_refused(&served, &served.parties.auditor, &statements).await;
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

/// A name that the gateway does not see, PostgreSQL judges.
#[tokio::test]
async fn paths_of_the_server_are_no_setting_that_a_party_reads() {
    let Some(served) = served().await else { return };
    let client = served.session(&served.parties.analyst).await;
    let query = "SELECT current_setting($1::text)";
    client.query_one(query, &[&"server_version"]).await.expect("a setting");
    for name in ["data_directory", "hba_file", "config_file", "unix_socket_directories", "krb_server_keyfile"]
    {
        let error = client.query_one(query, &[&name]).await.expect_err(name);
        assert_eq!(state(&error), &SqlState::INSUFFICIENT_PRIVILEGE, "{name}");
    }
    assert_eq!(refused_inside(&served).await, 5);
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

/// What an error says, and whether there is one, must depend on nothing that the party does not read.
#[tokio::test]
async fn s59_error_messages_are_no_oracle() {
    let Some(served) = served().await else { return };
    let statements = [
        "SELECT 1 / (SELECT count(*) FROM payments)",
        "SELECT (SELECT account FROM payments LIMIT 1)::int",
        "SELECT CASE WHEN EXISTS (SELECT FROM payments) THEN 1 / 0 END",
        "INSERT INTO notes SELECT 1 / count(*), 'x' FROM notes",
        "INSERT INTO notes VALUES (1, (SELECT body FROM notes)::int::text)",
        "INSERT INTO notes VALUES (1, 'x') ON CONFLICT ON CONSTRAINT notes_pkey DO NOTHING",
        "INSERT INTO notes VALUES (1, 'x') RETURNING (SELECT count(*) FROM notes)",
        "WITH n AS (SELECT * FROM notes) INSERT INTO notes SELECT * FROM n",
        "COPY (INSERT INTO notes VALUES (1, 'x') RETURNING id) TO STDOUT",
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
    // Who tries many keys leaves many entries.
    let recorded: Vec<_> = served
        .audited()
        .await
        .into_iter()
        .filter_map(|it| match it {
            Event::Denied { what: Refused::Statement { command, .. }, code, .. } => Some((command, code)),
            _ => None,
        })
        .collect();
    let recorded: Vec<_> = recorded.iter().map(|it| (it.0.as_str(), it.1.as_str())).collect();
    assert_eq!(recorded, [("INSERT", "ROW_REFUSED"), ("INSERT", "ROW_REFUSED"), ("COPY", "ROW_REFUSED")]);
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
}

/// Each would be a tree deeper than the stack of whoever serves the session.
#[tokio::test]
async fn deep_statements_are_refused_and_no_stack_overflows() {
    let Some(served) = served().await else { return };
    let client = served.session(&served.parties.auditor).await;
    let chain = |link: &str, count: usize| format!("SELECT 1{}", link.repeat(count));
    let nested = |open: &str, close: &str, count: usize| {
        format!("SELECT {}1{}", open.repeat(count), close.repeat(count))
    };
    let statements = [
        nested("(", ")", 5000),
        nested("(", ")", 200),
        nested("(SELECT ", ")", 100),
        nested("ARRAY[", "]", 100),
        nested("abs(", ")", 100),
        nested("NOT ", "", 1000),
        nested("- ", "", 1000),
        nested("CASE WHEN true THEN ", " END", 100),
        format!("SELECT * FROM {}(SELECT 1) x{}", "(".repeat(100), ")".repeat(100)),
        chain("+1", 100_000),
        chain("+1", 5000),
        // It is given up at the end, and dropped.
        format!("{} + + ,", chain("+1", 5000)),
        chain("::int", 5000),
        chain(" OR true", 5000),
        chain(" UNION SELECT 1", 5000),
        chain(" IS NULL", 5000),
        format!("SELECT '1'::int{}", "[]".repeat(5000)),
        format!("INSERT INTO notes VALUES ({}, 'x')", &chain("+1", 5000)[7..]),
        format!("COPY ({}) TO STDOUT", chain("+1", 5000)),
        format!("EXPLAIN {}", chain("+1", 5000)),
        format!("SET TimeZone = {}1", "- ".repeat(5000)),
        format!("{} ,, ", chain("+1", 2000)),
    ];
    let statements: Vec<_> = statements.iter().map(String::as_str).collect();
    for text in &statements {
        let error = client.simple_query(text).await.err();
        let error = error.unwrap_or_else(|| panic!("it passes: {}", &text[..40]));
        assert_eq!(state(&error), &SqlState::INSUFFICIENT_PRIVILEGE, "{}: {}", &text[..40], said(&error));
    }
    let denied = |it: &Event| matches!(it, Event::Denied { what: Refused::Statement { .. }, .. });
    assert_eq!(served.audited().await.iter().filter(|it| denied(it)).count(), statements.len());
    client.simple_query("SELECT 1").await.expect("the session goes on");
}

/// What libraries make of many rows and many conditions, up to the size that docs/database-sql.md names.
#[tokio::test]
async fn long_statements_of_libraries_pass_up_to_a_size() {
    let Some(served) = served().await else { return };
    let writer = served.session(&served.parties.bank_b).await;
    let rows: Vec<_> = (0..10_000).map(|it| format!("({it}, 'the body of note number {it}')")).collect();
    let insert = format!("INSERT INTO notes (id, body) VALUES {}", rows.join(", "));
    assert_eq!(writer.execute(&insert, &[]).await.expect("ten thousand rows"), 10_000);
    let parameters: Vec<_> = (0..1000).map(|it| format!("(${}, ${})", 2 * it + 1, 2 * it + 2)).collect();
    let insert = format!("INSERT INTO notes (id, body) VALUES {}", parameters.join(", "));
    writer.prepare(&insert).await.expect("two thousand parameters");

    let reader = served.session(&served.parties.auditor).await;
    let numbers = |count: i64| (0..count).map(|it| it.to_string()).collect::<Vec<_>>().join(", ");
    let count = async |text: String| {
        reader.query_one(&text, &[]).await.map(|row| row.get::<_, i64>(0)).map_err(|error| said(&error))
    };
    let text = format!("SELECT count(*) FROM notes WHERE id IN ({})", numbers(20_000));
    assert_eq!(count(text).await, Ok(10_000));
    let conditions: Vec<_> = (0..1000).map(|it| format!("notes.id = {it}")).collect();
    let text = format!("SELECT count(*) FROM notes WHERE {}", conditions.join(" OR "));
    assert_eq!(count(text).await, Ok(1000));
    let sum = vec!["1"; 500].join(" + ");
    assert_eq!(count(format!("SELECT ({sum})::bigint")).await, Ok(500));
    let columns: Vec<_> = (0..1000).map(|it| format!("id AS column_{it}")).collect();
    let text = format!("SELECT {} FROM notes LIMIT 1", columns.join(", "));
    assert_eq!(reader.query_one(&text, &[]).await.expect("a row").len(), 1000);
    let long = format!("SELECT '{}'", "x".repeat(1 << 20));
    let error = reader.simple_query(&long).await.expect_err("too long");
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
    let ended = |it: &Event| matches!(it, Event::Denied { code, .. } if code == "RIGHTS_CHANGED");
    assert_eq!(served.audited().await.iter().filter(|it| ended(it)).count(), 1);
    all_refused(&served, &served.parties.auditor, &["SELECT * FROM notes"]).await;
}

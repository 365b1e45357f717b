//! SQL that a manifest must not contain: each is refused where it stands.

use database_manifest::{Code, Migration};
use serde_json::json;
use testkit::parties::Parties;

use crate::manifest::parse;

/// The code with which a statement is refused in a schema.
fn of_schema(statement: &str) -> Option<(Code, String)> {
    let mut document = Parties::new().manifest();
    let schema = document["Schema"].as_str().expect("SQL").to_owned();
    document["Schema"] = json!(schema + statement);
    let faults = parse(&document).err()?;
    faults
        .all()
        .iter()
        .find(|fault| fault.path.starts_with("Schema"))
        .map(|fault| (fault.code, fault.message.clone()))
}

/// The same, in an algorithm.
fn of_query(query: &str) -> Option<Code> {
    let mut document = Parties::new().manifest();
    document["Algorithms"]["total"]["Sql"] = json!(query);
    let faults = parse(&document).err()?;
    faults.all().iter().find(|fault| fault.path == "Algorithms.total.Sql").map(|fault| fault.code)
}

#[test]
fn a_schema_does_nothing_but_make_tables() {
    for statement in [
        "CREATE FUNCTION f() RETURNS int LANGUAGE sql AS 'SELECT 1';",
        "CREATE UNLOGGED TABLE fast (id int);",
        "CREATE TEMPORARY TABLE t (id int);",
        "CREATE TABLE t AS SELECT * FROM payments;",
        "CREATE TABLE IF NOT EXISTS t (id int);",
        "CREATE TABLE t (id int) WITH (autovacuum_enabled = false);",
        "CREATE TABLE t (id int) TABLESPACE pg_default;",
        "CREATE TABLE t (id int) INHERITS (payments);",
        "CREATE TABLE other.t (id int);",
        "CREATE TABLE pg_class (id int);",
        "CREATE TABLE t (id serial);",
        "CREATE TABLE t (id regclass);",
        "CREATE TABLE t (id oid);",
        "CREATE TABLE t (id int DEFAULT nextval('s'));",
        "CREATE TABLE t (id text DEFAULT pg_read_file('/etc/passwd'));",
        "CREATE TABLE t (id int CHECK (id = (SELECT count(*) FROM payments)));",
        "CREATE TABLE t (id text DEFAULT current_setting('x'));",
        "CREATE TABLE t (\"Odd Name\" int);",
        "CREATE EXTENSION dblink;",
        "CREATE ROLE mallory SUPERUSER;",
        "GRANT SELECT ON payments TO party_analyst;",
        "CREATE POLICY p ON payments USING (true);",
        "CREATE MATERIALIZED VIEW v AS SELECT 1;",
        "CREATE VIEW v AS SELECT * FROM pg_authid;",
        "CREATE VIEW v AS SELECT pg_sleep(1);",
        "CREATE VIEW v AS SELECT lo_import('/etc/passwd');",
        "CREATE INDEX CONCURRENTLY i ON payments (city);",
        "CREATE INDEX i ON payments ((pg_sleep(1)));",
        "ALTER TABLE payments OWNER TO mallory;",
        "ALTER TABLE payments DISABLE TRIGGER ALL;",
        "INSERT INTO payments VALUES (1);",
        "COPY payments TO PROGRAM 'sh';",
        "DO $$ BEGIN END $$;",
        "SET ROLE bailey;",
        "DROP TABLE payments;",
        "BEGIN;",
        "CREATE TABLE t (id int REFERENCES nowhere);",
        "CREATE TABLE payments (id int);",
        "CREATE TABLE t (id int",
    ] {
        assert!(of_schema(statement).is_some(), "{statement}");
    }
    for statement in [
        "CREATE TYPE kind AS ENUM ('a', 'b'); CREATE TABLE t (id uuid PRIMARY KEY DEFAULT gen_random_uuid(), k kind);",
        "CREATE TABLE t (a text REFERENCES accounts (account), b int[], c numeric(10,2), d timestamp without time zone);",
        "CREATE UNIQUE INDEX i ON payments (lower(city)) WHERE amount > 0;",
        "CREATE TABLE t (a int, b int GENERATED ALWAYS AS (a * 2) STORED, CONSTRAINT k CHECK (a > 0), UNIQUE (a, b));",
        "ALTER TABLE notes ADD CONSTRAINT n UNIQUE (body);",
    ] {
        assert_eq!(of_schema(statement).filter(|_| true), None, "{statement}");
    }
}

#[test]
fn an_algorithm_is_one_query_of_known_tables_and_pure_functions() {
    for query in [
        "DELETE FROM payments",
        "SELECT 1 AS payments; SELECT 2",
        "SELECT count(*) AS payments INTO t FROM payments",
        "WITH x AS (DELETE FROM payments RETURNING *) SELECT count(*) AS payments FROM x",
        "WITH payments AS (SELECT 1) SELECT count(*) AS payments FROM payments",
        "SELECT count(*) AS payments FROM payments FOR UPDATE",
        "SELECT count(*) AS payments FROM pg_stat_activity",
        "SELECT count(*) AS payments FROM information_schema.tables",
        "SELECT count(*) AS payments FROM bailey.manifests",
        "SELECT count(*) AS payments FROM other.payments",
        "SELECT pg_read_file('/etc/passwd') AS payments",
        "SELECT length(query_to_xml('SELECT 1', true, true, '')::text) AS payments",
        "SELECT set_config('synchronous_commit', 'off', false) AS payments",
        "SELECT public.f() AS payments",
        "SELECT 'payments'::regclass AS payments",
        "SELECT 1 OPERATOR(public.+) 1 AS payments",
        "SELECT a.b AS payments FROM pg_ls_dir('/') AS a(b)",
        "SELECT $1 AS payments",
        "SELECT :x AS payments",
        "TABLE payments",
        "EXPLAIN ANALYZE SELECT 1",
        "SELECT random() AS payments",
        "SELECT",
    ] {
        assert!(of_query(query).is_some(), "{query}");
    }
    for query in [
        "WITH RECURSIVE r(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM r WHERE n < 5) SELECT count(*) AS payments FROM r",
        "SELECT count(*) AS payments FROM payments p JOIN accounts a USING (account) WHERE a.opened > date '2020-01-01'",
        "SELECT coalesce(sum(amount) FILTER (WHERE city LIKE 'B%'), 0)::bigint AS payments FROM public.payments",
        "SELECT x AS payments FROM generate_series(1, 3) AS x",
        "SELECT rank() OVER (PARTITION BY city ORDER BY amount) AS payments FROM payments",
    ] {
        assert_eq!(of_query(query), None, "{query}");
    }
}

#[test]
fn a_migration_changes_tables_and_moves_data_and_no_more() {
    let manifest = parse(&Parties::new().manifest()).expect("no faults");
    for text in [
        "ALTER TABLE payments DROP COLUMN city CASCADE",
        "ALTER TABLE payments OWNER TO mallory",
        "ALTER TABLE payments DISABLE TRIGGER bailey_stamp",
        "ALTER TABLE payments ENABLE ROW LEVEL SECURITY",
        "ALTER TABLE payments RENAME TO p",
        "ALTER TABLE payments SET UNLOGGED",
        "DROP TABLE IF EXISTS payments",
        "DROP TABLE payments CASCADE",
        "DROP SCHEMA bailey",
        "DROP ROLE bailey",
        "INSERT INTO notes (id, body) SELECT 1, 'x' RETURNING id",
        "INSERT INTO notes (id, body) VALUES (1, 'x') ON CONFLICT DO NOTHING",
        "INSERT INTO bailey.audit VALUES (1)",
        "UPDATE pg_catalog.pg_authid SET rolsuper = true",
        "UPDATE notes SET body = pg_read_file('/etc/passwd')",
        "DELETE FROM bailey.manifests",
        "DELETE FROM notes RETURNING body",
        "TRUNCATE payments",
        "GRANT SELECT ON payments TO PUBLIC",
        "CREATE FUNCTION f() RETURNS int LANGUAGE sql AS 'SELECT 1'",
        "COMMIT",
        "SELECT 1",
    ] {
        assert!(Migration::read(text, &manifest).is_err(), "{text}");
    }
    let text = "ALTER TABLE notes ADD COLUMN at timestamptz DEFAULT now();
        CREATE TABLE old (id bigint, body text);
        INSERT INTO old (id, body) SELECT n.id, p.city FROM notes n, payments p;
        UPDATE notes SET body = upper(body) WHERE id > 3;
        DELETE FROM notes WHERE id IN (SELECT id FROM old);
        DROP INDEX payments_account";
    let migration = Migration::read(text, &manifest).unwrap_or_else(|error| panic!("{error}"));
    assert_eq!(migration.statements.len(), 6);
    let touched: Vec<_> = migration.touches.iter().map(String::as_str).collect();
    assert_eq!(touched, ["notes", "old", "payments"]);
    let error = Migration::read("SELECT 1", &manifest).expect_err("a query");
    assert!(
        error.to_string().starts_with("statement 1 of the migration: `SELECT 1` may not stand"),
        "{error}"
    );
}

#[test]
fn a_tree_that_is_as_deep_as_it_is_long_does_no_harm() {
    for (sign, count) in [(" + 1", 9_000), ("::int", 9_000), (" + 1", 400_000), (" UNION SELECT 1", 6_000)] {
        let query = format!("SELECT 1{} AS payments", sign.repeat(count));
        let _ = of_query(&query);
        let _ = of_schema(&format!("CREATE TABLE t (a int CHECK (1{} > 0));", sign.repeat(count)));
        let manifest = parse(&Parties::new().manifest()).expect("no faults");
        let _ = Migration::read(&format!("UPDATE notes SET id = 1{}", sign.repeat(count)), &manifest);
    }
    let long = format!("SELECT 1{} AS payments", " + 1".repeat(400_000));
    assert!(of_query(&long).is_none(), "beyond a mebibyte nothing is looked at");
    let long = format!("SELECT 1{} AS payments", " + 1".repeat(20_000));
    assert_eq!(of_query(&long), Some(Code::UnsupportedSql));
}

//! What PostgreSQL itself lets each role do, should the gateway ever let something through.

use database::{engine::SUPERUSER, installation::READER};
use tokio_postgres::Client;

use crate::parties::Scene;

const INSERT: &str = "INSERT INTO payments (account, city, amount) VALUES ('1', 'Bonn', 5)";

/// The SQLSTATE with which a statement is refused.
async fn refused(client: &Client, statement: &str) -> String {
    match client.batch_execute(statement).await {
        Ok(()) => panic!("{statement} is let through"),
        Err(error) => error.code().unwrap_or_else(|| panic!("{statement}: {error}")).code().to_owned(),
    }
}

#[tokio::test]
async fn writers_insert_and_do_nothing_else() {
    let Some(scene) = Scene::new().await else { return };
    let writer = scene.session("bank_a").await;
    writer.batch_execute(INSERT).await.expect("a row");
    for statement in [
        "SELECT * FROM payments",
        "SELECT count(*) FROM payments",
        "INSERT INTO payments (account, city, amount) VALUES ('1', 'Bonn', 5) RETURNING id",
        "UPDATE payments SET amount = 1",
        "DELETE FROM payments",
        "TRUNCATE payments",
        "INSERT INTO notes (id, body) VALUES (1, 'x')",
        "SELECT * FROM bailey.manifests",
        "INSERT INTO bailey.audit VALUES (1, 1, '', '')",
        "CREATE TABLE public.t (id int)",
        "CREATE TEMP TABLE t (id int)",
        "CREATE SCHEMA s",
        "CREATE FUNCTION public.f() RETURNS int LANGUAGE sql AS 'SELECT 1'",
        "ALTER TABLE payments DISABLE TRIGGER ALL",
        "SET ROLE bailey",
        "SET SESSION AUTHORIZATION bailey",
        "SELECT pg_read_file('/etc/passwd')",
        "SELECT lo_create(0)",
        "SELECT lo_import('/etc/passwd')",
        "SELECT set_config('synchronous_commit', 'off', false)",
        "SELECT pg_sleep(0)",
        "SELECT pg_advisory_lock(1)",
        "SELECT pg_notify('a', 'b')",
        "SELECT pg_table_size('payments'::regclass)",
        "SELECT query_to_xml('SELECT 1', true, true, '')",
        "SELECT pg_terminate_backend(1)",
        "SELECT pg_current_wal_lsn()",
        "SELECT bailey.stamp_payments()",
        "COPY payments TO STDOUT",
        "COPY payments FROM '/etc/passwd'",
        "COPY payments TO PROGRAM 'sh'",
    ] {
        assert_eq!(refused(&writer, statement).await, "42501", "{statement}");
    }
}

#[tokio::test]
async fn a_row_carries_the_name_of_who_wrote_it_whatever_they_say() {
    let Some(scene) = Scene::new().await else { return };
    let liar = "INSERT INTO payments (account, city, amount, bank) VALUES ('1', 'Bonn', 5, 'bank_a')";
    scene.session("bank_b").await.batch_execute(liar).await.expect("a row");
    scene.session("bank_a").await.batch_execute(INSERT).await.expect("a row");
    let client = scene.running.session(SUPERUSER).await.expect("a session");
    let rows = client.query("SELECT bank FROM payments ORDER BY id", &[]).await.expect("rows");
    let banks: Vec<&str> = rows.iter().map(|row| row.get(0)).collect();
    assert_eq!(banks, ["bank_b", "bank_a"]);
}

#[tokio::test]
async fn readers_read_and_analysts_have_no_table() {
    let Some(scene) = Scene::new().await else { return };
    scene
        .session("bank_b")
        .await
        .batch_execute("INSERT INTO notes (id, body) VALUES (1, 'x')")
        .await
        .expect("a row");
    let reader = scene.session("auditor").await;
    assert_eq!(
        reader.query_one("SELECT body FROM notes", &[]).await.expect("a row").get::<_, String>(0),
        "x"
    );
    assert_eq!(refused(&reader, "INSERT INTO notes (id, body) VALUES (2, 'x')").await, "42501");
    assert_eq!(refused(&reader, "SELECT 1 FROM payments").await, "42501");
    let analyst = scene.session("analyst").await;
    for table in ["payments", "accounts", "notes"] {
        assert_eq!(refused(&analyst, &format!("SELECT 1 FROM {table}")).await, "42501");
    }
}

#[tokio::test]
async fn algorithms_run_as_a_role_that_only_reads() {
    let Some(scene) = Scene::new().await else { return };
    let reader = scene.running.session(READER).await.expect("a session");
    reader.batch_execute("SELECT * FROM payments, notes, accounts").await.expect("all tables");
    assert_eq!(refused(&reader, INSERT).await, "25006", "read only");
    reader.batch_execute("SET default_transaction_read_only = off").await.expect("a setting");
    assert_eq!(refused(&reader, INSERT).await, "42501");
    assert_eq!(refused(&reader, "SELECT * FROM bailey.manifests").await, "42501");
}

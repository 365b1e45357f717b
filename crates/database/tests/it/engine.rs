//! PostgreSQL as a process of ours.

use std::{os::unix::fs::PermissionsExt, time::Duration};

use database::engine::{Engine, SUPERUSER};

use crate::postgres::{postgres, prepared};

#[tokio::test]
async fn it_listens_on_nothing_but_a_socket_that_nobody_else_reaches() {
    let Some(running) = postgres().await else { return };
    let client = running.session(SUPERUSER).await.unwrap();
    let shown = client.query_one("SELECT current_setting('listen_addresses'), version()", &[]).await.unwrap();
    assert_eq!(shown.get::<_, &str>(0), "");
    assert!(shown.get::<_, &str>(1).starts_with("PostgreSQL 1"));
    let mode = std::fs::metadata(running.socket()).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o700);
    assert!(running.socket().join(".s.PGSQL.5432").exists());
}

#[tokio::test]
async fn its_console_says_nothing_of_rows() {
    let Some(running) = postgres().await else { return };
    let client = running.session(SUPERUSER).await.unwrap();
    let shown = client.query_one(
        "SELECT current_setting('log_min_messages'), current_setting('log_min_error_statement')",
        &[],
    );
    let shown = shown.await.unwrap();
    assert_eq!((shown.get::<_, &str>(0), shown.get::<_, &str>(1)), ("fatal", "panic"));
}

#[tokio::test]
async fn killed_means_all_of_it_at_once() {
    let Some(running) = postgres().await else { return };
    let (mut clients, mut backends) = (Vec::new(), Vec::new());
    for _ in 0..16 {
        let client = running.session(SUPERUSER).await.unwrap();
        backends.push(client.query_one("SELECT pg_backend_pid()", &[]).await.unwrap().get::<_, i32>(0));
        clients.push(client);
    }
    running.kill();
    running.exited().await;
    let there = |pid: &i32| {
        std::fs::read_to_string(format!("/proc/{pid}/stat")).is_ok_and(|stat| !stat.contains(") Z "))
    };
    assert_eq!(backends.iter().filter(|pid| there(pid)).count(), 0, "its backends are gone too");
    for client in clients {
        assert!(client.query_one("SELECT 1", &[]).await.is_err());
    }
}

/// The kernel has room for 4096 of them, so a host on which databases end often would start no more.
#[tokio::test]
async fn killed_it_leaves_nothing_in_the_kernel() {
    let Some(running) = postgres().await else { return };
    let noted = std::fs::read_to_string(running.data().join("postmaster.pid")).unwrap();
    let id = noted.lines().nth(6).unwrap().split_whitespace().nth(1).unwrap().to_owned();
    let there = || {
        let listed = std::fs::read_to_string("/proc/sysvipc/shm").unwrap();
        listed.lines().any(|line| line.split_whitespace().nth(1) == Some(id.as_str()))
    };
    assert!(there());
    running.kill();
    running.exited().await;
    assert!(!there());
}

#[tokio::test]
async fn made_synchronous_no_commit_is_acknowledged_without_the_sealer() {
    let Some((settings, _folder)) = prepared() else { return };
    let mut engine = Engine::start(&settings).await.unwrap();
    let client = engine.session(SUPERUSER).await.unwrap();
    client.batch_execute("CREATE TABLE t (a int)").await.unwrap();
    engine.make_synchronous().await.unwrap();
    let commit = client.batch_execute("INSERT INTO t VALUES (1)");
    assert!(tokio::time::timeout(Duration::from_millis(500), commit).await.is_err(), "it waits");
    let other = engine.session(SUPERUSER).await.unwrap();
    let rows: i64 = other.query_one("SELECT count(*) FROM t", &[]).await.unwrap().get(0);
    assert_eq!(rows, 0, "and nobody sees it");
}

#[tokio::test]
async fn a_commit_that_waits_is_ended_by_no_limit_and_seen_by_nobody_when_its_client_leaves() {
    let Some((settings, _folder)) = prepared() else { return };
    let mut engine = Engine::start(&settings).await.unwrap();
    let client = engine.session(SUPERUSER).await.unwrap();
    client.batch_execute("CREATE TABLE t (a int UNIQUE)").await.unwrap();
    engine.make_synchronous().await.unwrap();
    let limits =
        "SET statement_timeout = 100; SET lock_timeout = 100; SET idle_in_transaction_session_timeout = 100";
    let waiting = async |count: i64| {
        let query = "SELECT count(*) FROM pg_stat_activity WHERE wait_event = 'SyncRep'";
        while client.query_one(query, &[]).await.unwrap().get::<_, i64>(0) != count {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    for (number, statements) in
        ["INSERT INTO t VALUES (1)", "BEGIN; INSERT INTO t VALUES (2); COMMIT"].into_iter().enumerate()
    {
        let writer = engine.session(SUPERUSER).await.unwrap();
        writer.batch_execute(limits).await.unwrap();
        let commit = writer.batch_execute(statements);
        assert!(tokio::time::timeout(Duration::from_millis(500), commit).await.is_err(), "it waits");
        drop(writer);
        waiting(i64::try_from(number).unwrap() + 1).await;
    }
    let rows: i64 = client.query_one("SELECT count(*) FROM t", &[]).await.unwrap().get(0);
    assert_eq!(rows, 0, "nobody sees it");
    // Nor by the way of a key: who would collide waits as the commit does.
    let rival = engine.session(SUPERUSER).await.unwrap();
    rival.batch_execute("SET lock_timeout = 200").await.unwrap();
    let error = rival.batch_execute("INSERT INTO t VALUES (1)").await.unwrap_err();
    assert_eq!(error.code().map(|it| it.code()), Some("55P03"), "not that the key is there: {error}");
}

#[tokio::test]
async fn what_it_said_is_in_the_error() {
    let Some((mut settings, _folder)) = prepared() else { return };
    settings.parameters.push(("work_mem".into(), "nonsense".into()));
    let error = Engine::start(&settings).await.err().expect("refused");
    assert_eq!(error.code(), "ENGINE_FAILED");
    assert!(error.to_string().contains("FATAL"), "{error}");
}

//! The audit log.

use std::sync::Arc;

use appraisal::UnixTime;
use attested_tls::clock;
use database::{
    audit::{self, Audit, Broken, Event, Head, Interface, verify},
    engine::{Engine, SUPERUSER},
};

use crate::postgres::postgres;

fn denied(reason: &str) -> Event {
    Event::LoginDenied {
        certificate: None,
        interface: Interface::Sql,
        code: "NOT_A_PARTY".into(),
        reason: reason.into(),
    }
}

async fn opened(engine: &Engine) -> Audit {
    let client = engine.session(SUPERUSER).await.unwrap();
    audit::install(&client).await.unwrap();
    audit::install(&client).await.expect("a second time changes nothing");
    Audit::open(engine, clock::fixed(UnixTime(1_700_000_000))).await.unwrap()
}

#[tokio::test]
async fn many_at_once_are_one_chain_and_an_export_shows_it() {
    let Some(running) = postgres().await else { return };
    let log = opened(&running).await;
    let writing = (0..40).map(|number| {
        let log = log.clone();
        tokio::spawn(async move { log.record(denied(&number.to_string())).await })
    });
    for one in writing.collect::<Vec<_>>() {
        one.await.unwrap().unwrap();
    }
    let client = running.session(SUPERUSER).await.unwrap();
    let (lines, head) = audit::read(&client, 1).await.unwrap();
    assert_eq!((lines.len(), head.sequence), (40, 40));
    assert_eq!(verify(Head::NONE, &lines), Ok(head));
    let known = verify(Head::NONE, &lines[..10]).unwrap();
    assert_eq!(verify(known, &lines[10..]), Ok(head), "a head that was kept is continued");
    let seen = lines.iter().filter_map(|line| serde_json::from_str::<Event>(&line.event).ok()).count();
    assert_eq!(seen, 40);
    let (rest, _) = audit::read(&client, 39).await.unwrap();
    assert_eq!(rest.iter().map(|line| line.sequence).collect::<Vec<_>>(), [39, 40]);
}

#[tokio::test]
async fn an_altered_export_is_found() {
    let Some(running) = postgres().await else { return };
    let log = opened(&running).await;
    for reason in ["a", "b", "c"] {
        log.record(denied(reason)).await.unwrap();
    }
    let client = running.session(SUPERUSER).await.unwrap();
    let (lines, _) = audit::read(&client, 1).await.unwrap();
    let altered = |change: &dyn Fn(&mut Vec<audit::Line>)| {
        let mut lines = lines.clone();
        change(&mut lines);
        verify(Head::NONE, &lines)
    };
    let reason = altered(&|lines| lines[1].event = lines[1].event.replace("\"b\"", "\"x\""));
    assert_eq!(reason, Err(Broken::Altered { sequence: 2 }));
    assert_eq!(altered(&|lines| lines[0].at += 1), Err(Broken::Altered { sequence: 1 }));
    let missing = altered(&|lines| drop(lines.remove(1)));
    assert_eq!(missing, Err(Broken::Missing { expected: 2, seen: 3 }));
    let exchanged = altered(&|lines| lines.swap(0, 1));
    assert_eq!(exchanged, Err(Broken::Missing { expected: 1, seen: 2 }));
}

#[tokio::test]
async fn an_entry_is_there_with_the_change_that_it_tells_of_or_not_at_all() {
    let Some(running) = postgres().await else { return };
    let _log = opened(&running).await;
    let mut client = running.session(SUPERUSER).await.unwrap();
    let transaction = client.transaction().await.unwrap();
    let head = audit::append(&transaction, &[denied("undone")], 5).await.unwrap();
    assert_eq!(head.sequence, 1);
    transaction.rollback().await.unwrap();
    let (lines, head) = audit::read(&client, 1).await.unwrap();
    assert_eq!((lines.len(), head), (0, Head::NONE));
}

#[tokio::test]
async fn without_postgresql_nothing_counts_as_recorded() {
    let Some(running) = postgres().await else { return };
    let log = opened(&running).await;
    running.kill();
    running.exited().await;
    let error: Arc<audit::AuditError> = log.record(denied("lost")).await.unwrap_err();
    assert_eq!(error.code(), "AUDIT_UNAVAILABLE");
}

#[tokio::test]
async fn an_entry_longer_than_any_honest_one_is_refused() {
    let Some(running) = postgres().await else { return };
    let log = opened(&running).await;
    let error = log.record(denied(&"x".repeat(70_000))).await.unwrap_err();
    assert_eq!(error.code(), "AUDIT_ENTRY");
    log.record(denied("short")).await.expect("it goes on");
}

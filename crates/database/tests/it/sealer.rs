//! The sealer with a real PostgreSQL: what was acknowledged is there after everything else is gone, and what a host
//! does to the log is found before a row is served.

use std::{
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use database::{
    engine::{Engine, SUPERUSER, Settings},
    lsn::Lsn,
    restore::{Database, RestoreError, Restored, Until, restore},
    sealer::{Log, Options, Sealer, SealerError, Source},
};
use sealed_log::{Ahead, Anchored, Error, LogKey};
use tempfile::TempDir;
use tokio_postgres::Client;
use volume::{Anchor, AnchorError, Folder, Head, MemoryAnchor};

use crate::postgres::{DATABASE, prepared};

pub fn key() -> LogKey {
    LogKey::new([5; 32])
}

/// A database whose log is sealed.
pub struct Running {
    pub sealer: Sealer,
    pub engine: Arc<Engine>,
    /// What the engine runs in.
    _folder: TempDir,
    pub restored: Option<Database>,
}

impl Running {
    pub async fn session(&self) -> Client {
        self.engine.session(SUPERUSER).await.unwrap()
    }

    /// As if power was lost: nothing but the log is left.
    pub async fn dies(self) {
        self.engine.kill();
        self.engine.exited().await;
    }
}

pub fn found(log: &Path, anchor: &dyn Anchor, data: &Path) -> Result<Restored, RestoreError> {
    let anchored = anchor.current().map_or(Anchored::Unknown, Anchored::from);
    restore(&Folder::new(log), &key(), anchored, Ahead::One, data, Until::End)
}

/// As the service starts: from the log, or, where there is none, anew.
pub async fn begin(log: &Path, anchor: impl Anchor + Clone + 'static) -> Option<Running> {
    begin_with(log, anchor, Options::default()).await
}

pub async fn begin_with(
    log: &Path,
    anchor: impl Anchor + Clone + 'static,
    options: Options,
) -> Option<Running> {
    let (settings, folder) = prepared()?;
    let restored = {
        let data = folder.path().join("restored");
        let restored = found(log, &anchor, &data).unwrap();
        if restored.database.is_some() {
            std::fs::remove_dir_all(&settings.data).unwrap();
            std::fs::rename(&data, &settings.data).unwrap();
        }
        restored
    };
    Some(start(settings, folder, restored, log, anchor, options).await)
}

async fn start(
    settings: Settings,
    folder: TempDir,
    restored: Restored,
    log: &Path,
    anchor: impl Anchor + 'static,
    options: Options,
) -> Running {
    let engine = Arc::new(Engine::start(&Settings { synchronous: true, ..settings }).await.unwrap());
    let killer = engine.killer();
    let database = restored.database;
    let log = Log {
        host: Box::new(Folder::new(log)),
        key: key(),
        contents: restored.contents,
        anchor: Box::new(anchor),
        restored: database.map(|database| database.end),
    };
    let source = source(&engine);
    let sealer = Sealer::start(source, log, options, move |_| killer.kill()).unwrap();
    if database.is_none() {
        sealer.checkpoint().await.unwrap();
    }
    Running { sealer, engine, _folder: folder, restored: database }
}

pub fn source(engine: &Engine) -> Source {
    Source { socket: engine.socket().to_owned(), user: SUPERUSER.into(), database: DATABASE.into() }
}

pub async fn count(client: &Client) -> i64 {
    client.query_one("SELECT count(*) FROM t", &[]).await.unwrap().get(0)
}

fn copy(from: &Path) -> TempDir {
    let to = tempfile::tempdir().unwrap();
    for entry in std::fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        std::fs::copy(entry.path(), to.path().join(entry.file_name())).unwrap();
    }
    to
}

fn files(log: &Path) -> Vec<PathBuf> {
    let mut files: Vec<PathBuf> = std::fs::read_dir(log)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.file_name().unwrap().to_string_lossy().starts_with("log-"))
        .collect();
    files.sort();
    files
}

/// A log with a base backup and some transactions; and where it stood before the last one.
struct History {
    log: TempDir,
    anchor: MemoryAnchor,
    /// A whole copy, before the last transaction.
    old: TempDir,
}

async fn history() -> Option<History> {
    let (log, anchor) = (tempfile::tempdir().unwrap(), MemoryAnchor::default());
    let running = begin(log.path(), anchor.clone()).await?;
    let client = running.session().await;
    client.batch_execute("CREATE TABLE t (id int PRIMARY KEY, allowed bool)").await.unwrap();
    client.batch_execute("INSERT INTO t SELECT i, true FROM generate_series(1, 2000) i").await.unwrap();
    let old = copy(log.path());
    client.batch_execute("UPDATE t SET allowed = false WHERE id = 7").await.unwrap();
    running.dies().await;
    Some(History { log, anchor, old })
}

/// Lengths of the records of a file, from byte 132 on; see docs/sealed-log.md.
fn records(file: &[u8]) -> Vec<std::ops::Range<usize>> {
    let (mut at, mut records) = (132, Vec::new());
    while let Some(frame) = file.get(at..at + 4).filter(|frame| **frame != [0; 4]) {
        let end = at + 4 + u32::from_le_bytes(frame.try_into().unwrap()) as usize;
        records.push(at..end);
        at = end;
    }
    records
}

#[tokio::test(flavor = "multi_thread")]
async fn the_five_attacks_and_what_is_left_when_none_is_made() {
    let Some(history) = history().await else { return };
    let memory = tempfile::tempdir().unwrap();
    let data = memory.path().join("data");
    let attack = |what: &dyn Fn(&Path)| {
        let log = copy(history.log.path());
        what(log.path());
        let error = found(log.path(), &history.anchor, &data).err().expect("refused");
        assert!(!data.exists() && !data.with_extension("wal").exists(), "nothing is left: {error}");
        error
    };
    let last = |log: &Path| files(log).pop().unwrap();

    s26_flipped_bit(&attack, &last);
    s26_swapped_records(&attack, &last);
    s16_old_page(&attack, history.old.path());
    s16_old_copy(&attack, history.old.path());
    s16_last_commit_cut_off(&attack, &last);

    // And undisturbed, it is as it was.
    let running = begin(history.log.path(), history.anchor.clone()).await.unwrap();
    let client = running.session().await;
    assert_eq!(count(&client).await, 2000);
    let allowed = client.query_one("SELECT allowed FROM t WHERE id = 7", &[]).await.unwrap();
    assert!(!allowed.get::<_, bool>(0), "what was revoked stays so");
}

type Attack<'a> = dyn Fn(&dyn Fn(&Path)) -> RestoreError + 'a;

fn s26_flipped_bit(attack: &Attack<'_>, last: &dyn Fn(&Path) -> PathBuf) {
    for at in [140, 5000, 200_000] {
        let error = attack(&|log| {
            let mut bytes = std::fs::read(last(log)).unwrap();
            bytes[at] ^= 4;
            std::fs::write(last(log), bytes).unwrap();
        });
        assert_eq!(error.code(), "LOG_TAMPERED", "{at}");
    }
}

fn s26_swapped_records(attack: &Attack<'_>, last: &dyn Fn(&Path) -> PathBuf) {
    let error = attack(&|log| {
        let bytes = std::fs::read(last(log)).unwrap();
        let places = records(&bytes);
        let mut swapped = bytes[..132].to_vec();
        swapped.extend(&bytes[places[1].clone()]);
        swapped.extend(&bytes[places[0].clone()]);
        swapped.extend(&bytes[places[1].end..]);
        std::fs::write(last(log), swapped).unwrap();
    });
    assert_eq!(error.code(), "LOG_TAMPERED");
}

/// The part of the log that has the page in question, as it was.
fn s16_old_page(attack: &Attack<'_>, old: &Path) {
    let error = attack(&|log| {
        for file in files(old) {
            let (new, mut bytes) = (log.join(file.file_name().unwrap()), std::fs::read(&file).unwrap());
            let rest = std::fs::read(&new).unwrap();
            bytes.extend(vec![0; rest.len().saturating_sub(bytes.len())]);
            std::fs::write(new, bytes).unwrap();
        }
    });
    assert!(matches!(error.code(), "LOG_TAMPERED" | "LOG_ROLLED_BACK"), "{error}");
}

fn s16_old_copy(attack: &Attack<'_>, old: &Path) {
    let error = attack(&|log| {
        files(log).iter().for_each(|file| std::fs::remove_file(file).unwrap());
        for file in files(old) {
            std::fs::copy(&file, log.join(file.file_name().unwrap())).unwrap();
        }
    });
    assert_eq!(error.code(), "LOG_ROLLED_BACK");
}

fn s16_last_commit_cut_off(attack: &Attack<'_>, last: &dyn Fn(&Path) -> PathBuf) {
    for (inside, code) in [(false, "LOG_ROLLED_BACK"), (true, "LOG_CUT")] {
        let error = attack(&|log| {
            let mut bytes = std::fs::read(last(log)).unwrap();
            let place = records(&bytes).pop().unwrap();
            bytes.truncate(if inside { place.end - 1 } else { place.start });
            std::fs::write(last(log), bytes).unwrap();
        });
        assert_eq!(error.code(), code);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn killed_under_writers_again_and_again_every_acknowledged_commit_is_there() {
    let (log, anchor) = (tempfile::tempdir().unwrap(), MemoryAnchor::default());
    let Some(mut running) = begin(log.path(), anchor.clone()).await else { return };
    running
        .session()
        .await
        .batch_execute("CREATE TABLE t (writer int, n bigint, filler text)")
        .await
        .unwrap();
    const WRITERS: i32 = 32;
    let mut acknowledged = vec![0_i64; 32];
    for round in 0..4_u64 {
        let mut writers = Vec::new();
        for writer in 0..WRITERS {
            let client = running.session().await;
            let mut n = acknowledged[usize::try_from(writer).unwrap()];
            writers.push(tokio::spawn(async move {
                // Of very different sizes, so that records end anywhere in a page.
                let insert = "INSERT INTO t VALUES ($1, $2, repeat('x', ($2::bigint * 977 % 9000)::int))";
                while client.execute(insert, &[&writer, &(n + 1)]).await.is_ok() {
                    n += 1;
                }
                n
            }));
        }
        tokio::time::sleep(Duration::from_millis(300 + 170 * round)).await;
        running.dies().await;
        for (writer, task) in writers.into_iter().enumerate() {
            acknowledged[writer] = task.await.unwrap();
        }
        running = begin(log.path(), anchor.clone()).await.unwrap();
        assert!(running.restored.is_some());
        let client = running.session().await;
        let rows = client.query("SELECT writer, max(n), count(*) FROM t GROUP BY 1", &[]).await.unwrap();
        assert_eq!(rows.len(), 32, "each wrote");
        for row in rows {
            let (writer, max, count): (i32, i64, i64) = (row.get(0), row.get(1), row.get(2));
            let acknowledged = &mut acknowledged[usize::try_from(writer).unwrap()];
            assert_eq!(max, count, "without gaps");
            assert!(max == *acknowledged || max == *acknowledged + 1, "{max} {acknowledged}");
            *acknowledged = max;
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_checkpoint_cuts_the_log_and_what_is_left_restores() {
    let (log, anchor) = (tempfile::tempdir().unwrap(), MemoryAnchor::default());
    let small = Options {
        checkpoint_after: 8 << 20,
        log: sealed_log::Options { file_size: 4 << 20, ..sealed_log::Options::default() },
        ..Options::default()
    };
    let Some(running) = begin_with(log.path(), anchor.clone(), small).await else { return };
    let client = running.session().await;
    client.batch_execute("CREATE TABLE t (a text)").await.unwrap();
    let first = files(log.path())[0].clone();
    let mut rows = 0;
    // By itself, when the log has grown.
    while first.exists() {
        client
            .batch_execute("INSERT INTO t SELECT repeat('y', 1000) FROM generate_series(1, 4000)")
            .await
            .unwrap();
        rows += 4000;
        assert!(rows < 400_000, "it is never cut");
    }
    // While it is made, commits go on; and unlogged relations would be lost with it.
    let (made, _) = tokio::join!(running.sealer.checkpoint(), async {
        client.batch_execute("INSERT INTO t SELECT 'z' FROM generate_series(1, 10)").await.unwrap();
    });
    made.unwrap();
    rows += 10;
    running.dies().await;
    let running = begin_with(log.path(), anchor.clone(), small).await.unwrap();
    assert_eq!(count(&running.session().await).await, rows);
}

#[tokio::test(flavor = "multi_thread")]
async fn to_a_position_in_the_past_and_on_from_there() {
    let (log, anchor) = (tempfile::tempdir().unwrap(), MemoryAnchor::default());
    let Some(running) = begin(log.path(), anchor.clone()).await else { return };
    let client = running.session().await;
    client.batch_execute("CREATE TABLE t (a int); INSERT INTO t VALUES (1)").await.unwrap();
    let then: String = client.query_one("SELECT pg_current_wal_lsn()::text", &[]).await.unwrap().get(0);
    let then: Lsn = then.parse().unwrap();
    client.batch_execute("DROP TABLE t").await.unwrap();
    running.dies().await;

    let (settings, folder) = prepared().unwrap();
    std::fs::remove_dir_all(&settings.data).unwrap();
    let host = Folder::new(log.path());
    let to = |position| {
        restore(&host, &key(), anchor.head().into(), Ahead::One, &settings.data, Until::Position(position))
    };
    assert_eq!(to(Lsn(1)).err().unwrap().code(), "RESTORE_OUT_OF_REACH");
    assert_eq!(to(Lsn(u64::MAX)).err().unwrap().code(), "RESTORE_OUT_OF_REACH");
    let restored = to(then).unwrap();
    assert_eq!(restored.database.map(|database| database.end), Some(then));
    let running = start(settings, folder, restored, log.path(), anchor.clone(), Options::default()).await;
    running.session().await.batch_execute("INSERT INTO t VALUES (2)").await.unwrap();
    running.dies().await;
    let running = begin(log.path(), anchor.clone()).await.unwrap();
    assert_eq!(count(&running.session().await).await, 2, "the other future is gone");
}

/// An anchor that can be told not to answer.
#[derive(Clone, Default)]
struct Stubborn {
    anchor: MemoryAnchor,
    silent: Arc<std::sync::atomic::AtomicBool>,
}

impl Anchor for Stubborn {
    fn current(&self) -> Result<Option<Head>, AnchorError> {
        self.anchor.current()
    }

    fn advance(&self, from: Option<Head>, to: Head) -> Result<(), AnchorError> {
        if self.silent.load(std::sync::atomic::Ordering::SeqCst) {
            return Err(AnchorError::Unreachable("it was told so".into()));
        }
        self.anchor.advance(from, to)
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn without_its_anchor_nothing_is_acknowledged_and_the_database_stops() {
    let (log, anchor) = (tempfile::tempdir().unwrap(), Stubborn::default());
    let options = Options { patience: Duration::from_millis(600), ..Options::default() };
    let Some(running) = begin_with(log.path(), anchor.clone(), options).await else { return };
    let client = running.session().await;
    client.batch_execute("CREATE TABLE t (a int)").await.unwrap();
    anchor.silent.store(true, std::sync::atomic::Ordering::SeqCst);
    assert!(client.batch_execute("INSERT INTO t VALUES (1)").await.is_err());
    running.engine.exited().await;
    assert!(matches!(running.sealer.failure(), Some(SealerError::Log(Error::AnchorUnreachable(_)))));
}

#[tokio::test(flavor = "multi_thread")]
async fn with_a_lag_that_was_agreed_commits_do_not_wait_for_the_anchor_but_for_the_disk() {
    let (log, anchor) = (tempfile::tempdir().unwrap(), MemoryAnchor::default());
    let options = Options { max_lag: Duration::from_secs(3600), ..Options::default() };
    let Some(running) = begin_with(log.path(), anchor.clone(), options).await else { return };
    let client = running.session().await;
    let before = anchor.head();
    client.batch_execute("CREATE TABLE t (a int); INSERT INTO t VALUES (1)").await.unwrap();
    assert_eq!(anchor.head(), before);
    running.dies().await;
    let (folder, anchored) = (tempfile::tempdir().unwrap(), Anchored::from(anchor.head()));
    let restored = |ahead| {
        restore(&Folder::new(log.path()), &key(), anchored, ahead, &folder.path().join("data"), Until::End)
    };
    let anchored = anchor.head().map_or(0, |head| head.sequence);
    assert!(restored(Ahead::Any).unwrap().contents.head.is_some_and(|head| head.sequence >= anchored));
}

#[tokio::test(flavor = "multi_thread")]
async fn when_the_sealer_ends_the_database_does() {
    let log = tempfile::tempdir().unwrap();
    let Some(running) = begin(log.path(), MemoryAnchor::default()).await else { return };
    let client = running.session().await;
    client.batch_execute("CREATE TABLE t (a int)").await.unwrap();
    drop(running.sealer);
    running.engine.exited().await;
    assert!(client.batch_execute("INSERT INTO t VALUES (1)").await.is_err());
}

/// Why no sealer starts.
fn refusal(engine: &Engine, folder: &TempDir) -> Option<SealerError> {
    let (log, anchor) = (folder.path().join("log"), MemoryAnchor::default());
    let restored = found(&log, &anchor, &folder.path().join("none")).unwrap();
    let log = Log {
        host: Box::new(Folder::new(&log)),
        key: key(),
        contents: restored.contents,
        anchor: Box::new(anchor),
        restored: None,
    };
    Sealer::start(source(engine), log, Options::default(), |_| {}).err()
}

#[tokio::test(flavor = "multi_thread")]
async fn unlogged_relations_and_settings_that_do_not_wait_are_refused() {
    let Some((settings, folder)) = prepared() else { return };
    let engine = Engine::start(&settings).await.unwrap();
    let attempt = || refusal(&engine, &folder);
    let setting = |seen: Option<SealerError>, expected: &str| {
        assert!(matches!(&seen, Some(SealerError::Setting { name, .. }) if *name == expected), "{seen:?}");
    };
    setting(attempt(), "synchronous_standby_names");
    engine.kill();
    engine.exited().await;
    drop(engine);
    let unsafe_settings = Settings {
        synchronous: true,
        parameters: vec![("synchronous_commit".into(), "local".into())],
        ..settings.clone()
    };
    let engine = Engine::start(&unsafe_settings).await.unwrap();
    let attempt = || refusal(&engine, &folder);
    setting(attempt(), "synchronous_commit");
    let client = engine.session(SUPERUSER).await.unwrap();
    client.batch_execute("ALTER SYSTEM SET synchronous_commit = 'on'").await.unwrap();
    client.batch_execute("SELECT pg_reload_conf()").await.unwrap();
    // Nobody is there yet who could confirm.
    client.batch_execute("SET synchronous_commit = local").await.unwrap();
    client.batch_execute("CREATE UNLOGGED TABLE quick (a int)").await.unwrap();
    let seen = attempt();
    assert!(matches!(&seen, Some(SealerError::Unlogged(name)) if name == "quick"), "{seen:?}");
}

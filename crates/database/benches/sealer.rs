//! Durable single-row inserts of 1, 8 and 32 clients, sealed and with PostgreSQL's own `fsync`, in one run on one disk; and
//! how fast a log is read back: `cargo bench -p database --bench sealer`.

use std::{
    path::Path,
    sync::Arc,
    time::{Duration, Instant},
};

use database::{
    engine::{Engine, SUPERUSER, Settings, binaries},
    restore::{Until, restore},
    sealer::{Log, Options, Sealer, Source},
};
use sealed_log::{Ahead, Anchored, LogKey};
use volume::{Folder, MemoryAnchor};

const CLIENTS: [usize; 3] = [1, 8, 32];
const TIME: Duration = Duration::from_secs(5);
const ROUNDS: usize = 3;
/// Bytes of rows for the log that is read back, about.
const FILLED: u64 = 512 << 20;

/// Inserts in a second.
async fn inserts(engine: &Arc<Engine>, clients: usize) -> f64 {
    let begun = Instant::now();
    let tasks: Vec<_> = (0..clients)
        .map(|number| {
            let engine = Arc::clone(engine);
            tokio::spawn(async move {
                let client = engine.session(SUPERUSER).await.expect("a session");
                let insert = client.prepare("INSERT INTO t VALUES ($1, $2)").await.expect("prepared");
                let number = i64::try_from(number).unwrap_or_default();
                let mut done = 0_u64;
                while begun.elapsed() < TIME {
                    client.execute(&insert, &[&number, &"a row of usual length"]).await.expect("inserted");
                    done += 1;
                }
                done
            })
        })
        .collect();
    let mut done = 0;
    for task in tasks {
        done += task.await.expect("a client");
    }
    done as f64 / begun.elapsed().as_secs_f64()
}

async fn table(engine: &Engine) {
    let client = engine.session(SUPERUSER).await.expect("a session");
    client.batch_execute("CREATE TABLE t (n bigint, filler text)").await.expect("a table");
}

/// PostgreSQL as it is, on this disk.
async fn plain(folder: &Path) -> Arc<Engine> {
    let mut settings = Settings::within(binaries().expect("PostgreSQL"), folder, "bench");
    let own = [("fsync", "on"), ("full_page_writes", "on"), ("max_wal_size", "2GB")];
    settings.parameters = own.map(|(name, value)| (name.to_owned(), value.to_owned())).to_vec();
    Engine::initialise(&settings).expect("initdb");
    let engine = Engine::start(&settings).await.expect("PostgreSQL");
    table(&engine).await;
    Arc::new(engine)
}

fn key() -> LogKey {
    LogKey::new([1; 32])
}

async fn sealed(memory: &Path, log: &Path, anchor: &MemoryAnchor) -> (Arc<Engine>, Sealer) {
    let mut settings = Settings::within(binaries().expect("PostgreSQL"), memory, "bench");
    Engine::initialise(&settings).expect("initdb");
    settings.synchronous = true;
    let engine = Arc::new(Engine::start(&settings).await.expect("PostgreSQL"));
    let host = || Box::new(Folder::new(log));
    let unpacked = memory.join("none");
    let found =
        restore(&*host(), &key(), Anchored::Never, Ahead::One, &unpacked, Until::End).expect("nothing");
    let source = Source {
        socket: engine.socket().to_owned(),
        user: SUPERUSER.into(),
        database: engine.database().into(),
    };
    let log = Log {
        host: host(),
        key: key(),
        contents: found.contents,
        anchor: Box::new(anchor.clone()),
        restored: None,
    };
    let options = Options { checkpoint_after: u64::MAX, ..Options::default() };
    let killer = engine.killer();
    let sealer = Sealer::start(source, log, options, move |_| killer.kill()).expect("a sealer");
    sealer.checkpoint().await.expect("a base backup");
    table(&engine).await;
    (engine, sealer)
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

#[tokio::main]
async fn main() {
    if binaries().is_err() {
        println!("NOT RUN: there is no PostgreSQL; mend: cargo xtask tools");
        return;
    }
    let memory = tempfile::tempdir_in("/dev/shm").expect("memory");
    // Both on one disk.
    let (disk, log) = (tempfile::tempdir().expect("a folder"), tempfile::tempdir().expect("a folder"));
    let plain = plain(disk.path()).await;
    let anchor = MemoryAnchor::default();
    let (engine, sealer) = sealed(memory.path(), log.path(), &anchor).await;
    for clients in CLIENTS {
        let (mut ours, mut theirs) = (Vec::new(), Vec::new());
        for _ in 0..ROUNDS {
            theirs.push(inserts(&plain, clients).await);
            ours.push(inserts(&engine, clients).await);
        }
        let (ours, theirs) = (median(ours), median(theirs));
        println!(
            "durable inserts, {clients:2} clients: sealed {ours:.0}/s, PostgreSQL with fsync {theirs:.0}/s, ratio {:.2} (asked: 0.9)",
            ours / theirs
        );
    }
    drop(plain);

    let client = engine.session(SUPERUSER).await.expect("a session");
    let fill = "INSERT INTO t SELECT i, repeat('x', 1000) FROM generate_series(1, 50000) i";
    let begun = Instant::now();
    let mut filled = 0;
    while filled < FILLED {
        client.batch_execute(fill).await.expect("filled");
        filled += 50_000 * 1000;
    }
    println!("bulk inserts, sealed: {:.0} MB/s of rows", filled as f64 / begun.elapsed().as_secs_f64() / 1e6);
    engine.kill();
    engine.exited().await;
    drop(sealer);
    drop(engine);

    let length: u64 = std::fs::read_dir(log.path())
        .expect("a folder")
        .filter_map(|entry| entry.ok()?.metadata().ok())
        .map(|found| found.len())
        .sum();
    let settings = Settings {
        synchronous: false,
        ..Settings::within(binaries().expect("PostgreSQL"), &memory.path().join("again"), "bench")
    };
    std::fs::create_dir(memory.path().join("again")).expect("a folder");
    let begun = Instant::now();
    let anchored = anchor.head().into();
    let host = Folder::new(log.path());
    restore(&host, &key(), anchored, Ahead::One, &settings.data, Until::End).expect("restored");
    let verified = begun.elapsed();
    let engine = Engine::start(&settings).await.expect("PostgreSQL");
    let whole = begun.elapsed();
    let client = engine.session(SUPERUSER).await.expect("a session");
    let rows: i64 = client.query_one("SELECT count(*) FROM t", &[]).await.expect("rows").get(0);
    let speed = |time: Duration| length as f64 / time.as_secs_f64() / 1e6;
    println!(
        "restore of a log of {} MB, {rows} rows: verified and unpacked {:.0} MB/s, with PostgreSQL's recovery {:.0} MB/s (asked: 200)",
        length / 1_000_000,
        speed(verified),
        speed(whole)
    );
}

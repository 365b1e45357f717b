//! Read replicas that follow the sealed log, and one that takes the database over.

use std::{path::Path, sync::Arc, time::Duration};

use database::{
    engine::{Engine, SUPERUSER, Settings},
    replica::{Follower, Options, PARAMETERS, Replica, ReplicaError},
    sealer::{self, Log, Sealer},
};
use sealed_log::{Ahead, Error, LogKey};
use tempfile::TempDir;
use testkit::copying::Copying;
use volume::{Folder, MemoryAnchor};

use crate::{
    postgres::prepared,
    sealer::{begin, count, key, source},
};

pub struct Standby {
    pub replica: Replica,
    pub engine: Arc<Engine>,
    settings: Settings,
    _folder: TempDir,
}

pub async fn standby(log: &Path, anchor: &MemoryAnchor) -> Standby {
    standby_with(log, anchor, Options::default()).await
}

async fn standby_with(log: &Path, anchor: &MemoryAnchor, options: Options) -> Standby {
    standby_of(log, &key(), anchor, options).await
}

async fn standby_of(log: &Path, key: &LogKey, anchor: &MemoryAnchor, options: Options) -> Standby {
    let (settings, folder) = prepared().unwrap();
    std::fs::remove_dir_all(&settings.data).unwrap();
    let host = Box::new(Folder::new(log));
    let follower = Follower::unpack(host, key, Box::new(anchor.clone()), &settings.data).unwrap();
    let own = PARAMETERS.map(|(name, value)| (name.to_owned(), value.to_owned()));
    let standby = Settings { parameters: own.to_vec(), ..settings.clone() };
    let engine = Arc::new(Engine::start(&standby).await.unwrap());
    let killer = engine.killer();
    let replica = follower.follow(options, move |_| killer.kill()).unwrap();
    Standby { replica, engine, settings, _folder: folder }
}

impl Standby {
    /// Waits until it shows so many rows.
    async fn shows(&self, rows: i64) {
        let client = self.engine.session(SUPERUSER).await.unwrap();
        let shown = async {
            while count(&client).await != rows {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        };
        tokio::time::timeout(Duration::from_secs(60), shown).await.expect("it follows");
    }
}

fn copy(from: &Path, to: &Path) {
    for entry in std::fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        std::fs::copy(entry.path(), to.join(entry.file_name())).unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn it_shows_what_is_anchored_writes_nothing_and_takes_over_with_everything() {
    let (log, anchor) = (tempfile::tempdir().unwrap(), MemoryAnchor::default());
    let Some(primary) = begin(log.path(), anchor.clone()).await else { return };
    let client = primary.session().await;
    client.batch_execute("CREATE TABLE t (a int); INSERT INTO t VALUES (1)").await.unwrap();
    let standby = standby(log.path(), &anchor).await;
    standby.shows(1).await;
    // More than a file of PostgreSQL's log, and more than one of ours.
    for rows in 2..8 {
        client.batch_execute("INSERT INTO t SELECT i FROM generate_series(1, 100000) i").await.unwrap();
        client.batch_execute("DELETE FROM t WHERE ctid <> (SELECT min(ctid) FROM t)").await.unwrap();
        client
            .batch_execute(&format!("INSERT INTO t SELECT 7 FROM generate_series(2, {rows})"))
            .await
            .unwrap();
        standby.shows(rows).await;
    }
    let reader = standby.engine.session(SUPERUSER).await.unwrap();
    assert!(reader.batch_execute("INSERT INTO t VALUES (9)").await.is_err(), "it is read-only");
    assert!(standby.replica.followed().borrow().current_at.is_some());

    // The database is cut off: killed, with its last commit acknowledged a moment before.
    client.batch_execute("INSERT INTO t VALUES (8)").await.unwrap();
    primary.dies().await;
    let Standby { replica, engine, settings, _folder } = standby;
    engine.kill();
    engine.exited().await;
    drop(engine);
    let promoted = replica.promote(Ahead::One).unwrap();
    let engine = Engine::start(&Settings { synchronous: true, ..settings }).await.unwrap();
    let killer = engine.killer();
    let going_on = Log {
        host: promoted.host,
        key: key(),
        contents: promoted.contents,
        anchor: promoted.anchor,
        restored: Some(promoted.end),
    };
    let sealer =
        Sealer::start(source(&engine), going_on, sealer::Options::default(), move |_| killer.kill()).unwrap();
    let client = engine.session(SUPERUSER).await.unwrap();
    assert_eq!(count(&client).await, 8);
    client.batch_execute("INSERT INTO t VALUES (9)").await.unwrap();
    engine.kill();
    drop(sealer);
    drop(engine);

    // What it sealed restores as anything else does.
    let again = begin(log.path(), anchor).await.unwrap();
    assert_eq!(count(&again.session().await).await, 9);
}

#[tokio::test(flavor = "multi_thread")]
async fn s16_a_replica_that_is_behind_the_anchor_or_forked_does_not_take_over() {
    let (log, anchor) = (tempfile::tempdir().unwrap(), MemoryAnchor::default());
    let Some(primary) = begin(log.path(), anchor.clone()).await else { return };
    let client = primary.session().await;
    client.batch_execute("CREATE TABLE t (a int); INSERT INTO t VALUES (1)").await.unwrap();
    // Its host stops copying.
    let copied = tempfile::tempdir().unwrap();
    copy(log.path(), copied.path());
    let standby = standby(copied.path(), &anchor).await;
    standby.shows(1).await;
    client.batch_execute("INSERT INTO t VALUES (2)").await.unwrap();
    standby.engine.kill();
    let refused = standby.replica.promote(Ahead::One).err();
    assert!(matches!(refused, Some(ReplicaError::Log(Error::RolledBack { .. }))), "{refused:?}");
    primary.dies().await;

    // An old copy that went another way, shown to a new replica.
    let fork = MemoryAnchor::new(anchor.head());
    let other = begin(log.path(), fork.clone()).await.unwrap();
    other.session().await.batch_execute("INSERT INTO t VALUES (3)").await.unwrap();
    let here = tempfile::tempdir().unwrap();
    copy(log.path(), here.path());
    other.dies().await;
    let forked = fork.head().map(|head| volume::Head { hash: [1; 32], ..head });
    let host = Box::new(Folder::new(here.path()));
    let data = here.path().join("data");
    let refused = Follower::unpack(host, &key(), Box::new(MemoryAnchor::new(forked)), &data).err();
    assert!(matches!(refused, Some(ReplicaError::Log(Error::Forked(_)))), "{refused:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_replica_goes_on_from_copies_and_says_when_a_checkpoint_has_left_it_behind() {
    let (log, anchor) = (tempfile::tempdir().unwrap(), MemoryAnchor::default());
    let Some(primary) = begin(log.path(), anchor.clone()).await else { return };
    let client = primary.session().await;
    client.batch_execute("CREATE TABLE t (a int); INSERT INTO t VALUES (1)").await.unwrap();
    let copied = tempfile::tempdir().unwrap();
    let copying = Copying::from(log.path(), copied.path());
    let options = Options { patience: Duration::ZERO, ..Options::default() };
    let standby = standby_with(copied.path(), &anchor, options).await;
    standby.shows(1).await;
    client.batch_execute("INSERT INTO t VALUES (2)").await.unwrap();
    standby.shows(2).await;
    drop(copying);
    // The host goes on copying when what comes between is not there any more.
    for _ in 0..2 {
        client.batch_execute("INSERT INTO t SELECT generate_series(1, 300000)").await.unwrap();
        primary.sealer.checkpoint().await.unwrap();
    }
    let _copying = Copying::from(log.path(), copied.path());
    tokio::time::timeout(Duration::from_secs(60), standby.engine.exited()).await.expect("it ends");
    let failure = standby.replica.failure();
    assert!(matches!(failure, Some(ReplicaError::LeftBehind)), "{failure:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn s46_a_replica_that_has_the_key_of_before_an_exchange_ends_and_says_why() {
    let (log, anchor) = (tempfile::tempdir().unwrap(), MemoryAnchor::default());
    let Some(primary) = begin(log.path(), anchor.clone()).await else { return };
    let client = primary.session().await;
    client.batch_execute("CREATE TABLE t (a int); INSERT INTO t VALUES (1)").await.unwrap();
    let follows = standby(log.path(), &anchor).await;
    follows.shows(1).await;
    // One whose host stops copying, and begins again when all that its key opens was cut off.
    let copied = tempfile::tempdir().unwrap();
    let copying = Copying::from(log.path(), copied.path());
    let options = Options { patience: Duration::ZERO, ..Options::default() };
    let late = standby_with(copied.path(), &anchor, options).await;
    late.shows(1).await;
    drop(copying);

    let next = LogKey::new([6; 32]);
    assert!(
        primary.sealer.rekey(next.clone().after(key())).await.unwrap(),
        "nothing is left of the key before"
    );
    client.batch_execute("INSERT INTO t VALUES (2)").await.unwrap();
    let _copying = Copying::from(log.path(), copied.path());
    for standby in [follows, late] {
        tokio::time::timeout(Duration::from_secs(60), standby.engine.exited()).await.expect("it ends");
        let failure = standby.replica.failure().unwrap();
        assert!(matches!(failure, ReplicaError::OtherKey), "{failure:?}");
        assert_eq!(failure.code(), "LOG_SWAPPED");
        assert!(failure.to_string().contains("start the replica again"), "{failure}");
    }
    // Started again it has the key of now.
    standby_of(log.path(), &next, &anchor, Options::default()).await.shows(2).await;
}

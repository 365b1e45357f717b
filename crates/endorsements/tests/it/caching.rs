//! The cache on disk: what is fresh is not asked for, what is not is asked for once, and nothing on the disk is
//! trusted.

use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use endorsements::{Cache, CacheLimits, Cause, Client, Config, Mode, Source, Warning};

use crate::vectors::recorded;
use crate::vectors::{
    GENOA, GENOA_AT, TDX, TDX_2025, TDX_2025_AT, TDX_2026, TDX_2026_AT, at, cached_client, config, evidence,
    look,
};
use testkit::vendor::{Fault, Vendor};

async fn vendor() -> Vendor {
    let vendor = Vendor::start().await;
    vendor.load_intel(TDX_2025);
    vendor
}

fn files(directory: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() { found.extend(files(&path)) } else { found.push(path) }
    }
    found
}

#[tokio::test]
async fn what_is_fresh_is_not_asked_for() {
    let (vendor, directory) = (vendor().await, tempfile::tempdir().unwrap());
    let now = at(TDX_2025_AT);
    let client = cached_client(&vendor, directory.path());
    let first = client.endorsements_for(&evidence(TDX), now).await.unwrap();
    assert_eq!(vendor.requests().len(), 4);
    // By this process, and by another one.
    for client in [client, cached_client(&vendor, directory.path())] {
        let again = client.endorsements_for(&evidence(TDX), now).await.unwrap();
        assert!(again.endorsements == first.endorsements);
        assert!(again.parts.iter().all(|part| part.source == Source::Cache));
        assert_eq!(client.counts().cached, 4);
    }
    assert_eq!(vendor.requests().len(), 4);
}

#[tokio::test]
async fn collateral_is_asked_for_again_after_a_day_and_certificates_are_not() {
    let (vendor, directory) = (vendor().await, tempfile::tempdir().unwrap());
    let client = cached_client(&vendor, directory.path());
    let now = at(TDX_2025_AT);
    client.endorsements_for(&evidence(TDX), now).await.unwrap();
    client.endorsements_for(&evidence(GENOA), now).await.unwrap();
    let before = vendor.requests().len();
    let tomorrow = appraisal::UnixTime(now.0 + 25 * 60 * 60);
    client.endorsements_for(&evidence(TDX), tomorrow).await.unwrap();
    client.endorsements_for(&evidence(GENOA), tomorrow).await.unwrap();
    let asked = vendor.requests().split_off(before);
    // AMD's list is of 2022: it is never fresh.
    assert_eq!(asked.len(), 5, "{asked:?}");
    assert!(asked.iter().all(|path| !path.contains("SPL=") && !path.contains("cert_chain")), "{asked:?}");
}

#[tokio::test]
async fn what_ended_is_asked_for_again() {
    let (vendor, directory) = (vendor().await, tempfile::tempdir().unwrap());
    let mut config = config(&vendor);
    config.freshness.max_age = Duration::from_secs(u64::MAX);
    let client = Client::new(config, Some(Cache::open(directory.path()).unwrap())).unwrap();
    client.endorsements_for(&evidence(TDX), at(TDX_2025_AT)).await.unwrap();
    vendor.load_intel(TDX_2026);
    let fetched = client.endorsements_for(&evidence(TDX), at(TDX_2026_AT)).await.unwrap();
    let sources: Vec<_> = fetched.parts.iter().map(|part| part.source).collect();
    // The root CA's list of 2025 held for more than a year.
    assert_eq!(sources, [Source::Vendor, Source::Vendor, Source::Vendor, Source::Cache]);
    assert!(look(&evidence(TDX), &fetched.endorsements, at(TDX_2026_AT)).is_accepted());
}

#[tokio::test]
async fn a_clock_that_was_wrong_does_not_freeze_the_cache() {
    let (vendor, directory) = (vendor().await, tempfile::tempdir().unwrap());
    let client = cached_client(&vendor, directory.path());
    client.endorsements_for(&evidence(TDX), at("2025-07-10T00:00:00Z")).await.unwrap();
    client.endorsements_for(&evidence(TDX), at(TDX_2025_AT)).await.unwrap();
    assert_eq!(vendor.requests().len(), 8, "fetched in what is now the future");
}

#[tokio::test]
async fn what_is_cached_is_served_with_its_dates_when_the_vendor_fails() {
    let (vendor, directory) = (vendor().await, tempfile::tempdir().unwrap());
    let client = cached_client(&vendor, directory.path());
    client.endorsements_for(&evidence(TDX), at(TDX_2025_AT)).await.unwrap();
    vendor.fail("/", Fault::Status(503, ""), usize::MAX);
    let later = at("2025-07-10T00:00:00Z");
    let fetched = client.endorsements_for(&evidence(TDX), later).await.unwrap();
    assert!(look(&evidence(TDX), &fetched.endorsements, later).is_accepted(), "it holds until the 19th");
    let stale = fetched.warnings.iter().filter(|warning| matches!(warning, Warning::Stale(_))).count();
    assert_eq!((stale, client.counts().stale), (4, 4));

    let too_late = at("2025-08-10T00:00:00Z");
    let fetched = client.endorsements_for(&evidence(TDX), too_late).await.unwrap();
    assert!(!look(&evidence(TDX), &fetched.endorsements, too_late).is_accepted(), "the appraisal decides");
}

#[tokio::test]
async fn offline_serves_from_the_cache() {
    let (vendor, directory) = (vendor().await, tempfile::tempdir().unwrap());
    cached_client(&vendor, directory.path()).endorsements_for(&evidence(TDX), at(TDX_2025_AT)).await.unwrap();
    let before = vendor.requests().len();
    let offline = Config { mode: Mode::Offline, ..config(&vendor) };
    let client = Client::new(offline, Some(Cache::open(directory.path()).unwrap())).unwrap();
    let later = at("2025-07-10T00:00:00Z");
    let fetched = client.endorsements_for(&evidence(TDX), later).await.unwrap();
    assert!(look(&evidence(TDX), &fetched.endorsements, later).is_accepted());
    let refused = client.endorsements_for(&evidence(GENOA), later).await.unwrap_err();
    assert_eq!(refused.failures[0].cause, Cause::Offline);
    assert_eq!(vendor.requests().len(), before);
}

/// What still holds is worth no long wait, and one try is enough for a while.
#[tokio::test]
async fn what_still_holds_is_not_waited_for_long() {
    let (vendor, directory) = (vendor().await, tempfile::tempdir().unwrap());
    let mut config = config(&vendor);
    config.timing.refresh = Duration::from_millis(300);
    config.timing.refresh_pause = Duration::from_millis(600);
    let client = Client::new(config, Some(Cache::open(directory.path()).unwrap())).unwrap();
    client.endorsements_for(&evidence(TDX), at(TDX_2025_AT)).await.unwrap();
    let later = at("2025-07-10T00:00:00Z");
    vendor.fail("/", Fault::Slow(Duration::from_secs(60)), 4);
    let begun = std::time::Instant::now();
    for _ in 0..3 {
        let fetched = client.endorsements_for(&evidence(TDX), later).await.unwrap();
        assert!(
            matches!(&fetched.warnings[0], Warning::Stale(why) if matches!(why.cause, Cause::TimedOut(_)))
        );
    }
    assert!(begun.elapsed() < Duration::from_millis(900), "{:?}", begun.elapsed());
    assert_eq!(vendor.requests().len(), 8);
    tokio::time::sleep(Duration::from_millis(700)).await;
    let fetched = client.endorsements_for(&evidence(TDX), later).await.unwrap();
    assert_eq!(fetched.requests(), 4, "asked again after the pause");
}

/// By a process that is stuck, or by one that wants us to be.
#[tokio::test]
async fn a_lock_that_is_never_released_is_waited_for_and_then_ignored() {
    let (vendor, directory) = (vendor().await, tempfile::tempdir().unwrap());
    let mut config = config(&vendor);
    config.timing.total = Duration::from_millis(500);
    let client = Client::new(config, Some(Cache::open(directory.path()).unwrap())).unwrap();
    let locks = directory.path().join("locks");
    let held = fs::File::create(locks.join("rootcacrl")).unwrap();
    held.lock().unwrap();
    symlink("/dev/zero", locks.join("qe-tdx")).unwrap();
    fs::create_dir(locks.join("pckcrl-platform")).unwrap();
    assert!(client.endorsements_for(&evidence(TDX), at(TDX_2025_AT)).await.is_ok());
}

#[tokio::test]
async fn absurd_times_are_no_panic() {
    let vendor = vendor().await;
    vendor.fail("/tcb", Fault::Status(429, "retry-after: 4294967295\r\n"), 1);
    vendor.fail("/qe/", Fault::Status(500, ""), 1);
    let mut config = config(&vendor);
    let timing = &mut config.timing;
    (timing.total, timing.per_try, timing.refresh, timing.vcek_pace) =
        (Duration::MAX, Duration::MAX, Duration::MAX, Duration::MAX);
    (timing.first_backoff, timing.longest_backoff) = (Duration::MAX, Duration::from_millis(1));
    let client = Client::new(config, None).unwrap();
    let needs = appraisal::needs(&evidence(GENOA)).unwrap().unwrap();
    assert!(client.prefetch(&[needs], at(GENOA_AT)).await[0].is_ok());
    let quote = evidence(TDX);
    let fetching = client.endorsements_for(&quote, at(TDX_2025_AT));
    assert!(tokio::time::timeout(Duration::from_millis(300), fetching).await.is_err(), "it rests, as told");
}

/// S-18, one floor lower: a cache between us and the vendor that is behind does not push out what is newer.
#[tokio::test]
async fn s18_an_older_answer_does_not_replace_a_newer_one() {
    let (vendor, directory) = (Vendor::start().await, tempfile::tempdir().unwrap());
    vendor.load_intel(TDX_2026);
    let client = cached_client(&vendor, directory.path());
    client.endorsements_for(&evidence(TDX), at(TDX_2026_AT)).await.unwrap();
    vendor.load_intel(TDX_2025);
    let later = appraisal::UnixTime(at(TDX_2026_AT).0 + 25 * 60 * 60);
    let fetched = client.endorsements_for(&evidence(TDX), later).await.unwrap();
    assert!(fetched.endorsements == recorded(TDX_2026));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_who_wait_make_one_request() {
    let (vendor, directory) = (vendor().await, tempfile::tempdir().unwrap());
    vendor.fail("/", Fault::Slow(Duration::from_millis(300)), 4);
    // Tasks of two clients, as of two processes, which share the directory; and of one without a cache.
    let shared = [0, 1].map(|_| Arc::new(cached_client(&vendor, directory.path())));
    let mut tasks = tokio::task::JoinSet::new();
    for index in 0..20 {
        let client = Arc::clone(&shared[index % 2]);
        tasks.spawn(async move { client.endorsements_for(&evidence(TDX), at(TDX_2025_AT)).await.unwrap() });
    }
    assert_eq!(tasks.join_all().await.len(), 20);
    assert_eq!(vendor.requests().len(), 4);

    let alone = Arc::new(crate::vectors::client(&vendor));
    vendor.fail("/", Fault::Slow(Duration::from_millis(300)), 4);
    let mut tasks = tokio::task::JoinSet::new();
    for _ in 0..20 {
        let client = Arc::clone(&alone);
        tasks.spawn(async move { client.endorsements_for(&evidence(TDX), at(TDX_2025_AT)).await.unwrap() });
    }
    tasks.join_all().await;
    assert_eq!(vendor.requests().len(), 8);
    assert_eq!(alone.counts().joined, 19 * 4);
}

#[tokio::test]
async fn several_tcbs_of_one_chip_live_beside_each_other() {
    let (vendor, directory) = (vendor().await, tempfile::tempdir().unwrap());
    let client = cached_client(&vendor, directory.path());
    let needs = |file: &str| appraisal::needs(&evidence(file)).unwrap().unwrap();
    client.prefetch(&[needs(GENOA)], at(GENOA_AT)).await;
    let mut moved = needs(GENOA);
    let appraisal::Needs::Amd(amd) = &mut moved else { panic!("of AMD") };
    let appraisal::VekNeeds::Vcek { tcb, .. } = &mut amd.vek else { panic!("a chip's") };
    tcb[7] += 1;
    let results = client.prefetch(&[moved, needs(GENOA)], at(GENOA_AT)).await;
    assert_eq!(
        results[0].as_ref().unwrap_err().failures[0].cause,
        Cause::NotFound,
        "another firmware's is not given"
    );
    assert_eq!(vendor.times("SPL=").len(), 2, "and the first is still there");
    assert!(results[1].is_ok());
}

#[tokio::test]
async fn altered_entries_are_dropped_and_asked_for_again() {
    type Alter = fn(&Path);
    let alter: [(&str, Alter); 6] = [
        ("a flipped bit", |path| {
            let mut bytes = fs::read(path).unwrap();
            let middle = bytes.len() / 2;
            bytes[middle] ^= 1;
            fs::write(path, bytes).unwrap();
        }),
        ("emptied", |path| fs::write(path, b"").unwrap()),
        ("endless", |path| fs::write(path, vec![b'['; 1 << 20]).unwrap()),
        ("a directory", |path| {
            fs::remove_file(path).unwrap();
            fs::create_dir(path).unwrap();
        }),
        ("a link", |path| {
            let elsewhere = path.with_extension("elsewhere");
            fs::rename(path, &elsewhere).unwrap();
            symlink(&elsewhere, path).unwrap();
        }),
        ("a pipe", |path| {
            fs::remove_file(path).unwrap();
            rustix::fs::mknodat(
                rustix::fs::CWD,
                path,
                rustix::fs::FileType::Fifo,
                rustix::fs::Mode::from_raw_mode(0o600),
                0,
            )
            .unwrap();
        }),
    ];
    for part in ["answers", "index"] {
        for (what, alter) in &alter {
            let (vendor, directory) = (vendor().await, tempfile::tempdir().unwrap());
            let client = cached_client(&vendor, directory.path());
            let first = client.endorsements_for(&evidence(TDX), at(TDX_2025_AT)).await.unwrap();
            for path in files(&directory.path().join(part)) {
                alter(&path);
            }
            let again = client.endorsements_for(&evidence(TDX), at(TDX_2025_AT)).await;
            let again = again.unwrap_or_else(|error| panic!("{part}, {what}: {error}"));
            assert!(again.endorsements == first.endorsements, "{part}, {what}");
            assert_eq!(vendor.requests().len(), 8, "{part}, {what}");
        }
    }
}

/// A well-formed entry that says that it answers something else.
#[tokio::test]
async fn swapped_entries_are_dropped() {
    let (vendor, directory) = (vendor().await, tempfile::tempdir().unwrap());
    let client = cached_client(&vendor, directory.path());
    let first = client.endorsements_for(&evidence(TDX), at(TDX_2025_AT)).await.unwrap();
    let index = directory.path().join("index");
    fs::copy(index.join("pckcrl-platform"), index.join("rootcacrl")).unwrap();
    fs::copy(index.join("qe-tdx"), index.join("tcb-tdx-b0c06f000000")).unwrap();
    let again = client.endorsements_for(&evidence(TDX), at(TDX_2025_AT)).await.unwrap();
    assert!(again.endorsements == first.endorsements);
    assert_eq!(client.counts().dropped, 2);
}

#[tokio::test]
async fn the_directory_is_ours_alone_and_links_in_it_are_not_followed() {
    let (vendor, directory) = (vendor().await, tempfile::tempdir().unwrap());
    let path = directory.path().join("new/cache");
    cached_client(&vendor, &path).endorsements_for(&evidence(TDX), at(TDX_2025_AT)).await.unwrap();
    let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
    for directory in [&path, &path.join("answers"), &path.join("index"), &path.join("locks")] {
        assert_eq!(mode(directory), 0o700);
    }
    let files = files(&path);
    assert!(files.len() >= 8 && files.iter().all(|file| mode(file) == 0o600), "{files:?}");

    let hostile = directory.path().join("hostile");
    let target = directory.path().join("target");
    fs::create_dir(&hostile).unwrap();
    fs::create_dir(&target).unwrap();
    symlink(&target, hostile.join("answers")).unwrap();
    assert!(Cache::open(&hostile).is_err());
    assert_eq!(fs::read_dir(&target).unwrap().count(), 0);
}

#[tokio::test]
async fn a_cache_that_cannot_be_written_is_no_failure() {
    let (vendor, directory) = (vendor().await, tempfile::tempdir().unwrap());
    let client = cached_client(&vendor, directory.path());
    fs::create_dir_all(directory.path().join("index/rootcacrl/x")).unwrap();
    let fetched = client.endorsements_for(&evidence(TDX), at(TDX_2025_AT)).await.unwrap();
    assert_eq!(fetched.requests(), 4);
    assert_eq!(client.counts().unwritten, 1);
}

#[tokio::test]
async fn a_cache_has_bounds_and_leaves_nothing_behind() {
    let (vendor, directory) = (vendor().await, tempfile::tempdir().unwrap());
    let limits = CacheLimits { entries: 3, bytes: 1 << 20 };
    let cache = Cache::open_limited(directory.path(), limits).unwrap();
    fs::write(directory.path().join("answers/.new-1-1"), b"half").unwrap();
    fs::write(directory.path().join("index/strange"), b"file").unwrap();
    let client = Client::new(config(&vendor), Some(cache)).unwrap();
    client.endorsements_for(&evidence(TDX), at(TDX_2025_AT)).await.unwrap();
    client.endorsements_for(&evidence(GENOA), at(GENOA_AT)).await.unwrap();
    let names = |part: &str| {
        let entries = fs::read_dir(directory.path().join(part)).unwrap();
        let mut names: Vec<_> =
            entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        names
    };
    let index = names("index");
    assert_eq!(index.len(), 3, "{index:?}");
    assert!(index.iter().all(|name| name.contains("genoa")), "the last that were fetched: {index:?}");
    assert_eq!(names("answers").len(), 3);
}

#[tokio::test]
async fn what_is_forgotten_is_asked_for_again() {
    let (vendor, directory) = (vendor().await, tempfile::tempdir().unwrap());
    let client = cached_client(&vendor, directory.path());
    client.endorsements_for(&evidence(TDX), at(TDX_2025_AT)).await.unwrap();
    client.forget(&appraisal::needs(&evidence(TDX)).unwrap().unwrap()).await;
    client.endorsements_for(&evidence(TDX), at(TDX_2025_AT)).await.unwrap();
    assert_eq!(vendor.requests().len(), 8);
}

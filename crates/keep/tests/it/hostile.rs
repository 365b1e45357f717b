//! Hostile components and caches, with real ones as the starting point.

use std::{fs, path::Path};

use keep::{
    cache::Cache,
    runtime::{self, Pool, Runtime},
};
use zeroize::Zeroizing;

use crate::workloads;

fn runtime() -> Runtime {
    Runtime::new(Pool { instances: 2, ..Pool::default() }).unwrap()
}

fn cache(directory: &Path, key: u8) -> Cache {
    Cache::new(directory, Zeroizing::new([key; 32]))
}

fn only_file(directory: &Path) -> std::path::PathBuf {
    let mut files: Vec<_> = fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().path()).collect();
    assert_eq!(files.len(), 1);
    files.remove(0)
}

#[test]
fn a_damaged_component_is_refused() {
    let runtime = runtime();
    let good = workloads::component("tally");
    for cut in [1, 7, 8, 9, 100, good.len() / 2, good.len() - 1] {
        assert!(runtime.load(&good[..cut], None).is_err(), "cut at {cut}");
    }
    for at in (0..good.len()).step_by(good.len() / 12) {
        let mut bad = good.clone();
        bad[at] ^= 0xff;
        // It may still be a component (a changed constant), but then it is another one.
        if let Ok(workload) = runtime.load(&bad, None) {
            assert_ne!(workload.digest(), runtime::digest(&good));
        }
    }
}

#[test]
fn a_component_is_compiled_once_and_then_taken_from_the_cache() {
    let directory = tempfile::tempdir().unwrap();
    let (runtime, component) = (runtime(), workloads::component("tally"));
    let first = runtime.load(&component, Some(&cache(directory.path(), 1))).unwrap();
    assert!(!first.from_cache());
    let second = runtime.load(&component, Some(&cache(directory.path(), 1))).unwrap();
    assert!(second.from_cache());
    assert_eq!(first.digest(), second.digest());
    // Another engine instance with the same settings, as after a restart.
    assert!(self::runtime().load(&component, Some(&cache(directory.path(), 1))).unwrap().from_cache());
}

/// S-56: the host changes, swaps or plants artefacts; the component is compiled from its own bytes instead.
#[test]
fn s56_host_supplied_native_code_is_never_run() {
    let (ours, theirs) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let (runtime, component) = (runtime(), workloads::component("tally"));
    runtime.load(&component, Some(&cache(ours.path(), 1))).unwrap();
    let path = only_file(ours.path());
    let good = fs::read(&path).unwrap();

    let mut flipped = good.clone();
    let middle = flipped.len() / 2;
    flipped[middle] ^= 1;
    // The same component, compiled and sealed by a TEE with another key.
    runtime.load(&component, Some(&cache(theirs.path(), 2))).unwrap();
    let foreign = fs::read(only_file(theirs.path())).unwrap();
    for planted in
        [flipped, good[..good.len() - 1].to_vec(), Vec::new(), vec![0; 4096], foreign, component.clone()]
    {
        fs::write(&path, planted).unwrap();
        assert!(!runtime.load(&component, Some(&cache(ours.path(), 1))).unwrap().from_cache());
        assert!(fs::read(&path).unwrap().len() == good.len(), "the good artefact was not put back");
    }

    // Another component's artefact under this one's name.
    let other = workloads::component("frontend");
    fs::remove_file(&path).unwrap();
    runtime.load(&other, Some(&cache(ours.path(), 1))).unwrap();
    fs::rename(only_file(ours.path()), &path).unwrap();
    assert!(!runtime.load(&component, Some(&cache(ours.path(), 1))).unwrap().from_cache());
}

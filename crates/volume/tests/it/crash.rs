//! Power that fails at every write, and disks that fill up.

use proptest::{
    prelude::*,
    strategy::ValueTree,
    test_runner::{Config, RngAlgorithm, TestRng, TestRunner},
};
use volume::{Error, Kind, MemoryAnchor, tree::ROOT};

use crate::{
    disk::Disk,
    model::{self, Model, Step, content},
    plain::{NOW, open},
};

/// Runs `steps` until the power fails; what may be there afterwards: as after the last commit that was answered, or,
/// if one was begun, as it would have been.
fn run(disk: &Disk, anchor: &MemoryAnchor, steps: &[Step]) -> Vec<Model> {
    let (mut now, mut kept) = (Model::new(), Model::new());
    let Ok(mut volume) = open(disk, anchor) else { return vec![kept] };
    for step in steps {
        if let Step::Reopen = step {
            drop(volume);
            let Ok(opened) = open(disk, anchor) else { return vec![kept] };
            volume = opened;
            now = kept.clone();
        }
        let before = now.clone();
        if let Err(error) = model::act(&volume, &mut now, step) {
            assert!(matches!(error, Error::Host(_)), "{error}");
            return if matches!(step, Step::Commit) { vec![kept, before] } else { vec![kept] };
        }
        if let Step::Commit = step {
            kept = now.clone();
        }
    }
    vec![kept]
}

fn script(seed: u8, length: usize) -> (Vec<Step>, TestRng) {
    let mut runner =
        TestRunner::new_with_rng(Config::default(), TestRng::from_seed(RngAlgorithm::ChaCha, &[seed; 32]));
    let steps = proptest::collection::vec(model::step(), length).new_tree(&mut runner).unwrap().current();
    (steps, runner.rng().clone())
}

#[test]
fn after_a_power_loss_at_any_write_what_was_committed_is_there() {
    for seed in 0..12 {
        let (mut steps, mut rng) = script(seed, 40);
        steps.push(Step::Commit);
        let total = {
            let disk = Disk::default();
            run(&disk, &MemoryAnchor::default(), &steps);
            disk.operations()
        };
        for cut in 1..=total {
            let (disk, anchor) = (Disk::default(), MemoryAnchor::default());
            disk.cut_at(cut);
            let allowed = run(&disk, &anchor, &steps);
            for _ in 0..2 {
                let head = anchor.head();
                let disk = disk.after_power_loss(|n| rng.random_range(0..n));
                let anchor = MemoryAnchor::new(head);
                let volume =
                    open(&disk, &anchor).unwrap_or_else(|error| panic!("seed {seed}, cut {cut}: {error}"));
                let found = content(&volume).unwrap();
                assert!(allowed.contains(&found), "seed {seed}, cut {cut}");
                // And it goes on from there.
                volume.create(ROOT, "after", Kind::File, NOW).unwrap();
                volume.commit().unwrap();
                drop(volume);
                assert_eq!(content(&open(&disk, &anchor).unwrap()).unwrap().len(), found.len() + 1);
            }
        }
    }
}

#[test]
fn a_full_disk_is_an_error_and_loses_nothing() {
    let (disk, anchor) = (Disk::default(), MemoryAnchor::default());
    let volume = open(&disk, &anchor).unwrap();
    let file = volume.create(ROOT, "f", Kind::File, NOW).unwrap();
    volume.write_at(file, 0, &[1; 100_000], NOW).unwrap();
    volume.commit().unwrap();
    for capacity in [200_000, 1000, 300, 150, 131_072 + 200] {
        disk.set_capacity(Some(capacity));
        volume.write_at(file, 0, &[2; 300_000], NOW).unwrap();
        volume.create(ROOT, &format!("g{capacity}"), Kind::File, NOW).unwrap();
        assert_eq!(volume.commit(), Err(Error::HostFull), "{capacity}");
        // What is there for whoever opens it now is the last commit, whole.
        let copy = Disk::of(disk.image());
        let kept = open(&copy, &MemoryAnchor::new(anchor.head())).unwrap();
        assert!(content(&kept).unwrap().contains_key("f"));
        disk.set_capacity(None);
        volume.commit().unwrap();
    }
    let now = content(&volume).unwrap();
    drop(volume);
    assert!(content(&open(&disk, &anchor).unwrap()).unwrap() == now);
    assert_eq!(now["f"], Some(vec![2; 300_000]));
}

#[test]
fn a_disk_that_is_full_from_the_start_makes_no_volume() {
    let (disk, anchor) = (Disk::default(), MemoryAnchor::default());
    disk.set_capacity(Some(120));
    assert_eq!(open(&disk, &anchor).unwrap_err(), Error::HostFull);
    assert_eq!(anchor.head(), None);
    disk.set_capacity(None);
    open(&disk, &anchor).unwrap();
}

//! Power that fails at every write.

use proptest::prelude::RngExt;
use proptest::test_runner::{Config, RngAlgorithm, TestRng, TestRunner};
use sealed_log::Error;
use volume::MemoryAnchor;

use crate::{
    disk::Disk,
    plain::{commit, open},
};

#[derive(Clone, Copy, Debug)]
enum Step {
    Commit(u8),
    Checkpoint,
    Reopen,
}

/// Runs `steps` until the power fails: how many records were acknowledged.
fn run(disk: &Disk, anchor: &MemoryAnchor, steps: &[Step]) -> Vec<u8> {
    let mut kept = Vec::new();
    let Ok((_, mut writer)) = open(disk, anchor) else { return kept };
    for step in steps {
        let done = match step {
            Step::Commit(number) => commit(&mut writer, &[*number; 50]).map(|_| kept.push(*number)),
            Step::Checkpoint => {
                let head = writer.head().map_or(0, |head| head.sequence);
                writer.checkpoint(head.saturating_sub(3), head.saturating_sub(2), head).map(drop)
            }
            Step::Reopen => {
                drop(writer);
                let opened = open(disk, anchor);
                let Ok((_, opened)) = opened else { return kept };
                writer = opened;
                Ok(())
            }
        };
        match done {
            Ok(()) => {}
            Err(Error::Host(_)) => return kept,
            Err(error) => panic!("{error}"),
        }
    }
    kept
}

#[test]
fn after_a_power_loss_at_any_write_every_acknowledged_record_is_there() {
    for seed in 0..6 {
        let rng = TestRng::from_seed(RngAlgorithm::ChaCha, &[seed; 32]);
        let mut runner = TestRunner::new_with_rng(Config::default(), rng);
        let rng = runner.rng();
        let mut steps: Vec<Step> = (0..24)
            .map(|number| match rng.random_range(0..8) {
                0 => Step::Checkpoint,
                1 => Step::Reopen,
                _ => Step::Commit(number),
            })
            .collect();
        steps.push(Step::Commit(99));
        let total = {
            let disk = Disk::default();
            run(&disk, &MemoryAnchor::default(), &steps);
            disk.operations()
        };
        for cut in 1..=total {
            let (disk, anchor) = (Disk::default(), MemoryAnchor::default());
            disk.cut_at(cut);
            let kept = run(&disk, &anchor, &steps);
            for _ in 0..3 {
                let disk = disk.after_power_loss(|n| rng.random_range(0..n));
                let anchor = MemoryAnchor::new(anchor.head());
                let (found, mut writer) =
                    open(&disk, &anchor).unwrap_or_else(|error| panic!("seed {seed}, cut {cut}: {error}"));
                let found: Vec<u8> = found.iter().map(|entry| entry[0]).collect();
                // From the base on: all that was acknowledged, and perhaps the one that was being written.
                let from = kept.iter().position(|number| found.first() == Some(number)).unwrap_or(kept.len());
                assert!(
                    kept.len() - from <= found.len() && found.len() <= kept.len() - from + 1,
                    "{kept:?} {found:?}"
                );
                assert_eq!(found[..kept.len() - from], kept[from..], "seed {seed}, cut {cut}");
                assert!(kept.is_empty() || !found.is_empty(), "seed {seed}, cut {cut}");
                commit(&mut writer, b"\xffgoes on").unwrap();
                drop(writer);
                assert_eq!(open(&disk, &anchor).unwrap().0.len(), found.len() + 1);
            }
        }
    }
}

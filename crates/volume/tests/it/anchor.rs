//! Anchors that do not answer, and two Keeps of one volume.

use std::sync::{
    Arc,
    atomic::{AtomicU8, Ordering},
};

use volume::{Anchor, AnchorError, Error, Head, Kind, MemoryAnchor, Options, Volume, tree::ROOT};

use crate::{
    disk::Disk,
    model::content,
    plain::{NOW, key, open},
};

/// Loses requests (1) or answers (2).
#[derive(Clone, Default)]
struct Flaky {
    anchor: MemoryAnchor,
    loses: Arc<AtomicU8>,
}

impl Anchor for Flaky {
    fn current(&self) -> Result<Option<Head>, AnchorError> {
        self.anchor.current()
    }

    fn advance(&self, from: Option<Head>, to: Head) -> Result<(), AnchorError> {
        let lost = || Err(AnchorError::Unreachable("lost".into()));
        match self.loses.load(Ordering::Relaxed) {
            1 => lost(),
            2 => self.anchor.advance(from, to).and_then(|()| lost()),
            _ => self.anchor.advance(from, to),
        }
    }
}

#[test]
fn a_commit_whose_request_or_answer_was_lost_is_made_once() {
    for loses in [1, 2] {
        let (disk, anchor) = (Disk::default(), Flaky::default());
        let volume = Volume::open(disk.clone(), &key(), anchor.clone(), &Options::default()).unwrap();
        let file = volume.create(ROOT, "f", Kind::File, NOW).unwrap();
        anchor.loses.store(loses, Ordering::Relaxed);
        let before = volume.head();
        for byte in 0..3 {
            volume.write_at(file, 0, &[byte; 10], NOW).unwrap();
            assert!(matches!(volume.commit(), Err(Error::AnchorUnreachable(_))) || loses == 2);
            // Whoever opens a copy now finds what was committed, or that and this.
            let copy = open(&Disk::of(disk.image()), &MemoryAnchor::new(anchor.anchor.head())).unwrap();
            assert!(content(&copy).unwrap().len() <= 1);
        }
        anchor.loses.store(0, Ordering::Relaxed);
        volume.commit().unwrap();
        assert!(volume.head().sequence > before.sequence);
        assert_eq!(anchor.anchor.head(), Some(volume.head()));
        let now = content(&volume).unwrap();
        drop(volume);
        assert!(content(&open(&disk, &anchor.anchor).unwrap()).unwrap() == now);
    }
}

/// S-16: of two Keeps that have one volume, the one that opened it last writes on; the other stops.
#[test]
fn s16_of_two_keeps_one_writes() {
    let (disk, anchor) = (Disk::default(), MemoryAnchor::default());
    let first = open(&disk, &anchor).unwrap();
    first.create(ROOT, "first", Kind::File, NOW).unwrap();
    first.commit().unwrap();
    let second = open(&disk, &anchor).unwrap();
    first.create(ROOT, "lost", Kind::File, NOW).unwrap();
    assert_eq!(first.commit(), Err(Error::Superseded));
    assert_eq!(first.create(ROOT, "more", Kind::File, NOW), Err(Error::Superseded));
    assert_eq!(first.commit(), Err(Error::Superseded));
    second.create(ROOT, "second", Kind::File, NOW).unwrap();
    second.commit().unwrap();
    drop((first, second));
    let names: Vec<_> = content(&open(&disk, &anchor).unwrap()).unwrap().into_keys().collect();
    assert_eq!(names, ["first", "second"]);
}

/// S-16: two copies of one state, each with a Keep: one of them can commit.
#[test]
fn s16_of_two_copies_one_goes_on() {
    let (disk, anchor) = (Disk::default(), MemoryAnchor::default());
    let volume = open(&disk, &anchor).unwrap();
    let copy = Disk::of(disk.image());
    drop(volume);
    let here = open(&disk, &anchor).unwrap();
    here.create(ROOT, "here", Kind::File, NOW).unwrap();
    here.commit().unwrap();
    let error = open(&copy, &anchor).unwrap_err();
    assert_eq!(error.code(), "VOLUME_ROLLED_BACK");
}

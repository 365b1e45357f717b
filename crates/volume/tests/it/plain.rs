//! A host that does what it is told.

use proptest::prelude::*;
use volume::{
    Error, Folder, Kind, MAX_SIZE, MemoryAnchor, Options, Time, Volume, VolumeKey,
    tree::{ROOT, TreeError},
};

use crate::{
    disk::Disk,
    model::{self, Model, Step},
};

pub const NOW: Time = Time(1);

pub fn key() -> VolumeKey {
    VolumeKey::new([7; 32])
}

pub fn open(disk: &Disk, anchor: &MemoryAnchor) -> Result<Volume, Error> {
    Volume::open(disk.clone(), &key(), anchor.clone(), &Options::default())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, ..ProptestConfig::default() })]

    /// Whatever a program does, a volume is what a map would be; opened again, it is as after its last commit.
    #[test]
    fn a_volume_is_a_map_of_paths(steps in proptest::collection::vec(model::step(), 1..60)) {
        let (disk, anchor) = (Disk::default(), MemoryAnchor::default());
        let mut volume = open(&disk, &anchor).unwrap();
        let (mut now, mut kept) = (Model::new(), Model::new());
        for step in &steps {
            if let Step::Reopen = step {
                drop(volume);
                volume = open(&disk, &anchor).unwrap();
                now = kept.clone();
            }
            model::act(&volume, &mut now, step).unwrap();
            if let Step::Commit = step {
                kept = now.clone();
            }
        }
        prop_assert!(model::content(&volume).unwrap() == now);
        let content: usize = now.values().flatten().map(Vec::len).sum();
        prop_assert!(volume.used() <= content as u64, "zeros that were never written take no room");
        drop(volume);
        prop_assert!(model::content(&open(&disk, &anchor).unwrap()).unwrap() == kept);
    }
}

#[test]
fn a_volume_moves_to_another_folder_with_its_key() {
    let folders = [tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap()];
    let anchor = MemoryAnchor::default();
    let volume =
        Volume::open(Folder::new(folders[0].path()), &key(), anchor.clone(), &Options::default()).unwrap();
    let file = volume.create(ROOT, "f", Kind::File, NOW).unwrap();
    volume.write_at(file, 100_000, b"far", NOW).unwrap();
    volume.commit().unwrap();
    drop(volume);
    for entry in std::fs::read_dir(folders[0].path()).unwrap() {
        let entry = entry.unwrap();
        std::fs::copy(entry.path(), folders[1].path().join(entry.file_name())).unwrap();
    }
    let volume = Volume::open(Folder::new(folders[1].path()), &key(), anchor, &Options::default()).unwrap();
    assert_eq!(volume.stat(volume.lookup(ROOT, "f").unwrap()).unwrap().size, 100_003);
}

#[test]
fn one_keep_of_a_host_has_a_folder_open() {
    let folder = tempfile::tempdir().unwrap();
    let open =
        || Volume::open(Folder::new(folder.path()), &key(), MemoryAnchor::default(), &Options::default());
    let first = open().unwrap();
    assert_eq!(open().unwrap_err(), Error::InUse);
    drop(first);
    assert_ne!(open().err(), Some(Error::InUse));
}

#[test]
fn a_volume_has_its_size_and_no_more() {
    let (disk, anchor) = (Disk::default(), MemoryAnchor::default());
    let options = Options { size: 100_000, read_only: false };
    let volume = Volume::open(disk.clone(), &key(), anchor.clone(), &options).unwrap();
    let file = volume.create(ROOT, "f", Kind::File, NOW).unwrap();
    volume.write_at(file, 0, &[1; 90_000], NOW).unwrap();
    assert_eq!(volume.append(file, &[2; 10_001], NOW), Err(Error::NoSpace));
    assert_eq!(volume.stat(file).unwrap().size, 90_000, "nothing of it was written");
    volume.append(file, &[2; 10_000], NOW).unwrap();
    volume.write_at(file, 0, &[3; 100_000], NOW).unwrap();
    volume.commit().unwrap();
    volume.set_size(file, 1 << 40, NOW).unwrap();
    assert_eq!(volume.write_at(file, 1 << 39, b"x", NOW), Err(Error::NoSpace));
    assert_eq!(volume.set_size(file, u64::MAX, NOW), Err(Error::TooLarge));
    volume.unlink(ROOT, "f", NOW).unwrap();
    assert_eq!(volume.used(), 0);
    let too_large = Options { size: MAX_SIZE + 1, read_only: false };
    let refused = Volume::open(Disk::default(), &key(), MemoryAnchor::default(), &too_large);
    assert_eq!(refused.unwrap_err(), Error::SizeUnsupported);
}

#[test]
fn a_volume_that_is_read_only_writes_nothing_and_moves_no_anchor() {
    let (disk, anchor) = (Disk::default(), MemoryAnchor::default());
    let options = Options { read_only: true, ..Options::default() };
    let read_only = || Volume::open(disk.clone(), &key(), anchor.clone(), &options);
    assert_eq!(read_only().unwrap_err(), Error::Missing);
    let volume = open(&disk, &anchor).unwrap();
    volume.create(ROOT, "f", Kind::File, NOW).unwrap();
    volume.commit().unwrap();
    drop(volume);
    let (image, head) = (disk.image(), anchor.head());
    let volume = read_only().unwrap();
    let file = volume.lookup(ROOT, "f").unwrap();
    assert_eq!(volume.write_at(file, 0, b"x", NOW), Err(Error::ReadOnly));
    assert_eq!(volume.create(ROOT, "g", Kind::File, NOW), Err(Error::ReadOnly));
    assert_eq!(volume.unlink(ROOT, "f", NOW), Err(Error::ReadOnly));
    assert_eq!(volume.commit(), Ok(()));
    assert!(disk.image() == image && anchor.head() == head);
}

#[test]
fn a_file_that_is_held_outlives_its_name_but_not_the_keep() {
    let (disk, anchor) = (Disk::default(), MemoryAnchor::default());
    let volume = open(&disk, &anchor).unwrap();
    let file = volume.create(ROOT, "f", Kind::File, NOW).unwrap();
    volume.hold(file).unwrap();
    volume.write_at(file, 0, &[1; 70_000], NOW).unwrap();
    volume.commit().unwrap();
    volume.unlink(ROOT, "f", NOW).unwrap();
    volume.write_at(file, 70_000, b"more", NOW).unwrap();
    volume.commit().unwrap();
    assert_eq!(volume.read_at(file, 69_999, &mut [0; 10]).unwrap(), 5);
    drop(volume);
    let volume = open(&disk, &anchor).unwrap();
    assert_eq!((volume.used(), volume.stat(file)), (0, Err(TreeError::Absent.into())));
}

/// Logs are rewritten when they outgrow what they describe, and places are used again.
#[test]
fn writing_the_same_file_again_and_again_does_not_fill_the_disk() {
    let (disk, anchor) = (Disk::default(), MemoryAnchor::default());
    let volume = open(&disk, &anchor).unwrap();
    let file = volume.create(ROOT, "f", Kind::File, NOW).unwrap();
    for round in 0..9000_u32 {
        volume.write_at(file, 0, &round.to_le_bytes(), NOW).unwrap();
        volume.commit().unwrap();
    }
    let sizes: Vec<usize> = disk.image().values().map(Vec::len).collect();
    assert!(sizes.iter().sum::<usize>() < 4 << 20, "{sizes:?}");
    drop(volume);
    let volume = open(&disk, &anchor).unwrap();
    let mut last = [0; 4];
    volume.read_at(file, 0, &mut last).unwrap();
    assert_eq!(u32::from_le_bytes(last), 8999);
}

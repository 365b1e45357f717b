//! What a host does to files that it was given to keep; each of them is refused before anything is used.

use sealed_log::{Ahead, Anchored, Error, LogKey, read};
use volume::MemoryAnchor;

use crate::{
    disk::{Disk, Image},
    plain::{commit, open, read_all, written},
};

fn refused(image: Image, anchor: &MemoryAnchor) -> Error {
    read_all(&Disk::of(image), anchor.head().into(), Ahead::One).map(drop).expect_err("refused")
}

/// The log's files, in order.
fn logs(image: &Image) -> Vec<String> {
    image.keys().filter(|name| name.starts_with("log-")).cloned().collect()
}

/// Lengths of the records of a file, with their frames, from byte 132 on.
fn records(file: &[u8]) -> Vec<std::ops::Range<usize>> {
    let (mut at, mut records) = (132, Vec::new());
    while let Some(frame) = file.get(at..at + 4).filter(|frame| **frame != [0; 4]) {
        let end = at + 4 + u32::from_le_bytes(frame.try_into().unwrap()) as usize;
        records.push(at..end);
        at = end;
    }
    records
}

#[test]
fn s26_a_flipped_bit_anywhere_is_found() {
    let (disk, anchor) = written(7);
    let image = disk.image();
    for name in logs(&image) {
        let end = records(&image[&name]).last().map_or(132, |record| record.end);
        for byte in 0..end {
            let mut image = image.clone();
            image.get_mut(&name).unwrap()[byte] ^= 1 << (byte % 8);
            let error = refused(image, &anchor);
            let named = matches!(
                error,
                Error::Tampered(_)
                    | Error::Cut(_)
                    | Error::Swapped
                    | Error::FormatUnknown(_)
                    | Error::RolledBack { .. }
            );
            assert!(named, "{name} {byte}: {error}");
        }
    }
}

#[test]
fn s26_two_records_that_are_swapped_are_found() {
    let (disk, anchor) = written(4);
    let image = disk.image();
    let name = &logs(&image)[0];
    let file = &image[name];
    let places = records(file);
    assert!(places.len() >= 3);
    let mut swapped = file[..132].to_vec();
    for index in [1, 0] {
        swapped.extend(&file[places[index].clone()]);
    }
    swapped.extend(&file[places[1].end..]);
    assert_eq!(swapped.len(), file.len());
    assert_eq!(
        refused([image.clone(), [(name.clone(), swapped)].into()].into_iter().flatten().collect(), &anchor),
        Error::Tampered(1)
    );
}

#[test]
fn s26_a_record_of_another_file_in_the_same_place_is_found() {
    // Two instances went on from one state; the record of one is put into the file of the other.
    let (disk, anchor) = written(1);
    let fork = Disk::of(disk.image());
    let other = MemoryAnchor::new(anchor.head());
    commit(&mut open(&disk, &anchor).unwrap().1, b"now").unwrap();
    commit(&mut open(&fork, &other).unwrap().1, b"old").unwrap();
    let (mut image, fork) = (disk.image(), fork.image());
    let name = logs(&image)[1].clone();
    let record = fork[&name][132..].to_vec();
    image.get_mut(&name).unwrap().splice(132.., record);
    assert_eq!(refused(image.clone(), &anchor), Error::Tampered(2));
    // And the whole file.
    image.insert(name.clone(), fork[&name].clone());
    assert_eq!(refused(image, &anchor), Error::Forked(2));
}

#[test]
fn s16_one_old_file_put_back_is_found() {
    let (disk, anchor) = written(2);
    let old = disk.image();
    let (_, mut writer) = open(&disk, &anchor).unwrap();
    for number in 0..9 {
        commit(&mut writer, &[number; 40]).unwrap();
    }
    drop(writer);
    let mut image = disk.image();
    for name in logs(&old) {
        let mut cut = old[&name].clone();
        cut.truncate(records(&cut).first().map_or(132, |record| record.end));
        image.insert(name, cut);
    }
    assert!(matches!(refused(image, &anchor), Error::Cut(_) | Error::Tampered(_) | Error::RolledBack { .. }));
}

#[test]
fn s16_a_whole_old_copy_is_found() {
    let (disk, anchor) = written(2);
    let old = disk.image();
    commit(&mut open(&disk, &anchor).unwrap().1, b"revoked").unwrap();
    assert_eq!(refused(old, &anchor), Error::RolledBack { found: 2, anchored: 3 });
}

#[test]
fn s16_the_last_record_cut_off_is_found() {
    let (disk, anchor) = written(2);
    let image = disk.image();
    let name = logs(&image).pop().unwrap();
    let place = records(&image[&name]).pop().unwrap();
    for length in place.clone() {
        let mut image = image.clone();
        image.get_mut(&name).unwrap().truncate(length);
        let error = refused(image, &anchor);
        if length == place.start {
            assert_eq!(error, Error::RolledBack { found: 1, anchored: 2 });
        } else {
            assert_eq!(error, Error::Cut(2));
        }
    }
}

#[test]
fn s26_a_missing_file_is_found() {
    let (disk, anchor) = written(11);
    let image = disk.image();
    let names = logs(&image);
    assert!(names.len() >= 4);
    for name in &names {
        let mut image = image.clone();
        image.remove(name);
        refused(image, &anchor);
    }
    assert_eq!(refused(Image::new(), &anchor), Error::Missing);
}

#[test]
fn s26_another_log_and_a_renamed_file_are_found() {
    let (disk, anchor) = written(2);
    let other = read(&disk, &LogKey::new([8; 32]), anchor.head().into(), Ahead::One, &mut |_, _| Ok(()));
    assert_eq!(other.err(), Some(Error::Swapped));
    let mut image = disk.image();
    let bytes = image.remove("log-0000000000000001").unwrap();
    image.insert("log-0000000000000002".into(), bytes);
    assert_eq!(refused(image, &anchor), Error::Renamed);
}

#[test]
fn s16_an_anchor_that_was_turned_back_or_forgot_is_found() {
    let (disk, anchor) = written(2);
    let old = MemoryAnchor::new(anchor.head());
    let (_, mut writer) = open(&disk, &anchor).unwrap();
    commit(&mut writer, b"3").unwrap();
    commit(&mut writer, b"4").unwrap();
    drop(writer);
    assert_eq!(refused(disk.image(), &old), Error::AheadOfAnchor { found: 4, anchored: 2 });
    assert_eq!(refused(disk.image(), &MemoryAnchor::default()), Error::Unanchored);
    assert!(read_all(&disk, Anchored::Unknown, Ahead::One).is_ok(), "unless nobody is asked");
}

#[test]
fn s60_equal_plaintexts_never_give_equal_ciphertexts() {
    let (disk, anchor) = written(1);
    let old = disk.image();
    commit(&mut open(&disk, &anchor).unwrap().1, &[9; 64]).unwrap();
    let again = Disk::of(old);
    let head = read_all(&again, Anchored::Unknown, Ahead::One).unwrap().1.head;
    commit(&mut open(&again, &MemoryAnchor::new(head)).unwrap().1, &[9; 64]).unwrap();
    let name = "log-0000000000000002";
    assert_ne!(disk.image()[name][132..], again.image()[name][132..]);
}

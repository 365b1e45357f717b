//! A host that alters, exchanges, cuts, renames and brings back.

use volume::{Error, Folder, Kind, MemoryAnchor, Options, Volume, VolumeKey, tree::ROOT};

use crate::{
    disk::{Disk, Image},
    model::{Model, content},
    plain::{NOW, key, open},
};

/// A volume with two files after some commits, and all states that it was in.
fn history() -> (Vec<(Image, MemoryAnchor)>, Model) {
    let (disk, anchor) = (Disk::default(), MemoryAnchor::default());
    let volume = open(&disk, &anchor).unwrap();
    let mut states = Vec::new();
    for (name, byte) in [("a", 1), ("b", 2)] {
        let file = volume.create(ROOT, name, Kind::File, NOW).unwrap();
        for round in 0..2 {
            volume.write_at(file, 0, &[byte + round; 200], NOW).unwrap();
            volume.commit().unwrap();
            states.push((disk.image(), MemoryAnchor::new(anchor.head())));
        }
    }
    (states, content(&volume).unwrap())
}

fn newest() -> (Image, MemoryAnchor, Model) {
    let (mut states, model) = history();
    let (image, anchor) = states.pop().unwrap();
    (image, anchor, model)
}

fn outcome(image: Image, anchor: &MemoryAnchor) -> Result<Model, Error> {
    open(&Disk::of(image), &MemoryAnchor::new(anchor.head())).and_then(|volume| content(&volume))
}

fn log_of(image: &Image) -> String {
    image.keys().find(|name| name.starts_with("log-")).unwrap().clone()
}

/// S-26: no byte of the host's files can be altered without that being found, unless it means nothing.
#[test]
fn s26_every_altered_byte_is_found() {
    let (image, anchor, model) = newest();
    let mut found = 0;
    for (name, bytes) in &image {
        for (at, byte) in bytes.iter().enumerate() {
            // The data file is sparse: what lies between chunks is read by nobody.
            if name == "data" && *byte == 0 && at % 7 != 0 {
                continue;
            }
            let mut altered = image.clone();
            altered.get_mut(name).unwrap()[at] ^= 1;
            match outcome(altered, &anchor) {
                Ok(content) => assert!(content == model, "{name} at {at}"),
                Err(error) => {
                    found += 1;
                    let codes = [
                        "VOLUME_TAMPERED",
                        "VOLUME_SWAPPED",
                        "VOLUME_FORMAT_UNKNOWN",
                        "VOLUME_RENAMED",
                        "VOLUME_TRUNCATED",
                        "VOLUME_AHEAD_OF_ANCHOR",
                    ];
                    assert!(codes.contains(&error.code()), "{name} at {at}: {error}");
                }
            }
        }
    }
    let log = image[&log_of(&image)].len();
    // Of the two files' 400 bytes, those that are encrypted to zero were passed over, about one of 256.
    assert!(found >= log + 380, "all of the log and of both files: {found} of {log}");
}

/// S-16: every older state is refused by the anchor of a newer one.
#[test]
fn s16_an_old_copy_is_refused() {
    let (states, _) = history();
    for (old, (image, _)) in states.iter().enumerate() {
        for (_, anchor) in &states[old + 1..] {
            let error = outcome(image.clone(), anchor).unwrap_err();
            assert_eq!(error.code(), "VOLUME_ROLLED_BACK", "{error}");
        }
    }
}

/// S-16: an anchor that was turned back (the coordinator's state restored from a copy) is no reason to lose commits.
#[test]
fn s16_an_anchor_that_was_turned_back_is_refused() {
    let (states, _) = history();
    let (image, _) = states.last().unwrap();
    for (_, anchor) in &states[..states.len() - 2] {
        assert_eq!(outcome(image.clone(), anchor).unwrap_err().code(), "VOLUME_AHEAD_OF_ANCHOR");
    }
    let never = MemoryAnchor::default();
    assert_eq!(outcome(image.clone(), &never).unwrap_err().code(), "VOLUME_UNANCHORED");
}

/// Old data under the new log, and the reverse.
#[test]
fn s16_files_of_different_times_are_refused() {
    let (states, model) = history();
    let (newest, anchor) = states.last().unwrap();
    for (image, _) in &states[..states.len() - 1] {
        let mut mixed = newest.clone();
        mixed.insert("data".into(), image["data"].clone());
        let found = outcome(mixed, anchor);
        assert!(
            found.as_ref().is_err_and(|error| matches!(error, Error::Tampered(_) | Error::Truncated(_)))
                || found == Ok(model.clone())
        );
        let mut mixed = image.clone();
        mixed.insert("data".into(), newest["data"].clone());
        assert_eq!(outcome(mixed, anchor).unwrap_err().code(), "VOLUME_ROLLED_BACK");
    }
}

#[test]
fn s26_a_file_that_was_cut_is_refused() {
    let (image, anchor, _) = newest();
    let log = log_of(&image);
    for length in 0..image[&log].len() {
        let mut cut = image.clone();
        cut.get_mut(&log).unwrap().truncate(length);
        let code = outcome(cut, &anchor).unwrap_err().code();
        // Cut between two records, a log is an older one.
        assert!(["VOLUME_TRUNCATED", "VOLUME_ROLLED_BACK"].contains(&code), "{length}: {code}");
    }
    let mut cut = image.clone();
    cut.get_mut("data").unwrap().truncate(100);
    assert_eq!(outcome(cut, &anchor).unwrap_err().code(), "VOLUME_TRUNCATED");
    let mut gone = image.clone();
    gone.remove("data");
    assert_eq!(outcome(gone, &anchor).unwrap_err().code(), "VOLUME_TRUNCATED");
    let mut gone = image;
    gone.remove(&log);
    assert_eq!(outcome(gone, &anchor).unwrap_err().code(), "VOLUME_MISSING");
}

#[test]
fn s26_a_volume_of_another_key_is_refused() {
    let (image, anchor, _) = newest();
    let other = VolumeKey::new([8; 32]);
    let disk = Disk::of(image);
    for anchor in [anchor, MemoryAnchor::default()] {
        let error = Volume::open(disk.clone(), &other, anchor, &Options::default()).unwrap_err();
        assert_eq!(error, Error::Swapped);
    }
}

#[test]
fn s26_chunks_that_were_exchanged_are_refused() {
    const CHUNK: usize = volume::CHUNK;
    let (disk, anchor) = (Disk::default(), MemoryAnchor::default());
    let volume = open(&disk, &anchor).unwrap();
    let file = volume.create(ROOT, "f", Kind::File, NOW).unwrap();
    volume.write_at(file, 0, &[5; 2 * CHUNK], NOW).unwrap();
    volume.commit().unwrap();
    let mut image = disk.image();
    let data = image.get_mut("data").unwrap();
    let (first, second) = data.split_at_mut(CHUNK);
    assert_ne!(first, second, "S-60: equal plaintexts, different ciphertexts");
    first.swap_with_slice(&mut second[..CHUNK]);
    assert_eq!(outcome(image, &anchor), Err(Error::Tampered("data")));
}

#[test]
fn s26_a_file_that_was_renamed_is_refused() {
    let (mut image, anchor, _) = newest();
    let log = log_of(&image);
    let bytes = image.remove(&log).unwrap();
    image.insert("log-00000000000000ff".into(), bytes);
    assert_eq!(outcome(image, &anchor), Err(Error::Renamed));
}

#[test]
fn a_host_cannot_make_us_read_without_end() {
    let (mut image, anchor, model) = newest();
    let log = log_of(&image);
    for number in 0..7 {
        image.insert(format!("log-{:016x}", number + 100), image[&log].clone());
    }
    assert_eq!(outcome(image.clone(), &anchor), Ok(model));
    image.insert("log-x".into(), Vec::new());
    assert_eq!(outcome(image, &anchor).unwrap_err().code(), "VOLUME_TAMPERED");
}

/// S-60: what is written twice looks different twice, in one place and over sessions.
#[test]
fn s60_equal_plaintexts_never_give_equal_ciphertexts() {
    let (disk, anchor) = (Disk::default(), MemoryAnchor::default());
    let mut seen = std::collections::BTreeSet::new();
    for _ in 0..4 {
        let volume = open(&disk, &anchor).unwrap();
        let file = volume.lookup(ROOT, "f").or_else(|_| volume.create(ROOT, "f", Kind::File, NOW)).unwrap();
        for _ in 0..4 {
            volume.write_at(file, 0, &[0; 64], NOW).unwrap();
            volume.commit().unwrap();
            for block in disk.image()["data"].chunks(16).filter(|block| block.iter().any(|byte| *byte != 0)) {
                seen.insert(block.to_vec());
            }
        }
    }
    assert_eq!(seen.len(), 16 * 4);
}

/// The host sees neither content nor names.
#[test]
fn a_canary_is_nowhere_on_the_hosts_disk() {
    let folder = tempfile::tempdir().unwrap();
    let volume =
        Volume::open(Folder::new(folder.path()), &key(), MemoryAnchor::default(), &Options::default())
            .unwrap();
    let file = volume.create(ROOT, "canary-name", Kind::File, NOW).unwrap();
    volume.write_at(file, 0, b"canary-content", NOW).unwrap();
    volume.commit().unwrap();
    let mut files = 0;
    for entry in std::fs::read_dir(folder.path()).unwrap() {
        let bytes = std::fs::read(entry.unwrap().path()).unwrap();
        assert!(!bytes.windows(6).any(|window| window == b"canary"));
        files += 1;
    }
    assert_eq!(files, 3, "log, data, lock");
}

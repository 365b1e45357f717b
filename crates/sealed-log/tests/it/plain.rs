//! Writing and reading, and what the tests share.

use sealed_log::{
    Ahead, Anchored, Contents, Cursor, Entry, Error, Held, Kind, LogKey, Options, Step, Tail, Writer, read,
};
use volume::{Anchor, Head, MemoryAnchor};

use crate::disk::Disk;

pub const KIND: Kind = Kind(3);

pub fn key() -> LogKey {
    LogKey::new([7; 32])
}

/// All entries, and the contents.
pub fn read_all(disk: &Disk, anchored: Anchored, ahead: Ahead) -> Result<(Vec<Vec<u8>>, Contents), Error> {
    let mut entries = Vec::new();
    let contents = read(disk, &key(), anchored, ahead, &mut |_, entry| {
        entries.push(entry.bytes.to_vec());
        Ok(())
    })?;
    Ok((entries, contents))
}

/// As an instance begins: what was there, and who goes on with it.
pub fn open(disk: &Disk, anchor: &MemoryAnchor) -> Result<(Vec<Vec<u8>>, Writer), Error> {
    let (entries, contents) = read_all(disk, anchor.head().into(), Ahead::One)?;
    let entries = if anchor.head().is_none() { Vec::new() } else { entries };
    let mark = entries.len() as u64;
    let options = Options { file_size: 300, reserve: 100, keep: 0 };
    let disk = Box::new(disk.clone());
    Ok((entries, Writer::begin(disk, &key(), contents, Box::new(anchor.clone()), mark, options)?))
}

/// One record, anchored.
pub fn commit(writer: &mut Writer, bytes: &[u8]) -> Result<Head, Error> {
    let head = writer.append(&[Entry { kind: KIND, bytes }])?;
    writer.anchor()?;
    if writer.is_full() {
        writer.rotate(head.sequence)?;
    }
    Ok(head)
}

/// A log of `count` records, of several files.
pub fn written(count: u8) -> (Disk, MemoryAnchor) {
    let (disk, anchor) = (Disk::default(), MemoryAnchor::default());
    let (_, mut writer) = open(&disk, &anchor).unwrap();
    for number in 0..count {
        commit(&mut writer, &[number; 40]).unwrap();
    }
    (disk, anchor)
}

#[test]
fn what_was_written_is_read_over_files_and_instances() {
    let (disk, anchor) = written(9);
    let (entries, mut writer) = open(&disk, &anchor).unwrap();
    assert_eq!(entries, (0..9).map(|number| vec![number; 40]).collect::<Vec<_>>());
    commit(&mut writer, b"more").unwrap();
    drop(writer);
    let (entries, contents) = read_all(&disk, anchor.head().into(), Ahead::One).unwrap();
    assert_eq!((entries.len(), entries[9].as_slice()), (10, &b"more"[..]));
    assert_eq!(contents.head, anchor.head());
    assert!(disk.image().len() > 3, "several files");
}

#[test]
fn a_checkpoint_cuts_what_is_before_it_and_nothing_that_is_needed() {
    let (disk, anchor) = written(9);
    let (_, mut writer) = open(&disk, &anchor).unwrap();
    let before = disk.image().len();
    let head = commit(&mut writer, b"base").unwrap();
    commit(&mut writer, b"after").unwrap();
    assert!(writer.checkpoint(9, head.sequence, 11).unwrap());
    assert!(disk.image().len() < before);
    commit(&mut writer, b"later").unwrap();
    drop(writer);
    let (entries, contents) = read_all(&disk, anchor.head().into(), Ahead::One).unwrap();
    assert_eq!(entries, [&b"base"[..], b"after", b"later"]);
    assert_eq!(contents.files[0].mark, 9);
    assert_eq!(contents.heads.holds(head), Held::Contained);
    assert_eq!(contents.heads.holds(Head { hash: [0; 32], ..head }), Held::Contradicted);
    assert_eq!(contents.heads.holds(Head { sequence: 1, ..head }), Held::Forgotten);
    assert_eq!(contents.heads.holds(Head { sequence: 99, ..head }), Held::Contradicted);
}

#[test]
fn nothing_is_cut_where_no_file_holds_what_is_needed() {
    let (disk, anchor) = written(9);
    let (_, mut writer) = open(&disk, &anchor).unwrap();
    let head = commit(&mut writer, b"base").unwrap();
    assert!(writer.checkpoint(8, head.sequence, 11).unwrap(), "an older file has the mark 8 or less");
    commit(&mut writer, b"more").unwrap();
    assert!(!writer.checkpoint(0, head.sequence, 11).unwrap());
    drop(writer);
    assert!(read_all(&disk, anchor.head().into(), Ahead::One).unwrap().0.contains(&b"base".to_vec()));
}

#[test]
fn a_record_that_was_not_anchored_is_gone_on_with_and_two_are_not_where_each_is() {
    let (disk, anchor) = written(2);
    let (_, mut writer) = open(&disk, &anchor).unwrap();
    writer.append(&[Entry { kind: KIND, bytes: b"unanchored" }]).unwrap();
    let one = disk.image();
    writer.append(&[Entry { kind: KIND, bytes: b"another" }]).unwrap();
    drop(writer);
    let two = read_all(&disk, anchor.head().into(), Ahead::One).map(drop);
    assert_eq!(two, Err(Error::AheadOfAnchor { found: 4, anchored: 2 }));
    assert_eq!(read_all(&disk, anchor.head().into(), Ahead::Any).unwrap().0.len(), 4);
    let disk = Disk::of(one);
    let (entries, writer) = open(&disk, &anchor).unwrap();
    assert_eq!(entries.len(), 3);
    assert_eq!(anchor.head(), writer.head(), "it is anchored before anything is served");
}

#[test]
fn a_writer_ends_at_its_first_failure() {
    let (disk, anchor) = written(2);
    let (_, mut writer) = open(&disk, &anchor).unwrap();
    disk.set_capacity(Some(140));
    assert_eq!(commit(&mut writer, &[1; 100]), Err(Error::HostFull));
    disk.set_capacity(None);
    assert_eq!(commit(&mut writer, b"x"), Err(Error::Ended));
    drop(writer);
    let (entries, mut writer) = open(&disk, &anchor).unwrap();
    assert_eq!(entries.len(), 2);
    commit(&mut writer, b"room again").unwrap();
}

#[test]
fn records_have_a_size() {
    let (disk, anchor) = written(1);
    let (_, mut writer) = open(&disk, &anchor).unwrap();
    let bytes = vec![0; sealed_log::MAX_RECORD];
    assert_eq!(writer.append(&[Entry { kind: KIND, bytes: &bytes }]), Err(Error::TooLarge));
    assert_eq!(writer.append(&[]), Err(Error::TooLarge));
    writer.append(&[Entry { kind: KIND, bytes: &bytes[5..] }]).unwrap();
}

#[test]
fn a_second_writer_takes_over_and_the_first_ends() {
    let (disk, anchor) = written(1);
    let (_, mut first) = open(&disk, &anchor).unwrap();
    let other = Disk::of(disk.image());
    let (_, mut second) = open(&other, &anchor).unwrap();
    commit(&mut second, b"second").unwrap();
    assert_eq!(commit(&mut first, b"first"), Err(Error::Superseded));
    assert_eq!(commit(&mut first, b"first"), Err(Error::Ended));
    drop(first);
    assert_eq!(open(&disk, &anchor).err(), Some(Error::Forked(2)));
}

#[test]
fn a_log_that_another_instance_has_open_is_left_alone() {
    let folder = tempfile::tempdir().unwrap();
    let host = || volume::Folder::new(folder.path());
    let contents = read(&host(), &key(), Anchored::Never, Ahead::One, &mut |_, _| Ok(())).unwrap();
    let again = read(&host(), &key(), Anchored::Never, Ahead::One, &mut |_, _| Ok(()));
    assert_eq!(again.err(), Some(Error::InUse));
    drop(contents);
}

#[test]
fn a_reader_follows_what_is_written() {
    let (disk, anchor) = written(1);
    let (_, mut writer) = open(&disk, &anchor).unwrap();
    let mut cursor = Cursor::open(&disk, &key()).unwrap();
    let mut seen = 0;
    for number in 0..9 {
        commit(&mut writer, &[number; 90]).unwrap();
        cursor.refresh(&disk).unwrap();
        while let Step::Record(head, plain) = cursor.next(&disk).unwrap() {
            seen += 1;
            assert_eq!((head.sequence, plain.entries().count()), (seen, 1));
        }
        assert_eq!(cursor.head(), writer.head());
    }
    assert!(matches!(cursor.next(&disk), Ok(Step::End(Tail::Whole))));
}

#[test]
fn an_anchor_that_stands_elsewhere_is_not_moved() {
    let anchor = MemoryAnchor::default();
    let head = |sequence| Head { sequence, hash: [1; 32] };
    anchor.advance(None, head(1)).unwrap();
    assert!(anchor.advance(None, head(2)).is_err());
}

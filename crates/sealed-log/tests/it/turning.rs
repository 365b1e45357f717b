//! Beyond a checkpoint: heads that were kept before it, and a key that takes the place of another.

use sealed_log::{
    Ahead, Anchored, Contents, Cursor, Entry, Error, Held, LogKey, Options, Step, Writer, bases, number, read,
};
use volume::{Head, Host, MemoryAnchor};

use crate::{
    disk::Disk,
    plain::{KIND, commit, key, written},
};

fn next() -> LogKey {
    LogKey::new([8; 32])
}

fn found(disk: &Disk, key: &LogKey, anchor: &MemoryAnchor) -> Result<(Vec<Vec<u8>>, Contents), Error> {
    let mut entries = Vec::new();
    let contents = read(disk, key, Anchored::from(anchor.head()), Ahead::One, &mut |_, entry| {
        entries.push(entry.bytes.to_vec());
        Ok(())
    })?;
    Ok((entries, contents))
}

fn resumed(disk: &Disk, key: &LogKey, anchor: &MemoryAnchor) -> (Writer, sealed_log::Heads) {
    keeping(disk, key, anchor, 0)
}

fn keeping(disk: &Disk, key: &LogKey, anchor: &MemoryAnchor, keep: u64) -> (Writer, sealed_log::Heads) {
    let (entries, contents) = found(disk, key, anchor).unwrap();
    let heads = contents.heads.clone();
    let options = Options { file_size: 300, reserve: 100, keep };
    let (disk, anchor) = (Box::new(disk.clone()), Box::new(anchor.clone()));
    (Writer::begin(disk, key, contents, anchor, entries.len() as u64, options).unwrap(), heads)
}

/// A head of each record, as clients would have kept them.
fn kept(disk: &Disk, anchor: &MemoryAnchor) -> Vec<Head> {
    let mut heads: Vec<Head> = Vec::new();
    read(disk, &key(), Anchored::from(anchor.head()), Ahead::One, &mut |head, _| {
        heads.push(head);
        Ok(())
    })
    .unwrap();
    heads
}

fn asked(disk: &Disk, heads: &sealed_log::Heads, head: Head) -> Held {
    match (heads.holds(head), heads.batch(head.sequence)) {
        (Held::Forgotten, Some(batch)) => batch.holds(disk, head),
        (held, _) => held,
    }
}

#[test]
fn heads_of_before_a_checkpoint_are_known_after_it_and_after_every_start() {
    let (disk, anchor) = written(9);
    let all = kept(&disk, &anchor);
    let (mut writer, mut heads) = resumed(&disk, &key(), &anchor);
    for round in 0..3_u64 {
        let head = commit(&mut writer, b"base").unwrap();
        heads.push(head);
        writer.rotate(20 + round).unwrap();
        let more = commit(&mut writer, b"more").unwrap();
        heads.push(more);
        writer.remember(20 + round, more.sequence, &mut heads).unwrap();
        writer.anchor().unwrap();
        assert!(writer.checkpoint(20 + round, more.sequence, 30).unwrap());
        heads.forget_before(writer.base());
        drop(writer);
        // What the log made for itself is shown to nobody.
        let (entries, _) = found(&disk, &key(), &anchor).unwrap();
        assert_eq!(entries, [&b"more"[..]]);
        (writer, heads) = resumed(&disk, &key(), &anchor);
        for head in all.iter().copied().chain([head, more]) {
            assert_eq!(asked(&disk, &heads, head), Held::Contained, "{head}");
            assert_eq!(asked(&disk, &heads, Head { hash: [0; 32], ..head }), Held::Contradicted);
        }
    }
    // A file of the host that is altered or gone answers nothing, and nothing wrong.
    let name = disk.image().keys().find(|name| name.starts_with("heads-")).unwrap().clone();
    let mut image = disk.image();
    image.get_mut(&name).unwrap()[3] ^= 1;
    assert_eq!(asked(&Disk::of(image), &heads, all[0]), Held::Forgotten);
    disk.remove(&name).unwrap();
    assert_eq!(asked(&disk, &heads, all[0]), Held::Forgotten);
}

#[test]
fn a_key_takes_the_place_of_another_and_at_every_step_the_log_opens() {
    let (disk, anchor) = written(9);
    let both = next().after(key());
    let opens = |with: &LogKey| found(&Disk::of(disk.image()), with, &anchor).map(|found| found.0.len());
    assert_eq!((opens(&key()), opens(&both)), (Ok(9), Ok(9)), "before anything was written");
    let (mut writer, mut heads) = resumed(&disk, &key(), &anchor);
    let first = writer.rekey(&both, 9).unwrap();
    assert_eq!((opens(&both), first), (Ok(9), 10), "a file without a record");
    let base = commit(&mut writer, b"base").unwrap();
    heads.push(base);
    assert_eq!(opens(&both), Ok(10));
    assert_eq!((opens(&key()), opens(&next())), (Err(Error::Swapped), Err(Error::Swapped)));
    drop(writer);
    let (mut writer, mut heads) = resumed(&disk, &both, &anchor);
    heads.push(commit(&mut writer, b"after a start in between").unwrap());
    writer.remember(9, base.sequence, &mut heads).unwrap();
    writer.anchor().unwrap();
    assert!(writer.checkpoint(9, base.sequence, 12).unwrap());
    assert!(writer.base() >= first);
    drop(writer);
    assert_eq!(opens(&both), Ok(2));
    assert_eq!(opens(&next()), Ok(2), "the key before is needed for nothing");
    assert_eq!(opens(&key()), Err(Error::Swapped));
    let (mut writer, _) = resumed(&disk, &both.alone(), &anchor);
    commit(&mut writer, b"on").unwrap();
    assert_eq!(opens(&next()), Ok(3));
}

#[test]
fn what_whoever_has_the_key_before_writes_behind_the_new_one_is_refused() {
    let (disk, anchor) = written(3);
    let both = next().after(key());
    let (mut writer, _) = resumed(&disk, &key(), &anchor);
    writer.rekey(&both, 3).unwrap();
    commit(&mut writer, b"new").unwrap();
    // The old key once more, bound to the last record as it should be.
    writer.rekey(&key(), 4).unwrap();
    writer.append(&[Entry { kind: KIND, bytes: b"forged" }]).unwrap();
    drop(writer);
    assert_eq!(found(&disk, &both, &anchor).map(|found| found.0), Err(Error::Swapped));
}

/// Numbers of the log's files.
fn numbers(disk: &Disk) -> Vec<u64> {
    disk.image().keys().filter_map(|name| number(name)).collect()
}

#[test]
fn files_before_a_base_stay_as_far_as_they_are_to_be_kept_and_the_log_is_read_from_there() {
    let (disk, anchor) = written(9);
    let mut known = vec![1];
    for round in 0..3_u64 {
        let (mut writer, mut heads) = keeping(&disk, &key(), &anchor, 1 << 20);
        heads.push(commit(&mut writer, b"base").unwrap());
        writer.rotate(20 + round).unwrap();
        let more = commit(&mut writer, b"more").unwrap();
        heads.push(more);
        writer.remember(20 + round, more.sequence, &mut heads).unwrap();
        writer.anchor().unwrap();
        assert!(writer.checkpoint(20 + round, more.sequence, 30).unwrap());
        known.push(writer.base());
    }
    assert_eq!(found(&disk, &key(), &anchor).unwrap().0, [&b"more"[..]], "who goes on begins at the base");
    assert_eq!(bases(&disk, &key()), Ok(known.clone()));
    for base in &known {
        let mut cursor = Cursor::open_at(&disk, &key(), *base).unwrap();
        let mut records = base - 1;
        while let Step::Record(..) = cursor.next(&disk).unwrap() {
            records += 1;
        }
        let head = anchor.head().unwrap();
        assert_eq!((records, cursor.holds(head)), (head.sequence, Held::Contained), "all from {base} on");
    }
    // However little is to be kept, it can be read: from the base that it was written behind.
    drop(keeping(&disk, &key(), &anchor, 1));
    assert_eq!(bases(&disk, &key()), Ok(known[2..].to_vec()));
    assert_eq!(numbers(&disk).first(), Some(&known[2]));
    drop(keeping(&disk, &key(), &anchor, 0));
    assert_eq!(bases(&disk, &key()), Ok(known[3..].to_vec()));
    assert_eq!(found(&disk, &key(), &anchor).unwrap().0, [&b"more"[..]]);
}

#[test]
fn s46_nothing_of_a_key_before_is_kept() {
    let (disk, anchor) = written(9);
    let both = next().after(key());
    let (mut writer, mut heads) = keeping(&disk, &key(), &anchor, 1 << 20);
    let first = writer.rekey(&both, 20).unwrap();
    let base = commit(&mut writer, b"base").unwrap();
    heads.push(base);
    writer.remember(20, base.sequence, &mut heads).unwrap();
    writer.anchor().unwrap();
    assert!(writer.checkpoint(20, base.sequence, 30).unwrap());
    assert_eq!(numbers(&disk).first(), Some(&first));
    assert_eq!(bases(&disk, &next()), Ok(vec![first]));
}

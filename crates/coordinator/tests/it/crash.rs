//! The log on a disk that dies at every single write: what was acknowledged is there, snapshot or not.

use std::{
    io,
    sync::{Arc, Mutex},
};

use coordinator::store::{Opened, Opening, Shares, Store, StoreError};
use evidence::Platform;
use redb::StorageBackend;
use testkit::tee::EmulatedTee;
use zeroize::Zeroizing;

#[derive(Debug, Clone)]
enum Write {
    Length(u64),
    Bytes(u64, Vec<u8>),
    Sync,
}

/// Memory that remembers what was written in which order.
#[derive(Debug, Clone, Default)]
struct Disk {
    image: Arc<Mutex<Vec<u8>>>,
    writes: Arc<Mutex<Vec<Write>>>,
}

impl Disk {
    /// After these writes and no others.
    fn after(writes: &[Write]) -> Self {
        let disk = Self::default();
        writes.iter().for_each(|write| match write {
            Write::Length(length) => disk.set_len(*length).unwrap(),
            Write::Bytes(at, bytes) => disk.write(*at, bytes).unwrap(),
            Write::Sync => {}
        });
        disk
    }
}

impl StorageBackend for Disk {
    fn len(&self) -> io::Result<u64> {
        Ok(self.image.lock().unwrap().len() as u64)
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        let image = self.image.lock().unwrap();
        let start = offset as usize;
        let bytes = image.get(start..start + out.len()).ok_or(io::ErrorKind::UnexpectedEof)?;
        out.copy_from_slice(bytes);
        Ok(())
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.writes.lock().unwrap().push(Write::Length(len));
        self.image.lock().unwrap().resize(len as usize, 0);
        Ok(())
    }

    fn sync_data(&self) -> io::Result<()> {
        self.writes.lock().unwrap().push(Write::Sync);
        Ok(())
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        self.writes.lock().unwrap().push(Write::Bytes(offset, data.to_vec()));
        let mut image = self.image.lock().unwrap();
        let (start, end) = (offset as usize, offset as usize + data.len());
        if image.len() < end {
            image.resize(end, 0);
        }
        image[start..end].copy_from_slice(data);
        Ok(())
    }
}

fn record(index: u64) -> Zeroizing<Vec<u8>> {
    Zeroizing::new(format!("record {index}").into_bytes())
}

fn state(length: u64) -> Vec<u8> {
    format!("the state after {length} records").into_bytes()
}

fn open(disk: Disk) -> Result<Opened, StoreError> {
    let tee = EmulatedTee::launch(Platform::Tdx, b"crash", b"");
    match Store::open_on(disk, &*tee)? {
        Opening::Open(opened) => Ok(opened),
        Opening::Locked(_) => Err(StoreError::Unseal),
    }
}

/// How long the log is that is there; it is whole.
fn whole(disk: Disk) -> Result<u64, StoreError> {
    let Opened { store, snapshot, records, .. } = open(disk)?;
    let covered = store.length() - store.since_snapshot();
    assert_eq!(snapshot.map(|it| it.to_vec()), (covered > 0).then(|| state(covered)));
    assert_eq!(records.len() as u64, store.since_snapshot());
    assert!((covered..).zip(&records).all(|(index, found)| *found == record(index)));
    Ok(store.length())
}

#[test]
fn a_disk_that_dies_at_any_write_keeps_what_was_acknowledged() {
    let disk = Disk::default();
    let mut store = open(disk.clone()).unwrap().store;
    // How many writes there had been when so many records were acknowledged.
    let written = || disk.writes.lock().unwrap().len();
    let mut acknowledged = vec![(written(), 0)];
    for index in 0..14 {
        store.append(&[record(index)], Shares::Keep).unwrap();
        acknowledged.push((written(), index + 1));
        if index % 4 == 3 {
            let (length, head) = (store.length(), store.head());
            store.snapshot(length, &head, &state(length)).unwrap();
        }
    }
    let writes = disk.writes.lock().unwrap().clone();
    drop(store);
    let began = acknowledged[0].0;
    for killed in began..=writes.len() {
        let promised = acknowledged.iter().rev().find(|(at, _)| *at <= killed).unwrap().1;
        let synced = writes[..killed].iter().rposition(|it| matches!(it, Write::Sync)).unwrap_or(0);
        // The process is killed; or the power fails, and nothing, or every other one, since the last sync is there.
        let power = writes[..synced].to_vec();
        let since = || writes[synced..killed].iter().cloned();
        let odd = power.iter().cloned().chain(since().step_by(2)).collect::<Vec<_>>();
        let even = power.iter().cloned().chain(since().skip(1).step_by(2)).collect::<Vec<_>>();
        // The last write is torn.
        let mut torn = writes[..killed].to_vec();
        if let Some(Write::Bytes(_, bytes)) = torn.last_mut() {
            bytes.truncate(bytes.len() / 2);
        }
        for (how, left) in [
            ("killed", writes[..killed].to_vec()),
            ("power", power),
            ("odd", odd),
            ("even", even),
            ("torn", torn),
        ] {
            match whole(Disk::after(&left)) {
                Ok(found) => assert!(found >= promised, "{how} {killed}: {found} of {promised}"),
                Err(error) => panic!("{how} at write {killed} of {}: {error:?}", writes.len()),
            }
        }
    }
}

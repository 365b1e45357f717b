//! A host's disk in memory: it loses power at the write that a test names, with any part of what was not synced done
//! in any order, and it can be copied and altered.

use std::{
    collections::BTreeMap,
    io,
    sync::{Arc, Mutex, MutexGuard},
};

use volume::{Host, HostFile, Lock};

#[derive(Clone, Default)]
struct Stored {
    now: Vec<u8>,
    durable: Vec<u8>,
    pending: Vec<Pending>,
}

#[derive(Clone)]
enum Pending {
    Write(u64, Vec<u8>),
    Length(u64),
}

#[derive(Default)]
struct State {
    files: BTreeMap<String, Arc<Mutex<Stored>>>,
    durable_names: BTreeMap<String, Arc<Mutex<Stored>>>,
    /// Operations that alter something, so far.
    operations: u64,
    /// The power fails at this one.
    cut: Option<u64>,
    /// The disk has this many bytes.
    capacity: Option<u64>,
}

/// The disk; a clone is the same one.
#[derive(Clone, Default)]
pub struct Disk(Arc<Mutex<State>>);

/// All files' content.
pub type Image = BTreeMap<String, Vec<u8>>;

fn apply(bytes: &mut Vec<u8>, pending: &Pending) {
    match pending {
        Pending::Write(offset, written) => {
            let from = usize::try_from(*offset).unwrap();
            if bytes.len() < from + written.len() {
                bytes.resize(from + written.len(), 0);
            }
            bytes[from..from + written.len()].copy_from_slice(written);
        }
        Pending::Length(length) => bytes.resize(usize::try_from(*length).unwrap(), 0),
    }
}

impl Disk {
    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap()
    }

    fn operation(&self) -> io::Result<()> {
        let mut state = self.state();
        state.operations += 1;
        match state.cut {
            Some(cut) if state.operations >= cut => Err(io::ErrorKind::ConnectionAborted.into()),
            _ => Ok(()),
        }
    }

    pub fn operations(&self) -> u64 {
        self.state().operations
    }

    pub fn cut_at(&self, operation: u64) {
        self.state().cut = Some(operation);
    }

    pub fn set_capacity(&self, bytes: Option<u64>) {
        self.state().capacity = bytes;
    }

    /// What is there when the power comes back. `choose` decides for each write that was not synced: nothing of it, a
    /// part, or all; and for each name made or removed whether that is so.
    pub fn after_power_loss(&self, mut choose: impl FnMut(u64) -> u64) -> Self {
        let state = self.state();
        let mut names = state.durable_names.clone();
        for (name, file) in &state.files {
            if !names.contains_key(name) && choose(2) == 0 {
                names.insert(name.clone(), file.clone());
            }
        }
        names.retain(|name, _| state.files.contains_key(name) || choose(2) == 0);
        let mut image = Image::new();
        for (name, file) in names {
            let file = file.lock().unwrap();
            let mut bytes = file.durable.clone();
            for pending in &file.pending {
                match (choose(3), pending) {
                    (0, _) => {}
                    (1, Pending::Write(offset, written)) => {
                        let part = usize::try_from(choose(written.len() as u64 + 1)).unwrap();
                        apply(&mut bytes, &Pending::Write(*offset, written[..part].to_vec()));
                    }
                    _ => apply(&mut bytes, pending),
                }
            }
            image.insert(name, bytes);
        }
        Self::of(image)
    }

    pub fn of(image: Image) -> Self {
        let files: BTreeMap<_, _> = image
            .into_iter()
            .map(|(name, bytes)| {
                let stored = Stored { now: bytes.clone(), durable: bytes, pending: Vec::new() };
                (name, Arc::new(Mutex::new(stored)))
            })
            .collect();
        Self(Arc::new(Mutex::new(State { durable_names: files.clone(), files, ..State::default() })))
    }

    pub fn image(&self) -> Image {
        let state = self.state();
        state.files.iter().map(|(name, file)| (name.clone(), file.lock().unwrap().now.clone())).collect()
    }
}

struct Free;

impl Lock for Free {}

impl Host for Disk {
    fn list(&self) -> io::Result<Vec<String>> {
        Ok(self.state().files.keys().cloned().collect())
    }

    fn open(&self, name: &str, _read_only: bool) -> io::Result<Box<dyn HostFile>> {
        let file = self.state().files.get(name).cloned();
        let file = file.ok_or(io::ErrorKind::NotFound)?;
        Ok(Box::new(Open { disk: self.clone(), file }))
    }

    fn create(&self, name: &str) -> io::Result<Box<dyn HostFile>> {
        self.operation()?;
        let file = Arc::new(Mutex::new(Stored::default()));
        self.state().files.insert(name.to_owned(), file.clone());
        Ok(Box::new(Open { disk: self.clone(), file }))
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        self.operation()?;
        self.state().files.remove(name).map(drop).ok_or(io::ErrorKind::NotFound.into())
    }

    fn sync_names(&self) -> io::Result<()> {
        self.operation()?;
        let mut state = self.state();
        state.durable_names = state.files.clone();
        Ok(())
    }

    /// Never locked: two hosts that share files by other means.
    fn lock(&self, _read_only: bool) -> io::Result<Option<Box<dyn Lock>>> {
        Ok(Some(Box::new(Free)))
    }
}

struct Open {
    disk: Disk,
    file: Arc<Mutex<Stored>>,
}

impl HostFile for Open {
    fn length(&self) -> io::Result<u64> {
        Ok(self.file.lock().unwrap().now.len() as u64)
    }

    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> io::Result<usize> {
        let file = self.file.lock().unwrap();
        let from = usize::try_from(offset).unwrap().min(file.now.len());
        let length = buffer.len().min(file.now.len() - from);
        buffer[..length].copy_from_slice(&file.now[from..from + length]);
        Ok(length)
    }

    fn write_at(&self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        let cut = self.disk.operation();
        let capacity = self.disk.state().capacity;
        if let Some(capacity) = capacity
            && offset + bytes.len() as u64 > capacity
        {
            // As a real disk: a part of it is there.
            let part = usize::try_from(capacity.saturating_sub(offset)).unwrap();
            let pending = Pending::Write(offset, bytes[..part.min(bytes.len())].to_vec());
            let mut file = self.file.lock().unwrap();
            apply(&mut file.now, &pending);
            file.pending.push(pending);
            return Err(io::ErrorKind::StorageFull.into());
        }
        let mut file = self.file.lock().unwrap();
        let pending = Pending::Write(offset, bytes.to_vec());
        // The write during which the power fails may still be done in part.
        file.pending.push(pending.clone());
        cut?;
        apply(&mut file.now, &pending);
        Ok(())
    }

    fn set_length(&self, length: u64) -> io::Result<()> {
        self.disk.operation()?;
        let mut file = self.file.lock().unwrap();
        apply(&mut file.now, &Pending::Length(length));
        file.pending.push(Pending::Length(length));
        Ok(())
    }

    fn sync(&self) -> io::Result<()> {
        self.disk.operation()?;
        let mut file = self.file.lock().unwrap();
        file.durable = file.now.clone();
        file.pending.clear();
        Ok(())
    }
}

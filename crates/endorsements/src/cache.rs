//! Answers of vendors, kept on disk and shared by processes: files named by the digest of their contents, and an index
//! that says which answers what. The disk is not trusted: what does not have its digest, or is not what was asked for,
//! is dropped and asked for again, and whatever is served the appraisal verifies anew.
//!
//! ```text
//! answers/<sha256>      the vendor's answer
//! index/<item>          {"digest": …, "fetched": …, "length": …}
//! locks/<item>          held while one process asks for the item
//! ```

use std::fs::{File, TryLockError};
use std::io;
use std::path::Path;
use std::time::Duration;

use appraisal::UnixTime;
use aws_lc_rs::digest::{SHA256, digest};
use serde::{Deserialize, Serialize};

use crate::disk::{Directory, TEMPORARY};
use crate::item::{Answer, Item};

const MAX_ENTRY: usize = 1024;
/// What one answer may take encoded: the longest that is read, and its issuers.
const MAX_ANSWER: usize = 384 * 1024;
/// How many names are looked at: beyond that, the cache is not ours.
const MAX_NAMES: usize = 100_000;

/// How large a cache may grow; beyond that, what was fetched first goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CacheLimits {
    /// Answers.
    pub entries: usize,
    /// Their bytes.
    pub bytes: u64,
}

impl Default for CacheLimits {
    fn default() -> Self {
        Self { entries: 4096, bytes: 64 * 1024 * 1024 }
    }
}

/// A cache on disk.
pub struct Cache {
    answers: Directory,
    index: Directory,
    locks: Directory,
    limits: CacheLimits,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Entry {
    #[serde(with = "hex::serde")]
    digest: [u8; 32],
    fetched: UnixTime,
    length: u64,
}

/// What a look into the cache found.
pub(crate) enum Found {
    Answer {
        answer: Answer,
        fetched: UnixTime,
    },
    Nothing,
    /// Something that could not be used, and is gone now.
    Dropped,
}

impl Cache {
    /// Opens a cache, and makes it, for us alone, when there is none.
    ///
    /// # Errors
    /// When the directory or one in it cannot be made or opened; a link in the place of one in it is not followed.
    pub fn open(path: &Path) -> io::Result<Self> {
        Self::open_limited(path, CacheLimits::default())
    }

    /// As [`Cache::open`], with other limits.
    ///
    /// # Errors
    /// As [`Cache::open`].
    pub fn open_limited(path: &Path, limits: CacheLimits) -> io::Result<Self> {
        let root = Directory::open(path)?;
        Ok(Self {
            answers: root.below("answers")?,
            index: root.below("index")?,
            locks: root.below("locks")?,
            limits,
        })
    }

    pub(crate) fn find(&self, item: &Item) -> Found {
        let key = item.key();
        let Ok(entry) = self.index.read(&key, MAX_ENTRY) else { return Found::Nothing };
        let found = serde_json::from_slice::<Entry>(&entry).ok().and_then(|entry| {
            let bytes = self.answers.read(&hex::encode(entry.digest), MAX_ANSWER).ok()?;
            let intact = digest(&SHA256, &bytes).as_ref() == entry.digest;
            let answer = Answer::decode(&bytes).filter(|answer| intact && answer.check(item).is_ok())?;
            Some(Found::Answer { answer, fetched: entry.fetched })
        });
        found.unwrap_or_else(|| {
            self.forget(item);
            Found::Dropped
        })
    }

    /// Keeps an answer, and lets old ones go.
    pub(crate) fn keep(&self, item: &Item, answer: &Answer, fetched: UnixTime) -> io::Result<()> {
        let bytes = answer.encode();
        let mut name = [0; 32];
        name.copy_from_slice(digest(&SHA256, &bytes).as_ref());
        let entry = Entry { digest: name, fetched, length: bytes.len() as u64 };
        let entry = serde_json::to_vec(&entry)?;
        {
            let sweeping = self.locks.lock_file("sweep")?;
            sweeping.lock_shared()?;
            self.answers.write(&hex::encode(name), &bytes)?;
            self.index.write(&item.key(), &entry)?;
        }
        self.sweep()
    }

    pub(crate) fn forget(&self, item: &Item) {
        // What is not there is forgotten already. The answer itself goes with the next sweep, as another item may
        // have the same.
        let _ = self.index.remove(&item.key());
    }

    /// The lock under which one process asks for an item; none while another has it.
    pub(crate) fn try_lock(&self, item: &Item) -> io::Result<Option<File>> {
        let file = self.locks.lock_file(&item.key())?;
        match file.try_lock() {
            Ok(()) => Ok(Some(file)),
            Err(TryLockError::WouldBlock) => Ok(None),
            Err(TryLockError::Error(error)) => Err(error),
        }
    }

    /// How long to wait before the lock is tried again.
    pub(crate) const LOCK_PAUSE: Duration = Duration::from_millis(25);

    /// Removes what is beyond the limits, what no entry names, and what was half written.
    fn sweep(&self) -> io::Result<()> {
        let lock = self.locks.lock_file("sweep")?;
        if lock.try_lock().is_err() {
            return Ok(());
        }
        let mut entries = Vec::new();
        for key in self.index.names(MAX_NAMES)? {
            let entry = self.index.read(&key, MAX_ENTRY).ok();
            match entry.and_then(|bytes| serde_json::from_slice::<Entry>(&bytes).ok()) {
                Some(entry) => entries.push((key, entry)),
                None => remove(&self.index, &key),
            }
        }
        entries.sort_by_key(|(_, entry)| std::cmp::Reverse(entry.fetched));
        let mut bytes = 0u64;
        let mut kept = std::collections::HashSet::new();
        for (count, (key, entry)) in entries.into_iter().enumerate() {
            bytes = bytes.saturating_add(entry.length);
            if count < self.limits.entries && bytes <= self.limits.bytes {
                kept.insert(hex::encode(entry.digest));
            } else {
                remove(&self.index, &key);
                remove(&self.locks, &key);
            }
        }
        let answers = self.answers.names(MAX_NAMES)?;
        let orphans = answers.iter().filter(|name| !kept.contains(*name) || name.starts_with(TEMPORARY));
        orphans.for_each(|name| remove(&self.answers, name));
        Ok(())
    }
}

/// A directory in the place of a file cannot be removed so, and stands in nobody's way but its maker's.
fn remove(directory: &Directory, name: &str) {
    let _ = directory.remove(name);
}

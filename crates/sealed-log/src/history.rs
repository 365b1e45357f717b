//! The history of a log beyond its base. What a checkpoint cuts is gone, and with it the hashes that a head is held
//! against which somebody kept. So before it is cut, these hashes go to files of the host, and a digest of each file into
//! the log itself: 44 bytes for up to 65 536 records, carried on from checkpoint to checkpoint. A file that the host
//! alters or loses answers nothing any more; it cannot answer wrongly.

use volume::{Head, Host};

use crate::{cipher, error::Error, format::Kind};

/// The entry that the log makes for itself; no caller's has this kind.
pub(crate) const HISTORY: Kind = Kind(255);
/// Records of which one file has the hashes.
const MOST: usize = 1 << 16;
/// Bytes of a batch within an entry.
const LENGTH: usize = 44;
/// Batches that are carried on; heads before them are forgotten. Four thousand million records.
const BATCHES: usize = 1 << 16;
const PREFIX: &str = "heads-";

/// Hashes of consecutive records, and digests of those before them.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Heads {
    first: u64,
    hashes: Vec<[u8; 32]>,
    batches: Vec<Batch>,
}

/// Records that were cut off, and what their hashes were.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Batch {
    first: u64,
    count: u32,
    digest: [u8; 32],
}

/// What can be said of a head that somebody kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Held {
    /// It is in this history.
    Contained,
    /// There is another record in its place, or none yet: this is not the history that it comes from.
    Contradicted,
    /// It is older than what is kept.
    Forgotten,
}

impl Heads {
    /// Whether a head is in this history, as far as that is in memory: since the base.
    pub fn holds(&self, head: Head) -> Held {
        let Some(index) = head.sequence.checked_sub(self.first) else { return Held::Forgotten };
        match usize::try_from(index).ok().and_then(|index| self.hashes.get(index)) {
            Some(hash) if *hash == head.hash => Held::Contained,
            _ => Held::Contradicted,
        }
    }

    /// Where the host has the hash of a record before the base; `None`: nowhere.
    pub fn batch(&self, sequence: u64) -> Option<Batch> {
        let has = |batch: &&Batch| (batch.first..batch.end()).contains(&sequence);
        self.batches.iter().find(has).copied()
    }

    /// Adds the next.
    pub fn push(&mut self, head: Head) {
        if self.hashes.is_empty() {
            self.first = head.sequence;
        }
        self.hashes.push(head.hash);
    }

    /// Forgets those before a number.
    pub fn forget_before(&mut self, sequence: u64) {
        let old = usize::try_from(sequence.saturating_sub(self.first)).unwrap_or(usize::MAX);
        let old = old.min(self.hashes.len());
        self.hashes.drain(..old);
        self.first += old as u64;
    }

    /// Writes those before `base` that no file has yet to files of the host.
    pub(crate) fn keep_before(&mut self, host: &dyn Host, base: u64) -> Result<(), Error> {
        let mut first = self.batches.last().map_or(0, Batch::end).max(self.first);
        let index =
            |sequence: u64| usize::try_from(sequence.saturating_sub(self.first)).unwrap_or(usize::MAX);
        let old = self.hashes.get(index(first)..index(base)).unwrap_or_default();
        let mut made = Vec::new();
        for hashes in old.chunks(MOST) {
            let bytes = hashes.concat();
            let file = host.create(&name(first))?;
            file.write_at(0, &bytes)?;
            file.sync()?;
            let count = u32::try_from(hashes.len()).map_err(|_| Error::TooLarge)?;
            made.push(Batch { first, count, digest: cipher::hash(&[&bytes]) });
            first += u64::from(count);
        }
        if !made.is_empty() {
            host.sync_names()?;
        }
        self.batches.extend(made);
        let surplus = self.batches.len().saturating_sub(BATCHES);
        self.batches.drain(..surplus);
        Ok(())
    }

    /// The digests, as an entry.
    pub(crate) fn entry(&self) -> Vec<u8> {
        let bytes = |batch: &Batch| {
            [&batch.first.to_le_bytes()[..], &batch.count.to_le_bytes(), &batch.digest].concat()
        };
        self.batches.iter().flat_map(bytes).collect()
    }

    /// The digests of an entry; the last of them is what counts.
    pub(crate) fn carry_on(&mut self, entry: &[u8]) -> Result<(), NoHistory> {
        self.batches = parse(entry)?;
        Ok(())
    }
}

/// An entry is none of ours.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct NoHistory;

/// The batches of an entry.
pub(crate) fn parse(entry: &[u8]) -> Result<Vec<Batch>, NoHistory> {
    let (chunks, rest) = entry.as_chunks::<LENGTH>();
    if !rest.is_empty() {
        return Err(NoHistory);
    }
    let batch = |chunk: &[u8; LENGTH]| {
        let (first, rest) = chunk.split_first_chunk()?;
        let (count, rest) = rest.split_first_chunk()?;
        let (first, count) = (u64::from_le_bytes(*first), u32::from_le_bytes(*count));
        let fits = count > 0 && first.checked_add(u64::from(count)).is_some();
        fits.then_some(Batch { first, count, digest: rest.try_into().ok()? })
    };
    chunks.iter().map(batch).collect::<Option<_>>().ok_or(NoHistory)
}

impl Batch {
    fn end(&self) -> u64 {
        self.first.saturating_add(u64::from(self.count))
    }

    /// Whether a head is in it, if the host still has its file.
    pub fn holds(&self, host: &dyn Host, head: Head) -> Held {
        let found = || {
            let file = host.open(&name(self.first), true).ok()?;
            let mut bytes = vec![0; usize::try_from(self.count).ok()?.checked_mul(32)?];
            let whole = file.read_at(0, &mut bytes).is_ok_and(|read| read == bytes.len());
            (whole && cipher::hash(&[&bytes]) == self.digest).then_some(())?;
            let index = usize::try_from(head.sequence.checked_sub(self.first)?).ok()?;
            bytes.as_chunks::<32>().0.get(index).copied()
        };
        match found() {
            None => Held::Forgotten,
            Some(hash) if hash == head.hash => Held::Contained,
            Some(_) => Held::Contradicted,
        }
    }
}

fn name(first: u64) -> String {
    format!("{PREFIX}{first:016x}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn digests_are_read_as_they_were_written_and_nothing_shorter_is() {
        let batches = vec![
            Batch { first: 1, count: 9, digest: [1; 32] },
            Batch { first: 10, count: 1, digest: [2; 32] },
        ];
        let heads = Heads { batches: batches.clone(), ..Heads::default() };
        let entry = heads.entry();
        assert_eq!(parse(&entry), Ok(batches));
        for length in 0..entry.len() {
            assert_eq!(parse(&entry[..length]).is_ok(), length % LENGTH == 0, "{length}");
        }
        assert!(parse(&[0; LENGTH]).is_err() && parse(&[255; LENGTH]).is_err());
    }
}

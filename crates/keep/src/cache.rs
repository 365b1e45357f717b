//! Compiled components on the host's storage. The host can delete them, and nothing else: each file is sealed
//! with AES-256-GCM under a key that only this TEE can derive, bound to engine, settings and component digest
//! (S-56). Whatever does not open is ignored, and compiled again.
//!
//! A file is `BAILEYC1`, a nonce of 12 bytes, and the ciphertext with its tag.

use std::{
    fs::{self, File},
    hash::{Hash, Hasher},
    io::{self, Read, Write},
    path::{Path, PathBuf},
};

use aws_lc_rs::{
    aead::{AES_256_GCM, Aad, NONCE_LEN, Nonce, RandomizedNonceKey},
    digest,
};
use zeroize::Zeroizing;

const MAGIC: &[u8; 8] = b"BAILEYC1";
const TAG: usize = 16;
const CONTEXT: &[u8] = b"bailey/keep/cache/1";
/// Larger files are not read: no component within the size limit compiles to more.
const MAX_FILE: u64 = 1 << 30;

/// A directory of sealed artefacts.
pub struct Cache {
    directory: PathBuf,
    key: Zeroizing<[u8; 32]>,
}

/// What an artefact is for: an artefact opens for the very same slot only.
pub(crate) struct Slot {
    /// SHA-256 over engine, settings and component digest.
    id: [u8; 32],
}

impl Slot {
    pub(crate) fn new(engine: &str, settings: impl Hash, component: &[u8; 32]) -> Self {
        let mut hasher = Sha256(digest::Context::new(&digest::SHA256));
        settings.hash(&mut hasher);
        let settings = hasher.0.finish();
        let mut context = digest::Context::new(&digest::SHA256);
        context.update(CONTEXT);
        context.update(&(engine.len() as u64).to_be_bytes());
        context.update(engine.as_bytes());
        context.update(settings.as_ref());
        context.update(component);
        let mut id = [0; 32];
        id.copy_from_slice(context.finish().as_ref());
        Self { id }
    }
}

/// Collects what a `Hash` feeds, because a 64-bit hash could be made to collide.
struct Sha256(digest::Context);

impl Hasher for Sha256 {
    fn write(&mut self, bytes: &[u8]) {
        self.0.update(bytes);
    }

    fn finish(&self) -> u64 {
        let digest = self.0.clone().finish();
        let mut first = [0; 8];
        first.copy_from_slice(&digest.as_ref()[..8]);
        u64::from_be_bytes(first)
    }
}

impl Cache {
    /// A cache in `directory`, which is made when it is first written to. `key` is derived from the TEE's
    /// sealing key, for this purpose only.
    pub fn new(directory: impl Into<PathBuf>, key: Zeroizing<[u8; 32]>) -> Self {
        Self { directory: directory.into(), key }
    }

    /// The artefact of `slot`, if there is one that this TEE sealed.
    pub(crate) fn get(&self, slot: &Slot) -> Option<Vec<u8>> {
        let path = self.path(slot);
        let mut bytes = match read_bounded(&path) {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return None,
            Err(error) => return ignored(&error),
        };
        let opened = Header::parse(&bytes).map_err(|bad| ignored::<()>(&bad)).ok().and_then(|header| {
            let key = self.aead()?;
            let text = &mut bytes[header.length..];
            match key.open_in_place(header.nonce, Aad::from(slot.id), text) {
                Ok(plain) => Some((header.length, plain.len())),
                Err(_) => ignored(&"it was not sealed by this Keep for this component"),
            }
        });
        let (begin, length) = opened?;
        bytes.copy_within(begin..begin + length, 0);
        bytes.truncate(length);
        Some(bytes)
    }

    /// Seals and stores `artefact`. A cache that cannot be written costs time, so a failure is only logged.
    pub(crate) fn put(&self, slot: &Slot, artefact: Vec<u8>) {
        if let Err(error) = self.try_put(slot, artefact) {
            tracing::warn!(code = "CACHE_NOT_WRITTEN", reason = %error, "the compiled component is not stored");
        }
    }

    fn try_put(&self, slot: &Slot, mut artefact: Vec<u8>) -> io::Result<()> {
        let key = self.aead().ok_or_else(|| io::Error::other("the key is unusable"))?;
        let nonce = key
            .seal_in_place_append_tag(Aad::from(slot.id), &mut artefact)
            .map_err(|_| io::Error::other("sealing failed"))?;
        fs::create_dir_all(&self.directory)?;
        let target = self.path(slot);
        let draft = target.with_extension(format!("{}.draft", std::process::id()));
        let written = File::create(&draft).and_then(|mut file| {
            file.write_all(MAGIC)?;
            file.write_all(nonce.as_ref())?;
            file.write_all(&artefact)?;
            file.sync_all()
        });
        written.and_then(|()| fs::rename(&draft, &target)).inspect_err(|_| {
            // What is left of a failed write is of no use; that it stays is no further harm.
            let _ = fs::remove_file(&draft);
        })
    }

    fn aead(&self) -> Option<RandomizedNonceKey> {
        RandomizedNonceKey::new(&AES_256_GCM, self.key.as_slice()).ok()
    }

    fn path(&self, slot: &Slot) -> PathBuf {
        self.directory.join(format!("{}.sealed", hex::encode(slot.id)))
    }
}

fn ignored<T>(reason: &dyn std::fmt::Display) -> Option<T> {
    tracing::warn!(code = "CACHE_IGNORED", %reason, "a stored component is ignored");
    None
}

fn read_bounded(path: &Path) -> io::Result<Vec<u8>> {
    let file = File::open(path)?;
    let metadata = file.metadata()?;
    if !metadata.is_file() || metadata.len() > MAX_FILE {
        return Err(io::Error::new(io::ErrorKind::InvalidData, "it is no file of a possible size"));
    }
    let mut bytes = Vec::with_capacity(usize::try_from(metadata.len()).unwrap_or(0));
    file.take(MAX_FILE).read_to_end(&mut bytes)?;
    Ok(bytes)
}

/// The beginning of a cache file.
pub struct Header {
    nonce: Nonce,
    length: usize,
}

/// Bytes that are no cache file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum BadHeader {
    /// Too short to hold nonce and tag.
    #[error("it is truncated")]
    Truncated,
    /// Another kind or version of file.
    #[error("it is no cache file of this version")]
    Foreign,
}

impl Header {
    /// Reads the header of a cache file.
    pub fn parse(bytes: &[u8]) -> Result<Self, BadHeader> {
        let rest = bytes.strip_prefix(MAGIC).ok_or(BadHeader::Foreign)?;
        let (nonce, sealed) = rest.split_first_chunk::<NONCE_LEN>().ok_or(BadHeader::Truncated)?;
        if sealed.len() < TAG {
            return Err(BadHeader::Truncated);
        }
        let nonce = Nonce::assume_unique_for_key(*nonce);
        Ok(Self { nonce, length: MAGIC.len() + NONCE_LEN })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const COMPONENT: &[u8; 32] = &[7; 32];

    fn cache(directory: &Path, key: u8) -> Cache {
        Cache::new(directory.join("cache"), Zeroizing::new([key; 32]))
    }

    fn slot(component: &[u8; 32]) -> Slot {
        Slot::new("engine/1", "settings", component)
    }

    #[test]
    fn what_was_put_is_got() {
        let directory = tempfile::tempdir().unwrap();
        let cache = cache(directory.path(), 1);
        assert_eq!(cache.get(&slot(COMPONENT)), None);
        cache.put(&slot(COMPONENT), b"native".to_vec());
        assert_eq!(cache.get(&slot(COMPONENT)).as_deref(), Some(b"native".as_slice()));
        let names: Vec<_> = fs::read_dir(directory.path().join("cache")).unwrap().collect();
        assert_eq!(names.len(), 1, "a draft was left behind");
    }

    /// S-56: every single changed or missing byte makes the file worthless.
    #[test]
    fn s56_tampered_file_is_ignored() {
        let directory = tempfile::tempdir().unwrap();
        let cache = cache(directory.path(), 1);
        cache.put(&slot(COMPONENT), b"native".to_vec());
        let path = cache.path(&slot(COMPONENT));
        let good = fs::read(&path).unwrap();
        for at in 0..good.len() {
            let mut bad = good.clone();
            bad[at] ^= 1;
            fs::write(&path, &bad).unwrap();
            assert_eq!(cache.get(&slot(COMPONENT)), None, "byte {at}");
            fs::write(&path, &good[..at]).unwrap();
            assert_eq!(cache.get(&slot(COMPONENT)), None, "cut at {at}");
        }
    }

    /// S-56: a file of another component, engine, setting or TEE does not open under this one's name.
    #[test]
    fn s56_swapped_or_foreign_file_is_ignored() {
        let directory = tempfile::tempdir().unwrap();
        let mine = cache(directory.path(), 1);
        let others = [
            Slot::new("engine/1", "settings", &[8; 32]),
            Slot::new("engine/2", "settings", COMPONENT),
            Slot::new("engine/1", "other settings", COMPONENT),
        ];
        for other in &others {
            mine.put(other, b"native".to_vec());
            fs::copy(mine.path(other), mine.path(&slot(COMPONENT))).unwrap();
            assert_eq!(mine.get(&slot(COMPONENT)), None);
        }
        cache(directory.path(), 2).put(&slot(COMPONENT), b"native".to_vec());
        assert_eq!(mine.get(&slot(COMPONENT)), None);
    }

    #[test]
    fn a_cache_that_cannot_be_written_is_no_failure() {
        let directory = tempfile::tempdir().unwrap();
        fs::write(directory.path().join("cache"), b"in the way").unwrap();
        let cache = cache(directory.path(), 1);
        cache.put(&slot(COMPONENT), b"native".to_vec());
        assert_eq!(cache.get(&slot(COMPONENT)), None);
    }
}

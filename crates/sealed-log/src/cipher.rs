//! Keys. Each file has a random salt and a key of its own, derived from the log's, in which the number of the record
//! within the file is the nonce. A file is begun by one writer, which ends at its first failure, so no nonce comes
//! twice under one key, whatever the host brings back (S-60).

use aws_lc_rs::{
    aead::{AES_256_GCM, Aad, LessSafeKey, NONCE_LEN, Nonce, UnboundKey},
    digest::{self, SHA256},
    hkdf::{HKDF_SHA256, KeyType, Salt},
    rand::{SecureRandom, SystemRandom},
};
use zeroize::Zeroizing;

use crate::error::Error;

/// Of an AES-256-GCM tag.
pub(crate) const TAG: usize = 16;
const ID: &[u8] = b"bailey/sealed-log/1/id";
const FILE: &[u8] = b"bailey/sealed-log/1/file";

/// The key of one log, from which those of its files are derived.
#[derive(Clone)]
pub struct LogKey {
    key: Zeroizing<[u8; 32]>,
    before: Option<Zeroizing<[u8; 32]>>,
}

impl LogKey {
    /// 32 bytes of a generator or of a derivation, used for nothing else.
    pub fn new(key: [u8; 32]) -> Self {
        Self { key: Zeroizing::new(key), before: None }
    }

    /// In the place of another: what that one sealed is read too, but not behind what this one did. Until a checkpoint
    /// has cut it off.
    #[must_use]
    pub fn after(self, before: Self) -> Self {
        Self { before: Some(before.key), ..self }
    }

    /// Without the one before.
    #[must_use]
    pub fn alone(&self) -> Self {
        Self { key: self.key.clone(), before: None }
    }

    /// The one of both that files name by this.
    pub(crate) fn named(&self, id: &LogId) -> Option<Self> {
        let before = self.before.as_ref().map(|before| Self { key: before.clone(), before: None });
        [Some(self.alone()), before].into_iter().flatten().find(|key| key.id() == *id)
    }

    /// Names the log to whoever has files of several: no secret.
    pub(crate) fn id(&self) -> LogId {
        let mut id = [0; 16];
        self.derive(&[], &[ID], &mut id);
        id
    }

    fn derive(&self, salt: &[u8], info: &[&[u8]], out: &mut [u8]) {
        let expanded = Salt::new(HKDF_SHA256, salt)
            .extract(&*self.key)
            .expand(info, Length(out.len()))
            .map(|okm| okm.fill(out));
        // HKDF-SHA256 fails only for more than 8160 bytes.
        assert!(matches!(expanded, Ok(Ok(()))), "at most 32 bytes are asked for");
    }
}

impl std::fmt::Debug for LogKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("LogKey")
    }
}

pub(crate) type LogId = [u8; 16];
pub(crate) type FileSalt = [u8; 32];

struct Length(usize);

impl KeyType for Length {
    fn len(&self) -> usize {
        self.0
    }
}

/// A new file's salt.
pub(crate) fn salt() -> Result<FileSalt, Error> {
    let mut salt = [0; 32];
    SystemRandom::new().fill(&mut salt).map_err(|_| Error::Host(std::io::ErrorKind::Other))?;
    Ok(salt)
}

/// SHA-256.
pub(crate) fn hash(parts: &[&[u8]]) -> [u8; 32] {
    let mut context = digest::Context::new(&SHA256);
    for part in parts {
        context.update(part);
    }
    let mut hash = [0; 32];
    hash.copy_from_slice(context.finish().as_ref());
    hash
}

/// It did not open.
pub(crate) struct Forged;

/// The key of one file.
pub(crate) struct FileKey(LessSafeKey);

impl FileKey {
    pub(crate) fn new(key: &LogKey, id: &LogId, salt: &FileSalt) -> Self {
        let mut bytes = Zeroizing::new([0; 32]);
        key.derive(salt, &[FILE, id], &mut *bytes);
        match UnboundKey::new(&AES_256_GCM, &*bytes) {
            Ok(key) => Self(LessSafeKey::new(key)),
            Err(_) => unreachable!("an AES-256 key has 32 bytes"),
        }
    }

    /// Seals in place; `counter` must be new under this key.
    pub(crate) fn seal(&self, counter: u64, aad: &[u8], bytes: &mut [u8]) -> [u8; TAG] {
        let mut tag = [0; TAG];
        match self.0.seal_in_place_separate_tag(nonce(counter), Aad::from(aad), bytes) {
            Ok(sealed) => tag.copy_from_slice(sealed.as_ref()),
            Err(_) => unreachable!("AES-256-GCM seals whatever is below 64 GiB"),
        }
        tag
    }

    /// Opens in place what ends with its tag.
    pub(crate) fn open<'a>(
        &self,
        counter: u64,
        aad: &[u8],
        sealed: &'a mut [u8],
    ) -> Result<&'a [u8], Forged> {
        self.0.open_in_place(nonce(counter), Aad::from(aad), sealed).map(|plain| &*plain).map_err(|_| Forged)
    }
}

fn nonce(counter: u64) -> Nonce {
    let mut nonce = [0; NONCE_LEN];
    nonce[4..].copy_from_slice(&counter.to_le_bytes());
    Nonce::assume_unique_for_key(nonce)
}

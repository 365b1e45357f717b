//! Keys, and what is sealed under them. Each time that a volume is opened to be written is a session with a random salt
//! and keys of its own, in which a counter is the nonce: no nonce is used twice under one key, whatever the host brings
//! back, and equal plaintexts never give equal ciphertexts (S-60). One key serves one purpose (S-46).

use aws_lc_rs::{
    aead::{AES_256_GCM, Aad, LessSafeKey, NONCE_LEN, Nonce, UnboundKey},
    digest::{self, SHA256},
    hkdf::{HKDF_SHA256, KeyType, Salt},
    rand::{SecureRandom, SystemRandom},
};
use zeroize::Zeroizing;

use crate::error::Error;

/// Version of the format, in everything that is sealed.
pub(crate) const VERSION: u32 = 1;
/// Of an AES-256-GCM tag.
pub(crate) const TAG: usize = 16;

const ID: &[u8] = b"bailey/volume/1/id";
const DATA: &[u8] = b"bailey/volume/1/data";
const LOG: &[u8] = b"bailey/volume/1/log";

/// The key of one volume, from which all others are derived.
pub struct VolumeKey(Zeroizing<[u8; 32]>);

impl VolumeKey {
    /// 32 bytes of a generator or of a derivation.
    pub fn new(key: [u8; 32]) -> Self {
        Self(Zeroizing::new(key))
    }

    /// Names the volume to whoever has files of several: derived from the key, of which it tells nothing.
    pub fn id(&self) -> [u8; 16] {
        volume_id(self)
    }
}

impl std::fmt::Debug for VolumeKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("VolumeKey")
    }
}

/// Names a volume to whoever has files of several: derived from its key, no secret.
pub(crate) type VolumeId = [u8; 16];
/// Of one session.
pub(crate) type SessionSalt = [u8; 32];

struct Length(usize);

impl KeyType for Length {
    fn len(&self) -> usize {
        self.0
    }
}

fn derive(key: &VolumeKey, salt: &[u8], info: &[&[u8]], out: &mut [u8]) {
    let expanded = Salt::new(HKDF_SHA256, salt)
        .extract(&*key.0)
        .expand(info, Length(out.len()))
        .map(|okm| okm.fill(out));
    // HKDF-SHA256 fails only for more than 8160 bytes.
    assert!(matches!(expanded, Ok(Ok(()))), "at most 32 bytes are asked for");
}

/// Which volume a key is for.
pub(crate) fn volume_id(key: &VolumeKey) -> VolumeId {
    let mut id = [0; 16];
    derive(key, &[], &[ID], &mut id);
    id
}

/// A session's salt.
pub(crate) fn session_salt() -> Result<SessionSalt, Error> {
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

/// What a key may seal.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Purpose {
    Data,
    Log,
}

/// A key of one session and purpose.
pub(crate) struct SessionKey(LessSafeKey);

/// It did not open.
pub(crate) struct Forged;

impl SessionKey {
    pub(crate) fn new(key: &VolumeKey, id: &VolumeId, salt: &SessionSalt, purpose: Purpose) -> Self {
        let label = match purpose {
            Purpose::Data => DATA,
            Purpose::Log => LOG,
        };
        let mut bytes = Zeroizing::new([0; 32]);
        derive(key, salt, &[label, id], &mut *bytes);
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

    /// Opens into `plaintext`, of the same length.
    pub(crate) fn open(
        &self,
        counter: u64,
        aad: &[u8],
        ciphertext: &[u8],
        tag: &[u8],
        plaintext: &mut [u8],
    ) -> Result<(), Forged> {
        self.0
            .open_separate_gather(nonce(counter), Aad::from(aad), ciphertext, tag, plaintext)
            .map_err(|_| Forged)
    }
}

fn nonce(counter: u64) -> Nonce {
    let mut nonce = [0; NONCE_LEN];
    nonce[4..].copy_from_slice(&counter.to_le_bytes());
    Nonce::assume_unique_for_key(nonce)
}

//! Keys, and where they lie: the master key and the CA's key, sealed, in the host's folder.
//!
//! ```text
//!  <state>/key        master key, sealed to this TEE with this launch configuration
//!  <state>/authority  the CA, sealed to this TEE and to the master key: a state founded anew has another root
//!  master key ──HKDF(lineage)──▶ key of the sealed log
//! ```
//!
//! The master key is what shares of a recovery give; the CA's key is in none of them (S-46).

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use attester::{AttesterError, Tee};
use aws_lc_rs::{
    aead::{AES_256_GCM, Aad, LessSafeKey, NONCE_LEN, Nonce, UnboundKey},
    hkdf::{HKDF_SHA256, KeyType, Salt},
    rand::{SecureRandom, SystemRandom},
};
use sealed_log::LogKey;
use serde::{Deserialize, Serialize};
use zeroize::{Zeroize, Zeroizing};

use crate::authority::{Authority, AuthorityError};

const KEY_CONTEXT: &str = "database/key/1";
const AUTHORITY_CONTEXT: &str = "database/authority/1";
/// No honest sealed file is longer.
const LONGEST: u64 = 16 * 1024;

/// The key that everything durable hangs on.
#[derive(Clone)]
pub struct MasterKey(Zeroizing<[u8; 32]>);

impl MasterKey {
    /// A fresh one.
    ///
    /// # Errors
    /// No randomness.
    pub fn generate() -> Result<Self, KeysError> {
        let mut key = Zeroizing::new([0; 32]);
        SystemRandom::new().fill(key.as_mut()).map_err(|_| KeysError::Crypto)?;
        Ok(Self(key))
    }

    /// One that shares or the coordinator gave.
    pub fn new(key: Zeroizing<[u8; 32]>) -> Self {
        Self(key)
    }

    /// To be split into shares.
    pub(crate) fn bytes(&self) -> &[u8; 32] {
        &self.0
    }

    /// The key of the log of a lineage, named by its first manifest: another lineage's log does not open with it.
    ///
    /// # Errors
    /// Never with a key of this length.
    pub fn log_key(&self, first: &[u8; 32]) -> Result<LogKey, KeysError> {
        let mut out = derive(&[self.0.as_slice()], &[b"bailey/database-log/1", first])?;
        let key = LogKey::new(*out);
        out.zeroize();
        Ok(key)
    }
}

fn derive(secrets: &[&[u8]], info: &[&[u8]]) -> Result<Zeroizing<[u8; 32]>, KeysError> {
    struct Bytes32;
    impl KeyType for Bytes32 {
        fn len(&self) -> usize {
            32
        }
    }
    let secret = Zeroizing::new(secrets.concat());
    let extracted = Salt::new(HKDF_SHA256, b"bailey/database/1").extract(&secret);
    let mut out = Zeroizing::new([0; 32]);
    let expanded = extracted.expand(info, Bytes32).map_err(|_| KeysError::Crypto)?;
    expanded.fill(out.as_mut()).map_err(|_| KeysError::Crypto)?;
    Ok(out)
}

/// What the folder has of a master key.
pub enum Found {
    /// Nothing: nothing was founded here.
    Nothing,
    /// It, sealed to this TEE.
    Key(MasterKey),
    /// One that another TEE sealed, or that was altered.
    Locked,
}

/// The host's folder, as far as keys lie in it.
pub struct Keys<'a> {
    tee: &'a dyn Tee,
    folder: PathBuf,
}

impl<'a> Keys<'a> {
    /// Keys of this TEE in a folder.
    pub fn new(tee: &'a dyn Tee, folder: &Path) -> Self {
        Self { tee, folder: folder.to_owned() }
    }

    /// The master key.
    ///
    /// # Errors
    /// When the TEE gives no sealing key, or the file cannot be read.
    pub fn master(&self) -> Result<Found, KeysError> {
        let Some(sealed) = self.read("key")? else { return Ok(Found::Nothing) };
        let sealing = self.tee.sealing_key(KEY_CONTEXT)?;
        let opened = open(sealing.as_bytes(), KEY_CONTEXT.as_bytes(), &sealed)?;
        let key = opened.and_then(|it| it.as_slice().try_into().ok());
        Ok(key.map_or(Found::Locked, |key| Found::Key(MasterKey(Zeroizing::new(key)))))
    }

    /// Seals a master key to this TEE.
    ///
    /// # Errors
    /// As [`Keys::master`].
    pub fn keep_master(&self, key: &MasterKey) -> Result<(), KeysError> {
        let sealing = self.tee.sealing_key(KEY_CONTEXT)?;
        self.write("key", &seal(sealing.as_bytes(), KEY_CONTEXT.as_bytes(), key.0.as_slice())?)
    }

    /// The CA of a state: the one that was kept, or a new one, which is kept then.
    ///
    /// # Errors
    /// As [`Keys::master`], or when none can be made.
    pub fn authority(&self, master: &MasterKey, now: appraisal::UnixTime) -> Result<Authority, KeysError> {
        let sealing = self.tee.sealing_key(AUTHORITY_CONTEXT)?;
        let context = AUTHORITY_CONTEXT.as_bytes();
        let key = derive(&[sealing.as_bytes(), master.0.as_slice()], &[context])?;
        if let Some(sealed) = self.read("authority")?
            && let Some(opened) = open(&key, context, &sealed)?
            && let Ok(parts) = serde_json::from_slice::<Parts>(&opened)
        {
            return Ok(Authority::from_parts(Zeroizing::new(parts.key.clone()), parts.certificate.clone())?);
        }
        let made = Authority::generate(self.tee.emulated(), now)?;
        let parts = Parts { key: made.key().to_vec(), certificate: made.certificate().to_vec() };
        let plain = Zeroizing::new(serde_json::to_vec(&parts).map_err(|_| KeysError::Crypto)?);
        self.write("authority", &seal(&key, context, &plain)?)?;
        Ok(made)
    }

    fn read(&self, name: &str) -> Result<Option<Vec<u8>>, KeysError> {
        let path = self.folder.join(name);
        let failed = |source| KeysError::File { path: path.clone(), source };
        match fs::metadata(&path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Ok(found) if found.len() > LONGEST => return Ok(Some(Vec::new())),
            found => found.map_err(failed)?,
        };
        fs::read(&path).map(Some).map_err(failed)
    }

    /// The new file is there whole, or the old one is.
    pub(crate) fn write(&self, name: &str, bytes: &[u8]) -> Result<(), KeysError> {
        replace(&self.folder, name, bytes)
            .map_err(|source| KeysError::File { path: self.folder.join(name), source })
    }
}

#[derive(Serialize, Deserialize, Zeroize)]
#[zeroize(drop)]
#[serde(deny_unknown_fields)]
struct Parts {
    key: Vec<u8>,
    certificate: Vec<u8>,
}

/// Writes a file beside the old one and puts it in its place.
pub(crate) fn replace(folder: &Path, name: &str, bytes: &[u8]) -> io::Result<()> {
    use io::Write;
    let making = folder.join(format!("{name}.new"));
    let mut file = fs::File::create(&making)?;
    file.write_all(bytes)?;
    file.sync_all()?;
    fs::rename(&making, folder.join(name))?;
    fs::File::open(folder)?.sync_all()
}

/// Nonce, then ciphertext and tag. Nonces are random: few files are ever sealed.
fn seal(key: &[u8; 32], context: &[u8], plain: &[u8]) -> Result<Vec<u8>, KeysError> {
    let key = LessSafeKey::new(UnboundKey::new(&AES_256_GCM, key).map_err(|_| KeysError::Crypto)?);
    let mut nonce = [0; NONCE_LEN];
    SystemRandom::new().fill(&mut nonce).map_err(|_| KeysError::Crypto)?;
    let mut body = plain.to_vec();
    key.seal_in_place_append_tag(Nonce::assume_unique_for_key(nonce), Aad::from(context), &mut body)
        .map_err(|_| KeysError::Crypto)?;
    Ok([nonce.as_slice(), &body].concat())
}

/// `None`: it was not sealed with this key and for this.
fn open(key: &[u8; 32], context: &[u8], sealed: &[u8]) -> Result<Option<Zeroizing<Vec<u8>>>, KeysError> {
    let key = LessSafeKey::new(UnboundKey::new(&AES_256_GCM, key).map_err(|_| KeysError::Crypto)?);
    let Some((nonce, body)) = sealed.split_at_checked(NONCE_LEN) else { return Ok(None) };
    let Ok(nonce) = Nonce::try_assume_unique_for_key(nonce) else { return Ok(None) };
    let mut body = Zeroizing::new(body.to_vec());
    let Ok(length) = key.open_in_place(nonce, Aad::from(context), &mut body).map(|it| it.len()) else {
        return Ok(None);
    };
    body.truncate(length);
    Ok(Some(body))
}

/// Why there is no key.
#[derive(Debug, thiserror::Error)]
pub enum KeysError {
    /// The platform refuses.
    #[error("the TEE gives no sealing key")]
    Tee(#[from] AttesterError),
    /// The host's folder.
    #[error("{} cannot be read or written", path.display())]
    File {
        /// Which file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The CA.
    #[error("the CA cannot be made")]
    Authority(#[from] AuthorityError),
    /// No randomness, or an operation on keys failed.
    #[error("a cryptographic operation failed")]
    Crypto,
}

impl KeysError {
    /// The stable code.
    pub fn code(&self) -> &'static str {
        match self {
            Self::Tee(_) => "SEALING_UNAVAILABLE",
            Self::File { .. } => "STATE_UNREADABLE",
            Self::Authority(_) | Self::Crypto => "INTERNAL",
        }
    }
}

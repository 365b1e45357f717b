//! Keys, and where they lie: the master key and the CA's key, sealed, in the host's folder.
//!
//! ```text
//!  <state>/key        master key, sealed to this TEE with this launch configuration; while it is being exchanged
//!                     the one before too; and to whom shares of it were dealt
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

use crate::{
    authority::{Authority, AuthorityError},
    recovery::KnownTo,
};

const KEY_CONTEXT: &str = "database/key/2";
const AUTHORITY_CONTEXT: &str = "database/authority/1";
const BEFORE_CONTEXT: &[u8] = b"bailey/database-key-before/1";
/// No honest sealed file is longer.
const LONGEST: u64 = 16 * 1024;

/// The key that everything durable hangs on. While it takes the place of another, what that one sealed is read too.
#[derive(Clone)]
pub struct MasterKey {
    key: Zeroizing<[u8; 32]>,
    before: Option<Zeroizing<[u8; 32]>>,
    /// `None`: nobody here can tell.
    known_to: Option<KnownTo>,
}

impl MasterKey {
    /// A fresh one.
    ///
    /// # Errors
    /// No randomness.
    pub fn generate() -> Result<Self, KeysError> {
        let mut key = Zeroizing::new([0; 32]);
        SystemRandom::new().fill(key.as_mut()).map_err(|_| KeysError::Crypto)?;
        Ok(Self { key, before: None, known_to: Some(KnownTo::of(None)) })
    }

    /// One that shares or the coordinator gave.
    pub fn new(key: Zeroizing<[u8; 32]>) -> Self {
        Self { key, before: None, known_to: None }
    }

    /// A fresh one in the place of this one.
    ///
    /// # Errors
    /// No randomness.
    pub fn successor(&self) -> Result<Self, KeysError> {
        Ok(Self { before: Some(self.key.clone()), ..Self::generate()? })
    }

    /// Without the one before.
    pub(crate) fn alone(&self) -> Self {
        Self { before: None, ..self.clone() }
    }

    /// Whether there is none before.
    pub(crate) fn is_alone(&self) -> bool {
        self.before.is_none()
    }

    /// To whom shares of it were dealt.
    pub(crate) fn known_to(&self) -> Option<&KnownTo> {
        self.known_to.as_ref()
    }

    /// Shares of it are dealt; `None`: and others had some who must have none.
    pub(crate) fn becomes_known_to(&mut self, holders: Option<KnownTo>) {
        self.known_to = holders;
    }

    /// To be split into shares.
    pub(crate) fn bytes(&self) -> &[u8; 32] {
        &self.key
    }

    /// Names the key, and says nothing of it.
    pub(crate) fn id(&self) -> Result<String, KeysError> {
        Ok(hex::encode(&derive(&[self.key.as_slice()], &[b"bailey/database-key-id/1"])?[..16]))
    }

    /// The one before for whoever has this one, to lie beside its shares.
    pub(crate) fn wrapped(&self) -> Result<Option<Vec<u8>>, KeysError> {
        let Some(before) = &self.before else { return Ok(None) };
        let key = derive(&[self.key.as_slice()], &[BEFORE_CONTEXT])?;
        seal(&key, BEFORE_CONTEXT, before.as_slice()).map(Some)
    }

    /// With the one before, as [`MasterKey::wrapped`] gave it; what is none is left out.
    pub(crate) fn after(self, wrapped: &[u8]) -> Result<Self, KeysError> {
        let key = derive(&[self.key.as_slice()], &[BEFORE_CONTEXT])?;
        let before = open(&key, BEFORE_CONTEXT, wrapped)?.and_then(|it| it.as_slice().try_into().ok());
        Ok(Self { before: before.map(Zeroizing::new), ..self })
    }

    /// The key of the log of a lineage, named by its first manifest: another lineage's log does not open with it.
    ///
    /// # Errors
    /// Never with a key of this length.
    pub fn log_key(&self, first: &[u8; 32]) -> Result<LogKey, KeysError> {
        let one = |key: &Zeroizing<[u8; 32]>| -> Result<LogKey, KeysError> {
            Ok(LogKey::new(*derive(&[key.as_slice()], &[b"bailey/database-log/1", first])?))
        };
        let key = one(&self.key)?;
        Ok(match &self.before {
            Some(before) => key.after(one(before)?),
            None => key,
        })
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
        let key = opened.and_then(|it| serde_json::from_slice::<Sealed>(&it).ok()).and_then(Sealed::master);
        Ok(key.map_or(Found::Locked, Found::Key))
    }

    /// Seals a master key to this TEE.
    ///
    /// # Errors
    /// As [`Keys::master`].
    pub fn keep_master(&self, key: &MasterKey) -> Result<(), KeysError> {
        let sealing = self.tee.sealing_key(KEY_CONTEXT)?;
        let sealed = Sealed {
            key: key.key.to_vec(),
            before: key.before.as_ref().map(|it| it.to_vec()),
            known_to: key.known_to.clone(),
        };
        let plain = Zeroizing::new(serde_json::to_vec(&sealed).map_err(|_| KeysError::Crypto)?);
        self.write("key", &seal(sealing.as_bytes(), KEY_CONTEXT.as_bytes(), &plain)?)
    }

    /// The CA of a state: the one that was kept, or a new one, which is kept then. One that was kept with the key before
    /// is kept anew.
    ///
    /// # Errors
    /// As [`Keys::master`], or when none can be made.
    pub fn authority(&self, master: &MasterKey, now: appraisal::UnixTime) -> Result<Authority, KeysError> {
        let sealing = self.tee.sealing_key(AUTHORITY_CONTEXT)?;
        let context = AUTHORITY_CONTEXT.as_bytes();
        let key = derive(&[sealing.as_bytes(), master.key.as_slice()], &[context])?;
        if let Some(sealed) = self.read("authority")? {
            let mut opened = open(&key, context, &sealed)?;
            if let (None, Some(before)) = (&opened, &master.before) {
                let before = derive(&[sealing.as_bytes(), before.as_slice()], &[context])?;
                opened = open(&before, context, &sealed)?;
                if let Some(plain) = &opened {
                    self.write("authority", &seal(&key, context, plain)?)?;
                }
            }
            if let Some(parts) = opened.and_then(|it| serde_json::from_slice::<Parts>(&it).ok()) {
                let key = Zeroizing::new(parts.key.clone());
                return Ok(Authority::from_parts(key, parts.certificate.clone())?);
            }
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

/// A [`MasterKey`].
#[derive(Serialize, Deserialize, Zeroize)]
#[zeroize(drop)]
#[serde(deny_unknown_fields)]
struct Sealed {
    key: Vec<u8>,
    before: Option<Vec<u8>>,
    #[zeroize(skip)]
    known_to: Option<KnownTo>,
}

impl Sealed {
    fn master(self) -> Option<MasterKey> {
        let one = |bytes: &[u8]| bytes.try_into().ok().map(Zeroizing::new);
        let before = match &self.before {
            Some(before) => Some(one(before)?),
            None => None,
        };
        Some(MasterKey { key: one(&self.key)?, before, known_to: self.known_to.clone() })
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

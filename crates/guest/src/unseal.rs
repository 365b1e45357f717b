//! Opens sealed secrets: fetches the key that verifies one, verifies it, and only then fetches what it names.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use sealed_secret::{EnvelopeError, KeyError, KeyId, Sealed, SealedError, Secret, VerifyingKey};
use zeroize::Zeroizing;

use crate::broker::{Broker, BrokerError};

/// The longest file with a key, in bytes.
const MAX_KEY_FILE: u64 = 64 * 1024;

/// Why a sealed secret stays closed.
#[derive(Debug, thiserror::Error)]
pub enum UnsealError {
    /// It is none, or was changed.
    #[error(transparent)]
    Sealed(#[from] SealedError),
    /// Its envelope cannot be opened.
    #[error(transparent)]
    Envelope(#[from] EnvelopeError),
    /// The key that verifies it cannot be fetched.
    #[error("the key that verifies the sealed secret cannot be had from the broker")]
    VerifyingKey(#[source] BrokerError),
    /// What was fetched is no key.
    #[error("what should verify the sealed secret is no key")]
    Key(#[from] KeyError),
    /// There is no folder of keys.
    #[error("the sealed secret names a key in a file, and there is no folder of keys")]
    NoFolder,
    /// The file cannot be read.
    #[error("the key {} cannot be read", .path.display())]
    File {
        /// Which.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// What it names cannot be fetched.
    #[error("what the sealed secret names cannot be had from the broker")]
    Content(#[source] BrokerError),
}

impl UnsealError {
    /// What mends it.
    pub fn remedy(&self) -> &'static str {
        match self {
            Self::Sealed(_) | Self::Envelope(_) => {
                "seal it again with `bailey secret seal`, and give guests the public key of the one that seals"
            }
            Self::VerifyingKey(error) | Self::Content(error) => error.remedy(),
            Self::Key(_) => {
                "a JWK is expected: {\"kty\":\"EC\",\"crv\":\"P-256\",…}, as `bailey secret seal` prints it"
            }
            Self::NoFolder => {
                "give --sealing-keys FOLDER, or seal it with a kid that is a resource (kbs:///…)"
            }
            Self::File { .. } => {
                "put the JWK there, as a plain file in a folder that the guest's image holds"
            }
        }
    }
}

/// The secret in a sealed one. `keys` is the folder of those keys that are named by files.
///
/// # Errors
/// When it does not verify, or something that it names cannot be had.
pub async fn unseal(
    sealed: Sealed,
    broker: &Broker,
    keys: Option<&Path>,
) -> Result<Zeroizing<Vec<u8>>, UnsealError> {
    let jwk = match sealed.key_id() {
        KeyId::Resource(uri) => broker.resource(uri).await.map_err(UnsealError::VerifyingKey)?,
        KeyId::File(name) => read_key(&keys.ok_or(UnsealError::NoFolder)?.join(name))?,
    };
    match sealed.verify(&VerifyingKey::from_jwk(&jwk)?)? {
        Secret::Vault(uri) => broker.resource(&uri).await.map_err(UnsealError::Content),
        Secret::Envelope(envelope) => {
            let key = broker.resource(envelope.key()).await.map_err(UnsealError::Content)?;
            Ok(envelope.open(&key)?)
        }
    }
}

fn read_key(path: &Path) -> Result<Zeroizing<Vec<u8>>, UnsealError> {
    let read = || {
        let about = fs::symlink_metadata(path)?;
        if !about.is_file() || about.len() > MAX_KEY_FILE {
            return Err(io::Error::other("it is no plain file, or too long for a key"));
        }
        fs::read(path)
    };
    read().map(Zeroizing::new).map_err(|source| UnsealError::File { path: path.to_owned(), source })
}

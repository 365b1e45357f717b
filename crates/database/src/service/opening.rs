//! From what the host has to a database that can be started: the log is verified as a whole before anything of it runs.

use std::{
    fs::{self, File},
    io,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    sync::Arc,
};

use attested_tls::{key::sha256, launch::DatabaseConfiguration};
use attester::SealingKey;
use database_manifest::Manifest;
use marble::Volume;
use rustix::fs::{FlockOperation, flock};
use sealed_log::{Ahead, Anchored, Error as LogError, LogKey};
use tpm_anchor::{Address, KeyDigest};
use volume::{Anchor, AnchorError, Folder, Head, MemoryAnchor};

use super::ServiceError;
use crate::{
    engine::{self, Engine, Settings},
    keys::MasterKey,
    restore::{RestoreError, Restored, Until, restore},
    tpm_anchor::TpmAnchor,
};

/// No manifest is longer.
const LONGEST_MANIFEST: u64 = 4 << 20;

/// Where PostgreSQL's files are: in memory, of one instance alone, and gone with it.
pub struct Place {
    folder: PathBuf,
    _lock: File,
}

impl Place {
    /// The place for a state's folder, empty.
    ///
    /// # Errors
    /// When another instance has it.
    pub fn take(memory: &Path, state: &Path) -> Result<Self, ServiceError> {
        let failed = |path: &Path| {
            let path = path.to_owned();
            move |source| ServiceError::File { path, source }
        };
        let state = state.canonicalize().map_err(failed(state))?;
        let name = hex::encode(&sha256(state.as_os_str().as_encoded_bytes())[..8]);
        let folder = memory.join(format!("bailey-database-{name}"));
        let lock = folder.with_extension("lock");
        let file = File::create(&lock).map_err(failed(&lock))?;
        flock(&file, FlockOperation::NonBlockingLockExclusive).map_err(|_| ServiceError::InUse)?;
        let place = Self { folder, _lock: file };
        // What one that was killed has left.
        engine::forget(&place.folder);
        place.clear().map_err(failed(&place.folder))?;
        fs::create_dir(&place.folder).map_err(failed(&place.folder))?;
        // PostgreSQL's user goes through it.
        let mode = fs::Permissions::from_mode(0o711);
        fs::set_permissions(&place.folder, mode).map_err(failed(&place.folder))?;
        Ok(place)
    }

    /// The folder.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    fn clear(&self) -> io::Result<()> {
        match fs::remove_dir_all(&self.folder) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            other => other,
        }
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        // What cannot be removed is cleared by the next.
        let _ = self.clear();
        let _ = fs::remove_file(self.folder.with_extension("lock"));
    }
}

/// A log that was verified, and what it holds.
pub struct Opened {
    /// Of the log.
    pub key: LogKey,
    /// What was found; its database, if there is one, is in the data directory.
    pub restored: Restored,
    /// Who remembers the newest record.
    pub anchor: Box<dyn Anchor>,
    /// Whether the log is further than the anchor by more than one record.
    pub ahead: bool,
}

/// What remembers the newest record of the log.
pub enum Anchoring {
    /// Nothing but the positions that clients hold.
    Receipts,
    /// A TPM.
    Tpm {
        /// Where it is.
        address: Address,
        /// The key of the one that it must be.
        required: Option<KeyDigest>,
        /// Where the anchor's files are.
        folder: PathBuf,
        /// Seals them.
        key: SealingKey,
    },
    /// The coordinator of the mesh.
    Coordinator(Volume),
}

impl Anchoring {
    /// The anchor of a state of this TEE, and where it stands.
    fn standing(&self) -> Result<(Option<Box<dyn Anchor>>, Anchored), ServiceError> {
        match self.anchor()? {
            None => Ok((None, Anchored::Unknown)),
            Some(anchor) => {
                let anchored = Anchored::from(anchor.current().map_err(unanchored)?);
                Ok((Some(anchor), anchored))
            }
        }
    }

    /// A new anchor for a state that comes from another TEE, whose anchor nobody here can ask.
    fn anew(&self, head: Option<Head>) -> Result<Option<Box<dyn Anchor>>, ServiceError> {
        let Self::Tpm { folder, .. } = self else { return self.anchor() };
        for name in ["anchor-pin", "anchor-head"] {
            let path = folder.join(name);
            match fs::remove_file(&path) {
                Err(source) if source.kind() != io::ErrorKind::NotFound => {
                    return Err(ServiceError::File { path, source });
                }
                _ => {}
            }
        }
        let anchor = self.anchor()?;
        if let (Some(anchor), Some(head)) = (&anchor, head) {
            anchor.advance(None, head).map_err(unanchored)?;
        }
        Ok(anchor)
    }

    fn anchor(&self) -> Result<Option<Box<dyn Anchor>>, ServiceError> {
        Ok(match self {
            Self::Receipts => None,
            Self::Tpm { address, required, folder, key } => {
                Some(Box::new(TpmAnchor::open(address, *required, folder, key.as_bytes())?))
            }
            Self::Coordinator(volume) => Some(Box::new(volume.clone())),
        })
    }
}

fn unanchored(error: AnchorError) -> ServiceError {
    let error = match error {
        AnchorError::Moved => LogError::Superseded,
        AnchorError::Unreachable(reason) => LogError::AnchorUnreachable(reason),
    };
    RestoreError::Log(error).into()
}

/// Whose state it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Origin {
    /// This TEE's.
    Own,
    /// Another's: shares opened it.
    Recovered,
}

/// What opening takes.
pub struct Opening {
    /// The log's folder.
    pub log: PathBuf,
    /// Where PostgreSQL is to be.
    pub settings: Settings,
    /// The first manifest.
    pub first: [u8; 32],
    /// What remembers its newest record.
    pub anchoring: Anchoring,
}

impl Opening {
    /// Whether the host has files of a log.
    pub fn has_log(&self) -> bool {
        let named = |entry: io::Result<fs::DirEntry>| {
            entry.is_ok_and(|entry| entry.file_name().to_string_lossy().starts_with("log-"))
        };
        fs::read_dir(&self.log).is_ok_and(|mut entries| entries.any(named))
    }

    /// Verifies the log with the key that follows from a master key, and unpacks it. Blocking, for as long as that
    /// takes. Nothing but PostgreSQL's folder is written.
    ///
    /// # Errors
    /// With what the host did to the log, by name.
    pub fn open(&self, master: &MasterKey, origin: Origin) -> Result<Opened, ServiceError> {
        fs::create_dir_all(&self.log)
            .map_err(|source| ServiceError::File { path: self.log.clone(), source })?;
        let key = master.log_key(&self.first)?;
        let host = Folder::new(&self.log);
        let (anchor, anchored) = match origin {
            Origin::Own => self.anchoring.standing()?,
            Origin::Recovered => (None, Anchored::Unknown),
        };
        let attempt = |ahead| restore(&host, &key, anchored, ahead, &self.settings.data, Until::End);
        let (restored, ahead) = match attempt(Ahead::One) {
            Err(RestoreError::Log(LogError::AheadOfAnchor { .. })) => (attempt(Ahead::Any)?, true),
            restored => (restored?, false),
        };
        let head = restored.contents.head;
        let anchor = match origin {
            Origin::Recovered if restored.database.is_some() => self.anchoring.anew(head)?,
            _ => anchor,
        };
        let anchor = anchor.unwrap_or_else(|| Box::new(MemoryAnchor::new(head)));
        Ok(Opened { key, restored, anchor, ahead })
    }
}

/// The manifest that the measured launch configuration names, from the host's file.
///
/// # Errors
/// When it is missing, another, or has faults.
pub fn first_manifest(
    configuration: &DatabaseConfiguration,
    file: Option<&Path>,
) -> Result<Manifest, ServiceError> {
    let path = file.ok_or(ServiceError::NoManifest)?;
    let failed = |source| ServiceError::File { path: path.to_owned(), source };
    if fs::metadata(path).map_err(failed)?.len() > LONGEST_MANIFEST {
        return Err(failed(io::ErrorKind::FileTooLarge.into()));
    }
    let bytes = fs::read(path).map_err(failed)?;
    let seen = sha256(&bytes);
    if seen != configuration.manifest {
        return Err(ServiceError::ManifestDiffers { expected: configuration.manifest, seen });
    }
    Manifest::parse(&bytes).map_err(ServiceError::Manifest)
}

/// `initdb`, and a server on it in which no commit waits for anyone yet.
pub async fn new_engine(settings: &Settings) -> Result<Engine, ServiceError> {
    let settings = Arc::new(settings.clone());
    let making = Arc::clone(&settings);
    let made = tokio::task::spawn_blocking(move || Engine::initialise(&making)).await;
    made.map_err(|_| ServiceError::Panicked)??;
    Ok(Engine::start(&settings).await?)
}

//! A vendor's library, loaded from bytes that were measured: read once, hashed, and loaded out of the very memory that
//! was hashed, so that nothing can be put in its place between the two.
//!
//! What this does not measure are the libraries that it needs in turn, which the loader finds by itself, and whatever it
//! reads and talks to.

use std::{
    collections::BTreeMap,
    fs::File,
    io::{Read, Write},
    os::fd::{AsRawFd, IntoRawFd, OwnedFd},
    path::Path,
    sync::{Mutex, PoisonError},
};

use aws_lc_rs::digest::{SHA256, digest};
use cryptoki::context::{CInitializeArgs, CInitializeFlags, Pkcs11};
use rustix::fs::{MemfdFlags, Mode, OFlags, SealFlags, fcntl_add_seals, memfd_create, open};

/// Larger than any vendor's.
const MOST_BYTES: u64 = 64 * 1024 * 1024;

/// Why a library is not loaded.
#[derive(Debug, thiserror::Error)]
pub enum LibraryError {
    /// Not a file that can be read whole.
    #[error("the library cannot be read: it must be a file of at most {MOST_BYTES} bytes, and no link")]
    Unreadable,
    /// Not the one that was asked for.
    #[error("the library is another one: SHA-256 {} is expected, and {} was found", hex(expected), hex(seen))]
    Other {
        /// Asked for.
        expected: [u8; 32],
        /// Of the file.
        seen: [u8; 32],
    },
    /// No library with this interface, or one that does not start.
    #[error("the library cannot be loaded")]
    Unloadable(#[from] cryptoki::error::Error),
}

fn hex(bytes: &[u8; 32]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// The library of this digest, initialised; from the file at `path` when it is asked for the first time. A library is
/// loaded once, and stays: what it may have begun cannot be undone, and loaders know what they have loaded by names,
/// which must not come to mean something else.
///
/// # Errors
/// See [`LibraryError`].
pub fn measured_library(path: &Path, expected: &[u8; 32]) -> Result<Pkcs11, LibraryError> {
    static LOADED: Mutex<BTreeMap<[u8; 32], Pkcs11>> = Mutex::new(BTreeMap::new());
    let mut loaded = LOADED.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(library) = loaded.get(expected) {
        return Ok(library.clone());
    }
    let bytes = read(path).ok_or(LibraryError::Unreadable)?;
    let mut seen = [0; 32];
    seen.copy_from_slice(digest(&SHA256, &bytes).as_ref());
    if seen != *expected {
        return Err(LibraryError::Other { expected: *expected, seen });
    }
    let memory = sealed(&bytes).ok_or(LibraryError::Unreadable)?;
    let library = Pkcs11::new(format!("/proc/self/fd/{}", memory.as_raw_fd()))?;
    // Its number is the name that the loader knows the library by, so it is never given to anything else.
    let _ = memory.into_raw_fd();
    library.initialize(CInitializeArgs::new(CInitializeFlags::OS_LOCKING_OK))?;
    loaded.insert(*expected, library.clone());
    Ok(library)
}

fn read(path: &Path) -> Option<Vec<u8>> {
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC | OFlags::NONBLOCK;
    let file = File::from(open(path, flags, Mode::empty()).ok()?);
    let metadata = file.metadata().ok()?;
    if !metadata.is_file() || metadata.len() > MOST_BYTES {
        return None;
    }
    let mut bytes = Vec::new();
    file.take(MOST_BYTES + 1).read_to_end(&mut bytes).ok()?;
    (bytes.len() as u64 <= MOST_BYTES).then_some(bytes)
}

/// Memory with these bytes that nobody can change any more.
fn sealed(bytes: &[u8]) -> Option<OwnedFd> {
    let memory = memfd_create("pkcs11", MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING).ok()?;
    let mut file = File::from(memory);
    file.write_all(bytes).ok()?;
    let seals = SealFlags::SEAL | SealFlags::SHRINK | SealFlags::GROW | SealFlags::WRITE;
    fcntl_add_seals(&file, seals).ok()?;
    Some(file.into())
}

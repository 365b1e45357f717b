//! Encrypted, authenticated, fresh storage for a workload, in files of a host that is not trusted.
//!
//! A [`Volume`] is a tree of files and directories. The host sees ciphertext, sizes and times of writing; whatever it
//! alters, exchanges, cuts, renames or brings back from yesterday is found and refused by name ([`Error::code`]). After
//! a crash at any write, what was acknowledged by [`Volume::commit`] is there, whole, and nothing else is.
//!
//! It is not a place that the host cannot destroy, and it knows nothing of where its key is kept or who remembers its
//! newest state: both are given, the latter as an [`Anchor`]. Format and proofs: `docs/volumes.md`.
//!
//! ```text
//!  write ─▶ pages in memory ─▶ chunks in new slots of `data` ─┐ synced
//!                                                             ▼
//!                              record in `log-…` (chained)  ──┤ synced
//!                                                             ▼
//!                              anchor: head n ─▶ head n+1  ───┘ then acknowledged, then old slots are free
//! ```
//!
//! ```
//! # fn main() -> Result<(), volume::Error> {
//! # let folder = tempfile::tempdir().unwrap();
//! use volume::{Folder, Kind, MemoryAnchor, Options, Time, Volume, VolumeKey, tree::ROOT};
//!
//! let (key, anchor) = (VolumeKey::new([7; 32]), MemoryAnchor::new(None));
//! let host = Folder::new(folder.path());
//! let volume = Volume::open(host, &key, anchor.clone(), &Options { size: 1 << 20, ..Options::default() })?;
//! let file = volume.create(ROOT, "notes", Kind::File, Time(0))?;
//! volume.write_at(file, 0, b"kept", Time(0))?;
//! volume.commit()?;
//! # Ok(())
//! # }
//! ```

mod anchor;
mod cipher;
mod error;
mod host;
mod log;
mod open;
mod pages;
mod record;
pub mod remote;
mod slots;
pub mod tree;
mod volume;

pub use crate::{
    anchor::{Anchor, AnchorError, Head, MemoryAnchor},
    cipher::VolumeKey,
    error::Error,
    host::{Folder, Host, HostFile, Lock},
    record::{Parsed, parse},
    tree::{NodeId, Time, Times},
    volume::{CHUNK, Entry, Kind, MAX_SIZE, Options, Stat, Volume},
};

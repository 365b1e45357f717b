//! A log in files of a host that is not trusted: encrypted, each record bound to all before it, anchored against
//! rollback, cut at checkpoints.
//!
//! A record is one group commit: entries that became durable together, each with a [`Kind`] that means something to
//! the caller only. The host sees ciphertext, sizes and times. Whatever it alters, exchanges, cuts, renames or brings
//! back from yesterday is found by [`read`] and refused by name ([`Error::code`]).
//!
//! It knows nothing of SQL, nor of where its key is kept; who remembers its newest record is given as a
//! [`volume::Anchor`]. Format and proofs: `docs/sealed-log.md`.
//!
//! ```text
//!  entries ─▶ one sealed record at the end of `log-FIRST` ─▶ synced ─▶ anchor: head n ─▶ head n+1 ─▶ acknowledged
//!               └ bound to its place and, by the chain, to every record before it
//! ```
//!
//! ```
//! # fn main() -> Result<(), sealed_log::Error> {
//! # let folder = tempfile::tempdir().unwrap();
//! use sealed_log::{Ahead, Anchored, Entry, Kind, LogKey, Options, Writer, read};
//! use volume::{Folder, MemoryAnchor};
//!
//! let (key, anchor) = (LogKey::new([7; 32]), MemoryAnchor::new(None));
//! let host = || Box::new(Folder::new(folder.path()));
//! let contents = read(&*host(), &key, Anchored::Never, Ahead::One, &mut |_, _| Ok(()))?;
//! let mut writer = Writer::begin(host(), &key, contents, Box::new(anchor.clone()), 0, Options::default())?;
//! writer.append(&[Entry { kind: Kind(1), bytes: b"kept" }])?;
//! writer.anchor()?;
//! drop(writer);
//!
//! let anchored = Anchored::from(anchor.head());
//! read(&*host(), &key, anchored, Ahead::One, &mut |head, entry| {
//!     assert_eq!((head.sequence, entry.bytes), (1, &b"kept"[..]));
//!     Ok(())
//! })?;
//! # Ok(())
//! # }
//! ```

mod cipher;
mod cursor;
mod error;
mod format;
mod history;
mod read;
mod writer;

pub use crate::{
    cipher::LogKey,
    cursor::{Cursor, Plaintext, Step, Tail, bases},
    error::Error,
    format::{Entry, FileMark, Kind, MAX_RECORD, Parsed, number, parse},
    history::{Batch, Heads, Held},
    read::{Ahead, Anchored, Contents, read},
    writer::{Options, Writer},
};

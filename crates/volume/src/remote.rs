//! The host's files over a stream of bytes, for Keeps whose host shares no file system with them, such as virtual machines.
//! No kernel reads a file system of the host's, and the guest has no driver for one: what crosses are these few requests.
//!
//! ```text
//!  Keep: Volume ─ Host ─▶ Remote ─▶ Link ══ bytes, the host's ══▶ serve ─▶ Folder     host
//! ```
//!
//! Neither side believes the other. The Keep's bounds what it reads and takes every answer for a hostile host's, as of any
//! [`Host`]; the host's knows volumes by their ids and their two kinds of files, and leads nowhere else. A link that broke
//! stays broken: after half an answer nobody knows where the next begins.

mod client;
mod server;
mod wire;

pub use client::{Link, Remote};
pub use server::serve;

/// Parsers, for fuzzing.
#[doc(hidden)]
pub mod parsers {
    /// Reads a request and an answer: what is read has one encoding.
    pub fn both(bytes: &[u8]) {
        if let Some(request) = super::wire::Request::parse(bytes) {
            assert_eq!(request.to_bytes()[4..], *bytes);
        }
        drop(super::wire::answer(bytes));
    }
}

//! A client of OCI registries (distribution specification 1.1) that believes nothing it is told: what is fetched is what
//! its digest names and what a signer signed, or it is refused.
//!
//! [`Client`] speaks to one registry; [`fetch()`] gets a package, [`push()`] puts one there, [`attach`] a signature beside
//! it. A registry, and whoever it redirects to, can withhold and delay; what it cannot do is in `tests/it/hostile.rs`.
//! Every answer is bounded in size and time, and credentials go over TLS to the registry and to the server of its tokens
//! only.
//!
//! It does not decide who may sign what: that is in [`Wanted`], which its caller gives. It is not built on `oci-client`:
//! that reads answers of any length into memory, and its HTTP client brings its own TLS settings.
//!
//! ```no_run
//! # async fn example() -> Result<(), Box<dyn std::error::Error>> {
//! use registry::{Client, Security, Sealed, Wanted, fetch};
//!
//! let package: package::Pinned = "registry.example/team/app@sha256:…".parse()?;
//! let tls = Security::web(attested_tls::clock::system())?;
//! let client = Client::new(package.repository.registry(), tls, None)?;
//! let fetched = fetch(&client, &Wanted::Exactly, &package, appraisal::UnixTime(0), &Sealed).await?;
//! # Ok(()) }
//! ```

mod auth;
mod client;
mod encryption;
mod error;
mod fetch;
mod push;
mod signed;
mod wire;

pub use client::{Client, Credentials, Security};
pub use encryption::{Encrypted, EncryptionError, Opener, Sealed, encrypt};
pub use error::RegistryError;
pub use fetch::{Fetched, PackageError, Wanted, fetch};
pub use push::{attach, push};
pub use signed::{NotCounted, Release, Seen, signatures};

/// Parsers, one by one, for fuzzing.
#[doc(hidden)]
pub mod parsers {
    /// Reads the challenge of an answer that wants credentials.
    pub fn challenge(text: &str) {
        drop(crate::auth::Challenge::parse(text));
    }
}

//! Sealed secrets of Confidential Containers: text that lies about openly (in a Kubernetes `Secret`, say), and that
//! only an attested guest can turn into a secret. It is a JWS in compact form with a word before it,
//! `sealed.<header>.<payload>.<signature>`, and its payload is one of two kinds:
//!
//! - **vault**: the name of a resource of the key broker, which is the secret;
//! - **envelope**: the secret itself, under a data key, which is under a key of the key broker.
//!
//! This crate is both sides of the format, and no I/O: who opens one fetches the keys that it names. There is no way
//! to read a payload whose signature was not verified: [`Sealed::verify`] is the only origin of a [`Secret`].
//!
//! ```
//! use rcar::ResourceUri;
//! use sealed_secret::{KeyId, Sealed, Secret, SigningKey};
//! let key = SigningKey::generate().unwrap();
//! let (name, kid): (ResourceUri, KeyId) =
//!     ("kbs:///default/password/db".parse().unwrap(), "kbs:///default/key/sealing".parse().unwrap());
//!
//! let text = sealed_secret::vault(&name, &kid, &key).unwrap();
//!
//! let sealed = Sealed::parse(&text).unwrap();
//! assert_eq!(sealed.key_id(), &kid, "so its verifying key has to be fetched");
//! let Secret::Vault(found) = sealed.verify(&key.verifying_key()).unwrap() else { panic!() };
//! assert_eq!(found, name);
//! ```
//!
//! Source: the design of sealed secrets in the guest components of Confidential Containers (`docs/SEALED_SECRET.md`).

mod envelope;
mod key;
mod seal;
mod sealed;

pub use envelope::{Envelope, EnvelopeError};
pub use key::{KeyError, SigningKey, VerifyingKey};
pub use seal::{SealError, envelope, vault};
pub use sealed::{KeyId, KeyIdError, MAX_SEALED, Sealed, SealedError, Secret};

/// The version of the payload that is written and read.
const VERSION: &str = "0.1.0";

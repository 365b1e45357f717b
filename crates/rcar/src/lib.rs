//! The RCAR protocol (Request, Challenge, Attestation, Response) of Confidential Containers' key broker, as pure types.
//!
//! What it is: the messages of protocol versions 0.1.0 to 0.4.0 with strict readers, the keys that resources are
//! encrypted to ([`PublicKey`], [`PrivateKey`]), the encryption itself ([`Jwe`]), and what Evidence must cover
//! ([`ReportDigest`]). [`client`] is the guest's side as a
//! state machine.
//!
//! What it is not: nothing here does I/O, reads a clock, keeps sessions, appraises Evidence or decides what is
//! released.
//!
//! ```text
//! guest                                  broker
//!   │  POST auth    Request ───────────────▶ │
//!   │ ◀───────────────────────── Challenge   │  nonce
//!   │  POST attest  Attestation ───────────▶ │  Evidence covers hash(nonce, key, devices)
//!   │ ◀───────────────────────────── token   │
//!   │  GET resource ───────────────────────▶ │
//!   │ ◀─────────────────────────────── Jwe   │  encrypted to the key
//! ```
//!
//! ```
//! use rcar::{KeyAlgorithm, Jwe, PrivateKey, PublicKey};
//!
//! let guest = PrivateKey::generate(KeyAlgorithm::EcdhP256)?;
//! // What the broker has of it: JSON.
//! let key = PublicKey::parse(guest.public().to_json().to_string().as_bytes())?;
//! let sent = key.encrypt(b"secret")?.to_json().to_string();
//! assert_eq!(guest.decrypt(&Jwe::parse(sent.as_bytes())?)?.as_slice(), b"secret");
//! # Ok::<(), rcar::Invalid>(())
//! ```

mod attestation;
pub mod client;
mod derive;
mod hash;
mod init_data;
mod invalid;
mod json;
mod jwe;
mod key;
mod message;
mod pem;
mod tee;
mod text;
mod transcript;
mod uri;
mod version;
mod wrap;

pub use attestation::{Attestation, Content, MAX_ATTESTATION, Opened, Piece, RuntimeData};
pub use hash::HashAlgorithm;
pub use init_data::{InitData, MAX_INIT_DATA};
pub use invalid::Invalid;
pub use json::canonical;
pub use jwe::{Jwe, MAX_JWE};
pub use key::{KeyAlgorithm, MAX_JWK, PrivateKey, PublicKey};
pub use message::{Challenge, ErrorBody, ErrorType, MAX_REQUEST, Request, SESSION_COOKIE};
pub use tee::Tee;
pub use transcript::{ReportDigest, fitted};
pub use uri::ResourceUri;
pub use version::Version;

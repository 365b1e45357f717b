//! Verdicts bound to TLS peers.
//!
//! Three kinds of connection carry everything in Bailey, and all are made here:
//!
//! - [`channel`]: an **attested connection** between two TEEs that do not know each other yet. After a
//!   TLS 1.3 handshake with fresh self-signed keys, each side proves its Evidence over this very
//!   connection (nonce of the verifier, TLS exporter, both keys, role, direction) before a byte of the
//!   application passes. The coordinator and a joining Keep speak over one.
//! - [`direct`]: an attested connection of which **one side is a TEE**, a Keep, and the other a client with a one-use
//!   key, which the Keep's claims name.
//! - [`marble`]: mutual TLS between **Marbles** that the coordinator has admitted. A certificate
//!   carries the Marble's identity; who may connect is decided by that identity and never by a name.
//!
//! ```text
//!  Keep                                    Coordinator
//!   │ ClientHello … Finished (TLS 1.3 only, no resumption, no early data)
//!   ├── Hello { nonce, role } ──────────────▶│
//!   │◀───────────────── Hello { nonce, role }┤
//!   ├── Statement { evidence, claims } ─────▶│ report data = f(role, own key, g(nonce, exporter, keys, …), claims)
//!   │◀─────────── Statement { … } ───────────┤
//!   ├── Outcome ────────────────────────────▶│ each appraises the other; either may refuse
//!   │◀──────────────────────────── Outcome ──┤
//!   │            application bytes           │
//! ```
//!
//! For peers that speak neither, [`interop`] makes and verifies certificates that carry Evidence about their own key.
//!
//! This crate decides nothing about what is acceptable: that is the caller's [`appraisal::Policy`] and
//! reference values. It never opens a socket itself.
//!
//! ```
//! use attested_tls::key::TeeKey;
//! let key = TeeKey::generate().unwrap();
//! assert_eq!(key.digest(), &attested_tls::key::SpkiDigest::of_certificate(key.certificate()).unwrap());
//! ```

pub use claims::anchor;
pub mod certificate;
pub mod channel;
pub mod clock;
mod config;
pub mod direct;
mod frame;
pub mod interop;
pub mod key;
mod key_only;
pub mod launch;
pub mod marble;
pub mod service;
pub mod statement;
pub mod steward;
pub mod unattested;

pub use claims;

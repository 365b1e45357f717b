//! Who calls: the party whose trust anchor verified the chain, and never a name in it.
//!
//! TLS itself ([`attested_tls::service::renewable_server`]) takes every certificate whose key the peer has, and none at
//! all; who that is gets decided after the handshake, against the rules of that moment, so that a refusal reaches the
//! client as a sentence in its own protocol instead of a TLS alert, and so that a change of the rules needs no new
//! listener.
//!
//! ```text
//! ClientHello ─ proof of the key ─▶ chain ─ Anchors::caller(chain, now) ─▶ Caller │ NotAParty
//! ```

mod anchors;
mod fuzzing;

use database_manifest::PartyName;

pub use anchors::{Anchors, NotAParty, UnusableAnchor};
pub use fuzzing::lets_in;

/// Someone whose certificate a party's anchor verified. `Anchors::caller` is its only origin.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Caller {
    party: PartyName,
    certificate: [u8; 32],
    subject: String,
}

impl Caller {
    /// The party.
    pub fn party(&self) -> &PartyName {
        &self.party
    }

    /// SHA-256 of the leaf certificate (DER).
    pub fn certificate(&self) -> [u8; 32] {
        self.certificate
    }

    /// The distinguished name in the leaf, for people who read the audit log; it decides nothing.
    pub fn subject(&self) -> &str {
        &self.subject
    }
}

//! A chain of hashes in a TPM's non-volatile memory. The TPM is outside of what the coordinator trusts its host with,
//! and the way to it is not: the host carries each command and each answer, and may drop, replay or invent them.
//!
//! ```text
//!  this TEE ══ commands and answers with an HMAC under a key that only the two know ══ TPM
//!                 │
//!                host: can withhold, and nothing else
//! ```
//!
//! The key of the HMAC is made for each session: a secret is agreed with the TPM's endorsement key (ECDH on P-256),
//! whose digest the caller pins ([`KeyDigest`]). So an answer that passes was computed by that TPM, in this session, for
//! this command. An error that the TPM reports has no HMAC; nothing is concluded from it but that there was no answer.
//!
//! The index is of type `EXTEND`: it holds SHA-256(old ‖ data) after each step, and nobody without its authorisation
//! value can take a step, neither the platform's owner nor its firmware. Who deletes it and makes another one has
//! not its value.
//!
//! Beside the chain there are [`quote`], for Evidence of a TPM, [`extend`], and [`provision`] for who runs a TPM
//! of software. Fifteen commands are encoded here, by hand, rather than linking tpm2-tss: a TEE's program is measured and audited
//! whole, and this is the smaller whole.
//!
//! Source: Trusted Platform Module Library 2.0, revision 1.59: Part 1 (§17 to 21 on sessions, §11.4.10 on KDFs, annex C.6 on
//! ECDH), Part 2 (structures), Part 3 (commands); TCG EK Credential Profile 2.5, template L-2.

mod crypto;
mod error;
mod index;
mod provision;
mod quote;
mod register;
mod session;
mod transport;
pub mod wire;

pub use error::TpmError;
pub use index::{Index, KeyDigest, Opened, Tpm};
pub use provision::provision;
pub use quote::{Quoted, quote};
pub use register::extend;
pub use transport::{Address, NotAnAddress, Transport};

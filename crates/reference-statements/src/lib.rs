//! Reference values from what others signed: a statement is read, its signature verified by keys and trust roots that
//! the caller gives, and what it says is believed for as long as it says.
//!
//! What it is: [`Statement::verify`], from bytes to a [`Verified`], without network. What it is not: a judge of what is
//! acceptable. Which signers count for which code, and how many it takes, is the caller's to say.
//!
//! | a statement comes as | signed by |
//! |---|---|
//! | a DSSE envelope with an in-toto statement | [`Signer::Key`] |
//! | a Sigstore bundle of such an envelope, or of values | [`Signer::Sigstore`], or a key whose signatures are in a log |
//! | a JWS of values, compact or flattened JSON | [`Signer::Key`] |
//! | a CoRIM in COSE_Sign1 | [`Signer::Corim`] |
//!
//! What is signed of other artefacts, of whatever predicate, [`Attested::verify`] gives as bytes: what it says is for its
//! reader.
//!
//! It either gives values ([`Values`]: tuples that belong together, in a series, with a serial and an end), or says how
//! an artefact was built ([`Provenance`]). What nobody signed is refused always.
//!
//! ```
//! use appraisal::UnixTime;
//! use reference_statements::{Refused, Signers, Statement};
//!
//! let unsigned = br#"{"reference_values": []}"#;
//! let refused = Statement::verify(unsigned, &Signers::default(), UnixTime(0));
//! assert!(matches!(refused, Err(Refused::Unsigned)));
//! ```

mod attestation;
mod corim;
mod dsse;
mod intoto;
mod jws;
mod key;
mod refused;
mod signer;
mod signing;
mod sigstore;
mod statement;
mod values;

pub use attestation::{Attested, BUNDLE_TYPE};
pub use dsse::PAYLOAD_TYPE;
pub use intoto::{PREDICATE_TYPE, Provenance};
pub use key::{PublicKey, UnknownKey};
pub use refused::Refused;
pub use signer::{InvalidTrustRoot, Signer, Signers, TrustRoot};
pub use signing::{SigningKey, UnusableKey};
pub use sigstore::SIGNED_VALUES_TYPE;
pub use statement::{Certified, Form, LogEntry, MAX_LENGTH, Says, Statement, StatementId, Verified};
pub use values::{ArtefactDigest, Values};

/// Parsers, one by one, for fuzzing.
#[doc(hidden)]
pub mod parsers {
    /// Reads a DSSE envelope.
    pub fn dsse(bytes: &[u8]) {
        drop(crate::dsse::Envelope::parse(bytes));
    }

    /// Reads a bundle about an artefact.
    pub fn attestation(bytes: &[u8]) {
        drop(crate::attestation::Attested::verify(
            bytes,
            &[0; 32],
            &crate::Signers::default(),
            appraisal::UnixTime(0),
        ));
    }

    /// Reads an in-toto statement.
    pub fn intoto(bytes: &[u8]) {
        drop(crate::intoto::read(bytes));
    }

    /// Reads a Sigstore bundle, with or without what it signs beside it.
    pub fn bundle(bytes: &[u8]) {
        drop(crate::sigstore::Bundled::parse(bytes));
    }

    /// Reads the values that a JWS has as its payload.
    pub fn jws(bytes: &[u8]) {
        drop(crate::jws::Message::parse(bytes));
        drop(crate::values::Values::from_json(bytes));
    }
}

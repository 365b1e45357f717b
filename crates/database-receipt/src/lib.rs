//! Receipts: what a confidential database says, signed, of an answer that it gave, and their verification, which needs
//! nothing but the receipt and the root that `bailey database verify` printed. It knows neither SQL nor network nor a
//! clock: a receipt is held to be of the time that it names, so that it can be shown years later.
//!
//! ```text
//!  Statement ──▶ its bytes (compact JSON, fields in order) ──▶ signature by the key of the leaf
//!                                                              leaf … root: the root is in the Evidence
//! ```

mod answer;
pub mod audit;
mod digest;
mod receipt;
mod statement;
mod verify;

pub use answer::{Table, answer_digest};
pub use digest::Digest;
pub use receipt::{CertificateDer, MAX_BYTES, Malformed, Receipt};
pub use statement::{Commitment, Committing, Statement, VERSION};
pub use verify::{Untrusted, Verified, verify};

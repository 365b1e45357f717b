//! The broker's decisions: who a guest is, what a session is worth, and what is released to whom. A guest is whoever
//! attested by RCAR (Kata and CoCo containers, confidential VMs, programs of SGX library operating systems) and is no
//! Marble.
//!
//! ```text
//!  auth ──ticket──▶ attest ──nonce claimed──▶ appraised ──▶ Guest ──release, checked each time──▶ JWE
//!                             └── a second time ──▶ refused, whatever became of the first
//! ```

pub mod admission;
pub mod attested;
pub mod guest;
pub mod session;

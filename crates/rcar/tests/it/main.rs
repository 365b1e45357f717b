//! The protocol by its public API: keys, attestations of each version, a whole exchange.

mod attestation;
mod exchange;
mod key;

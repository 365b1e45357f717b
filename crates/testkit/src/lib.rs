//! What tests share: a fixed clock, recorded vectors, servers that play the vendors and Vault, the binaries under test.

pub mod copying;
pub mod oci;
pub mod parties;
pub mod port;
mod programs;
pub mod registry;
pub mod swtpm;
pub mod tee;
pub mod vault;
pub mod vectors;
pub mod vendor;

pub use programs::{binary, example, workloads};

//! What tests share: a fixed clock, recorded vectors, a server that plays the vendors, the binaries under test.

mod programs;
pub mod swtpm;
pub mod tee;
pub mod vectors;
pub mod vendor;

pub use programs::{binary, example, workloads};

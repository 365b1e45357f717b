//! What tests share: a fixed clock, recorded vectors, the binaries under test.

mod programs;
pub mod tee;

pub use programs::{binary, example, workloads};

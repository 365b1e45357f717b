//! Encrypted, authenticated, fresh storage for a workload, in files of a host that is not trusted.
pub mod tree;

//! The confidential SQL service: PostgreSQL inside the TEE that nobody reaches but through a gateway of ours, its
//! write-ahead log sealed before a commit is acknowledged, its rules set by several parties together.

mod accepting;
pub mod algorithms;
pub mod attestation;
pub mod audit;
pub mod authority;
pub mod changes;
pub mod engine;
pub mod gateway;
pub mod heads;
pub mod https;
pub mod identity;
pub mod installation;
pub mod keys;
pub mod lsn;
pub mod mesh;
pub mod reads;
pub mod recovery;
mod refusal;
pub mod replica;
pub mod restore;
pub mod rules;
pub mod sealer;
pub mod service;
mod threads;
pub mod tpm_anchor;

pub use rules::Rules;

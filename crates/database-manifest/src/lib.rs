//! The manifest of a confidential database: which parties there are and what proves them, the schema, who writes which
//! table, which algorithms who may run, who decides changes. It turns text into types, finds all faults with their
//! paths, and says in words what a change means. It does no I/O and knows no clock.

mod algorithm;
mod document;
pub mod import;
mod manifest;
mod names;
mod plan;
mod proposal;
mod resolve;
pub mod sql;

pub use ::manifest::{Code, Effect, Fault, Faults};
pub use algorithm::{
    Algorithm, Allowed, Argument, Column, Mechanism, Noise, Output, Privacy, Rate, SqlType, WasmForm, WasmUse,
};
pub use manifest::{Anchor, Audit, Freshness, Manifest, Party, Recovery, Statement, Table, Updates};
pub use names::{AlgorithmName, PartyName, TableName};
pub use plan::{Change, Plan, rows_of};
pub use proposal::{
    Digest, InForce, InvalidRestoration, Point, Proposal, ProposalState, ProposalStatus, Restoration, Rows,
};
pub use sql::{InvalidMigration, Migration};

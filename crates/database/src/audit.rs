//! The audit log: what happened, each entry chained to all before it, in PostgreSQL and so in the sealed log.
//!
//! Whoever has an export recomputes the chain, and whoever kept a head sees that a later export continues it: that is
//! in `database_receipt::audit`, for those who have no database.
//!
//! What is recorded names parties, certificates, algorithms with their arguments, and counts. Values of rows are in no
//! entry: those who read the audit log need not be those who read tables.

mod api;
mod door;
mod event;
mod export;
mod writer;

pub use database_receipt::audit::{Broken, Head, Line, SignedHead, verify_lines as verify};

pub use self::{
    api::{Exports, routes},
    event::{Event, Interface, Refused, Who},
    export::read,
    writer::{Audit, AuditError, append, install},
};

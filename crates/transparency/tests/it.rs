//! Against RFC 6962's definitions written down a second time, and forgeries.

#[path = "it/audit.rs"]
mod audit;
#[path = "it/entries.rs"]
mod entries;
#[path = "it/files.rs"]
mod files;
#[path = "it/notes.rs"]
mod notes;
#[path = "it/tree.rs"]
mod tree;

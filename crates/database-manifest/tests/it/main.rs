//! The manifest of a database, from outside.

mod attacks;
mod import;
mod manifest;
mod plan;

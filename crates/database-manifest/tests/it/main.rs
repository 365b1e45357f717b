//! The manifest of a database, from outside.

mod attacks;
mod manifest;

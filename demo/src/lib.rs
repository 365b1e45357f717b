//! The whole story of a confidential mesh, told and checked on emulated TEEs.
//!
//! [`tell`] brings the mesh of a folder up through the same functions as `bailey up`, makes every check, and
//! hands the running mesh back. Each check goes through a public interface, as a user or an attacker would;
//! what must be refused is refused by the services themselves, and the check looks for the cause that they name.

pub mod browser;
pub mod checks;
mod story;
pub mod web;

pub use story::{Told, tell};

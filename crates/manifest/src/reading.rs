//! How a document is read, for other crates whose documents are written in the same way (the manifest of a database):
//! JSON or YAML to a tree, the tree to wire structs (`manifest::wire!`), all faults with their paths.

pub use crate::encoding::{base64, duration, hex, pem, size, span};
pub use crate::fault::{Collector, shown, suggestion};
pub use crate::path::Path;
pub use crate::settings::rsa_key;
pub use crate::tree::{Node, Value};
pub use crate::wire::{Fields, OneOrMore, Wire, fields};

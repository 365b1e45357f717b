//! A Marble that is a database: `bailey-database`, whose own manifest says who may do what in it. The mesh's manifest says
//! which database it is, by the manifest that it began with, and gives it its key.

use std::fmt;

use crate::document as wire;
use crate::fault::{Code, Collector};
use crate::path::Path;
use crate::workload;

/// Which database a Marble is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct Database {
    /// SHA-256 of the exact bytes of its first manifest. All later ones are successors that its parties agreed on.
    pub first: [u8; 32],
}

impl fmt::Display for Database {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the database that began with the manifest sha256:{}", hex::encode(self.first))
    }
}

/// Resolves a Marble's `Database`.
pub(crate) fn resolve(marble: &wire::Marble, at: &Path<'_>, faults: &mut Collector<'_>) -> Option<Database> {
    let database = marble.database.as_ref()?;
    let here = at.field("Database");
    if marble.workload.is_some() {
        let message = "a Marble is a workload in a Keep, or a database";
        faults.hint(&here, Code::Conflict, message, "keep one of `Workload` and `Database`");
    }
    let wire::Parameters { files, env, argv } = &marble.parameters;
    let given = [
        ("Parameters", !(files.is_empty() && env.is_empty() && argv.is_empty())),
        ("TLS", !marble.tls.is_empty()),
        ("Names", !marble.names.is_empty()),
    ];
    for (field, _) in given.iter().filter(|(_, given)| *given) {
        let message = "a database takes this from its own manifest and its launch configuration";
        faults.hint(&at.field(field), Code::NotApplicable, message, "remove it");
    }
    let first = workload::digest(&database.manifest, &here.field("Manifest"), faults)?;
    Some(Database { first: first.0 })
}

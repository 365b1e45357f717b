//! Reference values as files: what `bailey measure` prints and `bailey verify` reads.

use std::path::Path;

use appraisal::{ReferenceFile, ReferenceValue};

use crate::failure::{Input, Outcome};

/// Reads a reference file.
pub fn load(path: &Path) -> Outcome<Vec<ReferenceValue>> {
    let bytes = std::fs::read(path).malformed(format!("{} cannot be read", path.display()))?;
    let file: ReferenceFile = serde_json::from_slice(&bytes)
        .malformed(format!("{} is no file of reference values", path.display()))?;
    Ok(file.reference_values)
}

//! The corpus of recorded Evidence as a table: an example of the appraisal crate prints it.

use std::path::Path;

use anyhow::Result;

use crate::shell::{cargo, run, step};

/// Prints the table, and fails when a verdict is not the expected one.
pub fn table(folder: Option<&Path>) -> Result<()> {
    step("the corpus: sample, expected, got");
    let mut command = cargo();
    command.args(["run", "--locked", "--quiet", "-p", "appraisal", "--example", "corpus", "--"]);
    run(command.args(folder))
}

//! `bailey reference`: reference values computed offline from what is launched, and statements of them.

mod corim;
mod sgx;
mod snp;
mod statements;
mod tdx;
mod uki;

use std::path::Path;

use appraisal::{ReferenceFile, ReferenceValue};
use clap::Subcommand;

use crate::{
    commands::print_json,
    failure::{Failure, Input, Outcome},
};

/// Images with a whole system in their initial RAM disk are large; nothing is larger.
const MAX_ARTEFACT: u64 = 4 * 1024 * 1024 * 1024;

/// Compute reference values offline from artefacts.
#[derive(Subcommand)]
pub enum Command {
    /// The reference values of a CoRIM
    Corim(corim::Corim),
    /// The launch digest of a SEV-SNP guest
    Snp(Box<snp::Snp>),
    /// The identity of an SGX enclave, from its SIGSTRUCT
    Sgx(sgx::Sgx),
    /// The measurements of an Intel trust domain
    Tdx(tdx::Tdx),
    /// The PCRs of a machine that boots a unified kernel image
    Uki(uki::Uki),
    /// Sign reference values as a statement
    Sign(Box<statements::Sign>),
    /// Bring a signed statement to a coordinator
    Add(Box<statements::Add>),
    /// List a coordinator's statements, and whether they count
    List(Box<statements::List>),
    /// Take a statement away from a coordinator
    Remove(Box<statements::Remove>),
    /// Say who signed a statement, and how what it is about was built
    Provenance(Box<statements::Provenance>),
}

impl Command {
    /// Runs the command.
    pub async fn run(self) -> Outcome {
        match self {
            Self::Corim(corim) => corim.run(),
            Self::Snp(snp) => snp.run(),
            Self::Sgx(sgx) => sgx.run(),
            Self::Tdx(tdx) => tdx.run(),
            Self::Uki(uki) => uki.run(),
            Self::Sign(sign) => sign.run(),
            Self::Add(add) => add.run().await,
            Self::List(list) => list.run().await,
            Self::Remove(remove) => remove.run().await,
            Self::Provenance(provenance) => provenance.run().await,
        }
    }
}

/// What people call what is measured; unless they say, by its file's name.
fn label(given: Option<String>, file: &Path) -> String {
    given.unwrap_or_else(|| {
        file.file_name().map_or_else(String::new, |name| name.to_string_lossy().into_owned())
    })
}

/// Prints a file that `--reference` takes.
fn print(value: ReferenceValue) -> Outcome {
    print_json(&ReferenceFile { reference_values: vec![value] })
}

/// Reads an artefact.
fn artefact(path: &Path) -> Outcome<Vec<u8>> {
    let unreadable = || format!("{} cannot be read", path.display());
    let size = std::fs::metadata(path).malformed(unreadable())?.len();
    if size > MAX_ARTEFACT {
        return Err(Failure::malformed(format!(
            "{} has {size} bytes; {MAX_ARTEFACT} are allowed",
            path.display()
        )));
    }
    std::fs::read(path).malformed(unreadable())
}

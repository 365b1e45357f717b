//! Reference values as files: what `bailey measure` and `bailey reference` print, or CoRIMs of others.

use std::path::{Path, PathBuf};

use appraisal::{
    CorimPolicy, ReadReferences, ReferenceValue, ReferencesRefused, TrustAnchor, UnixTime, Unsigned,
};
use clap::Args;

use crate::commands::evidence::read;
use crate::failure::{Input, Outcome};

/// Whose CoRIMs are read.
#[derive(Args)]
pub struct Corims {
    /// Who may sign reference values in a CoRIM: a public key (PEM, JWK) or a certificate
    #[arg(long, value_name = "FILE")]
    reference_signer: Vec<PathBuf>,
    /// Take CoRIMs that nobody signed as your own word
    #[arg(long)]
    unsigned_reference: bool,
}

impl Corims {
    /// Reads a reference file: JSON or CoRIM, by content. Says what of it is not compared.
    pub fn load(&self, path: &Path, now: UnixTime) -> Outcome<Vec<ReferenceValue>> {
        let mut signers = Vec::new();
        for file in &self.reference_signer {
            let anchors = TrustAnchor::from_file_bytes(&file.display().to_string(), &read(file)?);
            signers.extend(anchors.malformed("a signer of reference values cannot be used")?);
        }
        let unsigned = if self.unsigned_reference { Unsigned::Accepted } else { Unsigned::Refused };
        let policy = CorimPolicy { signers: &signers, unsigned };
        let read = ReadReferences::from_file_bytes(&read(path)?, policy, now, &crypto_aws_lc::AwsLc);
        let hint = read.as_ref().err().and_then(mend);
        let read = read
            .malformed(format!("{} is no file of reference values that can be used", path.display()))
            .map_err(|failure| match hint {
                Some(hint) => failure.hint(hint),
                None => failure,
            })?;
        if !read.left_out.is_empty() {
            let elements: Vec<_> = read.left_out.iter().map(|value| value.element.as_str()).collect();
            eprintln!(
                "{}: not compared, as policies are for the platform and not all is of the code: {}",
                path.display(),
                elements.join(", ")
            );
        }
        Ok(read.reference_values)
    }
}

/// What a person can do about it.
fn mend(refused: &ReferencesRefused) -> Option<&'static str> {
    match refused {
        ReferencesRefused::Unsigned => Some("--unsigned-reference takes it as your own word"),
        ReferencesRefused::UnknownSigner { .. } => Some("--reference-signer FILE names who may sign"),
        ReferencesRefused::Expired { .. } => Some("ask its maker for a newer one"),
        _ => None,
    }
}

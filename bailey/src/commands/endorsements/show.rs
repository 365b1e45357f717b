//! `bailey endorsements show`.

use std::path::PathBuf;

use appraisal::UnixTime;
use clap::Args;
use endorsements::Bundle;
use evidence::Endorsements;
use evidence::describe::{Description, Field};

use super::contents::{describe, group, text, window};
use crate::commands::evidence::{When, open_bundle, read};
use crate::commands::print_json;
use crate::failure::{Failure, Outcome};
use crate::key;

/// Print what a bundle or other Endorsements hold, believing nothing.
#[derive(Args)]
pub struct Show {
    /// A bundle, Endorsements as `fetch` writes them, or DCAP collateral in JSON
    file: PathBuf,
    /// The public key that must have signed the bundle
    #[arg(long, value_name = "FILE")]
    bundle_signer: Option<PathBuf>,
    #[command(flatten)]
    when: When,
    /// For a program
    #[arg(long)]
    json: bool,
}

impl Show {
    pub fn run(self) -> Outcome {
        let (bytes, now) = (read(&self.file)?, self.when.now()?);
        let signer = self.bundle_signer.as_deref().map(key::public_key).transpose()?;
        let (mut fields, endorsements) = if evidence::bundle::Bundle::recognises(&bytes) {
            let bundle = open_bundle(&self.file, &bytes, signer.as_ref())?;
            (of_bundle(&bundle, signer.is_some()), bundle.endorsements().clone())
        } else if signer.is_some() {
            return Err(Failure::refused(format!("{} is no bundle: nobody signed it", self.file.display())));
        } else {
            unsigned(&bytes).ok_or_else(|| {
                let sentence = format!("{} holds no Endorsements that can be shown", self.file.display());
                Failure::malformed(sentence)
                    .hint("known: bundles, Endorsements that `bailey endorsements fetch` wrote, DCAP collateral JSON")
            })?
        };
        fields.extend(described(&endorsements, now));
        let description = Description(fields);
        if self.json {
            return print_json(&description);
        }
        crate::say!("{} (read, not verified: `bailey evidence verify` does that)", self.file.display());
        crate::output::write(format_args!("{}", description.render()));
        Ok(())
    }
}

fn described(endorsements: &Endorsements, now: UnixTime) -> Vec<Field> {
    [window(endorsements, now), describe(endorsements).0].concat()
}

fn unsigned(bytes: &[u8]) -> Option<(Vec<Field>, Endorsements)> {
    let (kind, endorsements) = match Endorsements::from_bytes(bytes) {
        Ok(endorsements) => ("endorsements", endorsements),
        Err(_) => ("dcap-collateral", Endorsements::from_dcap_json(bytes).ok()?),
    };
    Some((vec![text("kind", kind)], endorsements))
}

fn of_bundle(bundle: &Bundle, checked: bool) -> Vec<Field> {
    let numbers = bundle.numbers();
    let number = |name: &str, number: Option<u64>| number.map(|number| text(name, number));
    let numbers = [
        number("evaluation", numbers.evaluation),
        number("root_ca_crl", numbers.root_ca_crl),
        number("pck_crl", numbers.pck_crl),
        number("amd_crl", numbers.amd_crl),
    ];
    let mut fields = vec![
        text("kind", "bundle"),
        text("subject", bundle.subject()),
        text("digest", format!("sha256:{}", hex::encode(bundle.digest()))),
        text("made_at", bundle.made_at()),
        text("signer", hex::encode(bundle.signer())),
        text("signature", if checked { "verified" } else { "not checked against a known signer" }),
    ];
    let numbers: Vec<_> = numbers.into_iter().flatten().collect();
    if !numbers.is_empty() {
        fields.push(group("numbers", numbers));
    }
    fields
}

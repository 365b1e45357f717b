//! `bailey reference sgx`: the identity of an SGX enclave, from what its author signed.

use std::collections::BTreeMap;
use std::path::PathBuf;

use appraisal::{Crypto, ReferenceValue, SignatureAlgorithm};
use clap::{Args, ValueEnum};
use evidence::{Measurement, Platform};
use reference::sgx::Sigstruct;

use super::{artefact, label, print};
use crate::failure::{Failure, Input, Outcome};

/// The identity of an SGX enclave, from its SIGSTRUCT, such as Gramine's `.sig` file.
#[derive(Args)]
pub struct Sgx {
    /// The SIGSTRUCT: 1808 bytes
    file: PathBuf,
    /// What is to be accepted: this very enclave, or all of the same author and product with at least its version
    #[arg(long, value_enum, default_value_t = By::Enclave)]
    by: By,
    /// What people call the enclave; without one, the file's name
    #[arg(long)]
    label: Option<String>,
}

#[derive(Clone, Copy, ValueEnum)]
enum By {
    /// MRENCLAVE
    Enclave,
    /// MRSIGNER, ISVPRODID, and ISVSVN as a minimum
    Signer,
}

impl Sgx {
    pub fn run(self) -> Outcome {
        let sigstruct = Sigstruct::parse(&artefact(&self.file)?)
            .malformed(format!("{} is no SIGSTRUCT", self.file.display()))
            .map_err(|failure| failure.hint("Gramine's gramine-sgx-sign writes one as the .sig file"))?;
        crypto_aws_lc::AwsLc
            .verify(
                SignatureAlgorithm::RsaPkcs1Sha256,
                &sigstruct.key(),
                &sigstruct.signed(),
                &sigstruct.signature(),
            )
            .map_err(|_| {
                Failure::refused(format!("{} is not signed by the key that it holds", self.file.display()))
                    .hint("it was altered after it was signed; sign the enclave again")
            })?;
        if sigstruct.may_be_debugged() {
            eprintln!(
                "{}: the author lets this enclave be debugged; production policies refuse it when it is",
                self.file.display()
            );
        }
        let label = label(self.label, &self.file);
        let measurement = Measurement::from(sigstruct.mrenclave());
        let mut value = ReferenceValue::program(label, Platform::Sgx, measurement);
        if let By::Signer = self.by {
            value.measurement = None;
            value.registers = BTreeMap::from([
                ("mrsigner".to_owned(), hex::encode(sigstruct.mrsigner())),
                ("isv_prod_id".to_owned(), sigstruct.product().to_string()),
            ]);
            value.minimum = BTreeMap::from([("isv_svn".to_owned(), sigstruct.security_version().into())]);
        }
        print(value)
    }
}

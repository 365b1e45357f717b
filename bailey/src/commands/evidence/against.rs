//! What Evidence is held against: Endorsements, policy, reference values, report data, roots, a time.

use std::path::{Path, PathBuf};

use anyhow::Context;
use appraisal::{EmulatedRoot, Examination, Policy, UnixTime};
use attested_tls::clock;
use clap::Args;
use endorsements::{Bundle, BundleError, BundleKey};
use evidence::eventlog::EventLog;
use policy_rego::{Limits, Rego};

use crate::{
    failure::{Failure, Input, Kind, Outcome},
    key,
    reference::Corims,
};

/// No file is larger.
const MAX_FILE: u64 = 16 * 1024 * 1024;
/// How far folders of Endorsements are searched.
const MAX_DEPTH: usize = 4;
const MAX_FILES: usize = 10_000;

/// What Evidence is held against.
#[derive(Args)]
pub struct Against {
    /// Endorsements: a bundle, a DCAP collateral JSON, a certificate, a CRL, a RIM, or a folder of such files
    #[arg(long, value_name = "PATH")]
    endorsements: Vec<PathBuf>,
    /// The public key that must have signed each bundle; then nothing but such bundles is taken
    #[arg(long, value_name = "FILE", requires = "endorsements")]
    bundle_signer: Option<PathBuf>,
    /// The event log that the Evidence's registers are to be replayed from: TCG2 or CCEL
    #[arg(long, value_name = "FILE")]
    event_log: Option<PathBuf>,
    /// Reference values, as `bailey measure` and `bailey reference` print them, or a CoRIM
    #[arg(long, value_name = "FILE")]
    reference: Vec<PathBuf>,
    #[command(flatten)]
    corims: Corims,
    /// What the Evidence is expected to cover, hexadecimal; of 64 bytes of report data, 32 may be given when zeros
    /// follow
    #[arg(long, value_name = "HEX")]
    report_data: Option<String>,
    /// Of cluster evidence: the nonce that it must cover, 64 hex digits
    #[arg(long, value_name = "HEX", value_parser = nonce)]
    nonce: Option<Nonce>,
    #[command(flatten)]
    when: When,
    /// A further trust root: that of an emulated platform, of a TPM's vendor, an enrolled TPM or CCA key
    #[arg(long, value_name = "FILE")]
    root: Vec<PathBuf>,
}

/// 32 bytes that a verifier made.
#[derive(Clone)]
pub struct Nonce(pub Box<[u8; 32]>);

/// Reads 64 hexadecimal digits.
pub fn nonce(digits: &str) -> Result<Nonce, String> {
    let mut nonce = Box::new([0; 32]);
    hex::decode_to_slice(digits, nonce.as_mut())
        .map_err(|error| format!("64 hexadecimal digits: {error}"))?;
    Ok(Nonce(nonce))
}

/// The time that counts as now.
#[derive(Args)]
pub struct When {
    /// The time to verify at, such as 2026-03-01T00:00:00Z; without one, now
    #[arg(long, value_name = "RFC3339")]
    at: Option<String>,
}

impl When {
    /// The time to verify at.
    pub fn now(&self) -> Outcome<UnixTime> {
        match &self.at {
            Some(text) => text.parse::<UnixTime>().malformed(format!("{text:?} is no time in RFC 3339")),
            None => Ok(clock::system()()),
        }
    }
}

/// The Evidence that a file holds.
pub fn examination(file: &Path) -> Outcome<Examination> {
    Examination::new(&read(file)?)
        .malformed(format!("{} holds no Evidence that this version knows", file.display()))
        .map_err(|failure| failure.hint(KNOWN))
}

impl Against {
    /// The time to verify at.
    pub fn now(&self) -> Outcome<UnixTime> {
        self.when.now()
    }

    /// What is to be examined, held against all of this under the policy `genuine`.
    pub fn examination(&self, file: &Path) -> Outcome<Examination> {
        let mut examination = examination(file)?;
        let signer = self.bundle_signer.as_deref().map(key::public_key).transpose()?;
        for path in &self.endorsements {
            endorse(&mut examination, path, signer.as_ref())?;
        }
        if let Some(path) = &self.event_log {
            let log =
                EventLog::parse(&read(path)?).malformed(format!("{} is no event log", path.display()))?;
            examination.attach(log).malformed("the event log belongs to nothing here")?;
        }
        for path in &self.root {
            examination.trust(&name(path), &read(path)?).malformed("a trust root cannot be used")?;
        }
        for path in &self.reference {
            examination.expect_code(self.corims.load(path, self.now()?)?);
        }
        if let Some(digits) = &self.report_data {
            examination.expect_covered(&report_data(digits)?);
        }
        if let Some(Nonce(nonce)) = &self.nonce {
            examination.expect_nonce(**nonce).malformed(format!("{}", file.display()))?;
        }
        Ok(examination)
    }
}

/// What can be read, in the words of a person who asks.
pub const KNOWN: &str = "known: SGX quote v3 to v5, TDX quote v4 and v5, SEV-SNP report v2 to v5, TPM 2.0 quotes, Azure, \
                         Nitro, Arm CCA and NVIDIA attestations; raw, hexadecimal, base64, in a CMW, or in an RA-TLS certificate; \
                         cluster evidence, as `bailey verify --save` writes it";

/// The policy of that name (`production`, `genuine`), or in that file.
pub fn policy(text: &str) -> Outcome<Policy> {
    match text {
        "production" => Ok(Policy::production()),
        "genuine" => Ok(Policy::genuine()),
        path => {
            let bytes = read(Path::new(path))?;
            let json = std::str::from_utf8(&bytes).malformed(format!("{path} is no text"))?;
            Policy::from_text(json).malformed(format!("{path} is no appraisal policy"))
        }
    }
}

/// The policy in Rego in that file.
pub fn rego(path: &Path) -> Outcome<Rego> {
    let text = String::from_utf8(read(path)?).malformed(format!("{} is no text", path.display()))?;
    Rego::new(text, Limits::default()).malformed(format!("{} cannot be run", path.display()))
}

/// Reads a file of bounded size.
pub fn read(path: &Path) -> Outcome<Vec<u8>> {
    let size = std::fs::metadata(path).malformed(format!("{} cannot be read", path.display()))?.len();
    if size > MAX_FILE {
        return Err(Failure::malformed(format!(
            "{} has {size} bytes; {MAX_FILE} are allowed",
            path.display()
        )));
    }
    std::fs::read(path).malformed(format!("{} cannot be read", path.display()))
}

/// Adds a file of Endorsements, or a folder of them. With a signer, nothing is taken but bundles that it signed.
pub fn endorse(examination: &mut Examination, path: &Path, signer: Option<&BundleKey>) -> Outcome {
    if !path.is_dir() {
        return endorse_file(examination, path, signer);
    }
    let mut files = Vec::new();
    gather(path, MAX_DEPTH, &mut files)?;
    files.sort();
    // A folder may hold other things, too; what is needed and missing is in the verdict.
    let mut passed_over = Vec::new();
    for file in &files {
        if endorse_file(examination, file, signer).is_err() {
            passed_over.push(name(file));
        }
    }
    if let Some(first) = passed_over.first() {
        let what = if signer.is_some() { "bundles of that signer" } else { "Endorsements" };
        eprintln!(
            "{}: passed over {} files that are no {what}, {first} first",
            path.display(),
            passed_over.len()
        );
    }
    Ok(())
}

fn endorse_file(examination: &mut Examination, path: &Path, signer: Option<&BundleKey>) -> Outcome {
    let bytes = read(path)?;
    if evidence::bundle::Bundle::recognises(&bytes) {
        let bundle = open_bundle(path, &bytes, signer)?;
        if signer.is_none() {
            eprintln!(
                "{}: its signature was not checked against a known signer (--bundle-signer); the vendors' inside are",
                path.display()
            );
        }
        examination.endorse_whole(bundle.endorsements().clone());
        return Ok(());
    }
    if signer.is_some() {
        return Err(Failure::refused(format!("{} is no bundle: nobody signed it", path.display())));
    }
    examination
        .endorse(&bytes)
        .malformed(format!("{} is no Endorsement that this version knows", path.display()))
}

/// Opens a bundle; with a signer, only one that it signed.
pub fn open_bundle(path: &Path, bytes: &[u8], signer: Option<&BundleKey>) -> Outcome<Bundle> {
    Bundle::open(bytes, signer).map_err(|error| match error {
        BundleError::OtherSigner { .. } | BundleError::SignatureInvalid => {
            Failure::refused(format!("{}: {error}", path.display()))
        }
        error => Failure {
            kind: Kind::Malformed,
            error: anyhow::Error::from(error).context(format!("{} is no bundle to be used", path.display())),
            hint: None,
        },
    })
}

/// The files of a folder and of those in it.
fn gather(folder: &Path, depth: usize, files: &mut Vec<PathBuf>) -> Outcome {
    let entries = std::fs::read_dir(folder).malformed(format!("{} cannot be read", folder.display()))?;
    for path in entries.filter_map(|entry| Some(entry.ok()?.path())) {
        if files.len() >= MAX_FILES {
            return Err(Failure::malformed(format!(
                "{} holds more than {MAX_FILES} files",
                folder.display()
            )));
        }
        if path.is_file() {
            files.push(path);
        } else if depth > 0 && path.is_dir() && !path.is_symlink() {
            gather(&path, depth - 1, files)?;
        }
    }
    Ok(())
}

fn name(path: &Path) -> String {
    path.file_name().map_or_else(|| path.display().to_string(), |name| name.to_string_lossy().into_owned())
}

/// A trust root of an emulated platform, from a PEM or DER file.
pub fn emulated_root(path: &Path) -> Outcome<EmulatedRoot> {
    let bytes = read(path)?;
    let der = match evidence::pem::certificates(&bytes) {
        Ok(certificates) if certificates.len() == 1 => certificates[0].0.clone(),
        _ => bytes,
    };
    EmulatedRoot::new(name(path), &der).malformed(format!("{} is no trust root", path.display()))
}

fn report_data(digits: &str) -> Outcome<Vec<u8>> {
    let bytes = hex::decode(digits)
        .context("pairs of hexadecimal digits are expected")
        .malformed("the expected report data is malformed")?;
    match bytes.len() {
        1..=1024 => Ok(bytes),
        length => Err(Failure::malformed(format!(
            "the expected report data has {length} bytes; 1 to 1024 can be covered"
        ))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn report_data_is_pairs_of_digits() {
        assert_eq!(report_data(&"01".repeat(64)).unwrap(), [1; 64]);
        for wrong in ["", "0", "012", &"zz".repeat(64), &"01".repeat(1025)] {
            assert_eq!(report_data(wrong).unwrap_err().exit_code(), 2, "{wrong}");
        }
    }
}

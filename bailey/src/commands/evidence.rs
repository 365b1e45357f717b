//! `bailey evidence`: looking at Evidence and appraising it.

use std::path::{Path, PathBuf};

use anyhow::Context;
use appraisal::{EmulatedRoot, EndorsementsBuilder, Policy, UnixTime};
use attested_tls::clock;
use clap::{Args, Subcommand};
use evidence::{Covered, Endorsements, Evidence, ReportData};

use crate::{
    commands::{colour, print_json},
    failure::{Failure, Input, Outcome},
    reference,
};

/// No Endorsements file is larger.
const MAX_FILE: u64 = 16 * 1024 * 1024;

/// Look at Evidence, or appraise it.
#[derive(Subcommand)]
pub enum Command {
    /// Print what Evidence says, believing nothing
    Show {
        /// A quote or report, raw
        file: PathBuf,
        /// For a program
        #[arg(long)]
        json: bool,
    },
    /// Appraise Evidence
    Verify(Verify),
}

/// Appraise Evidence.
#[derive(Args)]
pub struct Verify {
    /// A quote or report, raw
    file: PathBuf,
    /// Endorsements: a DCAP collateral JSON, a certificate or CRL (DER or PEM), or a folder of such files
    #[arg(long, value_name = "PATH")]
    endorsements: Vec<PathBuf>,
    /// The appraisal policy, JSON; without one, `genuine`: authenticity, validity and TCB only
    #[arg(long, value_name = "FILE")]
    policy: Option<PathBuf>,
    /// Reference values, as `bailey measure` prints them
    #[arg(long, value_name = "FILE")]
    reference: Option<PathBuf>,
    /// The report data that is expected: 128 hex digits, or 64 for the first half with zeros after it
    #[arg(long, value_name = "HEX")]
    report_data: Option<String>,
    /// The time to verify at, such as 2026-03-01T00:00:00Z; without one, now
    #[arg(long, value_name = "RFC3339")]
    at: Option<String>,
    /// A further trust root, PEM or DER, of an emulated platform
    #[arg(long, value_name = "FILE")]
    root: Vec<PathBuf>,
    /// For a program
    #[arg(long)]
    json: bool,
}

impl Command {
    /// Runs the command.
    pub fn run(self) -> Outcome {
        match self {
            Self::Show { file, json } => show(&file, json),
            Self::Verify(verify) => verify.run(),
        }
    }
}

fn read(path: &Path) -> Outcome<Vec<u8>> {
    let size = std::fs::metadata(path).malformed(format!("{} cannot be read", path.display()))?.len();
    if size > MAX_FILE {
        return Err(Failure::malformed(format!(
            "{} has {size} bytes; {MAX_FILE} are allowed",
            path.display()
        )));
    }
    std::fs::read(path).malformed(format!("{} cannot be read", path.display()))
}

fn parse(path: &Path) -> Outcome<Evidence> {
    Evidence::parse(&read(path)?)
        .malformed(format!("{} is no Evidence that this version knows", path.display()))
        .map_err(|failure| {
            failure.hint("known: SGX quote v3 to v5, TDX quote v4 and v5, SEV-SNP report v2 to v5, as raw bytes")
        })
}

fn show(path: &Path, json: bool) -> Outcome {
    let evidence = parse(path)?;
    let fields = [
        ("platform", evidence.platform().to_string()),
        ("measurement", evidence.measurement().map(|digest| digest.to_string()).unwrap_or_default()),
        ("launch_configuration", hex::encode(evidence.launch_configuration())),
        ("report_data", evidence.covered().to_string()),
        ("padding_bytes", evidence.padding().to_string()),
    ];
    if json {
        return print_json(&fields.into_iter().collect::<std::collections::BTreeMap<_, _>>());
    }
    crate::say!("{} (parsed, not verified: `bailey evidence verify` does that)", path.display());
    for (name, value) in fields {
        crate::say!("  {name:<22}{value}");
    }
    Ok(())
}

impl Verify {
    fn run(self) -> Outcome {
        let evidence = parse(&self.file)?;
        let now = match &self.at {
            Some(text) => text.parse::<UnixTime>().malformed(format!("{text:?} is no time in RFC 3339"))?,
            None => clock::system()(),
        };
        let endorsements = self.endorsements(&evidence, now)?;
        let policy = self.policy()?;
        let references = self.reference.as_deref().map(reference::load).transpose()?;
        let report_data = self.report_data.as_deref().map(report_data).transpose()?;
        let assessment = appraisal::assess(
            &evidence,
            &endorsements,
            report_data.as_ref(),
            references.as_deref(),
            &policy,
            now,
            &crypto_aws_lc::AwsLc,
        );
        let verdict = assessment.verdict();
        if self.json {
            print_json(verdict)?;
        } else {
            crate::output::write(format_args!("{}", verdict.render(colour())));
        }
        if verdict.is_accepted() {
            return Ok(());
        }
        let codes: Vec<_> = verdict.codes().map(|code| code.to_string()).collect();
        Err(Failure::refused(format!("{} is refused: {}", self.file.display(), codes.join(", "))))
    }

    fn policy(&self) -> Outcome<Policy> {
        let policy = match &self.policy {
            Some(path) => serde_json::from_slice(&read(path)?)
                .malformed(format!("{} is no appraisal policy", path.display()))?,
            None => Policy::genuine(),
        };
        let roots = self.root.iter().map(|path| emulated_root(path)).collect::<Outcome<Vec<_>>>()?;
        Ok(policy.trust_emulated(roots))
    }

    fn endorsements(&self, evidence: &Evidence, now: UnixTime) -> Outcome<Endorsements> {
        let mut builder = EndorsementsBuilder::new();
        for path in &self.endorsements {
            if !path.is_dir() {
                builder
                    .add_file_bytes(&read(path)?)
                    .malformed(format!("{} is no Endorsement that this version knows", path.display()))?;
                continue;
            }
            let entries = std::fs::read_dir(path).malformed(format!("{} cannot be read", path.display()))?;
            let mut files: Vec<_> = entries.filter_map(|entry| Some(entry.ok()?.path())).collect();
            files.sort();
            // A folder may hold other things, too; what is needed and missing is in the verdict.
            let mut passed_over = Vec::new();
            for file in files.iter().filter(|file| file.is_file()) {
                if builder.add_file_bytes(&read(file)?).is_err() {
                    passed_over.push(file.file_name().unwrap_or_default().to_string_lossy());
                }
            }
            if let Some(first) = passed_over.first() {
                eprintln!(
                    "{}: passed over {} files that are no Endorsements, {first} first",
                    path.display(),
                    passed_over.len()
                );
            }
        }
        Ok(builder.fit(evidence, now))
    }
}

/// A trust root of an emulated platform, from a PEM or DER file.
pub fn emulated_root(path: &Path) -> Outcome<EmulatedRoot> {
    let bytes = read(path)?;
    let name = path
        .file_name()
        .map_or_else(|| path.display().to_string(), |name| name.to_string_lossy().into_owned());
    let der = match evidence::pem::certificates(&bytes) {
        Ok(certificates) if certificates.len() == 1 => certificates[0].0.clone(),
        _ => bytes,
    };
    EmulatedRoot::new(name, &der).malformed(format!("{} is no trust root", path.display()))
}

fn report_data(text: &str) -> Outcome<Covered> {
    let mut data = [0; 64];
    let half = &mut data[..text.len() / 2 % 65];
    hex::decode_to_slice(text, half)
        .context("hex digits, 64 or 128 of them, are expected")
        .malformed("the expected report data is malformed")?;
    match text.len() {
        64 | 128 => Ok(ReportData(data).into()),
        length => {
            Err(Failure::malformed(format!("the expected report data has {length} digits, not 64 or 128")))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn report_data_is_whole_or_half() {
        assert_eq!(report_data(&"01".repeat(64)).unwrap(), ReportData([1; 64]).into());
        let half = report_data(&"01".repeat(32)).unwrap();
        assert_eq!((half.as_bytes()[31], half.as_bytes()[32]), (1, 0));
        for wrong in ["", "01", &"01".repeat(33), &"01".repeat(65), &"zz".repeat(64), &"01".repeat(400)] {
            assert_eq!(report_data(wrong).unwrap_err().exit_code(), 2, "{wrong}");
        }
    }
}

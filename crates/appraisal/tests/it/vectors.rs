//! The recorded vectors, and how the tests look at them.

use std::fs;
use std::path::{Path, PathBuf};

use appraisal::{Assessment, EndorsementsBuilder, Policy, UnixTime, assess};
use crypto_aws_lc::AwsLc;
use evidence::{Endorsements, Evidence};

/// A row of `index.tsv`.
pub struct Row {
    pub file: String,
    pub source: String,
    pub expected: String,
    pub at: Option<UnixTime>,
    pub notes: String,
}

impl Row {
    pub fn is_in(&self, directory: &str) -> bool {
        self.file.split('/').next() == Some(directory)
    }

    /// The word of the notes after `label`.
    pub fn noted(&self, label: &str) -> &str {
        let rest = self.notes.split_once(label).unwrap_or_else(|| panic!("{}: no {label}", self.file)).1;
        rest.split([';', ' ']).next().unwrap()
    }
}

pub fn rows() -> Vec<Row> {
    let text = String::from_utf8(read("index.tsv")).unwrap();
    let rows = text.lines().skip(1).map(|line| {
        let mut fields = line.split('\t').map(str::to_owned);
        let mut next = || fields.next().unwrap_or_default();
        let (file, _platform, source) = (next(), next(), next());
        let (_licence, _bytes, _digest) = (next(), next(), next());
        let (expected, at, notes) = (next(), next(), next());
        Row { file, source, expected, at: at.parse().ok(), notes }
    });
    rows.collect()
}

pub fn read(file: &str) -> Vec<u8> {
    let path = root().join(file);
    fs::read(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/vectors")
}

pub fn evidence(file: &str) -> Evidence {
    Evidence::parse(&read(file)).unwrap_or_else(|error| panic!("{file}: {error}"))
}

pub fn dcap(file: &str) -> Endorsements {
    Endorsements::from_dcap_json(&read(file)).unwrap_or_else(|error| panic!("{file}: {error}"))
}

/// All of AMD's certificates, without the CRLs, which are of 2022 and stand in the way of most verdicts.
pub fn amd_certificates() -> EndorsementsBuilder {
    let mut builder = EndorsementsBuilder::new();
    for row in rows().iter().filter(|row| row.is_in("amd-collateral") && !row.file.contains("crl")) {
        builder.add_file_bytes(&read(&row.file)).unwrap_or_else(|error| panic!("{}: {error}", row.file));
    }
    builder
}

pub fn at(text: &str) -> UnixTime {
    text.parse().unwrap()
}

/// Looks at Evidence under the policy `genuine`.
pub fn look(evidence: &Evidence, endorsements: &Endorsements, now: UnixTime) -> Assessment {
    assess(evidence, endorsements, None, None, &Policy::genuine(), now, &AwsLc)
}

//! The trustworthiness vector (draft-ietf-rats-ar4si-09, §2.3): what a verdict says about each aspect of an attester,
//! in the numbers that all verifiers share.

use appraisal::{Code, Origin, Outcome, Verdict};
use serde::{Deserialize, Serialize};

/// How far an attester can be trusted (AR4SI, §2.3.2; EAR, "ear_status").
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Tier {
    /// Nothing is said.
    None,
    /// As it should be.
    Affirming,
    /// Known, and worth a second look.
    Warning,
    /// Not to be trusted.
    Contraindicated,
}

impl Tier {
    /// The number of the tier in CBOR.
    pub const fn number(self) -> i8 {
        match self {
            Self::None => 0,
            Self::Affirming => 2,
            Self::Warning => 32,
            Self::Contraindicated => 96,
        }
    }

    const fn of(value: i8) -> Self {
        match value {
            2..=31 => Self::Affirming,
            32..=95 => Self::Warning,
            96..=127 => Self::Contraindicated,
            _ => Self::None,
        }
    }
}

/// The names of the aspects, by their keys in CBOR.
pub(crate) const NAMES: [&str; 8] = [
    "instance-identity",
    "configuration",
    "executables",
    "file-system",
    "hardware",
    "runtime-opaque",
    "storage-opaque",
    "sourced-data",
];

/// The vector. Zero makes no claim, and is left out when it is written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Vector {
    /// Whether the platform instance is known.
    pub instance_identity: i8,
    /// Whether it is configured as it should be.
    pub configuration: i8,
    /// Whether the code is the expected one.
    pub executables: i8,
    /// Whether the hardware and its firmware are genuine and current.
    pub hardware: i8,
    /// Whether memory can be read from outside.
    pub runtime_opaque: i8,
}

const CRYPTOGRAPHY_FAILED: i8 = 99;

impl Vector {
    /// What a verdict says.
    pub fn of(verdict: &Verdict) -> Self {
        let outcome = |name: &str| {
            verdict
                .checks()
                .iter()
                .find(|check| check.name == name)
                .map_or(Outcome::Skipped, |check| check.outcome)
        };
        if outcome("genuine") == Outcome::Failed {
            // Unrecognised hardware where the chain ends in a strange root; otherwise the cryptography failed.
            let stranger = verdict.codes().any(|code| code == Code::RootNotTrusted);
            let hardware = if stranger { 97 } else { CRYPTOGRAPHY_FAILED };
            return Self { hardware, ..Self::default() };
        }
        let emulated = matches!(verdict.origin(), Some(Origin::Emulated(_)));
        let debug = verdict.codes().any(|code| code == Code::DebugEnabled)
            || verdict.warnings().iter().any(|warning| warning.code == Code::DebugEnabled);
        let hardware = match outcome("tcb").max(outcome("revocation")) {
            Outcome::Failed => 96,
            // An emulated platform is no hardware, whoever accepts it.
            _ if emulated => 32,
            Outcome::Warned => 32,
            Outcome::Passed => 2,
            Outcome::Skipped => 0,
        };
        let configuration = match outcome("configuration") {
            Outcome::Failed => 96,
            Outcome::Warned => 32,
            Outcome::Passed => 2,
            Outcome::Skipped => 0,
        };
        let executables = match outcome("mine") {
            // Known by what was loaded at launch: "approved_boot".
            Outcome::Passed | Outcome::Warned => 3,
            Outcome::Failed => 33,
            Outcome::Skipped => 0,
        };
        let instance_identity =
            match verdict.check("configuration/platform-identity").map(|check| check.outcome) {
                Some(Outcome::Passed) => 2,
                Some(Outcome::Failed) => 97,
                _ => 0,
            };
        let runtime_opaque = match verdict.platform().as_str() {
            "tpm" => 0,
            _ if debug => 96,
            _ if emulated => 32,
            _ => 2,
        };
        Self { instance_identity, configuration, executables, hardware, runtime_opaque }
    }

    /// The claims that are made: name, key in CBOR, value.
    pub fn claims(&self) -> impl Iterator<Item = (&'static str, u8, i8)> {
        [
            (0, self.instance_identity),
            (1, self.configuration),
            (2, self.executables),
            (4, self.hardware),
            (5, self.runtime_opaque),
        ]
        .into_iter()
        .filter(|(_, value)| *value != 0)
        .map(|(key, value)| (NAMES[usize::from(key)], key, value))
    }

    /// The worst tier of its claims.
    pub fn tier(&self) -> Tier {
        self.claims().map(|(_, _, value)| Tier::of(value)).max().unwrap_or(Tier::None)
    }
}

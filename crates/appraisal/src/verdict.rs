//! The Attestation Result: a tree of every check that was made, or was not, with what was expected, what was
//! seen, and what would mend it. One tree, two renderings: JSON by `Serialize`, text by [`Verdict::render`].

use std::collections::BTreeMap;

use evidence::{Covered, Platform};
use serde::{Serialize, Serializer};

use crate::claims::Claims;
use crate::{Code, TcbStatus, UnixTime};

/// How one check came out.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Outcome {
    /// Not made; the check's text says why.
    Skipped,
    /// As it should be.
    Passed,
    /// Accepted, and worth knowing.
    Warned,
    /// Not as it must be.
    Failed,
}

/// One check, with those it consists of.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Check {
    /// A stable, short name.
    pub name: &'static str,
    /// How it came out.
    pub outcome: Outcome,
    /// Why it did not pass.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub code: Option<Code>,
    /// What was found, in words.
    pub text: String,
    /// The value that was expected.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub expected: Option<String>,
    /// The value that was seen.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub observed: Option<String>,
    /// What would make the check pass.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mend: Option<String>,
    /// The checks that this one consists of.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub checks: Vec<Check>,
}

impl Check {
    fn new(name: &'static str, outcome: Outcome, code: Option<Code>, text: String) -> Self {
        Self { name, outcome, code, text, expected: None, observed: None, mend: None, checks: Vec::new() }
    }

    pub(crate) fn passed(name: &'static str, text: impl Into<String>) -> Self {
        Self::new(name, Outcome::Passed, None, text.into())
    }

    pub(crate) fn warned(name: &'static str, code: Code, text: impl Into<String>) -> Self {
        Self::new(name, Outcome::Warned, Some(code), text.into())
    }

    pub(crate) fn failed(name: &'static str, code: Code, text: impl Into<String>) -> Self {
        Self::new(name, Outcome::Failed, Some(code), text.into())
    }

    pub(crate) fn skipped(name: &'static str, reason: impl Into<String>) -> Self {
        Self::new(name, Outcome::Skipped, None, reason.into())
    }

    /// A detail of its parent, which has the code.
    pub(crate) fn detail(name: &'static str, outcome: Outcome, text: impl Into<String>) -> Self {
        Self::new(name, outcome, None, text.into())
    }

    /// A check that consists of others: as bad as the worst of them.
    pub(crate) fn group(name: &'static str, text: impl Into<String>, checks: Vec<Self>) -> Self {
        let outcome = checks.iter().map(|check| check.outcome).max().unwrap_or(Outcome::Skipped);
        let code = checks.iter().find(|check| check.outcome == outcome).and_then(|check| check.code);
        Self { checks, ..Self::new(name, outcome, code, text.into()) }
    }

    /// The check with details that do not change how it came out.
    pub(crate) fn with(mut self, details: impl IntoIterator<Item = Self>) -> Self {
        self.checks.extend(details);
        self
    }

    /// The group with further checks.
    pub(crate) fn and(mut self, more: impl IntoIterator<Item = Self>) -> Self {
        self.checks.extend(more);
        Self::group(self.name, self.text, self.checks)
    }

    pub(crate) fn expected(mut self, value: impl Into<String>) -> Self {
        self.expected = Some(value.into());
        self
    }

    pub(crate) fn observed(mut self, value: impl Into<String>) -> Self {
        self.observed = Some(value.into());
        self
    }

    pub(crate) fn mend(mut self, advice: impl Into<String>) -> Self {
        self.mend = Some(advice.into());
        self
    }

    pub(crate) fn is_failed(&self) -> bool {
        self.outcome == Outcome::Failed
    }

    /// The innermost checks with `outcome`, with the path of names that leads to each.
    fn collect_leaves<'a>(
        &'a self,
        outcome: Outcome,
        path: &mut Vec<&'static str>,
        found: &mut Vec<(String, &'a Self)>,
    ) {
        if self.checks.is_empty() && self.outcome != outcome {
            return;
        }
        path.push(self.name);
        let before = found.len();
        for check in &self.checks {
            check.collect_leaves(outcome, path, found);
        }
        // Children without codes of their own only tell the details of their parent.
        let speaks = self.outcome == outcome && (self.code.is_some() || self.checks.is_empty());
        if speaks && found[before..].iter().all(|(_, check)| check.code.is_none()) {
            found.truncate(before);
            found.push((path.join("/"), self));
        }
        path.pop();
    }
}

/// Whether the Evidence is accepted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Decision {
    /// No check failed, and all that had to be made were made.
    Accepted,
    /// Otherwise.
    Refused,
}

/// Whose root the Evidence chains to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Origin {
    /// A hardware vendor's.
    Vendor,
    /// That of an emulated platform, which the policy names so.
    Emulated(String),
    /// An anchor that the policy names, for a platform whose vendor's root is not compiled in (TPM, CCA).
    Enrolled(String),
}

/// What is known of the platform's TCB.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Tcb {
    /// The status, when the vendor or the policy's floor gives one.
    pub status: Option<TcbStatus>,
    /// The vendor's advisories that are open at this level.
    pub advisories: Vec<String>,
    /// The versions that were seen.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub version: Option<String>,
    /// The date of the TCB level that the platform reaches.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub date: Option<UnixTime>,
    /// Intel: the parts that the status was merged from, each with what it lacks.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub parts: Vec<TcbPart>,
}

/// One part of a platform that its vendor gives levels to.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct TcbPart {
    /// `platform`, `tdx-module` or `quoting-enclave`; with `-now` for the versions that run now, where a TD of TDX
    /// 1.5 was launched under others.
    pub name: &'static str,
    /// The status of the level that the part reaches.
    pub status: TcbStatus,
    /// The date of that level.
    pub date: UnixTime,
    /// The best level that the vendor lists for the part, when it is better than the one reached.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub target: Option<TcbTarget>,
    /// What the part lacks for that level; empty when there is none.
    pub shortfalls: Vec<Shortfall>,
    /// The advisories that are open.
    pub advisories: Vec<OpenAdvisory>,
}

/// A TCB level that a part could reach.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct TcbTarget {
    /// Its status.
    pub status: TcbStatus,
    /// Its date.
    pub date: UnixTime,
}

/// A security version that is too low.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Shortfall {
    /// What it is the version of, with the vendor's words where there are any.
    pub component: String,
    /// The version that was seen.
    pub seen: u16,
    /// The version that is needed.
    pub required: u16,
}

/// An advisory that is open at the level that a part reaches.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct OpenAdvisory {
    /// The vendor's name for it.
    pub id: String,
    /// What it affects.
    pub affects: String,
    /// The date of the first later level without it; none when there is no such level.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub since: Option<UnixTime>,
}

/// Which platform instance made the Evidence.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum PlatformIdentity {
    /// SGX, TDX: the platform provisioning id of the PCK certificate.
    Ppid([u8; 16]),
    /// SNP with a VCEK: the chip id (64 bytes, of which Turin uses 8).
    ChipId([u8; 64]),
    /// SNP with a VLEK: the cloud provider; the chip is not told.
    Provider(String),
    /// A name that the vendor gives the instance: the parent instance of a Nitro Enclave, the instance id of a CCA
    /// platform.
    Named(String),
    /// NVIDIA: the serial numbers of the devices, separated by commas.
    Device(String),
    /// TPM: SHA-256 of the attestation key's SubjectPublicKeyInfo.
    AttestationKey([u8; 32]),
}

impl std::fmt::Display for PlatformIdentity {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Ppid(id) => f.write_str(&hex::encode(id)),
            Self::ChipId(id) => f.write_str(&hex::encode(id)),
            Self::Provider(name) | Self::Named(name) | Self::Device(name) => f.write_str(name),
            Self::AttestationKey(digest) => f.write_str(&hex::encode(digest)),
        }
    }
}

impl PlatformIdentity {
    const fn kind(&self) -> &'static str {
        match self {
            Self::Ppid(_) => "PPID",
            Self::ChipId(_) => "chip",
            Self::Provider(_) => "provider",
            Self::Named(_) => "instance",
            Self::Device(_) => "device",
            Self::AttestationKey(_) => "key",
        }
    }

    /// Kind and value, the value shortened for a line that people read.
    pub(crate) fn short(&self) -> String {
        let text = self.to_string();
        let value = match (self, text.get(..8), text.get(text.len().saturating_sub(4)..)) {
            (Self::Provider(_) | Self::Device(_), ..) => text,
            (_, Some(head), Some(tail)) => format!("{head}…{tail}"),
            _ => text,
        };
        format!("{} {value}", self.kind())
    }
}

impl Serialize for PlatformIdentity {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

/// One reason for a refusal or a warning: a check of the tree, by its path.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Reason {
    /// The stable code.
    pub code: Code,
    /// Where in the tree: names, separated by `/`.
    pub check: String,
    /// What was found.
    pub text: String,
    /// What would mend it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mend: Option<String>,
}

/// An Attestation Result.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Verdict {
    pub(crate) verdict: Decision,
    pub(crate) policy: String,
    pub(crate) at: UnixTime,
    pub(crate) platform: Platform,
    #[serde(rename = "emulated", serialize_with = "emulated")]
    pub(crate) origin: Option<Origin>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) product: Option<String>,
    pub(crate) platform_identity: Option<PlatformIdentity>,
    /// Whether the Evidence was compared with reference values for the code.
    pub(crate) workload_checked: bool,
    pub(crate) tcb: Tcb,
    pub(crate) measurements: BTreeMap<String, String>,
    pub(crate) report_data: Covered,
    pub(crate) claims: Claims,
    pub(crate) reasons: Vec<Reason>,
    pub(crate) warnings: Vec<Reason>,
    pub(crate) checks: Vec<Check>,
}

fn emulated<S: Serializer>(origin: &Option<Origin>, serializer: S) -> Result<S::Ok, S::Error> {
    match origin {
        Some(Origin::Vendor | Origin::Enrolled(_)) => serializer.serialize_some(&false),
        Some(Origin::Emulated(_)) => serializer.serialize_some(&true),
        None => serializer.serialize_none(),
    }
}

impl Verdict {
    /// Adds a check that is about more than the Evidence; a failed one makes it a refusal.
    pub(crate) fn add(&mut self, check: Check) {
        if check.is_failed() {
            self.verdict = Decision::Refused;
        }
        self.checks.push(check);
        self.reasons = reasons(&self.checks, Outcome::Failed);
        self.warnings = reasons(&self.checks, Outcome::Warned);
    }

    /// Whether the Evidence is accepted.
    pub fn decision(&self) -> Decision {
        self.verdict
    }

    /// Whether the Evidence is accepted.
    pub fn is_accepted(&self) -> bool {
        self.verdict == Decision::Accepted
    }

    /// The name of the policy.
    pub fn policy(&self) -> &str {
        &self.policy
    }

    /// The time that validities were checked at.
    pub fn at(&self) -> UnixTime {
        self.at
    }

    /// The kind of TEE.
    pub fn platform(&self) -> Platform {
        self.platform
    }

    /// Whose root the Evidence chains to; none when it chains to no trusted one.
    pub fn origin(&self) -> Option<&Origin> {
        self.origin.as_ref()
    }

    /// The product family, when known.
    pub fn product(&self) -> Option<&str> {
        self.product.as_deref()
    }

    /// The platform instance, when its certificate is trusted.
    pub fn platform_identity(&self) -> Option<&PlatformIdentity> {
        self.platform_identity.as_ref()
    }

    /// Whether the Evidence was compared with reference values for the code.
    pub fn workload_checked(&self) -> bool {
        self.workload_checked
    }

    /// What is known of the TCB.
    pub fn tcb(&self) -> &Tcb {
        &self.tcb
    }

    /// The measurements that the Evidence tells, by name, hexadecimal. Unverified when refused.
    pub fn measurements(&self) -> &BTreeMap<String, String> {
        &self.measurements
    }

    /// What the Evidence covers. Unverified when refused.
    pub fn report_data(&self) -> &Covered {
        &self.report_data
    }

    /// What else the Evidence claims.
    pub fn claims(&self) -> &Claims {
        &self.claims
    }

    /// Why it was refused; empty when accepted.
    pub fn reasons(&self) -> &[Reason] {
        &self.reasons
    }

    /// What was accepted, and is worth knowing.
    pub fn warnings(&self) -> &[Reason] {
        &self.warnings
    }

    /// The codes of [`Verdict::reasons`].
    pub fn codes(&self) -> impl Iterator<Item = Code> + '_ {
        self.reasons.iter().map(|reason| reason.code)
    }

    /// The tree of checks.
    pub fn checks(&self) -> &[Check] {
        &self.checks
    }

    /// The check at `path` (names, separated by `/`).
    pub fn check(&self, path: &str) -> Option<&Check> {
        let mut names = path.split('/');
        let first = names.next()?;
        let root = self.checks.iter().find(|check| check.name == first)?;
        names.try_fold(root, |check, name| check.checks.iter().find(|child| child.name == name))
    }
}

/// The reasons with `outcome` in the tree, in its order.
pub(crate) fn reasons(checks: &[Check], outcome: Outcome) -> Vec<Reason> {
    let mut leaves = Vec::new();
    for check in checks {
        check.collect_leaves(outcome, &mut Vec::new(), &mut leaves);
    }
    leaves
        .into_iter()
        .filter_map(|(path, check)| {
            let code = check.code?;
            Some(Reason { code, check: path, text: check.text.clone(), mend: check.mend.clone() })
        })
        .collect()
}

//! The newest that was ever seen of each vendor's statements, so that older ones, which stay signed, are refused
//! (S-18). Raised by what an appraisal accepted, and by nothing else: a number that nobody signed would shut out the
//! real ones. Emulated platforms do not raise it.
//!
//! Evaluation numbers and AMD's CRL numbers grow. Intel gives every revocation list the number 1, so for lists the time
//! of issue is remembered as well; as verifiers with caches of their own see lists of different days, one that is a
//! little older than the newest is let pass ([`Floors::tolerating`]).
//!
//! Floors are by subject, not by root: whoever appraises emulated platforms too does that without them.
//!
//! Whoever can delete the file makes us forget: inside a TEE it belongs onto sealed storage.

use std::collections::BTreeMap;
use std::fs::File;
use std::io;
use std::path::Path;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use appraisal::{
    Appraised, CollateralSeen, CollateralSubject, CrlSeen, IntelNeeds, Minimum, PckCa, Policy, UnixTime,
};
use evidence::snp::ProductFamily;
use evidence::{Endorsements, Evidence};
use serde::{Deserialize, Serialize};

use crate::disk::Directory;

const SCHEMA: &str = "bailey/floors/1";
const MAX_FILE: usize = 1024 * 1024;
/// A list may be this much older than the newest that was seen: a week.
pub const DEFAULT_TOLERANCE: Duration = Duration::from_secs(7 * 24 * 60 * 60);

/// The newest that was seen.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Seen {
    format: String,
    /// By kind of TEE and FMSPC.
    evaluations: BTreeMap<String, Evaluation>,
    /// By issuer.
    lists: BTreeMap<String, List>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Evaluation {
    number: u32,
    issued: Option<UnixTime>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct List {
    number: Option<u64>,
    issued: Option<UnixTime>,
}

impl Default for Seen {
    fn default() -> Self {
        Self { format: SCHEMA.into(), evaluations: BTreeMap::new(), lists: BTreeMap::new() }
    }
}

/// Why floors could not be read or raised. Then nothing should be appraised with them: silence would be forgetting.
#[derive(Debug, thiserror::Error)]
pub enum FloorsError {
    /// The file cannot be read or written.
    #[error("the file of floors cannot be used")]
    Disk(#[from] io::Error),
    /// The file holds something else.
    #[error(
        "the file of floors holds something else: {0}; restore it from a backup, or, if you know why, remove it"
    )]
    Unreadable(String),
}

/// The newest that was ever seen of each vendor's statements.
pub struct Floors {
    store: Store,
    tolerance: Duration,
}

enum Store {
    Memory(Mutex<Seen>),
    File { directory: Directory, name: String },
}

impl Floors {
    /// Floors in a file, which is made at the first raise. Processes may share it.
    ///
    /// # Errors
    /// [`FloorsError`] when there is a file that cannot be read.
    pub fn open(path: &Path) -> Result<Self, FloorsError> {
        let name = path.file_name().and_then(|name| name.to_str());
        let name =
            name.ok_or_else(|| io::Error::new(io::ErrorKind::InvalidInput, "expected a file's path"))?;
        let above = path.parent().filter(|above| !above.as_os_str().is_empty()).unwrap_or(Path::new("."));
        let store = Store::File { directory: Directory::open(above)?, name: name.to_owned() };
        let floors = Self { store, tolerance: DEFAULT_TOLERANCE };
        floors.read()?;
        Ok(floors)
    }

    /// Floors that end with the process.
    pub fn in_memory() -> Self {
        Self { store: Store::Memory(Mutex::default()), tolerance: DEFAULT_TOLERANCE }
    }

    /// Lets lists pass that are at most this much older than the newest that was seen.
    #[must_use]
    pub fn tolerating(self, tolerance: Duration) -> Self {
        Self { tolerance, ..self }
    }

    /// Remembers what an accepted appraisal used. Whether anything was newer than before.
    ///
    /// # Errors
    /// [`FloorsError`] when it could not be remembered.
    pub fn raise(&self, appraised: &Appraised) -> Result<bool, FloorsError> {
        if appraised.emulated() {
            return Ok(false);
        }
        self.change(|seen| seen.raise(appraised.collateral()))
    }

    /// The floors for statements about `subject`.
    ///
    /// # Errors
    /// [`FloorsError`] when the file cannot be read.
    pub fn minimum(&self, subject: CollateralSubject) -> Result<Minimum, FloorsError> {
        Ok(self.read()?.minimum(subject, self.tolerance))
    }

    /// Raises the floors of `policy` to what was seen, for an appraisal of this Evidence with these Endorsements.
    ///
    /// # Errors
    /// [`FloorsError`] when the file cannot be read.
    pub fn apply(
        &self,
        policy: &mut Policy,
        evidence: &Evidence,
        endorsements: &Endorsements,
    ) -> Result<(), FloorsError> {
        let Some(subject) = CollateralSubject::of(evidence, endorsements) else { return Ok(()) };
        let seen = self.minimum(subject)?;
        let own = &mut policy.minimum;
        // None is less than any floor.
        own.tcb_evaluation_data_number = own.tcb_evaluation_data_number.max(seen.tcb_evaluation_data_number);
        own.intel_collateral_issued = own.intel_collateral_issued.max(seen.intel_collateral_issued);
        own.root_ca_crl_number = own.root_ca_crl_number.max(seen.root_ca_crl_number);
        own.root_ca_crl_issued = own.root_ca_crl_issued.max(seen.root_ca_crl_issued);
        own.pck_crl_number = own.pck_crl_number.max(seen.pck_crl_number);
        own.pck_crl_issued = own.pck_crl_issued.max(seen.pck_crl_issued);
        own.amd_crl_number = own.amd_crl_number.max(seen.amd_crl_number);
        own.amd_crl_issued = own.amd_crl_issued.max(seen.amd_crl_issued);
        Ok(())
    }

    fn read(&self) -> Result<Seen, FloorsError> {
        match &self.store {
            Store::Memory(seen) => Ok(seen.lock().unwrap_or_else(PoisonError::into_inner).clone()),
            Store::File { directory, name } => read(directory, name),
        }
    }

    fn change(&self, change: impl FnOnce(&mut Seen) -> bool) -> Result<bool, FloorsError> {
        match &self.store {
            Store::Memory(seen) => Ok(change(&mut seen.lock().unwrap_or_else(PoisonError::into_inner))),
            Store::File { directory, name } => {
                let _lock = locked(directory, name)?;
                let mut seen = read(directory, name)?;
                let changed = change(&mut seen);
                if changed {
                    let text = serde_json::to_vec_pretty(&seen).map_err(io::Error::other)?;
                    directory.write(name, &text)?;
                }
                Ok(changed)
            }
        }
    }
}

/// Reading, raising and writing is one step, also between processes.
fn locked(directory: &Directory, name: &str) -> io::Result<File> {
    let lock = directory.lock_file(&format!("{name}.lock"))?;
    lock.lock()?;
    Ok(lock)
}

fn read(directory: &Directory, name: &str) -> Result<Seen, FloorsError> {
    let bytes = match directory.read(name, MAX_FILE) {
        Ok(bytes) => bytes,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Seen::default()),
        Err(error) => return Err(error.into()),
    };
    let seen: Seen =
        serde_json::from_slice(&bytes).map_err(|error| FloorsError::Unreadable(error.to_string()))?;
    if seen.format != SCHEMA {
        return Err(FloorsError::Unreadable(format!("its format is {:?}", seen.format)));
    }
    Ok(seen)
}

impl Seen {
    fn raise(&mut self, newer: &CollateralSeen) -> bool {
        let before = self.clone();
        match newer.subject {
            Some(CollateralSubject::Intel(subject)) => {
                if let Some(number) = newer.tcb_evaluation_data_number {
                    let issued = newer.intel_collateral_issued;
                    let entry = self.evaluations.entry(evaluation_of(&subject));
                    let seen = entry.or_insert(Evaluation { number, issued });
                    seen.number = seen.number.max(number);
                    seen.issued = seen.issued.max(issued);
                }
                self.raise_list(ROOT_CA, newer.root_ca_crl);
                self.raise_list(pck_ca(subject.ca), newer.pck_crl);
            }
            Some(CollateralSubject::Amd(family)) => {
                let number = newer.amd_crl_number;
                let list = newer.amd_crl_issued.map(|issued| CrlSeen { number, issued });
                self.raise_list(amd_root(family), list);
            }
            None => {}
        }
        *self != before
    }

    fn raise_list(&mut self, name: &str, newer: Option<CrlSeen>) {
        let Some(CrlSeen { number, issued }) = newer else { return };
        let issued = Some(issued);
        let seen = self.lists.entry(name.to_owned()).or_insert(List { number, issued });
        seen.number = seen.number.max(number);
        seen.issued = seen.issued.max(issued);
    }

    fn minimum(&self, subject: CollateralSubject, tolerance: Duration) -> Minimum {
        let tolerance = i64::try_from(tolerance.as_secs()).unwrap_or(i64::MAX);
        let earlier = |issued: UnixTime| UnixTime(issued.0.saturating_sub(tolerance));
        let list = |name: &str| {
            let list = self.lists.get(name);
            (list.and_then(|list| list.number), list.and_then(|list| list.issued).map(earlier))
        };
        match subject {
            CollateralSubject::Intel(subject) => {
                let evaluation = self.evaluations.get(&evaluation_of(&subject));
                let (root_ca_crl_number, root_ca_crl_issued) = list(ROOT_CA);
                let (pck_crl_number, pck_crl_issued) = list(pck_ca(subject.ca));
                Minimum {
                    tcb_evaluation_data_number: evaluation.map(|seen| seen.number),
                    intel_collateral_issued: evaluation.and_then(|seen| seen.issued).map(earlier),
                    root_ca_crl_number,
                    root_ca_crl_issued,
                    pck_crl_number,
                    pck_crl_issued,
                    ..Minimum::default()
                }
            }
            CollateralSubject::Amd(family) => {
                let (amd_crl_number, amd_crl_issued) = list(amd_root(family));
                Minimum { amd_crl_number, amd_crl_issued, ..Minimum::default() }
            }
        }
    }
}

fn evaluation_of(subject: &IntelNeeds) -> String {
    format!("{}-{}", subject.tee.as_str(), hex::encode(subject.fmspc))
}

const ROOT_CA: &str = "Intel SGX Root CA";

fn pck_ca(ca: PckCa) -> &'static str {
    ca.common_name()
}

fn amd_root(family: ProductFamily) -> &'static str {
    match family {
        ProductFamily::Milan => "ARK-Milan",
        ProductFamily::Genoa => "ARK-Genoa",
        ProductFamily::Turin => "ARK-Turin",
    }
}

//! What governs the coordinator itself: infrastructures, recovery keys, configuration.

use std::collections::{BTreeMap, BTreeSet};
use std::num::NonZeroUsize;
use std::time::Duration;

use x509_parser::oid_registry::OID_PKCS1_RSAENCRYPTION;
use x509_parser::prelude::{FromDer, SubjectPublicKeyInfo};

use crate::document as wire;
use crate::encoding;
use crate::fault::{Code, Collector, shown, suggestion};
use crate::names::RecoveryKeyName;
use crate::path::Path;
use crate::support::{self, Feature};
use crate::witness::{self, Witnesses};

/// What governs the coordinator itself.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Settings {
    /// Where Marbles may run, by name; anywhere when empty.
    pub infrastructures: BTreeMap<String, Infrastructure>,
    /// Who can bring the state back on another machine. Nobody when empty.
    pub recovery_keys: BTreeMap<RecoveryKeyName, RecoveryKey>,
    /// How many of them it takes; all where absent.
    pub recovery_threshold: Option<NonZeroUsize>,
    /// How many users an update takes; all who may update where absent.
    pub update_threshold: Option<NonZeroUsize>,
    /// After how long an update that lacks acknowledgements is cancelled.
    pub update_deadline: Duration,
    /// What the state is sealed to.
    pub seal_mode: SealMode,
    /// Interfaces that are off unless named.
    pub gates: BTreeSet<Gate>,
    /// Whether an update to this manifest makes a new root secret.
    pub rotate_root_secret: bool,
    /// For how long, after an epoch begins under this manifest, Marbles of the epoch before may speak with its own;
    /// not at all where absent.
    pub rollout_window: Option<Duration>,
    /// After how long an update to this manifest is rolled back, unless each Marble that ran before runs again; never
    /// where absent.
    pub roll_back_after: Option<Duration>,
    /// Instances and machines that were evicted and may come back by the update to this manifest.
    pub reinstated: BTreeSet<String>,
    /// Who watches that the log only grows.
    pub witnesses: Witnesses,
}

/// What an SGX platform must be, in MarbleRun's words.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Infrastructure {
    /// The least CPUSVN, component by component.
    pub cpu_svn: Option<[u8; 16]>,
    /// The least security version of the quoting enclave.
    pub qe_svn: u16,
    /// The least security version of the provisioning certification enclave.
    pub pce_svn: u16,
    /// The root of the platform's certificates, DER; Intel's where absent.
    pub root_ca: Option<Vec<u8>>,
}

/// The key of someone who holds a share.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct RecoveryKey {
    /// RSA, DER `SubjectPublicKeyInfo`.
    pub public_key: Vec<u8>,
}

/// What the state is sealed to. All modes of MarbleRun are at least as strict here: state is always bound to the
/// coordinator's code and launch configuration.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum SealMode {
    /// The coordinator's code, launch configuration and platform.
    #[default]
    Sealed,
    /// Nothing is written: a restart begins anew.
    Disabled,
}

/// An interface that is off unless named.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Gate {
    /// The root key signs quotes that were verified.
    SignQuoteEndpoint,
    /// Marbles have counters that only rise.
    MonotonicCounter,
}

const UPDATE_DEADLINE: Duration = Duration::from_secs(7 * 24 * 3600);
/// Shamir's shares are numbered in one byte.
const MOST_RECOVERY_KEYS: usize = 255;

pub(crate) fn resolve(document: &wire::Document, at: &Path<'_>, faults: &mut Collector<'_>) -> Settings {
    let config = &document.config;
    let here = at.field("Config");
    Settings {
        infrastructures: infrastructures(document, &at.field("Infrastructures"), faults),
        recovery_keys: recovery_keys(&document.recovery_keys, &at.field("RecoveryKeys"), faults),
        recovery_threshold: recovery_threshold(document, &here.field("RecoveryThreshold"), faults),
        update_threshold: update_threshold(document, &here.field("UpdateThreshold"), faults),
        update_deadline: deadline(config.update_deadline.as_deref(), &here.field("UpdateDeadline"), faults),
        seal_mode: seal_mode(&config.seal_mode, &here.field("SealMode"), faults),
        gates: gates(&config.feature_gates, &here.field("FeatureGates"), faults),
        rotate_root_secret: config.rotate_root_secret,
        rollout_window: time(config.rollout_window.as_deref(), &here.field("RolloutWindow"), faults),
        roll_back_after: time(config.roll_back_after.as_deref(), &here.field("RollBackAfter"), faults),
        reinstated: reinstated(&config.reinstated, &here.field("Reinstated"), faults),
        witnesses: witness::resolve(&document.transparency, &at.field("Transparency"), faults),
    }
}

fn infrastructures(
    document: &wire::Document,
    at: &Path<'_>,
    faults: &mut Collector<'_>,
) -> BTreeMap<String, Infrastructure> {
    let mut resolved = BTreeMap::new();
    for (name, wire) in &document.infrastructures {
        let here = at.key(name);
        let mut number = |number: u64, field| {
            u16::try_from(number).unwrap_or_else(|_| {
                let message = format!("{number} does not fit into 16 bits");
                faults.add(&here.field(field), Code::InvalidValue, message);
                0
            })
        };
        let (qe_svn, pce_svn) = (number(wire.qe_svn, "QESVN"), number(wire.pce_svn, "PCESVN"));
        let cpu_svn = match wire.cpu_svn.0.as_slice() {
            [] => None,
            bytes => match bytes.try_into() {
                Ok(svn) => Some(svn),
                Err(_) => {
                    let message = format!("{} bytes, not 16", bytes.len());
                    faults.add(&here.field("CPUSVN"), Code::InvalidValue, message);
                    None
                }
            },
        };
        let root_ca = Some(wire.root_ca.0.clone()).filter(|root| !root.is_empty());
        resolved.insert(name.clone(), Infrastructure { cpu_svn, qe_svn, pce_svn, root_ca });
    }
    resolved
}

fn recovery_keys(
    keys: &BTreeMap<String, String>,
    at: &Path<'_>,
    faults: &mut Collector<'_>,
) -> BTreeMap<RecoveryKeyName, RecoveryKey> {
    if keys.len() > MOST_RECOVERY_KEYS {
        faults.add(at, Code::InvalidValue, format!("{} keys are more than {MOST_RECOVERY_KEYS}", keys.len()));
    }
    let mut resolved = BTreeMap::new();
    let mut known = BTreeSet::new();
    for (name, text) in keys {
        let here = at.key(name);
        let name = match name.parse::<RecoveryKeyName>() {
            Ok(name) => name,
            Err(error) => {
                faults.add(&here, Code::InvalidName, error.to_string());
                continue;
            }
        };
        match rsa_key(text) {
            Ok(public_key) => {
                if !known.insert(public_key.clone()) {
                    let message = "another holder has the same key, so one person would count as two";
                    faults.add(&here, Code::DuplicateValue, message);
                }
                resolved.insert(name, RecoveryKey { public_key });
            }
            Err(message) => {
                faults.hint(&here, Code::InvalidCertificate, message, "give one RSA public key as PEM");
            }
        }
    }
    resolved
}

/// The RSA public key in a PEM text: its SubjectPublicKeyInfo.
///
/// # Errors
/// What else it is, in words.
pub fn rsa_key(text: &str) -> Result<Vec<u8>, String> {
    let der = encoding::pem(text, "PUBLIC KEY")?;
    match SubjectPublicKeyInfo::from_der(&der) {
        Ok(([], key)) if key.algorithm.algorithm == OID_PKCS1_RSAENCRYPTION => {}
        Ok(([], _)) => return Err("this is not an RSA key".to_owned()),
        Ok(_) => return Err("there are bytes after the key".to_owned()),
        Err(error) => return Err(format!("this is not a public key: {error}")),
    }
    Ok(der)
}

fn recovery_threshold(
    document: &wire::Document,
    at: &Path<'_>,
    faults: &mut Collector<'_>,
) -> Option<NonZeroUsize> {
    if document.config.recovery_threshold == 1 {
        let message = "a threshold of one would let any single key recover the state";
        faults.add(at, Code::InvalidValue, message);
    }
    threshold(document.config.recovery_threshold, document.recovery_keys.len(), "recovery keys", at, faults)
}

fn update_threshold(
    document: &wire::Document,
    at: &Path<'_>,
    faults: &mut Collector<'_>,
) -> Option<NonZeroUsize> {
    let updaters = document.users.values().filter(|user| {
        user.roles.iter().filter_map(|role| document.roles.get(role)).any(|role| {
            role.resource_type == "Manifest"
                && role.actions.iter().any(|action| action.eq_ignore_ascii_case("UpdateManifest"))
        })
    });
    threshold(document.config.update_threshold, updaters.count(), "users who may update", at, faults)
}

fn threshold(
    threshold: u64,
    available: usize,
    what: &str,
    at: &Path<'_>,
    faults: &mut Collector<'_>,
) -> Option<NonZeroUsize> {
    if threshold > available as u64 {
        faults.add(at, Code::InvalidValue, format!("{threshold} is more than the {available} {what}"));
    }
    NonZeroUsize::new(usize::try_from(threshold).unwrap_or(usize::MAX))
}

fn deadline(text: Option<&str>, at: &Path<'_>, faults: &mut Collector<'_>) -> Duration {
    time(text, at, faults).unwrap_or(UPDATE_DEADLINE)
}

fn time(text: Option<&str>, at: &Path<'_>, faults: &mut Collector<'_>) -> Option<Duration> {
    let text = text?;
    let time = encoding::span(text);
    if time.is_none() {
        let message = format!("`{}` is not a time of at most 365 days", shown(text));
        faults.hint(at, Code::InvalidValue, message, "write `48h`; units are m, h and d");
    }
    time
}

/// Instances by the 64 digits of their key's digest; machines as `snp:` and 128 digits of a chip id, or `intel:` and 32
/// of a platform provisioning id, both with `emulated-` before it where the platform is.
fn reinstated(list: &[String], at: &Path<'_>, faults: &mut Collector<'_>) -> BTreeSet<String> {
    let mut named = BTreeSet::new();
    for (i, text) in list.iter().enumerate() {
        let (digits, length) = match text.split_once(':') {
            Some(("snp" | "emulated-snp", digits)) => (digits, 128),
            Some(("intel" | "emulated-intel", digits)) => (digits, 32),
            Some(_) => ("", 1),
            None => (text.as_str(), 64),
        };
        let lower = |byte: u8| matches!(byte, b'0'..=b'9' | b'a'..=b'f');
        if digits.len() != length || !digits.bytes().all(lower) {
            let message = format!("`{}` is neither an instance nor a machine", shown(text));
            faults.hint(
                &at.index(i),
                Code::InvalidValue,
                message,
                "as `bailey instances --evicted` prints it",
            );
        } else if !named.insert(text.clone()) {
            faults.add(&at.index(i), Code::DuplicateValue, "this is named twice");
        }
    }
    named
}

fn seal_mode(text: &str, at: &Path<'_>, faults: &mut Collector<'_>) -> SealMode {
    match text {
        "" | "ProductKey" | "UniqueKey" => SealMode::Sealed,
        "Disabled" => SealMode::Disabled,
        other => {
            word(other, "a seal mode", &["ProductKey", "UniqueKey", "Disabled"], at, faults);
            SealMode::Sealed
        }
    }
}

fn gates(list: &[String], at: &Path<'_>, faults: &mut Collector<'_>) -> BTreeSet<Gate> {
    let mut gates = BTreeSet::new();
    for (i, gate) in list.iter().enumerate() {
        match gate.to_ascii_lowercase().as_str() {
            "signquoteendpoint" => drop(gates.insert(Gate::SignQuoteEndpoint)),
            "monotoniccounter" => drop(gates.insert(Gate::MonotonicCounter)),
            "azurehsmsealing" => support::refuse(Feature::AzureHsmSealing, &at.index(i), faults),
            _ => {
                word(gate, "a feature gate", &["SignQuoteEndpoint", "MonotonicCounter"], &at.index(i), faults)
            }
        }
    }
    gates
}

fn word(text: &str, what: &str, known: &[&str], at: &Path<'_>, faults: &mut Collector<'_>) {
    let message = format!("`{}` is not {what}", shown(text));
    faults.add_with(at, Code::InvalidValue, message, || suggestion(text, known));
}

//! Packages: the Reference Values of one piece of code on each platform, with the Appraisal Policy that
//! holds for it there.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use evidence::{Measurement, Platform};

use crate::document as wire;
use crate::encoding;
use crate::fault::{Code, Collector, shown};
use crate::names::{PackageName, SignerName};
use crate::path::Path;
use crate::platform::{self, PlatformPolicy};
use crate::references::{self, ReferenceSigner, ReferenceTuple, StatedReferences};

/// Code that may run as a Marble, identified by measurement.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Package {
    /// Its name.
    pub name: PackageName,
    /// Where it may run; never empty.
    pub accepted: BTreeMap<Platform, Accepted>,
}

/// What is accepted as a package on one platform.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Accepted {
    /// How its code is recognised.
    pub code: AcceptedCode,
    /// What the platform must be like.
    pub policy: Arc<PlatformPolicy>,
}

/// How code is recognised.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum AcceptedCode {
    /// By measurement: any of these; never empty.
    Measurements(BTreeSet<Measurement>),
    /// By who signed it; SGX only.
    Signer(Signer),
    /// By tuples of values, all of this platform: any of these; never empty.
    Values(Vec<ReferenceTuple>),
    /// By what others sign.
    References(Arc<StatedReferences>),
}

/// Code by its signer (MRSIGNER), at a security version or later.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Signer {
    /// MRSIGNER: the digest of the key that signs the enclave.
    pub id: Measurement,
    /// ISVPRODID.
    pub product: u16,
    /// The least ISVSVN.
    pub security_version: u16,
}

impl Package {
    /// The least security version of the package, where it is recognised by its signer.
    #[must_use]
    pub fn security_version(&self) -> Option<u16> {
        self.accepted.values().find_map(|accepted| match &accepted.code {
            AcceptedCode::Signer(signer) => Some(signer.security_version),
            _ => None,
        })
    }

    pub(crate) fn raise(&mut self, version: u16) {
        for accepted in self.accepted.values_mut() {
            if let AcceptedCode::Signer(signer) = &mut accepted.code {
                signer.security_version = signer.security_version.max(version);
            }
        }
    }
}

pub(crate) type Policies = BTreeMap<Platform, Arc<PlatformPolicy>>;

/// Resolves the packages that a Marble names. As in MarbleRun, others have no effect and are only read.
pub(crate) fn resolve(
    packages: &BTreeMap<String, wire::Package>,
    referenced: &BTreeSet<&str>,
    (policies, policies_given, signers): (&Policies, bool, &BTreeMap<SignerName, ReferenceSigner>),
    at: &Path<'_>,
    faults: &mut Collector<'_>,
) -> BTreeMap<PackageName, Arc<Package>> {
    let mut resolved = BTreeMap::new();
    for (name, wire) in packages {
        let here = at.key(name);
        let name = match name.parse::<PackageName>() {
            Ok(name) => name,
            Err(error) => {
                faults.add(&here, Code::InvalidName, error.to_string());
                continue;
            }
        };
        if !referenced.contains(name.as_str()) {
            continue;
        }
        if wire.debug {
            let message = "the host can read the memory of a debug TEE, so nothing in it is secret";
            faults.hint(
                &here.field("Debug"),
                Code::DebugPackage,
                message,
                "develop on an emulated platform instead",
            );
            continue;
        }
        let policies = own_policies(wire, policies, policies_given, &here, faults);
        if let Some(accepted) = accepted(wire, (&policies, signers), &here, faults) {
            resolved.insert(name.clone(), Arc::new(Package { name, accepted }));
        }
    }
    resolved
}

/// MarbleRun writes the TCB policy into the package; ours is in `Platforms`. Never both.
fn own_policies(
    wire: &wire::Package,
    policies: &Policies,
    policies_given: bool,
    at: &Path<'_>,
    faults: &mut Collector<'_>,
) -> Policies {
    let own = [
        ("AcceptedTCBStatuses", !wire.accepted_tcb_statuses.is_empty()),
        ("AcceptedAdvisories", !wire.accepted_advisories.is_empty()),
    ];
    if policies_given {
        for (field, _) in own.iter().filter(|(_, given)| *given) {
            let message = "the manifest has `Platforms`, which says this for all packages";
            faults.hint(&at.field(field), Code::Conflict, message, "move it into `Platforms`");
        }
        return policies.clone();
    }
    let sgx = PlatformPolicy {
        accepted_tcb_statuses: platform::tcb_statuses(
            &wire.accepted_tcb_statuses,
            &at.field("AcceptedTCBStatuses"),
            faults,
        ),
        accepted_advisories: platform::advisories(
            &wire.accepted_advisories,
            &at.field("AcceptedAdvisories"),
            faults,
        ),
        ..PlatformPolicy::default()
    };
    [(Platform::Sgx, Arc::new(sgx))].into()
}

fn accepted(
    wire: &wire::Package,
    (policies, signers): (&Policies, &BTreeMap<SignerName, ReferenceSigner>),
    at: &Path<'_>,
    faults: &mut Collector<'_>,
) -> Option<BTreeMap<Platform, Accepted>> {
    let unique = !wire.unique_id.is_empty();
    let signer = !wire.signer_id.is_empty() || wire.product_id.is_some() || wire.security_version.is_some();
    let lists = [
        (Platform::Sgx, &wire.measurements.sgx.0),
        (Platform::Tdx, &wire.measurements.tdx.0),
        (Platform::Snp, &wire.measurements.snp.0),
    ];
    let measured = lists.iter().any(|(_, list)| !list.is_empty());
    let (values, stated) = (!wire.reference_values.is_empty(), wire.references.as_ref());
    if values || stated.is_some() {
        return match (unique || signer || measured, values, stated) {
            (false, true, None) => by_values(&wire.reference_values, policies, at, faults),
            (false, false, Some(stated)) => by_statements(stated, (policies, signers), at, faults),
            _ => in_more_than_one_way(at, faults),
        };
    }
    match (unique, signer, measured) {
        (true, false, false) => {
            let here = at.field("UniqueID");
            let listed = platform_policy(Platform::Sgx, policies, &here, faults);
            let measurement = measurement(Platform::Sgx, &wire.unique_id, &here, faults);
            let code = AcceptedCode::Measurements([measurement?].into());
            let accepted = Accepted { code, policy: listed? };
            Some([(Platform::Sgx, accepted)].into())
        }
        (false, false, true) => {
            let here = at.field("Measurements");
            let given = lists.into_iter().filter(|(_, list)| !list.is_empty());
            let all: Vec<_> = given
                .map(|(platform, list)| {
                    let here = here.field(platform::field_of(platform));
                    Some((platform, on_platform(platform, list, policies, &here, faults)?))
                })
                .collect();
            all.into_iter().collect()
        }
        (false, true, false) => {
            let listed = platform_policy(Platform::Sgx, policies, &at.field("SignerID"), faults);
            let code = AcceptedCode::Signer(signer_form(wire, at, faults)?);
            Some([(Platform::Sgx, Accepted { code, policy: listed? })].into())
        }
        (false, false, false) => {
            let message = "the package says nothing by which its code could be recognised";
            faults.hint(
                at,
                Code::Missing,
                message,
                "give `Measurements`, `UniqueID`, `ReferenceValues` or `References`; `bailey measure` prints them",
            );
            None
        }
        _ => in_more_than_one_way(at, faults),
    }
}

fn in_more_than_one_way<T>(at: &Path<'_>, faults: &mut Collector<'_>) -> Option<T> {
    let message = "the package identifies its code in more than one way";
    let hint = "keep one of `Measurements`, `UniqueID`, `ReferenceValues`, `References`, and `SignerID` with \
                `ProductID` and `SecurityVersion`";
    faults.hint(at, Code::Conflict, message, hint);
    None
}

fn by_values(
    list: &[wire::ReferenceTuple],
    policies: &Policies,
    at: &Path<'_>,
    faults: &mut Collector<'_>,
) -> Option<BTreeMap<Platform, Accepted>> {
    let here = at.field("ReferenceValues");
    let tuples = references::tuples(list, &here, faults)?;
    let platforms: BTreeSet<_> = tuples.iter().map(|tuple| tuple.platform).collect();
    let on = |platform: Platform, faults: &mut Collector<'_>| {
        let policy = platform_policy(platform, policies, &here, faults)?;
        let tuples = tuples.iter().filter(|tuple| tuple.platform == platform).cloned().collect();
        Some((platform, Accepted { code: AcceptedCode::Values(tuples), policy }))
    };
    let all: Vec<_> = platforms.into_iter().map(|platform| on(platform, faults)).collect();
    all.into_iter().collect()
}

/// Statements say on which platforms the code runs; those count that the manifest accepts.
fn by_statements(
    wire: &wire::References,
    (policies, signers): (&Policies, &BTreeMap<SignerName, ReferenceSigner>),
    at: &Path<'_>,
    faults: &mut Collector<'_>,
) -> Option<BTreeMap<Platform, Accepted>> {
    let stated = Arc::new(references::stated(wire, signers, &at.field("References"), faults)?);
    let on = |(platform, policy): (&Platform, &Arc<PlatformPolicy>)| {
        let code = AcceptedCode::References(Arc::clone(&stated));
        (*platform, Accepted { code, policy: Arc::clone(policy) })
    };
    Some(policies.iter().map(on).collect())
}

fn on_platform(
    platform: Platform,
    list: &[String],
    policies: &Policies,
    at: &Path<'_>,
    faults: &mut Collector<'_>,
) -> Option<Accepted> {
    let policy = platform_policy(platform, policies, at, faults);
    let mut measurements = BTreeSet::new();
    let mut complete = true;
    for (i, text) in list.iter().enumerate() {
        let here = at.index(i);
        match measurement(platform, text, if list.len() == 1 { at } else { &here }, faults) {
            None => complete = false,
            Some(measurement) => complete &= measurements.insert(measurement) || duplicate(&here, faults),
        }
    }
    let code = AcceptedCode::Measurements(measurements);
    Some(Accepted { code, policy: policy? }).filter(|_| complete)
}

fn duplicate(at: &Path<'_>, faults: &mut Collector<'_>) -> bool {
    faults.add(at, Code::DuplicateValue, "this measurement is already in the list");
    false
}

fn platform_policy(
    platform: Platform,
    policies: &Policies,
    at: &Path<'_>,
    faults: &mut Collector<'_>,
) -> Option<Arc<PlatformPolicy>> {
    let policy = policies.get(&platform).cloned();
    if policy.is_none() {
        let field = platform::field_of(platform);
        faults.add_with(
            at,
            Code::PlatformNotListed,
            format!("`Platforms` does not accept {platform}, so this could never be used"),
            || Some(format!("add `Platforms.{field}`, which may be empty, or remove this")),
        );
    }
    policy
}

pub(crate) fn measurement(
    platform: Platform,
    text: &str,
    at: &Path<'_>,
    faults: &mut Collector<'_>,
) -> Option<Measurement> {
    let lengths = Measurement::lengths_on(platform);
    let bytes = encoding::hex(text).filter(|bytes| lengths.contains(&bytes.len()));
    let message = match bytes.as_deref() {
        None => format!(
            "a measurement on {platform} has {} hexadecimal digits; this is `{}`",
            lengths.iter().map(|length| (2 * length).to_string()).collect::<Vec<_>>().join(" or "),
            shown(text)
        ),
        // What a TEE in debug mode, or none at all, reports.
        Some(bytes) if bytes.iter().all(|byte| *byte == 0) => {
            "a measurement of zeros identifies no code".to_owned()
        }
        Some(bytes) => match Measurement::new(bytes) {
            Ok(measurement) => return Some(measurement),
            Err(error) => error.to_string(),
        },
    };
    faults.hint(at, Code::InvalidMeasurement, message, "`bailey measure` prints it");
    None
}

fn signer_form(wire: &wire::Package, at: &Path<'_>, faults: &mut Collector<'_>) -> Option<Signer> {
    let missing = [
        ("SignerID", wire.signer_id.is_empty()),
        ("ProductID", wire.product_id.is_none()),
        ("SecurityVersion", wire.security_version.is_none()),
    ];
    for (field, _) in missing.iter().filter(|(_, missing)| *missing) {
        let message =
            "a package is identified by SignerID, ProductID and SecurityVersion together; this is missing";
        faults.add(&at.field(field), Code::Missing, message);
    }
    let id = if wire.signer_id.is_empty() {
        None
    } else {
        measurement(Platform::Sgx, &wire.signer_id, &at.field("SignerID"), faults)
    };
    let product = wire.product_id.and_then(|number| isv(number, &at.field("ProductID"), faults));
    let version = wire.security_version.and_then(|number| isv(number, &at.field("SecurityVersion"), faults));
    Some(Signer { id: id?, product: product?, security_version: version? })
}

/// ISVPRODID and ISVSVN have 16 bits: a greater number could never be met.
pub(crate) fn isv(number: u64, at: &Path<'_>, faults: &mut Collector<'_>) -> Option<u16> {
    let fitting = u16::try_from(number).ok();
    if fitting.is_none() {
        faults.add(at, Code::InvalidValue, format!("{number} does not fit into 16 bits"));
    }
    fitting
}

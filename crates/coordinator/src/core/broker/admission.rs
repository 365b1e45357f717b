//! Who a guest is: its Evidence, and that of its devices, against the manifest's packages. A guest is every package whose
//! reference values and platform policy all its pieces meet, and is refused where it is none.

use std::collections::BTreeSet;

use appraisal::{Appraised, ReferenceValues, UnixTime, Verdict, Verifier};
use attested_tls::channel::Expectations;
use evidence::{Endorsements, Evidence, Platform};
use manifest::{Broker, Manifest, Package, PackageName};
use rcar::{InitData, ReportDigest};

use crate::core::{Mesh, Refusal, State, activation};

/// One piece of a guest's Evidence.
pub struct Piece {
    /// The TEE or device by the protocol's name.
    pub tee: rcar::Tee,
    /// The Evidence.
    pub evidence: Evidence,
    /// What its vendor signs about its platform.
    pub endorsements: Endorsements,
    /// What it is to cover.
    pub digest: ReportDigest,
}

/// What the manifest lets a guest be.
pub struct Admitted {
    /// The proof, of the primary piece.
    pub appraised: Appraised,
    /// The proofs of its devices, in the order in which they were given.
    pub devices: Vec<Appraised>,
    /// Which packages it is; never empty.
    pub packages: BTreeSet<PackageName>,
}

impl Admitted {
    /// The verdicts on all pieces, in the order in which they were given, the primary one first.
    pub fn verdicts(&self) -> impl Iterator<Item = &Verdict> {
        std::iter::once(&self.appraised).chain(&self.devices).map(Appraised::verdict)
    }
}

/// Why a guest is not admitted. For operators: a guest is told none of it.
pub struct NotAdmitted {
    /// Stable codes.
    pub codes: Vec<String>,
    /// In words, with what would mend it.
    pub reason: String,
    /// What was found of the pieces, by their labels and packages.
    pub verdicts: Vec<(String, Verdict)>,
}

impl NotAdmitted {
    /// With one code.
    pub fn new(code: &str, reason: impl Into<String>) -> Self {
        Self { codes: vec![code.to_owned()], reason: reason.into(), verdicts: Vec::new() }
    }
}

impl From<Refusal> for NotAdmitted {
    fn from(refusal: Refusal) -> Self {
        Self::new(refusal.code(), refusal.to_string())
    }
}

/// The manifest's packages that guests may be: those that policies name, or all where no policy is.
fn packages<'m>(manifest: &'m Manifest, broker: &Broker) -> Vec<&'m Package> {
    let named: BTreeSet<_> = broker.policies.values().flat_map(|policy| &policy.packages).collect();
    let wanted = |name: &PackageName| named.is_empty() || named.contains(name);
    manifest.packages().iter().filter(|(name, _)| wanted(name)).map(|(_, package)| &**package).collect()
}

/// Appraises a guest. `primary` is what runs the guest, `devices` what it has beside: each must be accepted by every
/// package that the guest is to be.
pub fn admit(
    state: &State,
    verifier: &Verifier,
    primary: &Piece,
    devices: &[Piece],
    init_data: Option<&InitData>,
    now: UnixTime,
) -> Result<Admitted, NotAdmitted> {
    let mesh = state.running()?;
    let broker = mesh.manifest().broker().ok_or_else(|| {
        NotAdmitted::new("BROKER_NOT_CONFIGURED", "the manifest in force has no section `Broker`")
    })?;
    if let Some(expected) = init_data {
        proves(&primary.evidence, expected)?;
    }
    let platform = primary.evidence.platform();
    let packages = packages(mesh.manifest(), broker);
    let here: Vec<_> =
        packages.iter().copied().filter(|package| package.accepted.contains_key(&platform)).collect();
    if here.is_empty() {
        let names: Vec<_> = packages.iter().map(|package| package.name.to_string()).collect();
        let reason = format!(
            "no package that guests may be runs on {platform} ({}): give one of them reference values for it",
            names.join(", ")
        );
        return Err(NotAdmitted::new("PLATFORM_NOT_ACCEPTED", reason));
    }
    let mut admitted: Option<Admitted> = None;
    let mut refused: Vec<(usize, NotAdmitted)> = Vec::new();
    for (package, expectations) in candidates(mesh, &here, &primary.evidence, now)? {
        match be(mesh, verifier, package, expectations, (primary, devices), now) {
            Ok(one) => match &mut admitted {
                None => admitted = Some(one),
                Some(admitted) => admitted.packages.extend(one.packages),
            },
            Err((faults, why)) => refused.push((faults, why)),
        }
    }
    admitted.ok_or_else(|| all(refused))
}

/// The packages whose code this may be, so that Evidence is not appraised once for each package of the mesh; all of them
/// where it is none, so that the refusal says what was expected.
fn candidates<'m>(
    mesh: &Mesh,
    packages: &[&'m Package],
    evidence: &Evidence,
    now: UnixTime,
) -> Result<Vec<(&'m Package, Expectations)>, NotAdmitted> {
    let seen = evidence.measurement();
    let mut expected = Vec::new();
    let mut unstated = None;
    for package in packages {
        match expectations(mesh, package, evidence.platform(), now) {
            Ok(expectations) => expected.push((*package, expectations)),
            // Nobody states now what this package is: a guest may be another all the same.
            Err(refusal @ Refusal::NoReferences { .. }) => unstated = Some(refusal),
            Err(refusal) => return Err(refusal.into()),
        }
    }
    if let Some(refusal) = unstated.filter(|_| expected.is_empty()) {
        return Err(refusal.into());
    }
    let may_be = |(_, expectations): &(&Package, Expectations)| {
        let mut values = expectations.measurements.iter();
        values.any(|value| value.measurement.is_none() || value.measurement == seen)
    };
    if expected.iter().any(may_be) {
        expected.retain(may_be);
    }
    Ok(expected)
}

fn expectations(
    mesh: &Mesh,
    package: &Package,
    platform: Platform,
    now: UnixTime,
) -> Result<Expectations, Refusal> {
    let label = format!("Guest of package {}, epoch {}", package.name, mesh.epoch());
    activation::accepted_as(mesh.known_references(now), package, label, platform, package.name.as_str())
}

/// Of several refusals all verdicts, and the words of the one that came closest.
fn all(refused: Vec<(usize, NotAdmitted)>) -> NotAdmitted {
    let (mut codes, mut verdicts) = (Vec::new(), Vec::new());
    let mut closest: Option<(usize, String)> = None;
    for (faults, why) in refused {
        codes.extend(why.codes);
        verdicts.extend(why.verdicts);
        if closest.as_ref().is_none_or(|(least, _)| faults < *least) {
            closest = Some((faults, why.reason));
        }
    }
    let mut seen = BTreeSet::new();
    codes.retain(|code: &String| seen.insert(code.clone()));
    NotAdmitted { codes, reason: closest.map(|(_, reason)| reason).unwrap_or_default(), verdicts }
}

/// Whether all pieces meet a package; if not, with how many faults.
fn be(
    mesh: &Mesh,
    verifier: &Verifier,
    package: &Package,
    expected: Expectations,
    (primary, devices): (&Piece, &[Piece]),
    now: UnixTime,
) -> Result<Admitted, (usize, NotAdmitted)> {
    let appraised = meets(verifier, package, primary, expected, now)?;
    activation::infrastructure_of(mesh.manifest(), package.name.as_str(), &appraised)
        .map_err(|refusal| on(package, primary, &appraised, refusal))?;
    let devices = devices.iter().map(|device| {
        let expected = expectations(mesh, package, device.evidence.platform(), now);
        meets(verifier, package, device, expected.map_err(|refusal| (1, refusal.into()))?, now)
    });
    let devices = devices.collect::<Result<_, _>>()?;
    Ok(Admitted { appraised, devices, packages: [package.name.clone()].into() })
}

fn meets(
    verifier: &Verifier,
    package: &Package,
    piece: &Piece,
    expected: Expectations,
    now: UnixTime,
) -> Result<Appraised, (usize, NotAdmitted)> {
    let reference = ReferenceValues {
        report_data: piece.digest.expected(&piece.evidence),
        measurements: expected.measurements,
    };
    let appraised =
        verifier.appraise(&piece.evidence, &piece.endorsements, &reference, &expected.policy, now);
    let appraised = appraised.map_err(|refused| {
        let codes: Vec<_> = refused.codes().iter().map(ToString::to_string).collect();
        let reason = format!("{} as package {}: {refused}", piece.tee, package.name);
        let verdicts = vec![(format!("{}/{}", piece.tee, package.name), refused.verdict().clone())];
        (codes.len(), NotAdmitted { codes, reason, verdicts })
    })?;
    activation::advisories_of(package, package.name.as_str(), &appraised)
        .map_err(|refusal| on(package, piece, &appraised, refusal))?;
    Ok(appraised)
}

/// Refused, although the Evidence was accepted.
fn on(package: &Package, piece: &Piece, appraised: &Appraised, refusal: Refusal) -> (usize, NotAdmitted) {
    let verdict = (format!("{}/{}", piece.tee, package.name), appraised.verdict().clone());
    (1, NotAdmitted { verdicts: vec![verdict], ..refusal.into() })
}

/// Whether the Evidence was made by what was started with this init-data: MRCONFIGID, HOST_DATA, CONFIGID or a realm's
/// personalisation value is its digest, cut or filled with zeros to the field's length; or PCR 8 was extended by it.
fn proves(evidence: &Evidence, init_data: &InitData) -> Result<(), NotAdmitted> {
    let platform = evidence.platform();
    let (field, expected, seen) = match init_data.launch_configuration(platform) {
        Some(expected) => {
            let seen = hex::encode(evidence.launch_configuration());
            ("the launch configuration", hex::encode(expected), seen)
        }
        None => {
            let seen = evidence.measured().remove("pcr8.sha256").unwrap_or_default();
            ("PCR 8", hex::encode(init_data.register()), seen)
        }
    };
    if expected == seen {
        return Ok(());
    }
    let seen = if seen.is_empty() { "absent" } else { &seen };
    let reason = format!(
        "{field} of the {platform} Evidence is {seen}, and the init-data that came with it would make it {expected}: \
         start the guest with this init-data, or send what it was started with"
    );
    Err(NotAdmitted::new("INIT_DATA_MISMATCH", reason))
}

/// That sample Evidence is good for something here. [`sample`] is its only origin.
pub struct SampleAllowed(());

/// Whether CoCo's sample attester is a guest here, and of which packages: where the manifest says so, the coordinator
/// itself is emulated, and the manifest names roots of emulated platforms. It is then every package of the policies that
/// take emulated platforms, for it proves none.
pub fn sample(state: &State) -> Result<(SampleAllowed, BTreeSet<PackageName>), NotAdmitted> {
    let mesh = state.running()?;
    let manifest = mesh.manifest();
    let no = |why: &str| {
        Err(NotAdmitted::new(
            "SAMPLE_NOT_ACCEPTED",
            format!("sample Evidence proves nothing, and is taken only in tests: {why}"),
        ))
    };
    let Some(broker) = manifest.broker() else {
        return Err(NotAdmitted::new(
            "BROKER_NOT_CONFIGURED",
            "the manifest in force has no section `Broker`",
        ));
    };
    if !broker.sample {
        return no("the manifest in force does not say `Broker.Sample`");
    }
    if !state.emulated() {
        return no("this coordinator runs on real hardware");
    }
    if manifest.platforms().values().all(|platform| platform.emulated_roots.is_empty()) {
        return no("the manifest in force names no root of an emulated platform");
    }
    let policies = broker.policies.values().filter(|policy| policy.emulated);
    Ok((SampleAllowed(()), policies.flat_map(|policy| policy.packages.iter().cloned()).collect()))
}

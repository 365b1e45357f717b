//! Admitting Keeps as Marbles: what their Evidence must meet, and what they get.

use appraisal::{
    Appraised, EmulatedRoot, Policy, ReferenceValue, SnpMinimum, TcbStatus, TrustAnchor, UnixTime,
};
use attested_tls::{
    channel::{AttestedPeer, Expectations},
    claims::{Claims, KeepClaims},
    marble::MarbleIdentity,
};
use evidence::{LaunchConfiguration, Platform};
use manifest::{
    AcceptedCode, Access, Infrastructure, Log, Manifest, Marble, Package, PlatformPolicy, ReferenceTuple,
    Signer, Workload,
};
use rustls::pki_types::CertificateDer;
use serde_bytes::ByteArray;
use zeroize::Zeroizing;

use super::{
    Claimed, Event, Mesh, Refusal, State,
    event::{self, Issued, Seat},
    instances::Delivered,
    machine,
    references::Known,
    render,
    stored::Stored,
    workloads::{self, Packaged, Release},
};

/// What an admitted Keep is given. Its existence says that the Evidence of the peer was appraised.
pub struct Activation {
    /// Which Marble it is.
    pub marble: String,
    /// Its certificate.
    pub certified: Certified,
    /// Files, environment, arguments, filled in.
    pub parameters: mesh_api::Parameters,
    /// What its Keep runs, and on which terms; nothing of a database.
    pub workload: Option<WorkloadTerms>,
    admission: Admission,
}

/// What a Keep runs, and on which terms.
pub struct WorkloadTerms {
    /// SHA-256 of the workload.
    pub digest: [u8; 32],
    /// What it may use.
    pub limits: mesh_api::Limits,
    /// Who may connect to it.
    pub access: mesh_api::Access,
    /// To whom it may connect.
    pub destinations: Vec<String>,
    /// Whether its output may be shown to the host.
    pub log_to_host: bool,
    /// Text of a Keep.toml; empty where the manifest has none.
    pub config: String,
}

/// The part of an activation that must not race: whether on the newest state the Marble may still be activated.
pub(super) struct Admission {
    marble: String,
    pub(super) instance: [u8; 32],
    epoch: u64,
    seat: Seat,
    delivered: Delivered,
    certificates: Vec<Issued>,
    /// The signed package that it runs, if it runs one.
    release: Option<Release>,
    package: Option<Packaged>,
    /// What the parameters were filled in from: the current version of each secret, and how often anyone was evicted.
    from: (Vec<(String, u64)>, u64),
}

/// A certificate with its chain.
pub struct Certified {
    /// Leaf and intermediate.
    pub chain: Vec<CertificateDer<'static>>,
    /// The root.
    pub root: CertificateDer<'static>,
    /// When the leaf ends.
    pub not_after: UnixTime,
    issued: Issued,
}

/// Policy and reference values for a Keep that offers Evidence of `platform` with these (unverified) claims.
pub fn expectations(
    state: &State,
    platform: Platform,
    claims: &[u8],
    now: UnixTime,
) -> Result<Expectations, Refusal> {
    let claims = Claimed::read(claims)?;
    let mesh = state.running()?;
    let marble = marble(mesh.manifest(), claims.marble())?;
    accepted(mesh.known_references(now), mesh.epoch(), marble, platform)
}

/// Policy and reference values for a Marble of this epoch on `platform`.
pub(super) fn accepted(
    known: Known<'_>,
    epoch: u64,
    marble: &Marble,
    platform: Platform,
) -> Result<Expectations, Refusal> {
    let label = format!("Marble {}, epoch {epoch}", marble.name);
    accepted_as(known, &marble.package, label, platform, marble.name.as_str())
}

/// Policy and reference values for a package on `platform`, under this label; `whose` says in a refusal who it is.
pub(super) fn accepted_as(
    known: Known<'_>,
    package: &Package,
    label: String,
    platform: Platform,
    whose: &str,
) -> Result<Expectations, Refusal> {
    let mut policy = Policy::production();
    policy.name = label;
    let Some(accepted) = package.accepted.get(&platform) else {
        let accepted = package.accepted.keys().map(ToString::to_string).collect();
        return Err(Refusal::Platform { marble: whose.to_owned(), platform, accepted });
    };
    apply(&mut policy, &accepted.policy)?;
    let label = format!("package {} of the manifest", package.name);
    let measurements = match &accepted.code {
        AcceptedCode::Measurements(measurements) => measurements
            .iter()
            .map(|measurement| ReferenceValue::program(label.clone(), platform, measurement.clone()))
            .collect(),
        AcceptedCode::Signer(signer) => vec![signed(label, platform, signer)],
        AcceptedCode::Values(tuples) => {
            tuples.iter().map(|it| tuple(&label, it)).collect::<Result<_, Refusal>>()?
        }
        AcceptedCode::References(stated) => known.values(&package.name, stated, platform)?,
    };
    Ok(Expectations { policy, measurements })
}

fn tuple(label: &str, tuple: &ReferenceTuple) -> Result<ReferenceValue, Refusal> {
    let launched = tuple.launch_configuration.as_deref().map(LaunchConfiguration::new).transpose();
    Ok(ReferenceValue {
        label: label.to_owned(),
        platform: tuple.platform,
        measurement: tuple.measurement.clone(),
        launch_configuration: launched.map_err(|error| Refusal::Internal(error.to_string()))?,
        registers: tuple.registers.clone(),
        minimum: tuple.minimum.clone(),
    })
}

fn signed(label: String, platform: Platform, signer: &Signer) -> ReferenceValue {
    ReferenceValue {
        label,
        platform,
        measurement: None,
        launch_configuration: None,
        registers: [
            ("mrsigner".to_owned(), signer.id.to_string()),
            ("isv_prod_id".to_owned(), signer.product.to_string()),
        ]
        .into(),
        minimum: [("isv_svn".to_owned(), u64::from(signer.security_version))].into(),
    }
}

/// The manifest's words about a platform in those of the appraisal policy. Advisories are not among them:
/// [`advisories`] compares them with the verdict.
pub(super) fn apply(policy: &mut Policy, wanted: &PlatformPolicy) -> Result<(), Refusal> {
    let internal = |error: &dyn std::fmt::Display| Refusal::Internal(error.to_string());
    emulated_roots(policy, wanted)?;
    for family in &wanted.denied_families {
        policy.denied_families.insert(family.as_str().parse().map_err(|error| internal(&error))?);
    }
    policy.accepted_tcb = wanted.accepted_tcb_statuses.iter().copied().map(status).collect();
    let minimum = wanted.minimum_tcb;
    policy.minimum.snp.push(SnpMinimum {
        family: None,
        fmc: minimum.fmc.unwrap_or(0),
        bootloader: minimum.bootloader.unwrap_or(0),
        tee: minimum.tee.unwrap_or(0),
        snp: minimum.snp.unwrap_or(0),
        microcode: minimum.microcode.unwrap_or(0),
    });
    policy.minimum.tcb_evaluation_data_number = wanted.minimum_tcb_evaluation_number;
    for anchor in &wanted.trust_anchors {
        let anchors = TrustAnchor::from_file_bytes("named in the manifest", anchor.as_bytes());
        policy.trust_anchors.extend(anchors.map_err(|error| internal(&error))?);
    }
    if let Some(registers) = &wanted.registers {
        policy.tpm.registers = registers.clone();
    }
    policy.azure.paravisors.extend(wanted.paravisors.iter().cloned());
    Ok(())
}

fn emulated_roots(policy: &mut Policy, wanted: &PlatformPolicy) -> Result<(), Refusal> {
    for root in &wanted.emulated_roots {
        let root = EmulatedRoot::new("named in the manifest", &root.0);
        policy.emulated_roots.push(root.map_err(|error| Refusal::Internal(error.to_string()))?);
    }
    Ok(())
}

/// The manifest's emulated roots of a platform, for a policy of another origin.
pub fn add_emulated_roots(
    manifest: &Manifest,
    platform: Platform,
    policy: &mut Policy,
) -> Result<(), Refusal> {
    match manifest.platforms().get(&platform) {
        Some(wanted) => emulated_roots(policy, wanted),
        None => Ok(()),
    }
}

fn status(word: manifest::TcbStatus) -> TcbStatus {
    match word {
        manifest::TcbStatus::UpToDate => TcbStatus::UpToDate,
        manifest::TcbStatus::SwHardeningNeeded => TcbStatus::SWHardeningNeeded,
        manifest::TcbStatus::ConfigurationNeeded => TcbStatus::ConfigurationNeeded,
        manifest::TcbStatus::ConfigurationAndSwHardeningNeeded => {
            TcbStatus::ConfigurationAndSWHardeningNeeded
        }
        manifest::TcbStatus::OutOfDate => TcbStatus::OutOfDate,
        manifest::TcbStatus::OutOfDateConfigurationNeeded => TcbStatus::OutOfDateConfigurationNeeded,
    }
}

/// Advisories that are open on the peer's platform must be among those that the manifest accepts, where it
/// names any. As in MarbleRun, that is asked on `SWHardeningNeeded` only: other statuses are not accepted, or
/// accepted as they are.
pub(super) fn advisories(marble: &Marble, appraised: &Appraised) -> Result<(), Refusal> {
    advisories_of(&marble.package, marble.name.as_str(), appraised)
}

/// As [`advisories`], for a package.
pub(super) fn advisories_of(package: &Package, whose: &str, appraised: &Appraised) -> Result<(), Refusal> {
    let accepted = package.accepted.get(&appraised.platform());
    let Some(accepted) = accepted.and_then(|accepted| accepted.policy.accepted_advisories.as_ref()) else {
        return Ok(());
    };
    let tcb = appraised.verdict().tcb();
    let open = |advisory: &&String| !accepted.contains(&advisory.to_ascii_uppercase());
    let unaccepted: Vec<_> = tcb.advisories.iter().filter(open).cloned().collect();
    if tcb.status == Some(TcbStatus::SWHardeningNeeded) && !unaccepted.is_empty() {
        return Err(Refusal::Advisories { marble: whose.to_owned(), unaccepted });
    }
    Ok(())
}

/// Infrastructures are enforced: any of those that the manifest names must be met. They speak of SGX and TDX, so where
/// there are some, nothing runs elsewhere.
pub(super) fn infrastructure(
    manifest: &Manifest,
    marble: &Marble,
    appraised: &Appraised,
) -> Result<(), Refusal> {
    infrastructure_of(manifest, marble.name.as_str(), appraised)
}

/// As [`infrastructure`], for whoever it is.
pub(super) fn infrastructure_of(
    manifest: &Manifest,
    whose: &str,
    appraised: &Appraised,
) -> Result<(), Refusal> {
    let infrastructures = &manifest.settings().infrastructures;
    if infrastructures.is_empty() {
        return Ok(());
    }
    let claims = appraised.verdict().claims();
    let seen = claims.sgx.as_ref().map(|sgx| &sgx.platform);
    let seen = seen.or_else(|| claims.tdx.as_ref().map(|tdx| &tdx.platform));
    let meets = |wanted: &Infrastructure| {
        seen.is_some_and(|seen| {
            seen.pce_svn >= wanted.pce_svn
                && seen.qe_svn >= wanted.qe_svn
                && wanted.cpu_svn.is_none_or(|least| {
                    seen.cpu_svn.iter().zip(least).all(|(component, least)| *component >= least)
                })
                && wanted
                    .root_ca
                    .as_ref()
                    .is_none_or(|root| !appraised.emulated() && root == appraisal::INTEL_ROOT_CA)
        })
    };
    if infrastructures.values().any(meets) {
        return Ok(());
    }
    Err(Refusal::Infrastructure {
        marble: whose.to_owned(),
        accepted: infrastructures.keys().cloned().collect(),
    })
}

/// Whether a peer could be admitted now, before anything is fetched for it.
pub(super) fn could_activate<'s>(
    state: &'s State,
    peer: &AttestedPeer,
    appraised_in: u64,
) -> Result<(&'s Mesh, &'s Marble), Refusal> {
    let (mesh, marble, ..) = admissible(state, peer, appraised_in)?;
    exhausted(mesh, marble)?;
    Ok((mesh, marble))
}

/// Admits an attested peer as an instance of the Marble that its claims name.
pub fn activate(
    state: &State,
    peer: &AttestedPeer,
    appraised_in: u64,
    stored: &Stored,
    now: UnixTime,
) -> Result<Activation, Refusal> {
    let (mesh, marble, runs) = admissible(state, peer, appraised_in)?;
    let seat = seat(&peer.appraised, false);
    let certified = certify(state, mesh, marble, peer, now)?;
    let own = render::Own {
        instance: &peer.key.0,
        seat: &seat,
        certificate: &certified.chain[0],
        public_key: &peer.public_key,
        private_key: None,
    };
    let rendered = render::render(state, mesh, marble, &own, stored, now)?;
    let own = (marble.name.as_str(), peer.key.0);
    let admission = Admission::new(mesh, own, seat.clone(), certified.issued, &rendered);
    let parameters = parameters(marble, rendered)?;
    let (admission, workload) = match runs {
        Runs::Database => (admission, None),
        Runs::Workload(workload, claims) => {
            let packaged = workloads::packaged(workload, &claims);
            let admission = admission.running(workloads::release(workload, &claims), packaged);
            let digest = claims.workload.map(ByteArray::into_array).unwrap_or_default();
            (admission, Some(terms(mesh, workload, digest)))
        }
    };
    Ok(Activation { marble: marble.name.to_string(), parameters, workload, certified, admission })
}

fn terms(mesh: &Mesh, workload: &Workload, digest: [u8; 32]) -> WorkloadTerms {
    let limits = workload.limits;
    WorkloadTerms {
        digest,
        limits: mesh_api::Limits {
            memory_bytes: limits.memory,
            cpu_per_request_ms: u64::try_from(limits.cpu_per_request.as_millis()).unwrap_or(u64::MAX),
            concurrent_requests: u64::from(limits.concurrent_requests),
            body_bytes: limits.body_size,
        },
        access: access(workload),
        destinations: destinations(mesh.manifest()),
        log_to_host: workload.log == Log::Host,
        config: workload.config.as_ref().map(|config| config.text.clone()).unwrap_or_default(),
    }
}

impl Activation {
    /// The event, if on the newest state the Marble may still be activated.
    pub fn admit(&self, state: &State, now: UnixTime) -> Result<Event, Refusal> {
        self.admission.admit(state, now)
    }
}

impl Admission {
    pub(super) fn new(
        mesh: &Mesh,
        (marble, instance): (&str, [u8; 32]),
        seat: Seat,
        own: Issued,
        rendered: &render::Parameters<'_>,
    ) -> Self {
        let delivered = rendered.delivered.clone();
        let current = |name: &String| mesh.kept(name).map(|kept| (name.clone(), kept.current.number));
        Self {
            marble: marble.to_owned(),
            instance,
            epoch: mesh.epoch(),
            seat,
            certificates: [&[own], rendered.issued.as_slice()].concat(),
            from: (delivered.keys().filter_map(current).collect(), mesh.revocations().changes()),
            delivered,
            release: None,
            package: None,
        }
    }

    /// Of a Keep that runs this package, signed or not.
    fn running(self, release: Option<Release>, package: Option<Packaged>) -> Self {
        Self { release, package, ..self }
    }

    pub(super) fn admit(&self, state: &State, now: UnixTime) -> Result<Event, Refusal> {
        let mesh = state.running()?;
        current(mesh, self.epoch)?;
        let marble = marble(mesh.manifest(), &self.marble)?;
        mesh.revocations().admit(&self.instance, &self.seat)?;
        exhausted(mesh, marble)?;
        if let Some((workload, release)) = marble.workload.as_ref().zip(self.release.as_ref()) {
            mesh.releases().admit(&self.marble, workload, release)?;
        }
        let (versions, evictions) = &self.from;
        let same = |(name, version): &(String, u64)| {
            mesh.kept(name).is_some_and(|kept| kept.current.number == *version)
        };
        if !versions.iter().all(same) || *evictions != mesh.revocations().changes() {
            return Err(Refusal::Overtaken { what: format!("a secret of Marble {:?}", self.marble) });
        }
        Ok(Event::Activated {
            marble: self.marble.clone(),
            instance: ByteArray::new(self.instance),
            epoch: self.epoch,
            seat: self.seat.clone(),
            delivered: self.delivered.clone(),
            certificates: self.certificates.clone(),
            release: self.release.clone(),
            package: self.package.clone(),
            at: event::seconds(now),
        })
    }
}

/// Whether this peer was not evicted.
pub fn may_stay(mesh: &Mesh, peer: &AttestedPeer) -> Result<(), Refusal> {
    mesh.revocations().admit(&peer.key.0, &seat(&peer.appraised, false))
}

/// Where a peer runs, as its Evidence proves.
pub(super) fn seat(appraised: &Appraised, native: bool) -> Seat {
    Seat {
        platform: appraised.platform(),
        machine: machine::of(appraised),
        emulated: appraised.emulated(),
        native,
    }
}

/// A new certificate for a key that was activated in this epoch.
pub fn renew(
    state: &State,
    peer: &AttestedPeer,
    appraised_in: u64,
    now: UnixTime,
) -> Result<(Event, Certified), Refusal> {
    let (mesh, marble, ..) = admissible(state, peer, appraised_in)?;
    if !mesh.is_instance(&peer.key.0, marble.name.as_str(), now) {
        return Err(Refusal::NotActivated { marble: marble.name.to_string() });
    }
    let certified = certify(state, mesh, marble, peer, now)?;
    let event = Event::Renewed {
        instance: ByteArray::new(peer.key.0),
        certificate: certified.issued,
        at: event::seconds(now),
    };
    Ok((event, certified))
}

/// What an admissible peer runs.
pub(super) enum Runs<'m> {
    /// A Keep: this workload, and what it claims of it.
    Workload(&'m Workload, Box<KeepClaims>),
    /// The database that the manifest says.
    Database,
}

/// What holds for activation and renewal alike: this epoch's appraisal, a Marble of this manifest, an instance that was
/// not evicted, and the workload, or the database, that the manifest names.
pub(super) fn admissible<'s>(
    state: &'s State,
    peer: &AttestedPeer,
    appraised_in: u64,
) -> Result<(&'s Mesh, &'s Marble, Runs<'s>), Refusal> {
    let mesh = state.running()?;
    current(mesh, appraised_in)?;
    let claims = Claimed::read(&peer.claims)?;
    may_stay(mesh, peer)?;
    let (marble, runs) = runs(mesh.manifest(), claims, &peer.appraised)?;
    Ok((mesh, marble, runs))
}

/// A peer's Marble and what it runs, if the manifest lets one with this Evidence and these claims be it.
pub(super) fn runs<'m>(
    manifest: &'m Manifest,
    claims: Claimed,
    appraised: &Appraised,
) -> Result<(&'m Marble, Runs<'m>), Refusal> {
    match claims {
        Claimed::Keep(claims) => {
            let (marble, workload) = meets(manifest, &claims, appraised)?;
            workloads::allowed(marble.name.as_str(), workload, &claims)?;
            Ok((marble, Runs::Workload(workload, Box::new(claims))))
        }
        Claimed::Database(claims) => {
            let marble = marble(manifest, &claims.marble)?;
            advisories(marble, appraised)?;
            infrastructure(manifest, marble, appraised)?;
            match marble.database {
                Some(database) if database.first == claims.first.into_array() => Ok((marble, Runs::Database)),
                expected => Err(Refusal::Database {
                    marble: claims.marble.clone(),
                    expected: expected.map(|database| database.first),
                    seen: claims.first.into_array(),
                }),
            }
        }
    }
}

/// The Marble that a Keep is to be, before it has a workload: what holds for admission holds here too, but for that.
pub(super) fn unloaded<'s>(
    state: &'s State,
    peer: &AttestedPeer,
    appraised_in: u64,
) -> Result<(&'s Mesh, &'s Marble, &'s Workload), Refusal> {
    let mesh = state.running()?;
    current(mesh, appraised_in)?;
    let claims = KeepClaims::from_bytes(&peer.claims)?;
    may_stay(mesh, peer)?;
    let (marble, workload) = meets(mesh.manifest(), &claims, &peer.appraised)?;
    exhausted(mesh, marble)?;
    Ok((mesh, marble, workload))
}

/// A Keep's Marble, if the manifest lets one with this Evidence be it. Which workload it may run is another question.
pub(super) fn meets<'m>(
    manifest: &'m Manifest,
    claims: &KeepClaims,
    appraised: &Appraised,
) -> Result<(&'m Marble, &'m Workload), Refusal> {
    let marble = marble(manifest, &claims.marble)?;
    advisories(marble, appraised)?;
    infrastructure(manifest, marble, appraised)?;
    match &marble.workload {
        Some(workload) => Ok((marble, workload)),
        None => Err(Refusal::Parameters {
            marble: claims.marble.clone(),
            reason: "the manifest names no workload for it, so no Keep may be it".into(),
        }),
    }
}

pub(super) fn marble<'m>(manifest: &'m Manifest, name: &str) -> Result<&'m Marble, Refusal> {
    manifest.marble(name).ok_or_else(|| Refusal::UnknownMarble { marble: name.to_owned() })
}

fn current(mesh: &Mesh, appraised: u64) -> Result<(), Refusal> {
    if appraised == mesh.epoch() {
        Ok(())
    } else {
        Err(Refusal::StaleAppraisal { appraised, current: mesh.epoch() })
    }
}

pub(super) fn exhausted(mesh: &Mesh, marble: &Marble) -> Result<(), Refusal> {
    match marble.max_activations {
        Some(limit) if mesh.activations(marble.name.as_str()) >= limit.get() => {
            Err(Refusal::ActivationsExhausted { marble: marble.name.to_string(), limit: limit.get() })
        }
        _ => Ok(()),
    }
}

fn certify(
    state: &State,
    mesh: &Mesh,
    marble: &Marble,
    peer: &AttestedPeer,
    now: UnixTime,
) -> Result<Certified, Refusal> {
    let identity = MarbleIdentity {
        marble: marble.name.to_string(),
        epoch: mesh.epoch(),
        manifest: mesh.manifest_digest(),
        emulated: state.emulated() || peer.appraised.emulated(),
        rollout: mesh.rollout(now).cloned(),
    };
    let names: Vec<_> = marble.names.iter().map(ToString::to_string).collect();
    let domain = state.trust_domain();
    let leaf = mesh.intermediate().certify_marble(&peer.public_key, &identity, &domain, &names, now)?;
    Ok(Certified {
        chain: vec![leaf.certificate, mesh.intermediate().certificate().clone()],
        root: state.root().certificate().clone(),
        not_after: leaf.not_after,
        issued: leaf.issued,
    })
}

fn access(workload: &Workload) -> mesh_api::Access {
    match &workload.access {
        Access::Public => mesh_api::Access { public: true, peers: Vec::new() },
        Access::Peers(peers) => {
            mesh_api::Access { public: false, peers: peers.iter().map(ToString::to_string).collect() }
        }
    }
}

/// The Marbles that Marbles may be let in by. Whether this one is, the other side decides: one decision, in
/// one place, where it cannot be gone around.
fn destinations(manifest: &Manifest) -> Vec<String> {
    let lets_in = |other: &&Marble| matches!(other.workload.as_ref().map(|workload| &workload.access), Some(Access::Peers(peers)) if !peers.is_empty());
    manifest.marbles().values().filter(lets_in).map(|other| other.name.to_string()).collect()
}

fn parameters(marble: &Marble, parameters: render::Parameters<'_>) -> Result<mesh_api::Parameters, Refusal> {
    let rendered = parameters.rendered;
    let text = |(name, value): (String, Zeroizing<Vec<u8>>)| match String::from_utf8(value.to_vec()) {
        Ok(value) => Ok((name, value)),
        Err(_) => Err(Refusal::Parameters {
            marble: marble.name.to_string(),
            reason: format!("environment variable {name} would not be UTF-8"),
        }),
    };
    Ok(mesh_api::Parameters {
        files: rendered.files.into_iter().map(|(path, content)| (path, content.to_vec())).collect(),
        env: rendered.env.into_iter().map(text).collect::<Result<_, _>>()?,
        argv: rendered.argv,
    })
}

/// The Marble and instance that a caller is, by a certificate of this epoch that this coordinator issued.
pub(super) fn instance_of(
    mesh: &Mesh,
    caller: &super::Caller,
    now: UnixTime,
) -> Result<(String, [u8; 32]), Refusal> {
    let certificate = caller.certificate()?;
    let identity = mesh.intermediate().marble_of(certificate, now).ok_or(Refusal::NotAMarble)?;
    if identity.epoch != mesh.epoch() || identity.manifest != mesh.manifest_digest() {
        return Err(Refusal::NotAMarble);
    }
    let instance = render::instance_of_certificate(mesh, certificate)?;
    Ok((identity.marble, instance))
}

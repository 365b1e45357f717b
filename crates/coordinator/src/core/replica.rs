//! Other coordinators of the mesh: who may be given what opens its state. Only one that is what this one is itself: the
//! same measured code, launched with the same configuration (so with the same owner), on a genuine platform.

use appraisal::{EmulatedRoot, Policy, ReferenceValue, UnixTime, Verifier};
use attested_tls::channel::{AttestedPeer, Expectations};
use evidence::{CertificateDer, Endorsements, Evidence, LaunchConfiguration, Platform};
use serde_bytes::ByteArray;

use super::{Event, Refusal, State, activation, event};

/// Measured, and yet not the same on two machines that run the same: versions of the platform's own firmware, which the
/// policy judges, and numbers of single guests.
const OF_THE_MACHINE: [&str; 3] = ["mrseam", "mrservicetd_now", "report_id"];
/// Compared as launch configuration.
const LAUNCH_CONFIGURATION: [&str; 3] = ["mrconfigid", "host_data", "config_id"];

/// What this coordinator is, by its own Evidence.
pub struct Own {
    reference: ReferenceValue,
    /// The root that its own Evidence is under, where its platform is emulated.
    emulated: Option<EmulatedRoot>,
}

impl Own {
    /// By Evidence that its own TEE just gave.
    pub fn of(
        evidence: &Evidence,
        endorsements: &Endorsements,
        emulated: bool,
        verifier: &Verifier,
        now: UnixTime,
    ) -> Result<Self, Refusal> {
        let unknown =
            |what: &str| Refusal::Internal(format!("this coordinator's own Evidence has no {what}"));
        let measurement = evidence.measurement().ok_or_else(|| unknown("measurement"))?;
        let configuration = LaunchConfiguration::new(evidence.launch_configuration())
            .map_err(|_| unknown("launch configuration"))?;
        let mut reference =
            ReferenceValue::program("this coordinator itself", evidence.platform(), measurement)
                .launched_with(configuration);
        reference.registers = evidence.measured();
        let elsewhere = |name: &str| OF_THE_MACHINE.contains(&name) || LAUNCH_CONFIGURATION.contains(&name);
        reference.registers.retain(|name, _| !elsewhere(name));
        let under = |root: &EmulatedRoot| {
            let policy = Policy::production().trust_emulated([root.clone()]);
            verifier.assess(evidence, endorsements, None, None, &policy, now).verdict().is_accepted()
        };
        let emulated = emulated.then(|| roots(endorsements).into_iter().find(under)).flatten();
        Ok(Self { reference, emulated })
    }
}

/// Policy and reference values for another coordinator on `platform`: production's, and the manifest's where one is in
/// force. Emulated roots that a manifest names are for its Marbles; here none counts but our own.
pub fn expectations(state: Option<&State>, own: &Own, platform: Platform) -> Result<Expectations, Refusal> {
    let mut policy = Policy::production();
    "a coordinator's replicas".clone_into(&mut policy.name);
    let manifest = state.and_then(State::mesh).map(super::Mesh::manifest);
    if let Some(wanted) = manifest.and_then(|manifest| manifest.platforms().get(&platform)) {
        activation::apply(&mut policy, wanted)?;
    }
    policy.emulated_roots = own.emulated.iter().cloned().collect();
    Ok(Expectations { policy, measurements: vec![own.reference.clone()] })
}

/// Another coordinator is about to be given what opens the state.
pub fn joined(peer: &AttestedPeer, now: UnixTime) -> Event {
    let machine = peer.appraised.verdict().platform_identity();
    Event::ReplicaJoined {
        replica: ByteArray::new(peer.key.0),
        platform: peer.appraised.platform().to_string(),
        machine: machine.map(ToString::to_string),
        at: event::seconds(now),
    }
}

/// Certificates that are roots, of those that came with Evidence.
fn roots(endorsements: &Endorsements) -> Vec<EmulatedRoot> {
    let intel = endorsements.intel.iter().flat_map(|intel| {
        let chains = [&intel.pck_chain, &intel.pck_crl_issuer_chain, &intel.tcb_info.issuer_chain];
        chains.into_iter().flatten()
    });
    let amd = endorsements.amd.iter().flat_map(|amd| &amd.issuer_chain);
    let root = |CertificateDer(der): &CertificateDer| {
        EmulatedRoot::new("of this coordinator's own platform", der).ok()
    };
    intel.chain(amd).filter_map(root).collect()
}

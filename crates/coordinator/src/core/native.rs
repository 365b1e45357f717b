//! Native programs that join as MarbleRun's Marbles do: one request with a quote over the client's certificate, one
//! answer with files, environment and arguments (reference: MarbleRun's Marble API).

use std::collections::BTreeMap;

use appraisal::{Appraised, UnixTime};
use attested_tls::{channel::Expectations, marble::MarbleIdentity};
use evidence::Platform;
use manifest::{Manifest, Marble, template::PemLabel};
use serde_bytes::ByteArray;
use serde_json::json;
use zeroize::Zeroizing;

use super::{
    Event, Mesh, Refusal, State, activation, event::Seat, machine, references::Known, render, stored::Stored,
};

/// A native program that was appraised.
pub struct NativePeer<'a> {
    /// The proof.
    pub appraised: &'a Appraised,
    /// The Marble that it is to be.
    pub marble: &'a str,
    /// What its host calls the instance, among programs of the same Marble on the same machine: those that the host
    /// calls the same get the same secrets. Elsewhere the name means something else.
    pub uuid: &'a str,
}

/// What an admitted native program is given.
pub struct NativeActivation {
    /// Files by path.
    pub files: BTreeMap<String, Vec<u8>>,
    /// Environment variables, the mesh's own among them.
    pub env: BTreeMap<String, Vec<u8>>,
    /// All arguments.
    pub argv: Vec<String>,
    admission: activation::Admission,
}

/// Policy and reference values for a program on `platform` that says to be this Marble.
pub fn native_expectations(
    state: &State,
    platform: Platform,
    marble: &str,
    now: UnixTime,
) -> Result<Expectations, Refusal> {
    let mesh = state.running()?;
    accepted(mesh.known_references(now), mesh.epoch(), platform, marble)
}

pub(super) fn accepted(
    known: Known<'_>,
    epoch: u64,
    platform: Platform,
    marble: &str,
) -> Result<Expectations, Refusal> {
    let marble = activation::marble(known.manifest, marble)?;
    let kind = if marble.workload.is_some() { Some("a Keep runs it") } else { None };
    if let Some(kind) = kind.or(marble.database.map(|_| "it is a database")) {
        return Err(Refusal::Parameters {
            marble: marble.name.to_string(),
            reason: format!("{kind}: it cannot join by MarbleRun's protocol"),
        });
    }
    activation::accepted(known, epoch, marble, platform)
}

/// A native program's Marble, if the manifest lets one with this Evidence be it.
pub(super) fn meets<'m>(
    manifest: &'m Manifest,
    marble: &str,
    appraised: &Appraised,
) -> Result<&'m Marble, Refusal> {
    let marble = activation::marble(manifest, marble)?;
    activation::advisories(marble, appraised)?;
    activation::infrastructure(manifest, marble, appraised)?;
    Ok(marble)
}

/// Whether a program could be admitted now, before anything is fetched for it.
pub(super) fn could_activate<'s>(
    state: &'s State,
    peer: &NativePeer<'_>,
) -> Result<(&'s Mesh, &'s Marble), Refusal> {
    let (mesh, marble) = admissible(state, peer)?;
    activation::exhausted(mesh, marble)?;
    Ok((mesh, marble))
}

fn admissible<'s>(state: &'s State, peer: &NativePeer<'_>) -> Result<(&'s Mesh, &'s Marble), Refusal> {
    let mesh = state.running()?;
    let marble = meets(mesh.manifest(), peer.marble, peer.appraised)?;
    let (seat, instance) = place(mesh, marble, peer);
    mesh.revocations().admit(&instance, &seat)?;
    Ok((mesh, marble))
}

/// Where a program runs, and which instance it is there.
fn place(mesh: &Mesh, marble: &Marble, peer: &NativePeer<'_>) -> (Seat, [u8; 32]) {
    let seat = activation::seat(peer.appraised, true);
    let machine = seat.machine.as_deref();
    let turn = machine.map_or(0, |machine| mesh.revocations().turn(&machine::key(machine)).count);
    let instance = machine::native(peer.uuid, marble.name.as_str(), machine, turn);
    (seat, instance)
}

/// Admits an appraised program.
pub fn activate_native(
    state: &State,
    peer: &NativePeer<'_>,
    stored: &Stored,
    now: UnixTime,
) -> Result<NativeActivation, Refusal> {
    let (mesh, marble) = admissible(state, peer)?;
    let (seat, instance) = place(mesh, marble, peer);
    let identity = MarbleIdentity {
        marble: marble.name.to_string(),
        epoch: mesh.epoch(),
        manifest: mesh.manifest_digest(),
        emulated: state.emulated() || peer.appraised.emulated(),
        rollout: None,
    };
    let names: Vec<_> = marble.names.iter().map(ToString::to_string).collect();
    let domain = state.trust_domain();
    let (leaf, key) = mesh.intermediate().certify_native(&identity, (&domain, peer.uuid), &names, now)?;
    let own = render::Own {
        instance: &instance,
        seat: &seat,
        certificate: &leaf.certificate,
        public_key: &render::public_key(&leaf.certificate)?,
        private_key: Some(&key),
    };
    let parameters = render::render(state, mesh, marble, &own, stored, now)?;
    let admission = activation::Admission::new(
        mesh,
        (marble.name.as_str(), instance),
        seat.clone(),
        leaf.issued,
        &parameters,
    );
    let mut env: BTreeMap<_, _> =
        parameters.rendered.env.iter().map(|(name, value)| (name.clone(), value.to_vec())).collect();
    env.extend(predefined(state, mesh, &leaf.certificate, &key));
    if !marble.tls.is_empty() {
        let config = tls_config(mesh, marble, &parameters, &leaf.certificate, &key)?;
        env.insert("MARBLE_TTLS_CONFIG".into(), config);
    }
    Ok(NativeActivation {
        files: parameters.rendered.files.iter().map(|(path, value)| (path.clone(), value.to_vec())).collect(),
        env,
        argv: parameters.rendered.argv.clone(),
        admission,
    })
}

impl NativeActivation {
    /// By which key the mesh knows the instance.
    pub fn instance(&self) -> [u8; 32] {
        self.admission.instance
    }

    /// The event, if on the newest state the Marble may still be activated.
    pub fn admit(&self, state: &State, now: UnixTime) -> Result<Event, Refusal> {
        self.admission.admit(state, now)
    }
}

fn predefined(
    state: &State,
    mesh: &Mesh,
    certificate: &[u8],
    key: &Zeroizing<Vec<u8>>,
) -> [(String, Vec<u8>); 4] {
    let chain = [certificate, mesh.intermediate().certificate()]
        .map(|der| PemLabel::Certificate.block(der).to_string())
        .concat();
    [
        (
            "MARBLE_PREDEFINED_ROOT_CA".into(),
            PemLabel::Certificate.block(mesh.marble_root()).as_bytes().to_vec(),
        ),
        ("MARBLE_PREDEFINED_MARBLE_CERTIFICATE_CHAIN".into(), chain.into_bytes()),
        ("MARBLE_PREDEFINED_PRIVATE_KEY".into(), PemLabel::PrivateKey.block(key).as_bytes().to_vec()),
        (
            "MARBLE_PREDEFINED_COORDINATOR_ROOT_CA".into(),
            PemLabel::Certificate.block(state.root().certificate()).as_bytes().to_vec(),
        ),
    ]
}

/// What the runtimes EGo and Edgeless RT read: which connections to encrypt, and with what.
fn tls_config(
    mesh: &Mesh,
    marble: &Marble,
    parameters: &render::Parameters<'_>,
    certificate: &[u8],
    key: &Zeroizing<Vec<u8>>,
) -> Result<Vec<u8>, Refusal> {
    let root = PemLabel::Certificate.block(mesh.marble_root());
    let own = (PemLabel::Certificate.block(certificate), PemLabel::PrivateKey.block(key));
    let mut incoming = serde_json::Map::new();
    let mut outgoing = serde_json::Map::new();
    for tag in &marble.tls {
        for entry in &tag.incoming {
            let (chain, key, authenticated) = match &entry.certificate {
                None => (own.0.clone(), own.1.clone(), true),
                Some(name) => {
                    let (certificate, private) = parameters.certificate(name)?;
                    (PemLabel::Certificate.block(certificate), PemLabel::PrivateKey.block(private), false)
                }
            };
            let value =
                json!({ "cacrt": *root, "clicrt": *chain, "clikey": *key, "clientAuth": authenticated });
            incoming.insert(format!("*:{}", entry.port), value);
        }
        for entry in &tag.outgoing {
            let value = json!({ "cacrt": *root, "clicrt": *own.0, "clikey": *own.1 });
            outgoing.insert(format!("{}:{}", entry.address, entry.port), value);
        }
    }
    Ok(json!({ "tls": { "Incoming": incoming, "Outgoing": outgoing } }).to_string().into_bytes())
}

/// A counter of an instance, which only rises: gives the value before.
pub fn raise_counter(
    state: &State,
    caller: &super::Caller,
    name: &str,
    value: u64,
    now: UnixTime,
) -> Result<(Option<Event>, u64), Refusal> {
    let mesh = state.running()?;
    if !mesh.manifest().settings().gates.contains(&manifest::Gate::MonotonicCounter) {
        return Err(Refusal::GateClosed { gate: "MonotonicCounter" });
    }
    let (marble, instance) = activation::instance_of(mesh, caller, now)?;
    if name.len() > 256 {
        return Err(Refusal::CounterName);
    }
    let key = (marble.clone(), instance, name.to_owned());
    let before = mesh.counter(&key);
    let event = (value > before).then(|| Event::CounterRaised {
        marble,
        instance: ByteArray::new(instance),
        name: name.to_owned(),
        value,
    });
    Ok((event, before))
}

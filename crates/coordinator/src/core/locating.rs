//! What a Keep is told before it has a workload: where to fetch it, whose signatures count, and what opens it. It has
//! attested, and gets nothing of its Marble yet but what it takes to fetch.

use std::collections::BTreeSet;

use appraisal::UnixTime;
use attested_tls::{
    channel::AttestedPeer,
    claims::{Claims, KeepClaims},
};
use image_keys::{Kek, Packet};
use manifest::{
    DeclaredResource, Marble, ReferenceSigner, Registry, SecretName, TrustedRoot, Workload, WorkloadCode,
};
use mesh_api::{locate_response::Workload as Located, workload_signer::Proof};
use zeroize::Zeroizing;

use super::{
    Mesh, Refusal, SecretValue, State, Stored, activation, resources, stored_at, workloads::PackageRefusal,
};

/// Where the workload is.
pub fn locate(
    state: &State,
    peer: &AttestedPeer,
    appraised_in: u64,
) -> Result<mesh_api::LocateResponse, Refusal> {
    let (mesh, marble, workload) = activation::unloaded(state, peer, appraised_in)?;
    let code = match &workload.code {
        WorkloadCode::Digest(digest) => Located::Digest(digest.0.to_vec()),
        WorkloadCode::Package(package) => Located::Package(package.to_string()),
        WorkloadCode::Signed(signed) => Located::Signed(mesh_api::SignedPackage {
            repository: signed.repository.to_string(),
            name: signed.name.to_string(),
            minimum_version: signed.minimum.to_string(),
            signers: signers(mesh, signed),
        }),
    };
    let known = workload.code.registry().and_then(|host| mesh.manifest().registries().get(host));
    let registry = known.map(|registry| self::registry(mesh, marble, registry)).transpose()?;
    Ok(mesh_api::LocateResponse { workload: Some(code), registry })
}

fn signers(mesh: &Mesh, signed: &manifest::SignedPackages) -> Vec<mesh_api::WorkloadSigner> {
    let known = mesh.manifest().workload_signers();
    let one = |name: &manifest::SignerName| {
        let proof = match known.get(name)? {
            ReferenceSigner::Key { key, log } => {
                Proof::Key(mesh_api::SigningKey { key: key.clone(), log: log.as_ref().map(root) })
            }
            ReferenceSigner::Sigstore { identity, issuer, root: trusted } => {
                Proof::Sigstore(mesh_api::SigstoreIdentity {
                    identity: identity.clone(),
                    issuer: issuer.clone(),
                    root: Some(root(trusted)),
                })
            }
            ReferenceSigner::Corim(_) => return None,
        };
        Some(mesh_api::WorkloadSigner { name: name.to_string(), proof: Some(proof) })
    };
    signed.signers.iter().filter_map(one).collect()
}

fn root(root: &TrustedRoot) -> mesh_api::TrustedRoot {
    mesh_api::TrustedRoot { json: root.json.to_string(), expires: root.expires }
}

fn registry(mesh: &Mesh, marble: &Marble, registry: &Registry) -> Result<mesh_api::Registry, Refusal> {
    let (username, password) = match &registry.credentials {
        None => <_>::default(),
        Some((username, secret)) => (username.clone(), password(mesh, marble, secret)?),
    };
    let roots = registry.roots.iter().map(|root| root.0.clone()).collect();
    Ok(mesh_api::Registry { roots, plain: registry.plain, username, password })
}

fn password(mesh: &Mesh, marble: &Marble, secret: &SecretName) -> Result<String, Refusal> {
    let refused = |package| Refusal::Package { marble: marble.name.to_string(), package };
    match mesh.secret(secret.as_str()) {
        Some(SecretValue::Bytes(value)) => String::from_utf8(value.to_vec())
            .map_err(|_| refused(PackageRefusal::BadPassword { secret: secret.to_string() })),
        _ => Err(refused(PackageRefusal::NoPassword { secret: secret.to_string() })),
    }
}

/// The stored secrets that are keys of a Marble's workload.
pub fn stored_for_workload(
    state: &State,
    peer: &AttestedPeer,
    appraised_in: u64,
    packet: &Packet,
) -> Result<Vec<SecretName>, Refusal> {
    let (mesh, marble, workload) = activation::unloaded(state, peer, appraised_in)?;
    let declared = granted(mesh, marble, workload, packet)?;
    let secret = mesh.manifest().secrets().get(&declared.secret);
    let stored: BTreeSet<_> =
        secret.filter(|it| stored_at(it).is_some()).map(|it| it.name.clone()).into_iter().collect();
    Ok(stored.into_iter().collect())
}

/// Reads the packet that a Keep found in its package.
pub fn workload_packet(peer: &AttestedPeer, packet: &[u8]) -> Result<Packet, Refusal> {
    let marble = KeepClaims::from_bytes(&peer.claims)?.marble;
    Packet::parse(packet).map_err(|error| Refusal::Package { marble, package: PackageRefusal::Packet(error) })
}

/// What is in a packet, if its key is one that the manifest gives to the Marble's workload.
pub fn unwrap_workload_key(
    state: &State,
    (peer, appraised_in): (&AttestedPeer, u64),
    packet: &Packet,
    stored: &Stored,
    now: UnixTime,
) -> Result<Zeroizing<Vec<u8>>, Refusal> {
    let (mesh, marble, workload) = activation::unloaded(state, peer, appraised_in)?;
    let declared = granted(mesh, marble, workload, packet)?;
    let (value, _) = resources::declared_value(mesh, declared, stored, now)?;
    Kek::new(&value).and_then(|kek| kek.unwrap(packet)).map_err(Refusal::ImageKey)
}

fn granted<'m>(
    mesh: &'m Mesh,
    marble: &Marble,
    workload: &Workload,
    packet: &Packet,
) -> Result<&'m DeclaredResource, Refusal> {
    let refused = |package| Refusal::Package { marble: marble.name.to_string(), package };
    if workload.code.registry().is_none() {
        return Err(refused(PackageRefusal::NoPackage));
    }
    let path = workload.keys.iter().find(|path| path.to_string() == packet.key.path());
    path.and_then(|path| mesh.manifest().broker()?.declared(path)).ok_or_else(|| refused(PackageRefusal::Key))
}

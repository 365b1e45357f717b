//! A state as one record, from which replay goes on: what came before it in the log need not be kept. Each field of
//! the state is taken apart by name, so that one that is added and forgotten here does not compile.
//!
//! A snapshot is CBOR, versioned, and lies sealed in the store; CA keys in it are sealed once more to this TEE, as in
//! events (S-46). Whoever needs more of dropped records than the state has (a tree over all events, say) keeps it in
//! the state: then it is here.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use attested_tls::marble::Rollout;
use manifest::{Manifest, ManifestDigest, PackageName, ResourcePath};
use serde::{Deserialize, Serialize};
use serde_bytes::{ByteArray, ByteBuf};
use zeroize::Zeroizing;

use super::{Mesh, Pending, State, authority};
use crate::core::{
    IdentityKey, Refusal,
    anchor::Chain,
    broker::policies::Policies,
    epoch,
    event::{Epoch, SealedAuthority},
    history::Entry,
    instances, references,
    resources::{ResourceVersion, Resources},
    revocation::{self, Readers},
    rollback::Undo,
    signers::{PastSigner, Signer, Signers},
    transparency::{Log, LogRecord},
    versions::{Kept, Secrets},
    volumes, workloads,
};

const VERSION: u16 = 1;

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct StateRecord {
    version: u16,
    root: SealedAuthority,
    root_secret: ByteArray<32>,
    emulated: bool,
    mesh: Option<MeshRecord>,
    log: LogRecord,
    chain: Option<Chain>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct MeshRecord {
    manifest: ByteBuf,
    /// Security versions in force.
    versions: BTreeMap<String, u16>,
    epoch: Epoch,
    secrets: BTreeMap<String, Kept>,
    /// The last versions of secrets that are gone.
    retired: BTreeMap<String, u64>,
    previous_root_secret: Option<ByteArray<32>>,
    recovery_secret: Option<ByteArray<32>>,
    activations: BTreeMap<String, u64>,
    instances: instances::Record,
    /// Marble, instance, name, value.
    counters: Vec<(String, ByteArray<32>, String, u64)>,
    pending: Option<PendingRecord>,
    history: Vec<Entry>,
    /// The epoch before, its manifest, and the end of the window.
    rollout: Option<(u64, ByteArray<32>, i64)>,
    undo: Option<UndoRecord>,
    revocations: revocation::Record,
    /// Machine, Marble, what was delivered.
    readers: Vec<(String, String, instances::Delivered)>,
    resources: ResourcesRecord,
    /// What signed tokens in earlier epochs.
    past_signers: Vec<PastSigner>,
    references: references::Record,
    #[serde(default)]
    releases: workloads::Record,
    #[serde(default)]
    volumes: volumes::Record,
}

/// Paths with their versions, and the last number that was given.
type ResourcesRecord = (Vec<(ResourcePath, Vec<ResourceVersion>)>, u64);

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct UndoRecord {
    manifest: ByteBuf,
    versions: BTreeMap<String, u16>,
    epoch: u64,
    secrets: BTreeMap<String, Kept>,
    root_secret: ByteArray<32>,
    previous_root_secret: Option<ByteArray<32>>,
    awaited: BTreeSet<String>,
    until: i64,
    displaced: ResourcesRecord,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct PendingRecord {
    manifest: ByteBuf,
    acknowledged: BTreeSet<String>,
    downgrades: BTreeSet<String>,
    deadline: i64,
}

impl State {
    /// The whole state as one record.
    pub fn to_snapshot(&self) -> Result<Zeroizing<Vec<u8>>, Refusal> {
        let Self { identity, root, root_secret, emulated, mesh, chain, log } = self;
        let record = StateRecord {
            version: VERSION,
            root: epoch::sealed(root, identity)?,
            root_secret: ByteArray::new(**root_secret),
            emulated: *emulated,
            mesh: mesh.as_ref().map(|mesh| mesh_record(mesh, identity)).transpose()?,
            log: log.to_record(identity)?,
            chain: chain.clone(),
        };
        let mut out = Zeroizing::new(Vec::new());
        ciborium::into_writer(&record, &mut *out)
            .map_err(|error| Refusal::Internal(format!("the state cannot be written: {error}")))?;
        Ok(out)
    }

    /// The state that [`State::to_snapshot`] wrote. An error says what of it is not so.
    pub fn from_snapshot(bytes: &[u8], identity: IdentityKey) -> Result<Self, String> {
        let mut rest = bytes;
        let record: StateRecord = ciborium::from_reader(&mut rest).map_err(|error| error.to_string())?;
        if !rest.is_empty() {
            return Err(format!("{} bytes follow it", rest.len()));
        }
        if record.version != VERSION {
            return Err(format!("it is of version {}, and {VERSION} is known", record.version));
        }
        Ok(Self {
            root: Arc::new(authority(record.root, &identity)?),
            root_secret: Zeroizing::new(record.root_secret.into_array()),
            emulated: record.emulated,
            mesh: record.mesh.map(|mesh| mesh_of(mesh, &identity)).transpose()?,
            log: Log::from_record(record.log, &identity)?,
            chain: record.chain,
            identity,
        })
    }
}

fn mesh_record(mesh: &Mesh, identity: &IdentityKey) -> Result<MeshRecord, Refusal> {
    let Mesh {
        manifest,
        manifest_bytes,
        epoch: number,
        intermediate,
        marble_root,
        svids,
        secrets,
        previous_root_secret,
        recovery_secret,
        activations,
        instances,
        counters,
        pending,
        history,
        rollout,
        undo,
        revocations,
        readers,
        resources,
        // Compiled anew from the manifest.
        policies: _,
        signers,
        references,
        releases,
        volumes,
    } = mesh;
    let optional = |secret: &Option<Zeroizing<[u8; 32]>>| secret.as_ref().map(|it| ByteArray::new(**it));
    Ok(MeshRecord {
        manifest: ByteBuf::from(manifest_bytes.to_vec()),
        versions: versions(manifest),
        epoch: Epoch {
            number: *number,
            intermediate: epoch::sealed(intermediate, identity)?,
            marble_root: ByteBuf::from(marble_root.to_vec()),
            signer: signers.current().map(|signer| signer.sealed(identity)).transpose()?,
            svids: epoch::sealed(svids, identity)?,
        },
        secrets: secrets.iter().map(|(name, kept)| (name.clone(), kept.clone())).collect(),
        retired: secrets.retired().map(|(name, version)| (name.clone(), version)).collect(),
        previous_root_secret: optional(previous_root_secret),
        recovery_secret: optional(recovery_secret),
        activations: activations.iter().map(|(marble, count)| (marble.to_string(), *count)).collect(),
        instances: instances.record(),
        counters: counters
            .iter()
            .map(|((marble, instance, name), value)| {
                (marble.clone(), ByteArray::new(*instance), name.clone(), *value)
            })
            .collect(),
        pending: pending.as_deref().map(|pending| {
            let Pending { bytes, digest: _, acknowledged, downgrades, deadline } = pending;
            PendingRecord {
                manifest: ByteBuf::from(bytes.to_vec()),
                acknowledged: acknowledged.clone(),
                downgrades: downgrades.clone(),
                deadline: *deadline,
            }
        }),
        history: history.iter().map(|entry| entry.as_ref().clone()).collect(),
        rollout: rollout.as_ref().map(|it| (it.epoch, ByteArray::new(it.manifest), it.until)),
        undo: undo.as_deref().map(undo_record),
        revocations: revocations.record(),
        readers: readers.record(),
        resources: resources_record(resources),
        past_signers: signers.past().to_vec(),
        references: references.record(),
        releases: releases.record(),
        volumes: volumes.record(),
    })
}

fn mesh_of(record: MeshRecord, identity: &IdentityKey) -> Result<Mesh, String> {
    let optional = |secret: Option<ByteArray<32>>| secret.map(|it| Zeroizing::new(it.into_array()));
    let intermediate = authority(record.epoch.intermediate, identity)?;
    let below = (record.epoch.number, intermediate.certificate().as_ref());
    let signer = record.epoch.signer.map(|sealed| Signer::open(sealed, below, identity)).transpose()?;
    Ok(Mesh {
        manifest: Arc::new(manifest_of(&record.manifest, record.versions)?),
        manifest_bytes: Arc::new(record.manifest.into_vec()),
        epoch: record.epoch.number,
        intermediate: Arc::new(intermediate),
        marble_root: Arc::new(record.epoch.marble_root.into_vec()),
        svids: Arc::new(authority(record.epoch.svids, identity)?),
        secrets: Secrets::new(record.secrets, record.retired),
        previous_root_secret: optional(record.previous_root_secret),
        recovery_secret: optional(record.recovery_secret),
        activations: record.activations.into_iter().map(|(marble, count)| (marble.into(), count)).collect(),
        instances: record.instances.into(),
        counters: record
            .counters
            .into_iter()
            .map(|(marble, instance, name, value)| ((marble, instance.into_array(), name), value))
            .collect(),
        pending: record.pending.map(|pending| {
            Arc::new(Pending {
                digest: ManifestDigest::of(&pending.manifest),
                bytes: Arc::new(pending.manifest.into_vec()),
                acknowledged: pending.acknowledged,
                downgrades: pending.downgrades,
                deadline: pending.deadline,
            })
        }),
        history: record.history.into_iter().map(Arc::new).collect(),
        rollout: record.rollout.map(|(epoch, manifest, until)| Rollout {
            epoch,
            manifest: manifest.into_array(),
            until,
        }),
        undo: record.undo.map(undo_of).transpose()?.map(Arc::new),
        revocations: record.revocations.into(),
        readers: Readers::from(record.readers),
        resources: Resources::new(record.resources.0, record.resources.1),
        policies: Policies::default(),
        signers: Signers::resume(signer, record.past_signers),
        references: record.references.into(),
        releases: record.releases.into(),
        volumes: record.volumes.into(),
    })
}

fn versions(manifest: &Manifest) -> BTreeMap<String, u16> {
    let version = |(name, package): (&PackageName, &Arc<manifest::Package>)| {
        Some((name.to_string(), package.security_version()?))
    };
    manifest.packages().iter().filter_map(version).collect()
}

fn manifest_of(bytes: &[u8], versions: BTreeMap<String, u16>) -> Result<Manifest, String> {
    let manifest = Manifest::parse(bytes).map_err(|faults| faults.to_string())?;
    let mut known = BTreeMap::new();
    for (name, version) in versions {
        known.insert(name.parse().map_err(|_| format!("{name:?} is no package"))?, version);
    }
    Ok(manifest.with_security_versions(&known))
}

fn undo_record(undo: &Undo) -> UndoRecord {
    let Undo {
        manifest,
        manifest_bytes,
        epoch,
        secrets,
        root_secret,
        previous_root_secret,
        awaited,
        until,
        displaced,
    } = undo;
    UndoRecord {
        manifest: ByteBuf::from(manifest_bytes.to_vec()),
        versions: versions(manifest),
        epoch: *epoch,
        secrets: secrets.iter().map(|(name, kept)| (name.clone(), kept.clone())).collect(),
        root_secret: ByteArray::new(**root_secret),
        previous_root_secret: previous_root_secret.as_ref().map(|it| ByteArray::new(**it)),
        awaited: awaited.clone(),
        until: *until,
        displaced: resources_record(displaced),
    }
}

fn resources_record(resources: &Resources) -> ResourcesRecord {
    let kept = resources.iter().map(|(path, versions)| (path.clone(), versions.to_vec()));
    (kept.collect(), resources.last())
}

fn undo_of(record: UndoRecord) -> Result<Undo, String> {
    Ok(Undo {
        manifest: Arc::new(manifest_of(&record.manifest, record.versions)?),
        manifest_bytes: Arc::new(record.manifest.into_vec()),
        epoch: record.epoch,
        secrets: Secrets::new(record.secrets, BTreeMap::new()),
        root_secret: Zeroizing::new(record.root_secret.into_array()),
        previous_root_secret: record.previous_root_secret.map(|it| Zeroizing::new(it.into_array())),
        awaited: record.awaited,
        until: record.until,
        displaced: Resources::new(record.displaced.0, record.displaced.1),
    })
}

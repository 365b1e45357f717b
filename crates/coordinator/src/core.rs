//! The coordinator's decisions, without I/O: a [`State`], what may be asked of it, and the [`Event`] that
//! follows. The service makes an event durable before it answers, and only then applies it; replaying the
//! log gives the same state again.
//!
//! ```text
//!  founded ──set_manifest (owner)──▶ running, epoch 1 ──activate / renew / write_secrets──▶ running
//! ```

mod activation;
pub mod anchor;
pub mod broker;
mod claimed;
mod epoch;
mod event;
mod eviction;
mod history;
mod identity;
mod instances;
mod inventory;
mod keys;
mod locating;
mod machine;
mod native;
mod plan;
pub mod recovery;
pub mod references;
mod refusal;
mod rehearsal;
mod render;
pub mod replica;
pub mod resources;
mod revocation;
mod rollback;
mod rotation;
mod secrets;
pub mod signers;
mod state;
mod stored;
pub mod svid;
pub mod token;
mod transparency;
mod update;
mod value;
mod versions;
mod volumes;
mod workloads;

pub use activation::{Activation, Certified, WorkloadTerms};
pub use claimed::Claimed;
pub use event::{Delivery, Event, EvictedInstance, Issued, Seat};
pub use eviction::{Eviction, Exposed, Fate, Found, Target, exposed, prepare_eviction};
pub use history::Entry;
pub use identity::IdentityKey;
pub use inventory::{InstanceLine, SecretLine, instances, secrets as secret_lines};
pub use keys::{Need, NewKeys, Undecided};
pub use locating::{locate, stored_for_workload, unwrap_workload_key, workload_packet};
pub use native::{NativeActivation, NativePeer, activate_native, native_expectations, raise_counter};
pub use plan::{Fleet, Proposed, Recorded, RefusedInstances, plan};
pub use refusal::Refusal;
pub use rehearsal::{Rehearsal, Standing, rehearsed};
pub use revocation::{Revocation, Revocations};
pub use rollback::{roll_back, roll_back_due};
pub use rotation::{Rotation, expire, prepare_rotation};
pub use secrets::{NewSecret, Readable};
pub use state::{Mesh, Pending, State};
pub use stored::{
    Stored, credential, refused, stored_at, stored_for, stored_for_native, stored_for_reader, visible_stores,
};
pub use transparency::{EntriesDamaged, Log, SealedLogKey, download_secrets, openings};
pub use update::{Progress, acknowledge, cancel, lapse, update};
pub use value::SecretValue;
pub use volumes::{
    Head as VolumeHead, OpenedVolume, advance_volume, new_volume_key, open_volume, volume_head,
};
pub use workloads::{PackageRefusal, Packaged, Release};

use std::{collections::BTreeMap, sync::Arc};

use appraisal::UnixTime;
use attested_tls::key::SpkiDigest;
use serde_bytes::{ByteArray, ByteBuf};

use crate::authority::Authority;

/// Whoever speaks to the client API, by what was proven on the connection or with the request, and nothing else.
#[derive(Debug, Clone, Default)]
pub struct Caller {
    /// What was proven.
    pub proof: Proof,
}

/// What a caller proved.
#[derive(Debug, Clone, Default)]
pub enum Proof {
    /// Nothing.
    #[default]
    Nothing,
    /// To have the key of this leaf certificate, DER: it signed the handshake.
    Certificate(Vec<u8>),
    /// To have a token of an OpenID provider that the manifest names.
    Token(Box<token::Token>),
}

impl Caller {
    /// By the leaf certificate, DER, whose key signed the handshake.
    pub fn by_certificate(leaf: Vec<u8>) -> Self {
        Self { proof: Proof::Certificate(leaf) }
    }

    /// By the text of a token, if the manifest in force has users that are known by tokens of its issuer. Verifies a
    /// signature; needs no network.
    pub fn by_token(state: &State, text: &str, now: UnixTime) -> Result<Self, Refusal> {
        let token = token::Unverified::parse(text).map_err(Refusal::Token)?;
        let token = token.verify(state.running()?.manifest(), now).map_err(Refusal::Token)?;
        Ok(Self { proof: Proof::Token(Box::new(token)) })
    }

    fn certificate(&self) -> Result<&[u8], Refusal> {
        match &self.proof {
            Proof::Certificate(leaf) => Ok(leaf),
            Proof::Nothing | Proof::Token(_) => Err(Refusal::NoCertificate),
        }
    }

    /// Whether this is the owner, by its key.
    pub fn is_owner(&self, owner: &SpkiDigest) -> bool {
        self.certificate().is_ok_and(|it| SpkiDigest::of_certificate(it).is_ok_and(|key| key == *owner))
    }
}

/// The name that the manifest has for a caller.
pub fn user_name(mesh: &Mesh, caller: &Caller) -> Option<String> {
    secrets::user(mesh, caller).ok().map(|user| user.name.to_string())
}

/// How many seconds each uploaded secret that expires is still delivered; 0 where it is not any more.
pub fn seconds_left(mesh: &Mesh, now: UnixTime) -> BTreeMap<&str, u64> {
    inventory::seconds_left(mesh, now)
}

/// The mesh begins: a root CA and the secret from which single instances' secrets are derived.
pub fn found(emulated: bool, identity: &IdentityKey, now: UnixTime) -> Result<Event, Refusal> {
    let root = Authority::root(emulated, now)?;
    Ok(Event::Founded {
        root: epoch::sealed(&root, identity)?,
        root_secret: ByteArray::new(secrets::random32()?),
        emulated,
        at: event::seconds(now),
        log_salt: ByteArray::new(secrets::random32()?),
        log_key: transparency::new_key(identity)?,
    })
}

/// The first manifest, by the owner that the measured configuration names and by nobody else. Gives the shares of
/// the recovery keys, if there are any: they are in the answer and nowhere else.
pub fn set_manifest(
    state: &State,
    owner: &SpkiDigest,
    caller: &Caller,
    bytes: &[u8],
    now: UnixTime,
    keys: Option<&NewKeys>,
) -> Result<(Event, Option<recovery::Shares>), Undecided> {
    let presented = SpkiDigest::of_certificate(caller.certificate()?).map_err(|_| Refusal::UnknownUser)?;
    if presented != *owner {
        return Err(Refusal::NotOwner { expected: *owner, seen: presented }.into());
    }
    if let Some(mesh) = state.mesh() {
        return Err(Refusal::ManifestAlreadySet { epoch: mesh.epoch() }.into());
    }
    let manifest = Arc::new(broker::policies::parse(bytes)?);
    references::signers(&manifest)?;
    references::workload_signers(&manifest)?;
    let secrets = manifest.secrets().keys().cloned().collect();
    let keys = keys::Need::epoch(state, manifest, secrets).and(false, true).met_by(keys)?;
    let event = Event::ManifestSet {
        generated: keys.generated.clone(),
        manifest: ByteBuf::from(bytes),
        epoch: keys.epoch.clone(),
        recovery_secret: keys.recovery_secret(),
        at: event::seconds(now),
    };
    Ok((event, keys.shares()))
}

/// After a recovery: a new root and a new epoch, for the CA keys stayed in the TEE that is lost.
pub fn recovered(
    state: &State,
    holders: Vec<String>,
    emulated: bool,
    now: UnixTime,
) -> Result<Event, Refusal> {
    let mesh = state.running()?;
    let root = Authority::root(emulated, now)?;
    let identity = state.identity();
    let (epoch, intermediate) =
        epoch::below(&root, identity, (mesh.epoch() + 1, mesh.manifest()), emulated, now)?;
    let certificates = update::certificates(mesh.manifest());
    Ok(Event::Recovered {
        holders,
        root: epoch::sealed(&root, identity)?,
        generated: secrets::generate(mesh.manifest(), &intermediate, now, |it| {
            certificates.contains(&it.name)
        })?,
        epoch,
        emulated,
        at: event::seconds(now),
        log_key: transparency::new_key(identity)?,
    })
}

/// Uploads of a user whom the manifest grants `WriteSecret` for every secret named.
pub fn write_secrets(
    state: &State,
    caller: &Caller,
    uploads: BTreeMap<String, NewSecret>,
    now: UnixTime,
) -> Result<Event, Refusal> {
    secrets::write(state, caller, uploads, now)
}

pub use activation::{activate, add_emulated_roots, expectations, may_stay, renew};

#[cfg(test)]
pub(crate) fn next_epoch(
    state: &State,
    manifest: &manifest::Manifest,
    now: UnixTime,
) -> Result<event::Epoch, Refusal> {
    let number = state.mesh().map_or(0, Mesh::epoch) + 1;
    let next = (number, manifest);
    epoch::below(state.root(), state.identity(), next, state.emulated(), now).map(|(epoch, _)| epoch)
}

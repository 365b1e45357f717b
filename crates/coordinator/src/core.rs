//! The coordinator's decisions, without I/O: a [`State`], what may be asked of it, and the [`Event`] that
//! follows. The service makes an event durable before it answers, and only then applies it; replaying the
//! log gives the same state again.
//!
//! ```text
//!  founded ──set_manifest (owner)──▶ running, epoch 1 ──activate / renew / write_secrets──▶ running
//! ```

mod activation;
mod event;
mod refusal;
mod secrets;
mod state;

pub use activation::{Activation, Certified};
pub use event::Event;
pub use refusal::Refusal;
pub use secrets::NewSecret;
pub use state::{Mesh, State};

use std::collections::BTreeMap;

use appraisal::UnixTime;
use attested_tls::key::SpkiDigest;
use manifest::Manifest;
use serde_bytes::{ByteArray, ByteBuf};

use crate::authority::Authority;

/// Whoever speaks to the client API, by the leaf certificate of the connection and nothing else.
#[derive(Debug, Clone, Default)]
pub struct Caller {
    /// The leaf certificate, DER, whose key signed the handshake.
    pub certificate: Option<Vec<u8>>,
}

impl Caller {
    fn certificate(&self) -> Result<&[u8], Refusal> {
        self.certificate.as_deref().ok_or(Refusal::NoCertificate)
    }
}

/// The mesh begins: a root CA and the secret from which single instances' secrets are derived.
pub fn found(emulated: bool, now: UnixTime) -> Result<Event, Refusal> {
    let root = Authority::root(emulated, now)?;
    Ok(Event::Founded {
        root_key: ByteBuf::from(root.key().to_vec()),
        root_certificate: ByteBuf::from(root.certificate().to_vec()),
        root_secret: ByteArray::new(secrets::random32()?),
        emulated,
        at: event::seconds(now),
    })
}

/// The first manifest, by the owner that the measured configuration names and by nobody else.
pub fn set_manifest(
    state: &State,
    owner: &SpkiDigest,
    caller: &Caller,
    bytes: Vec<u8>,
    now: UnixTime,
) -> Result<Event, Refusal> {
    let presented = SpkiDigest::of_certificate(caller.certificate()?).map_err(|_| Refusal::UnknownUser)?;
    if presented != *owner {
        return Err(Refusal::NotOwner { expected: *owner, seen: presented });
    }
    if let Some(mesh) = state.mesh() {
        return Err(Refusal::ManifestAlreadySet { epoch: mesh.epoch() });
    }
    let manifest = Manifest::parse(&bytes)?;
    let epoch = 1;
    let intermediate = state.root().intermediate(epoch, state.emulated(), now)?;
    Ok(Event::ManifestSet {
        generated: secrets::generate(&manifest)?,
        manifest: ByteBuf::from(bytes),
        epoch,
        intermediate_key: ByteBuf::from(intermediate.key().to_vec()),
        intermediate_certificate: ByteBuf::from(intermediate.certificate().to_vec()),
        at: event::seconds(now),
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

/// Values for a user whom the manifest grants `ReadSecret` for every secret named.
pub fn read_secrets(
    state: &State,
    caller: &Caller,
    names: &[String],
) -> Result<BTreeMap<String, secrets::Readable>, Refusal> {
    secrets::read(state, caller, names)
}

pub use activation::{activate, expectations, renew};

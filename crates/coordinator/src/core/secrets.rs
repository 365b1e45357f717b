//! The manifest's secrets: made when a manifest comes into force, uploaded by users, derived for single
//! instances, and put where the manifest says.

use std::collections::BTreeMap;

use appraisal::UnixTime;
use aws_lc_rs::{
    digest::{SHA256, digest},
    hkdf::{HKDF_SHA256, KeyType, Salt},
};
use base64::{Engine, engine::general_purpose::STANDARD as BASE64};
use manifest::{Action, Manifest, Secret, SecretKind, SecretName, SecretSource, User};
use serde::{Deserialize, Serialize};
use serde_bytes::ByteBuf;
use zeroize::Zeroizing;

use super::{Caller, Event, Mesh, Refusal, State, event};

/// A secret that a user uploads. Only the form of symmetric and plain secrets is supported so far.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NewSecret {
    /// The value, base64.
    #[serde(rename = "Key")]
    key: String,
}

/// A secret as its reader gets it, in MarbleRun's shape.
#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
pub struct Readable {
    #[serde(rename = "Type")]
    kind: &'static str,
    size: u64,
    shared: bool,
    user_defined: bool,
    /// Base64; null while it is not set.
    private: Option<String>,
}

/// Values of all secrets that the coordinator makes for everyone.
pub(super) fn generate(manifest: &Manifest) -> Result<BTreeMap<String, ByteBuf>, Refusal> {
    let mut generated = BTreeMap::new();
    for secret in manifest.secrets().values() {
        if let (SecretKind::SymmetricKey { bytes }, SecretSource::Shared) = (secret.kind, secret.source) {
            let mut value = vec![0; bytes.get() as usize];
            aws_lc_rs::rand::fill(&mut value).map_err(|_| no_randomness())?;
            generated.insert(secret.name.to_string(), ByteBuf::from(value));
        }
    }
    Ok(generated)
}

/// 32 random bytes.
pub(super) fn random32() -> Result<[u8; 32], Refusal> {
    let mut value = [0; 32];
    aws_lc_rs::rand::fill(&mut value).map_err(|_| no_randomness())?;
    Ok(value)
}

fn no_randomness() -> Refusal {
    Refusal::Internal("no random numbers could be had".into())
}

pub(super) fn write(
    state: &State,
    caller: &Caller,
    uploads: BTreeMap<String, NewSecret>,
    now: UnixTime,
) -> Result<Event, Refusal> {
    let mesh = state.running()?;
    let user = user(mesh, caller)?;
    if uploads.is_empty() {
        return Err(Refusal::NoSecrets);
    }
    let mut secrets = BTreeMap::new();
    for (name, upload) in uploads {
        let secret = granted(mesh, user, Action::WriteSecret, &name)?;
        secrets.insert(name, ByteBuf::from(decode(secret, upload)?));
    }
    Ok(Event::SecretsWritten { user: user.name.to_string(), secrets, at: event::seconds(now) })
}

fn decode(secret: &Secret, upload: NewSecret) -> Result<Vec<u8>, Refusal> {
    let shape = |reason: String| Refusal::SecretShape { name: secret.name.to_string(), reason };
    if secret.source != SecretSource::UserDefined {
        return Err(shape("the coordinator makes it".into()));
    }
    let value = BASE64.decode(upload.key).map_err(|_| shape("`Key` is not base64".into()))?;
    if value.is_empty() {
        return Err(shape("it is empty".into()));
    }
    if let SecretKind::SymmetricKey { bytes } = secret.kind
        && value.len() != bytes.get() as usize
    {
        return Err(shape(format!("{} bytes were uploaded, and {bytes} are declared", value.len())));
    }
    Ok(value)
}

pub(super) fn read(
    state: &State,
    caller: &Caller,
    names: &[String],
) -> Result<BTreeMap<String, Readable>, Refusal> {
    let mesh = state.running()?;
    let user = user(mesh, caller)?;
    if names.is_empty() {
        return Err(Refusal::NoSecrets);
    }
    let mut values = BTreeMap::new();
    for name in names {
        let secret = granted(mesh, user, Action::ReadSecret, name)?;
        let (kind, size) = match secret.kind {
            SecretKind::SymmetricKey { bytes } => ("symmetric-key", u64::from(bytes.get()) * 8),
            _ => ("plain", 0),
        };
        let readable = Readable {
            kind,
            size,
            shared: secret.source == SecretSource::Shared,
            user_defined: secret.source == SecretSource::UserDefined,
            private: mesh.secret(name).map(|value| BASE64.encode(value)),
        };
        values.insert(name.clone(), readable);
    }
    Ok(values)
}

fn user<'m>(mesh: &'m Mesh, caller: &Caller) -> Result<&'m User, Refusal> {
    mesh.manifest().user_by_certificate(caller.certificate()?).ok_or(Refusal::UnknownUser)
}

/// The secret, if the user may do this with it. Whoever has no right learns the same of a secret that
/// exists and of one that does not (S-58).
fn granted<'m>(mesh: &'m Mesh, user: &User, action: Action, name: &str) -> Result<&'m Secret, Refusal> {
    let not_granted = || Refusal::NotGranted {
        user: user.name.to_string(),
        action: match action {
            Action::WriteSecret => "WriteSecret",
            _ => "ReadSecret",
        },
        secret: name.to_owned(),
    };
    let known: SecretName = name.parse().map_err(|_| not_granted())?;
    if !user.may(action, &known) {
        return Err(not_granted());
    }
    mesh.manifest().secrets().get(&known).ok_or_else(not_granted)
}

struct Length(usize);

impl KeyType for Length {
    fn len(&self) -> usize {
        self.0
    }
}

/// The value of a secret for one instance: HKDF-SHA256 from the mesh's root secret, separated by purpose,
/// secret, Marble and instance key (S-46).
pub(super) fn derive(
    state: &State,
    secret: &SecretName,
    bytes: usize,
    marble: &str,
    instance: &[u8; 32],
) -> Result<Zeroizing<Vec<u8>>, Refusal> {
    let name = digest(&SHA256, secret.as_str().as_bytes());
    let marble = digest(&SHA256, marble.as_bytes());
    let info: [&[u8]; 4] = [b"bailey/instance-secret/1", name.as_ref(), marble.as_ref(), instance];
    let mut value = Zeroizing::new(vec![0; bytes]);
    let key = Salt::new(HKDF_SHA256, b"").extract(state.root_secret());
    key.expand(&info, Length(bytes))
        .and_then(|output| output.fill(&mut value))
        .map_err(|_| Refusal::Internal("a secret could not be derived".into()))?;
    Ok(value)
}

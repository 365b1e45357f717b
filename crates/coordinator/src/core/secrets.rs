//! The manifest's secrets: made when a manifest comes into force, uploaded by users, derived for single
//! instances, and put where the manifest says.

use std::collections::{BTreeMap, BTreeSet};

use appraisal::UnixTime;
use aws_lc_rs::{
    digest::{SHA256, digest},
    hkdf::{HKDF_SHA256, KeyType, Salt},
};
use base64::{Engine, engine::general_purpose::STANDARD as BASE64};
use manifest::{
    Action, End, Grant, KeyPart, Manifest, Reference, Secret, SecretKind, SecretName, SecretPart,
    SecretSource, User,
};
use serde::{Deserialize, Serialize};
use x509_parser::prelude::{FromDer, X509Certificate};
use zeroize::Zeroizing;

use super::{Caller, Event, Mesh, Proof, Refusal, SecretValue, State, event, stored::Stored, token};
use crate::authority::Authority;

/// A secret that a user uploads: a value, or a certificate with its key.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NewSecret {
    /// The value, base64.
    #[serde(rename = "Key", default)]
    key: Option<String>,
    /// DER in base64, or PEM in base64.
    #[serde(rename = "Cert", default)]
    certificate: Option<String>,
    /// PKCS #8, likewise.
    #[serde(rename = "Private", default)]
    private: Option<String>,
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
    /// DER, base64; null where it is no certificate or not set.
    cert: Option<String>,
    valid_for: u64,
    /// Base64; null while it is not set.
    private: Option<String>,
    /// Base64; null while it is not set.
    public: Option<String>,
}

/// Makes values of the secrets that the coordinator makes for everyone and that anything refers to, of those that
/// `wanted` picks.
pub(super) fn generate(
    manifest: &Manifest,
    issuer: &Authority,
    now: UnixTime,
    wanted: impl Fn(&Secret) -> bool,
) -> Result<BTreeMap<String, SecretValue>, Refusal> {
    let referenced = referenced(manifest);
    let mut generated = BTreeMap::new();
    for secret in manifest.secrets().values() {
        if secret.source != SecretSource::Shared || !referenced.contains(&secret.name) || !wanted(secret) {
            continue;
        }
        if let Some(value) = fresh(secret, issuer, now)? {
            generated.insert(secret.name.to_string(), value);
        }
    }
    Ok(generated)
}

/// A new value; none for what only users know.
pub(super) fn fresh(
    secret: &Secret,
    issuer: &Authority,
    now: UnixTime,
) -> Result<Option<SecretValue>, Refusal> {
    match &secret.kind {
        SecretKind::SymmetricKey { bytes } => {
            let mut value = Zeroizing::new(vec![0; bytes.get() as usize]);
            aws_lc_rs::rand::fill(&mut value).map_err(|_| no_randomness())?;
            Ok(Some(SecretValue::Bytes(value)))
        }
        SecretKind::Certificate(certificate) => Ok(Some(issuer.issue(certificate, now)?)),
        _ => Ok(None),
    }
}

/// The secrets that a template, a TLS tag, a role or a store refers to: no others are made.
fn referenced(manifest: &Manifest) -> BTreeSet<SecretName> {
    let mut names = BTreeSet::new();
    for marble in manifest.marbles().values() {
        for reference in marble.parameters.references() {
            if let Reference::Secret { name, .. } = reference {
                names.insert(name.clone());
            }
        }
        let incoming = marble.tls.iter().flat_map(|tag| &tag.incoming);
        names.extend(incoming.filter_map(|incoming| incoming.certificate.clone()));
    }
    names.extend(manifest.stores().values().map(|store| store.credential().clone()));
    for role in manifest.roles().values() {
        if let Grant::Secrets { secrets, .. } = &role.grant {
            names.extend(secrets.iter().cloned());
        }
    }
    names
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
        secrets.insert(name, decode(secret, upload)?);
    }
    Ok(Event::SecretsWritten { user: user.name.to_string(), secrets, at: event::seconds(now) })
}

fn decode(secret: &Secret, upload: NewSecret) -> Result<SecretValue, Refusal> {
    let shape = |reason: String| Refusal::SecretShape { name: secret.name.to_string(), reason };
    if secret.source != SecretSource::UserDefined {
        return Err(shape(match secret.source {
            SecretSource::Stored(_) => "it lies in a store outside".into(),
            _ => "the coordinator makes it".into(),
        }));
    }
    let bytes = |text: &str, field: &str| {
        let value =
            BASE64.decode(text).map(Zeroizing::new).map_err(|_| shape(format!("`{field}` is not base64")))?;
        if value.is_empty() { Err(shape(format!("`{field}` is empty"))) } else { Ok(value) }
    };
    match (&secret.kind, upload) {
        (SecretKind::Certificate(_), NewSecret { key: None, certificate: Some(certificate), private }) => {
            let private = match private.as_deref().filter(|private| !private.is_empty()) {
                Some(private) => bytes(private, "Private")?,
                None => Zeroizing::new(Vec::new()),
            };
            certificate_value(&bytes(&certificate, "Cert")?, private).map_err(shape)
        }
        (SecretKind::Certificate(_), _) => {
            Err(shape("a certificate has `Cert` and `Private`, and no `Key`".into()))
        }
        (kind, NewSecret { key: Some(key), certificate: None, private: None }) => {
            let value = bytes(&key, "Key")?;
            if let SecretKind::SymmetricKey { bytes } = kind
                && value.len() != bytes.get() as usize
            {
                return Err(shape(format!("{} bytes were uploaded, and {bytes} are declared", value.len())));
            }
            Ok(SecretValue::Bytes(value))
        }
        _ => Err(shape("it has `Key`, and neither `Cert` nor `Private`".into())),
    }
}

/// A certificate and its key, which must be of one pair: a key that belongs to another certificate would be found
/// out by whoever uses it, much later.
fn certificate_value(certificate: &[u8], private: Zeroizing<Vec<u8>>) -> Result<SecretValue, String> {
    let certificate = unarmoured(certificate, "CERTIFICATE")?;
    let private = Zeroizing::new(unarmoured(&private, "PRIVATE KEY")?);
    let (rest, parsed) =
        X509Certificate::from_der(&certificate).map_err(|_| "`Cert` is no X.509 certificate".to_owned())?;
    if !rest.is_empty() {
        return Err("bytes follow the certificate".into());
    }
    let public = parsed.public_key().raw.to_vec();
    if !private.is_empty() {
        let key = rcgen::KeyPair::try_from(private.as_slice())
            .map_err(|_| "`Private` is no PKCS #8 key of a known kind".to_owned())?;
        if rcgen::PublicKeyData::subject_public_key_info(&key) != public {
            return Err("`Private` is not the key of `Cert`".into());
        }
    }
    Ok(SecretValue::Certificate { certificate, public, private })
}

/// DER as it is, or out of PEM.
fn unarmoured(bytes: &[u8], label: &str) -> Result<Vec<u8>, String> {
    if !bytes.starts_with(b"-----BEGIN") {
        return Ok(bytes.to_vec());
    }
    let block = x509_parser::pem::Pem::iter_from_buffer(bytes).next();
    match block {
        Some(Ok(block)) if block.label == label => Ok(block.contents),
        _ => Err(format!("there is no PEM block of type {label}")),
    }
}

/// The secrets of these names, if the caller may read all of them.
pub(super) fn readable<'s>(
    state: &'s State,
    caller: &Caller,
    names: &[String],
) -> Result<Vec<&'s Secret>, Refusal> {
    let mesh = state.running()?;
    let user = user(mesh, caller)?;
    if names.is_empty() {
        return Err(Refusal::NoSecrets);
    }
    names.iter().map(|name| granted(mesh, user, Action::ReadSecret, name)).collect()
}

pub(super) fn read(
    state: &State,
    caller: &Caller,
    names: &[String],
    stored: &Stored,
) -> Result<BTreeMap<String, Readable>, Refusal> {
    let mesh = state.running()?;
    let mut values = BTreeMap::new();
    for secret in readable(state, caller, names)? {
        let name = secret.name.as_str();
        let value = match secret.source {
            SecretSource::Stored(_) => Some(stored.value(mesh, secret)?),
            _ => mesh.secret(name),
        };
        let part = |part| value.and_then(|value| value.part(part)).map(|value| BASE64.encode(value));
        let (cert, public, private) = match &secret.kind {
            SecretKind::Certificate(_) => (
                part(SecretPart::Of(KeyPart::Certificate)),
                part(SecretPart::Of(KeyPart::Public)),
                part(SecretPart::Of(KeyPart::Private)),
            ),
            // MarbleRun gives the same bytes under both names.
            _ => (None, part(SecretPart::Value), part(SecretPart::Value)),
        };
        let valid_for = match &secret.kind {
            SecretKind::Certificate(certificate) => match certificate.template.end {
                End::Days(days) => u64::from(days),
                End::At(_) => 0,
            },
            _ => 0,
        };
        let readable = Readable {
            kind: secret.kind.as_str(),
            size: secret.kind.bits(),
            shared: secret.source == SecretSource::Shared,
            user_defined: secret.source == SecretSource::UserDefined,
            cert,
            valid_for,
            private,
            public,
        };
        values.insert(name.to_owned(), readable);
    }
    Ok(values)
}

pub(super) fn user<'m>(mesh: &'m Mesh, caller: &Caller) -> Result<&'m User, Refusal> {
    match &caller.proof {
        Proof::Token(token) => token::user(mesh.manifest(), token),
        Proof::Nothing | Proof::Certificate(_) => {
            mesh.manifest().user_by_certificate(caller.certificate()?).ok_or(Refusal::UnknownUser)
        }
    }
}

/// The secret, if the user may do this with it. Whoever has no right learns the same of a secret that
/// exists and of one that does not (S-58).
pub(super) fn granted<'m>(
    mesh: &'m Mesh,
    user: &User,
    action: Action,
    name: &str,
) -> Result<&'m Secret, Refusal> {
    let not_granted = || Refusal::NotGranted {
        user: user.name.to_string(),
        action: match action {
            Action::WriteSecret => "WriteSecret",
            _ => "ReadSecret",
        },
        resource: format!("secret {name:?}"),
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
    root_secret: &[u8; 32],
    secret: &SecretName,
    bytes: usize,
    marble: &str,
    instance: &[u8; 32],
) -> Result<Zeroizing<Vec<u8>>, Refusal> {
    let name = digest(&SHA256, secret.as_str().as_bytes());
    let marble = digest(&SHA256, marble.as_bytes());
    let info: [&[u8]; 4] = [b"bailey/instance-secret/1", name.as_ref(), marble.as_ref(), instance];
    let mut value = Zeroizing::new(vec![0; bytes]);
    let key = Salt::new(HKDF_SHA256, b"").extract(root_secret);
    key.expand(&info, Length(bytes))
        .and_then(|output| output.fill(&mut value))
        .map_err(|_| Refusal::Internal("a secret could not be derived".into()))?;
    Ok(value)
}

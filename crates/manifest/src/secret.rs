//! Secrets: what each one is, and where its value comes from.

use std::collections::BTreeMap;
use std::num::NonZeroU32;
use std::time::Duration;

use crate::certificate::{self, CertificateSecret, KeyKind};
use crate::document as wire;
use crate::encoding;
use crate::fault::{Code, Collector, shown, suggestion};
use crate::names::SecretName;
use crate::path::Path;
use crate::store::{self, StoredAt, StoredPlace};
use crate::template::Shape;

/// HKDF-SHA256 yields at most 255 blocks of 32 bytes (RFC 5869 §2.3).
const MAX_KEY_BYTES: u64 = 255 * 32;

/// A secret of the mesh.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Secret {
    /// Its name.
    pub name: SecretName,
    /// What it is.
    pub kind: SecretKind,
    /// Where its value comes from.
    pub source: SecretSource,
    /// How long after its upload a user-defined value is delivered; without end where absent.
    pub max_age: Option<Duration>,
}

impl Secret {
    /// Whether it is a key that stays in its store, and so has no value.
    #[must_use]
    pub fn is_held(&self) -> bool {
        matches!(&self.source, SecretSource::Stored(at) if matches!(at.place, StoredPlace::Held { .. }))
    }
}

/// What a secret is.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum SecretKind {
    /// A key of so many bytes, 8160 at most.
    SymmetricKey {
        /// Its length.
        bytes: NonZeroU32,
    },
    /// Bytes that only its user understands; always user-defined or stored.
    Plain,
    /// A key with a certificate.
    Certificate(Box<CertificateSecret>),
}

impl SecretKind {
    /// MarbleRun's word for it.
    #[must_use]
    pub fn as_str(&self) -> &'static str {
        match self {
            Self::SymmetricKey { .. } => "symmetric-key",
            Self::Plain => "plain",
            Self::Certificate(certificate) => match certificate.key {
                KeyKind::Rsa(_) => "cert-rsa",
                KeyKind::P256 | KeyKind::P384 | KeyKind::P521 => "cert-ecdsa",
                KeyKind::Ed25519 => "cert-ed25519",
            },
        }
    }

    /// Its size in bits; 0 where it has none.
    #[must_use]
    pub fn bits(&self) -> u64 {
        match self {
            Self::SymmetricKey { bytes } => u64::from(bytes.get()) * 8,
            Self::Plain => 0,
            Self::Certificate(certificate) => match certificate.key {
                KeyKind::Rsa(bits) => u64::from(bits),
                KeyKind::P256 => 256,
                KeyKind::P384 => 384,
                KeyKind::P521 => 521,
                KeyKind::Ed25519 => 0,
            },
        }
    }
}

/// Where the value of a secret comes from, and who has the same one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SecretSource {
    /// The coordinator makes one value for all Marbles.
    Shared,
    /// The coordinator derives a value for each instance of each Marble.
    PerInstance,
    /// A user uploads one value for all Marbles.
    UserDefined,
    /// The coordinator derives a value for each Marble on each machine, by what the Evidence proves of the machine:
    /// it stays the same when an instance starts anew.
    PerPlatform,
    /// It lies in a store outside, or a store decrypts it: one value for all Marbles, fetched when it is needed.
    Stored(Box<StoredAt>),
}

type Wires = BTreeMap<String, wire::Secret>;

/// What the secrets look like to templates: every secret with a valid name, also faulty ones, so that one
/// fault is not reported again wherever the secret is used.
pub(crate) fn shapes(secrets: &Wires) -> BTreeMap<SecretName, Option<Shape>> {
    let named = secrets.iter().filter_map(|(name, wire)| Some((name.parse().ok()?, wire)));
    named.map(|(name, wire)| (name, shape(&wire.kind))).collect()
}

fn shape(kind: &str) -> Option<Shape> {
    match kind {
        "symmetric-key" => Some(Shape::SymmetricKey),
        "plain" => Some(Shape::Plain),
        "cert-rsa" | "cert-ecdsa" | "cert-ed25519" => Some(Shape::Certificate),
        _ => None,
    }
}

pub(crate) fn resolve(
    document: &wire::Document,
    at: &Path<'_>,
    faults: &mut Collector<'_>,
) -> BTreeMap<SecretName, Secret> {
    let mut resolved = BTreeMap::new();
    for (name, wire) in &document.secrets {
        let here = at.key(name);
        let name = name.parse::<SecretName>().map_err(|error| {
            faults.add(&here, Code::InvalidName, error.to_string());
        });
        let kind = kind(wire, &here, faults);
        let source = match &wire.store {
            Some(_) => stored(wire, document, &here, faults),
            None => Some(source(wire, &here, faults)),
        };
        let max_age = max_age(wire, &here, faults);
        if let (Ok(name), Some(kind), Some(source)) = (name, kind, source) {
            resolved.insert(name.clone(), Secret { name, kind, source, max_age });
        }
    }
    resolved
}

fn source(wire: &wire::Secret, at: &Path<'_>, faults: &mut Collector<'_>) -> SecretSource {
    let source = match (wire.user_defined, wire.shared) {
        (true, _) => SecretSource::UserDefined,
        (false, true) => SecretSource::Shared,
        (false, false) => SecretSource::PerInstance,
    };
    let Some(scope) = &wire.scope else { return source };
    let here = at.field("Scope");
    if source != SecretSource::PerInstance {
        faults.add(&here, Code::NotApplicable, "all Marbles have one value of this secret");
    } else if shape(&wire.kind) == Some(Shape::Certificate) {
        let message = "each activation makes a new certificate, so none can stay the same";
        faults.add(&here, Code::NotApplicable, message);
    }
    match scope.as_str() {
        "Instance" => source,
        "Platform" => SecretSource::PerPlatform,
        other => {
            let message = format!("`{}` is not a scope of a secret", shown(other));
            faults.add_with(&here, Code::InvalidValue, message, || {
                suggestion(other, &["Instance", "Platform"])
            });
            source
        }
    }
}

fn max_age(wire: &wire::Secret, at: &Path<'_>, faults: &mut Collector<'_>) -> Option<Duration> {
    let text = wire.max_age.as_deref()?;
    let here = at.field("MaxAge");
    if !wire.user_defined {
        let message = "only a value that a user uploads grows too old; others are rotated";
        faults.hint(&here, Code::NotApplicable, message, "`bailey secret rotate` makes a new value");
    }
    let age = encoding::span(text);
    if age.is_none() {
        let message = format!("`{}` is not a time of at most 365 days", shown(text));
        faults.hint(&here, Code::InvalidValue, message, "write `30d`; units are m, h and d");
    }
    age
}

/// A secret in a store is neither made here nor uploaded, and has no parts.
fn stored(
    wire: &wire::Secret,
    document: &wire::Document,
    at: &Path<'_>,
    faults: &mut Collector<'_>,
) -> Option<SecretSource> {
    for (field, given) in [("UserDefined", wire.user_defined), ("Shared", wire.shared)] {
        if given {
            let message = "the value of this secret comes from a store";
            faults.hint(&at.field(field), Code::Conflict, message, "remove it, or `Store`");
        }
    }
    if wire.scope.is_some() {
        let message = "all Marbles have one value of this secret";
        faults.add(&at.field("Scope"), Code::NotApplicable, message);
    }
    if shape(&wire.kind) == Some(Shape::Certificate) {
        let message = "certificates do not come from stores";
        faults.hint(
            &at.field("Type"),
            Code::NotApplicable,
            message,
            "use `plain`, with the PEM as its value",
        );
    }
    let place = wire.store.as_deref()?;
    let place = store::place(place, &document.secret_stores, &at.field("Store"), faults);
    place.map(Box::new).map(SecretSource::Stored)
}

fn kind(wire: &wire::Secret, at: &Path<'_>, faults: &mut Collector<'_>) -> Option<SecretKind> {
    for (field, value) in [("Private", &wire.private), ("Public", &wire.public)] {
        if value.is_some() {
            let message = "the manifest is public, so a value in it is no secret";
            faults.hint(&at.field(field), Code::Unsafe, message, "upload it as a user-defined secret");
        }
    }
    let Some(shape) = shape(&wire.kind) else {
        const KNOWN: [&str; 5] = ["symmetric-key", "plain", "cert-rsa", "cert-ecdsa", "cert-ed25519"];
        let message = format!("`{}` is not a type of secret", shown(&wire.kind));
        faults.add_with(&at.field("Type"), Code::InvalidValue, message, || suggestion(&wire.kind, &KNOWN));
        return None;
    };
    if shape == Shape::Certificate {
        return certificate::resolve(wire, at, faults)
            .map(|secret| SecretKind::Certificate(Box::new(secret)));
    }
    for (field, given) in [("Cert", wire.certificate.is_some()), ("ValidFor", wire.valid_for != 0)] {
        if given {
            faults.add(&at.field(field), Code::NotApplicable, "only secrets of a cert type have this");
        }
    }
    if shape == Shape::Plain { plain(wire, at, faults) } else { symmetric(wire, at, faults) }
}

fn plain(wire: &wire::Secret, at: &Path<'_>, faults: &mut Collector<'_>) -> Option<SecretKind> {
    if wire.size != 0 {
        faults.add(
            &at.field("Size"),
            Code::NotApplicable,
            "a plain secret has the size that its user gives it",
        );
    }
    if !wire.user_defined && wire.store.is_none() {
        let message = "the coordinator cannot make up a plain secret";
        let hint = "add `UserDefined: true` or `Store`, or use `symmetric-key`";
        faults.hint(at, Code::Missing, message, hint);
    }
    Some(SecretKind::Plain)
}

fn symmetric(wire: &wire::Secret, at: &Path<'_>, faults: &mut Collector<'_>) -> Option<SecretKind> {
    let bytes = (wire.size.is_multiple_of(8) && wire.size <= MAX_KEY_BYTES * 8)
        .then(|| u32::try_from(wire.size / 8).ok().and_then(NonZeroU32::new))
        .flatten();
    if bytes.is_none() {
        let message =
            format!("the size of a symmetric key is a multiple of 8 bits, from 8 to {}", MAX_KEY_BYTES * 8);
        faults.hint(&at.field("Size"), Code::InvalidValue, message, "256 fits most ciphers");
    }
    Some(SecretKind::SymmetricKey { bytes: bytes? })
}

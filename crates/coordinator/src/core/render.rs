//! Templates to parameters: every value that one instance's parameters refer to, and nothing else.

use std::collections::BTreeMap;

use appraisal::UnixTime;
use attested_tls::key::sha256;
use manifest::{
    Generation, KeyPart, Marble, Reference, Rendered, Secret, SecretKind, SecretName, SecretPart,
    SecretSource, Values,
};
use x509_parser::prelude::{FromDer, X509Certificate};

use super::{Mesh, Refusal, SecretValue, State, secrets, stored::Stored};

/// What an instance has of its own.
pub(super) struct Own<'a> {
    /// By which its secrets are derived.
    pub(super) instance: &'a [u8; 32],
    /// DER.
    pub(super) certificate: &'a [u8],
    /// DER `SubjectPublicKeyInfo`.
    pub(super) public_key: &'a [u8],
    /// PKCS #8; absent where the key never left the instance.
    pub(super) private_key: Option<&'a [u8]>,
}

/// Parameters, and the values that were made for this instance.
pub(super) struct Parameters<'a> {
    pub(super) rendered: Rendered,
    values: Known<'a>,
}

impl Parameters<'_> {
    /// Certificate and key of a secret.
    pub(super) fn certificate(&self, name: &SecretName) -> Result<(&[u8], &[u8]), Refusal> {
        let part = |part| {
            let reference = Reference::Secret {
                generation: Generation::Current,
                name: name.clone(),
                part: SecretPart::Of(part),
            };
            self.values.value(&reference)
        };
        part(KeyPart::Certificate).zip(part(KeyPart::Private)).ok_or_else(|| Refusal::Parameters {
            marble: self.values.marble.to_owned(),
            reason: format!("there is no value for secret {name:?} yet"),
        })
    }
}

pub(super) fn render<'a>(
    state: &'a State,
    mesh: &'a Mesh,
    marble: &'a Marble,
    own: &'a Own<'a>,
    stored: &'a Stored,
    now: UnixTime,
) -> Result<Parameters<'a>, Refusal> {
    let mut values = Known { state, mesh, own, stored, marble: marble.name.as_str(), made: BTreeMap::new() };
    let wanted = marble.parameters.references().filter_map(|reference| match reference {
        Reference::Secret { generation, name, .. } => Some((*generation, name)),
        _ => None,
    });
    let served = marble.tls.iter().flat_map(|tag| &tag.incoming);
    let served = served.filter_map(|entry| Some((Generation::Current, entry.certificate.as_ref()?)));
    for (generation, name) in wanted.chain(served) {
        let Some(secret) = mesh.manifest().secrets().get(name) else { continue };
        if secret.source == SecretSource::PerInstance
            && let Some(value) = make(state, mesh, marble, own, (secret, generation), now)?
        {
            // One secret is one value, in however many places; the previous one is its own.
            values.made.entry((name.clone(), generation)).or_insert(value);
        }
    }
    let refused = |reason: String| Refusal::Parameters { marble: marble.name.to_string(), reason };
    let rendered =
        marble.parameters.render(&values).map_err(|error| refused(format!("{error}: {}", error.source)))?;
    Ok(Parameters { rendered, values })
}

/// A value for one instance: keys follow from the root secret and stay the same, certificates are new.
fn make(
    state: &State,
    mesh: &Mesh,
    marble: &Marble,
    own: &Own<'_>,
    (secret, generation): (&Secret, Generation),
    now: UnixTime,
) -> Result<Option<SecretValue>, Refusal> {
    let SecretKind::SymmetricKey { bytes } = &secret.kind else {
        return secrets::fresh(secret, mesh.intermediate(), now);
    };
    let root = match generation {
        Generation::Current => state.root_secret(),
        Generation::Previous => mesh.previous_root_secret().unwrap_or(state.root_secret()),
    };
    let value =
        secrets::derive(root, &secret.name, bytes.get() as usize, marble.name.as_str(), own.instance)?;
    Ok(Some(SecretValue::Bytes(value)))
}

/// What templates can refer to.
struct Known<'a> {
    state: &'a State,
    mesh: &'a Mesh,
    own: &'a Own<'a>,
    stored: &'a Stored,
    marble: &'a str,
    made: BTreeMap<(SecretName, Generation), SecretValue>,
}

impl Known<'_> {
    fn stored_secret(&self, name: &SecretName) -> Option<&Secret> {
        let secret = self.mesh.manifest().secrets().get(name);
        secret.filter(|secret| matches!(secret.source, SecretSource::Stored(_)))
    }
}

impl Values for Known<'_> {
    fn value(&self, reference: &Reference) -> Option<&[u8]> {
        match reference {
            Reference::RootCa => Some(self.mesh.marble_root()),
            Reference::CoordinatorIntermediate => Some(self.mesh.intermediate().certificate()),
            Reference::CoordinatorRoot => Some(self.state.root().certificate()),
            Reference::MarbleCertificate(KeyPart::Certificate) => Some(self.own.certificate),
            Reference::MarbleCertificate(KeyPart::Public) => Some(self.own.public_key),
            Reference::MarbleCertificate(KeyPart::Private) => self.own.private_key,
            Reference::Secret { generation, name, part } => {
                // Never a value that was uploaded under the same name before the secret was moved to a store.
                if let Some(secret) = self.stored_secret(name) {
                    return self.stored.value(self.mesh, secret).ok()?.part(*part);
                }
                let made = self.made.get(&(name.clone(), *generation));
                made.or_else(|| match generation {
                    Generation::Current => self.mesh.secret(name.as_str()),
                    Generation::Previous => self.mesh.previous(name.as_str()),
                })?
                .part(*part)
            }
        }
    }
}

/// DER `SubjectPublicKeyInfo` of a certificate.
pub(super) fn public_key(certificate: &[u8]) -> Result<Vec<u8>, Refusal> {
    let unreadable = |_| Refusal::Internal("a certificate of our own cannot be read".into());
    let (_, parsed) = X509Certificate::from_der(certificate).map_err(unreadable)?;
    Ok(parsed.public_key().raw.to_vec())
}

/// The instance that a Marble's certificate is of: by its key, and for native programs by their UUID.
pub(super) fn instance_of_certificate(certificate: &[u8]) -> Result<[u8; 32], Refusal> {
    let (_, parsed) = X509Certificate::from_der(certificate).map_err(|_| Refusal::NotAMarble)?;
    let native = parsed.extensions().iter().any(|extension| extension.oid.to_id_string() == "1.3.9903.2.1");
    if !native {
        return Ok(sha256(parsed.public_key().raw));
    }
    let name = parsed.subject().iter_common_name().next().and_then(|name| name.as_str().ok());
    let uuid = name.and_then(|name| name.split(' ').next()).ok_or(Refusal::NotAMarble)?;
    Ok(uuid_instance(uuid))
}

/// The instance that a host calls by this UUID.
pub(super) fn uuid_instance(uuid: &str) -> [u8; 32] {
    sha256(&[b"bailey/uuid/1", uuid.as_bytes()].concat())
}

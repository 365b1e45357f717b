//! Templates to parameters: every value that one instance's parameters refer to, and nothing else.

use std::collections::{BTreeMap, btree_map::Entry};

use appraisal::UnixTime;
use attested_tls::key::sha256;
use manifest::{
    Generation, KeyPart, Marble, Reference, Rendered, Secret, SecretKind, SecretName, SecretPart,
    SecretSource, Values,
};
use x509_parser::prelude::{FromDer, X509Certificate};

use super::{
    Mesh, Refusal, SecretValue, State,
    event::{Delivery, Issued, Seat},
    instances::{Delivered, add},
    machine, secrets,
    stored::Stored,
};
use crate::authority;

/// What an instance has of its own.
pub(super) struct Own<'a> {
    /// By which its secrets are derived.
    pub(super) instance: &'a [u8; 32],
    /// Where it runs.
    pub(super) seat: &'a Seat,
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
    /// Of which secrets there is more in it than what is public.
    pub(super) delivered: Delivered,
    /// Certificates that were made for this instance alone.
    pub(super) issued: Vec<Issued>,
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
    let mut values = Known {
        state,
        mesh,
        own,
        stored,
        marble: marble.name.as_str(),
        made: BTreeMap::new(),
        kept: BTreeMap::new(),
    };
    let wanted = marble.parameters.references().filter_map(|reference| match reference {
        Reference::Secret { generation, name, part } => Some((*generation, name, *part)),
        _ => None,
    });
    let served = marble.tls.iter().flat_map(|tag| &tag.incoming);
    let key = SecretPart::Of(KeyPart::Private);
    let served = served.filter_map(|entry| Some((Generation::Current, entry.certificate.as_ref()?, key)));
    let (mut delivered, mut issued) = (Delivered::new(), Vec::new());
    for (generation, name, part) in wanted.chain(served) {
        let Some(secret) = mesh.manifest().secrets().get(name) else { continue };
        let delivery = if matches!(secret.source, SecretSource::PerInstance | SecretSource::PerPlatform) {
            // One secret is one value, in however many places; the previous one is its own.
            if let Entry::Vacant(place) = values.made.entry((name.clone(), generation))
                && let Some(value) = make(state, mesh, marble, own, (secret, generation), now)?
            {
                if let SecretValue::Certificate { certificate, .. } = &value {
                    issued.push(authority::issued(certificate)?);
                }
                place.insert(value);
            }
            Delivery::Own
        } else if matches!(secret.source, SecretSource::Stored(_)) {
            Delivery::Stored
        } else {
            let Some(version) = secrets::deliverable(mesh, secret, generation, now)? else { continue };
            let Some(value) = &version.value else { continue };
            values.kept.insert((name.clone(), generation), value);
            Delivery::Versions([version.number].into())
        };
        let public = matches!(secret.kind, SecretKind::Certificate(_)) && part != key;
        if !public {
            add(&mut delivered, name.as_str(), &delivery);
        }
    }
    let refused = |reason: String| Refusal::Parameters { marble: marble.name.to_string(), reason };
    let rendered =
        marble.parameters.render(&values).map_err(|error| refused(format!("{error}: {}", error.source)))?;
    Ok(Parameters { rendered, delivered, issued, values })
}

/// A value for one instance, or for one Marble on one machine: keys follow from the root secret and stay the same,
/// certificates are new.
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
    let name = marble.name.as_str();
    let no_machine = || Refusal::NoMachine {
        marble: name.to_owned(),
        secret: secret.name.to_string(),
        platform: own.seat.platform,
    };
    let whose = match (&secret.source, &own.seat.machine) {
        (SecretSource::PerPlatform, Some(machine)) => secrets::Whose::Seat(machine::seat(machine, name)),
        (SecretSource::PerPlatform, None) => return Err(no_machine()),
        // The host chooses the UUID, so without a machine there is nothing that it does not choose.
        (_, None) if own.seat.native => return Err(no_machine()),
        _ => secrets::Whose::Instance(*own.instance),
    };
    let turn = mesh.revocations().turn(whose.key());
    let (root, turn) = match generation {
        Generation::Current => (state.root_secret(), turn.count),
        Generation::Previous if turn.latest => (state.root_secret(), turn.count.saturating_sub(1)),
        Generation::Previous => (mesh.previous_root_secret().unwrap_or(state.root_secret()), turn.count),
    };
    let value = secrets::derive(root, &secret.name, bytes.get() as usize, name, &whose, turn)?;
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
    kept: BTreeMap<(SecretName, Generation), &'a SecretValue>,
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
                let wanted = (name.clone(), *generation);
                self.made.get(&wanted).or_else(|| self.kept.get(&wanted).copied())?.part(*part)
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

/// The instance that a Marble's certificate is of, if it was not sent away: by its key, and of native programs, whose
/// keys the coordinator makes, by the certificate itself.
pub(super) fn instance_of_certificate(mesh: &Mesh, certificate: &[u8]) -> Result<[u8; 32], Refusal> {
    let (_, parsed) = X509Certificate::from_der(certificate).map_err(|_| Refusal::NotAMarble)?;
    let serial: [u8; 16] = parsed.raw_serial().try_into().map_err(|_| Refusal::NotAMarble)?;
    if mesh.revocations().is_revoked(&serial) {
        return Err(Refusal::NotAMarble);
    }
    let native = parsed.extensions().iter().any(|extension| extension.oid.to_id_string() == "1.3.9903.2.1");
    if !native {
        return Ok(sha256(parsed.public_key().raw));
    }
    mesh.known_instances().of_serial(&serial).copied().ok_or(Refusal::NotAMarble)
}

#[cfg(test)]
mod tests {
    use attested_tls::key::TeeKey;
    use evidence::Platform;
    use serde_json::json;
    use testkit::tee::NOW;

    use super::*;
    use crate::core::{Caller, IdentityKey, NewKeys, Undecided, found, set_manifest};

    /// A cloud's key signs for all of its machines: which one it is, the host could choose.
    #[test]
    fn s46_nothing_is_derived_for_a_machine_that_the_evidence_does_not_name() {
        let manifest = json!({
            "Packages": { "p": { "Measurements": { "Snp": "2b".repeat(48) } } },
            "Platforms": { "Snp": {} },
            "Marbles": {
                "disk": { "Package": "p", "Parameters": { "Env": { "K": "{{ hex .Secrets.disk }}" } } },
                "own": { "Package": "p", "Parameters": { "Env": { "K": "{{ hex .Secrets.own }}" } } },
            },
            "Secrets": {
                "disk": { "Type": "symmetric-key", "Size": 256, "Scope": "Platform" },
                "own": { "Type": "symmetric-key", "Size": 256 },
            },
        });
        let identity = IdentityKey::generate().unwrap();
        let state = State::begin(found(true, &identity, NOW).unwrap(), identity).unwrap();
        let owner = TeeKey::generate().unwrap();
        let caller = Caller::by_certificate(owner.certificate().to_vec());
        let bytes = manifest.to_string().into_bytes();
        let decide =
            |keys: Option<&NewKeys>| set_manifest(&state, owner.digest(), &caller, &bytes, NOW, keys);
        let Err(Undecided::Needs(need)) = decide(None) else { panic!("keys are needed") };
        let Ok((event, _)) = decide(Some(&need.make(NOW).unwrap())) else { panic!("these keys are needed") };
        let state = state.step(event).unwrap();
        let mesh = state.mesh().unwrap();
        let given = |marble: &str, machine: Option<&str>, native| {
            let machine = machine.map(str::to_owned);
            let seat = Seat { platform: Platform::Snp, machine, emulated: false, native };
            let own =
                Own { instance: &[1; 32], seat: &seat, certificate: &[], public_key: &[], private_key: None };
            let marble = mesh.manifest().marble(marble).unwrap();
            render(&state, mesh, marble, &own, &Stored::default(), NOW)
                .map(|_| ())
                .map_err(|refusal| refusal.code())
        };
        assert_eq!(given("disk", None, false), Err("MACHINE_NOT_PROVEN"));
        assert_eq!(given("disk", Some("snp:01"), false), Ok(()));
        // A Keep's key is its own; the UUID of a native program is its host's choice.
        assert_eq!(given("own", None, false), Ok(()));
        assert_eq!(given("own", None, true), Err("MACHINE_NOT_PROVEN"));
        assert_eq!(given("own", Some("snp:01"), true), Ok(()));
    }
}

//! Secrets whose values lie in stores outside: which ones a decision needs, and with what the coordinator may ask for
//! them. Values are fetched by the service before the decision, and are an input of it; nothing here waits.

use std::collections::{BTreeMap, BTreeSet};

use attested_tls::{channel::AttestedPeer, service::UserIdentity};
use manifest::{
    Action, Marble, Reference, Secret, SecretKind, SecretName, SecretSource, StoreName, StoredAt, User,
};
use rustls::pki_types::PrivatePkcs8KeyDer;
use secret_store::{Credential, Fetched, StoreError};

use super::{Caller, Mesh, NativePeer, Refusal, SecretValue, State, activation, native, secrets};

/// What was fetched for one decision.
#[derive(Clone, Default)]
pub struct Stored {
    /// By whose manifest: of another one the same names may mean other places.
    epoch: u64,
    values: BTreeMap<SecretName, SecretValue>,
}

impl Stored {
    /// Nothing yet, for a decision by this manifest.
    pub fn new(mesh: &Mesh) -> Self {
        Self { epoch: mesh.epoch(), values: BTreeMap::new() }
    }

    /// Takes a value, if it is what the manifest says of its secret.
    pub fn insert(&mut self, secret: &Secret, fetched: &Fetched) -> Result<(), Refusal> {
        if let SecretKind::SymmetricKey { bytes } = &secret.kind
            && fetched.value.len() != bytes.get() as usize
        {
            return Err(refused(secret, StoreError::Malformed("the value has not the key's declared size")));
        }
        self.values.insert(secret.name.clone(), SecretValue::Bytes(fetched.value.clone()));
        Ok(())
    }

    pub(super) fn value(&self, mesh: &Mesh, secret: &Secret) -> Result<&SecretValue, Refusal> {
        let value = self.values.get(&secret.name).filter(|_| self.epoch == mesh.epoch());
        value.ok_or_else(|| {
            refused(secret, StoreError::Unreachable("another manifest has come into force meanwhile"))
        })
    }
}

/// Where a secret lies outside, if it does.
pub fn stored_at(secret: &Secret) -> Option<&StoredAt> {
    match &secret.source {
        SecretSource::Stored(at) => Some(at),
        _ => None,
    }
}

/// That a stored secret cannot be had.
pub fn refused(secret: &Secret, error: StoreError) -> Refusal {
    Refusal::SecretStore {
        secret: secret.name.to_string(),
        store: stored_at(secret).map(|at| at.store.to_string()).unwrap_or_default(),
        error,
    }
}

/// The stored secrets that an attested peer's activation needs, if it could be activated at all.
pub fn stored_for(state: &State, peer: &AttestedPeer, appraised_in: u64) -> Result<Vec<SecretName>, Refusal> {
    activation::could_activate(state, peer, appraised_in).map(|(mesh, marble)| of_marble(mesh, marble))
}

/// As [`stored_for`], for a native program.
pub fn stored_for_native(state: &State, peer: &NativePeer<'_>) -> Result<Vec<SecretName>, Refusal> {
    native::could_activate(state, peer).map(|(mesh, marble)| of_marble(mesh, marble))
}

/// The stored secrets among those that a user reads, if the user may read all of them.
pub fn stored_for_reader(
    state: &State,
    caller: &Caller,
    names: &[String],
) -> Result<Vec<SecretName>, Refusal> {
    let read = secrets::readable(state, caller, names)?;
    Ok(read
        .into_iter()
        .filter(|secret| stored_at(secret).is_some())
        .map(|secret| secret.name.clone())
        .collect())
}

fn of_marble(mesh: &Mesh, marble: &Marble) -> Vec<SecretName> {
    let names = marble.parameters.references().filter_map(|reference| match reference {
        Reference::Secret { name, .. } => mesh.manifest().secrets().get(name),
        _ => None,
    });
    let names: BTreeSet<_> =
        names.filter(|secret| stored_at(secret).is_some()).map(|secret| &secret.name).collect();
    names.into_iter().cloned().collect()
}

/// With what the coordinator authenticates itself to a store.
pub fn credential(mesh: &Mesh, store: &manifest::SecretStore) -> Result<Credential, StoreError> {
    let name = store.credential();
    match mesh.secret(name.as_str()) {
        None => Err(StoreError::Credential("nobody has uploaded it yet")),
        Some(SecretValue::Bytes(text)) => Ok(Credential::Text(text.clone())),
        Some(SecretValue::Certificate { private, .. }) if private.is_empty() => {
            Err(StoreError::Credential("it was uploaded without its key"))
        }
        Some(SecretValue::Certificate { certificate, private, .. }) => {
            let mut chain = vec![certificate.clone().into()];
            if mesh.manifest().secrets().get(name).is_some_and(|secret| secret.source == SecretSource::Shared)
            {
                chain.push(mesh.intermediate().certificate().clone());
            }
            let key = PrivatePkcs8KeyDer::from(private.to_vec()).into();
            Ok(Credential::Certificate(UserIdentity { chain, key }))
        }
    }
}

/// The stores whose state is a user's business: all, for those who take part in updates; and those that keep what the
/// user may read, or that take the credential that the user may write.
pub fn visible_stores(state: &State, caller: &Caller) -> Result<Vec<StoreName>, Refusal> {
    let mesh = state.running()?;
    let user = secrets::user(mesh, caller)?;
    let stores = mesh.manifest().stores();
    let seen: Vec<_> = stores.keys().filter(|name| sees(mesh, user, name)).cloned().collect();
    if seen.is_empty() && (!stores.is_empty() || !user.may_update()) {
        return Err(Refusal::NotAllowed {
            user: user.name.to_string(),
            action: "a look at any secret store",
        });
    }
    Ok(seen)
}

fn sees(mesh: &Mesh, user: &User, store: &StoreName) -> bool {
    let credential = mesh.manifest().stores().get(store).map(manifest::SecretStore::credential);
    let lies_there = |secret: &&Secret| stored_at(secret).is_some_and(|at| at.store == *store);
    user.may_update()
        || credential.is_some_and(|name| user.may(Action::WriteSecret, name))
        || mesh
            .manifest()
            .secrets()
            .values()
            .filter(lies_there)
            .any(|secret| user.may(Action::ReadSecret, &secret.name))
}

//! Sending a lost node away: what could it have read, and what must be made anew so that this is worth nothing. First
//! only named; then, in one event, the instances never come back, their certificates count no more, and exactly the
//! generated secrets that they have the current value of are rotated.

use std::collections::{BTreeMap, BTreeSet};

use appraisal::UnixTime;
use manifest::{InstanceAction, Secret, SecretSource, User};
use serde::Serialize;
use serde_bytes::ByteArray;

use super::{
    Caller, Delivery, Event, EvictedInstance, Issued, Mesh, Refusal, State, event,
    instances::{Delivered, Instance},
    inventory::{self, InstanceLine},
    machine,
    rotation::Made,
    secrets,
};
use crate::authority;

/// Who is to go.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Target {
    /// One instance, by the digest that it is listed by.
    Instance([u8; 32]),
    /// All that runs on a machine, and all that ever will.
    Machine(String),
}

/// What an eviction does to a secret.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(tag = "fate", rename_all = "camelCase", rename_all_fields = "camelCase")]
pub enum Fate {
    /// A new version is made; the one that was read becomes the previous one.
    Rotated {
        /// The new version.
        to: u64,
    },
    /// A newer version than the one that was read is there already.
    Superseded {
        /// The current version.
        by: u64,
    },
    /// A user uploaded it and must upload another.
    MustBeReplaced,
    /// It lies in a store outside, where someone must replace it.
    InStore,
    /// It was the instance's alone; what is derived for it, should it ever come back, is another.
    Own,
}

/// A secret that could have been read.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Exposed {
    /// Its name.
    pub name: String,
    /// MarbleRun's word for its type.
    pub kind: &'static str,
    /// Which versions; none of what is the instance's own.
    pub versions: BTreeSet<u64>,
    /// What becomes of it.
    #[serde(flatten)]
    pub fate: Fate,
}

/// All that an eviction is about.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Found {
    /// The machine, where all on it goes.
    pub machine: Option<String>,
    /// Instances that have certificates.
    pub instances: Vec<InstanceLine>,
    /// Marbles that ran there, also earlier.
    pub marbles: BTreeSet<String>,
    /// What could have been read.
    pub secrets: Vec<Exposed>,
    /// How many certificates count no more.
    pub certificates: usize,
    #[serde(skip)]
    effects: Effects,
}

#[derive(Default)]
struct Effects {
    evicted: Vec<([u8; 32], String)>,
    certificates: Vec<Issued>,
    turned: BTreeSet<[u8; 32]>,
}

/// New values, made for an eviction before it is decided.
pub struct Eviction {
    target: Target,
    withheld: bool,
    made: Made,
}

/// Names what `target` could have read, for a user whom the manifest grants `EvictInstance` on it: on the Marble, or,
/// of a machine, on all Marbles, for none of them will run there.
pub fn exposed(state: &State, caller: &Caller, target: &Target, now: UnixTime) -> Result<Found, Refusal> {
    let mesh = state.running()?;
    let user = secrets::user(mesh, caller)?;
    match target {
        Target::Instance(key) => {
            let known = mesh.known_instances().get(key).ok_or_else(|| unknown(mesh, key))?;
            granted(user, &known.marble)?;
            Ok(of_instance(mesh, key, known, now))
        }
        Target::Machine(machine) => {
            mesh.manifest().marbles().keys().try_for_each(|marble| granted(user, marble.as_str()))?;
            of_machine(mesh, machine, now)
        }
    }
}

fn granted(user: &User, marble: &str) -> Result<(), Refusal> {
    if user.may_on(InstanceAction::EvictInstance, marble) {
        return Ok(());
    }
    Err(Refusal::NotGranted {
        user: user.name.to_string(),
        action: "EvictInstance",
        resource: format!("Marble {marble:?}"),
    })
}

fn unknown(mesh: &Mesh, key: &[u8; 32]) -> Refusal {
    let instance = hex::encode(key);
    match mesh.revocations().instances().find(|(evicted, _)| *evicted == key) {
        Some((_, revocation)) => Refusal::Evicted { what: format!("instance {instance}"), at: revocation.at },
        None => Refusal::UnknownInstance { instance },
    }
}

fn of_instance(mesh: &Mesh, key: &[u8; 32], known: &Instance, now: UnixTime) -> Found {
    let mut effects = Effects::default();
    leave(mesh, (key, known), &mut effects, now);
    let marble = known.marble.to_string();
    let mut exposures = Exposures::default();
    exposures.add(mesh, (&marble, known.seat.machine.as_deref()), &known.delivered, &mut effects);
    let instances = vec![inventory::instance(key, known)];
    exposures.found(mesh, (None, instances, [marble].into()), effects)
}

fn of_machine(mesh: &Mesh, machine: &str, now: UnixTime) -> Result<Found, Refusal> {
    let mut effects = Effects::default();
    let (mut instances, mut marbles, mut exposures) = (Vec::new(), BTreeSet::new(), Exposures::default());
    let there = mesh.known_instances().iter();
    for (key, known) in there.filter(|(_, known)| known.seat.machine.as_deref() == Some(machine)) {
        leave(mesh, (key, known), &mut effects, now);
        exposures.add(mesh, (&known.marble, Some(machine)), &known.delivered, &mut effects);
        instances.push(inventory::instance(key, known));
        marbles.insert(known.marble.to_string());
    }
    for (marble, delivered) in mesh.readers().on(machine) {
        exposures.add(mesh, (marble, Some(machine)), delivered, &mut effects);
        marbles.insert(marble.to_owned());
    }
    if marbles.is_empty() {
        return Err(match mesh.revocations().machines().find(|(evicted, _)| *evicted == machine) {
            Some((_, revocation)) => Refusal::Evicted { what: machine.to_owned(), at: revocation.at },
            None => Refusal::UnknownMachine { machine: machine.to_owned() },
        });
    }
    effects.turned.insert(machine::key(machine));
    Ok(exposures.found(mesh, (Some(machine.to_owned()), instances, marbles), effects))
}

/// What goes with an instance itself.
fn leave(mesh: &Mesh, (key, known): (&[u8; 32], &Instance), effects: &mut Effects, now: UnixTime) {
    effects.evicted.push((*key, known.marble.to_string()));
    effects.certificates.extend(mesh.known_instances().certificates_of(key, now.0));
    effects.turned.insert(*key);
}

/// Secrets by name, with the versions that were read.
#[derive(Default)]
struct Exposures(BTreeMap<String, BTreeSet<u64>>);

impl Exposures {
    fn add(
        &mut self,
        mesh: &Mesh,
        (marble, machine): (&str, Option<&str>),
        delivered: &Delivered,
        effects: &mut Effects,
    ) {
        for (name, delivery) in delivered {
            let versions = self.0.entry(name.clone()).or_default();
            match delivery {
                Delivery::Versions(read) => versions.extend(read),
                Delivery::Stored => {}
                Delivery::Own => {
                    let source = mesh.manifest().secrets().get(name.as_str()).map(|secret| &secret.source);
                    if let (Some(SecretSource::PerPlatform), Some(machine)) = (source, machine) {
                        effects.turned.insert(machine::seat(machine, marble));
                    }
                }
            }
        }
    }

    fn found(
        self,
        mesh: &Mesh,
        (machine, instances, marbles): (Option<String>, Vec<InstanceLine>, BTreeSet<String>),
        mut effects: Effects,
    ) -> Found {
        let mut secrets = Vec::new();
        for (name, versions) in self.0 {
            // What the manifest does not have any more is used by nobody.
            let Some(secret) = mesh.manifest().secrets().get(name.as_str()) else { continue };
            let fate = fate(mesh, secret, &versions);
            if let (Fate::Rotated { .. }, Some(issued)) = (&fate, certificate(mesh, &name)) {
                effects.certificates.push(issued);
            }
            secrets.push(Exposed { name, kind: secret.kind.as_str(), versions, fate });
        }
        Found { machine, instances, marbles, secrets, certificates: effects.certificates.len(), effects }
    }
}

fn fate(mesh: &Mesh, secret: &Secret, versions: &BTreeSet<u64>) -> Fate {
    let name = secret.name.as_str();
    match (&secret.source, mesh.kept(name)) {
        (SecretSource::Stored(_), _) => Fate::InStore,
        (SecretSource::PerInstance | SecretSource::PerPlatform, _) | (_, None) => Fate::Own,
        (_, Some(kept)) if !versions.contains(&kept.current.number) => {
            Fate::Superseded { by: kept.current.number }
        }
        (SecretSource::UserDefined, _) => Fate::MustBeReplaced,
        (SecretSource::Shared, _) => Fate::Rotated { to: mesh.secrets().next(name) },
    }
}

/// The current certificate of a secret, if it is one of ours.
fn certificate(mesh: &Mesh, name: &str) -> Option<Issued> {
    match mesh.secret(name)? {
        super::SecretValue::Certificate { certificate, .. } => authority::issued(certificate).ok(),
        super::SecretValue::Bytes(_) => None,
    }
}

/// Makes the new values that the eviction of `target` takes. `withheld`: uploaded secrets that it could have read are
/// delivered no more, until their users replace them.
pub fn prepare_eviction(
    state: &State,
    caller: &Caller,
    target: &Target,
    withheld: bool,
    now: UnixTime,
) -> Result<Eviction, Refusal> {
    let found = exposed(state, caller, target, now)?;
    let mesh = state.running()?;
    let rotated = found.secrets.iter().filter(|exposed| matches!(exposed.fate, Fate::Rotated { .. }));
    let wanted = rotated.filter_map(|exposed| mesh.manifest().secrets().get(exposed.name.as_str()));
    Ok(Eviction { target: target.clone(), withheld, made: Made::new(mesh, wanted, now)? })
}

impl Eviction {
    /// The event, if on the newest state the user may still have it, and what it is about.
    pub fn admit(&self, state: &State, caller: &Caller, now: UnixTime) -> Result<(Event, Found), Refusal> {
        let mut found = exposed(state, caller, &self.target, now)?;
        let mesh = state.running()?;
        let of =
            |wanted: fn(&Fate) -> bool| found.secrets.iter().filter(move |exposed| wanted(&exposed.fate));
        let rotated = of(|fate| matches!(fate, Fate::Rotated { .. })).map(|exposed| exposed.name.clone());
        let generated = self.made.take(mesh, rotated)?;
        let replaced = of(|fate| matches!(fate, Fate::MustBeReplaced));
        let current = |exposed: &Exposed| mesh.kept(&exposed.name).map(|kept| kept.current.number);
        let exposed = replaced.filter_map(|it| Some((it.name.clone(), current(it)?))).collect();
        let effects = std::mem::take(&mut found.effects);
        let event = Event::Evicted {
            user: secrets::user(mesh, caller)?.name.to_string(),
            machine: found.machine.clone(),
            instances: effects
                .evicted
                .into_iter()
                .map(|(key, marble)| EvictedInstance { instance: ByteArray::new(key), marble })
                .collect(),
            certificates: effects.certificates,
            generated,
            turned: effects.turned.into_iter().map(ByteArray::new).collect(),
            exposed,
            withheld: self.withheld,
            at: event::seconds(now),
        };
        Ok((event, found))
    }
}

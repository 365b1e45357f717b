//! Who was sent away, and what machines could have read: both outlast epochs, snapshots and recoveries. Whoever was
//! evicted comes back by an update of the manifest that names it, and by nothing else.

use std::{collections::BTreeMap, sync::Arc};

use rpds::RedBlackTreeMapSync;
use serde::{Deserialize, Serialize};
use serde_bytes::ByteArray;

use super::{
    Refusal,
    event::{Delivery, EvictedInstance, Issued, Seat},
    instances::{Delivered, Serial, covers, together},
};

/// Instances and machines that were evicted, and certificates that count no more.
#[derive(Clone, Default)]
pub struct Revocations {
    /// How often the lists changed.
    changes: u64,
    instances: RedBlackTreeMapSync<[u8; 32], Arc<Revocation>>,
    machines: RedBlackTreeMapSync<String, Arc<Revocation>>,
    /// Until when they would count, and of which epoch they are.
    certificates: RedBlackTreeMapSync<Serial, (i64, u64)>,
    /// How often the secrets of someone were derived anew.
    turns: RedBlackTreeMapSync<[u8; 32], Turn>,
}

/// From what secrets are derived, beside the root secret.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Turn {
    /// How often they were derived anew, for this one.
    pub(super) count: u64,
    /// Whether that was after the last rotation of the root secret.
    pub(super) latest: bool,
}

/// By whom, when.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Revocation {
    /// The user.
    pub user: String,
    /// Seconds.
    pub at: i64,
    /// Of an instance: its Marble.
    pub marble: Option<String>,
}

impl Revocations {
    /// How often the lists changed.
    pub fn changes(&self) -> u64 {
        self.changes
    }

    /// Instances, by the digest of their key.
    pub fn instances(&self) -> impl Iterator<Item = (&[u8; 32], &Revocation)> {
        self.instances.iter().map(|(key, revocation)| (key, revocation.as_ref()))
    }

    /// Machines, by name.
    pub fn machines(&self) -> impl Iterator<Item = (&str, &Revocation)> {
        self.machines.iter().map(|(name, revocation)| (name.as_str(), revocation.as_ref()))
    }

    /// Serial numbers of certificates that would still count at `now` (seconds), with their end and epoch.
    pub fn certificates(&self, now: i64) -> impl Iterator<Item = (&[u8; 16], i64, u64)> {
        let live = self.certificates.iter().filter(move |(_, (until, _))| *until > now);
        live.map(|(serial, (until, epoch))| (serial, *until, *epoch))
    }

    pub(super) fn is_revoked(&self, serial: &Serial) -> bool {
        self.certificates.contains_key(serial)
    }

    /// Whether this instance may come, and whatever runs there.
    pub(super) fn admit(&self, instance: &[u8; 32], seat: &Seat) -> Result<(), Refusal> {
        if let Some(machine) = &seat.machine
            && let Some(revocation) = self.machines.get(machine)
        {
            return Err(Refusal::Evicted { what: machine.clone(), at: revocation.at });
        }
        match self.instances.get(instance) {
            Some(revocation) => Err(Refusal::Evicted {
                what: format!("instance {}", hex::encode(instance)),
                at: revocation.at,
            }),
            None => Ok(()),
        }
    }

    /// How often what is derived for `whom` was derived anew.
    pub(super) fn turn(&self, whom: &[u8; 32]) -> Turn {
        self.turns.get(whom).copied().unwrap_or_default()
    }

    /// The root secret was rotated.
    pub(super) fn root_rotated(&mut self) {
        let turns = self.turns.iter().map(|(whom, turn)| (*whom, Turn { latest: false, ..*turn }));
        self.turns = turns.collect();
    }

    pub(super) fn evict(
        &mut self,
        (user, at, epoch): (&str, i64, u64),
        machine: Option<String>,
        instances: &[EvictedInstance],
        certificates: &[Issued],
        turned: &[ByteArray<32>],
    ) {
        self.changes += 1;
        let by = |marble: Option<&String>| {
            Arc::new(Revocation { user: user.to_owned(), at, marble: marble.cloned() })
        };
        if let Some(machine) = machine {
            self.machines.insert_mut(machine, by(None));
        }
        for evicted in instances {
            self.instances.insert_mut(evicted.instance.into_array(), by(Some(&evicted.marble)));
        }
        let ended: Vec<_> = self
            .certificates
            .iter()
            .filter(|(_, (until, _))| *until <= at)
            .map(|(serial, _)| *serial)
            .collect();
        for serial in ended {
            self.certificates.remove_mut(&serial);
        }
        for issued in certificates {
            self.certificates.insert_mut(issued.serial.into_array(), (issued.until, epoch));
        }
        for whom in turned {
            let count = self.turn(whom).count + 1;
            self.turns.insert_mut(whom.into_array(), Turn { count, latest: true });
        }
    }

    /// Lets those come back whom an update of the manifest names. Their old certificates stay revoked.
    pub(super) fn reinstate<'n>(&mut self, names: impl Iterator<Item = &'n String>) {
        for name in names {
            let mut instance = [0; 32];
            let known = match hex::decode_to_slice(name, &mut instance) {
                Ok(()) => self.instances.remove_mut(&instance),
                Err(_) => self.machines.remove_mut(name),
            };
            self.changes += u64::from(known);
        }
    }

    pub(super) fn len(&self) -> usize {
        self.instances.size() + self.machines.size() + self.certificates.size() + self.turns.size()
    }

    pub(super) fn record(&self) -> Record {
        let bytes = |key: &[u8; 32]| ByteArray::new(*key);
        Record {
            changes: self.changes,
            instances: self.instances().map(|(key, of)| (bytes(key), of.clone())).collect(),
            machines: self.machines().map(|(name, of)| (name.to_owned(), of.clone())).collect(),
            certificates: self
                .certificates
                .iter()
                .map(|(serial, (until, epoch))| (ByteArray::new(*serial), *until, *epoch))
                .collect(),
            turns: self.turns.iter().map(|(whom, turn)| (bytes(whom), *turn)).collect(),
        }
    }
}

/// All, for a snapshot.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Record {
    changes: u64,
    instances: Vec<(ByteArray<32>, Revocation)>,
    machines: BTreeMap<String, Revocation>,
    certificates: Vec<(ByteArray<16>, i64, u64)>,
    turns: Vec<(ByteArray<32>, Turn)>,
}

impl From<Record> for Revocations {
    fn from(record: Record) -> Self {
        let Record { changes, instances, machines, certificates, turns } = record;
        Self {
            changes,
            instances: instances.into_iter().map(|(key, of)| (key.into_array(), Arc::new(of))).collect(),
            machines: machines.into_iter().map(|(name, of)| (name, Arc::new(of))).collect(),
            certificates: certificates
                .into_iter()
                .map(|(serial, until, epoch)| (serial.into_array(), (until, epoch)))
                .collect(),
            turns: turns.into_iter().map(|(whom, turn)| (whom.into_array(), turn)).collect(),
        }
    }
}

/// What was ever delivered to Marbles on each machine, as far as it is still of use: also after the instances are gone.
#[derive(Clone, Default)]
pub(super) struct Readers(RedBlackTreeMapSync<(Arc<str>, Arc<str>), Arc<Delivered>>);

impl Readers {
    /// Adds a delivery; versions that `in_use` does not know any more are let go.
    pub(super) fn add(
        &mut self,
        (machine, marble): (&str, &Arc<str>),
        delivered: &Delivered,
        in_use: impl Fn(&str, u64) -> bool,
    ) {
        if delivered.is_empty() {
            return;
        }
        let place = (Arc::from(machine), marble.clone());
        let known = self.0.get_key_value(&place);
        let (place, mut all) = match known {
            Some((_, known)) if covers(known, delivered) => return,
            Some((place, known)) => (place.clone(), together(known, delivered)),
            None => (place, delivered.clone()),
        };
        all.retain(|name, delivery| match delivery {
            Delivery::Own | Delivery::Stored => true,
            Delivery::Versions(versions) => {
                versions.retain(|version| in_use(name, *version));
                !versions.is_empty()
            }
        });
        self.0.insert_mut(place, Arc::new(all));
    }

    /// What each Marble on this machine was given. Looks at all.
    pub(super) fn on<'r>(&'r self, machine: &'r str) -> impl Iterator<Item = (&'r str, &'r Delivered)> {
        let there = self.0.iter().filter(move |((seat, _), _)| &**seat == machine);
        there.map(|((_, marble), delivered)| (&**marble, delivered.as_ref()))
    }

    pub(super) fn forget(&mut self, machine: &str) {
        let marbles: Vec<_> = self.0.keys().filter(|(seat, _)| &**seat == machine).cloned().collect();
        for place in marbles {
            self.0.remove_mut(&place);
        }
    }

    pub(super) fn len(&self) -> usize {
        self.0.size()
    }

    pub(super) fn record(&self) -> Vec<(String, String, Delivered)> {
        let line = |((machine, marble), delivered): (&(Arc<str>, Arc<str>), &Arc<Delivered>)| {
            (machine.to_string(), marble.to_string(), delivered.as_ref().clone())
        };
        self.0.iter().map(line).collect()
    }
}

impl From<Vec<(String, String, Delivered)>> for Readers {
    fn from(record: Vec<(String, String, Delivered)>) -> Self {
        let place = |(machine, marble, delivered): (String, String, Delivered)| {
            ((machine.into(), marble.into()), Arc::new(delivered))
        };
        Self(record.into_iter().map(place).collect())
    }
}

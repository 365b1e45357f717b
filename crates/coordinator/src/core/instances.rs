//! The instances that have certificates: found by their key, and let go in the order in which certificates end, with
//! what each was given. Persistent maps, so that a copy costs nothing and an activation does not look at the others.

use std::{collections::BTreeMap, sync::Arc};

use rpds::{RedBlackTreeMapSync, RedBlackTreeSetSync};
use serde::{Deserialize, Serialize};
use serde_bytes::ByteArray;

use super::event::{Delivery, Issued, Seat};

/// SHA-256 of an instance's key; of native programs, of their UUID and where they run.
type Key = [u8; 32];
pub(super) type Serial = [u8; 16];
pub(super) type Delivered = BTreeMap<String, Delivery>;

/// All of an epoch.
#[derive(Clone, Default)]
pub(super) struct Instances {
    known: RedBlackTreeMapSync<Key, Instance>,
    /// The same, by when the last of their certificates ends.
    ends: RedBlackTreeSetSync<(i64, Key)>,
    /// Certificates that have not ended, and whose they are.
    certificates: RedBlackTreeMapSync<Serial, (Key, i64)>,
    /// The same, by when they end.
    lapsing: RedBlackTreeSetSync<(i64, Serial)>,
    /// What the last instance of each Marble had: most have the same.
    shapes: RedBlackTreeMapSync<Arc<str>, (Arc<Seat>, Arc<Delivered>)>,
}

/// One of them.
#[derive(Clone)]
pub(super) struct Instance {
    pub(super) marble: Arc<str>,
    pub(super) epoch: u64,
    pub(super) since: i64,
    /// When the newest certificate of its own ends. Seconds.
    pub(super) until: i64,
    /// When the last certificate that was made for it ends.
    pub(super) kept: i64,
    pub(super) seat: Arc<Seat>,
    pub(super) delivered: Arc<Delivered>,
}

/// All that was decided of an activation.
pub(super) struct Activated {
    pub(super) marble: Arc<str>,
    pub(super) instance: Key,
    pub(super) epoch: u64,
    pub(super) seat: Seat,
    pub(super) delivered: Delivered,
    pub(super) certificates: Vec<Issued>,
    pub(super) at: i64,
}

impl Instances {
    /// Takes one in, and lets go of those whose certificates have lapsed: they must activate again, so they need not
    /// be kept.
    pub(super) fn activated(&mut self, activated: Activated) {
        let Activated { marble, instance, epoch, seat, delivered, certificates, at } = activated;
        self.forget(at);
        let (seat, delivered) = self.shaped(&marble, seat, delivered);
        let until = certificates.first().map_or(at, |own| own.until);
        let kept = certificates.iter().map(|issued| issued.until).fold(until, i64::max);
        // An instance that comes again still has what it was given before.
        let old = self.known.get(&instance);
        let kept = old.map_or(kept, |old| kept.max(old.kept));
        let delivered = match old {
            Some(old) if old.delivered != delivered => Arc::new(together(&old.delivered, &delivered)),
            _ => delivered,
        };
        self.insert(instance, Instance { marble, epoch, since: at, until, kept, seat, delivered });
        certificates.into_iter().for_each(|issued| self.issued(instance, issued));
    }

    fn forget(&mut self, at: i64) {
        while let Some(&(until, lapsed)) = self.ends.first().filter(|(until, _)| *until <= at) {
            self.ends.remove_mut(&(until, lapsed));
            self.known.remove_mut(&lapsed);
        }
        while let Some(&(until, lapsed)) = self.lapsing.first().filter(|(until, _)| *until <= at) {
            self.lapsing.remove_mut(&(until, lapsed));
            self.certificates.remove_mut(&lapsed);
        }
    }

    fn shaped(&mut self, marble: &Arc<str>, seat: Seat, delivered: Delivered) -> (Arc<Seat>, Arc<Delivered>) {
        let last = self.shapes.get(marble);
        let same_seat = last.filter(|(last, _)| **last == seat).map(|(last, _)| last.clone());
        let same_delivered = last.filter(|(_, last)| **last == delivered).map(|(_, last)| last.clone());
        if let (Some(seat), Some(delivered)) = (&same_seat, &same_delivered) {
            return (seat.clone(), delivered.clone());
        }
        let seat = same_seat.unwrap_or_else(|| Arc::new(seat));
        let delivered = same_delivered.unwrap_or_else(|| Arc::new(delivered));
        self.shapes.insert_mut(marble.clone(), (seat.clone(), delivered.clone()));
        (seat, delivered)
    }

    /// Nothing, where it is not known.
    pub(super) fn renewed(&mut self, instance: Key, certificate: Issued) {
        if let Some(known) = self.known.get(&instance) {
            let kept = known.kept.max(certificate.until);
            let known = Instance { until: certificate.until, kept, ..known.clone() };
            self.insert(instance, known);
            self.issued(instance, certificate);
        }
    }

    /// Takes one in as it is.
    pub(super) fn insert(&mut self, key: Key, instance: Instance) {
        if let Some(old) = self.known.get(&key) {
            self.ends.remove_mut(&(old.kept, key));
        }
        self.ends.insert_mut((instance.kept, key));
        self.known.insert_mut(key, instance);
    }

    /// Takes in a certificate of one.
    pub(super) fn issued(&mut self, instance: Key, Issued { serial, until }: Issued) {
        self.certificates.insert_mut(serial.into_array(), (instance, until));
        self.lapsing.insert_mut((until, serial.into_array()));
    }

    /// Lets go of one. Its certificates stay known until they end.
    pub(super) fn remove(&mut self, key: &Key) {
        if let Some(old) = self.known.get(key) {
            self.ends.remove_mut(&(old.kept, *key));
            self.known.remove_mut(key);
        }
    }

    pub(super) fn get(&self, key: &Key) -> Option<&Instance> {
        self.known.get(key)
    }

    /// Whose certificate has this serial number.
    pub(super) fn of_serial(&self, serial: &Serial) -> Option<&Key> {
        self.certificates.get(serial).map(|(key, _)| key)
    }

    /// Certificates of one that have not ended. Looks at all.
    pub(super) fn certificates_of(&self, key: &Key, now: i64) -> Vec<Issued> {
        let theirs = self.certificates.iter().filter(|(_, (whose, until))| whose == key && *until > now);
        theirs.map(|(serial, (_, until))| Issued { serial: ByteArray::new(*serial), until: *until }).collect()
    }

    /// Whether it is one of this Marble, with a certificate that has not lapsed. `now` in seconds.
    pub(super) fn is(&self, instance: &Key, marble: &str, now: i64) -> bool {
        self.known.get(instance).is_some_and(|known| &*known.marble == marble && known.until > now)
    }

    /// How many of each Marble have a certificate that has not lapsed.
    pub(super) fn count(&self, now: i64) -> BTreeMap<&str, u64> {
        let mut count = BTreeMap::new();
        for instance in self.known.values().filter(|instance| instance.until > now) {
            *count.entry(&*instance.marble).or_default() += 1;
        }
        count
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = (&Key, &Instance)> {
        self.known.iter()
    }

    pub(super) fn len(&self) -> usize {
        self.known.size()
    }

    pub(super) fn record(&self) -> Record {
        let instances = self.known.iter().map(|(key, instance)| InstanceRecord {
            key: ByteArray::new(*key),
            marble: instance.marble.to_string(),
            epoch: instance.epoch,
            since: instance.since,
            until: instance.until,
            kept: instance.kept,
            seat: instance.seat.as_ref().clone(),
            delivered: instance.delivered.as_ref().clone(),
        });
        let certificates = self.certificates.iter().map(|(serial, (key, until))| {
            (ByteArray::new(*key), Issued { serial: ByteArray::new(*serial), until: *until })
        });
        Record { instances: instances.collect(), certificates: certificates.collect() }
    }
}

/// What both deliveries together gave.
pub(super) fn together(one: &Delivered, other: &Delivered) -> Delivered {
    let mut all = one.clone();
    other.iter().for_each(|(name, delivery)| add(&mut all, name, delivery));
    all
}

/// Adds one.
pub(super) fn add(all: &mut Delivered, name: &str, delivery: &Delivery) {
    match (all.get_mut(name), delivery) {
        (Some(Delivery::Versions(known)), Delivery::Versions(more)) => known.extend(more),
        (Some(known), _) => *known = delivery.clone(),
        (None, _) => {
            all.insert(name.to_owned(), delivery.clone());
        }
    }
}

/// Whether `all` has everything that `some` has.
pub(super) fn covers(all: &Delivered, some: &Delivered) -> bool {
    some.iter().all(|(name, delivery)| match (all.get(name), delivery) {
        (Some(Delivery::Versions(known)), Delivery::Versions(versions)) => versions.is_subset(known),
        (known, _) => known == Some(delivery),
    })
}

/// All, for a snapshot.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Record {
    instances: Vec<InstanceRecord>,
    certificates: Vec<(ByteArray<32>, Issued)>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct InstanceRecord {
    key: ByteArray<32>,
    marble: String,
    epoch: u64,
    since: i64,
    until: i64,
    kept: i64,
    seat: Seat,
    delivered: Delivered,
}

impl From<Record> for Instances {
    fn from(record: Record) -> Self {
        let mut all = Self::default();
        for InstanceRecord { key, marble, epoch, since, until, kept, seat, delivered } in record.instances {
            let marble: Arc<str> = all
                .shapes
                .get_key_value(marble.as_str())
                .map_or_else(|| marble.as_str().into(), |(marble, _)| marble.clone());
            let (seat, delivered) = all.shaped(&marble, seat, delivered);
            all.insert(key.into_array(), Instance { marble, epoch, since, until, kept, seat, delivered });
        }
        for (instance, issued) in record.certificates {
            all.issued(instance.into_array(), issued);
        }
        all
    }
}

#[cfg(test)]
mod tests {
    use evidence::Platform;

    use super::*;
    use crate::authority::MARBLE_LIFETIME;

    const LIFE: i64 = MARBLE_LIFETIME.whole_seconds();

    fn issued(serial: u8, at: i64) -> Issued {
        Issued { serial: ByteArray::new([serial; 16]), until: at + LIFE }
    }

    fn activated(marble: &str, instance: u8, serial: u8, at: i64) -> Activated {
        Activated {
            marble: marble.into(),
            instance: [instance; 32],
            epoch: 1,
            seat: Seat { platform: Platform::Snp, machine: None, emulated: true, native: false },
            delivered: [("salt".to_owned(), Delivery::Versions([u64::from(serial)].into()))].into(),
            certificates: vec![issued(serial, at)],
            at,
        }
    }

    #[test]
    fn lapsed_instances_go_and_renewed_ones_stay() {
        let mut instances = Instances::default();
        instances.activated(activated("a", 1, 1, 0));
        instances.activated(activated("a", 2, 2, 5));
        instances.renewed([1; 32], issued(3, 10));
        instances.renewed([9; 32], issued(4, 10));
        let before = instances.clone();
        instances.activated(activated("b", 3, 5, LIFE + 5));
        assert_eq!((instances.known.size(), instances.certificates.size()), (2, 2));
        assert_eq!(instances.count(LIFE + 5), [("a", 1), ("b", 1)].into());
        assert!(instances.is(&[1; 32], "a", LIFE + 9) && !instances.is(&[1; 32], "a", LIFE + 10));
        assert!(!instances.is(&[1; 32], "b", 0) && !instances.is(&[2; 32], "a", 0));
        assert_eq!(before.known.size(), 2, "a copy is not changed");
        instances.activated(activated("a", 3, 6, LIFE + 6));
        assert_eq!((instances.ends.size(), instances.known.size()), (2, 2));
    }

    #[test]
    fn what_was_given_and_certified_before_still_counts() {
        let mut instances = Instances::default();
        instances.activated(activated("a", 1, 1, 0));
        instances.activated(activated("a", 1, 2, 5));
        instances.renewed([1; 32], issued(3, 6));
        let given = Delivery::Versions([1, 2].into());
        assert_eq!(instances.get(&[1; 32]).unwrap().delivered["salt"], given);
        assert_eq!(instances.certificates_of(&[1; 32], LIFE).len(), 2, "one has ended");
        assert_eq!(instances.of_serial(&[3; 16]), Some(&[1; 32]));
        let again = Instances::from(instances.record());
        assert_eq!(again.get(&[1; 32]).unwrap().delivered["salt"], given);
        assert_eq!((again.len(), again.ends.size(), again.lapsing.size()), (1, 1, 3));
    }

    #[test]
    fn an_instance_is_kept_as_long_as_a_certificate_that_was_made_for_it() {
        let mut instances = Instances::default();
        let mut long = activated("a", 1, 1, 0);
        long.certificates.push(issued(2, 9 * LIFE));
        instances.activated(long);
        instances.activated(activated("b", 2, 3, 2 * LIFE));
        assert!(instances.get(&[1; 32]).is_some());
        assert!(!instances.is(&[1; 32], "a", 2 * LIFE), "and can renew nothing");
        assert_eq!(instances.certificates_of(&[1; 32], 2 * LIFE).len(), 1);
    }
}

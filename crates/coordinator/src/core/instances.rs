//! The instances that have a certificate: found by their key, and let go in the order in which certificates end.
//! Persistent maps, so that a copy costs nothing and an activation does not look at the others.

use std::{collections::BTreeMap, sync::Arc};

use rpds::{RedBlackTreeMapSync, RedBlackTreeSetSync};

use crate::authority::MARBLE_LIFETIME;

/// SHA-256 of an instance's key, or of its UUID.
type Key = [u8; 32];

/// All of an epoch.
#[derive(Clone, Default)]
pub(super) struct Instances {
    known: RedBlackTreeMapSync<Key, Instance>,
    /// The same, by when their certificates end.
    ends: RedBlackTreeSetSync<(i64, Key)>,
}

#[derive(Clone)]
struct Instance {
    marble: Arc<str>,
    /// Until when a certificate of this instance may be valid, by the renewal that it is owed. Seconds.
    until: i64,
}

impl Instances {
    /// Takes one in, and lets go of those whose certificate has lapsed: they must activate again, so they need not
    /// be kept.
    pub(super) fn activated(&mut self, marble: Arc<str>, instance: Key, at: i64) {
        while let Some(&(until, lapsed)) = self.ends.first().filter(|(until, _)| *until <= at) {
            self.ends.remove_mut(&(until, lapsed));
            self.known.remove_mut(&lapsed);
        }
        self.insert(marble, instance, at.saturating_add(MARBLE_LIFETIME.whole_seconds()));
    }

    /// Nothing, where it is not known.
    pub(super) fn renewed(&mut self, instance: Key, at: i64) {
        if let Some(marble) = self.known.get(&instance).map(|known| known.marble.clone()) {
            self.insert(marble, instance, at.saturating_add(MARBLE_LIFETIME.whole_seconds()));
        }
    }

    /// Takes one in with the end that it has.
    pub(super) fn insert(&mut self, marble: Arc<str>, instance: Key, until: i64) {
        if let Some(old) = self.known.get(&instance) {
            self.ends.remove_mut(&(old.until, instance));
        }
        self.ends.insert_mut((until, instance));
        self.known.insert_mut(instance, Instance { marble, until });
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

    /// Each with its Marble and its end.
    pub(super) fn iter(&self) -> impl Iterator<Item = (&str, &Key, i64)> {
        self.known.iter().map(|(key, instance)| (&*instance.marble, key, instance.until))
    }

    pub(super) fn len(&self) -> usize {
        self.known.size()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIFE: i64 = MARBLE_LIFETIME.whole_seconds();

    #[test]
    fn lapsed_instances_go_and_renewed_ones_stay() {
        let mut instances = Instances::default();
        instances.activated("a".into(), [1; 32], 0);
        instances.activated("a".into(), [2; 32], 5);
        instances.renewed([1; 32], 10);
        instances.renewed([9; 32], 10);
        let before = instances.clone();
        instances.activated("b".into(), [3; 32], LIFE + 5);
        assert_eq!(instances.len(), 2);
        assert_eq!(instances.count(LIFE + 5), [("a", 1), ("b", 1)].into());
        assert!(instances.is(&[1; 32], "a", LIFE + 9) && !instances.is(&[1; 32], "a", LIFE + 10));
        assert!(!instances.is(&[1; 32], "b", 0) && !instances.is(&[2; 32], "a", 0));
        assert_eq!(before.len(), 2, "a copy is not changed");
        instances.activated("a".into(), [3; 32], LIFE + 6);
        assert_eq!((instances.ends.size(), instances.len()), (2, 2));
    }
}

//! Values of secrets by version: the current one and the one before it. Versions are counted from 1 and never used
//! twice, also not by another secret that later has the name.

use std::{collections::BTreeMap, sync::Arc};

use rpds::RedBlackTreeMapSync;
use serde::{Deserialize, Serialize};

use super::SecretValue;

/// One value of a secret.
#[derive(Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Version {
    /// Counted from 1.
    pub(super) number: u64,
    /// When it was made or uploaded, seconds.
    pub(super) made_at: i64,
    /// When its user wants it delivered no more, seconds.
    pub(super) until: Option<i64>,
    /// Absent, where it was too old and is wiped.
    pub(super) value: Option<SecretValue>,
}

/// What became of the current value, by an eviction.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum Standing {
    /// Nothing.
    Good,
    /// A lost node could have read it, and only its user can make another.
    Exposed {
        /// Whether it is delivered until then.
        withheld: bool,
    },
}

/// All that is kept of a secret.
#[derive(Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Kept {
    pub(super) current: Version,
    /// Absent, where there was none that whoever asks for it could use: then the current one is also that.
    pub(super) before: Option<Version>,
    pub(super) standing: Standing,
}

impl Kept {
    pub(super) fn previous(&self) -> &Version {
        self.before.as_ref().unwrap_or(&self.current)
    }
}

/// All secrets that were generated or uploaded. A copy costs nothing.
#[derive(Clone, Default)]
pub(super) struct Secrets {
    kept: RedBlackTreeMapSync<String, Arc<Kept>>,
    /// The last version of names that are gone.
    retired: RedBlackTreeMapSync<String, u64>,
}

impl Secrets {
    pub(super) fn new(kept: BTreeMap<String, Kept>, retired: BTreeMap<String, u64>) -> Self {
        Self {
            kept: kept.into_iter().map(|(name, kept)| (name, Arc::new(kept))).collect(),
            retired: retired.into_iter().collect(),
        }
    }

    pub(super) fn get(&self, name: &str) -> Option<&Kept> {
        self.kept.get(name).map(AsRef::as_ref)
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = (&String, &Kept)> {
        self.kept.iter().map(|(name, kept)| (name, kept.as_ref()))
    }

    pub(super) fn retired(&self) -> impl Iterator<Item = (&String, u64)> {
        self.retired.iter().map(|(name, version)| (name, *version))
    }

    pub(super) fn len(&self) -> usize {
        self.kept.size() + self.retired.size()
    }

    /// The number that the next value of this secret gets.
    pub(super) fn next(&self, name: &str) -> u64 {
        let last = self.get(name).map(|kept| kept.current.number);
        last.or_else(|| self.retired.get(name).copied()).unwrap_or(0) + 1
    }

    /// Takes a new value. What was there becomes the previous one if `keeps_old`; else the new one is also that: who
    /// asks for it gets one that fits.
    pub(super) fn put(
        &mut self,
        name: String,
        value: SecretValue,
        (made_at, until): (i64, Option<i64>),
        keeps_old: bool,
    ) {
        let number = self.next(&name);
        let before = self.get(&name).filter(|_| keeps_old).map(|kept| kept.current.clone());
        let before = before.filter(|before| before.value.is_some());
        self.retired.remove_mut(&name);
        let current = Version { number, made_at, until, value: Some(value) };
        self.kept.insert_mut(name, Arc::new(Kept { current, before, standing: Standing::Good }));
    }

    /// Lets go of those that are not wanted, and remembers how far they were counted.
    pub(super) fn retain(&mut self, wanted: impl Fn(&str) -> bool) {
        let gone: Vec<_> = self.iter().filter(|(name, _)| !wanted(name)).collect();
        let gone: Vec<_> = gone.into_iter().map(|(name, kept)| (name.clone(), kept.current.number)).collect();
        for (name, number) in gone {
            self.kept.remove_mut(&name);
            self.retired.insert_mut(name, number);
        }
    }

    /// Wipes the value of these versions; that they were is still known.
    pub(super) fn wipe(&mut self, name: &str, versions: &[u64]) {
        self.change(name, |kept| {
            if kept.before.as_ref().is_some_and(|before| versions.contains(&before.number)) {
                kept.before = None;
            }
            if versions.contains(&kept.current.number) {
                kept.current.value = None;
            }
        });
    }

    /// That a lost node could have read this version, if it is still the current one.
    pub(super) fn expose(&mut self, name: &str, version: u64, withheld: bool) {
        self.change(name, |kept| {
            if kept.current.number == version {
                kept.standing = Standing::Exposed { withheld };
            }
        });
    }

    fn change(&mut self, name: &str, change: impl FnOnce(&mut Kept)) {
        if let Some(kept) = self.get(name) {
            let mut kept = kept.clone();
            change(&mut kept);
            self.kept.insert_mut(name.to_owned(), Arc::new(kept));
        }
    }
}

#[cfg(test)]
mod tests {
    use zeroize::Zeroizing;

    use super::*;

    fn value(byte: u8) -> SecretValue {
        SecretValue::Bytes(Zeroizing::new(vec![byte]))
    }

    fn numbers(secrets: &Secrets) -> (u64, u64) {
        let kept = secrets.get("a").unwrap();
        (kept.current.number, kept.previous().number)
    }

    #[test]
    fn versions_are_counted_and_never_used_twice() {
        let mut secrets = Secrets::default();
        secrets.put("a".into(), value(1), (0, None), true);
        assert_eq!(numbers(&secrets), (1, 1));
        secrets.put("a".into(), value(2), (0, None), true);
        assert_eq!(numbers(&secrets), (2, 1));
        secrets.put("a".into(), value(3), (0, None), false);
        assert_eq!(numbers(&secrets), (3, 3), "what does not fit any more is no previous value");
        secrets.retain(|_| false);
        assert!(secrets.get("a").is_none());
        secrets.put("a".into(), value(4), (0, None), true);
        assert_eq!(numbers(&secrets), (4, 4));
    }

    #[test]
    fn a_wiped_value_is_no_previous_one_later() {
        let mut secrets = Secrets::default();
        secrets.put("a".into(), value(1), (0, Some(5)), true);
        secrets.wipe("a", &[1]);
        assert!(secrets.get("a").unwrap().current.value.is_none());
        secrets.put("a".into(), value(2), (9, None), true);
        assert_eq!(numbers(&secrets), (2, 2));
        secrets.put("a".into(), value(3), (9, None), true);
        secrets.wipe("a", &[2]);
        assert_eq!(numbers(&secrets), (3, 3));
    }

    #[test]
    fn a_new_value_stands_well_again() {
        let mut secrets = Secrets::default();
        secrets.put("a".into(), value(1), (0, None), true);
        secrets.expose("a", 2, true);
        assert_eq!(secrets.get("a").unwrap().standing, Standing::Good, "another version");
        secrets.expose("a", 1, true);
        assert_eq!(secrets.get("a").unwrap().standing, Standing::Exposed { withheld: true });
        secrets.put("a".into(), value(2), (0, None), true);
        assert_eq!(secrets.get("a").unwrap().standing, Standing::Good);
    }
}

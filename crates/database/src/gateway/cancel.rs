//! Keys with which a client ends what runs in its session, and seats of parties. The keys are ours: PostgreSQL's own
//! stay inside, and what may be interrupted is the session's decision.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
};

use aws_lc_rs::{error::Unspecified, rand};
use database_manifest::PartyName;
use tokio::sync::Notify;

/// A process number, as clients see it, and a secret.
pub(super) type Key = [u8; 8];

/// Keys of the sessions that run.
#[derive(Default)]
pub(super) struct Keys(Arc<Mutex<HashMap<Key, Arc<Notify>>>>);

/// A session's own key; with it goes the key.
pub(super) struct Registered {
    pub(super) key: Key,
    /// Told when the client wants an end of what runs.
    pub(super) wanted: Arc<Notify>,
    keys: Arc<Mutex<HashMap<Key, Arc<Notify>>>>,
}

impl Keys {
    /// A new one.
    pub(super) fn register(&self) -> Result<Registered, Unspecified> {
        let mut key = Key::default();
        rand::fill(&mut key)?;
        // Clients read the first half as a number and may expect it to be positive.
        key[0] &= 0x7f;
        let wanted = Arc::new(Notify::new());
        let mut keys = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        keys.insert(key, Arc::clone(&wanted));
        Ok(Registered { key, wanted, keys: Arc::clone(&self.0) })
    }

    /// A client shows a key. Whether there is such a one is not said.
    pub(super) fn cancel(&self, key: Key) {
        let keys = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(wanted) = keys.get(&key) {
            wanted.notify_one();
        }
    }
}

impl Drop for Registered {
    fn drop(&mut self) {
        self.keys.lock().unwrap_or_else(PoisonError::into_inner).remove(&self.key);
    }
}

/// How many sessions each party has.
pub(super) struct Seats {
    taken: Arc<Mutex<HashMap<PartyName, usize>>>,
    most: usize,
}

/// One session's.
pub(super) struct Seat {
    party: PartyName,
    taken: Arc<Mutex<HashMap<PartyName, usize>>>,
}

impl Seats {
    pub(super) fn new(most: usize) -> Self {
        Self { taken: Arc::default(), most }
    }

    /// `None`: the party has as many as it may.
    pub(super) fn take(&self, party: &PartyName) -> Option<Seat> {
        let mut taken = self.taken.lock().unwrap_or_else(PoisonError::into_inner);
        let count = taken.entry(party.clone()).or_default();
        (*count < self.most).then(|| *count += 1)?;
        Some(Seat { party: party.clone(), taken: Arc::clone(&self.taken) })
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        let mut taken = self.taken.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(count) = taken.get_mut(&self.party) {
            *count -= 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_key_reaches_its_own_session_and_goes_with_it() {
        let keys = Keys::default();
        let (one, other) = (keys.register().expect("randomness"), keys.register().expect("randomness"));
        assert_ne!(one.key, other.key);
        keys.cancel(one.key);
        one.wanted.notified().await;
        let silent =
            tokio::time::timeout(std::time::Duration::from_millis(20), other.wanted.notified()).await;
        assert!(silent.is_err());
        drop((one, other));
        assert!(keys.0.lock().expect("it is not poisoned").is_empty());
    }

    #[test]
    fn a_party_has_no_more_sessions_than_it_may() {
        let seats = Seats::new(1);
        let [a, b] = ["a", "b"].map(|it| PartyName::new(it).expect("a name"));
        let first = seats.take(&a);
        assert!(first.is_some() && seats.take(&a).is_none() && seats.take(&b).is_some());
        drop(first);
        assert!(seats.take(&a).is_some());
    }
}

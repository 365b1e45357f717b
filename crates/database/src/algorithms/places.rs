//! How many calls run at the same time: a party that asks much does not take the others' places.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use database_manifest::PartyName;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::Reason;

/// Calls of one party that run at the same time; each has two or three sessions.
const EACH: usize = 4;
/// How long a call waits for its place.
const PATIENCE: Duration = Duration::from_secs(30);

/// Places of each party.
#[derive(Default)]
pub struct Places(Mutex<BTreeMap<PartyName, Arc<Semaphore>>>);

impl Places {
    /// A place, for as long as it is held. Only parties that the manifest names get here, so there are few.
    ///
    /// # Errors
    /// [`Reason::Busy`]
    pub async fn take(&self, party: &PartyName) -> Result<OwnedSemaphorePermit, Reason> {
        let places = {
            let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
            Arc::clone(all.entry(party.clone()).or_insert_with(|| Arc::new(Semaphore::new(EACH))))
        };
        match tokio::time::timeout(PATIENCE, places.acquire_owned()).await {
            Ok(Ok(place)) => Ok(place),
            _ => Err(Reason::Busy),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn one_party_does_not_take_anothers_places() {
        let (places, bank, analyst) = (Places::default(), PartyName::new("bank"), PartyName::new("analyst"));
        let (Some(bank), Some(analyst)) = (bank, analyst) else { unreachable!("they are names") };
        let mut held = Vec::new();
        for _ in 0..EACH {
            held.push(places.take(&bank).await.unwrap());
        }
        let mut waiting = std::pin::pin!(places.take(&bank));
        assert!(futures_util::poll!(&mut waiting).is_pending());
        drop(places.take(&analyst).await.unwrap());
        held.pop();
        drop(waiting.await.unwrap());
    }
}

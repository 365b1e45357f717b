//! The Evidence that running instances presented last, so that a proposed manifest can be tried on them. In memory
//! only: whoever starts again learns it as certificates are renewed. Bounded, and nothing is decided by it but what a
//! plan says.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use attested_tls::{key::sha256, statement::Presented};

use crate::{authority::MARBLE_LIFETIME, core};

/// Some ten thousand instances, whose Endorsements are mostly the same few.
const MOST_BYTES: usize = 64 * 1024 * 1024;

type Key = [u8; 32];

#[derive(Default)]
pub(super) struct Recordings(Mutex<Kept>);

#[derive(Default)]
struct Kept {
    instances: BTreeMap<Key, Recording>,
    /// By SHA-256, so that what many staple is kept once.
    endorsements: BTreeMap<[u8; 32], Arc<[u8]>>,
    bytes: usize,
}

struct Recording {
    recorded: core::Recorded,
    endorsements: [u8; 32],
    /// Seconds.
    at: i64,
}

impl Recordings {
    /// Takes what an instance presented at `now`, in place of what it presented before.
    pub(super) fn record(&self, instance: Key, recorded: core::Recorded, now: i64) {
        self.record_within(MOST_BYTES, instance, recorded, now);
    }

    fn record_within(&self, most: usize, instance: Key, recorded: core::Recorded, now: i64) {
        let digest = sha256(&recorded.presented.endorsements);
        let mut kept = self.lock();
        kept.forget(&instance);
        if kept.bytes + size(&recorded) > most {
            let life = MARBLE_LIFETIME.whole_seconds();
            let of = |(key, it): (&Key, &Recording)| (it.at.saturating_add(life) <= now).then_some(*key);
            let lapsed: Vec<_> = kept.instances.iter().filter_map(of).collect();
            lapsed.iter().for_each(|key| kept.forget(key));
        }
        if kept.bytes + size(&recorded) <= most {
            kept.take(instance, Recording { recorded, endorsements: digest, at: now });
        }
    }

    /// What this instance presented last.
    pub(super) fn of(&self, instance: &Key) -> Option<core::Recorded> {
        self.lock().instances.get(instance).map(|recording| recording.recorded.clone())
    }

    fn lock(&self) -> MutexGuard<'_, Kept> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Kept {
    fn take(&mut self, instance: Key, mut recording: Recording) {
        let Presented { evidence, endorsements, report_data: _ } = &mut recording.recorded.presented;
        let known = self.endorsements.entry(recording.endorsements);
        let mut bytes = evidence.len() + recording.recorded.claims.as_ref().map_or(0, Vec::len);
        let shared = known.or_insert_with(|| {
            bytes += endorsements.len();
            endorsements.clone()
        });
        *endorsements = shared.clone();
        self.bytes += bytes;
        self.instances.insert(instance, recording);
    }

    fn forget(&mut self, instance: &Key) {
        let Some(Recording { recorded, endorsements, at: _ }) = self.instances.remove(instance) else {
            return;
        };
        self.bytes -= recorded.presented.evidence.len() + recorded.claims.as_ref().map_or(0, Vec::len);
        let length = recorded.presented.endorsements.len();
        drop(recorded);
        // The last one who stapled them takes them along. A plan that reads them now keeps them until the next.
        if self.endorsements.get(&endorsements).is_some_and(|shared| Arc::strong_count(shared) == 1) {
            self.endorsements.remove(&endorsements);
            self.bytes -= length;
        }
    }
}

fn size(recorded: &core::Recorded) -> usize {
    let Presented { evidence, endorsements, report_data: _ } = &recorded.presented;
    evidence.len() + endorsements.len() + recorded.claims.as_ref().map_or(0, Vec::len)
}

#[cfg(test)]
mod tests {
    use evidence::ReportData;

    use super::*;

    fn recorded(evidence: usize, endorsements: u8) -> core::Recorded {
        let presented = Presented {
            evidence: vec![0; evidence],
            endorsements: vec![endorsements; 100].into(),
            report_data: ReportData([0; 64]),
        };
        core::Recorded { presented, claims: Some(vec![0; 10]) }
    }

    /// Bytes, and how many Endorsements.
    fn kept(recordings: &Recordings) -> (usize, usize) {
        let kept = recordings.lock();
        (kept.bytes, kept.endorsements.len())
    }

    #[test]
    fn what_is_kept_is_bounded_and_endorsements_are_kept_once() {
        let recordings = Recordings::default();
        recordings.record_within(400, [1; 32], recorded(90, 1), 0);
        recordings.record_within(400, [2; 32], recorded(90, 1), 5);
        assert_eq!(kept(&recordings), (300, 1));
        recordings.record_within(400, [3; 32], recorded(90, 2), 6);
        assert!(recordings.of(&[3; 32]).is_none(), "there is no room, and nobody lapsed");
        recordings.record_within(400, [2; 32], recorded(40, 1), 7);
        assert_eq!(recordings.lock().bytes, 250, "in place of the one before");
        let late = MARBLE_LIFETIME.whole_seconds();
        recordings.record_within(300, [3; 32], recorded(90, 2), late);
        assert!(recordings.of(&[1; 32]).is_none(), "the lapsed one made room");
        recordings.record_within(400, [3; 32], recorded(90, 2), late);
        assert_eq!(kept(&recordings), (350, 2));
        recordings.lock().forget(&[2; 32]);
        recordings.lock().forget(&[3; 32]);
        assert_eq!(kept(&recordings), (0, 0));
    }
}

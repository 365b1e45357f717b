//! Why a guest got what it got: the last sessions with their verdicts, and what was refused to them. For operators; a
//! guest is told the session's name and nothing of the reason.

use std::{
    collections::VecDeque,
    sync::{Mutex, PoisonError},
};

use appraisal::{UnixTime, Verdict};
use serde_json::{Value, json};

use crate::core::broker::guest::SessionId;

/// So many sessions.
const SESSIONS: usize = 1024;
/// So many bytes of what is known of them.
const BYTES: usize = 32 * 1024 * 1024;
/// So many refused releases of one session: whoever asks again and again is told nothing new.
const REFUSALS: usize = 32;
/// What a verdict weighs, about: some hundred checks in words. It is written as JSON only for whoever asks.
const VERDICT: usize = 24 * 1024;

/// The last sessions.
#[derive(Default)]
pub(in crate::service) struct Explanations {
    ring: Mutex<Ring>,
}

#[derive(Default)]
struct Ring {
    sessions: VecDeque<Explanation>,
    bytes: usize,
}

/// One session.
#[derive(Clone)]
pub(in crate::service) struct Explanation {
    pub(in crate::service) session: SessionId,
    pub(in crate::service) at: UnixTime,
    pub(in crate::service) tee: String,
    /// Why it was refused; empty where it attested.
    pub(in crate::service) codes: Vec<String>,
    /// That in words.
    pub(in crate::service) reason: Option<String>,
    /// The manifest's packages that it is.
    pub(in crate::service) packages: Vec<String>,
    /// The trees of checks, by piece of Evidence and package.
    pub(in crate::service) verdicts: Vec<(String, Verdict)>,
    /// What was not released to it.
    pub(in crate::service) refusals: Vec<RefusedRelease>,
    weight: usize,
}

/// A resource that was not released.
#[derive(Clone)]
pub(in crate::service) struct RefusedRelease {
    pub(in crate::service) at: UnixTime,
    pub(in crate::service) repository: String,
    pub(in crate::service) resource: String,
    /// The reason tree.
    pub(in crate::service) because: Value,
}

impl Explanation {
    /// Of a session that attested, unless codes are added.
    pub(in crate::service) fn new(
        session: SessionId,
        at: UnixTime,
        tee: &str,
        verdicts: Vec<(String, Verdict)>,
    ) -> Self {
        let weight = 512 + verdicts.len() * VERDICT;
        Self {
            session,
            at,
            tee: tee.to_owned(),
            codes: Vec::new(),
            reason: None,
            packages: Vec::new(),
            verdicts,
            refusals: Vec::new(),
            weight,
        }
    }

    /// For a list.
    pub(in crate::service) fn line(&self) -> Value {
        json!({
            "session": self.session.to_string(),
            "at": self.at.to_string(),
            "tee": self.tee,
            "outcome": if self.codes.is_empty() { "attested" } else { "refused" },
            "codes": self.codes,
            "packages": self.packages,
            "refusedReleases": self.refusals.len(),
        })
    }

    /// Whole, with those refused releases that `visible` lets the reader see.
    pub(in crate::service) fn tree(&self, visible: impl Fn(&str) -> bool) -> Value {
        let mut tree = self.line();
        let refusals = self.refusals.iter().filter(|refusal| visible(&refusal.repository));
        tree["reason"] = json!(self.reason);
        tree["verdicts"] = self
            .verdicts
            .iter()
            .map(|(piece, verdict)| json!({ "piece": piece, "verdict": verdict }))
            .collect();
        tree["releases"] = refusals
            .map(|refusal| {
                json!({
                    "at": refusal.at.to_string(),
                    "resource": refusal.resource,
                    "refused": refusal.because,
                })
            })
            .collect();
        tree
    }
}

impl Explanations {
    fn ring(&self) -> std::sync::MutexGuard<'_, Ring> {
        self.ring.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The newest session; the oldest ones go.
    pub(in crate::service) fn add(&self, explanation: Explanation) {
        let mut ring = self.ring();
        ring.bytes += explanation.weight;
        ring.sessions.push_back(explanation);
        ring.shrink();
    }

    /// That a resource was not released. A session that is not known here, for it attested to another replica or shows a
    /// token, is known from now on.
    pub(in crate::service) fn refused(&self, session: SessionId, tee: &str, refusal: RefusedRelease) {
        let mut ring = self.ring();
        let weight = 256 + refusal.because.to_string().len();
        if !ring.sessions.iter().any(|known| known.session == session) {
            let explanation = Explanation::new(session, refusal.at, tee, Vec::new());
            ring.bytes += explanation.weight;
            ring.sessions.push_back(explanation);
        }
        let known = ring.sessions.iter_mut().rev().find(|known| known.session == session);
        if let Some(known) = known.filter(|known| known.refusals.len() < REFUSALS) {
            known.refusals.push(refusal);
            known.weight += weight;
            ring.bytes += weight;
        }
        ring.shrink();
    }

    /// All that is known, the newest first.
    pub(in crate::service) fn lines(&self) -> Vec<Value> {
        self.ring().sessions.iter().rev().map(Explanation::line).collect()
    }

    /// One session.
    pub(in crate::service) fn of(&self, session: SessionId) -> Option<Explanation> {
        self.ring().sessions.iter().rev().find(|known| known.session == session).cloned()
    }
}

impl Ring {
    fn shrink(&mut self) {
        while self.sessions.len() > SESSIONS || self.bytes > BYTES {
            let Some(gone) = self.sessions.pop_front() else { return };
            self.bytes -= gone.weight;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn session(number: u32) -> SessionId {
        let mut nonce = [0; 32];
        nonce[..4].copy_from_slice(&number.to_be_bytes());
        SessionId::of(&nonce)
    }

    #[test]
    fn the_last_sessions_are_kept_and_their_bytes_are_bounded() {
        let known = Explanations::default();
        for number in 0..3000 {
            let mut explanation = Explanation::new(session(number), UnixTime(0), "snp", Vec::new());
            explanation.weight = 100_000;
            known.add(explanation);
        }
        let ring = known.ring();
        assert!(ring.bytes <= BYTES && ring.sessions.len() <= SESSIONS, "{}", ring.bytes);
        assert_eq!(ring.bytes, ring.sessions.iter().map(|known| known.weight).sum::<usize>());
        drop(ring);
        assert!(known.of(session(0)).is_none() && known.of(session(2999)).is_some());
    }

    #[test]
    fn a_guest_that_asks_again_and_again_fills_nothing() {
        let known = Explanations::default();
        for _ in 0..5000 {
            let refusal = RefusedRelease {
                at: UnixTime(0),
                repository: "default".into(),
                resource: "default/key/db".into(),
                because: json!("the policy"),
            };
            known.refused(session(1), "snp", refusal);
        }
        let one = known.of(session(1)).unwrap();
        assert_eq!((one.refusals.len(), known.lines().len()), (REFUSALS, 1));
        assert_eq!(one.tree(|repository| repository == "other")["releases"], json!([]));
        assert_eq!(one.tree(|_| true)["releases"].as_array().unwrap().len(), REFUSALS);
    }
}

//! Decisions that need keys: they are made between two decisions, while others decide and activate.

use crate::core::{Need, NewKeys, Refusal, State, Undecided};

use super::{Coordinator, Decided};

/// So often at most a decision finds that the state moved on while its keys were made: epochs are few.
const MOST_ATTEMPTS: usize = 4;

impl Coordinator {
    /// As [`Coordinator::commit`], for a decision that needs keys: makes them without any lock, and decides again.
    pub(super) fn commit_making<T>(
        &self,
        decide: impl Fn(&State, Option<&NewKeys>) -> Result<Decided<T>, Undecided>,
    ) -> Result<T, Refusal> {
        self.commit_made_by(decide, |need| need.make((self.clock)()))
    }

    fn commit_made_by<T>(
        &self,
        decide: impl Fn(&State, Option<&NewKeys>) -> Result<Decided<T>, Undecided>,
        make: impl Fn(Box<Need>) -> Result<NewKeys, Refusal>,
    ) -> Result<T, Refusal> {
        let mut keys = None;
        for _ in 0..MOST_ATTEMPTS {
            let answer = self.commit(|state| match decide(state, keys.as_ref()) {
                Ok(Decided { events, shares, answer }) => Ok(Decided { events, shares, answer: Ok(answer) }),
                Err(Undecided::Needs(need)) => {
                    Ok(Decided { events: Vec::new(), shares: None, answer: Err(need) })
                }
                Err(Undecided::Refused(refusal)) => Err(refusal),
            })?;
            match answer {
                Ok(answer) => return Ok(answer),
                Err(need) => keys = Some(make(need)?),
            }
        }
        Err(Refusal::Busy)
    }
}

#[cfg(test)]
mod tests {
    use std::{cell::Cell, sync::Arc};

    use attested_tls::{key::TeeKey, launch::CoordinatorConfiguration};
    use serde_json::json;
    use testkit::tee::{EmulatedTee, NOW};

    use super::*;
    use crate::{
        core::{self, Caller},
        service::HostHints,
    };

    /// A coordinator and its owner, with a manifest of two users' choice to be set.
    fn coordinator(folder: &tempfile::TempDir) -> (Arc<Coordinator>, TeeKey) {
        let owner = TeeKey::generate().unwrap();
        let configuration = CoordinatorConfiguration { owner: *owner.digest(), names: Vec::new(), tpm: None };
        let tee = EmulatedTee::launch(evidence::Platform::Snp, b"coordinator", &configuration.to_json());
        let hints = HostHints { state: folder.path().join("state"), ..HostHints::default() };
        let opened = Coordinator::open(tee, configuration, &hints, Arc::new(|| NOW));
        (opened.unwrap(), owner)
    }

    fn manifest(key: &str) -> Vec<u8> {
        json!({
            "Packages": {"app": {"UniqueID": "11".repeat(32)}},
            "Marbles": {"web": {"Package": "app", "Parameters": {"Env": {"KEY": "{{ hex .Secrets.key.Private }}"}}}},
            "Secrets": {"key": {"Type": key, "Size": 2048, "Shared": true}},
        })
        .to_string()
        .into_bytes()
    }

    /// While keys are made no lock is held: the same thread decides something else meanwhile, which would never come
    /// back otherwise.
    #[test]
    fn others_are_decided_while_keys_are_made() {
        let folder = tempfile::tempdir().unwrap();
        let (coordinator, owner) = coordinator(&folder);
        let (caller, digest) = (Caller::by_certificate(owner.certificate().to_vec()), *owner.digest());
        let (made, seen) = (Cell::new(0), Cell::new(0));
        let bytes = manifest("cert-rsa");
        let answer = coordinator.commit_made_by(
            |state, keys| {
                let (event, _) = core::set_manifest(state, &digest, &caller, &bytes, NOW, keys)?;
                Ok(Decided::one(event, 7))
            },
            |need| {
                made.set(made.get() + 1);
                let other = coordinator.commit(|state| {
                    seen.set(seen.get() + usize::from(state.mesh().is_none()));
                    Ok(Decided { events: Vec::new(), shares: None, answer: () })
                });
                other.map_err(|_| Refusal::Busy)?;
                need.make(NOW)
            },
        );
        assert_eq!((answer.unwrap(), made.get(), seen.get()), (7, 1, 1));
        assert_eq!(coordinator.claims().epoch, 1);
    }

    /// What was made for a state that is no more is not used, and whoever was faster is not overtaken.
    #[test]
    fn keys_for_a_state_that_moved_on_are_not_used() {
        let folder = tempfile::tempdir().unwrap();
        let (coordinator, owner) = coordinator(&folder);
        let (caller, digest) = (Caller::by_certificate(owner.certificate().to_vec()), *owner.digest());
        let (first, second) = (manifest("cert-rsa"), manifest("symmetric-key"));
        let refused = coordinator.commit_made_by(
            |state, keys| {
                let (event, _) = core::set_manifest(state, &digest, &caller, &first, NOW, keys)?;
                Ok(Decided::one(event, ()))
            },
            |need| {
                let keys = need.make(NOW)?;
                coordinator.commit_making(|state, keys| {
                    let (event, _) = core::set_manifest(state, &digest, &caller, &second, NOW, keys)?;
                    Ok(Decided::one(event, ()))
                })?;
                Ok(keys)
            },
        );
        assert_eq!(refused.unwrap_err().code(), "MANIFEST_ALREADY_SET");
        let state = coordinator.snapshot().unwrap().state;
        assert_eq!(state.mesh().unwrap().manifest_bytes(), second);
    }
}

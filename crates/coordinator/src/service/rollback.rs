//! Taking back, without anyone's help, an update after which Marbles do not run again.

use super::{Coordinator, Decided};
use crate::core::{self, Event, Refusal};

impl Coordinator {
    /// Rolls back the last update if its time is up. Says whether it did; nothing is made or committed where it is not
    /// due.
    pub(super) fn roll_back_when_due(&self) -> Result<bool, Refusal> {
        let now = (self.clock)();
        let due = |state: &core::State| core::roll_back_due(state, now);
        // While the state is locked nothing is due.
        if !self.snapshot().is_ok_and(|snapshot| due(&snapshot.state)) {
            return Ok(false);
        }
        let missing = self.commit_making(|state, keys| {
            let event = core::roll_back(state, now, keys)?;
            let answer = match &event {
                Some(Event::RolledBack { missing, epoch, .. }) => Some((missing.clone(), epoch.number)),
                _ => None,
            };
            Ok(Decided { events: event.into_iter().collect(), shares: None, answer })
        })?;
        let Some((missing, epoch)) = missing else { return Ok(false) };
        let missing = missing.into_iter().collect::<Vec<_>>().join(", ");
        self.metrics.rolled_back();
        tracing::warn!(
            code = "ROLLED_BACK",
            missing,
            epoch,
            "an update was rolled back: Marbles that ran before it did not run again in time"
        );
        Ok(true)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{
        Arc,
        atomic::{AtomicI64, Ordering},
    };

    use appraisal::UnixTime;
    use attested_tls::{key::TeeKey, launch::CoordinatorConfiguration};
    use serde_bytes::ByteArray;
    use serde_json::json;
    use testkit::tee::{EmulatedTee, NOW};

    use super::*;
    use crate::{core::Caller, service::HostHints};

    /// Nobody asks anything of the coordinator, which starts again in between.
    #[test]
    fn an_update_is_rolled_back_by_itself_also_after_a_restart() {
        let folder = tempfile::tempdir().unwrap();
        let (owner, user) = (TeeKey::generate().unwrap(), TeeKey::generate().unwrap());
        let time = Arc::new(AtomicI64::new(NOW.0));
        let configuration = CoordinatorConfiguration { owner: *owner.digest(), names: Vec::new(), tpm: None };
        let tee = EmulatedTee::launch(evidence::Platform::Snp, b"coordinator", &configuration.to_json());
        let hints = HostHints { state: folder.path().join("state"), ..HostHints::default() };
        let start = || {
            let time = time.clone();
            let clock = Arc::new(move || UnixTime(time.load(Ordering::Relaxed)));
            Coordinator::open(tee.clone(), configuration.clone(), &hints, clock).unwrap()
        };
        let pem = evidence::pem::encode(&evidence::CertificateDer(user.certificate().to_vec()));
        let manifest = |code: &str| {
            let text = json!({
                "Packages": {"app": {"UniqueID": code.repeat(32)}},
                "Marbles": {"web": {"Package": "app"}},
                "Users": {"ann": {"Certificate": pem, "Roles": ["admin"]}},
                "Roles": {"admin": {"ResourceType": "Manifest", "Actions": ["UpdateManifest"]}},
                "Config": {"RollBackAfter": "10m"},
            });
            text.to_string().into_bytes()
        };
        let caller = |key: &TeeKey| Caller::by_certificate(key.certificate().to_vec());
        let coordinator = start();
        coordinator
            .commit_making(|state, keys| {
                let (owner, digest) = (caller(&owner), *owner.digest());
                let (event, _) = core::set_manifest(state, &digest, &owner, &manifest("11"), NOW, keys)?;
                Ok(Decided::one(event, ()))
            })
            .unwrap();
        let activated = Event::Activated {
            marble: "web".into(),
            instance: ByteArray::new([1; 32]),
            epoch: 1,
            seat: core::Seat {
                platform: "sgx".parse().unwrap(),
                machine: None,
                emulated: true,
                native: false,
            },
            delivered: [].into(),
            certificates: vec![core::Issued { serial: ByteArray::new([1; 16]), until: NOW.0 + 3600 }],
            release: None,
            package: None,
            at: NOW.0,
        };
        coordinator.commit(|_| Ok(Decided::one(activated.clone(), ()))).unwrap();
        let none = std::collections::BTreeSet::new();
        coordinator
            .commit_making(|state, keys| {
                let (events, _) = core::update(state, &caller(&user), &manifest("22"), &none, NOW, keys)?;
                Ok(Decided { events, shares: None, answer: () })
            })
            .unwrap();
        assert!(!coordinator.roll_back_when_due().unwrap());
        drop(coordinator);

        time.store(NOW.0 + 600, Ordering::Relaxed);
        let coordinator = start();
        assert!(!coordinator.roll_back_when_due().unwrap(), "there is time until the last second");
        time.store(NOW.0 + 601, Ordering::Relaxed);
        assert!(coordinator.roll_back_when_due().unwrap());
        assert!(!coordinator.roll_back_when_due().unwrap(), "once");
        let state = coordinator.snapshot().unwrap().state;
        let mesh = state.mesh().unwrap();
        assert_eq!((mesh.epoch(), mesh.manifest_bytes()), (3, manifest("11").as_slice()));
    }
}

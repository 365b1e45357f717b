//! Roll-back: an update after which not every Marble that ran before runs again in time is taken back by itself. The
//! state keeps what was in force directly before the update, and goes back to that and to nothing else, so that nobody
//! needs to agree to it anew; as an epoch of its own, so that certificates of the failed one are told apart.
//!
//! ```text
//!  ManifestUpdated ──▶ waiting ──each awaited Marble activated──▶ settled
//!                         │ ├──versions raised, recovery, the next update──▶ settled
//!                         └─┴──time is up──▶ RolledBack, next epoch
//! ```

use std::{collections::BTreeSet, sync::Arc};

use appraisal::UnixTime;
use manifest::{Manifest, SecretSource};
use zeroize::Zeroizing;

use super::{
    Event, Mesh, State, event,
    keys::{Need, NewKeys, Undecided},
    resources::Resources,
    update,
    versions::{Kept, Secrets, Standing},
};

/// The way back from an update.
#[derive(Clone)]
pub(super) struct Undo {
    /// What was in force, with the security versions in force then.
    pub(super) manifest: Arc<Manifest>,
    pub(super) manifest_bytes: Arc<Vec<u8>>,
    /// The epoch in which it was.
    pub(super) epoch: u64,
    pub(super) secrets: Secrets,
    pub(super) root_secret: Zeroizing<[u8; 32]>,
    pub(super) previous_root_secret: Option<Zeroizing<[u8; 32]>>,
    /// Marbles that ran before and have not been activated since; never empty.
    pub(super) awaited: BTreeSet<String>,
    /// Until when they have time, in seconds.
    pub(super) until: i64,
    /// Resources for which the update left no place.
    pub(super) displaced: Resources,
}

impl Undo {
    /// The way back from an update at `at` of `mesh` to `new`, if it asks for one and anything is to be awaited.
    pub(super) fn before(mesh: &Mesh, root_secret: &[u8; 32], new: &Manifest, at: i64) -> Option<Arc<Self>> {
        let after = new.settings().roll_back_after?;
        let ran = mesh.instances(UnixTime(at)).into_keys().filter(|marble| new.marble(marble).is_some());
        let awaited: BTreeSet<_> = ran.map(str::to_owned).collect();
        let (secrets, previous_root_secret) = mesh.all_secrets();
        (!awaited.is_empty()).then(|| {
            Arc::new(Self {
                manifest: mesh.shared_manifest().clone(),
                manifest_bytes: mesh.shared_manifest_bytes().clone(),
                epoch: mesh.epoch(),
                secrets: secrets.clone(),
                root_secret: Zeroizing::new(*root_secret),
                previous_root_secret: previous_root_secret.cloned(),
                awaited,
                until: at.saturating_add(update::seconds(after)),
                displaced: Resources::default(),
            })
        })
    }

    /// The same way, with resources that come back by it.
    pub(super) fn keeping(self: Arc<Self>, displaced: Resources) -> Arc<Self> {
        Arc::new(Self { displaced, ..Arc::unwrap_or_clone(self) })
    }

    /// The way back when this Marble runs again; none, where it was the last one.
    pub(super) fn without(undo: Arc<Self>, marble: &str) -> Option<Arc<Self>> {
        if !undo.awaited.contains(marble) {
            return Some(undo);
        }
        let mut undo = Arc::unwrap_or_clone(undo);
        undo.awaited.remove(marble);
        (!undo.awaited.is_empty()).then(|| Arc::new(undo))
    }

    /// The values that are in force after it: those from before the update, and what users uploaded since. What the
    /// update changed is back as a new version: numbers are not used twice.
    pub(super) fn restored(&self, now: &Secrets) -> Secrets {
        let mut secrets = now.clone();
        secrets.retain(|name| self.manifest.secrets().contains_key(name));
        for (name, kept) in self.secrets.iter() {
            let uploaded = self.manifest.secrets().get(name.as_str());
            let uploaded = uploaded.is_some_and(|secret| secret.source == SecretSource::UserDefined);
            let stays = |now: &Kept| uploaded || now.current.number == kept.current.number;
            if now.get(name).is_some_and(stays) {
                continue;
            }
            let mut keeps_old = false;
            for version in kept.before.iter().chain([&kept.current]) {
                if let Some(value) = version.value.clone() {
                    secrets.put(name.clone(), value, (version.made_at, version.until), keeps_old);
                    keeps_old = true;
                }
            }
            if let Standing::Exposed { withheld } = kept.standing {
                secrets.expose(name, secrets.next(name) - 1, withheld);
            }
        }
        secrets
    }
}

/// The roll-back that is due, if one is.
pub fn roll_back(state: &State, now: UnixTime, keys: Option<&NewKeys>) -> Result<Option<Event>, Undecided> {
    let Some(undo) = state.mesh().and_then(Mesh::undo).filter(|undo| now.0 > undo.until) else {
        return Ok(None);
    };
    let certificates = update::certificates(&undo.manifest);
    let keys = Need::epoch(state, undo.manifest.clone(), certificates).met_by(keys)?;
    Ok(Some(Event::RolledBack {
        missing: undo.awaited.clone(),
        epoch: keys.epoch.clone(),
        generated: keys.generated.clone(),
        at: event::seconds(now),
    }))
}

/// Whether a roll-back is due.
pub fn roll_back_due(state: &State, now: UnixTime) -> bool {
    state.mesh().and_then(Mesh::undo).is_some_and(|undo| now.0 > undo.until)
}

//! Who may open the state elsewhere is what the manifest in force says, also of those who had a share before: when one
//! leaves, or it takes more of them than it took, the master key is exchanged, and the log with it.
//!
//! ```text
//! key A ─▶ sealed: B, and A before it ─▶ CA kept with B ─▶ shares of B, with A for who has B ─▶ log goes on with B,
//!          base backup, cut before B ─▶ sealed: B alone ─▶ shares of B alone
//! ```
//!
//! Between any two of these steps the state opens: here with what is sealed, elsewhere with the shares that there are.
//! What is begun is ended at the next start. Whoever kept an old copy of the log and enough old shares can read that
//! copy still: what they could read then, they could read.

use std::path::Path;

use attested_tls::clock::Clock;
use database_manifest::Recovery;

use super::{ServiceError, recovering::keep_shares};
use crate::{
    audit::{Audit, Event},
    keys::{Keys, MasterKey},
    recovery::KnownTo,
    sealer::Sealer,
};

/// What keeps keys in step with the manifest.
pub struct Rotating<'a> {
    /// Where they lie.
    pub keys: Keys<'a>,
    /// The host's folder.
    pub state: &'a Path,
    /// The lineage.
    pub first: [u8; 32],
    /// What seals the log.
    pub sealer: &'a Sealer,
    /// Where an exchange is recorded.
    pub audit: &'a Audit,
    /// The time.
    pub clock: &'a Clock,
}

impl Rotating<'_> {
    /// Deals shares to those whom the manifest names, and sees that nobody else has any that open something.
    ///
    /// # Errors
    /// Of the host, or of the sealer.
    pub async fn in_step(
        &self,
        master: &mut MasterKey,
        recovery: Option<&Recovery>,
    ) -> Result<(), ServiceError> {
        let now = KnownTo::of(recovery);
        loop {
            let is_within = master.known_to().is_some_and(|known| known.is_within(&now));
            if !is_within && master.is_alone() {
                let mut next = master.successor()?;
                next.becomes_known_to(Some(now.clone()));
                self.keys.keep_master(&next)?;
                *master = next;
            } else if master.known_to() != Some(&now) {
                // Where somebody left in the middle of an exchange, another one follows.
                master.becomes_known_to(is_within.then(|| now.clone()));
                self.keys.keep_master(master)?;
            }
            if !master.is_alone() {
                self.keys.authority(master, (self.clock)())?;
            }
            keep_shares(self.state, recovery, master)?;
            if master.is_alone() {
                return Ok(());
            }
            if !self.sealer.rekey(master.log_key(&self.first)?).await? {
                tracing::warn!(
                    code = "KEY_NOT_EXCHANGED",
                    "the log still needs the key before: at the next start"
                );
                return Ok(());
            }
            *master = master.alone();
            self.keys.keep_master(master)?;
            let holders = recovery.map(|it| it.holders.keys().cloned().collect()).unwrap_or_default();
            self.audit.record(Event::Rekeyed { holders }).await.map_err(|_| ServiceError::EngineEnded)?;
            tracing::info!(
                code = "KEY_EXCHANGED",
                "the master key was exchanged: shares of the one before open nothing"
            );
        }
    }
}

//! Who did not come in. Anyone can knock with as many certificates as they make, so not every knock gets an entry: what
//! is too much is counted, and told with the next.

use std::sync::Arc;

use aws_lc_rs::digest::{SHA256, digest};
use rustls::pki_types::CertificateDer;

use super::{Audit, AuditError, Event, Interface};
use crate::identity::NotAParty;

/// Entries in a minute.
const MOST: u32 = 100;

/// What was recorded in this minute.
#[derive(Debug, Default)]
pub(super) struct Door {
    minute: i64,
    listed: u32,
    unlisted: u64,
}

impl Door {
    /// Whether there is an entry for one more, and how many had none since the last.
    fn admit(&mut self, now: i64) -> Option<u64> {
        let minute = now.div_euclid(60);
        if minute != self.minute {
            (self.minute, self.listed) = (minute, 0);
        }
        if self.listed >= MOST {
            self.unlisted += 1;
            return None;
        }
        self.listed += 1;
        Some(std::mem::take(&mut self.unlisted))
    }
}

impl Audit {
    /// Records whom the anchors did not let in, before they are told.
    ///
    /// # Errors
    /// When it cannot be recorded.
    pub async fn turned_away(
        &self,
        chain: &[CertificateDer<'_>],
        interface: Interface,
        why: &NotAParty,
    ) -> Result<(), Arc<AuditError>> {
        self.turned_away_for(chain.first(), interface, why.code(), &why.to_string()).await
    }

    /// Records whom something else than the anchors kept out: what it sent was no beginning of a session.
    ///
    /// # Errors
    /// When it cannot be recorded.
    pub async fn turned_away_for(
        &self,
        leaf: Option<&CertificateDer<'_>>,
        interface: Interface,
        code: &str,
        why: &str,
    ) -> Result<(), Arc<AuditError>> {
        let now = (self.clock)().0;
        let admitted = self.door.lock().unwrap_or_else(std::sync::PoisonError::into_inner).admit(now);
        let Some(unlisted) = admitted else { return Ok(()) };
        let reason = match unlisted {
            0 => why.to_owned(),
            more => format!("{why} ({more} others were turned away before and have no entry)"),
        };
        let certificate = leaf.map(|leaf| hex::encode(digest(&SHA256, leaf)));
        let code = code.to_owned();
        self.record(Event::LoginDenied { certificate, interface, code, reason }).await.map(drop)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_knocks_too_often_is_counted_and_told_of_later() {
        let mut door = Door::default();
        for _ in 0..MOST {
            assert_eq!(door.admit(600), Some(0));
        }
        assert_eq!((door.admit(601), door.admit(659)), (None, None));
        assert_eq!(door.admit(660), Some(2));
        assert_eq!(door.admit(661), Some(0));
        assert_eq!(door.admit(0), Some(0), "a clock that was turned back");
    }
}

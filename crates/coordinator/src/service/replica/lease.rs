//! Until when this replica may answer, by its own monotonic clock.

use std::{
    sync::atomic::{AtomicU64, Ordering::SeqCst},
    time::Instant,
};

/// A lease: counted from when its renewal was sent, not from when the answer came.
pub(super) struct Lease {
    began: Instant,
    /// Milliseconds since `began`.
    until: AtomicU64,
}

impl Default for Lease {
    fn default() -> Self {
        Self { began: Instant::now(), until: AtomicU64::new(0) }
    }
}

impl Lease {
    pub(super) fn lasts(&self, now: Instant) -> bool {
        now.saturating_duration_since(self.began).as_millis() < u128::from(self.until.load(SeqCst))
    }

    /// Never shortens it: a later renewal may be answered before an earlier one.
    pub(super) fn lasts_until(&self, until: Instant) {
        let until = until.saturating_duration_since(self.began).as_millis();
        self.until.fetch_max(u64::try_from(until).unwrap_or(u64::MAX), SeqCst);
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn a_lease_ends_by_our_own_clock() {
        let lease = Lease::default();
        let now = Instant::now();
        assert!(!lease.lasts(now), "nothing lasts before etcd said so");
        lease.lasts_until(now + Duration::from_secs(5));
        lease.lasts_until(now + Duration::from_secs(3));
        assert!(lease.lasts(now + Duration::from_millis(4900)));
        assert!(!lease.lasts(now + Duration::from_millis(5001)));
    }
}

//! How long to wait before the next launch: twice as long after each short run, up to a limit, and from the
//! beginning again after a long one. Pure.

use std::time::Duration;

use serde::{Deserialize, Serialize};

/// The numbers of a [`Backoff`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct BackoffPolicy {
    /// After the first short run, in milliseconds.
    pub first_ms: u64,
    /// At most, in milliseconds.
    pub limit_ms: u64,
    /// A run is long from this many milliseconds on.
    pub reset_after_ms: u64,
}

impl Default for BackoffPolicy {
    fn default() -> Self {
        Self { first_ms: 250, limit_ms: 30_000, reset_after_ms: 60_000 }
    }
}

/// The waiting of one process.
#[derive(Clone, Debug)]
pub struct Backoff {
    policy: BackoffPolicy,
    next_ms: u64,
}

impl Backoff {
    /// Nothing has ended yet.
    pub fn new(policy: BackoffPolicy) -> Self {
        Self { policy, next_ms: policy.first_ms }
    }

    /// The process ended after running for so long (zero if it could not be launched): the time to wait.
    pub fn after(&mut self, ran_for: Duration) -> Duration {
        if ran_for >= Duration::from_millis(self.policy.reset_after_ms) {
            self.next_ms = self.policy.first_ms;
        }
        let delay = self.next_ms.min(self.policy.limit_ms);
        self.next_ms = delay.saturating_mul(2).min(self.policy.limit_ms);
        Duration::from_millis(delay)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn delays(runs_ms: &[u64]) -> Vec<u128> {
        let mut backoff = Backoff::new(BackoffPolicy::default());
        runs_ms.iter().map(|run| backoff.after(Duration::from_millis(*run)).as_millis()).collect()
    }

    #[test]
    fn doubles_up_to_thirty_seconds() {
        let expected = [250, 500, 1000, 2000, 4000, 8000, 16_000, 30_000, 30_000];
        assert_eq!(delays(&[0; 9]), expected);
    }

    #[test]
    fn begins_again_after_a_minute_of_running() {
        assert_eq!(delays(&[0, 0, 59_999, 60_000, 0]), [250, 500, 1000, 250, 500]);
    }

    proptest! {
        #[test]
        fn never_leaves_its_bounds(
            first_ms in 0..u64::MAX, limit_ms in 0..u64::MAX, reset_after_ms in 1..u64::MAX,
            runs in proptest::collection::vec(0..u64::MAX, 0..100),
        ) {
            let mut backoff = Backoff::new(BackoffPolicy { first_ms, limit_ms, reset_after_ms });
            let mut last = 0;
            for run in runs {
                let delay = backoff.after(Duration::from_millis(run)).as_millis();
                prop_assert!(delay <= u128::from(limit_ms));
                prop_assert!(delay >= last || run >= reset_after_ms);
                last = delay;
            }
        }
    }
}

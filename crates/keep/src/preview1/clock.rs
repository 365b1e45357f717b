//! The module's clocks. The time of day is the host's word, as for all workloads (S-19).

use std::time::{Duration, UNIX_EPOCH};

/// Since 1970; a host that says it is earlier is not believed.
pub(super) fn real() -> Duration {
    #[expect(clippy::disallowed_methods, reason = "the workload's clock, which decides nothing here")]
    let now = std::time::SystemTime::now();
    now.duration_since(UNIX_EPOCH).unwrap_or_default()
}

/// As preview 1 counts.
pub(super) fn nanoseconds(time: Duration) -> Option<u64> {
    u64::try_from(time.as_nanos()).ok()
}

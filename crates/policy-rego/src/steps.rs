//! Steps instead of time. The interpreter asks a clock after each unit of its work, and compares what has passed with
//! a limit. Our clock moves by one nanosecond each time that it is asked, so a limit of as many nanoseconds is one
//! of steps, and the same policy on the same input stops at the same place on every machine.

use std::cell::Cell;
use std::num::NonZeroU32;
use std::time::Duration;

use regorus::utils::limits::{ExecutionTimerConfig, TimeSource, set_time_source};

thread_local! {
    static STEPS: Cell<u64> = const { Cell::new(0) };
}

struct Steps;

impl TimeSource for Steps {
    fn now(&self) -> Option<Duration> {
        Some(Duration::from_nanos(STEPS.with(|steps| {
            steps.set(steps.get().saturating_add(1));
            steps.get()
        })))
    }
}

/// A limit of so many steps for each evaluation.
pub(crate) fn limit(steps: u64) -> ExecutionTimerConfig {
    // There is one clock for the process, and ours is the only one that this process sets: the second time it is
    // there already.
    let _ = set_time_source(&Steps);
    ExecutionTimerConfig { limit: Duration::from_nanos(steps), check_interval: NonZeroU32::MIN }
}

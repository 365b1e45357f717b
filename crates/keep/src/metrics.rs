//! What a service did, in numbers. They go where its log goes, and to nobody by default.

use std::{
    fmt,
    sync::atomic::{AtomicU64, Ordering},
    time::Duration,
};

/// How often they are told.
pub(crate) const EVERY: Duration = Duration::from_secs(60);

/// Counted since the service began.
#[derive(Default)]
pub(crate) struct Metrics {
    requests: AtomicU64,
    failed: AtomicU64,
    cpu_us: AtomicU64,
}

/// The same at one moment, with what was printed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Counted {
    /// Requests that were answered, by the workload or by its Keep in its place.
    pub(crate) requests: u64,
    /// Those among them that the Keep answered: the workload failed, exceeded a limit, or was busy.
    pub(crate) failed: u64,
    /// Processor time of all requests, in milliseconds.
    pub(crate) cpu_ms: u64,
    /// Bytes that were printed.
    pub(crate) output_bytes: u64,
    /// Lines that were printed faster than the log takes them.
    pub(crate) lines_dropped: u64,
}

/// As JSON: there are only numbers.
impl fmt::Display for Counted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { requests, failed, cpu_ms, output_bytes, lines_dropped } = self;
        write!(f, r#"{{"requests":{requests},"failed":{failed},"cpu_ms":{cpu_ms},"#)?;
        write!(f, r#""output_bytes":{output_bytes},"lines_dropped":{lines_dropped}}}"#)
    }
}

impl Metrics {
    /// A request has its answer.
    pub(crate) fn answered(&self, by_the_workload: bool) {
        self.requests.fetch_add(1, Ordering::Relaxed);
        if !by_the_workload {
            self.failed.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// An instance ran for so long.
    pub(crate) fn ran(&self, cpu: Duration) {
        self.cpu_us.fetch_add(u64::try_from(cpu.as_micros()).unwrap_or(u64::MAX), Ordering::Relaxed);
    }

    pub(crate) fn counted(&self, output_bytes: u64, lines_dropped: u64) -> Counted {
        let load = |number: &AtomicU64| number.load(Ordering::Relaxed);
        let (requests, failed) = (load(&self.requests), load(&self.failed));
        Counted { requests, failed, cpu_ms: load(&self.cpu_us) / 1000, output_bytes, lines_dropped }
    }
}

//! What a workload used, in numbers: counted in its world, by all its instances. They go where its log goes, and to nobody
//! by default.

use std::{
    fmt,
    sync::atomic::{AtomicU64, Ordering},
    time::Duration,
};

/// How often they are told.
pub(crate) const EVERY: Duration = Duration::from_secs(60);

/// Whose numbers they are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Of {
    /// Of a workload that runs once.
    Command,
    /// Of one that answers requests.
    Service,
}

/// Counted since the workload began.
#[derive(Default)]
pub(crate) struct Metrics {
    requests: AtomicU64,
    failed: AtomicU64,
    cpu_ns: AtomicU64,
    memory: AtomicU64,
}

/// The same at one moment, with what was printed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Counted {
    /// Of a service.
    pub(crate) requests: Option<Requests>,
    /// Processor time of all instances, in milliseconds.
    pub(crate) cpu_ms: u64,
    /// The most linear memory that one instance had.
    pub(crate) memory_bytes: u64,
    /// Bytes that were printed.
    pub(crate) output_bytes: u64,
    /// Lines that were printed faster than the log takes them.
    pub(crate) lines_dropped: u64,
}

/// What a service was asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Requests {
    /// Requests that were answered, by the workload or by its Keep in its place.
    pub(crate) answered: u64,
    /// Those among them that the Keep answered: the workload failed, exceeded a limit, or was busy.
    pub(crate) failed: u64,
}

/// As JSON: there are only numbers.
impl fmt::Display for Counted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { requests, cpu_ms, memory_bytes, output_bytes, lines_dropped } = self;
        f.write_str("{")?;
        if let Some(Requests { answered, failed }) = requests {
            write!(f, r#""requests":{answered},"failed":{failed},"#)?;
        }
        write!(f, r#""cpu_ms":{cpu_ms},"memory_bytes":{memory_bytes},"#)?;
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

    /// An instance ran for so long more.
    pub(crate) fn ran(&self, cpu: Duration) {
        self.cpu_ns.fetch_add(u64::try_from(cpu.as_nanos()).unwrap_or(u64::MAX), Ordering::Relaxed);
    }

    /// An instance has so much linear memory.
    pub(crate) fn has_memory(&self, bytes: u64) {
        self.memory.fetch_max(bytes, Ordering::Relaxed);
    }

    pub(crate) fn counted(&self, of: Of, output_bytes: u64, lines_dropped: u64) -> Counted {
        let load = |number: &AtomicU64| number.load(Ordering::Relaxed);
        let requests = Requests { answered: load(&self.requests), failed: load(&self.failed) };
        Counted {
            requests: (of == Of::Service).then_some(requests),
            cpu_ms: load(&self.cpu_ns) / 1_000_000,
            memory_bytes: load(&self.memory),
            output_bytes,
            lines_dropped,
        }
    }
}

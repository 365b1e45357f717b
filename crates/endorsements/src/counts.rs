//! How often what happened: for metrics, and for tests that nothing happened too often.

use std::sync::atomic::{AtomicU64, Ordering};

#[derive(Debug, Default)]
pub(crate) struct Counters {
    pub(crate) requests: AtomicU64,
    pub(crate) retries: AtomicU64,
    pub(crate) rate_limited: AtomicU64,
    pub(crate) failures: AtomicU64,
    pub(crate) cached: AtomicU64,
    pub(crate) stale: AtomicU64,
    pub(crate) joined: AtomicU64,
    pub(crate) dropped: AtomicU64,
    pub(crate) unwritten: AtomicU64,
}

/// How often what happened since the client was made.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Requests sent, each try counted.
    pub requests: u64,
    /// Tries after the first.
    pub retries: u64,
    /// Answers that asked for rest (429).
    pub rate_limited: u64,
    /// Items that could not be had from the vendor.
    pub failures: u64,
    /// Items served from the cache without asking.
    pub cached: u64,
    /// Items served from the cache because the vendor could not be asked.
    pub stale: u64,
    /// Items had by waiting for a request of another.
    pub joined: u64,
    /// Entries of the cache that could not be used.
    pub dropped: u64,
    /// Answers that the cache could not keep.
    pub unwritten: u64,
}

pub(crate) fn add(counter: &AtomicU64) {
    counter.fetch_add(1, Ordering::Relaxed);
}

impl Counters {
    pub(crate) fn read(&self) -> Counts {
        let Counters { requests, retries, rate_limited, failures, cached, stale, joined, dropped, unwritten } =
            self;
        let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        Counts {
            requests: read(requests),
            retries: read(retries),
            rate_limited: read(rate_limited),
            failures: read(failures),
            cached: read(cached),
            stale: read(stale),
            joined: read(joined),
            dropped: read(dropped),
            unwritten: read(unwritten),
        }
    }
}

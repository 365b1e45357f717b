//! What a workload may use, and how its end is brought about when it uses more: whatever notices raises the instance's
//! [`Alarm`], and what runs the instance ends it.

use std::{
    fmt,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    task::{Poll, Waker},
};

use keep_protocol::keep::Limit;
use wasmtime::ResourceLimiter;

use crate::metrics::Metrics;

/// A limit of [`keep_config::Limits`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Which {
    /// Linear memory.
    Memory,
    /// Processor time.
    Cpu,
    /// Time from start to end.
    Wall,
    /// Files, directories and streams open at a time.
    OpenFiles,
    /// Connections at a time.
    Connections,
    /// Bytes printed.
    Output,
}

impl Which {
    /// Stable code.
    pub fn code(self) -> &'static str {
        Limit::from(self).code()
    }
}

impl From<Which> for Limit {
    fn from(which: Which) -> Self {
        match which {
            Which::Memory => Self::Memory,
            Which::Cpu => Self::Cpu,
            Which::Wall => Self::Wall,
            Which::OpenFiles => Self::OpenFiles,
            Which::Connections => Self::Connections,
            Which::Output => Self::Output,
        }
    }
}

impl fmt::Display for Which {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Memory => "the workload wanted more memory than `limits.memory` allows",
            Self::Cpu => "the workload used up the processor time that `limits.cpu` allows",
            Self::Wall => "the workload did not end in the time that `limits.wall` allows",
            Self::OpenFiles => "the workload opened more files than `limits.open-files` allows",
            Self::Connections => "the workload made more connections than `limits.connections` allows",
            Self::Output => "the workload printed more than `limits.output` allows",
        })
    }
}

/// The error with which a call of the workload ends that exceeded a limit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct Exceeded(pub Which);

/// One instance's alarm: the first limit that was exceeded. Clones are the same alarm.
#[derive(Clone, Default)]
pub(crate) struct Alarm(Arc<Mutex<Raised>>);

#[derive(Default)]
struct Raised {
    which: Option<Which>,
    waiting: Option<Waker>,
}

impl Alarm {
    fn state(&self) -> MutexGuard<'_, Raised> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The instance is ended for this.
    pub(crate) fn raise(&self, which: Which) -> Exceeded {
        let mut state = self.state();
        let which = *state.which.get_or_insert(which);
        if let Some(waker) = state.waiting.take() {
            waker.wake();
        }
        Exceeded(which)
    }

    /// The limit that was exceeded, if one was.
    pub(crate) fn exceeded(&self) -> Option<Which> {
        self.state().which
    }

    /// Returns when a limit was exceeded. For the one task that runs the instance.
    pub(crate) async fn raised(&self) -> Which {
        std::future::poll_fn(|cx| {
            let mut state = self.state();
            match state.which {
                Some(which) => Poll::Ready(which),
                None => {
                    state.waiting = Some(cx.waker().clone());
                    Poll::Pending
                }
            }
        })
        .await
    }
}

/// As many tables and instances as a component of today's largest toolchains has, with room.
const MAX_TABLES: usize = 64;
const MAX_INSTANCES: usize = 128;
const MAX_MEMORIES: usize = 16;
/// Elements of one table; the pool's slots have this size.
pub(crate) const MAX_TABLE_ELEMENTS: usize = 1 << 18;

/// Memory of one instance, over all its linear memories.
pub(crate) struct MemoryLimit {
    left: usize,
    used: u64,
    alarm: Alarm,
    metrics: Arc<Metrics>,
}

impl MemoryLimit {
    /// At most `bytes`.
    pub(crate) fn new(bytes: u64, alarm: Alarm, metrics: Arc<Metrics>) -> Self {
        Self { left: usize::try_from(bytes).unwrap_or(usize::MAX), used: 0, alarm, metrics }
    }
}

impl ResourceLimiter for MemoryLimit {
    fn memory_growing(
        &mut self,
        current: usize,
        desired: usize,
        maximum: Option<usize>,
    ) -> wasmtime::Result<bool> {
        let more = desired.saturating_sub(current);
        match self.left.checked_sub(more) {
            None => Err(self.alarm.raise(Which::Memory).into()),
            // What the module itself declares as its most, or the pool's slot.
            Some(_) if maximum.is_some_and(|maximum| desired > maximum) => Ok(false),
            Some(left) => {
                self.left = left;
                self.used += more as u64;
                // It never shrinks.
                self.metrics.has_memory(self.used);
                Ok(true)
            }
        }
    }

    fn table_growing(
        &mut self,
        _current: usize,
        desired: usize,
        maximum: Option<usize>,
    ) -> wasmtime::Result<bool> {
        Ok(desired <= MAX_TABLE_ELEMENTS && maximum.is_none_or(|maximum| desired <= maximum))
    }

    fn instances(&self) -> usize {
        MAX_INSTANCES
    }

    fn tables(&self) -> usize {
        MAX_TABLES
    }

    fn memories(&self) -> usize {
        MAX_MEMORIES
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::metrics::Of;

    #[tokio::test]
    async fn the_first_limit_is_the_reason() {
        let alarm = Alarm::default();
        alarm.raise(Which::Output);
        assert_eq!(alarm.raise(Which::Memory), Exceeded(Which::Output));
        assert_eq!(alarm.raised().await, Which::Output);
    }

    #[test]
    fn memory_is_counted_over_all_memories() {
        let metrics = Arc::<Metrics>::default();
        let mut limit = MemoryLimit::new(3 << 16, Alarm::default(), Arc::clone(&metrics));
        assert!(limit.memory_growing(0, 1 << 16, None).unwrap());
        assert!(limit.memory_growing(0, 1 << 16, None).unwrap());
        assert!(!limit.memory_growing(1 << 16, 2 << 16, Some(1 << 16)).unwrap(), "above its own maximum");
        assert!(limit.memory_growing(1 << 16, 2 << 16, None).unwrap());
        let error = limit.memory_growing(0, 1 << 16, None).unwrap_err();
        assert_eq!(error.downcast_ref(), Some(&Exceeded(Which::Memory)));
        let counted = metrics.counted(Of::Command, 0, 0);
        assert_eq!(counted.memory_bytes, 3 << 16, "what was not given is not counted");
    }
}

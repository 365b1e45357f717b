//! Processor time of requests. A ticker thread moves the engine's epoch on, so that running WebAssembly yields
//! every few milliseconds; a wrapper around each request's future adds up the time its thread really ran, and
//! ends it at the limit. Waiting (for a peer, a body) is not charged.

use std::{
    pin::Pin,
    sync::{Arc, Condvar, Mutex, PoisonError},
    task::{Context, Poll},
    thread,
    time::Duration,
};

use rustix::time::{ClockId, Timespec, clock_gettime};
use wasmtime::{Engine, EngineWeak};

use crate::metrics::Metrics;

/// How long WebAssembly runs before it yields to other requests.
const TICK: Duration = Duration::from_millis(5);

/// Moves an engine's epoch on while at least one request runs; an idle Keep does not wake up.
pub(crate) struct Ticker {
    shared: Arc<Shared>,
}

struct Shared {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Default)]
struct State {
    running: usize,
    ended: bool,
}

impl Ticker {
    /// Starts the thread; it ends with the ticker or the engine.
    pub(crate) fn start(engine: &Engine) -> std::io::Result<Self> {
        let shared = Arc::new(Shared { state: Mutex::default(), changed: Condvar::new() });
        let (watched, engine) = (Arc::clone(&shared), engine.weak());
        thread::Builder::new().name("epoch".into()).spawn(move || tick(&watched, &engine))?;
        Ok(Self { shared })
    }

    /// The epoch moves on for as long as the result lives.
    pub(crate) fn run(&self) -> Running {
        self.shared.change(|state| state.running += 1);
        Running(Arc::clone(&self.shared))
    }
}

impl Drop for Ticker {
    fn drop(&mut self) {
        self.shared.change(|state| state.ended = true);
    }
}

/// See [`Ticker::run`].
pub(crate) struct Running(Arc<Shared>);

impl Drop for Running {
    fn drop(&mut self) {
        self.0.change(|state| state.running -= 1);
    }
}

impl Shared {
    fn change(&self, act: impl FnOnce(&mut State)) {
        act(&mut self.state.lock().unwrap_or_else(PoisonError::into_inner));
        self.changed.notify_one();
    }
}

fn tick(shared: &Shared, engine: &EngineWeak) {
    loop {
        let state = shared.state.lock().unwrap_or_else(PoisonError::into_inner);
        let state = shared
            .changed
            .wait_while(state, |state| state.running == 0 && !state.ended)
            .unwrap_or_else(PoisonError::into_inner);
        if state.ended {
            return;
        }
        drop(state);
        thread::sleep(TICK);
        match engine.upgrade() {
            Some(engine) => engine.increment_epoch(),
            None => return,
        }
    }
}

/// The request used its processor time up.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the request used up its processor time")]
pub(crate) struct CpuExceeded;

/// A future that may run for `limit` of processor time in all, and is counted.
pub(crate) struct Metered<F> {
    future: Pin<Box<F>>,
    limit: Duration,
    used: Duration,
    metrics: Arc<Metrics>,
}

impl<F> Metered<F> {
    pub(crate) fn new(future: F, limit: Duration, metrics: Arc<Metrics>) -> Self {
        Self { future: Box::pin(future), limit, used: Duration::ZERO, metrics }
    }
}

impl<F: Future> Future for Metered<F> {
    type Output = Result<F::Output, CpuExceeded>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        // One poll runs on one thread from beginning to end, so that thread's clock measures it.
        let before = thread_time();
        let polled = self.future.as_mut().poll(cx);
        let ran = thread_time().saturating_sub(before);
        self.used += ran;
        self.metrics.ran(ran);
        match polled {
            Poll::Ready(output) => Poll::Ready(Ok(output)),
            Poll::Pending if self.used > self.limit => Poll::Ready(Err(CpuExceeded)),
            Poll::Pending => Poll::Pending,
        }
    }
}

fn thread_time() -> Duration {
    let Timespec { tv_sec, tv_nsec } = clock_gettime(ClockId::ThreadCPUTime);
    Duration::new(u64::try_from(tv_sec).unwrap_or(0), u32::try_from(tv_nsec).unwrap_or(0))
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use super::*;

    #[tokio::test]
    async fn waiting_is_not_charged_and_running_is() {
        let limit = Duration::from_millis(20);
        let waits = async { tokio::time::sleep(Duration::from_millis(60)).await };
        assert_eq!(Metered::new(waits, limit, Arc::default()).await, Ok(()));

        let runs = async {
            loop {
                let begun = Instant::now();
                while begun.elapsed() < Duration::from_millis(1) {}
                tokio::task::yield_now().await;
            }
        };
        let mut metered = Metered::new(runs, limit, Arc::default());
        assert!(matches!((&mut metered).await, Err::<(), _>(CpuExceeded)));
        assert!(metered.used > limit);
    }
}

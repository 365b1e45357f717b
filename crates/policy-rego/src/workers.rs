//! Threads with stacks that hold the interpreter's recursion, made once: a thread for each evaluation would cost more
//! than most evaluations. A panic ends an evaluation, and neither its thread nor its asker.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::thread;

use crate::{Fault, STACK};

/// How many evaluations wait at most before askers do.
const WAITING: usize = 64;
/// More than this many at once help nobody: evaluations are short.
const MOST: usize = 4;

type Job = Box<dyn FnOnce() + Send>;

/// Runs work on one of the threads, and waits for it.
pub(crate) fn run<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, Fault> + Send + 'static,
) -> Result<T, Fault> {
    static QUEUE: OnceLock<Option<SyncSender<Job>>> = OnceLock::new();
    let none = || Fault::Limit("there is no thread to run it on".into());
    let queue = QUEUE.get_or_init(start).as_ref().ok_or_else(none)?;
    let (answer, answered) = sync_channel(1);
    let job = move || {
        let gave_up = |_| Err(Fault::Invalid("the interpreter gave up".into()));
        // Whoever asked waits below, so there is somebody to take the answer.
        let _ = answer.send(catch_unwind(AssertUnwindSafe(work)).unwrap_or_else(gave_up));
    };
    queue.send(Box::new(job)).map_err(|_| none())?;
    answered.recv().unwrap_or_else(|_| Err(none()))
}

fn start() -> Option<SyncSender<Job>> {
    let (queue, jobs) = sync_channel(WAITING);
    let jobs = Arc::new(Mutex::new(jobs));
    let threads = thread::available_parallelism().map_or(1, usize::from).min(MOST);
    let started = (0..threads).filter(|_| {
        let jobs = Arc::clone(&jobs);
        thread::Builder::new().name("rego".into()).stack_size(STACK).spawn(move || serve(&jobs)).is_ok()
    });
    (started.count() > 0).then_some(queue)
}

fn serve(jobs: &Mutex<Receiver<Job>>) {
    loop {
        let job = jobs.lock().unwrap_or_else(PoisonError::into_inner).recv();
        match job {
            Ok(job) => job(),
            Err(_) => return,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_panic_ends_an_evaluation_and_no_thread() {
        for _ in 0..2 * MOST {
            let panicked = run(|| -> Result<(), Fault> { panic!("an evaluation that panics") });
            assert_eq!(panicked, Err(Fault::Invalid("the interpreter gave up".into())));
        }
        assert_eq!(run(|| Ok(7)), Ok(7));
    }
}

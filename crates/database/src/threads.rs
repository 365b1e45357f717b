//! Waiting for threads of ours.

use std::thread::{self, JoinHandle};

use tokio::{
    runtime::{Handle, RuntimeFlavor},
    task::block_in_place,
};

/// Waits until it ends. A worker of the runtime hands on all else that it carries before: the thread may itself wait for
/// what the runtime brings, as where a log's anchor is reached through it.
pub(crate) fn join<T>(thread: JoinHandle<T>) -> thread::Result<T> {
    let hands_on = Handle::try_current().is_ok_and(|it| it.runtime_flavor() == RuntimeFlavor::MultiThread);
    if hands_on { block_in_place(|| thread.join()) } else { thread.join() }
}

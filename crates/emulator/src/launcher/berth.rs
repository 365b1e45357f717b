//! Where a process that outlives its connection is found again: by the digest of its handle.

use std::collections::HashMap;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use rustix::event::{EventfdFlags, eventfd};

use super::session::refuse;
use crate::control::{Handle, Lasting, Refusal, RefusalCode};

/// All processes that can be attached to.
#[derive(Default)]
pub(super) struct Berths(Mutex<HashMap<[u8; 32], Arc<Berth>>>);

/// One of them: a new connection is left here, and its session woken.
pub(super) struct Berth {
    arrived: Mutex<Option<UnixStream>>,
    bell: OwnedFd,
}

/// A session's own berth. Dropping it gives it up: nobody finds the process any more.
pub(super) struct Moored {
    berths: Arc<Berths>,
    key: [u8; 32],
    berth: Arc<Berth>,
    /// How long the process may be without a connection.
    pub(super) unattended: Duration,
}

impl Berths {
    /// Takes the berth of a handle.
    pub(super) fn take(self: &Arc<Self>, lasting: &Lasting) -> Result<Moored, Refusal> {
        let bell = eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)
            .map_err(|error| Refusal::new(RefusalCode::PlatformFailed, error.to_string()))?;
        let berth = Arc::new(Berth { arrived: Mutex::new(None), bell });
        let key = lasting.handle.digest();
        let mut berths = self.lock();
        if berths.contains_key(&key) {
            return Err(Refusal::new(RefusalCode::HandleInUse, "there is a process with this handle"));
        }
        berths.insert(key, Arc::clone(&berth));
        let unattended = Duration::from_secs(lasting.unattended_s.into());
        Ok(Moored { berths: Arc::clone(self), key, berth, unattended })
    }

    /// Brings a connection to the session that has this handle; one that waits there already is closed.
    pub(super) fn bring(&self, handle: &Handle, stream: UnixStream) -> Result<(), (UnixStream, Refusal)> {
        // Held until it is there: whoever gives the berth up meanwhile finds it.
        let berths = self.lock();
        let Some(berth) = berths.get(&handle.digest()) else { return Err((stream, gone())) };
        *berth.arrived.lock().unwrap_or_else(PoisonError::into_inner) = Some(stream);
        // The counter cannot overflow before it is read.
        let _ = rustix::io::write(&berth.bell, &1u64.to_ne_bytes());
        Ok(())
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<[u8; 32], Arc<Berth>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Moored {
    /// Becomes readable when a connection has arrived.
    pub(super) fn bell(&self) -> BorrowedFd<'_> {
        self.berth.bell.as_fd()
    }

    /// The connection that has arrived.
    pub(super) fn arrived(&self) -> io::Result<Option<UnixStream>> {
        let _ = rustix::io::read(&self.berth.bell, &mut [0; 8]);
        let stream = self.berth.arrived.lock().unwrap_or_else(PoisonError::into_inner).take();
        stream.map(|stream| stream.set_nonblocking(true).map(|()| stream)).transpose()
    }
}

impl Drop for Moored {
    fn drop(&mut self) {
        self.berths.lock().remove(&self.key);
        // Came too late to be let in, and must not take silence for an answer.
        let late = self.berth.arrived.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(stream) = late {
            refuse(stream, gone());
        }
    }
}

fn gone() -> Refusal {
    Refusal::new(RefusalCode::NoSuchProcess, "no process has this handle")
}

#[cfg(test)]
mod tests {
    use std::io::Read as _;

    use super::*;

    #[test]
    fn who_comes_as_the_process_goes_is_refused_and_not_left_in_silence() {
        let berths = Arc::new(Berths::default());
        let handle = Handle::generate().unwrap();
        let moored = berths.take(&Lasting { handle: handle.clone(), unattended_s: 1 }).unwrap();
        let (mut ours, theirs) = UnixStream::pair().unwrap();
        assert!(berths.bring(&handle, theirs).is_ok());
        drop(moored);
        let mut said = Vec::new();
        ours.read_to_end(&mut said).unwrap();
        assert!(String::from_utf8_lossy(&said).contains("NO_SUCH_PROCESS"), "{said:?}");
    }
}

//! The launching side of the platform: listens on its control socket, and runs one session per connection,
//! each on its own thread (the kernel's parent-death signal is tied to the thread that launches, so that
//! thread stays until its process is gone).
//!
//! A launched process is a private, sealed copy of the executable (`image`), with an empty environment,
//! `/` as its working directory, and four descriptors: nothing to read on 0, the host's eyes on 1 and 2,
//! the platform on 3 (`channel`); and 4 if it was to listen. It ends with the connection that it was launched over,
//! unless it was launched to last (`berth`), and with the emulator. Around it may be walls (`jail`). Unlike real hardware this does not keep the host out: the dynamic loader and the libraries of
//! the host are not measured, and a debugger of the same user can look inside.

mod berth;
mod cgroup;
mod channel;
mod image;
mod process;
mod session;

use std::fs::File;
use std::io;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use self::berth::Berths;
use crate::control::{self, Refusal, RefusalCode};
use crate::socket::{Arrival, PrivateListener, SocketError, Stop};
use crate::vendor::Platform;

/// The most processes at a time.
pub const MAX_PROCESSES: usize = 1024;

/// The most connections at a time: those of the processes, and some that ask for one.
const MAX_SESSIONS: usize = MAX_PROCESSES + 64;

/// Why the platform cannot be switched on, or had to be switched off.
#[derive(Debug, thiserror::Error)]
pub enum LauncherError {
    /// There is no control socket to be had.
    #[error("the platform cannot be switched on")]
    Socket(#[from] SocketError),
    /// The operating system refused something.
    #[error("{attempt} failed")]
    System {
        /// What was attempted.
        attempt: &'static str,
        /// Its error.
        source: io::Error,
    },
}

/// A platform that is switched on: it listens, and launches when it is [served](Launcher::serve).
pub struct Launcher {
    shared: Arc<Shared>,
    listener: PrivateListener,
}

struct Shared {
    platform: Platform,
    sessions: AtomicUsize,
    processes: AtomicUsize,
    berths: Arc<Berths>,
    /// Keeps descriptor 3 of this process in use: a child is given its channel there between fork and
    /// exec, which must not hit a descriptor that the standard library needs until the exec.
    _descriptor_three: File,
}

impl Launcher {
    /// Switches `platform` on: listens for connections on the control socket in its `directory`.
    ///
    /// # Errors
    /// When another emulator does so already, or the directory cannot be used.
    pub fn open(platform: Platform, directory: &Path) -> Result<Self, LauncherError> {
        let descriptor_three = File::open("/dev/null")
            .map_err(|source| LauncherError::System { attempt: "opening /dev/null", source })?;
        let listener = PrivateListener::open(directory, control::SOCKET_NAME)?;
        let shared = Shared {
            platform,
            sessions: AtomicUsize::new(0),
            processes: AtomicUsize::new(0),
            berths: Arc::default(),
            _descriptor_three: descriptor_three,
        };
        Ok(Self { shared: Arc::new(shared), listener })
    }

    /// The control socket.
    pub fn socket(&self) -> &Path {
        self.listener.path()
    }

    /// Launches what connections ask for, until told to stop; returns when the last process is gone.
    ///
    /// # Errors
    /// When waiting for connections fails.
    pub fn serve(self, stop: &Stop) -> Result<(), LauncherError> {
        std::thread::scope(|scope| {
            loop {
                let stream = match self.listener.wait(stop) {
                    Ok(Arrival::Own(stream)) => stream,
                    Ok(Arrival::Foreign(stream)) => {
                        let reason = "this platform belongs to another user";
                        session::refuse(stream, Refusal::new(RefusalCode::NotYourPlatform, reason));
                        continue;
                    }
                    Ok(Arrival::Stopped) => return Ok(()),
                    Err(source) => {
                        stop.request();
                        let attempt = "waiting for connections";
                        return Err(LauncherError::System { attempt, source });
                    }
                };
                let Some(desk) = Desk::take(&self.shared) else {
                    let reason = format!("there are {MAX_SESSIONS} connections already");
                    session::refuse(stream, Refusal::new(RefusalCode::Busy, reason));
                    continue;
                };
                let spawned = std::thread::Builder::new()
                    .name("session".into())
                    .spawn_scoped(scope, move || session::run(stream, &desk.0, stop));
                if let Err(error) = spawned {
                    tracing::error!(%error, "no thread for another session");
                }
            }
        })
    }
}

/// One of the [`MAX_SESSIONS`], given back when dropped.
struct Desk(Arc<Shared>);

impl Desk {
    fn take(shared: &Arc<Shared>) -> Option<Self> {
        let desk = Self(Arc::clone(shared));
        (shared.sessions.fetch_add(1, Ordering::AcqRel) < MAX_SESSIONS).then_some(desk)
    }
}

impl Drop for Desk {
    fn drop(&mut self) {
        self.0.sessions.fetch_sub(1, Ordering::AcqRel);
    }
}

/// One of the [`MAX_PROCESSES`], given back when dropped.
struct Slot(Arc<Shared>);

impl Slot {
    fn take(shared: &Arc<Shared>) -> Option<Self> {
        let slot = Self(Arc::clone(shared));
        (shared.processes.fetch_add(1, Ordering::AcqRel) < MAX_PROCESSES).then_some(slot)
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        self.0.processes.fetch_sub(1, Ordering::AcqRel);
    }
}

//! Unix sockets that belong to one user and one process: the emulator's control socket and the host
//! agent's. The directory is locked, the socket has mode 0600, and each connection's user is checked.

use std::fs::{self, File, OpenOptions, Permissions};
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use rustix::event::{EventfdFlags, PollFd, PollFlags, eventfd, poll};
use rustix::fs::FlockOperation;
use rustix::process::Uid;

/// The longest path of a Unix socket: `sun_path` has 108 bytes, one of them the terminating NUL.
const MAX_PATH: usize = 107;

/// Why there is no socket.
#[derive(Debug, thiserror::Error)]
pub enum SocketError {
    /// Another process has it.
    #[error("another process serves {0}")]
    InUse(PathBuf),
    /// The path does not fit into a socket address.
    #[error("{0} is too long for a Unix socket ({MAX_PATH} bytes at most): choose a shorter directory")]
    PathTooLong(PathBuf),
    /// The operating system refused something.
    #[error("{attempt} {path} failed")]
    System {
        /// What was attempted.
        attempt: &'static str,
        /// On what.
        path: PathBuf,
        /// Its error.
        source: io::Error,
    },
}

/// A socket that only its own user and root can connect to. Dropping it removes it.
pub struct PrivateListener {
    listener: UnixListener,
    path: PathBuf,
    /// Held for as long as we listen.
    _lock: File,
}

/// What waiting for connections brought.
pub enum Arrival {
    /// A connection of our own user, or of root.
    Own(UnixStream),
    /// A connection of somebody else: to be told so, and closed.
    Foreign(UnixStream),
    /// The switch was turned off.
    Stopped,
}

impl PrivateListener {
    /// Listens on the socket `name` in `directory`, which must exist.
    ///
    /// # Errors
    /// When another process does, or the operating system refuses.
    pub fn open(directory: &Path, name: &str) -> Result<Self, SocketError> {
        let path = directory.join(name);
        if path.as_os_str().len() > MAX_PATH {
            return Err(SocketError::PathTooLong(path));
        }
        let lock = lock(&path)?;
        // Only the holder of the lock comes here, so a socket that is there is a dead one's.
        match fs::remove_file(&path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                return system("removing the old socket", &path, Err(error));
            }
            _ => {}
        }
        let listener = system("listening on", &path, UnixListener::bind(&path))?;
        // Until this line the umask guards the socket, and in any case every connection's user is checked.
        system("protecting", &path, fs::set_permissions(&path, Permissions::from_mode(0o600)))?;
        system("listening on", &path, listener.set_nonblocking(true))?;
        Ok(Self { listener, path, _lock: lock })
    }

    /// Where it listens.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Waits for a connection or for the switch.
    ///
    /// # Errors
    /// When waiting itself fails. That a connection could not be accepted is not one: it is logged.
    pub fn wait(&self, stop: &Stop) -> io::Result<Arrival> {
        loop {
            let mut watched = [
                PollFd::from_borrowed_fd(self.listener.as_fd(), PollFlags::IN),
                PollFd::from_borrowed_fd(stop.descriptor(), PollFlags::IN),
            ];
            match poll(&mut watched, None) {
                Err(rustix::io::Errno::INTR) => continue,
                Err(error) => return Err(error.into()),
                Ok(_) if !watched[1].revents().is_empty() => return Ok(Arrival::Stopped),
                Ok(_) => {}
            }
            match self.listener.accept() {
                Ok((stream, _)) if is_own(&stream) => return Ok(Arrival::Own(stream)),
                Ok((stream, _)) => return Ok(Arrival::Foreign(stream)),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(error) => {
                    // Out of descriptors, most likely: the connection stays in the queue, so do not spin.
                    tracing::warn!(%error, "a connection could not be accepted");
                    std::thread::sleep(Duration::from_millis(100));
                }
            }
        }
    }
}

impl Drop for PrivateListener {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.path);
    }
}

/// A switch that is turned off once, and can be waited for along with sockets. Clones are the same switch.
#[derive(Clone, Debug)]
pub struct Stop(Arc<OwnedFd>);

impl Stop {
    /// A switch that is on.
    ///
    /// # Errors
    /// When the process has no descriptor left.
    pub fn new() -> io::Result<Self> {
        Ok(Self(Arc::new(eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?)))
    }

    /// Turns it off, for good.
    pub fn request(&self) {
        // The counter is only ever added to, so the one failure is its overflow: it is off already.
        let _ = rustix::io::write(&*self.0, &1u64.to_ne_bytes());
    }

    /// Waits until it is off.
    ///
    /// # Errors
    /// When waiting fails.
    pub fn wait(&self) -> io::Result<()> {
        loop {
            let mut watched = [PollFd::from_borrowed_fd(self.descriptor(), PollFlags::IN)];
            match poll(&mut watched, None) {
                Err(rustix::io::Errno::INTR) => {}
                Err(error) => return Err(error.into()),
                Ok(_) => return Ok(()),
            }
        }
    }

    /// Becomes readable, and stays so, when it is off.
    pub fn descriptor(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

fn is_own(stream: &UnixStream) -> bool {
    let own = rustix::process::geteuid();
    rustix::net::sockopt::socket_peercred(stream).is_ok_and(|peer| may_connect(peer.uid, own))
}

fn may_connect(peer: Uid, own: Uid) -> bool {
    peer == own || peer.is_root()
}

fn lock(socket: &Path) -> Result<File, SocketError> {
    let path = socket.with_extension("lock");
    let mut options = OpenOptions::new();
    options.create(true).truncate(false).write(true).mode(0o600);
    options.custom_flags(rustix::fs::OFlags::NOFOLLOW.bits().cast_signed());
    let file = system("opening the lock", &path, options.open(&path))?;
    match rustix::fs::flock(&file, FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => Ok(file),
        Err(rustix::io::Errno::WOULDBLOCK) => Err(SocketError::InUse(socket.to_owned())),
        Err(error) => system("locking", &path, Err(error.into())),
    }
}

fn system<T>(attempt: &'static str, path: &Path, result: io::Result<T>) -> Result<T, SocketError> {
    result.map_err(|source| SocketError::System { attempt, path: path.to_owned(), source })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_socket_is_private_and_has_one_owner() {
        let directory = tempfile::tempdir().unwrap();
        let listener = PrivateListener::open(directory.path(), "x.sock").unwrap();
        let mode = fs::metadata(listener.path()).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        let second = PrivateListener::open(directory.path(), "x.sock").err();
        assert!(matches!(second, Some(SocketError::InUse(_))));
        let path = listener.path().to_owned();
        drop(listener);
        assert!(!path.exists());
        // What a killed owner leaves behind is no obstacle.
        drop(UnixListener::bind(&path).unwrap());
        assert!(PrivateListener::open(directory.path(), "x.sock").is_ok());
    }

    #[test]
    fn other_users_may_not_connect() {
        let [root, one, other] = [0, 1000, 1001].map(Uid::from_raw);
        assert!(may_connect(one, one) && may_connect(root, one));
        assert!(!may_connect(other, one) && !may_connect(one, root));
    }

    #[test]
    fn a_long_path_is_refused_by_name() {
        let directory = tempfile::tempdir().unwrap();
        let refused = PrivateListener::open(directory.path(), &"x".repeat(108)).err();
        assert!(matches!(refused, Some(SocketError::PathTooLong(_))));
    }

    #[test]
    fn the_switch_interrupts_waiting() {
        let directory = tempfile::tempdir().unwrap();
        let listener = PrivateListener::open(directory.path(), "x.sock").unwrap();
        let stop = Stop::new().unwrap();
        let _client = UnixStream::connect(listener.path()).unwrap();
        assert!(matches!(listener.wait(&stop).unwrap(), Arrival::Own(_)));
        stop.clone().request();
        assert!(matches!(listener.wait(&stop).unwrap(), Arrival::Stopped));
        stop.wait().unwrap();
    }
}

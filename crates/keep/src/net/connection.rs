//! One connection, whatever protects it: a socket that does not wait, with futures to wait by.

use std::{
    fmt,
    io::{self, IoSlice},
    net::SocketAddr,
    pin::Pin,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    task::{Context, Poll, ready},
    time::Duration,
};

use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::TcpStream,
    runtime::Handle,
    sync::{Notify, OwnedSemaphorePermit},
    time::timeout,
};

use super::{Broken, session::Session};

/// How long a connection that its owner dropped has to send what was written.
const LINGER: Duration = Duration::from_secs(10);
/// How long it then waits for the peer's end. Closing a socket that has unread data (TLS sends some by itself) resets
/// the connection, and what the peer has not read yet would be lost.
const LINGER_READ: Duration = Duration::from_secs(1);

/// Which side of a connection to shut.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Side {
    /// Reading: it then says that this is the end, whatever comes.
    Read,
    /// Writing: what was written goes out, then TLS's `close_notify`, then FIN. Reading goes on.
    Write,
    /// Both.
    Both,
}

/// An open connection. Nothing here waits but the futures [`readable`](Self::readable) and
/// [`writable`](Self::writable), of which there may be any number at a time. Dropping it ends it in order: what was
/// written is still sent.
pub struct Connection(Arc<Shared>);

pub(super) struct Shared {
    io: TcpStream,
    session: Mutex<Session>,
    peer: SocketAddr,
    local: SocketAddr,
    runtime: Handle,
    /// Told when the owner dropped it: then nothing sends for it but what [`Drop`] leaves behind.
    dropped: Notify,
    is_dropped: AtomicBool,
    flushing: AtomicBool,
    /// Given back when the socket is closed.
    _place: OwnedSemaphorePermit,
}

impl Connection {
    pub(super) fn new(
        io: TcpStream,
        tls: Option<rustls::Connection>,
        place: OwnedSemaphorePermit,
    ) -> io::Result<Self> {
        // Without it, small answers wait for acknowledgements.
        io.set_nodelay(true)?;
        let (peer, local) = (io.peer_addr()?, io.local_addr()?);
        let session = Mutex::new(Session::new(tls));
        Ok(Self(Arc::new(Shared {
            io,
            session,
            peer,
            local,
            runtime: Handle::current(),
            dropped: Notify::new(),
            is_dropped: AtomicBool::new(false),
            flushing: AtomicBool::new(false),
            _place: place,
        })))
    }

    pub(super) fn shared(&self) -> &Arc<Shared> {
        &self.0
    }

    /// Reads what is there. `None`: nothing yet; `Some(0)`: the end (or an empty buffer).
    ///
    /// # Errors
    /// When the connection broke before its end.
    pub fn try_read(&self, buffer: &mut [u8]) -> Result<Option<usize>, Broken> {
        let read = self.0.session().read(&self.0.io, buffer);
        self.0.send_the_rest();
        read
    }

    /// Looks at what is there, at most 64 KiB, and leaves it there. `None`: nothing yet; `Some(0)`: the end.
    ///
    /// # Errors
    /// As for [`try_read`](Self::try_read).
    pub fn peek(&self, buffer: &mut [u8]) -> Result<Option<usize>, Broken> {
        self.0.session().peek(&self.0.io, buffer)
    }

    /// How many bytes can be read at once; there may be more.
    pub fn available(&self) -> usize {
        self.0.session().available(&self.0.io)
    }

    /// Takes bytes to send. `None`: no room now. What was taken is sent without another call.
    ///
    /// # Errors
    /// When the write side was shut, or the connection broke.
    pub fn try_write(&self, bytes: &[u8]) -> Result<Option<usize>, Broken> {
        self.try_write_vectored(&[IoSlice::new(bytes)])
    }

    /// As [`try_write`](Self::try_write), from several places.
    ///
    /// # Errors
    /// The same.
    pub fn try_write_vectored(&self, parts: &[IoSlice<'_>]) -> Result<Option<usize>, Broken> {
        let written = self.0.session().write(&self.0.io, parts);
        self.0.send_the_rest();
        written
    }

    /// Takes all of `bytes`, at most [`MAX_TAKEN`](super::MAX_TAKEN), or nothing; whether it did. What was taken is sent
    /// without another call.
    ///
    /// # Errors
    /// The same.
    pub fn try_take(&self, bytes: &[u8]) -> Result<bool, Broken> {
        let taken = self.0.session().take(&self.0.io, bytes);
        self.0.send_the_rest();
        taken
    }

    /// Whether everything that was taken has left for the network.
    ///
    /// # Errors
    /// When the connection broke.
    pub fn try_flush(&self) -> Result<bool, Broken> {
        self.0.session().flush(&self.0.io)
    }

    /// Ends one side, or both. Done twice it does nothing.
    pub fn shutdown(&self, side: Side) {
        let mut session = self.0.session();
        if side != Side::Write {
            session.shut_read();
        }
        if side != Side::Read {
            session.shut_write(&self.0.io);
        }
        drop(session);
        self.0.send_the_rest();
    }

    /// Waits until [`try_read`](Self::try_read) has something to say: decrypted bytes, the end, or why it broke.
    pub async fn readable(&self) {
        while !self.0.session().is_readable(&self.0.io) {
            if self.0.io.readable().await.is_err() {
                return;
            }
        }
    }

    /// Waits until [`try_write`](Self::try_write) takes bytes, or says why not.
    pub async fn writable(&self) {
        loop {
            // For TCP this is the answer, and for TLS the moment to look again.
            let waited = self.0.io.writable().await;
            if self.0.session().is_writable(&self.0.io) || waited.is_err() {
                return;
            }
        }
    }

    /// As [`try_read`](Self::try_read), for one task that is woken when there is something.
    pub fn poll_receive(&self, cx: &mut Context<'_>, buffer: &mut [u8]) -> Poll<Result<usize, Broken>> {
        loop {
            if let Some(read) = self.try_read(buffer)? {
                return Poll::Ready(Ok(read));
            }
            ready!(self.0.io.poll_read_ready(cx)).map_err(|_| Broken::Reset)?;
        }
    }

    /// As [`readable`](Self::readable), for the task of [`poll_receive`](Self::poll_receive).
    pub fn poll_readable(&self, cx: &mut Context<'_>) -> Poll<()> {
        while !self.0.session().is_readable(&self.0.io) {
            if ready!(self.0.io.poll_read_ready(cx)).is_err() {
                break;
            }
        }
        Poll::Ready(())
    }

    /// As [`try_write`](Self::try_write), for one task that is woken when there is room.
    pub fn poll_send(&self, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<Result<usize, Broken>> {
        loop {
            if let Some(written) = self.try_write(bytes)? {
                return Poll::Ready(Ok(written));
            }
            ready!(self.0.io.poll_write_ready(cx)).map_err(|_| Broken::Reset)?;
        }
    }

    /// As [`writable`](Self::writable), for the task of [`poll_send`](Self::poll_send).
    pub fn poll_writable(&self, cx: &mut Context<'_>) -> Poll<()> {
        loop {
            let waited = ready!(self.0.io.poll_write_ready(cx));
            if self.0.session().is_writable(&self.0.io) || waited.is_err() {
                return Poll::Ready(());
            }
        }
    }

    /// What ALPN agreed on.
    pub fn protocol(&self) -> Option<Vec<u8>> {
        self.0.session().tls().and_then(|tls| tls.alpn_protocol().map(<[u8]>::to_vec))
    }

    /// Whether the other end is protected by TLS.
    pub fn is_tls(&self) -> bool {
        self.0.session().tls().is_some()
    }

    /// The other end, as the host tells it: it proves nothing.
    pub fn peer_addr(&self) -> SocketAddr {
        self.0.peer
    }

    /// This end.
    pub fn local_addr(&self) -> SocketAddr {
        self.0.local
    }
}

impl Shared {
    fn session(&self) -> MutexGuard<'_, Session> {
        self.session.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn cut(&self) {
        self.session().cut(&self.io);
    }

    /// A socket's kernel sends what it took while the program does something else; so does this.
    fn send_the_rest(self: &Arc<Self>) {
        if !self.session().is_unsent() || self.flushing.swap(true, Ordering::AcqRel) {
            return;
        }
        let shared = Arc::clone(self);
        self.runtime.spawn(async move {
            tokio::select! {
                () = shared.dropped.notified() => {}
                () = shared.flushed() => {}
            }
            shared.flushing.store(false, Ordering::Release);
            // What came in between.
            if !shared.is_dropped.load(Ordering::Acquire) {
                shared.send_the_rest();
            }
        });
    }

    async fn flushed(&self) {
        while matches!(self.session().flush(&self.io), Ok(false)) {
            if self.io.writable().await.is_err() {
                return;
            }
        }
    }

    /// Reads on until the peer ends too, and throws it away.
    async fn ended(&self) {
        while self.session().discard(&self.io) {
            if self.io.readable().await.is_err() {
                return;
            }
        }
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        let (secured, broken) = {
            let mut session = self.0.session();
            session.shut_write(&self.0.io);
            (session.tls().is_some(), session.is_broken())
        };
        self.0.is_dropped.store(true, Ordering::Release);
        self.0.dropped.notify_one();
        if secured && !broken {
            let shared = Arc::clone(&self.0);
            self.0.runtime.spawn(async move {
                // Beyond the time, the socket is closed with what it has.
                if timeout(LINGER, shared.flushed()).await.is_ok() {
                    let _ = timeout(LINGER_READ, shared.ended()).await;
                }
            });
        }
    }
}

impl fmt::Debug for Connection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Connection").field("peer", &self.0.peer).field("local", &self.0.local).finish()
    }
}

/// For one reader; it and the futures above may be used together.
impl AsyncRead for Connection {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        loop {
            let read = self.0.session().read(&self.0.io, buffer.initialize_unfilled())?;
            if let Some(read) = read {
                buffer.advance(read);
                return Poll::Ready(Ok(()));
            }
            ready!(self.0.io.poll_read_ready(cx))?;
        }
    }
}

/// For one writer, which flushes.
impl AsyncWrite for Connection {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        self.poll_write_vectored(cx, &[IoSlice::new(bytes)])
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        parts: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        loop {
            if let Some(written) = self.0.session().write(&self.0.io, parts)? {
                return Poll::Ready(Ok(written));
            }
            ready!(self.0.io.poll_write_ready(cx))?;
        }
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while !self.0.session().flush(&self.0.io)? {
            ready!(self.0.io.poll_write_ready(cx))?;
        }
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.0.session().shut_write(&self.0.io);
        self.poll_flush(cx)
    }
}

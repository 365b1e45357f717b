//! The bytes of one connection, between a socket and whoever reads and writes: never waits, and holds no more than one
//! round of TLS records in either direction. All of it is called under the connection's lock.

use std::io::{self, IoSlice, Read, Write};

use rustix::{
    io::Errno,
    net::{RecvFlags, Shutdown},
};
use tokio::{io::Interest, net::TcpStream};

use super::Broken;

/// Most that is looked at in advance.
pub(super) const MAX_PEEK: usize = 64 << 10;

/// Plaintext that is taken at a time, in bytes: four records. What has been taken is on its way before more is.
pub const MAX_TAKEN: usize = 64 << 10;

pub(super) struct Session {
    /// `None`: plain TCP.
    tls: Option<Box<rustls::Connection>>,
    /// What was looked at and not yet read, from `read_to` on.
    peeked: Vec<u8>,
    read_to: usize,
    /// Decrypted, within `tls`.
    decrypted: usize,
    /// Taken, and not yet within `tls` or the socket.
    taken: Vec<u8>,
    reading: Reading,
    writing: Writing,
}

#[derive(Debug, Clone, PartialEq)]
enum Reading {
    Open,
    /// The peer ended its side, or we shut ours.
    Ended,
    Broken(Broken),
}

#[derive(Debug, Clone, PartialEq)]
enum Writing {
    Open,
    /// `close_notify` is on its way, and FIN after it.
    Closing,
    Closed,
    Broken(Broken),
}

impl Session {
    pub(super) fn new(tls: Option<rustls::Connection>) -> Self {
        let (mut decrypted, mut reading) = (0, Reading::Open);
        let tls = tls.map(|mut tls| {
            tls.set_buffer_limit(Some(MAX_TAKEN));
            // What came together with the end of the handshake is decrypted already, and no socket announces it.
            match tls.process_new_packets() {
                Ok(state) => {
                    decrypted = state.plaintext_bytes_to_read();
                    if state.peer_has_closed() {
                        reading = Reading::Ended;
                    }
                }
                Err(error) => reading = Reading::Broken(Broken::of_tls(error)),
            }
            Box::new(tls)
        });
        let writing = Writing::Open;
        Self { tls, peeked: Vec::new(), read_to: 0, decrypted, taken: Vec::new(), reading, writing }
    }

    pub(super) fn tls(&self) -> Option<&rustls::Connection> {
        self.tls.as_deref()
    }

    /// Reads into `buffer`; `None`: nothing is there yet; 0: the end.
    pub(super) fn read(&mut self, io: &TcpStream, buffer: &mut [u8]) -> Result<Option<usize>, Broken> {
        let mut read = self.take_peeked(buffer);
        while read < buffer.len() {
            match self.read_once(io, &mut buffer[read..]) {
                Ok(Some(more)) if more > 0 => read += more,
                // Bytes first; what ended them is said the next time.
                _ if read > 0 => break,
                other => return other,
            }
            if self.tls.is_none() {
                break;
            }
        }
        Ok(Some(read))
    }

    fn take_peeked(&mut self, buffer: &mut [u8]) -> usize {
        let rest = &self.peeked[self.read_to..];
        let taken = rest.len().min(buffer.len());
        buffer[..taken].copy_from_slice(&rest[..taken]);
        self.read_to += taken;
        if self.read_to == self.peeked.len() {
            self.peeked.clear();
            self.read_to = 0;
        }
        taken
    }

    /// Past what was looked at.
    fn read_once(&mut self, io: &TcpStream, buffer: &mut [u8]) -> Result<Option<usize>, Broken> {
        if let Some(end) = self.ended()? {
            return Ok(end);
        }
        let Some(tls) = &mut self.tls else {
            return match io.try_read(buffer) {
                Ok(0) => {
                    self.reading = Reading::Ended;
                    Ok(Some(0))
                }
                Ok(read) => Ok(Some(read)),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(None),
                Err(_) => Err(self.break_reading(Broken::Reset)),
            };
        };
        if self.decrypted == 0 {
            if !self.fill(io)? {
                return Ok(None);
            }
            return self.read_once(io, buffer);
        }
        let read = tls.reader().read(buffer).unwrap_or(0);
        self.decrypted = self.decrypted.saturating_sub(read);
        Ok(Some(read))
    }

    /// What reading is, when nothing is decrypted and waits.
    fn ended(&self) -> Result<Option<Option<usize>>, Broken> {
        match &self.reading {
            _ if self.decrypted > 0 => Ok(None),
            Reading::Open => Ok(None),
            Reading::Ended => Ok(Some(Some(0))),
            Reading::Broken(broken) => Err(broken.clone()),
        }
    }

    /// Decrypts what the socket has, until something is decrypted or reading ended (true), or the socket is empty.
    fn fill(&mut self, io: &TcpStream) -> Result<bool, Broken> {
        let Some(tls) = &mut self.tls else { return Ok(true) };
        while self.decrypted == 0 && self.reading == Reading::Open {
            let ended = match tls.read_tls(&mut Socket(io)) {
                Ok(read) => read == 0,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(false),
                Err(_) => return Err(self.break_reading(Broken::Reset)),
            };
            match tls.process_new_packets() {
                Ok(state) => {
                    self.decrypted = state.plaintext_bytes_to_read();
                    if state.peer_has_closed() {
                        self.reading = Reading::Ended;
                    } else if ended {
                        self.reading = Reading::Broken(Broken::Truncated);
                    }
                }
                Err(error) => {
                    // The alert that says why; that it cannot be sent changes nothing.
                    let _ = tls.write_tls(&mut Socket(io));
                    let broken = Broken::of_tls(error);
                    self.writing = Writing::Broken(broken.clone());
                    return Err(self.break_reading(broken));
                }
            }
        }
        Ok(true)
    }

    fn break_reading(&mut self, broken: Broken) -> Broken {
        self.reading = Reading::Broken(broken.clone());
        broken
    }

    /// Copies what can be read next and leaves it there.
    pub(super) fn peek(&mut self, io: &TcpStream, buffer: &mut [u8]) -> Result<Option<usize>, Broken> {
        let wanted = buffer.len().min(MAX_PEEK);
        let mut outcome = Ok(None);
        while self.peeked.len() - self.read_to < wanted {
            self.peeked.drain(..self.read_to);
            self.read_to = 0;
            let known = self.peeked.len();
            let mut peeked = std::mem::take(&mut self.peeked);
            peeked.resize(wanted, 0);
            outcome = self.read_once(io, &mut peeked[known..]);
            let more = outcome.as_ref().ok().copied().flatten().unwrap_or(0);
            peeked.truncate(known + more);
            self.peeked = peeked;
            if more == 0 {
                break;
            }
        }
        let there = &self.peeked[self.read_to..];
        if there.is_empty() && wanted > 0 {
            return outcome;
        }
        let copied = there.len().min(wanted);
        buffer[..copied].copy_from_slice(&there[..copied]);
        Ok(Some(copied))
    }

    /// Bytes that can be read at once.
    pub(super) fn available(&mut self, io: &TcpStream) -> usize {
        let there = self.peeked.len() - self.read_to;
        match self.tls {
            None if self.reading != Reading::Open => there,
            None => {
                there + rustix::io::ioctl_fionread(io).map_or(0, |bytes| usize::try_from(bytes).unwrap_or(0))
            }
            Some(_) => {
                // What a failure is, reading says.
                let _ = self.fill(io);
                there + self.decrypted
            }
        }
    }

    /// Whether reading would say something: bytes, the end, or a failure.
    pub(super) fn is_readable(&mut self, io: &TcpStream) -> bool {
        if self.read_to < self.peeked.len() || self.decrypted > 0 || self.reading != Reading::Open {
            return true;
        }
        if self.tls.is_some() {
            return !matches!(self.fill(io), Ok(false));
        }
        let look = || Ok(rustix::net::recv(io, &mut [0_u8; 1][..], RecvFlags::PEEK | RecvFlags::DONTWAIT)?);
        let looked: io::Result<_> = io.try_io(Interest::READABLE, look);
        !matches!(looked, Err(error) if error.kind() == io::ErrorKind::WouldBlock)
    }

    /// Takes bytes to send; `None`: what was taken before must go first.
    pub(super) fn write(&mut self, io: &TcpStream, parts: &[IoSlice<'_>]) -> Result<Option<usize>, Broken> {
        if !self.has_room(io)? {
            return Ok(None);
        }
        let taken = self.write_once(io, parts)?;
        // What fails now is said by the next write.
        let _ = self.flush(io);
        Ok(taken)
    }

    /// Takes all of `bytes`, at most [`MAX_TAKEN`], or nothing; whether it did.
    pub(super) fn take(&mut self, io: &TcpStream, bytes: &[u8]) -> Result<bool, Broken> {
        if bytes.len() > MAX_TAKEN || !self.has_room(io)? {
            return Ok(false);
        }
        self.taken.extend_from_slice(bytes);
        let _ = self.flush(io);
        Ok(true)
    }

    fn has_room(&mut self, io: &TcpStream) -> Result<bool, Broken> {
        match self.writing {
            Writing::Closing | Writing::Closed => Err(Broken::Shut),
            Writing::Open | Writing::Broken(_) => self.flush(io),
        }
    }

    fn write_once(&mut self, io: &TcpStream, parts: &[IoSlice<'_>]) -> Result<Option<usize>, Broken> {
        let written = match &mut self.tls {
            Some(tls) => tls.writer().write_vectored(parts),
            None => io.try_write_vectored(parts),
        };
        match written {
            Ok(written) => Ok(Some(written)),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(None),
            Err(_) => Err(self.break_writing()),
        }
    }

    /// Sends what was taken; whether all of it is gone. Then the FIN, if the write side was shut.
    pub(super) fn flush(&mut self, io: &TcpStream) -> Result<bool, Broken> {
        if let Writing::Broken(broken) = &self.writing {
            return Err(broken.clone());
        }
        if !self.send_records(io)? {
            return Ok(false);
        }
        while !self.taken.is_empty() {
            let taken = std::mem::take(&mut self.taken);
            let written = self.write_once(io, &[IoSlice::new(&taken)]);
            self.taken = taken;
            self.taken.drain(..written?.unwrap_or(0));
            if !self.taken.is_empty() && self.tls.is_none() || !self.send_records(io)? {
                return Ok(false);
            }
        }
        if self.writing == Writing::Closing {
            if let Some(tls) = &mut self.tls {
                // Once only: said again, it does nothing.
                tls.send_close_notify();
                if !self.send_records(io)? {
                    return Ok(false);
                }
            }
            self.writing = Writing::Closed;
            // A socket that is gone already needs no end.
            let _: Result<(), Errno> = rustix::net::shutdown(io, Shutdown::Write);
        }
        Ok(true)
    }

    fn send_records(&mut self, io: &TcpStream) -> Result<bool, Broken> {
        let Some(tls) = &mut self.tls else { return Ok(true) };
        while tls.wants_write() {
            match tls.write_tls(&mut Socket(io)) {
                Ok(_) => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(false),
                Err(_) => return Err(self.break_writing()),
            }
        }
        Ok(true)
    }

    fn break_writing(&mut self) -> Broken {
        self.writing = Writing::Broken(Broken::Reset);
        Broken::Reset
    }

    /// Whether writing would do something: take bytes, or fail. Whether the socket of plain TCP has room is not known
    /// here.
    pub(super) fn is_writable(&mut self, io: &TcpStream) -> bool {
        self.writing != Writing::Open || !matches!(self.flush(io), Ok(false))
    }

    /// Whether there is something that [`flush`](Self::flush) has yet to send.
    pub(super) fn is_unsent(&self) -> bool {
        let unsent = !self.taken.is_empty() || self.tls.as_ref().is_some_and(|tls| tls.wants_write());
        match self.writing {
            Writing::Open => unsent,
            Writing::Closing => true,
            Writing::Closed | Writing::Broken(_) => false,
        }
    }

    /// Ends our side: `close_notify` after what was written, then FIN.
    pub(super) fn shut_write(&mut self, io: &TcpStream) {
        if self.writing == Writing::Open {
            self.writing = Writing::Closing;
            let _ = self.flush(io);
        }
    }

    /// From now on reading says that this is the end.
    pub(super) fn shut_read(&mut self) {
        self.peeked = Vec::new();
        self.read_to = 0;
        self.decrypted = 0;
        if self.reading == Reading::Open {
            self.reading = Reading::Ended;
        }
    }

    /// Ends both sides at once, without a word to the peer.
    pub(super) fn cut(&mut self, io: &TcpStream) {
        self.shut_read();
        self.reading = Reading::Broken(Broken::Cut);
        self.writing = Writing::Broken(Broken::Cut);
        let _: Result<(), Errno> = rustix::net::shutdown(io, Shutdown::Both);
    }

    /// Throws away what arrived; whether more may come.
    pub(super) fn discard(&mut self, io: &TcpStream) -> bool {
        let mut thrown = 0;
        while thrown < MAX_PEEK {
            let mut scratch = [0; 4096];
            match io.try_read(&mut scratch) {
                Ok(0) => return false,
                Ok(read) => thrown += read,
                Err(error) => return error.kind() == io::ErrorKind::WouldBlock,
            }
        }
        false
    }

    pub(super) fn is_broken(&self) -> bool {
        matches!(self.writing, Writing::Broken(_))
    }
}

/// Lets rustls read and write without waiting.
struct Socket<'a>(&'a TcpStream);

impl Read for Socket<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.0.try_read(buffer)
    }
}

impl Write for Socket<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.try_write(bytes)
    }

    fn write_vectored(&mut self, parts: &[IoSlice<'_>]) -> io::Result<usize> {
        self.0.try_write_vectored(parts)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

//! The host's side of a session: what waits to be said to it, and what it says. A process that outlives its
//! connection may be without one for a while; what it writes meanwhile is kept up to a bound, the latest of it.

use std::collections::VecDeque;
use std::io::{self, Read, Write};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::net::UnixStream;
use std::time::Instant;

use attester::emulated::{FrameBuffer, frame};
use rustix::event::PollFlags;

use super::super::berth::Moored;
use crate::control::{Event, MAX_OUTPUT, Refusal, RefusalCode, Request, Stream};

/// How many bytes of events are kept while nobody listens.
const MAX_KEPT: usize = 256 * 1024;

/// The host of a process after its launch.
pub(super) struct Host {
    /// `None` while nobody listens, or when nobody will any more.
    stream: Option<UnixStream>,
    input: FrameBuffer,
    /// The host has closed its half: it wants the process to end.
    hung_up: bool,
    /// The host has said that it wants the end.
    stopped: bool,
    /// There if the process outlives its connection.
    moored: Option<Moored>,
    unattended_since: Option<Instant>,
    /// The first event on every connection.
    greeting: Vec<u8>,
    pending: VecDeque<Vec<u8>>,
    pending_bytes: usize,
    /// How much of the first of them is written.
    written: usize,
    /// Bytes of events that were not kept.
    lost: usize,
    /// How many events were said, to see whether there was one more.
    pub(super) said: u64,
}

impl Host {
    pub(super) fn new(
        stream: UnixStream,
        input: FrameBuffer,
        moored: Option<Moored>,
        greeting: &Event,
    ) -> io::Result<Self> {
        let greeting = event_frame(greeting)?;
        let mut host = Self {
            stream: Some(stream),
            input,
            hung_up: false,
            stopped: false,
            moored,
            unattended_since: None,
            greeting,
            pending: VecDeque::new(),
            pending_bytes: 0,
            written: 0,
            lost: 0,
            said: 0,
        };
        host.greet();
        host.answer_requests()?;
        Ok(host)
    }

    fn greet(&mut self) {
        self.pending_bytes += self.greeting.len();
        self.pending.push_front(self.greeting.clone());
        self.flush();
    }

    /// Whether the process is to end: because the host says so, or because nobody is left who could.
    pub(super) fn wants_the_end(&self) -> bool {
        let alone = || match &self.moored {
            None => self.stream.is_none(),
            Some(moored) => self.unattended_since.is_some_and(|since| since.elapsed() >= moored.unattended),
        };
        self.stopped || self.hung_up || alone()
    }

    /// When a process without a connection is ended.
    pub(super) fn patience_ends(&self) -> Option<Instant> {
        Some(self.unattended_since? + self.moored.as_ref()?.unattended)
    }

    /// Since when nobody listens.
    pub(super) fn unattended_since(&self) -> Instant {
        self.unattended_since.unwrap_or_else(Instant::now)
    }

    /// Nobody listens now, and nobody ever will.
    pub(super) fn is_gone(&self) -> bool {
        self.stream.is_none() && (self.moored.is_none() || self.stopped)
    }

    /// Nobody listens now, but somebody may come.
    pub(super) fn is_awaited(&self) -> bool {
        self.stream.is_none() && !self.is_gone()
    }

    /// Whether output may be read: one event per pipe at most waits for a host that listens.
    pub(super) fn has_room(&self) -> bool {
        self.stream.is_none() || self.pending_bytes <= MAX_OUTPUT
    }

    pub(super) fn is_done(&self) -> bool {
        self.pending.is_empty()
    }

    /// The connection, and what to wait for on it.
    pub(super) fn waits_for(&self) -> Option<(BorrowedFd<'_>, PollFlags)> {
        // Who only asks and never listens is not read from either, but may hang up.
        let input = match (self.hung_up, self.has_room()) {
            (true, _) => PollFlags::empty(),
            (false, false) => PollFlags::RDHUP,
            (false, true) => PollFlags::RDHUP | PollFlags::IN,
        };
        let output = if self.pending.is_empty() { PollFlags::empty() } else { PollFlags::OUT };
        self.stream.as_ref().map(|stream| (stream.as_fd(), input | output))
    }

    /// What rings when another connection has come.
    pub(super) fn bell(&self) -> Option<BorrowedFd<'_>> {
        self.moored.as_ref().map(Moored::bell)
    }

    /// The host has closed its half, or all of the connection.
    pub(super) fn hang_up(&mut self, all: bool) {
        if self.moored.is_some() {
            self.be_alone();
        } else if all {
            self.stream = None;
            self.forget();
        } else {
            self.hung_up = true;
        }
    }

    /// Takes the connection that has come; the old one is closed.
    pub(super) fn change(&mut self) -> io::Result<()> {
        let Some(stream) = self.moored.as_ref().map(Moored::arrived).transpose()?.flatten() else {
            return Ok(());
        };
        self.be_alone();
        self.unattended_since = None;
        self.stream = Some(stream);
        if self.lost > 0 {
            let words =
                format!("\nbailey-emulator: {} bytes were not kept while nobody listened\n", self.lost);
            self.lost = 0;
            let notice = event_frame(&Event::Output { stream: Stream::Stderr, bytes: words.into_bytes() })?;
            self.pending_bytes += notice.len();
            self.pending.push_front(notice);
        }
        self.greet();
        Ok(())
    }

    fn be_alone(&mut self) {
        if let Some(stream) = self.stream.take() {
            let _ = stream.shutdown(std::net::Shutdown::Both);
            self.unattended_since = Some(Instant::now());
        }
        self.input = FrameBuffer::default();
        // An event that was written in part was not heard. The greeting is not for the next one.
        self.written = 0;
        if self.pending.front().is_some_and(|first| *first == self.greeting) {
            self.pop();
        }
        self.keep_the_latest();
    }

    fn keep_the_latest(&mut self) {
        while self.pending_bytes > MAX_KEPT && self.pending.len() > 1 {
            self.lost += self.pop();
        }
    }

    fn pop(&mut self) -> usize {
        self.written = 0;
        let length = self.pending.pop_front().map_or(0, |event| event.len());
        self.pending_bytes -= length;
        length
    }

    fn forget(&mut self) {
        self.pending.clear();
        (self.pending_bytes, self.written) = (0, 0);
    }

    pub(super) fn say(&mut self, event: &Event) -> io::Result<()> {
        self.said += 1;
        if self.is_gone() {
            return Ok(());
        }
        let bytes = event_frame(event)?;
        self.pending_bytes += bytes.len();
        self.pending.push_back(bytes);
        if self.stream.is_none() {
            self.keep_the_latest();
        }
        self.flush();
        Ok(())
    }

    pub(super) fn flush(&mut self) {
        while let (Some(mut stream), Some(first)) = (self.stream.as_ref(), self.pending.front()) {
            match stream.write(&first[self.written..]) {
                Ok(count) => {
                    self.written += count;
                    if self.written == first.len() {
                        self.pop();
                    }
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(_) => self.hang_up(true),
            }
        }
        if self.is_gone() {
            self.forget();
        }
    }

    /// Reads what the host says.
    pub(super) fn listen(&mut self) -> io::Result<()> {
        let Some(mut stream) = self.stream.as_ref() else { return Ok(()) };
        let mut buffer = [0; 8192];
        match stream.read(&mut buffer) {
            Ok(0) => self.hang_up(false),
            Ok(count) => self.input.extend(&buffer[..count]),
            Err(error) if is_transient(&error) => {}
            Err(_) => self.hang_up(true),
        }
        self.answer_requests()
    }

    /// All that the host may still ask for is the end.
    fn answer_requests(&mut self) -> io::Result<()> {
        loop {
            let refusal = match self.input.next_frame() {
                Ok(None) => return Ok(()),
                Ok(Some(payload)) => match Request::decode(&payload) {
                    Ok(Request::Stop {}) => {
                        self.stopped = true;
                        continue;
                    }
                    Ok(_) => {
                        let reason = "this connection has its process already";
                        Refusal::new(RefusalCode::AlreadyLaunched, reason)
                    }
                    Err(refusal) => refusal,
                },
                Err(error) => {
                    let refusal = Refusal::new(RefusalCode::MalformedRequest, error.to_string());
                    self.say(&Event::Refused(refusal))?;
                    self.hang_up(false);
                    return Ok(());
                }
            };
            self.say(&Event::Refused(refusal))?;
        }
    }
}

pub(super) fn event_frame(event: &Event) -> io::Result<Vec<u8>> {
    let payload = frame::encode(event).map_err(io::Error::other)?;
    frame::framed(&payload).map(|bytes| bytes.to_vec()).map_err(io::Error::other)
}

pub(super) fn is_transient(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted)
}

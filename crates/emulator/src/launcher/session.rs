//! One connection to the control socket: waits for the request, launches, and then carries output and exit
//! to the host until the process is gone. One thread, one `poll`; the host's slowness stops the reading of
//! the process's output (back-pressure), so that memory stays bounded whatever either side does.

use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::AsFd;
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::time::{Duration, Instant};

use attester::emulated::{FrameBuffer, frame};
use rustix::event::{PollFd, PollFlags, Timespec, poll};

use super::Shared;
use super::channel::{self, Identity};
use super::image::{Image, MAX_EXECUTABLE};
use super::process::{self, Process};
use crate::control::{Event, Exit, Launch, MAX_OUTPUT, Refusal, RefusalCode, Request, Stream};
use crate::socket::Stop;

/// How long a host may take to say what it wants.
const REQUEST_WITHIN: Duration = Duration::from_secs(10);

/// How long a process may take to end after SIGTERM, before it gets SIGKILL.
const END_WITHIN: Duration = Duration::from_secs(3);

/// How long a host may take to collect the last output of a process that has ended.
const COLLECT_WITHIN: Duration = Duration::from_secs(5);

/// How long a refusal may wait to be taken.
const REFUSE_WITHIN: Duration = Duration::from_secs(1);

/// Runs a session from its first byte to the end of its process.
pub(super) fn run(stream: UnixStream, shared: &Arc<Shared>, stop: &Stop) {
    match prepare(&stream, shared, stop) {
        Ok(Some(launched)) => {
            let pid = launched.process.id();
            match launched.carry(stream, stop) {
                Ok(exit) => tracing::info!(pid, %exit, "ended"),
                Err(error) => tracing::error!(pid, %error, "a process could not be watched, and was killed"),
            }
        }
        Ok(None) => {}
        Err(refusal) => refuse(stream, refusal),
    }
}

/// Tells the host why not, and hangs up.
pub(super) fn refuse(mut stream: UnixStream, refusal: Refusal) {
    tracing::warn!(code = %refusal.code, reason = refusal.reason, "refused");
    let said = stream
        .set_nonblocking(false)
        .and_then(|()| stream.set_write_timeout(Some(REFUSE_WITHIN)))
        .and_then(|()| stream.write_all(&event_frame(&Event::Refused(refusal))?));
    if let Err(error) = said {
        tracing::debug!(%error, "a refusal was not taken");
    }
}

/// A launched process with the platform's ends of its descriptors.
struct Launched {
    process: Process,
    identity: Identity,
    ends: process::Ends,
    /// What the host said after its request.
    input: FrameBuffer,
    shared: Arc<Shared>,
}

/// Up to the running process. `None` when the host hung up without a request.
fn prepare(stream: &UnixStream, shared: &Arc<Shared>, stop: &Stop) -> Result<Option<Launched>, Refusal> {
    let failed = |error: io::Error| {
        Refusal::new(RefusalCode::PlatformFailed, format!("the process could not be launched: {error}"))
    };
    stream.set_nonblocking(true).map_err(failed)?;
    let Some((launch, input)) = await_request(stream, stop)? else { return Ok(None) };
    let platform = launch.platform;
    let image = Image::load(&launch.executable, platform, MAX_EXECUTABLE)?;
    let (process, ends) = process::launch(&image, &launch).map_err(|error| {
        let reason = format!("{} cannot be executed: {error}", launch.executable.display());
        Refusal::new(RefusalCode::ExecutableInvalid, reason)
    })?;
    let measurement = image.measurement().clone();
    tracing::info!(
        pid = process.id(),
        %platform,
        %measurement,
        executable = %launch.executable.display(),
        "launched"
    );
    let identity = Identity { platform, measurement, configuration: launch.configuration };
    Ok(Some(Launched { process, identity, ends, input, shared: Arc::clone(shared) }))
}

fn await_request(mut stream: &UnixStream, stop: &Stop) -> Result<Option<(Launch, FrameBuffer)>, Refusal> {
    let malformed =
        |error: &dyn std::fmt::Display| Refusal::new(RefusalCode::MalformedRequest, error.to_string());
    let deadline = Instant::now() + REQUEST_WITHIN;
    let mut input = FrameBuffer::default();
    let mut buffer = [0; 8192];
    loop {
        if let Some(payload) = input.next_frame().map_err(|error| malformed(&error))? {
            let Request::Launch(launch) = Request::decode(&payload)?;
            return Ok(Some((launch, input)));
        }
        let mut watched = [
            PollFd::from_borrowed_fd(stream.as_fd(), PollFlags::IN),
            PollFd::from_borrowed_fd(stop.descriptor(), PollFlags::IN),
        ];
        wait(&mut watched, Some(deadline)).map_err(|error| malformed(&error))?;
        if !watched[1].revents().is_empty() {
            return Err(Refusal::new(RefusalCode::Stopping, "the platform is being switched off"));
        }
        if Instant::now() >= deadline {
            return Err(malformed(&"no whole request came in time"));
        }
        match stream.read(&mut buffer) {
            Ok(0) => return Ok(None),
            Ok(count) => input.extend(&buffer[..count]),
            Err(error) if is_transient(&error) => {}
            Err(_) => return Ok(None),
        }
    }
}

impl Launched {
    /// Carries events until the process has ended and the host has heard of it (or is gone itself).
    fn carry(self, stream: UnixStream, stop: &Stop) -> io::Result<Exit> {
        let Self { process, identity, ends, input, shared } = self;
        let hang_up = ends.channel.try_clone()?;
        let mut host = Host { stream, input, hung_up: false, gone: false, pending: Vec::new(), said: 0 };
        host.say(&Event::Launched { pid: process.id(), measurement: identity.measurement.clone() })?;
        host.refuse_requests()?;
        std::thread::scope(|scope| {
            let answering = std::thread::Builder::new()
                .name("channel".into())
                .spawn_scoped(scope, || channel::serve(ends.channel, &identity, &shared));
            let pipes = [
                Pipe { stream: Stream::Stdout, file: Some(ends.stdout) },
                Pipe { stream: Stream::Stderr, file: Some(ends.stderr) },
            ];
            let mut carrier =
                Carrier { host, pipes, process: Some(process), kill_at: None, collect_until: None };
            let carried = answering.and_then(|_| carrier.carry(stop));
            // In this order: the process is dead before its platform goes away, so that it never sees that
            // happen while it still could do something about it.
            drop(carrier);
            let _ = hang_up.shutdown(std::net::Shutdown::Both);
            carried
        })
    }
}

struct Carrier {
    host: Host,
    pipes: [Pipe; 2],
    /// `None` when it has been reaped.
    process: Option<Process>,
    /// Set when the process was asked to end.
    kill_at: Option<Instant>,
    /// Set when the process was reaped.
    collect_until: Option<Instant>,
}

struct Pipe {
    stream: Stream,
    file: Option<File>,
}

/// What a round of waiting has found.
struct Ready {
    stopping: bool,
    ended: bool,
    input: bool,
    hung_up: bool,
    host_gone: bool,
}

impl Carrier {
    fn carry(&mut self, stop: &Stop) -> io::Result<Exit> {
        let mut stopping = false;
        let exit = loop {
            let ready = self.wait(stop, stopping)?;
            stopping |= ready.stopping;
            if ready.input {
                self.host.listen()?;
            }
            self.host.hung_up |= ready.hung_up;
            self.host.gone |= ready.host_gone;
            self.host.flush();
            if stopping || self.host.wants_the_end() {
                self.end();
            }
            if ready.ended
                && let Some(process) = self.process.take()
            {
                break process.reap()?;
            }
            self.read_pipes()?;
        };
        self.collect_until = Some(Instant::now() + COLLECT_WITHIN);
        self.collect(stop)?;
        self.host.say(&Event::Exited(exit))?;
        while !self.host.is_done() && !self.is_over_time() {
            self.wait(stop, true)?;
            self.host.flush();
        }
        Ok(exit)
    }

    /// After the end: passes on what is still in the pipes. Only what is there: another process may hold
    /// the other ends, and is not waited for.
    fn collect(&mut self, stop: &Stop) -> io::Result<()> {
        while !self.host.gone && !self.is_over_time() {
            if self.host.is_done() {
                let before = self.host.said;
                self.read_pipes()?;
                if self.host.said == before {
                    break;
                }
            } else {
                self.wait(stop, true)?;
            }
            self.host.flush();
        }
        self.pipes.iter_mut().for_each(|pipe| pipe.file = None);
        Ok(())
    }

    fn is_over_time(&self) -> bool {
        self.collect_until.is_some_and(|until| Instant::now() >= until)
    }

    /// Asks the process to end, and makes it when it has had its time.
    fn end(&mut self) {
        let Some(process) = &self.process else { return };
        match self.kill_at {
            None => {
                process.terminate();
                self.kill_at = Some(Instant::now() + END_WITHIN);
            }
            Some(at) if Instant::now() >= at => process.kill(),
            Some(_) => {}
        }
    }

    /// Waits for whatever can happen next, given what is being waited for.
    fn wait(&self, stop: &Stop, stopping: bool) -> io::Result<Ready> {
        let nothing = PollFlags::empty();
        let host_events = self.host.waits_for();
        let mut watched = Vec::with_capacity(5);
        // A descriptor in the set always reports its hang-up, so that one which is of no more interest has
        // to be left out, lest it wake us for ever. The stop switch fills such gaps, asked for nothing.
        let gap = || PollFd::from_borrowed_fd(stop.descriptor(), nothing);
        let stop_events = if stopping { nothing } else { PollFlags::IN };
        watched.push(PollFd::from_borrowed_fd(stop.descriptor(), stop_events));
        watched.push(match &self.process {
            Some(process) => PollFd::from_borrowed_fd(process.descriptor(), PollFlags::IN),
            None => gap(),
        });
        watched.push(if self.host.gone {
            gap()
        } else {
            PollFd::from_borrowed_fd(self.host.stream.as_fd(), host_events)
        });
        let reading = self.process.is_some() && self.host.has_room();
        for file in self.pipes.iter().filter_map(|pipe| pipe.file.as_ref()).filter(|_| reading) {
            watched.push(PollFd::from_borrowed_fd(file.as_fd(), PollFlags::IN));
        }
        let killed = self.kill_at.is_some_and(|at| Instant::now() >= at);
        wait(&mut watched, if killed { self.collect_until } else { self.kill_at.or(self.collect_until) })?;
        let host = watched[2].revents();
        Ok(Ready {
            stopping: !watched[0].revents().is_empty(),
            ended: !watched[1].revents().is_empty(),
            input: host.contains(PollFlags::IN),
            hung_up: host.contains(PollFlags::RDHUP),
            host_gone: host.intersects(PollFlags::HUP | PollFlags::ERR | PollFlags::NVAL),
        })
    }

    fn read_pipes(&mut self) -> io::Result<()> {
        for pipe in &mut self.pipes {
            if self.host.has_room() {
                pipe.read_into(&mut self.host)?;
            }
        }
        Ok(())
    }
}

impl Pipe {
    /// Passes on one piece, if there is any.
    fn read_into(&mut self, host: &mut Host) -> io::Result<()> {
        let Some(file) = &mut self.file else { return Ok(()) };
        let mut buffer = [0; MAX_OUTPUT];
        match file.read(&mut buffer) {
            Ok(0) => self.file = None,
            Ok(count) => {
                let bytes = buffer[..count].to_vec();
                host.say(&Event::Output { stream: self.stream, bytes })?;
            }
            Err(error) if is_transient(&error) => {}
            Err(_) => self.file = None,
        }
        Ok(())
    }
}

/// The host's connection after the launch.
struct Host {
    stream: UnixStream,
    input: FrameBuffer,
    /// The host has closed its half: it wants the process to end.
    hung_up: bool,
    /// Nobody listens any more.
    gone: bool,
    pending: Vec<u8>,
    /// How many events were said, to see whether there was one more.
    said: u64,
}

impl Host {
    fn wants_the_end(&self) -> bool {
        self.hung_up || self.gone
    }

    /// Whether output may be read: one event per pipe at most waits for the host.
    fn has_room(&self) -> bool {
        self.pending.len() <= MAX_OUTPUT
    }

    fn is_done(&self) -> bool {
        self.pending.is_empty()
    }

    fn waits_for(&self) -> PollFlags {
        // Who only asks and never listens is not read from either, but may hang up.
        let input = match (self.hung_up, self.has_room()) {
            (true, _) => PollFlags::empty(),
            (false, false) => PollFlags::RDHUP,
            (false, true) => PollFlags::RDHUP | PollFlags::IN,
        };
        let output = if self.pending.is_empty() { PollFlags::empty() } else { PollFlags::OUT };
        input | output
    }

    fn say(&mut self, event: &Event) -> io::Result<()> {
        self.said += 1;
        if !self.gone {
            self.pending.extend_from_slice(&event_frame(event)?);
            self.flush();
        }
        Ok(())
    }

    fn flush(&mut self) {
        while !self.pending.is_empty() && !self.gone {
            match self.stream.write(&self.pending) {
                Ok(count) => drop(self.pending.drain(..count)),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(_) => self.gone = true,
            }
        }
        if self.gone {
            self.pending.clear();
        }
    }

    /// Reads what the host says.
    fn listen(&mut self) -> io::Result<()> {
        let mut buffer = [0; 8192];
        match (&self.stream).read(&mut buffer) {
            Ok(0) => self.hung_up = true,
            Ok(count) => self.input.extend(&buffer[..count]),
            Err(error) if is_transient(&error) => {}
            Err(_) => self.gone = true,
        }
        self.refuse_requests()
    }

    /// There is nothing left that the host may ask, so every request is refused.
    fn refuse_requests(&mut self) -> io::Result<()> {
        loop {
            match self.input.next_frame() {
                Ok(None) => return Ok(()),
                Ok(Some(payload)) => {
                    let refusal = Request::decode(&payload).map(|_| {
                        Refusal::new(RefusalCode::AlreadyLaunched, "this connection has its process already")
                    });
                    let (Ok(refusal) | Err(refusal)) = refusal;
                    self.say(&Event::Refused(refusal))?;
                }
                Err(error) => {
                    self.say(&Event::Refused(Refusal::new(
                        RefusalCode::MalformedRequest,
                        error.to_string(),
                    )))?;
                    self.hung_up = true;
                    return Ok(());
                }
            }
        }
    }
}

fn event_frame(event: &Event) -> io::Result<zeroize::Zeroizing<Vec<u8>>> {
    let payload = frame::encode(event).map_err(io::Error::other)?;
    frame::framed(&payload).map_err(io::Error::other)
}

fn is_transient(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted)
}

fn wait(watched: &mut [PollFd<'_>], deadline: Option<Instant>) -> io::Result<()> {
    // A little more than is left: a wait that is cut down to whole units would spin up to the deadline.
    let left = deadline
        .map(|deadline| deadline.saturating_duration_since(Instant::now()) + Duration::from_millis(1));
    let timeout = left.map(|left| Timespec::try_from(left).map_err(io::Error::other)).transpose()?;
    match poll(watched, timeout.as_ref()) {
        Ok(_) | Err(rustix::io::Errno::INTR) => Ok(()),
        Err(error) => Err(error.into()),
    }
}

//! One connection to the control socket: waits for the request, launches, and then carries output and exit
//! to the host until the process is gone. One thread, one `poll`; the host's slowness stops the reading of
//! the process's output (back-pressure), so that memory stays bounded whatever either side does.

mod host;

use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::AsFd;
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::time::{Duration, Instant};

use attester::emulated::FrameBuffer;
use rustix::event::{PollFd, PollFlags, Timespec, poll};

use self::host::{Host, event_frame, is_transient};
use super::berth::Moored;
use super::channel::{self, Identity};
use super::image::{Image, MAX_EXECUTABLE};
use super::process::{self, Process};
use super::{Shared, Slot};
use crate::control::{Event, Exit, Launch, MAX_OUTPUT, Refusal, RefusalCode, Request, Stream};
use crate::socket::Stop;

/// How long a host may take to say what it wants.
const REQUEST_WITHIN: Duration = Duration::from_secs(10);

/// How long a process may take to end after SIGTERM, before it gets SIGKILL.
const END_WITHIN: Duration = Duration::from_secs(3);

/// How long a host may take to collect the last output of a process that has ended.
const COLLECT_WITHIN: Duration = Duration::from_secs(5);

/// How long the end of a process that outlives its connection may wait for somebody to hear of it.
const HEARD_WITHIN: Duration = Duration::from_secs(600);

/// How long a refusal may wait to be taken.
const REFUSE_WITHIN: Duration = Duration::from_secs(1);

/// Runs a session from its first byte to the end of its process.
pub(super) fn run(stream: UnixStream, shared: &Arc<Shared>, stop: &Stop) {
    let wanted = match await_request(&stream, stop) {
        Ok(wanted) => wanted,
        Err(refusal) => return refuse(stream, refusal),
    };
    let launched = match wanted {
        None => return,
        Some((Request::Attach(handle), _)) => {
            if let Err((stream, refusal)) = shared.berths.bring(&handle, stream) {
                refuse(stream, refusal);
            }
            return;
        }
        Some((Request::Stop {}, _)) => {
            let reason = "this connection has no process";
            return refuse(stream, Refusal::new(RefusalCode::NoSuchProcess, reason));
        }
        Some((Request::Launch(launch), input)) => prepare(*launch, input, shared),
    };
    match launched {
        Ok(launched) => {
            let pid = launched.process.id();
            match launched.carry(stream, stop) {
                Ok(exit) => tracing::info!(pid, %exit, "ended"),
                Err(error) => tracing::error!(pid, %error, "a process could not be watched, and was killed"),
            }
        }
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
    /// There if the process outlives its connection.
    moored: Option<Moored>,
    slot: Slot,
}

/// Up to the running process.
fn prepare(launch: Launch, input: FrameBuffer, shared: &Arc<Shared>) -> Result<Launched, Refusal> {
    let Some(slot) = Slot::take(shared) else {
        let reason = format!("{} processes run already", super::MAX_PROCESSES);
        return Err(Refusal::new(RefusalCode::Busy, reason));
    };
    let platform = launch.platform;
    let moored = launch.lasting.as_ref().map(|lasting| shared.berths.take(lasting)).transpose()?;
    let image = Image::load(&launch.executable, platform, MAX_EXECUTABLE)?;
    let (process, ends) = process::launch(&image, &launch)?;
    let measurement = image.measurement().clone();
    tracing::info!(
        pid = process.id(),
        %platform,
        %measurement,
        executable = %launch.executable.display(),
        walls = process.walls().join(" "),
        "launched"
    );
    let identity = Identity { platform, measurement, configuration: launch.configuration };
    Ok(Launched { process, identity, ends, input, moored, slot })
}

/// `None` when the host hung up without a request.
fn await_request(mut stream: &UnixStream, stop: &Stop) -> Result<Option<(Request, FrameBuffer)>, Refusal> {
    let malformed =
        |error: &dyn std::fmt::Display| Refusal::new(RefusalCode::MalformedRequest, error.to_string());
    stream.set_nonblocking(true).map_err(|error| malformed(&error))?;
    let deadline = Instant::now() + REQUEST_WITHIN;
    let mut input = FrameBuffer::default();
    let mut buffer = [0; 8192];
    loop {
        if let Some(payload) = input.next_frame().map_err(|error| malformed(&error))? {
            return Ok(Some((Request::decode(&payload)?, input)));
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
        let Self { process, identity, ends, input, moored, slot } = self;
        let shared = &*slot.0;
        let hang_up = ends.channel.try_clone()?;
        let greeting = Event::Launched {
            pid: process.id(),
            measurement: identity.measurement.clone(),
            walls: process.walls().to_vec(),
        };
        let host = Host::new(stream, input, moored, &greeting)?;
        std::thread::scope(|scope| {
            let answering = std::thread::Builder::new()
                .name("channel".into())
                .spawn_scoped(scope, || channel::serve(ends.channel, &identity, shared));
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

/// What a round of waiting has found, besides what the host did.
struct Ready {
    stopping: bool,
    ended: bool,
}

impl Carrier {
    fn carry(&mut self, stop: &Stop) -> io::Result<Exit> {
        let mut stopping = false;
        let exit = loop {
            let ready = self.round(stop, stopping)?;
            stopping |= ready.stopping;
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
        while !self.host.is_gone() && !self.host.is_done() && !self.is_over_time() && !stopping {
            if self.host.is_awaited() {
                self.collect_until = Some(self.host.unattended_since() + HEARD_WITHIN);
            }
            stopping |= self.round(stop, stopping)?.stopping;
        }
        Ok(exit)
    }

    /// After the end: passes on what is still in the pipes. Only what is there: another process may hold
    /// the other ends, and is not waited for.
    fn collect(&mut self, stop: &Stop) -> io::Result<()> {
        while !self.host.is_gone() && !self.is_over_time() {
            if self.host.has_room() {
                let before = self.host.said;
                self.read_pipes()?;
                if self.host.said == before {
                    break;
                }
            } else {
                self.round(stop, true)?;
            }
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

    /// Waits for whatever can happen next, given what is being waited for, and does what the host asks.
    fn round(&mut self, stop: &Stop, stopping: bool) -> io::Result<Ready> {
        let nothing = PollFlags::empty();
        let mut watched = Vec::with_capacity(6);
        // A descriptor in the set always reports its hang-up, so that one which is of no more interest has
        // to be left out, lest it wake us for ever. The stop switch fills such gaps, asked for nothing.
        let gap = || PollFd::from_borrowed_fd(stop.descriptor(), nothing);
        let stop_events = if stopping { nothing } else { PollFlags::IN };
        watched.push(PollFd::from_borrowed_fd(stop.descriptor(), stop_events));
        watched.push(match &self.process {
            Some(process) => PollFd::from_borrowed_fd(process.descriptor(), PollFlags::IN),
            None => gap(),
        });
        let bell = self.host.bell();
        watched.push(bell.map_or_else(gap, |bell| PollFd::from_borrowed_fd(bell, PollFlags::IN)));
        let host = self.host.waits_for();
        watched.push(host.map_or_else(gap, |(host, events)| PollFd::from_borrowed_fd(host, events)));
        let reading = self.process.is_some() && self.host.has_room();
        for file in self.pipes.iter().filter_map(|pipe| pipe.file.as_ref()).filter(|_| reading) {
            watched.push(PollFd::from_borrowed_fd(file.as_fd(), PollFlags::IN));
        }
        wait(&mut watched, self.deadline())?;
        let ready =
            Ready { stopping: !watched[0].revents().is_empty(), ended: !watched[1].revents().is_empty() };
        let (another, host) = (!watched[2].revents().is_empty(), watched[3].revents());
        drop(watched);
        if host.contains(PollFlags::IN) {
            self.host.listen()?;
        }
        if host.intersects(PollFlags::HUP | PollFlags::ERR | PollFlags::NVAL) {
            self.host.hang_up(true);
        } else if host.contains(PollFlags::RDHUP) {
            self.host.hang_up(false);
        }
        if another {
            self.host.change()?;
        }
        self.host.flush();
        Ok(ready)
    }

    fn deadline(&self) -> Option<Instant> {
        if self.process.is_none() {
            return self.collect_until;
        }
        match self.kill_at {
            // Killed: its end is all that is left to wait for.
            Some(at) if Instant::now() >= at => None,
            Some(at) => Some(at),
            None => self.host.patience_ends(),
        }
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

//! The agent's socket, `host.sock` in its directory: one line of JSON in, one line of JSON out. Only the
//! agent's own user and root can connect. Nothing secret passes: there is nothing secret here.

use std::io::{self, BufRead, BufReader, IoSlice, IoSliceMut, Read, Write};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use emulator::socket::{Arrival, PrivateListener, Stop};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer, SendAncillaryMessage,
    SendFlags, recvmsg, sendmsg,
};

use crate::action::{Action, ActionError, Reply};
use crate::agent::Office;

/// The name of the socket in the agent's directory.
pub const SOCKET_NAME: &str = "host.sock";

/// The longest request, in bytes: the largest launch configuration in hexadecimal, and some.
const MAX_REQUEST: usize = 1 << 20;

/// The longest reply that is read, in bytes.
const MAX_REPLY: u64 = 16 << 20;

/// The most connections at a time.
const MAX_CONNECTIONS: usize = 32;

/// How long a connection may be silent.
const IDLE: Duration = Duration::from_secs(60);

/// How long a peer may take to read a reply.
const WRITE_WITHIN: Duration = Duration::from_secs(5);

/// How long an answer may take: the longest is to a stop, which gives the process 3 s.
const ANSWER_WITHIN: Duration = Duration::from_secs(30);

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub enum AskError {
    /// No agent is there.
    #[error("no host agent answers at {socket}")]
    Unreachable {
        /// The socket.
        socket: PathBuf,
        /// What connecting said.
        source: io::Error,
    },
    /// The connection failed.
    #[error("the connection to the host agent failed")]
    Connection(#[from] io::Error),
    /// The answer is none.
    #[error("the host agent's answer is malformed: {0}")]
    Malformed(String),
}

/// Asks the agent in `directory` to do something.
///
/// # Errors
/// When there is no answer. A refusal is an answer.
pub fn ask(directory: &Path, action: &Action) -> Result<Reply, AskError> {
    let stream = send(directory, action)?;
    let mut answer = String::new();
    BufReader::new(stream.take(MAX_REPLY)).read_line(&mut answer)?;
    serde_json::from_str(&answer).map_err(|error| AskError::Malformed(error.to_string()))
}

/// Whether an agent holds `directory`, also one that is ending and answers nothing any more.
#[must_use]
pub fn is_there(directory: &Path) -> bool {
    UnixStream::connect(directory.join(SOCKET_NAME)).is_ok()
}

/// The most sockets that come with an answer.
const MAX_SOCKETS: usize = 4;

/// As [`ask`], for an answer with which sockets come.
pub(crate) fn ask_for_sockets(directory: &Path, action: &Action) -> Result<(Reply, Vec<OwnedFd>), AskError> {
    let stream = send(directory, action)?;
    let (mut answer, mut descriptors) = (Vec::new(), Vec::new());
    let mut buffer = [0; 8192];
    while !answer.ends_with(b"\n") && answer.len() < MAX_REQUEST {
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MAX_SOCKETS))];
        let mut ancillary = RecvAncillaryBuffer::new(&mut space);
        let flags = RecvFlags::CMSG_CLOEXEC;
        let received = recvmsg(&stream, &mut [IoSliceMut::new(&mut buffer)], &mut ancillary, flags)
            .map_err(io::Error::from)?;
        if received.bytes == 0 {
            break;
        }
        answer.extend_from_slice(&buffer[..received.bytes]);
        for message in ancillary.drain() {
            if let RecvAncillaryMessage::ScmRights(rights) = message {
                descriptors.extend(rights);
            }
        }
    }
    let reply = serde_json::from_slice(&answer).map_err(|error| AskError::Malformed(error.to_string()))?;
    Ok((reply, descriptors))
}

fn send(directory: &Path, action: &Action) -> Result<UnixStream, AskError> {
    let socket = directory.join(SOCKET_NAME);
    let mut stream =
        UnixStream::connect(&socket).map_err(|source| AskError::Unreachable { socket, source })?;
    stream.set_read_timeout(Some(ANSWER_WITHIN))?;
    let mut line = serde_json::to_vec(action).map_err(|error| AskError::Malformed(error.to_string()))?;
    line.push(b'\n');
    stream.write_all(&line)?;
    Ok(stream)
}

/// Answers connections until the agent is shut down.
pub(crate) fn serve(listener: &PrivateListener, office: &Office) {
    let connections = AtomicUsize::new(0);
    std::thread::scope(|scope| {
        loop {
            match listener.wait(office.shutdown()) {
                Ok(Arrival::Own(stream)) if connections.load(Ordering::Acquire) < MAX_CONNECTIONS => {
                    connections.fetch_add(1, Ordering::AcqRel);
                    let connections = &connections;
                    let converse = move || {
                        if let Err(error) = converse(stream, office) {
                            tracing::debug!(%error, "a connection to the host socket failed");
                        }
                        connections.fetch_sub(1, Ordering::AcqRel);
                    };
                    let spawned =
                        std::thread::Builder::new().name("host-request".into()).spawn_scoped(scope, converse);
                    if let Err(error) = spawned {
                        connections.fetch_sub(1, Ordering::AcqRel);
                        tracing::error!(%error, "no thread for another request");
                    }
                }
                // One too many, or somebody else: closed without an answer.
                Ok(Arrival::Own(_) | Arrival::Foreign(_)) => {}
                Ok(Arrival::Stopped) => return,
                Err(error) => {
                    tracing::error!(%error, "the host socket failed");
                    return;
                }
            }
        }
    });
}

fn converse(mut stream: UnixStream, office: &Office) -> io::Result<()> {
    stream.set_nonblocking(false)?;
    stream.set_write_timeout(Some(WRITE_WITHIN))?;
    let mut input = Vec::new();
    let mut buffer = [0; 8192];
    while is_readable(&stream, office.shutdown())? {
        let count = stream.read(&mut buffer)?;
        if count == 0 {
            break;
        }
        input.extend_from_slice(&buffer[..count]);
        while let Some(end) = input.iter().position(|byte| *byte == b'\n') {
            let line: Vec<u8> = input.drain(..=end).collect();
            match Action::parse(&line).and_then(|action| office.act(action)) {
                Ok(reply @ Reply::HandedOver { .. }) => hand_over(&stream, &reply, office)?,
                result => answer(&mut stream, result)?,
            }
        }
        if input.len() > MAX_REQUEST {
            let reason = format!("longer than {MAX_REQUEST} bytes");
            return answer(&mut stream, Err(ActionError::Malformed(reason)));
        }
    }
    Ok(())
}

fn answer(stream: &mut UnixStream, result: Result<Reply, ActionError>) -> io::Result<()> {
    let mut line = serde_json::to_vec(&result.unwrap_or_else(Reply::from))?;
    line.push(b'\n');
    stream.write_all(&line)
}

/// The answer and the sockets in one message: the peer has either both or neither.
fn hand_over(stream: &UnixStream, reply: &Reply, office: &Office) -> io::Result<()> {
    let mut line = serde_json::to_vec(reply)?;
    line.push(b'\n');
    let descriptors: Vec<BorrowedFd<'_>> = office.handed().iter().map(|(_, socket)| socket.as_fd()).collect();
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MAX_SOCKETS))];
    let mut ancillary = SendAncillaryBuffer::new(&mut space);
    if !descriptors.is_empty() && !ancillary.push(SendAncillaryMessage::ScmRights(&descriptors)) {
        return Err(io::Error::other("too many sockets"));
    }
    sendmsg(stream, &[IoSlice::new(&line)], &mut ancillary, SendFlags::empty())?;
    Ok(())
}

/// Waits for the peer; false when it was silent for too long, or the agent is shutting down.
fn is_readable(stream: &UnixStream, stop: &Stop) -> io::Result<bool> {
    let idle = Timespec::try_from(IDLE).map_err(io::Error::other)?;
    loop {
        let mut watched = [
            PollFd::from_borrowed_fd(stream.as_fd(), PollFlags::IN),
            PollFd::from_borrowed_fd(stop.descriptor(), PollFlags::IN),
        ];
        match poll(&mut watched, Some(&idle)) {
            Err(rustix::io::Errno::INTR) => {}
            Err(error) => return Err(error.into()),
            Ok(count) => return Ok(count > 0 && watched[1].revents().is_empty()),
        }
    }
}

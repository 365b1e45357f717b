//! The launched process's end: takes the inherited descriptor, asks for the launch information once,
//! and watches for the platform to go away.

use std::io;
use std::os::fd::{AsFd, FromRawFd, OwnedFd};
use std::os::unix::fs::FileTypeExt;
use std::os::unix::net::UnixStream;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use evidence::{Platform, ReportData};
use rustix::event::{PollFd, PollFlags, poll};
use rustix::net::{AddressFamily, SocketType, sockopt};

use super::frame::{self, FrameError};
use super::protocol::{Request, Response};
use super::{CHANNEL_DESCRIPTOR, EXIT_PLATFORM_GONE, MAX_CONTEXT};
use crate::{AttesterError, RawEvidence, SealingKey, Tee};

/// How long an answer may take. The platform works for milliseconds; a starved machine gets some more.
const ANSWER_WITHIN: Duration = Duration::from_secs(30);

static TAKEN: AtomicBool = AtomicBool::new(false);

/// A TEE of the emulated platform, seen from inside.
pub struct Emulated {
    platform: Platform,
    configuration: Vec<u8>,
    channel: Mutex<Channel>,
}

impl Emulated {
    /// Takes the inherited descriptor, and starts the thread that ends the process with the platform.
    ///
    /// # Errors
    /// When there is no such descriptor, it was taken before, or nobody answers on it.
    pub fn take() -> Result<Self, AttesterError> {
        let stream = take_inherited_channel()?;
        let watched = stream
            .try_clone()
            .map_err(|source| AttesterError::System { attempt: "copying the platform channel", source })?;
        let tee = Self::over(stream)?;
        std::thread::Builder::new()
            .name("platform".into())
            .spawn(move || end_process_with_platform(&watched))
            .map_err(|source| AttesterError::System { attempt: "starting the platform watcher", source })?;
        Ok(tee)
    }

    /// A TEE over a channel that is already connected, without the watcher.
    fn over(stream: UnixStream) -> Result<Self, AttesterError> {
        stream
            .set_read_timeout(Some(ANSWER_WITHIN))
            .and_then(|()| stream.set_write_timeout(Some(ANSWER_WITHIN)))
            .map_err(|source| AttesterError::System {
                attempt: "setting the channel's time limit",
                source,
            })?;
        let mut channel = Channel { stream, broken: false };
        match channel.call(&Request::Launch)? {
            Response::Launch { platform, configuration } => {
                Ok(Self { platform, configuration, channel: Mutex::new(channel) })
            }
            _ => Err(AttesterError::UnexpectedResponse),
        }
    }

    fn call(&self, request: &Request) -> Result<Response, AttesterError> {
        // A panic while the lock is held leaves `broken` set, which is what poisoning would tell.
        self.channel.lock().unwrap_or_else(std::sync::PoisonError::into_inner).call(request)
    }
}

impl Tee for Emulated {
    fn platform(&self) -> Platform {
        self.platform
    }

    fn emulated(&self) -> bool {
        true
    }

    fn launch_configuration(&self) -> &[u8] {
        &self.configuration
    }

    fn evidence(&self, report_data: &ReportData) -> Result<RawEvidence, AttesterError> {
        match self.call(&Request::Evidence { report_data: *report_data })? {
            Response::Evidence { evidence, endorsements } => Ok(RawEvidence { evidence, endorsements }),
            _ => Err(AttesterError::UnexpectedResponse),
        }
    }

    fn sealing_key(&self, context: &str) -> Result<SealingKey, AttesterError> {
        if context.is_empty() || context.len() > MAX_CONTEXT {
            return Err(AttesterError::Context { length: context.len(), limit: MAX_CONTEXT });
        }
        match self.call(&Request::SealingKey { context: context.to_owned() })? {
            Response::SealingKey { key } => Ok(key),
            _ => Err(AttesterError::UnexpectedResponse),
        }
    }
}

struct Channel {
    stream: UnixStream,
    broken: bool,
}

impl Channel {
    /// One question, one answer. A call that fails half-way breaks the channel for good: the answer that
    /// is still under way would otherwise be taken for that of the next question.
    fn call(&mut self, request: &Request) -> Result<Response, AttesterError> {
        if self.broken {
            return Err(AttesterError::ChannelBroken);
        }
        let payload = frame::encode(request)?;
        self.broken = true;
        frame::write(&mut self.stream, &payload).map_err(gone)?;
        let answer = frame::read(&mut self.stream).map_err(gone)?.ok_or(AttesterError::PlatformGone)?;
        self.broken = false;
        match Response::decode(&answer)? {
            Response::Refused { code, reason } => Err(AttesterError::Refused { code, reason }),
            response => Ok(response),
        }
    }
}

fn gone(error: FrameError) -> AttesterError {
    match error {
        FrameError::Truncated => AttesterError::PlatformGone,
        FrameError::Io(error)
            if matches!(error.kind(), io::ErrorKind::BrokenPipe | io::ErrorKind::ConnectionReset) =>
        {
            AttesterError::PlatformGone
        }
        error => AttesterError::Channel(error),
    }
}

fn take_inherited_channel() -> Result<UnixStream, AttesterError> {
    let not_in_tee = |reason| AttesterError::NotInTee { reason };
    if TAKEN.load(Ordering::Acquire) {
        return Err(AttesterError::AlreadyTaken);
    }
    // `stat` through /proc tells what the number means without claiming to own it.
    let inherited = std::fs::metadata(format!("/proc/self/fd/{CHANNEL_DESCRIPTOR}"))
        .map_err(|_| not_in_tee("no platform channel was inherited"))?;
    if !inherited.file_type().is_socket() {
        return Err(not_in_tee("file descriptor 3 was inherited, but is no platform channel"));
    }
    if TAKEN.swap(true, Ordering::AcqRel) {
        return Err(AttesterError::AlreadyTaken);
    }
    #[expect(unsafe_code, reason = "an inherited descriptor is only known by its number")]
    // SAFETY: the descriptor is open (looked up just above) and has no other owner: it was inherited, no
    // Rust value was made of it when the process started, `detect` is documented to be called before
    // anything else opens descriptors, and TAKEN lets this line run once per process.
    let channel = unsafe { OwnedFd::from_raw_fd(CHANNEL_DESCRIPTOR) };
    rustix::io::fcntl_setfd(&channel, rustix::io::FdFlags::CLOEXEC).map_err(|error| {
        AttesterError::System {
            attempt: "keeping the platform channel from child processes",
            source: error.into(),
        }
    })?;
    let is_unix_stream = sockopt::socket_domain(&channel) == Ok(AddressFamily::UNIX)
        && sockopt::socket_type(&channel) == Ok(SocketType::STREAM);
    if !is_unix_stream {
        return Err(not_in_tee("file descriptor 3 was inherited, but is no platform channel"));
    }
    Ok(UnixStream::from(channel))
}

/// Waits until the platform closes its end, then ends the process: without a platform there is no TEE,
/// and code must not outlive the TEE that it ran in.
fn end_process_with_platform(channel: &UnixStream) {
    loop {
        let mut watched = [PollFd::from_borrowed_fd(channel.as_fd(), PollFlags::RDHUP)];
        match poll(&mut watched, None) {
            Err(rustix::io::Errno::INTR) => {}
            Ok(_) if watched[0].revents().is_empty() => {}
            _ => break,
        }
    }
    eprintln!("the platform was switched off: this TEE ends with it");
    std::process::exit(EXIT_PLATFORM_GONE);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::emulated::RefusalCode;
    use std::io::Write;
    use std::thread;
    use zeroize::Zeroizing;

    /// A platform that gives these answers, whatever it is asked.
    fn platform(answers: Vec<Response>) -> UnixStream {
        let (inside, mut outside) = UnixStream::pair().unwrap();
        thread::spawn(move || {
            for answer in answers {
                frame::read(&mut outside).unwrap();
                frame::write(&mut outside, &frame::encode(&answer).unwrap()).unwrap();
            }
        });
        inside
    }

    fn launch() -> Response {
        Response::Launch { platform: Platform::Snp, configuration: b"measured".to_vec() }
    }

    #[test]
    fn asks_and_gets() {
        let key = SealingKey::new(Zeroizing::new([9; 32]));
        let tee = Emulated::over(platform(vec![
            launch(),
            Response::Evidence { evidence: vec![1], endorsements: vec![2] },
            Response::SealingKey { key: key.clone() },
            Response::Refused { code: RefusalCode::PlatformFailed, reason: "no".into() },
        ]))
        .unwrap();
        assert_eq!((tee.platform(), tee.launch_configuration()), (Platform::Snp, b"measured".as_slice()));
        let raw = tee.evidence(&ReportData([0; 64])).unwrap();
        assert_eq!(raw, RawEvidence { evidence: vec![1], endorsements: vec![2] });
        assert_eq!(tee.sealing_key("state").unwrap(), key);
        assert!(matches!(tee.sealing_key("state"), Err(AttesterError::Refused { .. })));
        assert!(matches!(tee.sealing_key("state"), Err(AttesterError::PlatformGone)));
        assert!(matches!(tee.sealing_key("state"), Err(AttesterError::ChannelBroken)));
    }

    #[test]
    fn s43_a_context_is_never_cut_to_size() {
        let tee = Emulated::over(platform(vec![launch()])).unwrap();
        for context in [String::new(), "x".repeat(MAX_CONTEXT + 1)] {
            assert!(matches!(tee.sealing_key(&context), Err(AttesterError::Context { .. })));
        }
    }

    #[test]
    fn an_answer_to_another_question_is_refused() {
        let tee = Emulated::over(platform(vec![launch(), launch()])).unwrap();
        assert!(matches!(tee.evidence(&ReportData([0; 64])), Err(AttesterError::UnexpectedResponse)));
    }

    #[test]
    fn s43_garbage_from_the_platform_is_an_error() {
        let (inside, mut outside) = UnixStream::pair().unwrap();
        frame::write(&mut outside, b"\xff\xff").unwrap();
        assert!(matches!(Emulated::over(inside), Err(AttesterError::Decode(_))));
        let (inside, mut outside) = UnixStream::pair().unwrap();
        outside.write_all(&[0xff; 4]).unwrap();
        assert!(matches!(Emulated::over(inside), Err(AttesterError::Channel(FrameError::TooLarge { .. }))));
    }
}

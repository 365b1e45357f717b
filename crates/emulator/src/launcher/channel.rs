//! The platform's end of a launched process's channel. It knows for whom it answers: kind, measurement
//! and launch configuration were fixed at the launch, and nothing that the process says can change them.

use std::net::Shutdown;
use std::os::unix::net::UnixStream;

use attester::SealingKey;
use attester::emulated::{FrameError, MAX_CONTEXT, RefusalCode, Request, Response, frame};
use evidence::{Measurement, Platform};

use super::Shared;
use crate::measure;

/// What a launched process is, to the platform.
pub(super) struct Identity {
    pub(super) platform: Platform,
    pub(super) measurement: Measurement,
    pub(super) configuration: Vec<u8>,
}

/// Answers until the process closes its end, or the session ours.
pub(super) fn serve(mut stream: UnixStream, identity: &Identity, shared: &Shared) {
    let result = loop {
        let response = match frame::read(&mut stream) {
            Ok(Some(payload)) => answer(&payload, identity, shared),
            Ok(None) | Err(FrameError::Truncated) => break Ok(()),
            Err(error @ FrameError::TooLarge { .. }) => {
                // What follows cannot be told apart any more, so this answer is the last.
                break send(&mut stream, &refused(RefusalCode::MalformedRequest, &error));
            }
            Err(error) => break Err(error),
        };
        if let Err(error) = send(&mut stream, &response) {
            break Err(error);
        }
    };
    if let Err(error) = result {
        tracing::debug!(%error, "the channel of a process failed");
    }
    // The session keeps a copy of the socket, so that dropping ours would leave the process waiting.
    let _ = stream.shutdown(Shutdown::Both);
}

fn answer(payload: &[u8], identity: &Identity, shared: &Shared) -> Response {
    match Request::decode(payload) {
        Err(error) => refused(RefusalCode::MalformedRequest, &error),
        Ok(Request::Launch) => {
            Response::Launch { platform: identity.platform, configuration: identity.configuration.clone() }
        }
        Ok(Request::Evidence { report_data }) => {
            let Identity { platform, measurement, configuration } = identity;
            let digest = measure::launch_configuration(*platform, configuration);
            let issued = shared.platform.issue(*platform, measurement, &digest, &report_data);
            match issued {
                Ok(evidence) => Response::Evidence {
                    evidence,
                    endorsements: shared.platform.endorsements(*platform).to_bytes(),
                },
                Err(error) => refused(RefusalCode::PlatformFailed, &error),
            }
        }
        Ok(Request::SealingKey { context }) if context.is_empty() || context.len() > MAX_CONTEXT => {
            let length = context.len();
            let reason = format!("a sealing context has 1 to {MAX_CONTEXT} bytes, not {length}");
            refused(RefusalCode::InvalidContext, &reason)
        }
        Ok(Request::SealingKey { context }) => {
            let Identity { platform, measurement, configuration } = identity;
            let key = shared.platform.sealing_key(*platform, measurement, configuration, &context);
            match key {
                Ok(key) => Response::SealingKey { key: SealingKey::new(key) },
                Err(error) => refused(RefusalCode::PlatformFailed, &error),
            }
        }
    }
}

fn refused(code: RefusalCode, reason: &dyn std::fmt::Display) -> Response {
    Response::Refused { code, reason: reason.to_string() }
}

fn send(stream: &mut UnixStream, response: &Response) -> Result<(), FrameError> {
    match frame::encode(response).map_err(|error| error.to_string()) {
        Ok(payload) => frame::write(stream, &payload),
        Err(error) => Err(FrameError::Io(std::io::Error::other(error))),
    }
}

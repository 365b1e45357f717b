//! How one agent takes the place of another in the same directory, without a moment in which clients are refused:
//! the old one hands over the sockets it listens on, lets its processes go, and gives up the directory; the new one
//! listens on the same sockets and adopts the processes.
//!
//! ```text
//!  new ── HandOver ──▶ old: no new requests, releases processes
//!      ◀─ sockets ────
//!      (waits for the directory)   old: leaves it; what is relayed goes on until it ends
//!  new: adopts, listens
//! ```

use std::net::TcpListener;
use std::path::Path;
use std::time::{Duration, Instant};

use emulator::socket::{PrivateListener, SocketError};

use super::HostError;
use crate::action::{Action, Handed, Reply};
use crate::surface::{self, AskError};

/// How long the old agent may take to leave its directory after it has handed over.
const LEAVE_WITHIN: Duration = Duration::from_secs(20);

/// What was handed over.
pub(super) type Legacy = Vec<(Handed, TcpListener)>;

/// Takes the directory over; when nobody is there, it is simply taken.
pub(super) fn take_over(directory: &Path) -> Result<(PrivateListener, Legacy), HostError> {
    let (reply, descriptors) = match surface::ask_for_sockets(directory, &Action::HandOver {}) {
        Err(AskError::Unreachable { .. }) => {
            return Ok((PrivateListener::open(directory, surface::SOCKET_NAME)?, Vec::new()));
        }
        answer => answer?,
    };
    let sockets = match reply {
        Reply::HandedOver { sockets } if sockets.len() == descriptors.len() => sockets,
        Reply::Refused { code, reason } => return Err(HostError::NotHandedOver { code, reason }),
        other => return Err(AskError::Malformed(format!("{other:?}")).into()),
    };
    let legacy = sockets.into_iter().zip(descriptors.into_iter().map(TcpListener::from)).collect();
    let deadline = Instant::now() + LEAVE_WITHIN;
    loop {
        match PrivateListener::open(directory, surface::SOCKET_NAME) {
            Err(SocketError::InUse(_)) if Instant::now() < deadline => {
                std::thread::sleep(Duration::from_millis(5));
            }
            opened => return Ok((opened?, legacy)),
        }
    }
}

//! A Keep of one direct deployment.

use std::{
    net::SocketAddr,
    os::{
        fd::{FromRawFd, OwnedFd},
        unix::{fs::FileTypeExt, net::UnixListener},
    },
    sync::Arc,
};

use anyhow::{Context, Result, bail};
use attested_tls::{clock, launch::DirectConfiguration};
use attester::Tee;
use keep::{
    direct::{Door, VERSION, Waiting},
    runtime::{Pool, Runtime},
};

use crate::{hints::Hints, terminated};

/// The descriptor of the socket that the host made for us to listen on.
const LISTENER_DESCRIPTOR: i32 = 4;

/// Waits for the client, warm, and serves it.
pub async fn run(
    hints: Hints,
    tee: Arc<dyn Tee>,
    configuration: DirectConfiguration,
    inherited: Option<UnixListener>,
) -> Result<()> {
    if configuration.version != VERSION {
        bail!(
            "launched for version {} of the protocol; this program speaks {VERSION}",
            configuration.version
        );
    }
    let door = match (hints.channel, inherited) {
        (Some(address), _) => listen(address).await?,
        (None, Some(listener)) => unix(listener)?,
        (None, None) => bail!("no socket to listen on was given as descriptor 4, and no --channel"),
    };
    let cache = hints.cache(tee.as_ref())?;
    let runtime = Runtime::new(Pool::default())?;
    let waiting = Waiting::new(tee, runtime, cache, clock::system()).with_storage(hints.storage());
    tracing::info!(code = "WAITING", "a client can have this Keep");
    waiting.serve(door, terminated()).await;
    Ok(())
}

async fn listen(address: SocketAddr) -> Result<Door> {
    let listener = tokio::net::TcpListener::bind(address)
        .await
        .with_context(|| format!("cannot listen on {address}"))?;
    let address = listener.local_addr()?;
    tracing::info!(code = "CHANNEL", %address, "clients arrive here");
    Ok(Door::Tcp(listener))
}

/// The socket that the host made for us to listen on, if there is one. To be called before anything is opened, which
/// could get its number.
pub fn inherited() -> Option<UnixListener> {
    let kind = std::fs::metadata(format!("/proc/self/fd/{LISTENER_DESCRIPTOR}")).ok()?.file_type();
    if !kind.is_socket() {
        return None;
    }
    #[expect(unsafe_code, reason = "an inherited descriptor is only known by its number")]
    // SAFETY: the descriptor is open (looked up just above) and has no other owner: it was inherited, and this is called
    // once, before anything else of this process opens descriptors.
    let descriptor = unsafe { OwnedFd::from_raw_fd(LISTENER_DESCRIPTOR) };
    rustix::io::fcntl_setfd(&descriptor, rustix::io::FdFlags::CLOEXEC).ok()?;
    rustix::net::sockopt::socket_acceptconn(&descriptor).ok()?.then(|| descriptor.into())
}

fn unix(listener: UnixListener) -> Result<Door> {
    listener.set_nonblocking(true)?;
    Ok(Door::Unix(tokio::net::UnixListener::from_std(listener)?))
}

//! Accepting connections: the same bounds and the same patience on every interface.

use std::{net::SocketAddr, sync::Arc, time::Duration};

use tokio::{
    net::{TcpListener, TcpStream},
    sync::{OwnedSemaphorePermit, Semaphore},
};
use tokio_util::sync::CancellationToken;

/// So many at a time on one interface; more are closed at once.
const MAX_CONNECTIONS: usize = 1024;
const AFTER_ACCEPT_ERROR: Duration = Duration::from_millis(50);

/// Serves each connection by itself until `shutdown`. Its place is free for another as soon as `serve` lets go of it.
pub(super) async fn each<F>(
    listener: TcpListener,
    shutdown: CancellationToken,
    serve: impl Fn(TcpStream, OwnedSemaphorePermit) -> F,
) where
    F: Future<Output = ()> + Send + 'static,
{
    let places = Arc::new(Semaphore::new(MAX_CONNECTIONS));
    loop {
        let accepted = tokio::select! {
            () = shutdown.cancelled() => return,
            accepted = listener.accept() => accepted,
        };
        let Some(stream) = usable(accepted).await else { continue };
        let Ok(place) = places.clone().try_acquire_owned() else { continue };
        tokio::spawn(serve(stream, place));
    }
}

/// An accepted connection, answering at once instead of waiting for more to send. When none could be
/// accepted (no descriptors left, say), a moment passes before the next attempt.
async fn usable(accepted: std::io::Result<(TcpStream, SocketAddr)>) -> Option<TcpStream> {
    match accepted.and_then(|(stream, _)| stream.set_nodelay(true).map(|()| stream)) {
        Ok(stream) => Some(stream),
        Err(error) => {
            tracing::warn!(code = "ACCEPT_FAILED", reason = %error, "a connection was not accepted");
            tokio::time::sleep(AFTER_ACCEPT_ERROR).await;
            None
        }
    }
}

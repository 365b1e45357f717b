//! Connections of a listener, so many at a time: more are closed at once, and no error of one ends the others.

use std::{future::Future, sync::Arc, time::Duration};

use tokio::{
    net::{TcpListener, TcpStream},
    sync::Semaphore,
};
use tokio_util::sync::CancellationToken;

const AFTER_ERROR: Duration = Duration::from_millis(50);

/// Has `serve` serve each connection in a task of its own until `shutdown`; those that are served then go on.
pub async fn connections<F: Future<Output = ()> + Send + 'static>(
    listener: &TcpListener,
    most: usize,
    shutdown: &CancellationToken,
    serve: impl Fn(TcpStream) -> F,
) {
    let places = Arc::new(Semaphore::new(most));
    loop {
        let accepted = tokio::select! {
            () = shutdown.cancelled() => return,
            accepted = listener.accept() => accepted,
        };
        let stream = match accepted.and_then(|(stream, _)| stream.set_nodelay(true).map(|()| stream)) {
            Ok(stream) => stream,
            Err(error) => {
                tracing::warn!(code = "ACCEPT_FAILED", reason = %error, "a connection was not accepted");
                tokio::time::sleep(AFTER_ERROR).await;
                continue;
            }
        };
        let Ok(place) = Arc::clone(&places).try_acquire_owned() else { continue };
        let served = serve(stream);
        tokio::spawn(async move {
            let _place = place;
            served.await;
        });
    }
}

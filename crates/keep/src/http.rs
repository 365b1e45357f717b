//! HTTP of the workload: a TLS listener whose configuration can be replaced while it runs, and a connection
//! task for each client. A client that is slow, silent or hostile costs its own connection only.

use std::{convert::Infallible, future::Future, io, pin::pin, sync::Arc, time::Duration};

use attested_tls::marble;
use http::{Request, Response};
use hyper::{
    body::Incoming,
    server::conn::{http1, http2},
    service::service_fn,
};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use rustls::ServerConfig;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    sync::{OwnedSemaphorePermit, Semaphore, watch},
    task::JoinSet,
    time::{sleep, timeout},
};
use tokio_rustls::{TlsAcceptor, server::TlsStream};
use wasmtime_wasi_http::p2::body::HyperOutgoingBody;

use self::answer::Answerer;
use crate::{
    admission::{Admission, Limits},
    output::Output,
    vfs::BadFile,
    workload::Workload,
    world::World,
};

mod activity;
mod answer;
mod body;
pub(crate) mod outgoing;
mod refusal;

pub use self::{
    outgoing::{PeerTls, PeerTlsError, Peers},
    refusal::{CODE_HEADER, Refusal},
};

const HANDSHAKE: Duration = Duration::from_secs(10);
/// For a request's head, and for the silence between requests.
const HEAD: Duration = Duration::from_secs(30);
const PING: Duration = Duration::from_secs(20);
const MAX_HEAD: usize = 64 << 10;
const MAX_STREAMS: u32 = 128;
/// How long requests in work have at the end of the Keep, or of a certificate, before they are cut off.
const DRAIN: Duration = Duration::from_secs(10);
const AFTER_ACCEPT_ERROR: Duration = Duration::from_millis(50);

/// Why serving could not begin.
#[derive(Debug, thiserror::Error)]
pub enum ServeError {
    /// The manifest's files do not form a tree.
    #[error("the workload's files cannot be laid out")]
    Files(#[from] BadFile),
    /// The workload answers no HTTP.
    #[error("the workload does not answer HTTP")]
    NotHttp,
}

/// Serves `workload` on `listener` until `shutdown`, then lets requests in work end.
///
/// `tls` may be replaced at any time, after what `peer_tls` answers with: connections that are open, in either
/// direction, then finish their requests and close, so that no peer outlives the certificates and the manifest
/// that let it in.
pub async fn serve(
    workload: Workload,
    admission: Admission,
    listener: TcpListener,
    tls: watch::Receiver<Arc<ServerConfig>>,
    peer_tls: Arc<dyn PeerTls>,
    shutdown: impl Future<Output = ()> + Send,
) -> Result<(), ServeError> {
    let (marble, limits) = (admission.marble.clone(), admission.limits);
    let output = Output::new(&marble, admission.log);
    let peers = Peers::new(marble.clone(), admission.log, admission.peers.clone(), peer_tls);
    let world = World::admitted(admission, peers)?;
    serve_in(workload, Surroundings { world, marble, output, limits }, listener, tls, shutdown).await
}

/// What a workload that serves finds, and what its Keep knows of it.
pub(crate) struct Surroundings {
    pub(crate) world: World,
    /// What it is called in the Keep's log.
    pub(crate) marble: String,
    pub(crate) output: Arc<Output>,
    pub(crate) limits: Limits,
}

/// Serves `workload` in a world that is there already.
pub(crate) async fn serve_in(
    workload: Workload,
    surroundings: Surroundings,
    listener: TcpListener,
    tls: watch::Receiver<Arc<ServerConfig>>,
    shutdown: impl Future<Output = ()> + Send,
) -> Result<(), ServeError> {
    let Surroundings { world, marble, output, limits } = surroundings;
    let (digest, peers) = (workload.digest(), Arc::clone(&world.peers));
    let answerer = Answerer::new(workload, marble.clone(), world, Arc::clone(&output), limits)
        .ok_or(ServeError::NotHttp)?;
    tracing::info!(code = "SERVING", marble = %marble, workload = %hex::encode(digest), "the workload is served");
    let places = Arc::new(Semaphore::new(limits.max_connections.max(1) as usize));
    let (ending, end) = watch::channel(());
    let mut connections = JoinSet::new();
    let mut renewed = tls.clone();
    let mut shutdown = pin!(shutdown);
    loop {
        tokio::select! {
            biased;
            () = &mut shutdown => break,
            Ok(()) = renewed.changed() => peers.forget_connections(),
            Some(_) = connections.join_next() => {}
            (stream, place) = accept(&listener, &places) => {
                let mut tls = tls.clone();
                let acceptor = TlsAcceptor::from(Arc::clone(&tls.borrow_and_update()));
                let connection = Connection {
                    acceptor,
                    renewed: tls,
                    end: end.clone(),
                    answerer: Arc::clone(&answerer),
                    marble: marble.clone(),
                };
                connections.spawn(async move {
                    connection.run(stream).await;
                    drop(place);
                });
            }
        }
    }
    drop(listener);
    drop(ending);
    let drained = timeout(DRAIN, async { while connections.join_next().await.is_some() {} }).await;
    connections.shutdown().await;
    let printed = output.printed();
    tracing::info!(
        code = "SERVED",
        marble = %marble,
        drained = drained.is_ok(),
        output_bytes = printed.bytes,
        output_lines_dropped = printed.dropped_lines,
        "the workload is served no more"
    );
    Ok(())
}

/// The next connection, once there is a place for it. A failure to accept concerns one client, or passes.
async fn accept(
    listener: &TcpListener,
    places: &Arc<Semaphore>,
) -> (TcpStream, Option<OwnedSemaphorePermit>) {
    // The semaphore is never closed, so there always is a permit in the end.
    let place = Arc::clone(places).acquire_owned().await.ok();
    loop {
        match listener.accept().await {
            Ok((stream, _)) => return (stream, place),
            Err(error) => {
                tracing::warn!(code = "ACCEPT_FAILED", reason = %error, "a connection was not accepted");
                sleep(AFTER_ACCEPT_ERROR).await;
            }
        }
    }
}

struct Connection {
    acceptor: TlsAcceptor,
    renewed: watch::Receiver<Arc<ServerConfig>>,
    end: watch::Receiver<()>,
    answerer: Arc<Answerer>,
    marble: String,
}

impl Connection {
    async fn run(self, stream: TcpStream) {
        // Without it, answers wait for acknowledgements; a socket that refuses it is broken anyway.
        let _ = stream.set_nodelay(true);
        match timeout(HANDSHAKE, self.acceptor.accept(stream).into_fallible()).await {
            Ok(Ok(stream)) => self.serve(stream).await,
            Ok(Err((error, stream))) => {
                let (code, reason) = marble::handshake_refusal(&error);
                tracing::info!(code, marble = %self.marble, reason, "a connection was refused");
                let_the_alert_arrive(stream).await;
            }
            Err(_) => {
                tracing::info!(code = "HANDSHAKE_TIMEOUT", marble = %self.marble, "a connection was refused");
            }
        }
    }

    async fn serve(self, stream: TlsStream<TcpStream>) {
        let is_h2 = stream.get_ref().1.alpn_protocol() == Some(b"h2");
        let Self { mut renewed, mut end, answerer, .. } = self;
        let activity = activity::Activity::new();
        let observed = activity.clone();
        let service = service_fn(move |request: Request<Incoming>| {
            let (answerer, busy) = (Arc::clone(&answerer), observed.begin());
            async move {
                let response: Response<HyperOutgoingBody> = answerer.answer(request).await?;
                Ok::<_, Infallible>(response.map(|body| busy.until_end_of(body)))
            }
        });
        let io = TokioIo::new(stream);
        // What ends a connection from this side; a sender that is gone never replaces anything.
        let asked = async {
            tokio::select! {
                Ok(()) = renewed.changed() => {}
                _ = end.changed() => {}
                () = activity.idle(HEAD) => {}
            }
        };
        // How a client's connection failed is the client's affair.
        if is_h2 {
            let mut connection = pin!(
                http2::Builder::new(TokioExecutor::new())
                    .timer(TokioTimer::new())
                    .keep_alive_interval(PING)
                    .max_concurrent_streams(MAX_STREAMS)
                    .max_header_list_size(MAX_HEAD as u32)
                    .serve_connection(io, service)
            );
            tokio::select! {
                _ = connection.as_mut() => return,
                () = asked => connection.as_mut().graceful_shutdown(),
            }
            let _ = timeout(DRAIN, connection).await;
        } else {
            let mut connection = pin!(
                http1::Builder::new()
                    .timer(TokioTimer::new())
                    .header_read_timeout(HEAD)
                    .max_buf_size(MAX_HEAD)
                    .serve_connection(io, service)
            );
            tokio::select! {
                _ = connection.as_mut() => return,
                () = asked => connection.as_mut().graceful_shutdown(),
            }
            let _ = timeout(DRAIN, connection).await;
        }
    }
}

/// Closing a socket that has unread data resets the connection, and the client would see that instead of the
/// alert that says why.
async fn let_the_alert_arrive(mut stream: TcpStream) {
    const PATIENCE: Duration = Duration::from_secs(1);
    const MOST: u64 = 64 << 10;
    let drained = async {
        stream.shutdown().await?;
        tokio::io::copy(&mut stream.take(MOST), &mut tokio::io::sink()).await
    };
    // Whether it arrived is not known here, and changes nothing.
    let _: Result<io::Result<u64>, _> = timeout(PATIENCE, drained).await;
}

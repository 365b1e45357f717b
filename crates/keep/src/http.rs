//! HTTP of the workload: a task for each connection that its listener hands over. A client that is slow, silent or
//! hostile costs its own connection only.

use std::{convert::Infallible, future::Future, pin::pin, sync::Arc, time::Duration};

use http::{Request, Response, uri::Scheme};
use hyper::{
    body::Incoming,
    server::conn::{http1, http2},
    service::service_fn,
};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use tokio::{sync::watch, task::JoinSet, time::timeout};
use wasmtime_wasi_http::p2::body::HyperOutgoingBody;

use self::answer::Answerer;
use crate::{
    admission::{Admission, Limits},
    metrics::Of,
    net::{self, Identity, Listener, Net},
    output::Output,
    vfs::Vfs,
    workload::Workload,
    world::{World, WorldError},
};

mod activity;
mod answer;
mod body;
pub(crate) mod outgoing;
mod refusal;

pub use self::refusal::{CODE_HEADER, Refusal};

/// For a request's head, and for the silence between requests.
const HEAD: Duration = Duration::from_secs(30);
const PING: Duration = Duration::from_secs(20);
const MAX_HEAD: usize = 64 << 10;
const MAX_STREAMS: u32 = 128;
/// How long requests in work have at the end of the Keep, or of a certificate, before they are cut off.
const DRAIN: Duration = Duration::from_secs(10);

/// Why serving could not begin.
#[derive(Debug, thiserror::Error)]
pub enum ServeError {
    /// Its world cannot be built of what the manifest says.
    #[error(transparent)]
    World(#[from] WorldError),
    /// The world has no network.
    #[error("the workload's world has no network")]
    NoNetwork,
    /// The workload answers no HTTP.
    #[error("the workload does not answer HTTP")]
    NotHttp,
}

/// Serves an admitted Marble's `workload` on `listener` until `shutdown`, then lets requests in work end.
///
/// When the identity of `net` is replaced, connections that are open, in either direction, finish their requests and
/// close, so that no peer outlives the certificates and the manifest that let it in.
///
/// # Errors
/// When the workload answers no HTTP, or its files are no tree.
pub async fn serve(
    workload: Workload,
    admission: Admission,
    net: Net,
    listener: Listener,
    shutdown: impl Future<Output = ()> + Send,
) -> Result<(), ServeError> {
    let (marble, limits, log) = (admission.marble.clone(), admission.limits, admission.log);
    let world = World::admitted(admission, net)?;
    let output = Output::new(&marble, log, &world.metrics);
    let digest = hex::encode(workload.digest());
    tracing::info!(code = "SERVING", marble = %marble, workload = %digest, "the workload is served");
    let surroundings = Surroundings { world, marble: marble.clone(), output, limits };
    let Served { drained, kept } = serve_in(workload, surroundings, listener, shutdown).await?;
    tracing::info!(code = "SERVED", marble = %marble, drained, kept, "the workload is served no more");
    Ok(())
}

/// Serving has ended.
pub(crate) struct Served {
    /// Whether all requests in work could end.
    drained: bool,
    /// Whether its volumes have everything.
    kept: bool,
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
    listener: Listener,
    shutdown: impl Future<Output = ()> + Send,
) -> Result<Served, ServeError> {
    let Surroundings { world, marble, output, limits } = surroundings;
    let peers = Arc::clone(&world.peers);
    let mut renewed = world.net.as_ref().ok_or(ServeError::NoNetwork)?.identity();
    let files = Arc::clone(&world.files);
    Vfs::keep_committing(&files);
    let answerer = Answerer::new(workload, marble, world, Arc::clone(&output), limits);
    let answerer = answerer.ok_or(ServeError::NotHttp)?;
    let (ending, end) = watch::channel(());
    let mut connections = JoinSet::new();
    let mut shutdown = pin!(shutdown);
    let mut telling = pin!(output.tell_metrics_regularly(Of::Service));
    loop {
        tokio::select! {
            biased;
            () = &mut shutdown => break,
            never = &mut telling => match never {},
            Ok(()) = renewed.changed() => peers.forget_connections(),
            Some(_) = connections.join_next() => {}
            stream = listener.accept() => {
                let mut renewed = renewed.clone();
                renewed.mark_unchanged();
                let connection = Connection { renewed, end: end.clone(), answerer: Arc::clone(&answerer) };
                connections.spawn(connection.serve(stream));
            }
        }
    }
    drop(listener);
    drop(ending);
    let drained = timeout(DRAIN, async { while connections.join_next().await.is_some() {} }).await;
    connections.shutdown().await;
    // What fails is in the Keep's log, by its code.
    let kept = files.commit().await.is_ok();
    output.tell_metrics(Of::Service);
    Ok(Served { drained: drained.is_ok(), kept })
}

struct Connection {
    renewed: watch::Receiver<Arc<Identity>>,
    end: watch::Receiver<()>,
    answerer: Arc<Answerer>,
}

impl Connection {
    async fn serve(self, stream: net::Connection) {
        let is_h2 = stream.protocol().is_some_and(|protocol| protocol == b"h2");
        let scheme = if stream.is_tls() { Scheme::HTTPS } else { Scheme::HTTP };
        let Self { mut renewed, mut end, answerer } = self;
        let activity = activity::Activity::new();
        let observed = activity.clone();
        let service = service_fn(move |request: Request<Incoming>| {
            let (answerer, busy, scheme) = (Arc::clone(&answerer), observed.begin(), scheme.clone());
            async move {
                let response: Response<HyperOutgoingBody> = answerer.answer(request, scheme).await?;
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

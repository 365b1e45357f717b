//! The one client's connection: HTTP/2, one request.

use std::{
    convert::Infallible,
    pin::pin,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use http::{Method, Request, Response, StatusCode, header::CONTENT_TYPE};
use hyper::{body::Incoming, server::conn::http2, service::service_fn};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use keep_protocol::keep::{self, FromKeep, Refused, RefusedCode};
use tokio::{sync::watch, time::timeout};

use super::{
    Waiting, Won, deployment,
    reply::{Replies, Reply, reply},
};

/// How long a client that has the Keep may take to say what it wants.
const PATIENCE: Duration = Duration::from_secs(30);
/// A client that does not answer a ping within as long again is gone.
const PING: Duration = Duration::from_secs(20);
/// How long the last answer may take to leave.
const FAREWELL: Duration = Duration::from_secs(10);
const WINDOW: u32 = 1 << 20;
const MAX_HEADERS: u32 = 16 << 10;

/// What has become of the client's one request.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Progress {
    Awaited,
    UnderWay,
    Ended,
}

/// Serves the client until its deployment has ended, or it is gone, or says nothing.
pub(super) async fn run(won: Won, keep: &Arc<Waiting>) {
    tracing::info!(code = "CLIENT_SERVED", "a client has this Keep");
    let (progress, mut seen) = watch::channel(Progress::Awaited);
    let (progress, used) = (Arc::new(progress), AtomicBool::new(false));
    let service = service_fn(|request: Request<Incoming>| {
        let first = is_run(&request) && !used.swap(true, Ordering::AcqRel);
        let answer = if first {
            progress.send_replace(Progress::UnderWay);
            let (reply, replies) = reply();
            let (keep, progress) = (Arc::clone(keep), Arc::clone(&progress));
            tokio::spawn(async move {
                deployment::conduct(request.into_body(), reply, &keep).await;
                progress.send_replace(Progress::Ended);
            });
            answer(StatusCode::OK, replies)
        } else {
            refuse(is_run(&request))
        };
        std::future::ready(Ok::<_, Infallible>(answer))
    });
    let mut http2 = http2::Builder::new(TokioExecutor::new());
    http2
        .timer(TokioTimer::new())
        .max_concurrent_streams(4)
        .max_header_list_size(MAX_HEADERS)
        .initial_stream_window_size(WINDOW)
        .initial_connection_window_size(WINDOW)
        .keep_alive_interval(PING)
        .keep_alive_timeout(PING);
    let mut connection = pin!(http2.serve_connection(TokioIo::new(won.stream), service));
    let over = async {
        if timeout(PATIENCE, seen.wait_for(|progress| *progress != Progress::Awaited)).await.is_ok() {
            let _ = seen.wait_for(|progress| *progress == Progress::Ended).await;
        }
    };
    let gone = tokio::select! {
        _ = connection.as_mut() => true,
        () = over => false,
    };
    if !gone {
        connection.as_mut().graceful_shutdown();
        let _ = timeout(FAREWELL, connection).await;
    }
    // The workload of a client that is gone ends by that; its memory is gone with this process.
    tracing::info!(code = "CLIENT_LEFT", "this Keep has served its client");
}

fn is_run(request: &Request<Incoming>) -> bool {
    request.method() == Method::POST && request.uri().path() == keep::RUN_PATH
}

fn answer(status: StatusCode, replies: Replies) -> Response<Replies> {
    let mut response = Response::new(replies);
    *response.status_mut() = status;
    let kind = http::HeaderValue::from_static(keep::CONTENT_TYPE);
    response.headers_mut().insert(CONTENT_TYPE, kind);
    response
}

fn refuse(again: bool) -> Response<Replies> {
    let (status, code, message) = if again {
        (StatusCode::CONFLICT, RefusedCode::OutOfOrder, "a Keep takes one deployment")
    } else {
        (StatusCode::NOT_FOUND, RefusedCode::NotFound, "a Keep takes POST /v1/run, once")
    };
    answer(status, Replies::of(&Reply::preface(), &FromKeep::Refused(Refused::new(code, message))))
}

//! What the operator can watch, in the text format of Prometheus, over plain HTTP on an address of its own. Names of
//! tenants and back ends are in it; names of Keeps, tokens, addresses of clients and what Keeps say are not.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::net::TcpListener;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use http_body_util::Full;
use hyper::body::Bytes;
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::sync::Semaphore;

use super::Shared;
use super::relay::Carried;

const HEAD_WITHIN: Duration = Duration::from_secs(5);
const CONNECTIONS: usize = 16;

/// Counted since the agent started.
#[derive(Default)]
pub(crate) struct Metrics {
    /// By route and status.
    requests: Mutex<BTreeMap<(&'static str, u16), u64>>,
    /// By code.
    refusals: Mutex<BTreeMap<&'static str, u64>>,
    leases_warm: AtomicU64,
    leases_cold: AtomicU64,
    turned_away: AtomicU64,
    handshakes_failed: AtomicU64,
    relayed_to_keep: AtomicU64,
    relayed_to_client: AtomicU64,
}

impl Metrics {
    pub(super) fn turned_away(&self) {
        self.turned_away.fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn handshake_failed(&self) {
        self.handshakes_failed.fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn answered(&self, route: &'static str, status: StatusCode, refusal: Option<&'static str>) {
        let mut requests = self.requests.lock().unwrap_or_else(PoisonError::into_inner);
        *requests.entry((route, status.as_u16())).or_default() += 1;
        if let Some(code) = refusal {
            *self.refusals.lock().unwrap_or_else(PoisonError::into_inner).entry(code).or_default() += 1;
        }
    }

    pub(super) fn leased(&self, warm: bool) {
        let count = if warm { &self.leases_warm } else { &self.leases_cold };
        count.fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn relayed(&self, carried: &Carried) {
        self.relayed_to_keep.fetch_add(carried.to_keep.load(Ordering::Relaxed), Ordering::Relaxed);
        self.relayed_to_client.fetch_add(carried.to_client.load(Ordering::Relaxed), Ordering::Relaxed);
    }
}

/// All of them.
fn render(shared: &Shared) -> String {
    let metrics = &shared.metrics;
    let (backends, tenants) = shared.keeps.counts();
    let mut out = Text::default();
    out.metric("bailey_host_keeps", "gauge", "Keeps of clients, by back end and state.");
    for (backend, count) in backends {
        for (state, value) in [("starting", count.starting), ("warm", count.warm), ("leased", count.leased)] {
            out.value(&[("backend", backend.as_str()), ("state", state)], value);
        }
    }
    out.metric("bailey_host_tenant_keeps", "gauge", "Keeps that are leased, by tenant.");
    for (tenant, count) in tenants {
        out.value(&[("tenant", tenant.as_str())], count);
    }
    out.metric("bailey_host_draining", "gauge", "1 when no new Keeps are taken.");
    out.value(&[], shared.keeps.is_draining().into());
    let processes = shared.office.status();
    let running = processes.iter().filter(|process| process.pid().is_some()).count();
    out.metric(
        "bailey_host_processes",
        "gauge",
        "Processes, Keeps of clients among them, by whether they run.",
    );
    out.value(&[("running", "true")], running as u64);
    out.value(&[("running", "false")], (processes.len() - running) as u64);
    out.metric("bailey_host_process_restarts_total", "counter", "How often processes were launched again.");
    out.value(&[], processes.iter().map(|process| process.restarts).sum());
    out.metric("bailey_host_leases_total", "counter", "Keeps that clients got.");
    for (warm, count) in [("true", &metrics.leases_warm), ("false", &metrics.leases_cold)] {
        out.value(&[("warm", warm)], count.load(Ordering::Relaxed));
    }
    out.metric("bailey_host_requests_total", "counter", "Requests of the API, by route and status.");
    for ((route, status), count) in metrics.requests.lock().unwrap_or_else(PoisonError::into_inner).iter() {
        out.value(&[("route", route), ("status", &status.to_string())], *count);
    }
    out.metric("bailey_host_refusals_total", "counter", "Requests that were refused, by code.");
    for (code, count) in metrics.refusals.lock().unwrap_or_else(PoisonError::into_inner).iter() {
        out.value(&[("code", code)], *count);
    }
    out.metric("bailey_host_connections_turned_away_total", "counter", "Connections beyond the bounds.");
    out.value(&[], metrics.turned_away.load(Ordering::Relaxed));
    out.metric(
        "bailey_host_handshakes_failed_total",
        "counter",
        "TLS handshakes that failed or took too long.",
    );
    out.value(&[], metrics.handshakes_failed.load(Ordering::Relaxed));
    out.metric("bailey_host_relays", "gauge", "Clients that are connected to their Keeps.");
    out.value(&[], *shared.relays.borrow() as u64);
    out.metric("bailey_host_relayed_bytes_total", "counter", "Bytes of relays that have ended.");
    for (to, count) in [("keep", &metrics.relayed_to_keep), ("client", &metrics.relayed_to_client)] {
        out.value(&[("to", to)], count.load(Ordering::Relaxed));
    }
    out.text
}

#[derive(Default)]
struct Text {
    text: String,
    name: &'static str,
}

impl Text {
    fn metric(&mut self, name: &'static str, kind: &str, help: &str) {
        self.name = name;
        // Writing to a string cannot fail.
        let _ = writeln!(self.text, "# HELP {name} {help}\n# TYPE {name} {kind}");
    }

    fn value(&mut self, labels: &[(&str, &str)], value: u64) {
        // Labels are names and codes of ours: nothing in them needs escaping.
        let labels: Vec<String> = labels.iter().map(|(name, value)| format!("{name}=\"{value}\"")).collect();
        let labels = if labels.is_empty() { String::new() } else { format!("{{{}}}", labels.join(",")) };
        let _ = writeln!(self.text, "{}{labels} {value}", self.name);
    }
}

/// Serves them until the agent ends.
pub(super) async fn serve(listener: TcpListener, shared: Arc<Shared>) {
    let Ok(listener) = tokio::net::TcpListener::from_std(listener) else {
        tracing::error!("the metrics cannot be served");
        return;
    };
    let places = Arc::new(Semaphore::new(CONNECTIONS));
    let mut closing = shared.office.closing();
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            () = super::closed(&mut closing) => return,
        };
        let Ok((stream, _)) = accepted else {
            tokio::time::sleep(Duration::from_millis(100)).await;
            continue;
        };
        let Ok(place) = Arc::clone(&places).try_acquire_owned() else { continue };
        let shared = Arc::clone(&shared);
        let service = service_fn(move |request: Request<hyper::body::Incoming>| {
            let answer = answer(&request, &shared);
            async move { Ok::<_, std::convert::Infallible>(answer) }
        });
        tokio::spawn(async move {
            let _place = place;
            let mut builder = hyper::server::conn::http1::Builder::new();
            builder.timer(TokioTimer::new()).header_read_timeout(HEAD_WITHIN).max_buf_size(16 * 1024);
            let _ = builder.serve_connection(TokioIo::new(stream), service).await;
        });
    }
}

fn answer(request: &Request<hyper::body::Incoming>, shared: &Shared) -> Response<Full<Bytes>> {
    let (status, body) = match (request.method(), request.uri().path()) {
        (&Method::GET, "/metrics") => (StatusCode::OK, render(shared)),
        _ => (StatusCode::NOT_FOUND, "the metrics are at /metrics\n".to_owned()),
    };
    let mut response = Response::new(Full::new(Bytes::from(body)));
    *response.status_mut() = status;
    let kind = http::HeaderValue::from_static("text/plain; version=0.0.4");
    response.headers_mut().insert(http::header::CONTENT_TYPE, kind);
    response
}

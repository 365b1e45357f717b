//! Figures for Prometheus, in the clear and for whoever asks: so nothing that a request can choose is in a label
//! (S-44), and nothing that is secret in a value.

use std::{
    fmt::Write,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
};

use axum::{Router, extract::State, http::header, response::IntoResponse, routing::get};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use super::{Coordinator, Mode, StartError};

/// Counters.
#[derive(Default)]
pub(super) struct Metrics {
    /// Requests of the client API, by class of status.
    requests: [AtomicU64; 5],
    activations: AtomicU64,
    refused_activations: AtomicU64,
}

impl Metrics {
    pub(super) fn answered(&self, status: u16) {
        if let Some(class) = self.requests.get(usize::from(status / 100).wrapping_sub(1)) {
            class.fetch_add(1, Relaxed);
        }
    }

    pub(super) fn activation(&self, admitted: bool) {
        if admitted { &self.activations } else { &self.refused_activations }.fetch_add(1, Relaxed);
    }
}

pub(super) async fn serve(
    coordinator: Arc<Coordinator>,
    listener: TcpListener,
    shutdown: CancellationToken,
) -> Result<(), StartError> {
    let router = Router::new().route("/metrics", get(metrics)).with_state(coordinator);
    let router = router.layer(tower::limit::ConcurrencyLimitLayer::new(16));
    axum::serve(listener, router)
        .with_graceful_shutdown(async move { shutdown.cancelled().await })
        .await
        .map_err(StartError::Metrics)
}

async fn metrics(State(coordinator): State<Arc<Coordinator>>) -> impl IntoResponse {
    ([(header::CONTENT_TYPE, "text/plain; version=0.0.4")], text(&coordinator))
}

fn text(coordinator: &Coordinator) -> String {
    let metrics = &coordinator.metrics;
    let mut out = String::new();
    let mut family = |name: &str, kind: &str, help: &str, samples: Vec<(String, u64)>| {
        let _ = writeln!(out, "# HELP {name} {help}\n# TYPE {name} {kind}");
        for (labels, value) in samples {
            let _ = writeln!(out, "{name}{labels} {value}");
        }
    };
    let one = |value: u64| vec![(String::new(), value)];
    let (code, _) = coordinator.status();
    family("coordinator_state", "gauge", "1 recovery, 2 accepts a manifest, 3 accepts Marbles.", one(code));
    let version = format!("{{version=\"{}\"}}", env!("CARGO_PKG_VERSION"));
    family("coordinator_version_info", "gauge", "Which version this is.", vec![(version, 1)]);
    let classes = metrics.requests.iter().enumerate();
    let classes =
        classes.map(|(class, count)| (format!("{{code=\"{}xx\"}}", class + 1), count.load(Relaxed)));
    family(
        "coordinator_client_api_requests_total",
        "counter",
        "Requests of the client API, by class of status.",
        classes.collect(),
    );
    let activations = [("admitted", &metrics.activations), ("refused", &metrics.refused_activations)];
    let activations =
        activations.map(|(what, count)| (format!("{{decision=\"{what}\"}}"), count.load(Relaxed)));
    family(
        "coordinator_activations_total",
        "counter",
        "Requests for activation since the start, by decision.",
        activations.into(),
    );
    if let Mode::Open(snapshot) = coordinator.mode()
        && let Some(mesh) = snapshot.state.mesh()
    {
        let instances = mesh.instances((coordinator.clock)());
        // The manifest's names, which its owner chose.
        let by_marble = |count: &dyn Fn(&str) -> u64| {
            mesh.manifest()
                .marbles()
                .keys()
                .map(|name| (format!("{{marble=\"{name}\"}}"), count(name.as_str())))
                .collect()
        };
        family(
            "coordinator_marble_activations_success_total",
            "counter",
            "Activations of each Marble since the first manifest.",
            by_marble(&|name| mesh.activations(name)),
        );
        family(
            "coordinator_marble_instances",
            "gauge",
            "Instances of each Marble whose certificate may still be valid.",
            by_marble(&|name| instances.get(name).copied().unwrap_or(0)),
        );
        family("coordinator_epoch", "gauge", "The epoch in force.", one(mesh.epoch()));
        family("coordinator_log_records", "gauge", "Records of the state log.", one(snapshot.length));
    }
    out
}

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
    roll_backs: AtomicU64,
    /// Answers to guests of the broker, by class of status.
    guest_requests: [AtomicU64; 5],
    guests: AtomicU64,
    refused_guests: AtomicU64,
    releases: AtomicU64,
    refused_releases: AtomicU64,
}

impl Metrics {
    pub(super) fn answered(&self, status: u16) {
        if let Some(class) = self.requests.get(usize::from(status / 100).wrapping_sub(1)) {
            class.fetch_add(1, Relaxed);
        }
    }

    pub(super) fn guest_answered(&self, status: u16) {
        if let Some(class) = self.guest_requests.get(usize::from(status / 100).wrapping_sub(1)) {
            class.fetch_add(1, Relaxed);
        }
    }

    pub(super) fn guest(&self, attested: bool) {
        if attested { &self.guests } else { &self.refused_guests }.fetch_add(1, Relaxed);
    }

    pub(super) fn release(&self, released: bool) {
        if released { &self.releases } else { &self.refused_releases }.fetch_add(1, Relaxed);
    }

    pub(super) fn rolled_back(&self) {
        self.roll_backs.fetch_add(1, Relaxed);
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

/// One figure.
pub(super) struct Sample {
    /// At most one label, whose values are ours or the manifest's.
    pub(super) label: Option<(&'static str, String)>,
    pub(super) value: u64,
}

/// Figures of one kind.
pub(super) struct Family {
    pub(super) name: &'static str,
    pub(super) help: &'static str,
    /// Whether it only rises.
    pub(super) counts: bool,
    /// None, where there is nothing to measure yet.
    pub(super) samples: Vec<Sample>,
}

fn one(value: u64) -> Vec<Sample> {
    vec![Sample { label: None, value }]
}

fn labelled<N: Into<String>>(
    label: &'static str,
    samples: impl IntoIterator<Item = (N, u64)>,
) -> Vec<Sample> {
    let sample = |(name, value): (N, u64)| Sample { label: Some((label, name.into())), value };
    samples.into_iter().map(sample).collect()
}

/// Everything that is measured; the same families whatever the state.
pub(super) fn families(coordinator: &Coordinator) -> Vec<Family> {
    let metrics = &coordinator.metrics;
    let mut families = Vec::new();
    let mut family = |name, counts, help, samples| {
        families.push(Family { name, help, counts, samples });
    };
    let (state, _) = coordinator.status();
    family("coordinator_state", false, "1 recovery, 2 accepts a manifest, 3 accepts Marbles.", one(state));
    let version = labelled("version", [(env!("CARGO_PKG_VERSION"), 1)]);
    family("coordinator_version_info", false, "Which version this is.", version);
    let classes = metrics.requests.iter().enumerate();
    family(
        "coordinator_client_api_requests_total",
        true,
        "Requests of the client API, by class of status.",
        labelled("code", classes.map(|(class, count)| (format!("{}xx", class + 1), count.load(Relaxed)))),
    );
    let activations = [("admitted", &metrics.activations), ("refused", &metrics.refused_activations)];
    family(
        "coordinator_activations_total",
        true,
        "Requests for activation since the start, by decision.",
        labelled("decision", activations.map(|(what, count)| (what, count.load(Relaxed)))),
    );
    let stream = coordinator.decisions.as_ref();
    family(
        "coordinator_decisions_total",
        true,
        "Records of the decision stream, by what became of them.",
        stream.map(|stream| labelled("outcome", stream.outcomes())).unwrap_or_default(),
    );
    family(
        "coordinator_telemetry_failures_total",
        true,
        "Exports that the OpenTelemetry collector did not take.",
        coordinator.telemetry.as_ref().map(|telemetry| one(telemetry.failures())).unwrap_or_default(),
    );
    let snapshot = match coordinator.mode() {
        Mode::Open(snapshot) => Some(snapshot),
        Mode::Locked { .. } | Mode::Unfit(_) => None,
    };
    let mesh = snapshot.as_ref().and_then(|snapshot| snapshot.state.mesh());
    let instances = mesh.map(|mesh| mesh.instances((coordinator.clock)())).unwrap_or_default();
    // The manifest's names, which its owner chose.
    let by_marble = |count: &dyn Fn(&crate::core::Mesh, &str) -> u64| {
        let marbles = mesh.into_iter().flat_map(|mesh| {
            mesh.manifest().marbles().keys().map(move |name| (name.to_string(), count(mesh, name.as_str())))
        });
        labelled("marble", marbles)
    };
    family(
        "coordinator_marble_activations_success_total",
        true,
        "Activations of each Marble since the first manifest.",
        by_marble(&|mesh, name| mesh.activations(name)),
    );
    family(
        "coordinator_marble_instances",
        false,
        "Instances of each Marble whose certificate may still be valid.",
        by_marble(&|_, name| instances.get(name).copied().unwrap_or(0)),
    );
    let serves = coordinator.replica_serves().map(|serves| one(u64::from(serves))).unwrap_or_default();
    family(
        "coordinator_replica_serving",
        false,
        "1 while this replica answers, 0 while it is cut off.",
        serves,
    );
    let left = mesh.map(|mesh| crate::core::seconds_left(mesh, (coordinator.clock)())).unwrap_or_default();
    family(
        "coordinator_secret_expiry_seconds",
        false,
        "For how long each uploaded secret that expires is still delivered.",
        labelled("secret", left),
    );
    let evicted = mesh.map(|mesh| {
        let gone = mesh.revocations();
        labelled(
            "what",
            [("instance", gone.instances().count()), ("machine", gone.machines().count())]
                .map(|(what, count)| (what, u64::try_from(count).unwrap_or(u64::MAX))),
        )
    });
    family("coordinator_evicted", false, "Who was sent away for good.", evicted.unwrap_or_default());
    let epoch = mesh.map(|mesh| one(mesh.epoch())).unwrap_or_default();
    family("coordinator_epoch", false, "The epoch in force.", epoch);
    let records = snapshot.as_ref().filter(|_| mesh.is_some()).map(|snapshot| one(snapshot.length));
    family("coordinator_log_records", false, "Records of the state log.", records.unwrap_or_default());
    let roll_backs = one(metrics.roll_backs.load(Relaxed));
    family(
        "coordinator_roll_backs_total",
        true,
        "Updates that were rolled back since the start.",
        roll_backs,
    );
    family(
        "coordinator_state_unfit",
        false,
        "1 where nothing is served, because the state is not the newest, or nothing says that it is.",
        one(coordinator.unserved().is_some().into()),
    );
    let classes = metrics.guest_requests.iter().enumerate();
    family(
        "coordinator_broker_requests_total",
        true,
        "Requests of guests to the broker, by class of status.",
        labelled("code", classes.map(|(class, count)| (format!("{}xx", class + 1), count.load(Relaxed)))),
    );
    let by_decision = |done: (&'static str, &AtomicU64), refused: &AtomicU64| {
        labelled("decision", [(done.0, done.1.load(Relaxed)), ("refused", refused.load(Relaxed))])
    };
    family(
        "coordinator_broker_guests_total",
        true,
        "Guests that sent Evidence, by decision.",
        by_decision(("attested", &metrics.guests), &metrics.refused_guests),
    );
    family(
        "coordinator_broker_releases_total",
        true,
        "Resources that guests asked for, by decision.",
        by_decision(("released", &metrics.releases), &metrics.refused_releases),
    );
    let (sessions, bytes) = coordinator.broker.held();
    let number = |count: usize| one(u64::try_from(count).unwrap_or(u64::MAX));
    family("coordinator_broker_sessions", false, "Sessions of guests that are kept.", number(sessions));
    family("coordinator_broker_session_bytes", false, "What they weigh together.", number(bytes));
    families
}

fn text(coordinator: &Coordinator) -> String {
    let mut out = String::new();
    for Family { name, help, counts, samples } in families(coordinator) {
        if samples.is_empty() {
            continue;
        }
        let kind = if counts { "counter" } else { "gauge" };
        let _ = writeln!(out, "# HELP {name} {help}\n# TYPE {name} {kind}");
        for Sample { label, value } in samples {
            let _ = match label {
                Some((label, of)) => writeln!(out, "{name}{{{label}=\"{of}\"}} {value}"),
                None => writeln!(out, "{name} {value}"),
            };
        }
    }
    out
}

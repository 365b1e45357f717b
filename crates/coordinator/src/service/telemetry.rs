//! Traces and metrics by OTLP over HTTP (OpenTelemetry Protocol 1.x, binary protobuf): a span for each decision, and
//! the figures of [`super::metrics`]. Only what is named here leaves; log lines and their fields do not. Exporting
//! happens on threads of its own, with bounded queues; what a collector does not take is lost.

use std::{
    fmt,
    sync::{
        Arc, Weak,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::Duration,
};

use http_body_util::Full;
use opentelemetry::{
    KeyValue,
    metrics::MeterProvider,
    trace::{Span, SpanKind, Status, Tracer, TracerProvider},
};
use opentelemetry_http::{Bytes, HttpClient, HttpError, Request, Response};
use opentelemetry_otlp::{
    ExporterBuildError, MetricExporter, Protocol, SpanExporter, WithExportConfig, WithHttpConfig,
};
use opentelemetry_sdk::{
    Resource,
    metrics::{PeriodicReader, SdkMeterProvider},
    trace::{BatchConfigBuilder, BatchSpanProcessor, Sampler, SdkTracer, SdkTracerProvider},
};

use super::{
    Coordinator,
    decision::Subject,
    metrics::families,
    outward::{Destination, Outward},
};

const BETWEEN_SPANS: Duration = Duration::from_secs(2);
const BETWEEN_FIGURES: Duration = Duration::from_secs(15);
/// Spans that may wait for the collector.
const QUEUE: usize = 2048;

/// What the collector is told through.
pub(super) struct Telemetry {
    tracer: SdkTracer,
    traces: SdkTracerProvider,
    figures: SdkMeterProvider,
    failures: Arc<AtomicU64>,
}

impl Telemetry {
    /// To the collector at `collector`, whose paths `/v1/traces` and `/v1/metrics` OTLP fixes. Must be called on a
    /// runtime of tokio.
    pub(super) fn start(collector: &Destination, outward: &Outward) -> Result<Self, ExporterBuildError> {
        let failures = Arc::new(AtomicU64::new(0));
        let client: Arc<dyn HttpClient> = Arc::new(Exporter {
            outward: outward.clone(),
            runtime: tokio::runtime::Handle::current(),
            failures: failures.clone(),
        });
        let spans = SpanExporter::builder()
            .with_http()
            .with_shared_http_client(client.clone())
            .with_protocol(Protocol::HttpBinary)
            .with_endpoint(collector.below("/v1/traces"))
            .build()?;
        let queue = BatchConfigBuilder::default()
            .with_max_queue_size(QUEUE)
            .with_scheduled_delay(BETWEEN_SPANS)
            .build();
        let traces = SdkTracerProvider::builder()
            .with_sampler(Sampler::AlwaysOn)
            .with_span_processor(BatchSpanProcessor::builder(spans).with_batch_config(queue).build())
            .with_resource(resource())
            .build();
        let figures = MetricExporter::builder()
            .with_http()
            .with_shared_http_client(client)
            .with_protocol(Protocol::HttpBinary)
            .with_endpoint(collector.below("/v1/metrics"))
            .build()?;
        let figures = SdkMeterProvider::builder()
            .with_reader(PeriodicReader::builder(figures).with_interval(BETWEEN_FIGURES).build())
            .with_resource(resource())
            .build();
        Ok(Self { tracer: traces.tracer("bailey-coordinator"), traces, figures, failures })
    }

    /// Exports the figures of [`super::metrics`], asking for them whenever they are due.
    pub(super) fn observe(&self, coordinator: &Arc<Coordinator>) {
        let meter = self.figures.meter("bailey-coordinator");
        for family in families(coordinator) {
            let now = figures(Arc::downgrade(coordinator), family.name);
            let observe = move |to: &dyn opentelemetry::metrics::AsyncInstrument<u64>| {
                for (value, label) in now() {
                    to.observe(value, label.as_slice());
                }
            };
            if family.counts {
                let counter = meter.u64_observable_counter(family.name);
                counter.with_description(family.help).with_callback(observe).build();
            } else {
                let gauge = meter.u64_observable_gauge(family.name);
                gauge.with_description(family.help).with_callback(observe).build();
            }
        }
    }

    /// How often a collector did not take what it was sent.
    pub(super) fn failures(&self) -> u64 {
        self.failures.load(Relaxed)
    }

    /// Sends what waits. Blocks for some seconds at most.
    pub(super) fn end(&self) {
        let _ = self.traces.shutdown_with_timeout(Duration::from_secs(2));
        let _ = self.figures.shutdown_with_timeout(Duration::from_secs(2));
    }
}

/// The figures of one family, whenever they are asked for; none when the coordinator is gone.
fn figures(coordinator: Weak<Coordinator>, name: &'static str) -> impl Fn() -> Vec<(u64, Option<KeyValue>)> {
    move || {
        let Some(coordinator) = coordinator.upgrade() else { return Vec::new() };
        let family = families(&coordinator).into_iter().find(|family| family.name == name);
        let samples = family.map(|family| family.samples).unwrap_or_default();
        let label = |(key, value)| KeyValue::new(key, value);
        samples.into_iter().map(|sample| (sample.value, sample.label.map(label))).collect()
    }
}

/// What the collector is told about where spans come from. Nothing of it is the environment's.
fn resource() -> Resource {
    Resource::builder_empty()
        .with_attribute(KeyValue::new("service.name", "bailey-coordinator"))
        .with_attribute(KeyValue::new("service.version", env!("CARGO_PKG_VERSION")))
        .build()
}

/// Work under way: a span, where there is a collector.
#[must_use]
pub(super) struct Traced(Option<opentelemetry_sdk::trace::Span>);

impl Traced {
    /// Names what is done.
    pub(super) fn start(telemetry: Option<&Telemetry>, name: &'static str) -> Self {
        let start = |telemetry: &Telemetry| {
            telemetry.tracer.span_builder(name).with_kind(SpanKind::Server).start(&telemetry.tracer)
        };
        Self(telemetry.map(start))
    }

    /// Method, route and status of an HTTP request, under OpenTelemetry's names for them.
    pub(super) fn http(&mut self, method: &str, route: &str, status: u16) {
        if let Some(span) = &mut self.0 {
            span.set_attribute(KeyValue::new("http.request.method", method.to_owned()));
            span.set_attribute(KeyValue::new("http.route", route.to_owned()));
            span.set_attribute(KeyValue::new("http.response.status_code", i64::from(status)));
        }
    }

    pub(super) fn end(self, decision: &'static str, codes: &str, subject: &Subject) {
        let Some(mut span) = self.0 else { return };
        span.set_attribute(KeyValue::new("bailey.decision", decision));
        if !codes.is_empty() {
            span.set_attribute(KeyValue::new("bailey.codes", codes.to_owned()));
            span.set_status(Status::error(codes.to_owned()));
        }
        match subject {
            Subject::Marble(name) => span.set_attribute(KeyValue::new("bailey.marble", name.clone())),
            Subject::User(name) => span.set_attribute(KeyValue::new("bailey.user", name.clone())),
            Subject::Owner | Subject::Unknown => {}
        }
        span.end();
    }
}

/// Carries what the exporters' threads send to the runtime that connections live on.
struct Exporter {
    outward: Outward,
    runtime: tokio::runtime::Handle,
    failures: Arc<AtomicU64>,
}

impl fmt::Debug for Exporter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Exporter")
    }
}

#[async_trait::async_trait]
impl HttpClient for Exporter {
    async fn send_bytes(&self, request: Request<Bytes>) -> Result<Response<Bytes>, HttpError> {
        let outward = self.outward.clone();
        let sent = self.runtime.spawn(async move { outward.send(request.map(Full::new)).await }).await;
        let status = sent.map_err(HttpError::from).and_then(|sent| sent.map_err(HttpError::from));
        if !status.as_ref().is_ok_and(hyper::StatusCode::is_success) {
            self.failures.fetch_add(1, Relaxed);
        }
        let mut response = Response::new(Bytes::new());
        *response.status_mut() = status?;
        Ok(response)
    }
}

//! MarbleRun's Marble API: native programs (EGo, Edgeless RT, Gramine, Occlum) join as they are. The quote covers the
//! TLS certificate of the very connection; what the program is told goes over that connection and nowhere else.

use std::{sync::Arc, time::Duration};

use appraisal::{Appraised, ReferenceValues, Verdict};
use attested_tls::{key::sha256, statement::Presented};
use evidence::{Covered, Evidence, ReportData};
use hyper::server::conn::http2;
use hyper_util::{
    rt::{TokioExecutor, TokioIo, TokioTimer},
    service::TowerToHyperService,
};
use mesh_api::marble::{
    ActivationReq, ActivationResp, Parameters,
    marble_server::{Marble, MarbleServer},
};
use tokio::{
    net::{TcpListener, TcpStream},
    sync::watch,
};
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;
use tonic::{Code, Request, Response, Status, service::Routes};
use tower::Service;

use super::{
    Coordinator, Decided, StartError,
    certificate::Tls,
    connections,
    decision::{Decision, Kind, UNAVAILABLE},
    telemetry::Traced,
};
use crate::core::{self, NativePeer, Refusal, State};

const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(10);
/// A quote with its certificates, and a request for a certificate.
const MAX_REQUEST: usize = 256 * 1024;

/// The client's certificate, DER, whose key signed the handshake.
#[derive(Clone)]
struct ClientCertificate(Arc<Vec<u8>>);

pub(super) async fn serve(
    coordinator: Arc<Coordinator>,
    listener: TcpListener,
    tls: watch::Receiver<Tls>,
    shutdown: CancellationToken,
) -> Result<(), StartError> {
    let serve = |stream, place| {
        let acceptor = TlsAcceptor::from(tls.borrow().marble_api.clone());
        let (coordinator, shutdown) = (coordinator.clone(), shutdown.clone());
        async move {
            let _place = place;
            if let Err(error) = connection(coordinator, stream, acceptor, shutdown).await {
                tracing::debug!(error = %error, "a Marble's connection ended with an error");
            }
        }
    };
    connections::each(listener, shutdown.clone(), serve).await;
    Ok(())
}

async fn connection(
    coordinator: Arc<Coordinator>,
    stream: TcpStream,
    acceptor: TlsAcceptor,
    shutdown: CancellationToken,
) -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
    let stream = tokio::time::timeout(HANDSHAKE_TIMEOUT, acceptor.accept(stream)).await??;
    let leaf = stream.get_ref().1.peer_certificates().and_then(<[_]>::first);
    let certificate = leaf.map(|leaf| ClientCertificate(Arc::new(leaf.to_vec())));
    let server = MarbleServer::new(MarbleService { coordinator }).max_decoding_message_size(MAX_REQUEST);
    let routes = Routes::new(server);
    let service = tower::service_fn(move |mut request: hyper::Request<hyper::body::Incoming>| {
        if let Some(certificate) = &certificate {
            request.extensions_mut().insert(certificate.clone());
        }
        let mut routes = routes.clone();
        async move { routes.call(request).await }
    });
    let mut builder = http2::Builder::new(TokioExecutor::new());
    builder.timer(TokioTimer::new()).keep_alive_interval(Duration::from_secs(20)).max_concurrent_streams(4);
    let connection = builder.serve_connection(TokioIo::new(stream), TowerToHyperService::new(service));
    tokio::pin!(connection);
    tokio::select! {
        finished = connection.as_mut() => finished?,
        () = shutdown.cancelled() => {
            connection.as_mut().graceful_shutdown();
            connection.await?;
        }
    }
    Ok(())
}

struct MarbleService {
    coordinator: Arc<Coordinator>,
}

#[tonic::async_trait]
impl Marble for MarbleService {
    async fn activate(&self, request: Request<ActivationReq>) -> Result<Response<ActivationResp>, Status> {
        let certificate = request.extensions().get::<ClientCertificate>().cloned();
        let coordinator = self.coordinator.clone();
        let request = request.into_inner();
        // A task of its own: what was decided is told also when the program no longer waits for it.
        let work = tokio::spawn(async move {
            let traced = Traced::start(coordinator.telemetry.as_ref(), "activation");
            let subject = coordinator.marble(&request.marble_type);
            let answer = activate(&coordinator, certificate, request).await;
            let (decision, verdict) = match &answer {
                Ok((_, appraised)) => {
                    (Decision::granted(Kind::Activation, subject), Some(appraised.verdict()))
                }
                Err(NotActivated { codes, verdict, reason, .. }) => {
                    let (codes, reason) = (codes.clone(), reason.clone());
                    let granted = Decision::granted(Kind::Activation, subject);
                    (Decision { codes, reason, ..granted }, verdict.as_deref())
                }
            };
            coordinator.decided(&Decision { verdict, ..decision }, traced);
            answer.map(|(answer, _)| answer).map_err(|error| error.status)
        });
        work.await.unwrap_or_else(|_| Err(Status::cancelled("the request was cancelled"))).map(Response::new)
    }
}

/// Why a program was not activated: for itself, and for the operator.
struct NotActivated {
    status: Status,
    codes: Vec<String>,
    verdict: Option<Box<Verdict>>,
    reason: Option<String>,
}

impl NotActivated {
    fn new(status: Status, code: &str) -> Self {
        Self { status, codes: vec![code.to_owned()], verdict: None, reason: None }
    }
}

impl From<Refusal> for NotActivated {
    fn from(refusal: Refusal) -> Self {
        let reason = matches!(refusal, Refusal::SecretStore { .. }).then(|| refusal.to_string());
        Self { reason, ..Self::new(status(&refusal), refusal.code()) }
    }
}

async fn activate(
    coordinator: &Arc<Coordinator>,
    certificate: Option<ClientCertificate>,
    request: ActivationReq,
) -> Result<(ActivationResp, Appraised), NotActivated> {
    coordinator.confirmed().await?;
    let state = coordinator.snapshot()?.state;
    if state.mesh().is_none() {
        let status = Status::failed_precondition("cannot accept marbles in current state");
        return Err(NotActivated::new(status, Refusal::NoManifest.code()));
    }
    let Some(ClientCertificate(certificate)) = certificate else {
        let status = Status::unauthenticated("couldn't get marble TLS certificate");
        return Err(NotActivated::new(status, Refusal::NoCertificate.code()));
    };
    let (own, current) = (coordinator.clone(), state.clone());
    let (request, uuid, appraised, presented) = blocking(move || {
        let (appraised, presented) = appraise(&own, &current, &certificate, &request)?;
        let malformed = |status| on(&appraised, NotActivated::new(status, "UUID_MALFORMED"));
        let uuid = uuid(&request.uuid).map_err(malformed)?;
        Ok((request, uuid, appraised, presented))
    })
    .await?;
    let peer = NativePeer { appraised: &appraised, marble: &request.marble_type, uuid: &uuid };
    let accepted = |refusal: Refusal| on(&appraised, refusal.into());
    let stored = core::stored_for_native(&state, &peer).map_err(accepted)?;
    let stored = coordinator.fetch(&state, stored).await.map_err(accepted)?;
    let own = coordinator.clone();
    blocking(move || {
        let now = (own.clock)();
        let peer = NativePeer { appraised: &appraised, marble: &request.marble_type, uuid: &uuid };
        let accepted = |refusal: Refusal| on(&appraised, refusal.into());
        // The Evidence was appraised for the epoch of `state`: what is committed later holds it against that one.
        let epoch = state.mesh().map_or(0, core::Mesh::epoch);
        let activation = Coordinator::unless_overtaken(|| {
            let state = own.snapshot()?.state;
            let current = state.mesh().map_or(0, core::Mesh::epoch);
            if current != epoch {
                return Err(Refusal::StaleAppraisal { appraised: epoch, current });
            }
            let activation = core::activate_native(&state, &peer, &stored, now)?;
            own.commit(|state| Ok(Decided::one(activation.admit(state, now)?, ())))?;
            Ok(activation)
        })
        .map_err(accepted)?;
        own.serving().map_err(accepted)?;
        let recorded = core::Recorded { presented, claims: None };
        own.recorded.record(activation.instance(), recorded, now.0);
        let parameters = Parameters {
            files: activation.files.into_iter().collect(),
            env: activation.env.into_iter().collect(),
            argv: activation.argv,
        };
        Ok((ActivationResp { parameters: Some(parameters) }, appraised))
    })
    .await
}

/// Refused, although its Evidence was accepted.
fn on(appraised: &Appraised, error: NotActivated) -> NotActivated {
    NotActivated { verdict: Some(Box::new(appraised.verdict().clone())), ..error }
}

async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, NotActivated> + Send + 'static,
) -> Result<T, NotActivated> {
    let cancelled = |_| Err(Refusal::Internal("the request was cancelled".into()).into());
    tokio::task::spawn_blocking(work).await.unwrap_or_else(cancelled)
}

fn appraise(
    coordinator: &Coordinator,
    state: &State,
    certificate: &[u8],
    request: &ActivationReq,
) -> Result<(Appraised, Presented), NotActivated> {
    let denied = |reason: &dyn std::fmt::Display| {
        Status::permission_denied(format!("marble verification failed: {reason}"))
    };
    if state.mesh().and_then(|mesh| mesh.manifest().marble(&request.marble_type)).is_none() {
        return Err(NotActivated::new(denied(&"unknown marble type requested"), "MARBLE_UNKNOWN"));
    }
    let evidence = Evidence::parse(without_header(&request.quote)).map_err(|error| {
        NotActivated::new(denied(&format_args!("invalid quote: {error}")), "EVIDENCE_MALFORMED")
    })?;
    let expectations =
        core::native_expectations(state, evidence.platform(), &request.marble_type, (coordinator.clock)())
            .map_err(|refusal| NotActivated::new(denied(&refusal), refusal.code()))?;
    let mut covered = [0; 64];
    covered[..32].copy_from_slice(&sha256(certificate));
    let reference =
        ReferenceValues { report_data: Covered::new(covered), measurements: expectations.measurements };
    let now = (coordinator.clock)();
    let endorsements = coordinator.collateral.fit(&evidence, coordinator.tee.as_ref(), now);
    let appraised =
        coordinator.verifier.appraise(&evidence, &endorsements, &reference, &expectations.policy, now);
    let appraised = appraised.map_err(|refused| {
        let codes: Vec<_> = refused.codes().iter().map(ToString::to_string).collect();
        let status = denied(&format_args!("invalid quote: {}", codes.join(",")));
        NotActivated { status, codes, verdict: Some(Box::new(refused.verdict().clone())), reason: None }
    })?;
    let presented = Presented {
        evidence: without_header(&request.quote).to_vec(),
        endorsements: endorsements.to_bytes().into(),
        report_data: ReportData(covered),
    };
    Ok((appraised, presented))
}

/// Open Enclave's header before a quote: version 1, type 2 (SGX), length; all little-endian.
pub(super) fn without_header(quote: &[u8]) -> &[u8] {
    match quote.split_first_chunk::<16>() {
        Some((header, rest)) if header[..8] == [1, 0, 0, 0, 2, 0, 0, 0] => rest,
        _ => quote,
    }
}

/// A UUID in the usual form, in lower case.
fn uuid(text: &str) -> Result<String, Status> {
    let form = |(index, byte): (usize, u8)| match index {
        8 | 13 | 18 | 23 => byte == b'-',
        _ => byte.is_ascii_hexdigit(),
    };
    if text.len() == 36 && text.bytes().enumerate().all(form) {
        return Ok(text.to_ascii_lowercase());
    }
    Err(Status::invalid_argument("the UUID is not of the form xxxxxxxx-xxxx-xxxx-xxxx-xxxxxxxxxxxx"))
}

fn status(refusal: &Refusal) -> Status {
    if let Refusal::SecretStore { .. } = refusal {
        return Status::with_details(
            Code::Unavailable,
            UNAVAILABLE.1,
            UNAVAILABLE.0.as_bytes().to_vec().into(),
        );
    }
    let (code, text) = match refusal {
        Refusal::NoManifest | Refusal::Recovering { .. } | Refusal::Unrecoverable => {
            (Code::FailedPrecondition, format!("cannot accept marbles in current state: {refusal}"))
        }
        Refusal::Parameters { .. } | Refusal::Internal(_) => (Code::Internal, refusal.to_string()),
        Refusal::CutOff(_) | Refusal::Unfit(_) => (Code::Unavailable, refusal.to_string()),
        Refusal::ActivationsExhausted { marble, limit } => (
            Code::PermissionDenied,
            format!(
                "marble verification failed: reached max activations count ({limit}) for marble type {marble:?}"
            ),
        ),
        _ => (Code::PermissionDenied, format!("marble verification failed: {refusal}")),
    };
    Status::with_details(code, text, refusal.code().as_bytes().to_vec().into())
}

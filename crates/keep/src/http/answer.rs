//! One request: a fresh instance of the workload answers it, within its limits. Whatever the instance does, it
//! ends with its own request.

use std::{convert::Infallible, future::poll_fn, sync::Arc, time::Duration};

use http::{
    Request, Response, Uri, header,
    uri::{Authority, PathAndQuery, Scheme},
};
use http_body_util::BodyExt;
use hyper::body::Incoming;
use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore, oneshot},
    time::timeout,
};
use wasmtime::{PoolConcurrencyLimitError, Store, Trap, component::Accessor};
use wasmtime_wasi::I32Exit;
use wasmtime_wasi_http::{
    WasiHttpView,
    p2::{
        bindings::{
            ProxyPre,
            http::types::{ErrorCode, Scheme as Scheme02},
        },
        body::HyperOutgoingBody,
    },
    p3::{
        Request as Request03,
        bindings::{Service, ServicePre},
    },
};

use super::{
    body::{Answer, Bounded, Flag, Held},
    refusal::{CODE_HEADER, Refusal},
};
use crate::{
    admission::Limits,
    cpu::{CpuExceeded, Metered},
    guest::{self, Guest},
    limit::{Alarm, Exceeded, Which},
    output::{Output, Stdio},
    workload::{Program, Workload},
    world::World,
};

/// How long a request waits for an instance.
const QUEUE: Duration = Duration::from_secs(5);

type Outgoing = Response<HyperOutgoingBody>;
type Answered = Result<Outgoing, ErrorCode>;

/// What is called for a request.
enum Handler {
    Wasi02(ProxyPre<Guest>),
    Wasi03(ServicePre<Guest>),
}

/// The workload, ready to answer.
pub(crate) struct Answerer {
    workload: Workload,
    handler: Handler,
    marble: String,
    world: Arc<World>,
    output: Arc<Output>,
    limits: Limits,
    instances: Arc<Semaphore>,
}

impl Answerer {
    /// `None` for a workload that does not answer HTTP.
    pub(crate) fn new(
        workload: Workload,
        marble: String,
        world: World,
        output: Arc<Output>,
        limits: Limits,
    ) -> Option<Arc<Self>> {
        let handler = match &workload.program {
            Program::Http02(proxy) => Handler::Wasi02(proxy.clone()),
            Program::Http03(service) => Handler::Wasi03(service.clone()),
            _ => return None,
        };
        let instances = Arc::new(Semaphore::new(limits.max_concurrent_requests.max(1) as usize));
        Some(Arc::new(Self { workload, handler, marble, world: Arc::new(world), output, limits, instances }))
    }

    /// Answers `request`; a failure is an answer too.
    pub(crate) async fn answer(
        self: Arc<Self>,
        request: Request<Incoming>,
        scheme: Scheme,
    ) -> Result<Outgoing, Infallible> {
        let answered = Arc::clone(&self).try_answer(request, scheme).await;
        self.world.metrics.answered(answered.is_ok());
        Ok(answered.unwrap_or_else(|refusal| {
            tracing::warn!(code = refusal.code(), marble = %self.marble, "a request was ended");
            refusal.response()
        }))
    }

    async fn try_answer(
        self: Arc<Self>,
        request: Request<Incoming>,
        scheme: Scheme,
    ) -> Result<Outgoing, Refusal> {
        let limit = self.limits.max_body_bytes;
        let announced = request.headers().get(header::CONTENT_LENGTH);
        let announced = announced.and_then(|length| length.to_str().ok()?.parse::<u64>().ok());
        if announced.is_some_and(|length| length > limit) {
            return Err(Refusal::BodyTooLarge);
        }
        let instance = match timeout(QUEUE, Arc::clone(&self.instances).acquire_owned()).await {
            Ok(Ok(instance)) => instance,
            _ => return Err(Refusal::Busy),
        };

        let (too_long, failed) = (Flag::default(), Flag::default());
        let request = request.map(|body| Bounded { body, left: limit, exceeded: too_long.clone() });
        let (sender, receiver) = oneshot::channel();
        // A task of its own: a client that leaves does not stop the workload in the middle of its work.
        let task = tokio::spawn(Arc::clone(&self).run(request, scheme, sender, instance, failed.clone()));

        let refusal = match receiver.await {
            Ok(Ok(mut response)) => {
                response.headers_mut().remove(CODE_HEADER);
                return Ok(response.map(|body| Answer { body, failed }.boxed_unsync()));
            }
            Ok(Err(_)) => Refusal::WorkloadError,
            Err(_) => task.await.unwrap_or(Err(Refusal::Trapped)).err().unwrap_or(Refusal::NoResponse),
        };
        Err(if too_long.is_raised() { Refusal::BodyTooLarge } else { refusal })
    }

    async fn run(
        self: Arc<Self>,
        request: Request<Bounded>,
        scheme: Scheme,
        sender: oneshot::Sender<Answered>,
        instance: OwnedSemaphorePermit,
        failed: Flag,
    ) -> Result<(), Refusal> {
        let running = self.workload.ticker.run();
        let alarm = Alarm::default();
        let mut store = guest::store(&self.workload.engine, &self.world, &alarm, |wasi| {
            let printed = |stream| Stdio { output: Arc::clone(&self.output), stream };
            wasi.stdout(printed("stdout")).stderr(printed("stderr"));
        });
        let handled = self.handle(&mut store, request, scheme, sender);
        let mut handled = Metered::new(handled, self.limits.cpu(), Arc::clone(&self.world.metrics));
        let result = match timeout(self.limits.wall(), &mut handled).await {
            Ok(Ok(Ok(()))) => Ok(()),
            Ok(Ok(Err(error))) => Err(self.classify(&error)),
            Ok(Err(CpuExceeded)) => Err(Refusal::CpuLimit),
            Err(_) => Err(Refusal::TimeLimit),
        };
        if let Err(refusal) = result {
            failed.raise();
            tracing::debug!(code = refusal.code(), marble = %self.marble, "an instance was ended");
        }
        drop(handled);
        // In this order: the body's end is read after the flag, and the slot is free before the permit.
        drop(store);
        drop(running);
        drop(instance);
        result
    }

    async fn handle(
        &self,
        store: &mut Store<Guest>,
        request: Request<Bounded>,
        scheme: Scheme,
        sender: oneshot::Sender<Answered>,
    ) -> wasmtime::Result<()> {
        match &self.handler {
            Handler::Wasi02(pre) => {
                let scheme = if scheme == Scheme::HTTPS { Scheme02::Https } else { Scheme02::Http };
                let request = store
                    .data_mut()
                    .http()
                    .new_incoming_request(scheme, request)
                    .map_err(|error| error.context(Refused(Refusal::Malformed)))?;
                let response = store.data_mut().http().new_response_outparam(sender)?;
                let proxy = pre.instantiate_async(&mut *store).await?;
                proxy.wasi_http_incoming_handler().call_handle(&mut *store, request, response).await
            }
            Handler::Wasi03(pre) => {
                let request = requested(store, request, scheme)?;
                let service = pre.instantiate_async(&mut *store).await?;
                store.run_concurrent(async |store| respond(store, &service, request, sender).await).await?
            }
        }
    }

    fn classify(&self, error: &wasmtime::Error) -> Refusal {
        if let Some(Refused(refusal)) = error.downcast_ref() {
            return *refusal;
        }
        if error.is::<PoolConcurrencyLimitError>() {
            return Refusal::Busy;
        }
        match error.downcast_ref() {
            Some(Exceeded(Which::Memory)) => return Refusal::MemoryLimit,
            Some(Exceeded(Which::OpenFiles)) => return Refusal::OpenFilesLimit,
            Some(Exceeded(Which::Connections)) => return Refusal::ConnectionsLimit,
            _ => {}
        }
        if let Some(I32Exit(0)) = error.downcast_ref() {
            return Refusal::NoResponse;
        }
        // Only wasmtime's own words: the workload's could hold its secrets.
        let trap =
            error.downcast_ref::<Trap>().map_or_else(|| "host call refused".to_owned(), Trap::to_string);
        tracing::warn!(code = Refusal::Trapped.code(), marble = %self.marble, trap, "the workload failed");
        Refusal::Trapped
    }
}

/// The request as a handler of WASI 0.3 takes it. It names a host, or is refused, as with 0.2.
fn requested(
    store: &mut Store<Guest>,
    mut request: Request<Bounded>,
    scheme: Scheme,
) -> wasmtime::Result<Request03> {
    let refused = || wasmtime::Error::new(Refused(Refusal::Malformed));
    let named = request.uri().authority().cloned();
    let header = || request.headers().get(header::HOST)?.to_str().ok()?.parse::<Authority>().ok();
    let authority = named.or_else(header).ok_or_else(refused)?;
    let path = request.uri().path_and_query().cloned().unwrap_or_else(|| PathAndQuery::from_static("/"));
    let uri = Uri::builder().scheme(scheme).authority(authority).path_and_query(path).build();
    *request.uri_mut() = uri.map_err(|_| refused())?;
    request.headers_mut().remove(header::HOST);
    // How the request's body ended is the client's affair.
    let (request, _ended) = Request03::from_http(store.data_mut().http().hooks, request);
    Ok(request)
}

/// Calls the handler, hands its answer on, and stays until the body is through and the instance has nothing left to do.
async fn respond(
    store: &Accessor<Guest>,
    service: &Service,
    request: Request03,
    sender: oneshot::Sender<Answered>,
) -> wasmtime::Result<()> {
    let answered = match service.handle(store, request).await? {
        Ok(response) => response,
        Err(_) => {
            // Nobody waits for it when the client left.
            let _ = sender.send(Err(ErrorCode::InternalError(None)));
            return Ok(());
        }
    };
    let (through, ended) = oneshot::channel::<()>();
    let response = store.with(|store| answered.into_http(store, async { Ok(()) }))?;
    let response = response.map(|body| Held { body, _through: through }.boxed_unsync());
    let _ = sender.send(Ok(response));
    // The other half is dropped, never used.
    let _ = ended.await;
    poll_fn(|cx| store.poll_no_interesting_tasks(cx)).await;
    Ok(())
}

#[derive(Debug)]
struct Refused(Refusal);

impl std::fmt::Display for Refused {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.0.code())
    }
}

impl std::error::Error for Refused {}

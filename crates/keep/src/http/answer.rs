//! One request: a fresh instance of the workload answers it, within its limits. Whatever the instance does, it
//! ends with its own request.

use std::{convert::Infallible, sync::Arc, time::Duration};

use http::{Request, Response, header};
use http_body_util::BodyExt;
use hyper::body::Incoming;
use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore, oneshot},
    time::timeout,
};
use wasmtime::{PoolConcurrencyLimitError, Store, Trap};
use wasmtime_wasi::I32Exit;
use wasmtime_wasi_http::{
    WasiHttpView,
    p2::{
        bindings::{
            ProxyPre,
            http::types::{ErrorCode, Scheme},
        },
        body::HyperOutgoingBody,
    },
};

use super::{
    body::{Answer, Bounded, Flag},
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

/// The workload, ready to answer.
pub(crate) struct Answerer {
    workload: Workload,
    proxy: ProxyPre<Guest>,
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
        let Program::Http02(proxy) = &workload.program else { return None };
        let proxy = proxy.clone();
        let instances = Arc::new(Semaphore::new(limits.max_concurrent_requests.max(1) as usize));
        Some(Arc::new(Self { workload, proxy, marble, world: Arc::new(world), output, limits, instances }))
    }

    /// Answers `request`; a failure is an answer too.
    pub(crate) async fn answer(self: Arc<Self>, request: Request<Incoming>) -> Result<Outgoing, Infallible> {
        Ok(Arc::clone(&self).try_answer(request).await.unwrap_or_else(|refusal| {
            tracing::warn!(code = refusal.code(), marble = %self.marble, "a request was ended");
            refusal.response()
        }))
    }

    async fn try_answer(self: Arc<Self>, request: Request<Incoming>) -> Result<Outgoing, Refusal> {
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
        let task = tokio::spawn(Arc::clone(&self).run(request, sender, instance, failed.clone()));

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
        let handled = Metered::new(self.handle(&mut store, request, sender), self.limits.cpu());
        let result = match timeout(self.limits.wall(), handled).await {
            Ok(Ok(Ok(()))) => Ok(()),
            Ok(Ok(Err(error))) => Err(self.classify(&error)),
            Ok(Err(CpuExceeded)) => Err(Refusal::CpuLimit),
            Err(_) => Err(Refusal::TimeLimit),
        };
        if let Err(refusal) = result {
            failed.raise();
            tracing::debug!(code = refusal.code(), marble = %self.marble, "an instance was ended");
        }
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
        sender: oneshot::Sender<Answered>,
    ) -> wasmtime::Result<()> {
        let request = store
            .data_mut()
            .http()
            .new_incoming_request(Scheme::Https, request)
            .map_err(|error| error.context(Refused(Refusal::Malformed)))?;
        let response = store.data_mut().http().new_response_outparam(sender)?;
        let proxy = self.proxy.instantiate_async(&mut *store).await?;
        proxy.wasi_http_incoming_handler().call_handle(&mut *store, request, response).await
    }

    fn classify(&self, error: &wasmtime::Error) -> Refusal {
        if let Some(Refused(refusal)) = error.downcast_ref() {
            return *refusal;
        }
        if error.is::<PoolConcurrencyLimitError>() {
            return Refusal::Busy;
        }
        if let Some(Exceeded(Which::Memory)) = error.downcast_ref() {
            return Refusal::MemoryLimit;
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

#[derive(Debug)]
struct Refused(Refusal);

impl std::fmt::Display for Refused {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.0.code())
    }
}

//! The five calls of the Workload API.

use std::{collections::HashMap, future::Future, io, pin::Pin, sync::Arc, time::Duration};

use prost_types::{ListValue, Struct, Value as ProtoValue, value::Kind};
use serde_json::Value;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc, watch};
use tokio_stream::{Stream, wrappers::ReceiverStream};
use tonic::{Request, Response, Status, service::Interceptor, transport::Server};

use crate::{
    clock::Clock,
    generated::{
        JwtBundlesRequest, JwtBundlesResponse, Jwtsvid, JwtsvidRequest, JwtsvidResponse,
        ValidateJwtsvidRequest, ValidateJwtsvidResponse, X509BundlesRequest, X509BundlesResponse, X509svid,
        X509svidRequest, X509svidResponse,
        spiffe_workload_api_server::{SpiffeWorkloadApi, SpiffeWorkloadApiServer},
    },
    id::SpiffeId,
    jwt::{JwtFault, Unverified},
    keeper::{self, Standing, View},
    listener::Listener,
    source::{SourceError, SvidSource},
    svid::Bundle,
    wire::{LONGEST_AUDIENCE, MOST_AUDIENCES},
};

/// Streams at a time, over all connections.
const MOST_STREAMS: usize = 256;
const MOST_STREAMS_OF_ONE: u32 = 32;
/// JWT-SVIDs that are being issued at a time.
const MOST_ISSUING: usize = 16;
/// Requests are small: a token, or some audiences.
const LONGEST_REQUEST: usize = 64 * 1024;
/// How long a call waits for the first SVID or bundle.
const PATIENCE: Duration = Duration::from_secs(30);

/// Serves the Workload API with what `source` issues, until `shutdown`.
///
/// # Errors
/// When the server fails; connections that fail do not end it.
pub async fn serve(
    source: impl SvidSource,
    listener: Listener,
    clock: Clock,
    shutdown: impl Future<Output = ()> + Send,
) -> Result<(), io::Error> {
    let source = Arc::new(source);
    let (sender, view) = watch::channel(View::default());
    let (connections, incoming) = mpsc::channel(1);
    let workload = Workload {
        source: source.clone(),
        view,
        clock: clock.clone(),
        streams: Arc::new(Semaphore::new(MOST_STREAMS)),
        issuing: Semaphore::new(MOST_ISSUING),
    };
    let (stopping, stopped) = watch::channel(());
    let service = SpiffeWorkloadApiServer::new(workload).max_decoding_message_size(LONGEST_REQUEST);
    let server = Server::builder()
        .max_concurrent_streams(MOST_STREAMS_OF_ONE)
        .http2_keepalive_interval(Some(Duration::from_secs(60)))
        .layer(tonic::service::InterceptorLayer::new(FromWorkload))
        .add_service(service)
        .serve_with_incoming(ReceiverStream::new(incoming));
    let mut tasks = tokio::task::JoinSet::new();
    tasks.spawn(keeper::keep(source, clock, sender));
    tasks.spawn(listener.accept(connections));
    // Streams have no end of their own, so nobody waits for them: the server is dropped, and its connections with it.
    drop(stopped);
    tokio::select! {
        served = server => served.map_err(io::Error::other),
        () = shutdown => {
            drop(stopping);
            Ok(())
        }
    }
}

/// Workload API §4: what is relayed by a browser or another server has not this header.
#[derive(Clone, Copy)]
struct FromWorkload;

impl Interceptor for FromWorkload {
    fn call(&mut self, request: Request<()>) -> Result<Request<()>, Status> {
        let mut values = request.metadata().get_all("workload.spiffe.io").iter();
        match (values.next(), values.next()) {
            (Some(value), None) if value == "true" => Ok(request),
            _ => Err(Status::invalid_argument("the header `workload.spiffe.io: true` is missing")),
        }
    }
}

struct Workload<S> {
    source: Arc<S>,
    view: watch::Receiver<View>,
    clock: Clock,
    streams: Arc<Semaphore>,
    issuing: Semaphore,
}

type Answers<T> = Pin<Box<dyn Stream<Item = Result<T, Status>> + Send>>;

impl<S: SvidSource> Workload<S> {
    /// A stream of what `tell` makes of the view, whenever that changes.
    fn follow<T: Clone + PartialEq + Send + Sync + 'static>(
        &self,
        tell: fn(&View) -> Option<Result<T, Status>>,
    ) -> Result<Response<Answers<T>>, Status> {
        let place = self.streams.clone().try_acquire_owned();
        let place = place.map_err(|_| Status::resource_exhausted("too many streams are open"))?;
        let (sender, receiver) = mpsc::channel(1);
        tokio::spawn(follow(self.view.clone(), sender, tell, place));
        Ok(Response::new(Box::pin(ReceiverStream::new(receiver))))
    }

    async fn bundle(&self) -> Result<Arc<Bundle>, Status> {
        let mut view = self.view.clone();
        let there = tokio::time::timeout(PATIENCE, view.wait_for(|view| view.bundle.is_some())).await;
        let bundle = there.ok().and_then(Result::ok).and_then(|view| view.bundle.clone());
        bundle.ok_or_else(|| Status::unavailable("no bundle could be had yet"))
    }

    /// The IDs that this program has, or why it has none.
    async fn ids(&self) -> Result<Vec<SpiffeId>, Status> {
        let mut view = self.view.clone();
        let settled = view.wait_for(|view| !matches!(view.standing, Standing::Waiting));
        let Ok(Ok(view)) = tokio::time::timeout(PATIENCE, settled).await else {
            return Err(Status::unavailable("no identity could be had yet"));
        };
        match &view.standing {
            Standing::Held(held) => Ok(held.svids.iter().map(|svid| svid.id.clone()).collect()),
            Standing::Refused => Err(refused()),
            Standing::Waiting | Standing::Expired => Err(expired()),
        }
    }
}

async fn follow<T: Clone + PartialEq + Send + Sync>(
    mut view: watch::Receiver<View>,
    answers: mpsc::Sender<Result<T, Status>>,
    tell: fn(&View) -> Option<Result<T, Status>>,
    _place: OwnedSemaphorePermit,
) {
    let mut told = None;
    loop {
        let answer = tell(&view.borrow_and_update());
        match answer {
            Some(Ok(answer)) if told.as_ref() != Some(&answer) => {
                told = Some(answer.clone());
                if answers.send(Ok(answer)).await.is_err() {
                    return;
                }
            }
            Some(Ok(_)) | None => {}
            Some(Err(status)) => {
                let _ = answers.send(Err(status)).await;
                return;
            }
        }
        tokio::select! {
            changed = view.changed() => if changed.is_err() { return },
            () = answers.closed() => return,
        }
    }
}

/// Workload API §6.1: clients that are told this way do not ask again at once.
fn refused() -> Status {
    Status::permission_denied("no identity is issued to this program")
}

fn expired() -> Status {
    Status::unavailable("the identity has expired, and no new one could be had")
}

fn x509_svids(view: &View) -> Option<Result<X509svidResponse, Status>> {
    let held = match &view.standing {
        Standing::Waiting => return None,
        Standing::Refused => return Some(Err(refused())),
        Standing::Expired => return Some(Err(expired())),
        Standing::Held(held) => held,
    };
    let bundle = view.bundle.as_ref()?.roots.concat();
    let svid = |svid: &crate::svid::X509Svid| X509svid {
        spiffe_id: svid.id.to_string(),
        x509_svid: svid.chain.concat(),
        x509_svid_key: held.key.to_vec(),
        bundle: bundle.clone(),
        hint: String::new(),
    };
    Some(Ok(X509svidResponse {
        svids: held.svids.iter().map(svid).collect(),
        crl: Vec::new(),
        federated_bundles: HashMap::new(),
    }))
}

fn x509_bundles(view: &View) -> Option<Result<X509BundlesResponse, Status>> {
    let bundle = view.bundle.as_ref()?;
    let bundles = [(bundle.domain.id(), bundle.roots.concat())].into();
    Some(Ok(X509BundlesResponse { crl: Vec::new(), bundles }))
}

fn jwt_bundles(view: &View) -> Option<Result<JwtBundlesResponse, Status>> {
    let bundle = view.bundle.as_ref()?;
    let bundles = [(bundle.domain.id(), bundle.keys.to_jwks().to_string().into_bytes())].into();
    Some(Ok(JwtBundlesResponse { bundles }))
}

#[tonic::async_trait]
impl<S: SvidSource> SpiffeWorkloadApi for Workload<S> {
    type FetchX509SVIDStream = Answers<X509svidResponse>;
    type FetchX509BundlesStream = Answers<X509BundlesResponse>;
    type FetchJWTBundlesStream = Answers<JwtBundlesResponse>;

    async fn fetch_x509svid(
        &self,
        _: Request<X509svidRequest>,
    ) -> Result<Response<Self::FetchX509SVIDStream>, Status> {
        self.follow(x509_svids)
    }

    async fn fetch_x509_bundles(
        &self,
        _: Request<X509BundlesRequest>,
    ) -> Result<Response<Self::FetchX509BundlesStream>, Status> {
        self.follow(x509_bundles)
    }

    async fn fetch_jwt_bundles(
        &self,
        _: Request<JwtBundlesRequest>,
    ) -> Result<Response<Self::FetchJWTBundlesStream>, Status> {
        self.follow(jwt_bundles)
    }

    async fn fetch_jwtsvid(
        &self,
        request: Request<JwtsvidRequest>,
    ) -> Result<Response<JwtsvidResponse>, Status> {
        let JwtsvidRequest { audience, spiffe_id } = request.into_inner();
        let fits = |audience: &String| (1..=LONGEST_AUDIENCE).contains(&audience.len());
        if !(1..=MOST_AUDIENCES).contains(&audience.len()) || !audience.iter().all(fits) {
            return Err(Status::invalid_argument("a JWT-SVID is for 1 to 16 audiences of 1 to 512 bytes"));
        }
        let wanted = if spiffe_id.is_empty() {
            None
        } else {
            let id = spiffe_id.parse::<SpiffeId>();
            Some(id.map_err(|fault| Status::invalid_argument(fault.to_string()))?)
        };
        let ids = self.ids().await?;
        if wanted.as_ref().is_some_and(|wanted| !ids.contains(wanted)) {
            return Err(Status::permission_denied("this program has not that SPIFFE ID"));
        }
        let place = self.issuing.try_acquire();
        let _place = place.map_err(|_| Status::resource_exhausted("too many JWT-SVIDs are asked for"))?;
        let answer = self.source.jwt(&audience).await.map_err(|error| status(&error))?;
        let asked = |id: &str| wanted.as_ref().is_none_or(|wanted| wanted.to_string() == id);
        let svids: Vec<_> = answer
            .svids
            .into_iter()
            .filter(|svid| asked(&svid.id))
            .map(|svid| Jwtsvid { spiffe_id: svid.id, svid: svid.token, hint: String::new() })
            .collect();
        if svids.is_empty() { Err(refused()) } else { Ok(Response::new(JwtsvidResponse { svids })) }
    }

    async fn validate_jwtsvid(
        &self,
        request: Request<ValidateJwtsvidRequest>,
    ) -> Result<Response<ValidateJwtsvidResponse>, Status> {
        let ValidateJwtsvidRequest { audience, svid } = request.into_inner();
        if !(1..=LONGEST_AUDIENCE).contains(&audience.len()) {
            return Err(Status::invalid_argument("an audience of 1 to 512 bytes is needed"));
        }
        let refuse = |fault: JwtFault| Status::invalid_argument(fault.to_string());
        let unverified = Unverified::parse(&svid).map_err(refuse)?;
        let bundle = self.bundle().await?;
        let now = (self.clock)();
        let svid = unverified.verify(&bundle.keys, &bundle.domain, &audience, now).map_err(refuse)?;
        let claims = svid.claims().clone().into_iter().map(|(name, value)| (name, proto(value)));
        Ok(Response::new(ValidateJwtsvidResponse {
            spiffe_id: svid.id().to_string(),
            claims: Some(Struct { fields: claims.collect() }),
        }))
    }
}

fn status(error: &SourceError) -> Status {
    match error {
        SourceError::Refused { .. } => refused(),
        SourceError::Unavailable(_) => {
            tracing::warn!(error = error as &dyn std::error::Error, "no JWT-SVID was had");
            Status::unavailable("the issuer of identities cannot be asked now")
        }
    }
}

/// The depth is bounded by the parser's, which is 128.
fn proto(value: Value) -> ProtoValue {
    let kind = match value {
        Value::Null => Kind::NullValue(0),
        Value::Bool(value) => Kind::BoolValue(value),
        Value::Number(value) => Kind::NumberValue(value.as_f64().unwrap_or(f64::NAN)),
        Value::String(value) => Kind::StringValue(value),
        Value::Array(values) => {
            Kind::ListValue(ListValue { values: values.into_iter().map(proto).collect() })
        }
        Value::Object(map) => Kind::StructValue(Struct {
            fields: map.into_iter().map(|(name, it)| (name, proto(it))).collect(),
        }),
    };
    ProtoValue { kind: Some(kind) }
}

//! The local API that workloads of Confidential Containers know (their `api-server-rest`), for processes of this
//! machine only: resources, tokens, Evidence.
//!
//! | request | answer |
//! |---|---|
//! | `GET /cdh/resource/{repository}/{type}/{tag}` | the resource, as it is |
//! | `GET /aa/token?token_type=kbs` | `{"token": …, "tee_keypair": …}` |
//! | `GET /aa/evidence?runtime_data=…[&encoding=base64]` | Evidence over these up to 64 bytes |
//! | `GET /aa/additional-evidence?…` | Evidence of devices: `{}`, there are none |
//! | `POST /aa/aael` | 501: there is no TEE here whose runtime measurements can be extended |
//! | `GET /info` | `{"version": …, "tee": …, "additional_tees": […], "feature": …}` |

pub mod guard;
pub mod query;

use std::{convert::Infallible, net::SocketAddr, sync::Arc, time::Duration};

use http_body_util::{BodyExt, Full, LengthLimitError, Limited};
use hyper::{
    Method, Request, Response, StatusCode,
    body::{Bytes, Incoming},
    header::{ALLOW, CACHE_CONTROL, CONTENT_TYPE, HeaderValue, X_CONTENT_TYPE_OPTIONS},
    server::conn::http1,
    service::service_fn,
};
use hyper_util::rt::{TokioIo, TokioTimer};
use rcar::ResourceUri;
use serde::Deserialize;
use serde_json::json;
use tokio::{net::TcpListener, sync::Semaphore};

use crate::{Guest, GuestError, rest::query::Query};

/// The most connections at a time.
const MAX_CONNECTIONS: usize = 64;
/// The longest head of a request, in bytes.
const MAX_HEAD: usize = 16 * 1024;
/// The longest path and query, in bytes.
const MAX_TARGET: usize = 8 * 1024;
/// The longest body, in bytes.
const MAX_BODY: usize = 64 * 1024;
/// How long a client may take to say what it wants.
const HEAD_WITHIN: Duration = Duration::from_secs(10);
/// How long a connection lasts.
const CONNECTION_FOR: Duration = Duration::from_secs(300);

/// What of the API is offered.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Offer {
    /// Resources, tokens and Evidence
    All,
    /// Resources
    Resource,
    /// Tokens and Evidence. Who asks chooses what the Evidence covers, so whatever process can ask can pass for this guest
    Attestation,
}

impl Offer {
    fn resources(self) -> bool {
        self != Self::Attestation
    }

    fn attestation(self) -> bool {
        self != Self::Resource
    }

    fn as_str(self) -> &'static str {
        match self {
            Self::All => "all",
            Self::Resource => "resource",
            Self::Attestation => "attestation",
        }
    }
}

/// Serves until the future is dropped.
pub async fn serve(listener: TcpListener, guest: Arc<Guest>, offer: Offer) {
    let places = Arc::new(Semaphore::new(MAX_CONNECTIONS));
    loop {
        let place = Arc::clone(&places).acquire_owned().await.expect("the semaphore is never closed");
        let Ok((stream, peer)) = listener.accept().await else {
            // Descriptors have run out, say: others end in the meantime.
            tokio::time::sleep(Duration::from_millis(50)).await;
            continue;
        };
        let guest = Arc::clone(&guest);
        tokio::spawn(async move {
            let service = service_fn(|request| {
                let guest = Arc::clone(&guest);
                async move { Ok::<_, Infallible>(answer(&guest, offer, peer, request).await) }
            });
            let connection = http1::Builder::new()
                .timer(TokioTimer::new())
                .header_read_timeout(HEAD_WITHIN)
                .max_buf_size(MAX_HEAD)
                .serve_connection(TokioIo::new(stream), service);
            // How it ended is the client's concern.
            let _ = tokio::time::timeout(CONNECTION_FOR, connection).await;
            drop(place);
        });
    }
}

/// What a refusal is: a status, and a sentence that names nothing.
struct Refused(StatusCode, String);

type Answered = Result<Response<Full<Bytes>>, Refused>;

async fn answer(
    guest: &Guest,
    offer: Offer,
    peer: SocketAddr,
    request: Request<Incoming>,
) -> Response<Full<Bytes>> {
    let mut response = route(guest, offer, peer, request).await.unwrap_or_else(|Refused(status, reason)| {
        let mut response = Response::new(Full::from(format!("{reason}\n")));
        *response.status_mut() = status;
        set_type(&mut response, "text/plain; charset=utf-8");
        if status == StatusCode::METHOD_NOT_ALLOWED {
            response.headers_mut().insert(ALLOW, HeaderValue::from_static("GET"));
        }
        response
    });
    let headers = response.headers_mut();
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    headers.insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    response
}

async fn route(guest: &Guest, offer: Offer, peer: SocketAddr, request: Request<Incoming>) -> Answered {
    guard::admit(peer, request.headers())
        .map_err(|stranger| Refused(StatusCode::FORBIDDEN, stranger.to_string()))?;
    let target = request.uri().path_and_query().map_or("/", |target| target.as_str());
    if target.len() > MAX_TARGET {
        return Err(Refused(StatusCode::URI_TOO_LONG, "the path and query are too long".into()));
    }
    let path = request.uri().path().to_owned();
    if offer.attestation() && path == "/aa/aael" {
        return extend(request).await;
    }
    let resource = path.strip_prefix("/cdh/resource/").filter(|_| offer.resources());
    let attestation = path
        .strip_prefix("/aa/")
        .filter(|name| offer.attestation() && ["token", "evidence", "additional-evidence"].contains(name));
    if resource.is_none() && attestation.is_none() && path != "/info" {
        return Err(Refused(StatusCode::NOT_FOUND, "there is no such thing here".into()));
    }
    if request.method() != Method::GET {
        return Err(Refused(StatusCode::METHOD_NOT_ALLOWED, "only GET is understood here".into()));
    }
    if let Some(name) = resource {
        return fetch(guest, name).await;
    }
    let query = Query::parse(request.uri().query().unwrap_or_default()).map_err(bad)?;
    match attestation {
        Some("token") => token(guest, &query).await,
        Some("evidence") => {
            let data = query.runtime_data().map_err(bad)?;
            let evidence = guest.evidence(&data).await.map_err(refused)?;
            Ok(whole(evidence.to_string().into_bytes(), "application/json"))
        }
        Some(_) => {
            query.runtime_data().map_err(bad)?;
            Ok(whole(b"{}".to_vec(), "application/json"))
        }
        None => {
            let about = json!({
                "version": env!("CARGO_PKG_VERSION"), "tee": guest.tee_name().map_err(refused)?, "additional_tees": [],
                "feature": offer.as_str(),
            });
            Ok(whole(about.to_string().into_bytes(), "application/json"))
        }
    }
}

async fn fetch(guest: &Guest, name: &str) -> Answered {
    let uri: ResourceUri = format!("kbs:///{name}").parse().map_err(bad)?;
    let value = guest.broker().resource(&uri).await.map_err(|error| refused(error.into()))?;
    Ok(whole(value.to_vec(), "application/octet-stream"))
}

async fn token(guest: &Guest, query: &Query) -> Answered {
    if query.value("token_type").map_err(bad)? != "kbs" {
        let reason = "tokens of type kbs are to be had here, and no others";
        return Err(Refused(StatusCode::BAD_REQUEST, reason.into()));
    }
    let token = guest.broker().token().await.map_err(|error| refused(error.into()))?;
    Ok(whole(token.to_json().to_string().into_bytes(), "application/json"))
}

/// An event for the TEE's runtime measurements. Read strictly, so that a client learns of its own faults first.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Event {
    domain: String,
    operation: String,
    content: String,
}

async fn extend(request: Request<Incoming>) -> Answered {
    if request.method() != Method::POST {
        return Err(Refused(StatusCode::METHOD_NOT_ALLOWED, "events are posted".into()));
    }
    let body = Limited::new(request.into_body(), MAX_BODY).collect().await.map_err(|error| {
        if error.is::<LengthLimitError>() {
            Refused(StatusCode::PAYLOAD_TOO_LARGE, "the event is too long".into())
        } else {
            Refused(StatusCode::BAD_REQUEST, "the event could not be read".into())
        }
    })?;
    let event: Event = serde_json::from_slice(&body.to_bytes()).map_err(|_| {
        Refused(
            StatusCode::BAD_REQUEST,
            "an event has domain, operation and content, and nothing else".into(),
        )
    })?;
    let words = [&event.domain, &event.operation];
    if words.iter().any(|word| word.is_empty() || word.contains(char::is_whitespace))
        || event.content.contains(['\n', '\r'])
    {
        let reason = "domain and operation are one word each, and content is one line";
        return Err(Refused(StatusCode::BAD_REQUEST, reason.into()));
    }
    let reason = "NOT_SUPPORTED: the runtime measurements of this TEE cannot be extended";
    Err(Refused(StatusCode::NOT_IMPLEMENTED, reason.into()))
}

fn bad(error: impl std::error::Error) -> Refused {
    Refused(StatusCode::BAD_REQUEST, error.to_string())
}

fn refused(error: GuestError) -> Refused {
    let status = match &error {
        GuestError::Broker(error) if error.denied() => StatusCode::NOT_FOUND,
        GuestError::Broker(_) => StatusCode::BAD_GATEWAY,
        _ => StatusCode::INTERNAL_SERVER_ERROR,
    };
    Refused(status, error.to_string())
}

fn whole(body: Vec<u8>, kind: &'static str) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::from(body));
    set_type(&mut response, kind);
    response
}

fn set_type(response: &mut Response<Full<Bytes>>, kind: &'static str) {
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(kind));
}

//! The routes. Each request is one `match`, and each refusal one message with its status.

use std::sync::Arc;
use std::time::Duration;

use http::header::{CONNECTION, CONTENT_TYPE, HeaderValue, RETRY_AFTER, UPGRADE, WWW_AUTHENTICATE};
use http::{HeaderMap, Method, Request, Response, StatusCode};
use http_body_util::{BodyExt, Full, Limited};
use hyper::body::{Bytes, Incoming};
use hyper_util::rt::TokioIo;
use keep_protocol::host::{self as protocol, HostError, HostErrorCode as Code, Keeps, NewKeep};
use keep_protocol::{Message, VERSION};

use super::Shared;
use super::admission::{Admitted, Caller};
use super::relay::{self, Carried};
use crate::keeps::KeepId;
use crate::launcher::Reach;

/// How long a client may take for a request's body.
const BODY_WITHIN: Duration = Duration::from_secs(10);

type Answer = Response<Full<Bytes>>;

/// What a path asks for.
enum Route {
    Info,
    Keeps,
    Keep(KeepId),
    Channel(KeepId),
}

impl Route {
    /// For metrics: no names of Keeps.
    fn label(&self) -> &'static str {
        match self {
            Self::Info => "/v1",
            Self::Keeps => "/v1/keeps",
            Self::Keep(_) => "/v1/keeps/{id}",
            Self::Channel(_) => "/v1/keeps/{id}/channel",
        }
    }

    fn of(path: &str) -> Result<Self, HostError> {
        let not_found = || HostError::new(Code::NotFound, "there is nothing at this path");
        let mut parts = path.strip_prefix('/').unwrap_or(path).split('/');
        let version = parts.next().and_then(|part| part.strip_prefix('v')).ok_or_else(not_found)?;
        if version.is_empty() || !version.bytes().all(|byte| byte.is_ascii_digit()) {
            return Err(not_found());
        }
        if version != VERSION.to_string() {
            let reason = format!("this host speaks version {VERSION} of the API");
            return Err(HostError::new(Code::VersionUnsupported, reason));
        }
        // What is no name of a Keep is the name of none.
        let keep =
            |id: &str| id.parse().map_err(|_| HostError::new(Code::NoSuchKeep, "no Keep has this name"));
        match parts.collect::<Vec<_>>()[..] {
            [] => Ok(Self::Info),
            ["keeps"] => Ok(Self::Keeps),
            ["keeps", id] => keep(id).map(Self::Keep),
            ["keeps", id, "channel"] => keep(id).map(Self::Channel),
            _ => Err(not_found()),
        }
    }
}

/// Answers a request.
pub(super) async fn answer(shared: &Arc<Shared>, caller: &Caller, request: Request<Incoming>) -> Answer {
    let route = Route::of(request.uri().path());
    let label = route.as_ref().map_or("other", Route::label);
    // Who is not let in does not even learn which paths there are.
    let result = match shared.admission.admit(caller, request.headers()) {
        Ok(admitted) => match route {
            Ok(route) => perform(shared, &admitted, route, request).await,
            Err(error) => Err(error),
        },
        Err(error) => Err(error),
    };
    let (answer, refusal) = match result {
        Ok(answer) => (answer, None),
        Err(error) => (refuse(&error), Some(error.code.as_str())),
    };
    shared.metrics.answered(label, answer.status(), refusal);
    answer
}

async fn perform(
    shared: &Arc<Shared>,
    admitted: &Admitted,
    route: Route,
    request: Request<Incoming>,
) -> Result<Answer, HostError> {
    let Admitted { tenant, quota } = admitted.clone();
    match (route, request.method()) {
        (Route::Info, &Method::GET) => Ok(message(StatusCode::OK, &shared.keeps.info())),
        (Route::Keeps, &Method::GET) => {
            let mut keeps = shared.keeps.list(Some(&tenant));
            keeps.truncate(1024);
            Ok(message(StatusCode::OK, &Keeps { keeps }))
        }
        (Route::Keeps, &Method::POST) => {
            let wanted: NewKeep = body(request).await?;
            let keeps = Arc::clone(&shared.keeps);
            let lease = blocking(move || keeps.lease(&tenant, &quota, &wanted)).await?;
            shared.metrics.leased(lease.warm);
            Ok(message(StatusCode::CREATED, &lease))
        }
        (Route::Keep(id), &Method::DELETE) => {
            shared.keeps.delete(&tenant, id)?;
            Ok(empty(StatusCode::NO_CONTENT))
        }
        (Route::Channel(id), &Method::GET) => {
            if !wants_upgrade(request.headers()) {
                let reason = format!("a channel is had by `Upgrade: {}`", protocol::UPGRADE);
                return Err(HostError::new(Code::Malformed, reason));
            }
            let reach = shared.keeps.connect(&tenant, id)?;
            channel(shared, id, reach, request).await
        }
        _ => Err(HostError::new(Code::NotFound, "this path has no such method")),
    }
}

/// Connects, answers that it is, and leaves the relay to itself.
async fn channel(
    shared: &Arc<Shared>,
    id: KeepId,
    reach: Reach,
    request: Request<Incoming>,
) -> Result<Answer, HostError> {
    let inside = relay::connect(&reach).await.map_err(|error| {
        tracing::warn!(keep = %id, %error, "a Keep takes no connection");
        shared.keeps.not_connected(id);
        HostError::new(Code::NoSuchKeep, "the Keep takes no connection")
    })?;
    let shared = Arc::clone(shared);
    tokio::spawn(async move {
        // Counted from here: another agent may take over before the client has heard of its channel.
        shared.relays.send_modify(|relays| *relays += 1);
        let carried = Carried::default();
        match hyper::upgrade::on(request).await {
            Ok(client) => relay::relay(TokioIo::new(client), inside, shared.silence, &carried).await,
            Err(error) => tracing::debug!(%error, "a channel was not taken"),
        }
        shared.metrics.relayed(&carried);
        shared.keeps.disconnected(id);
        shared.relays.send_modify(|relays| *relays -= 1);
    });
    let mut answer = empty(StatusCode::SWITCHING_PROTOCOLS);
    answer.headers_mut().insert(CONNECTION, HeaderValue::from_static("upgrade"));
    answer.headers_mut().insert(UPGRADE, HeaderValue::from_static(protocol::UPGRADE));
    Ok(answer)
}

fn wants_upgrade(headers: &HeaderMap) -> bool {
    let says = |name, word: &str| {
        let values = headers.get_all(name).iter().filter_map(|value: &HeaderValue| value.to_str().ok());
        values.flat_map(|value| value.split(',')).any(|value| value.trim().eq_ignore_ascii_case(word))
    };
    says(CONNECTION, "upgrade") && says(UPGRADE, protocol::UPGRADE)
}

async fn body<M: Message>(request: Request<Incoming>) -> Result<M, HostError> {
    let malformed = |reason: String| HostError::new(Code::Malformed, reason);
    let kind = request.headers().get(CONTENT_TYPE).map(HeaderValue::as_bytes);
    if kind != Some(protocol::CONTENT_TYPE.as_bytes()) {
        return Err(malformed(format!("the body is to be {}", protocol::CONTENT_TYPE)));
    }
    let body = Limited::new(request.into_body(), M::MAX).collect();
    let body = match tokio::time::timeout(BODY_WITHIN, body).await {
        Ok(Ok(body)) => body.to_bytes(),
        Ok(Err(_)) => return Err(malformed(format!("no body of at most {} bytes", M::MAX))),
        Err(_) => return Err(malformed(format!("no body within {BODY_WITHIN:?}"))),
    };
    M::from_bytes(&body).map_err(|error| malformed(error.to_string()))
}

async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, HostError> + Send + 'static,
) -> Result<T, HostError> {
    let failed = |_| HostError::new(Code::Internal, "the host failed");
    tokio::task::spawn_blocking(work).await.map_err(failed)?
}

fn message(status: StatusCode, message: &impl Message) -> Answer {
    let mut answer = Response::new(Full::new(Bytes::from(message.to_bytes())));
    *answer.status_mut() = status;
    answer.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(protocol::CONTENT_TYPE));
    answer
}

fn empty(status: StatusCode) -> Answer {
    let mut answer = Response::new(Full::default());
    *answer.status_mut() = status;
    answer
}

fn refuse(error: &HostError) -> Answer {
    let status = StatusCode::from_u16(error.code.status()).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    let mut answer = message(status, error);
    if error.retry_after_ms > 0 {
        let seconds = HeaderValue::from(error.retry_after_ms.div_ceil(1000));
        answer.headers_mut().insert(RETRY_AFTER, seconds);
    }
    if error.code == Code::Unauthorised {
        answer.headers_mut().insert(WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
    }
    answer
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn s43_paths_are_read_strictly() {
        let id = "0123456789abcdef0123456789abcdef";
        let label = |path: &str| Route::of(path).map(|route| route.label()).map_err(|error| error.code);
        assert_eq!(label("/v1"), Ok("/v1"));
        assert_eq!(label("/v1/keeps"), Ok("/v1/keeps"));
        assert_eq!(label(&format!("/v1/keeps/{id}")), Ok("/v1/keeps/{id}"));
        assert_eq!(label(&format!("/v1/keeps/{id}/channel")), Ok("/v1/keeps/{id}/channel"));
        assert_eq!(label("/v2/keeps"), Err(Code::VersionUnsupported));
        assert_eq!(label("/v01"), Err(Code::VersionUnsupported));
        for path in
            ["/v1/keeps/..", "/v1/keeps/", &format!("/v1/keeps/{}", id.to_uppercase()), "/v1/keeps/%2e"]
        {
            assert_eq!(label(path), Err(Code::NoSuchKeep), "{path}");
        }
        for path in ["/", "", "/v", "/vx", "/metrics", "/v1/", "/v1/x", &format!("/v1/keeps/{id}/memory")] {
            assert_eq!(label(path), Err(Code::NotFound), "{path}");
        }
    }

    #[test]
    fn an_upgrade_names_its_protocol() {
        let headers = |connection: &'static str, upgrade: &'static str| {
            let mut headers = HeaderMap::new();
            headers.insert(CONNECTION, HeaderValue::from_static(connection));
            headers.insert(UPGRADE, HeaderValue::from_static(upgrade));
            headers
        };
        assert!(wants_upgrade(&headers("keep-alive, Upgrade", "bailey-keep/1")));
        assert!(!wants_upgrade(&headers("keep-alive", "bailey-keep/1")));
        assert!(!wants_upgrade(&headers("upgrade", "websocket")));
        assert!(!wants_upgrade(&HeaderMap::new()));
    }
}

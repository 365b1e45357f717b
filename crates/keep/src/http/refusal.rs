//! What a client is told when the Keep, and not the workload, ends a request: a status, a stable code in the
//! header `bailey-code`, and the same code with one sentence as JSON.

use bytes::Bytes;
use http::{HeaderName, HeaderValue, Response, StatusCode, header};
use http_body_util::{BodyExt, Full};
use wasmtime_wasi_http::p2::body::HyperOutgoingBody;

/// The header that carries a [`Refusal`]'s code. Workloads cannot set it.
pub const CODE_HEADER: HeaderName = HeaderName::from_static("bailey-code");

/// Why the Keep ended a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Refusal {
    /// The request names no host, or is otherwise not one that can be handed on.
    Malformed,
    /// The body is longer than the manifest allows.
    BodyTooLarge,
    /// All instances are busy.
    Busy,
    /// The instance used its processor time up.
    CpuLimit,
    /// The instance did not end in time.
    TimeLimit,
    /// The instance wanted more memory than the manifest allows, and failed.
    MemoryLimit,
    /// The instances have more files open than they may.
    OpenFilesLimit,
    /// The instance opened a connection more than there may be.
    ConnectionsLimit,
    /// The instance failed.
    Trapped,
    /// The instance ended without an answer.
    NoResponse,
    /// The instance answered with an error instead of a response.
    WorkloadError,
}

impl Refusal {
    /// Stable code.
    pub fn code(self) -> &'static str {
        match self {
            Self::Malformed => "REQUEST_MALFORMED",
            Self::BodyTooLarge => "BODY_TOO_LARGE",
            Self::Busy => "KEEP_BUSY",
            Self::CpuLimit => "CPU_LIMIT",
            Self::TimeLimit => "TIME_LIMIT",
            Self::MemoryLimit => "MEMORY_LIMIT",
            Self::OpenFilesLimit => "OPEN_FILES_LIMIT",
            Self::ConnectionsLimit => "CONNECTIONS_LIMIT",
            Self::Trapped => "WORKLOAD_TRAPPED",
            Self::NoResponse => "WORKLOAD_WITHOUT_RESPONSE",
            Self::WorkloadError => "WORKLOAD_ERROR",
        }
    }

    /// Its HTTP status.
    pub fn status(self) -> StatusCode {
        match self {
            Self::Malformed => StatusCode::BAD_REQUEST,
            Self::BodyTooLarge => StatusCode::PAYLOAD_TOO_LARGE,
            Self::Busy
            | Self::CpuLimit
            | Self::TimeLimit
            | Self::MemoryLimit
            | Self::OpenFilesLimit
            | Self::ConnectionsLimit => StatusCode::SERVICE_UNAVAILABLE,
            Self::Trapped | Self::NoResponse | Self::WorkloadError => StatusCode::INTERNAL_SERVER_ERROR,
        }
    }

    fn sentence(self) -> &'static str {
        match self {
            Self::Malformed => "the request cannot be handed to the workload",
            Self::BodyTooLarge => "the request's body is longer than the manifest allows",
            Self::Busy => "as many requests are in work as the manifest allows; try again",
            Self::CpuLimit => "the workload used up the processor time that the manifest allows a request",
            Self::TimeLimit => "the workload did not answer in the time that the manifest allows a request",
            Self::MemoryLimit => "the workload wanted more memory than the manifest allows",
            Self::OpenFilesLimit => "the workload opened more files than it may",
            Self::ConnectionsLimit => "the workload opened more connections than it may",
            Self::Trapped => "the workload failed",
            Self::NoResponse => "the workload ended without an answer",
            Self::WorkloadError => "the workload answered with an error",
        }
    }

    pub(crate) fn response(self) -> Response<HyperOutgoingBody> {
        let json = format!("{{\"code\":\"{}\",\"message\":\"{}\"}}\n", self.code(), self.sentence());
        let body = Full::new(Bytes::from(json)).map_err(|never| match never {}).boxed_unsync();
        let mut response = Response::new(body);
        *response.status_mut() = self.status();
        let headers = response.headers_mut();
        headers.insert(CODE_HEADER, HeaderValue::from_static(self.code()));
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
        headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
        response
    }
}

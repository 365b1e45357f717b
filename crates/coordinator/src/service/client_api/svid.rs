//! SVIDs for Marbles, which are known by their certificates; the bundle is for everyone.

use axum::{
    Extension,
    body::Bytes,
    extract::{State, rejection::BytesRejection},
    response::Response,
};
use serde_json::Value;
use spiffe_workload::wire::{JwtRequest, X509Request};

use super::{Shared, answer, base64, blocking, parse};
use crate::{
    core::{
        Caller, Refusal,
        svid::{self, Holder},
    },
    service::Coordinator,
};

pub(super) async fn x509(
    State(coordinator): Shared,
    Extension(caller): Extension<Caller>,
    body: Result<Bytes, BytesRejection>,
) -> Response {
    let parsed = parse(body).and_then(|body: X509Request| base64(&body.csr, "csr"));
    let csr = match parsed {
        Ok(csr) => csr,
        Err(response) => return *response,
    };
    answer(blocking(move || {
        let (state, now) = (coordinator.snapshot()?.state, (coordinator.clock)());
        let holder = Holder::marble(&state, &caller, now)?;
        value(svid::x509(&state, &holder, &csr, now)?)
    }))
    .await
}

pub(super) async fn jwt(
    State(coordinator): Shared,
    Extension(caller): Extension<Caller>,
    body: Result<Bytes, BytesRejection>,
) -> Response {
    let body: JwtRequest = match parse(body) {
        Ok(body) => body,
        Err(response) => return *response,
    };
    answer(blocking(move || {
        let (state, now) = (coordinator.snapshot()?.state, (coordinator.clock)());
        let holder = Holder::marble(&state, &caller, now)?;
        value(svid::jwt(&state, &holder, &body.audiences, now)?)
    }))
    .await
}

pub(super) async fn bundle(State(coordinator): Shared) -> Response {
    answer(async move { current(&coordinator) }).await
}

fn current(coordinator: &Coordinator) -> Result<Value, Refusal> {
    value(svid::bundle(&coordinator.snapshot()?.state)?)
}

fn value(answer: impl serde::Serialize) -> Result<Value, Refusal> {
    serde_json::to_value(answer).map_err(|error| Refusal::Internal(error.to_string()))
}

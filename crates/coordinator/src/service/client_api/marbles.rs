//! What Marbles and verifiers ask, behind the manifest's feature gates.

use appraisal::{Policy, TcbStatus};
use axum::{
    Extension,
    body::Bytes,
    extract::{State, rejection::BytesRejection},
    response::Response,
};
use base64::{Engine, engine::general_purpose::STANDARD as BASE64};
use evidence::Evidence;
use manifest::Gate;
use serde::Deserialize;
use serde_json::{Value, json};

use super::{Shared, answer, base64, blocking, costly, parse};
use crate::{
    core::{self, Caller, Proof, Refusal},
    service::{Coordinator, Decided},
};

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
struct SignQuoteBody {
    sgx_quote: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct CounterBody {
    name: String,
    value: u64,
}

/// Verifies a quote, and signs it with its TCB status by the root key: for verifiers that cannot verify quotes.
/// Whose program it is, and whether the status is good enough, they decide.
pub(super) async fn sign_quote(State(coordinator): Shared, body: Result<Bytes, BytesRejection>) -> Response {
    let gate = coordinator.snapshot().and_then(|snapshot| open(&snapshot.state, Gate::SignQuoteEndpoint));
    if let Err(refusal) = gate {
        return axum::response::IntoResponse::into_response(refusal);
    }
    let parsed = parse(body).and_then(|body: SignQuoteBody| {
        let quote = base64(&body.sgx_quote, "sgxQuote")?;
        Ok((body.sgx_quote, quote))
    });
    let (text, quote) = match parsed {
        Ok(parsed) => parsed,
        Err(response) => return *response,
    };
    answer(costly(move || sign(&coordinator, &text, &quote))).await
}

fn open(state: &core::State, gate: Gate) -> Result<(), Refusal> {
    let mesh = state.mesh().ok_or(Refusal::NoManifest)?;
    if mesh.manifest().settings().gates.contains(&gate) {
        return Ok(());
    }
    let gate = match gate {
        Gate::SignQuoteEndpoint => "SignQuoteEndpoint",
        Gate::MonotonicCounter => "MonotonicCounter",
    };
    Err(Refusal::GateClosed { gate })
}

fn sign(coordinator: &Coordinator, text: &str, quote: &[u8]) -> Result<Value, Refusal> {
    let refused = |code: &str| Refusal::QuoteRefused { codes: vec![code.to_owned()] };
    let state = coordinator.snapshot()?.state;
    let mesh = state.mesh().ok_or(Refusal::NoManifest)?;
    let evidence = Evidence::parse(crate::service::marble_api::without_header(quote))
        .map_err(|_| refused("EVIDENCE_MALFORMED"))?;
    let mut policy = Policy::genuine();
    core::add_emulated_roots(mesh.manifest(), evidence.platform(), &mut policy)?;
    policy.accepted_tcb =
        TcbStatus::ALL.iter().copied().filter(|status| *status != TcbStatus::Revoked).collect();
    let now = (coordinator.clock)();
    let endorsements = coordinator.collateral.fit(&evidence, coordinator.tee.as_ref(), now);
    let assessment = coordinator.verifier.assess(&evidence, &endorsements, None, None, &policy, now);
    let verdict = assessment.verdict();
    let status = verdict.tcb().status.filter(|_| verdict.is_accepted());
    let Some(status) = status else {
        return Err(Refusal::QuoteRefused { codes: verdict.codes().map(|code| code.to_string()).collect() });
    };
    let signature = state.root().sign(format!("{text}{status}").as_bytes())?;
    Ok(json!({ "tcbStatus": status.to_string(), "verificationSignature": BASE64.encode(signature) }))
}

pub(super) async fn raise_counter(
    State(coordinator): Shared,
    Extension(caller): Extension<Caller>,
    body: Result<Bytes, BytesRejection>,
) -> Response {
    let gate = coordinator.snapshot().and_then(|snapshot| open(&snapshot.state, Gate::MonotonicCounter));
    if let Err(refusal) = gate {
        return axum::response::IntoResponse::into_response(refusal);
    }
    if !matches!(caller.proof, Proof::Certificate(_)) {
        return axum::response::IntoResponse::into_response(Refusal::NoCertificate);
    }
    let body: CounterBody = match parse(body) {
        Ok(body) => body,
        Err(response) => return *response,
    };
    answer(blocking(move || {
        let now = (coordinator.clock)();
        let before = coordinator.commit(|state| {
            let (event, before) = core::raise_counter(state, &caller, &body.name, body.value, now)?;
            Ok(Decided { events: event.into_iter().collect(), shares: None, answer: before })
        })?;
        Ok(json!({ "value": before }))
    }))
    .await
}

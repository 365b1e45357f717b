//! Wrapping for whoever encrypts container images: the key that wraps never leaves.

use std::sync::Arc;

use axum::{
    Extension,
    body::Bytes,
    extract::{State, rejection::BytesRejection},
    response::Response,
};
use image_keys::{Kek, Packet};
use serde::Deserialize;
use serde_json::{Value, json};
use zeroize::Zeroizing;

use super::{Shared, answer, base64, blocking, parse};
use crate::{
    core::{
        Caller, Refusal, Stored,
        broker::unwrap::{Wrapping, held},
    },
    service::Coordinator,
};

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct WrapBody {
    /// `kbs:///repository/type/tag`.
    key: String,
    /// What is wrapped, base64.
    data: String,
}

pub(super) async fn wrap(
    State(coordinator): Shared,
    Extension(caller): Extension<Caller>,
    body: Result<Bytes, BytesRejection>,
) -> Response {
    let WrapBody { key, data } = match parse(body) {
        Ok(body) => body,
        Err(response) => return *response,
    };
    let data = match base64(&Zeroizing::new(data), "data") {
        Ok(data) => Zeroizing::new(data),
        Err(response) => return *response,
    };
    answer(async {
        let packet = wrapped(&coordinator, caller, key, data).await?;
        let packet: Value = serde_json::from_slice(&packet.to_json())
            .map_err(|_| Refusal::Internal("a packet could not be written".into()))?;
        Ok(json!({ "packet": packet }))
    })
    .await
}

async fn wrapped(
    coordinator: &Arc<Coordinator>,
    caller: Caller,
    key: String,
    data: Zeroizing<Vec<u8>>,
) -> Result<Packet, Refusal> {
    let state = coordinator.snapshot()?.state;
    let wrapping = Wrapping::allowed(&state, &caller, &key)?;
    let mesh = state.mesh().ok_or(Refusal::NoManifest)?;
    let stored = match wrapping.stored(mesh) {
        None => Stored::new(mesh),
        Some(name) => match held(mesh, name) {
            None => coordinator.fetch(&state, vec![name.clone()]).await?,
            Some((at, key)) => {
                let data_key = Kek::generate().map_err(Refusal::ImageKey)?;
                let encrypted = coordinator.encrypt_by(mesh, name, &at.store, &key, data_key.bytes()).await?;
                return wrapping.wrap_by(&data_key, encrypted, &data);
            }
        },
    };
    let now = (coordinator.clock)();
    blocking(move || {
        let mesh = state.mesh().ok_or(Refusal::NoManifest)?;
        wrapping.wrap(mesh, &stored, &data, now)
    })
    .await
}

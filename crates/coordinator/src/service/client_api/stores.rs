//! How the secret stores of the manifest are: whether they are there, let the coordinator in, and have what they should.
//! Never a value.

use axum::{Extension, extract::State, response::Response};
use manifest::{StoreKind, StoreName};
use secret_store::StoreError;
use serde_json::{Value, json};
use tokio::sync::Semaphore;

use super::{PATIENCE, Shared, answer, turn};
use crate::{
    core::{self, Caller, Mesh, Refusal},
    service::stores::Look,
};

/// A look asks each store for everything.
const AT_ONCE: usize = 2;

pub(super) async fn check(State(coordinator): Shared, Extension(caller): Extension<Caller>) -> Response {
    static PLACES: Semaphore = Semaphore::const_new(AT_ONCE);
    answer(async {
        let state = coordinator.snapshot()?.state;
        let names = core::visible_stores(&state, &caller)?;
        let _place = turn(&PLACES, PATIENCE).await?;
        let mesh = state.mesh().ok_or(Refusal::NoManifest)?;
        let mut stores = Vec::new();
        for name in names {
            if let Some(look) = coordinator.look_at(mesh, &name).await {
                stores.push(described(mesh, &name, &look));
            }
        }
        Ok(json!({ "stores": stores }))
    })
    .await
}

fn described(mesh: &Mesh, name: &StoreName, look: &Look) -> Value {
    let (kind, address) = match mesh.manifest().stores().get(name).map(|store| &store.kind) {
        Some(StoreKind::Vault(vault)) => ("vault", format!("{}:{}", vault.host, vault.port)),
        Some(StoreKind::Pkcs11(token)) => ("pkcs11", format!("token {}", token.token)),
        None => ("none", String::new()),
    };
    let secrets: Vec<_> = look
        .secrets
        .iter()
        .map(|(name, place, found)| {
            let version = found.as_ref().ok().copied().flatten();
            let fault = fault(found.as_ref().err());
            json!({ "name": name, "place": place, "available": found.is_ok(), "version": version, "fault": fault })
        })
        .collect();
    json!({
        "name": name, "kind": kind, "address": address, "available": look.access.is_ok(),
        "fault": fault(look.access.as_ref().err()), "secrets": secrets,
    })
}

fn fault(error: Option<&StoreError>) -> Value {
    error.map_or(
        Value::Null,
        |error| json!({ "code": error.code(), "message": error.to_string(), "mend": error.mend() }),
    )
}

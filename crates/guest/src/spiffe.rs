//! This guest's SPIFFE identity, as its broker issues it. Which one it is the broker decides by Evidence; what it sends is
//! encrypted to the key that the Evidence covers.

use std::sync::Arc;

use base64::{Engine, engine::general_purpose::STANDARD as BASE64};
use rcar::client::ExchangeError;
use serde::{Serialize, de::DeserializeOwned};
use spiffe_workload::{
    SourceError, SvidSource,
    wire::{BundleWire, JwtAnswer, JwtRequest, X509Answer, X509Request},
};

use crate::{Guest, broker::BrokerError};

/// A guest as a source of its SVIDs.
pub struct Identity(pub Arc<Guest>);

impl Identity {
    async fn ask<T: DeserializeOwned>(&self, kind: &str, body: &impl Serialize) -> Result<T, SourceError> {
        let body = serde_json::to_string(body).map_err(SourceError::unavailable)?;
        let answer = self.0.broker().svids(kind, &body).await.map_err(refused)?;
        serde_json::from_slice(&answer).map_err(SourceError::unavailable)
    }
}

/// What the broker decided about this guest it decides again; all else may pass.
fn refused(error: BrokerError) -> SourceError {
    match &error {
        BrokerError::Exchange(ExchangeError::Refused { status: 401 | 403, error }) => {
            let code = error.as_ref().map_or_else(|| "none".into(), |error| error.kind.clone());
            SourceError::Refused { code }
        }
        _ => SourceError::unavailable(error),
    }
}

impl SvidSource for Identity {
    async fn x509(&self, csr: &[u8]) -> Result<X509Answer, SourceError> {
        self.ask("x509", &X509Request { csr: BASE64.encode(csr) }).await
    }

    async fn jwt(&self, audiences: &[String]) -> Result<JwtAnswer, SourceError> {
        self.ask("jwt", &JwtRequest { audiences: audiences.to_vec() }).await
    }

    async fn bundle(&self) -> Result<BundleWire, SourceError> {
        let bundle = self.0.broker().svid_bundle().await.map_err(refused)?;
        serde_json::from_slice(&bundle).map_err(SourceError::unavailable)
    }
}

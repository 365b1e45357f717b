//! The guest's side of the key broker: what runs in a confidential VM or container, attests to a broker, and gets what
//! the broker's policy grants it. The program is `bailey-guest`; nothing of the command line or the coordinator is in it.
//!
//! ```text
//! TEE ──Evidence──▶ Broker (client) ◀──HTTPS, one root──▶ the broker
//!                     │
//!                     ├─▶ get, unseal, token            prints or writes
//!                     ├─▶ run                           a command with secrets in files or environment
//!                     └─▶ rest, image keys              loopback, for other processes of this guest
//! ```
//!
//! It judges no Evidence and keeps no secret longer than it is needed. What the host says (arguments, files that are
//! not measured) chooses nothing that the measured init-data fixes: [`settings`], [`init_data`].

pub mod arguments;
pub mod broker;
pub mod commands;
pub mod evidence;
pub mod image_keys;
pub mod init_data;
pub mod rest;
pub mod run;
pub mod settings;
pub mod source;
pub mod spiffe;
pub mod transport;
pub mod unseal;

use std::path::PathBuf;

use serde_json::Value;
use zeroize::Zeroizing;

use crate::{
    broker::{Broker, BrokerError},
    evidence::{Attester, EvidenceError},
    source::Source,
    unseal::{UnsealError, unseal},
};

/// A guest with its broker.
pub struct Guest {
    attester: Attester,
    broker: Broker,
    keys: Option<PathBuf>,
}

/// Why this guest has nothing to give.
#[derive(Debug, thiserror::Error)]
pub enum GuestError {
    /// Because of the broker.
    #[error(transparent)]
    Broker(#[from] BrokerError),
    /// Because of a sealed secret.
    #[error(transparent)]
    Unseal(#[from] UnsealError),
    /// Because of the TEE.
    #[error(transparent)]
    Evidence(#[from] EvidenceError),
}

impl GuestError {
    /// What mends it.
    pub fn remedy(&self) -> &'static str {
        match self {
            Self::Broker(error) => error.remedy(),
            Self::Unseal(error) => error.remedy(),
            Self::Evidence(error) => error.remedy(),
        }
    }
}

impl Guest {
    /// A guest that attests with `attester` to `broker`, and looks for keys that are named by files in `keys`.
    pub fn new(attester: Attester, broker: Broker, keys: Option<PathBuf>) -> Self {
        Self { attester, broker, keys }
    }

    /// Its broker.
    pub fn broker(&self) -> &Broker {
        &self.broker
    }

    /// The name of its TEE in the protocol.
    ///
    /// # Errors
    /// When it has none.
    pub fn tee_name(&self) -> Result<&'static str, GuestError> {
        Ok(self.attester.tee()?.as_str())
    }

    /// Evidence over at most 64 bytes.
    ///
    /// # Errors
    /// When the TEE gives none.
    pub async fn evidence(&self, data: &[u8]) -> Result<Value, GuestError> {
        Ok(self.attester.evidence(data).await?)
    }

    /// A resource, or what is in a sealed secret.
    ///
    /// # Errors
    /// When the broker does not give what is needed, or a sealed secret does not verify.
    pub async fn secret(&self, source: Source) -> Result<Zeroizing<Vec<u8>>, GuestError> {
        match source {
            Source::Resource(uri) => Ok(self.broker.resource(&uri).await?),
            Source::Sealed(sealed) => Ok(unseal(*sealed, &self.broker, self.keys.as_deref()).await?),
        }
    }
}

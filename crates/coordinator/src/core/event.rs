//! What is written to the log: facts that were decided, each complete in itself, so that replaying them
//! gives the state without deciding anything again.

use appraisal::UnixTime;
use serde::{Deserialize, Serialize};
use serde_bytes::{ByteArray, ByteBuf};
use std::collections::BTreeMap;
use zeroize::Zeroizing;

use crate::store::StoreError;

/// One decided fact.
#[derive(Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub enum Event {
    /// The mesh begins.
    Founded {
        /// PKCS #8 of the root CA.
        root_key: ByteBuf,
        /// DER.
        root_certificate: ByteBuf,
        /// From which secrets of single instances are derived.
        root_secret: ByteArray<32>,
        /// Whether the coordinator's own platform is emulated.
        emulated: bool,
        /// Seconds.
        at: i64,
    },
    /// A manifest came into force, and with it an epoch.
    ManifestSet {
        /// The exact bytes.
        manifest: ByteBuf,
        /// Counted from 1.
        epoch: u64,
        /// PKCS #8 of the epoch's intermediate CA.
        intermediate_key: ByteBuf,
        /// DER.
        intermediate_certificate: ByteBuf,
        /// Secrets that were generated for all instances.
        generated: BTreeMap<String, ByteBuf>,
        /// Seconds.
        at: i64,
    },
    /// A user uploaded secrets.
    SecretsWritten {
        /// The user's name in the manifest.
        user: String,
        /// Values.
        secrets: BTreeMap<String, ByteBuf>,
        /// Seconds.
        at: i64,
    },
    /// A Keep became an instance of a Marble.
    Activated {
        /// Which Marble.
        marble: String,
        /// The digest of the instance's key.
        instance: ByteArray<32>,
        /// Seconds.
        at: i64,
    },
    /// An instance got a new certificate.
    Renewed {
        /// The digest of the instance's key.
        instance: ByteArray<32>,
        /// Seconds.
        at: i64,
    },
}

impl Event {
    /// CBOR.
    pub fn to_record(&self) -> Zeroizing<Vec<u8>> {
        let mut out = Zeroizing::new(Vec::new());
        ciborium::into_writer(self, &mut *out).expect("writing plain data to memory cannot fail");
        out
    }

    /// Reads record `index` of the log.
    pub fn from_record(index: u64, record: &[u8]) -> Result<Self, StoreError> {
        let mut rest = record;
        let event = ciborium::from_reader(&mut rest)
            .map_err(|error| StoreError::Version { index, reason: error.to_string() })?;
        if !rest.is_empty() {
            return Err(StoreError::Version { index, reason: format!("{} bytes follow it", rest.len()) });
        }
        Ok(event)
    }
}

pub(super) fn seconds(now: UnixTime) -> i64 {
    now.0
}

//! Evidence of the TEE that this guest runs in, as brokers of Confidential Containers read it.

use std::sync::Arc;

use attester::{AttesterError, Tee};
use base64::{Engine, engine::general_purpose::STANDARD};
use evidence::{Malformed, ReportData, coco};
use serde_json::{Value, json};

/// Where Evidence comes from.
#[derive(Clone)]
pub enum Attester {
    /// The TEE that we run in.
    Tee(Arc<dyn Tee>),
    /// Nowhere: the stand-in of Confidential Containers, which proves nothing. Only ever by somebody's explicit wish.
    Sample,
}

/// Why there is no Evidence.
#[derive(Debug, thiserror::Error)]
pub enum EvidenceError {
    /// The TEE gives none.
    #[error("the TEE gives no Evidence")]
    Attester(#[source] AttesterError),
    /// What it gives cannot be read.
    #[error("the Evidence that the TEE gives has no form in the protocol")]
    Malformed(#[from] Malformed),
    /// Its platform has no name in the protocol.
    #[error("brokers of this protocol know no platform {0}")]
    Foreign(&'static str),
    /// The broker wants more to be covered than the Evidence has room for.
    #[error("Evidence covers 64 bytes, and {length} are wanted")]
    TooLong {
        /// How many bytes.
        length: usize,
    },
}

impl EvidenceError {
    /// What mends it.
    pub fn remedy(&self) -> &'static str {
        match self {
            Self::Attester(_) => "look at what the platform says, with `bailey-guest evidence --raw`",
            Self::Malformed(_) | Self::Foreign(_) => {
                "brokers of this protocol know Evidence of SNP, TDX, SGX, CCA and TPMs, and this build these"
            }
            Self::TooLong { .. } => "what answers there is no key broker; look at the URL",
        }
    }
}

impl Attester {
    /// By its name in the protocol.
    ///
    /// # Errors
    /// [`EvidenceError::Foreign`] when it has none.
    pub fn tee(&self) -> Result<rcar::Tee, EvidenceError> {
        match self {
            Self::Tee(tee) => {
                rcar::Tee::of(tee.platform()).ok_or(EvidenceError::Foreign(tee.platform().as_str()))
            }
            Self::Sample => Ok(rcar::Tee::Sample),
        }
    }

    /// Evidence over a digest, with zeros behind it.
    ///
    /// # Errors
    /// When the platform gives none, or none that the protocol knows.
    pub async fn evidence(&self, digest: &[u8]) -> Result<Value, EvidenceError> {
        let mut data = [0; 64];
        let length = digest.len();
        data.get_mut(..length).ok_or(EvidenceError::TooLong { length })?.copy_from_slice(digest);
        match self {
            Self::Tee(tee) => {
                let tee = Arc::clone(tee);
                // Some platforms take milliseconds.
                tokio::task::spawn_blocking(move || over(&*tee, &ReportData(data)))
                    .await
                    .expect("asking a platform for Evidence does not panic")
            }
            Self::Sample => Ok(json!({ "svn": "1", "report_data": STANDARD.encode(digest) })),
        }
    }
}

fn over(tee: &dyn Tee, data: &ReportData) -> Result<Value, EvidenceError> {
    let raw = tee.evidence(data).map_err(EvidenceError::Attester)?;
    let text = coco::write(&raw.evidence, &raw.endorsements)?;
    Ok(serde_json::from_str(&text).expect("what is written as JSON is JSON"))
}

//! Evidence as JSON, the way that attesters of Confidential Containers send it to a key broker.

use serde::Deserialize;

use crate::conveyed::Conveyed;
use crate::tpm::Blob;
use crate::{Malformed, Platform};

const FORMAT: &str = "CoCo evidence";

/// Reads the Evidence of a platform, with what was stapled to it.
///
/// # Errors
/// [`Malformed`], also when it is Evidence of another platform.
pub fn read(platform: Platform, json: &[u8]) -> Result<Conveyed, Malformed> {
    let conveyed = Conveyed::parse(json)?;
    match conveyed.evidence.iter().find(|(_, evidence)| evidence.platform() != platform) {
        None => Ok(conveyed),
        Some((_, other)) => {
            Err(Malformed::value(FORMAT, "platform", 0, platform.as_str(), other.platform().as_str()))
        }
    }
}

/// CoCo's stand-in for Evidence: unsigned, and proof of nothing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sample {
    /// A number that the stand-in makes up.
    pub svn: String,
    /// What it covers.
    pub report_data: Vec<u8>,
}

impl Sample {
    /// Reads a stand-in.
    ///
    /// # Errors
    /// [`Malformed`].
    pub fn parse(json: &[u8]) -> Result<Self, Malformed> {
        #[derive(Deserialize)]
        struct Wire {
            svn: String,
            report_data: String,
        }
        let wire: Wire = serde_json::from_slice(json)
            .map_err(|error| Malformed::value(FORMAT, "JSON", 0, "svn and report_data", error.to_string()))?;
        let report_data = Blob::Text(wire.report_data).base64("report_data")?;
        Ok(Self { svn: wire.svn, report_data })
    }
}

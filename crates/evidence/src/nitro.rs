//! AWS Nitro Enclaves: attestation documents (COSE_Sign1, RFC 9052).

use std::collections::BTreeMap;

use crate::{Covered, Malformed, Measurement};

/// Evidence of this kind.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Document {}

impl Document {
    /// Whether bytes look like Evidence of this kind: cheap, and no promise that they can be parsed.
    pub(crate) fn recognises(_bytes: &[u8]) -> bool {
        false
    }

    /// Parses Evidence of this kind.
    ///
    /// # Errors
    /// [`Malformed`] names the first field that is not as its format demands.
    pub fn parse(bytes: &[u8]) -> Result<Self, Malformed> {
        Err(Malformed::unsupported("nitro", "format", 0, "a later version", format!("{} bytes", bytes.len())))
    }

    /// What the Evidence covers because its asker wanted so.
    pub fn covered(&self) -> Covered {
        match *self {}
    }

    /// What identifies the code.
    pub fn measurement(&self) -> Option<Measurement> {
        match *self {}
    }

    /// What the launcher fixed beside the code.
    pub fn launch_configuration(&self) -> &[u8] {
        match *self {}
    }

    /// Everything measured, by the name that verdicts and reference values use; digests in hexadecimal.
    pub fn measured(&self) -> BTreeMap<String, String> {
        match *self {}
    }
}

//! Sealing keys, from what the platform derives for this code. Platforms do not let the launch configuration into their
//! derivation, so it is mixed in here: code with another measurement has another key to begin with, and this code
//! always mixes in its own.

use evidence::Platform;
use hmac::{Hmac, Mac};
use sha2::Sha256;
use zeroize::Zeroizing;

use crate::{AttesterError, SealingKey, emulated::MAX_CONTEXT};

const LABEL: &[u8] = b"bailey/hardware-seal/1";

/// HMAC-SHA256 under the platform's key over label, platform, launch configuration and context, each behind its length.
pub(super) fn key(
    platform: Platform,
    root: &[u8],
    configuration: &[u8],
    context: &str,
) -> Result<SealingKey, AttesterError> {
    let mut mac = Hmac::<Sha256>::new_from_slice(root).map_err(|_| AttesterError::UnexpectedResponse)?;
    for part in [LABEL, platform.as_str().as_bytes(), configuration, context.as_bytes()] {
        mac.update(&u64::try_from(part.len()).unwrap_or(u64::MAX).to_be_bytes());
        mac.update(part);
    }
    Ok(SealingKey::new(Zeroizing::new(mac.finalize().into_bytes().into())))
}

/// Refuses a context that the emulated platform would refuse as well.
pub(super) fn check(context: &str) -> Result<(), AttesterError> {
    match context.len() {
        1..=MAX_CONTEXT => Ok(()),
        length => Err(AttesterError::Context { length, limit: MAX_CONTEXT }),
    }
}

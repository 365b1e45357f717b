//! What registers hold once the events of a log were extended into them.

use std::collections::BTreeMap;

use evidence::eventlog::{Event, EventLog, HashAlgorithm, kind};

use crate::Crypto;

/// Why a log cannot be replayed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Unreplayable {
    /// There is no replay by this algorithm: SM3, and those that are not known.
    #[error("there is no replay by {0}")]
    Algorithm(HashAlgorithm),
    /// The log has no digests by this algorithm.
    #[error("the log has no digests by {0}")]
    NotInLog(HashAlgorithm),
    /// An event lacks a digest by this algorithm.
    #[error("event {event} has no digest by {algorithm}")]
    DigestMissing {
        /// The event, counted from zero.
        event: usize,
        /// The algorithm.
        algorithm: HashAlgorithm,
    },
}

/// Replays a log: what each register holds that an event was extended into, by the number that the log gives it.
/// Registers begin as zeros; PCR 0 begins with the locality that started the TPM, where the log tells it (TCG PC
/// Client Platform Firmware Profile, "Startup Locality Event").
///
/// # Errors
/// [`Unreplayable`].
pub fn replay(
    log: &EventLog,
    algorithm: HashAlgorithm,
    crypto: &dyn Crypto,
) -> Result<BTreeMap<u32, Vec<u8>>, Unreplayable> {
    if !log.algorithms().contains(&algorithm) {
        return Err(Unreplayable::NotInLog(algorithm));
    }
    let size = size(algorithm)?;
    let mut registers: BTreeMap<u32, Vec<u8>> = BTreeMap::new();
    for (index, event) in log.events().iter().enumerate().filter(|(_, event)| event.is_extended()) {
        let Some(digest) = event.digest(algorithm) else {
            return Err(Unreplayable::DigestMissing { event: index, algorithm });
        };
        let value = registers.entry(event.register).or_insert_with(|| match event.register {
            0 => startup(log, size),
            _ => vec![0; size],
        });
        *value = hash(algorithm, &[value, digest], crypto)?;
    }
    Ok(registers)
}

/// The digest of `parts` by an algorithm that logs use.
pub(super) fn hash(
    algorithm: HashAlgorithm,
    parts: &[&[u8]],
    crypto: &dyn Crypto,
) -> Result<Vec<u8>, Unreplayable> {
    Ok(match algorithm {
        HashAlgorithm::Sha1 => crypto.sha1(parts).into(),
        HashAlgorithm::Sha256 => crypto.sha256(parts).into(),
        HashAlgorithm::Sha384 => crypto.sha384(parts).into(),
        HashAlgorithm::Sha512 => crypto.sha512(parts).into(),
        HashAlgorithm::Sm3 | HashAlgorithm::Other(_) => return Err(Unreplayable::Algorithm(algorithm)),
    })
}

fn size(algorithm: HashAlgorithm) -> Result<usize, Unreplayable> {
    match algorithm {
        HashAlgorithm::Sm3 => None,
        other => other.size(),
    }
    .ok_or(Unreplayable::Algorithm(algorithm))
}

/// PCR 0 before the first event. The locality is in the last byte; a root of trust that measures by itself
/// (EV_EFI_HCRTM_EVENT) started the TPM at locality 4.
fn startup(log: &EventLog, size: usize) -> Vec<u8> {
    const SIGNATURE: &[u8] = b"StartupLocality\0";
    let told = |event: &Event| match event.data.strip_prefix(SIGNATURE) {
        Some([locality]) if event.kind == kind::EV_NO_ACTION && event.register == 0 => Some(*locality),
        _ => None,
    };
    let hcrtm = |event: &Event| event.kind == kind::EV_EFI_HCRTM_EVENT && event.register == 0;
    let locality = match log.events().iter().find_map(told) {
        Some(locality) => locality,
        None if log.events().iter().any(hcrtm) => 4,
        None => 0,
    };
    let mut value = vec![0; size];
    if let Some(last) = value.last_mut() {
        *last = locality;
    }
    value
}

//! The one door for randomness: jitter of retries, and signatures of bundles.

use std::sync::Arc;

use aws_lc_rs::rand::{SecureRandom, SystemRandom};

use crate::Jitter;

pub(crate) fn source() -> SystemRandom {
    SystemRandom::new()
}

/// Jitter from the system's randomness.
pub(crate) fn jitter() -> Jitter {
    Arc::new(|| {
        let mut bytes = [0; 4];
        // Without randomness all clients wait the longest: slow, and not wrong.
        match source().fill(&mut bytes) {
            Ok(()) => f64::from(u32::from_le_bytes(bytes)) / (f64::from(u32::MAX) + 1.0),
            Err(_) => 1.0,
        }
    })
}

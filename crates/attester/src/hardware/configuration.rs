//! The launch configuration: bytes that lie in a file, and count only if their digest was measured.

use std::io;

use sha2::{Digest, Sha256, Sha384, Sha512};

use super::kernel::Kernel;
use crate::AttesterError;

/// Where the bytes of the launch configuration are. Who starts the machine puts them there; whether they are right, the
/// measurement tells.
pub const CONFIGURATION: &str = "/run/bailey/launch-configuration";

/// As in `attested_tls::launch`.
const LONGEST: usize = 256 * 1024;

/// The bytes, if there are any. Where there are none nothing is claimed, whatever was measured.
pub(super) fn read(
    kernel: &dyn Kernel,
    measured: impl FnOnce() -> Result<Vec<u8>, AttesterError>,
) -> Result<Vec<u8>, AttesterError> {
    let bytes = match kernel.read(CONFIGURATION, LONGEST) {
        Ok(bytes) => bytes,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(source) => {
            return Err(AttesterError::System { attempt: "reading the launch configuration", source });
        }
    };
    let measured = measured()?;
    let digest = match measured.len() {
        64 => Sha512::digest(&bytes).to_vec(),
        48 => Sha384::digest(&bytes).to_vec(),
        32 => Sha256::digest(&bytes).to_vec(),
        _ => return Err(AttesterError::UnexpectedResponse),
    };
    if digest == measured {
        Ok(bytes)
    } else {
        Err(AttesterError::OtherConfiguration { measured, seen: digest })
    }
}

//! What the fields of emulated Evidence mean: code and launch configuration to the values that each platform
//! shows. `bailey measure` computes reference values with these functions, the launcher measures with them;
//! there is no second copy.
//!
//! A code measurement hashes SHA-384 of the executable's bytes under a label of its own, so that no emulated
//! measurement can equal one that real hardware makes of anything.

use std::io::{self, Read};

use aws_lc_rs::digest::{Context, Digest, SHA256, SHA384, SHA512, digest};
use evidence::{LaunchConfiguration, Measurement, Platform};

const LABEL: &[u8] = b"bailey/emulated/measurement/1\0";

/// How much of a large executable is looked at at once: what a second-level cache holds.
const CHUNK: usize = 256 * 1024;

/// What one executable measures to on every platform.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Measurements {
    /// MRENCLAVE.
    pub sgx: Measurement,
    /// MRTD.
    pub tdx: Measurement,
    /// MEASUREMENT.
    pub snp: Measurement,
}

impl Measurements {
    /// The measurement on one platform.
    pub fn of(&self, platform: Platform) -> &Measurement {
        match platform {
            Platform::Sgx => &self.sgx,
            Platform::Tdx => &self.tdx,
            Platform::Snp => &self.snp,
            other => unreachable!("{other} is not emulated"),
        }
    }
}

/// Measures an executable's bytes.
///
/// ```
/// let keep = emulator::measure::measure(b"\x7fELF...");
/// assert_eq!(keep.sgx.as_bytes().len(), 32);
/// assert_ne!(keep, emulator::measure::measure(b"\x7fELF,.."));
/// ```
pub fn measure(code: &[u8]) -> Measurements {
    labelled(&digest(&SHA384, code))
}

/// Measures an executable that is too large to be held in memory for it: `code` is read to its end.
///
/// # Errors
/// Those of the reader.
pub fn measure_from(mut code: impl Read) -> io::Result<Measurements> {
    let mut context = Context::new(&SHA384);
    let mut buffer = vec![0; CHUNK];
    loop {
        match code.read(&mut buffer) {
            Ok(0) => return Ok(labelled(&context.finish())),
            Ok(count) => context.update(&buffer[..count]),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
}

fn labelled(code: &Digest) -> Measurements {
    let labelled = |algorithm| {
        let mut context = Context::new(algorithm);
        context.update(LABEL);
        context.update(code.as_ref());
        context.finish()
    };
    let long = Measurement::from(array::<48>(labelled(&SHA384).as_ref()));
    Measurements { sgx: array::<32>(labelled(&SHA256).as_ref()).into(), tdx: long.clone(), snp: long }
}

/// What the measured launch configuration is in Evidence: CONFIGID = SHA-512, MRCONFIGID = SHA-384,
/// HOST_DATA = SHA-256 of its bytes.
pub fn launch_configuration(platform: Platform, configuration: &[u8]) -> LaunchConfiguration {
    let algorithm = match platform {
        Platform::Sgx => &SHA512,
        Platform::Tdx => &SHA384,
        Platform::Snp => &SHA256,
        other => unreachable!("{other} is not emulated"),
    };
    LaunchConfiguration::new(digest(algorithm, configuration).as_ref())
        .expect("a SHA-2 digest of 32, 48 or 64 bytes")
}

/// `N` is the digest's own length, so nothing is cut or padded.
fn array<const N: usize>(digest: &[u8]) -> [u8; N] {
    let mut bytes = [0; N];
    bytes.copy_from_slice(digest);
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Computed with Python's hashlib.
    #[test]
    fn measurements_are_what_the_documentation_says() {
        let measured = measure(b"code");
        assert_eq!(
            measured.sgx.to_string(),
            "c57032369bec4616a886c236c0f8f1fac092fc1d84e8e8ff8f2cc2e227eff86a"
        );
        assert_eq!(
            measured.tdx.to_string(),
            "44e7cc7e5bdde94f4310e02028d110fcae94b80cf2c2dfe006eb504e6b529d63bc545fbbb9b72327191682ffd4d3395c"
        );
        assert_eq!(measured.snp, measured.tdx);
    }

    #[test]
    fn pieces_measure_like_the_whole() {
        let code = vec![0x5a; 2 * CHUNK + 1];
        assert_eq!(measure_from(code.as_slice()).expect("a slice can be read"), measure(&code));
    }

    #[test]
    fn launch_configurations_have_the_length_of_their_field() {
        for platform in Platform::KEEPS {
            let digest = launch_configuration(platform, b"configuration");
            assert_eq!(digest.as_bytes().len(), LaunchConfiguration::length_on(platform));
        }
    }
}

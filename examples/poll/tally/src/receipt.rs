//! Receipts: HMAC-SHA-256 over a vote's option and number, under a secret that only tally is given.

use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;

const VARIABLE: &str = "TALLY_SALT";
const MIN_LENGTH: usize = 16;
const SHOWN_BYTES: usize = 8;

/// The secret key of the receipts.
pub struct Salt(Hmac<Sha256>);

impl Salt {
    /// Takes the secret from the environment.
    pub fn from_environment() -> Result<Self, String> {
        let salt = std::env::var(VARIABLE).map_err(|_| format!("{VARIABLE} is not set"))?;
        if salt.len() < MIN_LENGTH {
            return Err(format!("{VARIABLE} is shorter than {MIN_LENGTH} bytes"));
        }
        Hmac::new_from_slice(salt.as_bytes()).map(Self).map_err(|_| format!("{VARIABLE} is unusable"))
    }

    /// The code for vote `number` for `option`, in hexadecimal.
    pub fn receipt(&self, option: &str, number: u64) -> String {
        let mut mac = self.0.clone();
        mac.update(option.as_bytes());
        mac.update(&[0]);
        mac.update(&number.to_be_bytes());
        let code = mac.finalize().into_bytes();
        code[..SHOWN_BYTES].iter().map(|byte| format!("{byte:02x}")).collect()
    }
}

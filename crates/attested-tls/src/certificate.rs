//! What every certificate that we issue has in common, whoever the issuer: a serial number, a validity, and whether it
//! follows from emulated Evidence.

use appraisal::UnixTime;
use rcgen::{CertificateParams, DistinguishedName, DnType, SerialNumber};
use time::{Duration, OffsetDateTime};

/// Certificates begin a little early: machines disagree about the time.
const BACKDATE: Duration = Duration::minutes(5);

/// Why a certificate cannot be begun.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ParamsError {
    /// A time that no certificate can hold.
    #[error("the time is out of range")]
    Time,
    /// No random numbers.
    #[error("no random numbers could be had")]
    Randomness,
}

/// A certificate with this common name and a fresh serial number, valid for so long from now on.
///
/// # Errors
/// [`ParamsError`]
pub fn params(name: &str, now: UnixTime, lifetime: Duration) -> Result<CertificateParams, ParamsError> {
    let now = OffsetDateTime::from_unix_timestamp(now.0).map_err(|_| ParamsError::Time)?;
    let mut params = CertificateParams::default();
    params.not_before = now - BACKDATE;
    params.not_after = now + lifetime;
    params.distinguished_name = DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, name);
    params.serial_number = Some(serial()?);
    Ok(params)
}

/// 127 random bits, positive, as CAs must (CA/Browser Forum Baseline Requirements, §7.1).
///
/// # Errors
/// [`ParamsError::Randomness`]
pub fn serial() -> Result<SerialNumber, ParamsError> {
    let mut bytes = [0; 16];
    aws_lc_rs::rand::fill(&mut bytes).map_err(|_| ParamsError::Randomness)?;
    bytes[0] = (bytes[0] & 0x7f) | 0x40;
    Ok(SerialNumber::from_slice(&bytes))
}

/// Every certificate that follows from emulated Evidence says so in its subject (design.md promise 3).
pub fn marked(name: &str, emulated: bool) -> String {
    if emulated { format!("{name} (emulated TEE)") } else { name.to_owned() }
}

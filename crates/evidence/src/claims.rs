//! The values of Evidence that must not be confused with each other, as types: what the code asked to be
//! covered, what the code is, and what the launcher configured.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::{Malformed, Platform};

/// The 64 bytes of a report that the attested code chose.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct ReportData(pub [u8; 64]);

impl fmt::Display for ReportData {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&hex::encode(self.0))
    }
}

impl fmt::Debug for ReportData {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ReportData({self})")
    }
}

impl FromStr for ReportData {
    type Err = Malformed;

    fn from_str(text: &str) -> Result<Self, Malformed> {
        let bytes = decode_hex("report data", text)?;
        let array = <[u8; 64]>::try_from(bytes.as_slice()).map_err(|_| {
            Malformed::value("report data", "length", 0, "64 bytes", format!("{} bytes", bytes.len()))
        })?;
        Ok(Self(array))
    }
}

impl Serialize for ReportData {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for ReportData {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        from_text(deserializer)
    }
}

/// The bytes that Evidence covers because its asker wanted so: report data, nonce, challenge or user data, of
/// the length that the platform gives them.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct Covered(Vec<u8>);

impl Covered {
    /// Takes the bytes as they are.
    pub fn new(bytes: impl Into<Vec<u8>>) -> Self {
        Self(bytes.into())
    }

    /// The bytes.
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }
}

impl From<ReportData> for Covered {
    fn from(data: ReportData) -> Self {
        Self(data.0.to_vec())
    }
}

impl FromStr for Covered {
    type Err = Malformed;

    fn from_str(text: &str) -> Result<Self, Malformed> {
        decode_hex("covered data", text).map(Self)
    }
}

impl fmt::Display for Covered {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&hex::encode(&self.0))
    }
}

impl fmt::Debug for Covered {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Covered({self})")
    }
}

impl Serialize for Covered {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Covered {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        from_text(deserializer)
    }
}

/// What identifies the code in a TEE: MRENCLAVE (32 bytes), MRTD, MEASUREMENT or PCR 0 (48), or a realm's
/// initial measurement (32, 48 or 64).
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Measurement(Bytes<64>);

impl Measurement {
    /// Takes 32, 48 or 64 bytes.
    ///
    /// # Errors
    /// [`Malformed`] for any other length: nothing is padded or cut.
    pub fn new(bytes: &[u8]) -> Result<Self, Malformed> {
        match bytes.len() {
            32 | 48 | 64 => Ok(Self(Bytes::from_slice(bytes))),
            other => Err(Malformed::value(
                "measurement",
                "length",
                0,
                "32 bytes (sgx), 48 bytes (tdx, snp, nitro), or 32, 48 or 64 bytes (cca)",
                format!("{other} bytes"),
            )),
        }
    }

    /// The bytes.
    pub fn as_bytes(&self) -> &[u8] {
        self.0.as_slice()
    }

    /// How long the measurement of a platform may be; empty for those that have registers only.
    pub const fn lengths_on(platform: Platform) -> &'static [usize] {
        match platform {
            Platform::Sgx => &[32],
            Platform::Tdx | Platform::Snp | Platform::AzureSnp | Platform::AzureTdx | Platform::Nitro => {
                &[48]
            }
            Platform::Cca => &[32, 48, 64],
            Platform::Tpm | Platform::Nvidia => &[],
        }
    }
}

impl From<[u8; 32]> for Measurement {
    fn from(bytes: [u8; 32]) -> Self {
        Self(Bytes::from_slice(&bytes))
    }
}

impl From<[u8; 48]> for Measurement {
    fn from(bytes: [u8; 48]) -> Self {
        Self(Bytes::from_slice(&bytes))
    }
}

/// What the launcher fixed beside the code: CONFIGID (64 bytes), MRCONFIGID (48) or HOST_DATA (32).
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct LaunchConfiguration(Bytes<64>);

impl LaunchConfiguration {
    /// Takes 32, 48 or 64 bytes.
    ///
    /// # Errors
    /// [`Malformed`] for any other length: nothing is padded or cut.
    pub fn new(bytes: &[u8]) -> Result<Self, Malformed> {
        match bytes.len() {
            32 | 48 | 64 => Ok(Self(Bytes::from_slice(bytes))),
            other => Err(Malformed::value(
                "launch configuration",
                "length",
                0,
                "64 bytes (sgx), 48 bytes (tdx) or 32 bytes (snp)",
                format!("{other} bytes"),
            )),
        }
    }

    /// The bytes.
    pub fn as_bytes(&self) -> &[u8] {
        self.0.as_slice()
    }

    /// How long the launch configuration of a platform is; zero for those that have none.
    pub const fn length_on(platform: Platform) -> usize {
        match platform {
            Platform::Sgx | Platform::Cca => 64,
            Platform::Tdx | Platform::AzureTdx => 48,
            Platform::Snp | Platform::AzureSnp => 32,
            Platform::Tpm | Platform::Nitro | Platform::Nvidia => 0,
        }
    }
}

/// Up to `N` bytes in place. The tail beyond `length` stays zero, so that the derived comparisons hold.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
struct Bytes<const N: usize> {
    bytes: [u8; N],
    length: usize,
}

impl<const N: usize> Bytes<N> {
    fn from_slice(slice: &[u8]) -> Self {
        let mut bytes = [0; N];
        bytes[..slice.len()].copy_from_slice(slice);
        Self { bytes, length: slice.len() }
    }

    fn as_slice(&self) -> &[u8] {
        &self.bytes[..self.length]
    }
}

macro_rules! hexadecimal_text {
    ($type:ident, $name:literal) => {
        impl fmt::Display for $type {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&hex::encode(self.as_bytes()))
            }
        }

        impl fmt::Debug for $type {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, concat!(stringify!($type), "({})"), self)
            }
        }

        impl FromStr for $type {
            type Err = Malformed;

            fn from_str(text: &str) -> Result<Self, Malformed> {
                Self::new(&decode_hex($name, text)?)
            }
        }

        impl Serialize for $type {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.collect_str(self)
            }
        }

        impl<'de> Deserialize<'de> for $type {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                from_text(deserializer)
            }
        }
    };
}

hexadecimal_text!(Measurement, "measurement");
hexadecimal_text!(LaunchConfiguration, "launch configuration");

fn decode_hex(format: &'static str, text: &str) -> Result<Vec<u8>, Malformed> {
    hex::decode(text)
        .map_err(|error| Malformed::value(format, "text", 0, "hexadecimal digits", error.to_string()))
}

fn from_text<'de, D, T>(deserializer: D) -> Result<T, D::Error>
where
    D: Deserializer<'de>,
    T: FromStr<Err = Malformed>,
{
    let text = String::deserialize(deserializer)?;
    text.parse().map_err(serde::de::Error::custom)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_measurement_is_neither_padded_nor_cut() {
        assert!(Measurement::new(&[1; 32]).is_ok());
        assert!(Measurement::new(&[1; 48]).is_ok());
        for length in [0, 31, 33, 47, 49, 63, 65] {
            assert!(Measurement::new(&vec![1; length]).is_err(), "{length}");
        }
    }

    #[test]
    fn a_short_measurement_is_not_a_prefix_of_a_long_one() {
        let mut long = [0; 48];
        long[..32].copy_from_slice(&[7; 32]);
        assert_ne!(Measurement::from([7; 32]), Measurement::from(long));
    }

    #[test]
    fn text_round_trips() {
        let measurement = Measurement::from([0xab; 48]);
        assert_eq!(measurement.to_string().parse(), Ok(measurement));
        assert!("zz".parse::<Measurement>().is_err());
        let data = ReportData([9; 64]);
        assert_eq!(data.to_string().parse(), Ok(data));
        assert!("0909".parse::<ReportData>().is_err());
    }
}

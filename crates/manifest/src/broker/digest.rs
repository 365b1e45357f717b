//! Digests of init-data: what a guest was started with, as far as its Evidence covers it.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// How a digest was made.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum HashAlgorithm {
    /// SHA-256, 32 bytes.
    Sha256,
    /// SHA-384, 48 bytes.
    Sha384,
    /// SHA-512, 64 bytes.
    Sha512,
}

impl HashAlgorithm {
    /// Every algorithm, the shortest first.
    pub const ALL: [Self; 3] = [Self::Sha256, Self::Sha384, Self::Sha512];

    /// The word for it in init-data.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Sha256 => "sha256",
            Self::Sha384 => "sha384",
            Self::Sha512 => "sha512",
        }
    }

    /// The length of its digests, in bytes.
    #[must_use]
    pub fn length(self) -> usize {
        match self {
            Self::Sha256 => 32,
            Self::Sha384 => 48,
            Self::Sha512 => 64,
        }
    }
}

/// The digest of init-data, written `sha384:<hex>`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct InitDataDigest {
    algorithm: HashAlgorithm,
    bytes: Box<[u8]>,
}

/// Bytes or text that are not the digest of init-data.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a digest of init-data is `sha256:`, `sha384:` or `sha512:` and as many hexadecimal digits")]
pub struct InvalidInitDataDigest;

impl InitDataDigest {
    /// A digest by its bytes.
    ///
    /// # Errors
    /// When they are not as many as the algorithm makes: nothing is padded or cut.
    pub fn new(algorithm: HashAlgorithm, bytes: &[u8]) -> Result<Self, InvalidInitDataDigest> {
        match bytes.len() == algorithm.length() {
            true => Ok(Self { algorithm, bytes: bytes.into() }),
            false => Err(InvalidInitDataDigest),
        }
    }

    /// How it was made.
    #[must_use]
    pub fn algorithm(&self) -> HashAlgorithm {
        self.algorithm
    }

    /// Its bytes.
    #[must_use]
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }
}

impl FromStr for InitDataDigest {
    type Err = InvalidInitDataDigest;

    fn from_str(text: &str) -> Result<Self, InvalidInitDataDigest> {
        let (word, digits) = text.split_once(':').ok_or(InvalidInitDataDigest)?;
        let algorithm = HashAlgorithm::ALL.into_iter().find(|it| it.as_str() == word);
        let bytes = hex::decode(digits).map_err(|_| InvalidInitDataDigest)?;
        Self::new(algorithm.ok_or(InvalidInitDataDigest)?, &bytes)
    }
}

impl TryFrom<String> for InitDataDigest {
    type Error = InvalidInitDataDigest;

    fn try_from(text: String) -> Result<Self, InvalidInitDataDigest> {
        text.parse()
    }
}

impl From<InitDataDigest> for String {
    fn from(digest: InitDataDigest) -> Self {
        digest.to_string()
    }
}

impl fmt::Display for InitDataDigest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.algorithm.as_str(), hex::encode(&self.bytes))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_digest_is_whole_or_none() {
        let text = format!("sha384:{}", "ab".repeat(48));
        assert_eq!(text.parse::<InitDataDigest>().expect("a digest").to_string(), text);
        for text in ["", "sha384", "sha384:", "sha1:00", "SHA256:00", &"00".repeat(32)] {
            assert_eq!(text.parse::<InitDataDigest>(), Err(InvalidInitDataDigest), "{text}");
        }
        // A digest that was cut to the field of SNP's host data is another one.
        assert!(format!("sha384:{}", "ab".repeat(32)).parse::<InitDataDigest>().is_err());
    }
}

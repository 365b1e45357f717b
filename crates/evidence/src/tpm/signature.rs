//! TPMT_SIGNATURE (TPM 2.0 Library, part 2, §11.3.4).

use super::wire;
use crate::Malformed;
use crate::eventlog::HashAlgorithm;
use crate::reader::Reader;

const FORMAT: &str = "TPMT_SIGNATURE";
const RSASSA: u16 = 0x0014;
const RSAPSS: u16 = 0x0016;
const ECDSA: u16 = 0x0018;

/// How a quote is signed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scheme {
    /// RSASSA-PKCS1-v1_5.
    RsaSsa,
    /// RSASSA-PSS.
    RsaPss,
    /// ECDSA.
    Ecdsa,
}

impl Scheme {
    /// The TCG's name for it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::RsaSsa => "RSASSA",
            Self::RsaPss => "RSAPSS",
            Self::Ecdsa => "ECDSA",
        }
    }
}

/// A signature by an attestation key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Signature {
    /// How it is made.
    pub scheme: Scheme,
    /// The digest that is signed; that of the registers is by the same algorithm.
    pub hash: HashAlgorithm,
    /// Of RSA the number; of ECDSA r and s, each as the TPM gives them, without leading zeros.
    value: Value,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Value {
    Rsa(Vec<u8>),
    Ecdsa(Vec<u8>, Vec<u8>),
}

impl Signature {
    /// Parses a signature, all of `bytes`.
    ///
    /// # Errors
    /// [`Malformed`] names the first field that is not as the format demands.
    pub fn parse(bytes: &[u8]) -> Result<Self, Malformed> {
        let mut reader = Reader::new(FORMAT, bytes);
        let algorithm = wire::u16(&mut reader, "sigAlg")?;
        let scheme = match algorithm {
            RSASSA => Scheme::RsaSsa,
            RSAPSS => Scheme::RsaPss,
            ECDSA => Scheme::Ecdsa,
            other => {
                let expected = "0x0014 (RSASSA), 0x0016 (RSAPSS) or 0x0018 (ECDSA)";
                return Err(Malformed::unsupported(FORMAT, "sigAlg", 0, expected, format!("{other:#06x}")));
            }
        };
        let hash = HashAlgorithm::from_id(wire::u16(&mut reader, "hash")?);
        let value = match scheme {
            Scheme::RsaSsa | Scheme::RsaPss => Value::Rsa(wire::sized(&mut reader, "sig")?.to_vec()),
            Scheme::Ecdsa => Value::Ecdsa(
                wire::sized(&mut reader, "signatureR")?.to_vec(),
                wire::sized(&mut reader, "signatureS")?.to_vec(),
            ),
        };
        reader.finish("TPMT_SIGNATURE")?;
        Ok(Self { scheme, hash, value })
    }

    /// An RSASSA signature with SHA-256 of which only the number travels, as Azure's forms have it.
    pub(crate) fn rsassa_sha256(number: Vec<u8>) -> Self {
        Self { scheme: Scheme::RsaSsa, hash: HashAlgorithm::Sha256, value: Value::Rsa(number) }
    }

    /// The signature as verifiers take it: the number of RSA, or r and s of `scalar` bytes each. None when r or s
    /// has more.
    pub fn fixed(&self, scalar: usize) -> Option<Vec<u8>> {
        match &self.value {
            Value::Rsa(number) => Some(number.clone()),
            Value::Ecdsa(r, s) => {
                let mut fixed = vec![0; 2 * scalar];
                let (left, right) = fixed.split_at_mut(scalar);
                for (half, number) in [(left, r), (right, s)] {
                    let start = scalar.checked_sub(number.len())?;
                    half[start..].copy_from_slice(number);
                }
                Some(fixed)
            }
        }
    }
}

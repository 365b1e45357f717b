//! Attestation keys: TPMT_PUBLIC (TPM 2.0 Library, part 2, §12.2.4), or a key alone as SubjectPublicKeyInfo (RFC 5280,
//! §4.1), which knows nothing of the TPM's rules for it.

use super::wire;
use crate::Malformed;
use crate::eventlog::HashAlgorithm;
use crate::reader::Reader;

const FORMAT: &str = "TPMT_PUBLIC";
const SPKI: &str = "SubjectPublicKeyInfo";
const RSA: u16 = 0x0001;
const ECC: u16 = 0x0023;
const NULL: u16 = 0x0010;
const CURVE_P256: u16 = 0x0003;
const CURVE_P384: u16 = 0x0004;

/// The key cannot leave its TPM.
pub const ATTRIBUTE_FIXED_TPM: u32 = 1 << 1;
/// The key cannot leave its parent.
pub const ATTRIBUTE_FIXED_PARENT: u32 = 1 << 4;
/// The TPM made the private part itself.
pub const ATTRIBUTE_SENSITIVE_DATA_ORIGIN: u32 = 1 << 5;
/// The key signs only what the TPM made.
pub const ATTRIBUTE_RESTRICTED: u32 = 1 << 16;
/// The key decrypts.
pub const ATTRIBUTE_DECRYPT: u32 = 1 << 17;
/// The key signs.
pub const ATTRIBUTE_SIGN: u32 = 1 << 18;

/// SEQUENCE { OID rsaEncryption, NULL }.
const RSA_ALGORITHM: &[u8] = &[0x30, 0x0d, 6, 9, 0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 1, 1, 1, 5, 0];
/// SEQUENCE { OID ecPublicKey, OID prime256v1 }.
const P256_ALGORITHM: &[u8] =
    &[0x30, 0x13, 6, 7, 0x2a, 0x86, 0x48, 0xce, 0x3d, 2, 1, 6, 8, 0x2a, 0x86, 0x48, 0xce, 0x3d, 3, 1, 7];
/// SEQUENCE { OID ecPublicKey, OID secp384r1 }.
const P384_ALGORITHM: &[u8] =
    &[0x30, 0x10, 6, 7, 0x2a, 0x86, 0x48, 0xce, 0x3d, 2, 1, 6, 5, 0x2b, 0x81, 4, 0, 0x22];

/// A public key, in the encodings that verifiers take.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PublicKey {
    /// DER `RSAPublicKey` (RFC 8017, §A.1.1).
    Rsa(Vec<u8>),
    /// Uncompressed point, 65 bytes.
    P256(Vec<u8>),
    /// Uncompressed point, 97 bytes.
    P384(Vec<u8>),
}

impl PublicKey {
    /// From modulus and exponent, big-endian; leading zeros do not matter.
    pub fn from_rsa(modulus: &[u8], exponent: &[u8]) -> Self {
        Self::Rsa(der(0x30, &[integer(modulus), integer(exponent)].concat()))
    }

    /// From DER `SubjectPublicKeyInfo`.
    ///
    /// # Errors
    /// [`Malformed`] for another kind of key, or another encoding than the one of DER.
    pub fn from_spki(bytes: &[u8]) -> Result<Self, Malformed> {
        let other = || {
            let expected = "an RSA key, or one on P-256 or P-384, in DER";
            Malformed::value(SPKI, "key", 0, expected, format!("{} other bytes", bytes.len()))
        };
        let whole = der_contents(bytes, 0x30).filter(|(_, rest)| rest.is_empty()).ok_or_else(other)?.0;
        let algorithms = [RSA_ALGORITHM, P256_ALGORITHM, P384_ALGORITHM];
        let algorithm = algorithms.into_iter().find(|own| whole.starts_with(own)).ok_or_else(other)?;
        let bits = der_contents(&whole[algorithm.len()..], 3).filter(|(_, rest)| rest.is_empty());
        let Some(([0, bits @ ..], _)) = bits else { return Err(other()) };
        let key = match (algorithm.len(), bits) {
            (_, bits) if algorithm == RSA_ALGORITHM => {
                let (numbers, rest) = der_contents(bits, 0x30).ok_or_else(other)?;
                let (modulus, numbers) = der_contents(numbers, 2).ok_or_else(other)?;
                let (exponent, numbers) = der_contents(numbers, 2).ok_or_else(other)?;
                if !rest.is_empty() || !numbers.is_empty() {
                    return Err(other());
                }
                Self::from_rsa(modulus, exponent)
            }
            (_, [4, ..]) if algorithm == P256_ALGORITHM && bits.len() == 65 => Self::P256(bits.to_vec()),
            (_, [4, ..]) if algorithm == P384_ALGORITHM && bits.len() == 97 => Self::P384(bits.to_vec()),
            _ => return Err(other()),
        };
        // One key, one encoding: what is enrolled is compared byte by byte.
        if key.spki() == bytes { Ok(key) } else { Err(other()) }
    }

    /// DER `SubjectPublicKeyInfo`: by it, keys are enrolled and told apart.
    pub fn spki(&self) -> Vec<u8> {
        let (algorithm, bits) = match self {
            Self::Rsa(bits) => (RSA_ALGORITHM, bits),
            Self::P256(bits) => (P256_ALGORITHM, bits),
            Self::P384(bits) => (P384_ALGORITHM, bits),
        };
        let bits = der(3, &[&[0], bits.as_slice()].concat());
        der(0x30, &[algorithm, &bits].concat())
    }

    /// RSA, P-256 or P-384.
    pub const fn kind(&self) -> &'static str {
        match self {
            Self::Rsa(_) => "RSA",
            Self::P256(_) => "P-256",
            Self::P384(_) => "P-384",
        }
    }
}

/// The key that signs quotes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AttestationKey {
    /// The key.
    pub public: PublicKey,
    /// What its TPM says of it; None where the key alone was sent.
    pub area: Option<PublicArea>,
}

/// What a TPM says of one of its keys.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PublicArea {
    /// The algorithm of the key's name.
    pub name_algorithm: HashAlgorithm,
    /// TPMA_OBJECT; see the `ATTRIBUTE_` constants.
    pub attributes: u32,
    bytes: Vec<u8>,
}

impl PublicArea {
    /// The TPMT_PUBLIC whole: the key's name is its digest.
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }
}

impl AttestationKey {
    /// A key of which only the key is known.
    pub fn bare(public: PublicKey) -> Self {
        Self { public, area: None }
    }

    /// Parses a TPMT_PUBLIC or TPM2B_PUBLIC, all of `bytes`.
    ///
    /// # Errors
    /// [`Malformed`] names the first field that is not as the format demands.
    pub fn parse(bytes: &[u8]) -> Result<Self, Malformed> {
        let bytes = wire::unsized_or_whole(bytes);
        let mut reader = Reader::new(FORMAT, bytes);
        let kind = wire::u16(&mut reader, "type")?;
        let name_algorithm = HashAlgorithm::from_id(wire::u16(&mut reader, "nameAlg")?);
        let attributes = wire::u32(&mut reader, "objectAttributes")?;
        wire::sized(&mut reader, "authPolicy")?;
        // TPMT_SYM_DEF_OBJECT: keys that sign have none, and storage keys have bits and mode.
        if wire::u16(&mut reader, "symmetric")? != NULL {
            reader.take("symmetric", 4)?;
        }
        // TPMT_RSA_SCHEME or TPMT_ECC_SCHEME; ECDAA, with its counter, is not read.
        let offset = reader.offset();
        match wire::u16(&mut reader, "scheme")? {
            NULL => {}
            0x0014 | 0x0016 | 0x0018 => {
                wire::u16(&mut reader, "scheme hash")?;
            }
            other => {
                let expected = "RSASSA, RSAPSS, ECDSA or none";
                return Err(Malformed::unsupported(
                    FORMAT,
                    "scheme",
                    offset,
                    expected,
                    format!("{other:#06x}"),
                ));
            }
        }
        let public = match kind {
            RSA => read_rsa(&mut reader)?,
            ECC => read_ecc(&mut reader)?,
            other => {
                let expected = "0x0001 (RSA) or 0x0023 (ECC)";
                return Err(Malformed::unsupported(FORMAT, "type", 0, expected, format!("{other:#06x}")));
            }
        };
        reader.finish("TPMT_PUBLIC")?;
        let area = PublicArea { name_algorithm, attributes, bytes: bytes.to_vec() };
        Ok(Self { public, area: Some(area) })
    }
}

fn read_rsa(reader: &mut Reader<'_>) -> Result<PublicKey, Malformed> {
    wire::u16(reader, "keyBits")?;
    let exponent = match wire::u32(reader, "exponent")? {
        0 => 65537,
        other => other,
    };
    let modulus = wire::sized(reader, "modulus")?;
    Ok(PublicKey::from_rsa(modulus, &exponent.to_be_bytes()))
}

fn read_ecc(reader: &mut Reader<'_>) -> Result<PublicKey, Malformed> {
    let offset = reader.offset();
    let curve = wire::u16(reader, "curveID")?;
    if wire::u16(reader, "kdf")? != NULL {
        reader.take("kdf hash", 2)?;
    }
    let (x, y) = (wire::sized(reader, "x")?, wire::sized(reader, "y")?);
    let point = |size: usize| {
        let mut point = vec![0; 1 + 2 * size];
        point[0] = 4;
        let (left, right) = point[1..].split_at_mut(size);
        for (half, number) in [(left, x), (right, y)] {
            let Some(start) = size.checked_sub(number.len()) else {
                let (expected, seen) = (format!("{size} bytes"), format!("{} bytes", number.len()));
                return Err(Malformed::value(FORMAT, "point", offset, expected, seen));
            };
            half[start..].copy_from_slice(number);
        }
        Ok(point)
    };
    match curve {
        CURVE_P256 => point(32).map(PublicKey::P256),
        CURVE_P384 => point(48).map(PublicKey::P384),
        other => {
            let expected = "0x0003 (P-256) or 0x0004 (P-384)";
            Err(Malformed::unsupported(FORMAT, "curveID", offset, expected, format!("{other:#06x}")))
        }
    }
}

/// DER INTEGER of an unsigned number.
fn integer(number: &[u8]) -> Vec<u8> {
    let zeros = number.iter().take_while(|&&byte| byte == 0).count();
    let digits = &number[zeros.min(number.len().saturating_sub(1))..];
    let lead: &[u8] = match digits.first() {
        Some(0x80..) | None => &[0],
        Some(_) => &[],
    };
    der(2, &[lead, digits].concat())
}

fn der(tag: u8, contents: &[u8]) -> Vec<u8> {
    let length = contents.len();
    let mut bytes = match length {
        0..=0x7f => vec![tag, length as u8],
        0x80..=0xff => vec![tag, 0x81, length as u8],
        _ => vec![tag, 0x82, (length >> 8) as u8, length as u8],
    };
    bytes.extend_from_slice(contents);
    bytes
}

/// The contents of a DER element of `tag`, and what follows it.
fn der_contents(bytes: &[u8], tag: u8) -> Option<(&[u8], &[u8])> {
    let (length, rest) = match *bytes {
        [seen, length @ 0..=0x7f, ref rest @ ..] if seen == tag => (usize::from(length), rest),
        [seen, 0x81, length, ref rest @ ..] if seen == tag => (usize::from(length), rest),
        [seen, 0x82, high, low, ref rest @ ..] if seen == tag => {
            (usize::from(u16::from_be_bytes([high, low])), rest)
        }
        _ => return None,
    };
    rest.split_at_checked(length)
}

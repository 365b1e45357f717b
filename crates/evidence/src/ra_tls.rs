//! Interoperable RA-TLS: X.509 certificates that carry Evidence about their own key, as Gramine, rats-tls and others
//! make them (CCC "Interoperable RA-TLS"; TCG DICE Attestation Architecture, OID 2.23.133.5.4.9).
//!
//! ```text
//! extension value = tag([evidence: bstr, claims: bstr])                 tag: 60000, 0x1a7501 Intel quote; 0x1a7504 SNP
//! claims          = {"pubkey-hash": bstr .cbor [algorithm, digest], ? "nonce": bstr, * text: bstr}
//! report data     = SHA-256(claims) ‖ zeros
//! ```
//!
//! Format only: whether the hash is that of the certificate's key, and the report data that of the claims, the crate
//! `appraisal` checks (`ra_tls`).

use std::collections::BTreeMap;

use ciborium::Value;

use crate::{Evidence, MAX_EVIDENCE, Malformed, pem, x509};

const FORMAT: &str = "RA-TLS certificate";
/// 2.23.133.5.4.9 as its DER has it, with tag and length.
const OID: [u8; 8] = [0x06, 0x06, 0x67, 0x81, 0x05, 0x05, 0x04, 0x09];
/// The object identifier of the extension: `tcg-dice-TaggedEvidence`.
pub const TAGGED_EVIDENCE_OID: [u64; 6] = [2, 23, 133, 5, 4, 9];
/// Claims beyond these are refused unread.
const MAX_CLAIMS: usize = 64 * 1024;
const MAX_CUSTOM_CLAIMS: usize = 64;

/// Whose numbers the tag is from; they differ for the same contents.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Dialect {
    /// Gramine: 60000, for quotes of Intel only.
    Gramine,
    /// rats-tls: 0x1a7501 for quotes of Intel, 0x1a7504 for reports of SEV-SNP.
    RatsTls,
}

impl Dialect {
    /// The tag for a piece of Evidence; none where the dialect has none.
    pub const fn tag(self, evidence: &Evidence) -> Option<u64> {
        match (self, evidence) {
            (Self::Gramine, Evidence::Sgx(_) | Evidence::Tdx(_)) => Some(60_000),
            (Self::RatsTls, Evidence::Sgx(_) | Evidence::Tdx(_)) => Some(0x1a_7501),
            (Self::RatsTls, Evidence::Snp(_)) => Some(0x1a_7504),
            _ => None,
        }
    }
}

/// How a key is hashed, by its number (IANA, Named Information Hash Algorithm Registry).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HashAlgorithm {
    /// 1, 32 bytes.
    Sha256,
    /// 7, 48 bytes.
    Sha384,
    /// 8, 64 bytes.
    Sha512,
}

impl HashAlgorithm {
    const ALL: [(Self, u64, usize); 3] =
        [(Self::Sha256, 1, 32), (Self::Sha384, 7, 48), (Self::Sha512, 8, 64)];

    fn of(number: u64, length: usize) -> Option<Self> {
        let found = Self::ALL.into_iter().find(|(_, own, digest)| (*own, *digest) == (number, length));
        found.map(|(algorithm, ..)| algorithm)
    }
}

/// What the Evidence says beside what the hardware does.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Claims {
    /// The exact bytes that the report data is a hash of.
    pub bytes: Vec<u8>,
    /// How the key is hashed.
    pub algorithm: HashAlgorithm,
    /// The hash of the key's DER `SubjectPublicKeyInfo`.
    pub key_hash: Vec<u8>,
    /// For freshness, where whoever verifies gave one.
    pub nonce: Option<Vec<u8>>,
    /// Everything else that was claimed.
    pub custom: BTreeMap<String, Vec<u8>>,
}

impl Claims {
    /// Claims about a key, by SHA-256 of its DER `SubjectPublicKeyInfo`.
    pub fn new(key_hash: [u8; 32], nonce: Option<&[u8]>) -> Self {
        let entry = encode(&Value::Array(vec![Value::from(1), Value::Bytes(key_hash.to_vec())]));
        let mut map = vec![(Value::from("pubkey-hash"), Value::Bytes(entry))];
        map.extend(nonce.map(|nonce| (Value::from("nonce"), Value::Bytes(nonce.to_vec()))));
        Self {
            bytes: encode(&Value::Map(map)),
            algorithm: HashAlgorithm::Sha256,
            key_hash: key_hash.to_vec(),
            nonce: nonce.map(<[u8]>::to_vec),
            custom: BTreeMap::new(),
        }
    }

    /// Reads claims.
    ///
    /// # Errors
    /// [`Malformed`] names the part that is not as it should be.
    pub fn parse(bytes: &[u8]) -> Result<Self, Malformed> {
        if bytes.len() > MAX_CLAIMS {
            return Err(Malformed::too_long(FORMAT, "claims", 0, MAX_CLAIMS, bytes.len()));
        }
        let map = decode("claims", bytes)?.into_map().map_err(|_| wrong("claims", "a map"))?;
        if map.len() > MAX_CUSTOM_CLAIMS {
            return Err(Malformed::too_long(FORMAT, "claims", 0, MAX_CUSTOM_CLAIMS, map.len()));
        }
        let mut claims = BTreeMap::new();
        for (name, value) in map {
            let name = name.into_text().map_err(|_| wrong("claim's name", "a text"))?;
            let value = value.into_bytes().map_err(|_| wrong("claim", "a byte string"))?;
            if claims.insert(name, value).is_some() {
                return Err(wrong("claims", "claims that differ in their names"));
            }
        }
        let entry =
            claims.remove("pubkey-hash").ok_or_else(|| wrong("pubkey-hash", "a claim of that name"))?;
        let (algorithm, key_hash) = key_hash(&entry)?;
        let nonce = claims.remove("nonce");
        Ok(Self { bytes: bytes.to_vec(), algorithm, key_hash, nonce, custom: claims })
    }
}

fn key_hash(entry: &[u8]) -> Result<(HashAlgorithm, Vec<u8>), Malformed> {
    const EXPECTED: &str = "the number of SHA-256, SHA-384 or SHA-512 and a digest of its length";
    let items = decode("pubkey-hash", entry)?.into_array().unwrap_or_default();
    let [number, digest] = <[Value; 2]>::try_from(items).map_err(|_| wrong("pubkey-hash", EXPECTED))?;
    let number = number.as_integer().and_then(|number| u64::try_from(number).ok());
    let digest = digest.into_bytes().map_err(|_| wrong("pubkey-hash", EXPECTED))?;
    let algorithm = number.and_then(|number| HashAlgorithm::of(number, digest.len()));
    Ok((algorithm.ok_or_else(|| wrong("pubkey-hash", EXPECTED))?, digest))
}

/// A certificate that carries Evidence about its key. Nothing of it is verified.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Certificate {
    /// The Evidence, as its platform gave it.
    pub evidence: Evidence,
    /// What it covers.
    pub claims: Claims,
    /// The certificate's own key: DER `SubjectPublicKeyInfo`.
    pub key: Vec<u8>,
}

impl Certificate {
    /// Whether bytes look like such a certificate, PEM or DER: cheap, and no promise that it can be parsed.
    pub fn recognises(bytes: &[u8]) -> bool {
        let start = bytes.trim_ascii_start();
        if !(start.starts_with(b"-----BEGIN CERTIFICATE-----") || bytes.first() == Some(&x509::SEQUENCE)) {
            return false;
        }
        let chain = pem::certificates(bytes).unwrap_or_default();
        chain.first().is_some_and(|leaf| leaf.0.windows(OID.len()).any(|window| window == OID))
    }

    /// Parses a certificate, PEM or DER; of a chain, the first.
    ///
    /// # Errors
    /// [`Malformed`] when it has no such extension, two of them, or one that is not as it should be.
    pub fn parse(bytes: &[u8]) -> Result<Self, Malformed> {
        if bytes.len() > 2 * MAX_EVIDENCE {
            return Err(Malformed::too_long(FORMAT, "length", 0, 2 * MAX_EVIDENCE, bytes.len()));
        }
        let chain = pem::certificates(bytes)?;
        let leaf = chain.first().ok_or_else(|| wrong("certificate", "one"))?;
        let (key, value) = parts(&leaf.0)?;
        let (evidence, claims) = extension(value)?;
        Ok(Self { evidence, claims, key: key.to_vec() })
    }
}

/// The value of the extension.
///
/// # Errors
/// [`Malformed`] for Evidence that cannot be parsed, or that the dialect has no tag for.
pub fn extension_value(dialect: Dialect, evidence: &[u8], claims: &Claims) -> Result<Vec<u8>, Malformed> {
    let parsed = Evidence::parse(evidence)?;
    let tag = dialect.tag(&parsed).ok_or_else(|| {
        let seen = parsed.platform().to_string();
        Malformed::unsupported(FORMAT, "tag", 0, "Evidence of a platform that has a tag", seen)
    })?;
    let items = vec![Value::Bytes(evidence.to_vec()), Value::Bytes(claims.bytes.clone())];
    Ok(encode(&Value::Tag(tag, Box::new(Value::Array(items)))))
}

fn extension(value: &[u8]) -> Result<(Evidence, Claims), Malformed> {
    let Value::Tag(tag, inner) = decode("extension", value)? else { return Err(wrong("extension", "a tag")) };
    let items = inner.into_array().unwrap_or_default();
    let [evidence, claims] =
        <[Value; 2]>::try_from(items).map_err(|_| wrong("extension", "Evidence and claims"))?;
    let evidence = evidence.into_bytes().map_err(|_| wrong("Evidence", "a byte string"))?;
    let claims = claims.into_bytes().map_err(|_| wrong("claims", "a byte string"))?;
    let evidence = Evidence::parse(&evidence)?;
    // The tag says what it is; it may not say something else.
    if ![Dialect::Gramine, Dialect::RatsTls].iter().any(|dialect| dialect.tag(&evidence) == Some(tag)) {
        let seen = format!("{tag:#x} on Evidence of {}", evidence.platform());
        return Err(Malformed::unsupported(FORMAT, "tag", 0, "60000, 0x1a7501 or 0x1a7504, as fits", seen));
    }
    Ok((evidence, Claims::parse(&claims)?))
}

/// The key and the extension of a certificate.
fn parts(der: &[u8]) -> Result<(&[u8], &[u8]), Malformed> {
    let parts = x509::take_apart(der)
        .ok_or_else(|| wrong("certificate", "DER of an X.509 certificate with extensions"))?;
    let mut own = parts.extensions.iter().filter(|(id, _)| *id == &OID[2..]);
    match (own.next(), own.next()) {
        (Some((_, value)), None) => Ok((parts.key, value)),
        (Some(_), Some(_)) => Err(wrong("extension", "one extension with Evidence")),
        (None, _) => Err(wrong("extension", "2.23.133.5.4.9 (tagged evidence)")),
    }
}

fn wrong(field: &'static str, expected: &'static str) -> Malformed {
    Malformed::value(FORMAT, field, 0, expected, "something else")
}

/// One item, and nothing after it.
fn decode(field: &'static str, bytes: &[u8]) -> Result<Value, Malformed> {
    let mut rest = bytes;
    let value = ciborium::de::from_reader_with_recursion_limit(&mut rest, 8)
        .map_err(|error| Malformed::value(FORMAT, field, 0, "one CBOR item", error.to_string()))?;
    if rest.is_empty() { Ok(value) } else { Err(wrong(field, "one CBOR item")) }
}

fn encode(value: &Value) -> Vec<u8> {
    let mut bytes = Vec::new();
    // Writing to a vector cannot fail, and the value holds nothing that CBOR cannot express.
    let written = ciborium::into_writer(value, &mut bytes);
    debug_assert!(written.is_ok());
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The bytes that Gramine writes: a map of one, a text, a byte string of 36 with an array of 1 and a digest.
    #[test]
    fn claims_are_written_as_gramine_writes_them() {
        let claims = Claims::new([7; 32], None);
        let expected = [&b"\xa1\x6bpubkey-hash\x58\x24\x82\x01\x58\x20"[..], &[7; 32]].concat();
        assert_eq!(claims.bytes, expected);
        assert_eq!(Claims::parse(&claims.bytes), Ok(claims));
        let fresh = Claims::new([7; 32], Some(b"12345678"));
        assert_eq!(Claims::parse(&fresh.bytes), Ok(fresh));
    }

    #[test]
    fn claims_that_are_not_as_they_should_be_are_refused() {
        let digest = |number: u64, length: usize| {
            encode(&Value::Array(vec![Value::from(number), Value::Bytes(vec![1; length])]))
        };
        let claims = |entries: Vec<(&str, Vec<u8>)>| {
            let entries = entries.into_iter().map(|(name, value)| (Value::from(name), Value::Bytes(value)));
            encode(&Value::Map(entries.collect()))
        };
        for (number, length) in [(1, 32), (7, 48), (8, 64)] {
            assert!(Claims::parse(&claims(vec![("pubkey-hash", digest(number, length))])).is_ok());
        }
        let custom = Claims::parse(&claims(vec![("a", vec![1]), ("pubkey-hash", digest(1, 32))])).unwrap();
        assert_eq!(custom.custom["a"], [1]);
        for wrong in [
            claims(vec![]),
            claims(vec![("nonce", vec![])]),
            claims(vec![("pubkey-hash", digest(1, 31))]),
            claims(vec![("pubkey-hash", digest(1, 48))]),
            claims(vec![("pubkey-hash", digest(2, 16))]),
            claims(vec![("pubkey-hash", vec![])]),
            claims(vec![("pubkey-hash", digest(1, 32)), ("pubkey-hash", digest(1, 32))]),
            claims(vec![("pubkey-hash", [digest(1, 32), vec![0]].concat())]),
            [claims(vec![("pubkey-hash", digest(1, 32))]), vec![0]].concat(),
            vec![0xff; 64],
            vec![0; MAX_CLAIMS + 1],
        ] {
            assert!(Claims::parse(&wrong).is_err(), "{}", hex::encode(&wrong[..wrong.len().min(80)]));
        }
    }
}

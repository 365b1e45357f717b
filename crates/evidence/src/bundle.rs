//! A bundle: one file with all that an appraisal of one platform needs from its vendor, revocation included, and
//! signed by whoever made it. COSE_Sign1 (RFC 9052, §4.2), tagged, of one array of fixed shape. Read strictly, and
//! not verified: the signatures that decide are the vendors', inside. The maker's tells where a bundle comes from,
//! and the crate `endorsements` makes and checks it.
//!
//! ```text
//! 18([ << {1: -7, 4: signer} >>, {}, << ["bailey/bundle/1", subject, made_at, [not_before, not_after],
//!      [evaluation, root CA CRL, PCK CRL, AMD CRL], endorsements] >>, signature ])
//! ```

use ciborium::Value;

use crate::endorsements::MAX_ENDORSEMENTS;
use crate::{Endorsements, Malformed};

const FORMAT: &str = "bundle";
const SCHEMA: &str = "bailey/bundle/1";
/// COSE_Sign1 (RFC 9052, §2).
const COSE_SIGN1: u64 = 18;
/// ECDSA with SHA-256, on P-256 here (RFC 9053, §2.1).
const ES256: i64 = -7;
/// Bundles longer than this are refused unread.
pub const MAX_BUNDLE: usize = MAX_ENDORSEMENTS + 1024;
/// A subject is at most this long.
pub const MAX_SUBJECT: usize = 200;

/// The numbers by which later statements of a vendor are told from earlier ones.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Numbers {
    /// Intel: the evaluation data number, the lower one of TCB info and QE identity.
    pub evaluation: Option<u64>,
    /// Intel: the root CA's list.
    pub root_ca_crl: Option<u64>,
    /// Intel: the PCK CA's list.
    pub pck_crl: Option<u64>,
    /// AMD: the list.
    pub amd_crl: Option<u64>,
}

/// What is in a bundle.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Contents {
    /// The platform: lower case letters, digits and hyphens, at most [`MAX_SUBJECT`].
    pub subject: String,
    /// When it was made, as its maker says: seconds since 1970.
    pub made_at: i64,
    /// From when all parts hold: seconds since 1970.
    pub not_before: i64,
    /// Until when all parts hold.
    pub not_after: i64,
    /// How new they are.
    pub numbers: Numbers,
    /// What the vendor signed.
    pub endorsements: Endorsements,
}

/// A bundle as its file holds it; who signed it is not verified.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Bundle {
    /// What is in it.
    pub contents: Contents,
    /// SHA-256 of its maker's public key, DER `SubjectPublicKeyInfo`.
    pub signer: [u8; 32],
    /// ECDSA P-256 over SHA-256 of [`Contents::to_be_signed`]: r and s, big-endian.
    pub signature: [u8; 64],
}

impl Contents {
    /// What the maker signs: the `Sig_structure` of RFC 9052, §4.4.
    pub fn to_be_signed(&self, signer: &[u8; 32]) -> Vec<u8> {
        encode(&Value::Array(vec![
            Value::Text("Signature1".into()),
            Value::Bytes(protected(signer)),
            Value::Bytes(Vec::new()),
            Value::Bytes(self.payload()),
        ]))
    }

    fn payload(&self) -> Vec<u8> {
        let number = |number: Option<u64>| number.map_or(Value::Null, Value::from);
        let Numbers { evaluation, root_ca_crl, pck_crl, amd_crl } = self.numbers;
        encode(&Value::Array(vec![
            Value::Text(SCHEMA.into()),
            Value::Text(self.subject.clone()),
            Value::from(self.made_at),
            Value::Array(vec![Value::from(self.not_before), Value::from(self.not_after)]),
            Value::Array([evaluation, root_ca_crl, pck_crl, amd_crl].map(number).into()),
            Value::Bytes(self.endorsements.to_bytes()),
        ]))
    }
}

impl Bundle {
    /// Whether bytes look like a bundle: cheap, and no promise that they can be decoded.
    pub fn recognises(bytes: &[u8]) -> bool {
        // Tag 18, an array of four.
        bytes.starts_with(&[0xd2, 0x84])
    }

    /// Encodes the bundle.
    pub fn to_bytes(&self) -> Vec<u8> {
        encode(&Value::Tag(
            COSE_SIGN1,
            Box::new(Value::Array(vec![
                Value::Bytes(protected(&self.signer)),
                Value::Map(Vec::new()),
                Value::Bytes(self.contents.payload()),
                Value::Bytes(self.signature.to_vec()),
            ])),
        ))
    }

    /// Decodes what [`Bundle::to_bytes`] wrote, and nothing else: bounded, without unknown parts, in that one
    /// encoding.
    ///
    /// # Errors
    /// [`Malformed`] names the part that is not as it should be.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, Malformed> {
        if bytes.len() > MAX_BUNDLE {
            return Err(Malformed::too_long(FORMAT, "length", 0, MAX_BUNDLE, bytes.len()));
        }
        let Value::Tag(COSE_SIGN1, envelope) = decode("COSE_Sign1", bytes)? else {
            return Err(Malformed::value(FORMAT, "tag", 0, "18 (COSE_Sign1)", "another item"));
        };
        let [headers, _, payload, signature] = items("COSE_Sign1", *envelope)?;
        let headers = byte_string("protected headers", headers)?;
        let signer = signer(&headers)?;
        let bundle = Self {
            contents: contents(&byte_string("payload", payload)?)?,
            signer,
            signature: fixed("signature", byte_string("signature", signature)?)?,
        };
        // One meaning, one encoding: unprotected headers, trailing bytes and padded integers end here.
        if bundle.to_bytes() != bytes {
            let seen = "another encoding, or more than belongs into it";
            return Err(Malformed::value(FORMAT, "CBOR", 0, "the deterministic encoding", seen));
        }
        Ok(bundle)
    }
}

fn protected(signer: &[u8; 32]) -> Vec<u8> {
    encode(&Value::Map(vec![
        (Value::from(1), Value::from(ES256)),
        (Value::from(4), Value::Bytes(signer.to_vec())),
    ]))
}

fn signer(headers: &[u8]) -> Result<[u8; 32], Malformed> {
    let Value::Map(entries) = decode("protected headers", headers)? else {
        return Err(Malformed::value(FORMAT, "protected headers", 0, "a map", "another item"));
    };
    let key = entries.into_iter().find_map(|(label, value)| (label == Value::from(4)).then_some(value));
    fixed("signer", byte_string("signer", key.unwrap_or(Value::Null))?)
}

fn contents(payload: &[u8]) -> Result<Contents, Malformed> {
    let [schema, subject, made_at, window, numbers, endorsements] =
        items("payload", decode("payload", payload)?)?;
    if schema.as_text() != Some(SCHEMA) {
        return Err(Malformed::unsupported(FORMAT, "schema", 0, SCHEMA, "another schema"));
    }
    let [not_before, not_after] = items("window", window)?;
    let [evaluation, root_ca_crl, pck_crl, amd_crl] = items("numbers", numbers)?;
    Ok(Contents {
        subject: subject_text(subject)?,
        made_at: integer("made at", made_at)?,
        not_before: integer("not before", not_before)?,
        not_after: integer("not after", not_after)?,
        numbers: Numbers {
            evaluation: number(evaluation)?,
            root_ca_crl: number(root_ca_crl)?,
            pck_crl: number(pck_crl)?,
            amd_crl: number(amd_crl)?,
        },
        endorsements: Endorsements::from_bytes(&byte_string("endorsements", endorsements)?)?,
    })
}

/// It becomes part of a file's name.
fn subject_text(value: Value) -> Result<String, Malformed> {
    let plain = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
    match value {
        Value::Text(text) if (1..=MAX_SUBJECT).contains(&text.len()) && text.bytes().all(plain) => Ok(text),
        _ => {
            let expected = "1 to 200 lower case letters, digits and hyphens";
            Err(Malformed::value(FORMAT, "subject", 0, expected, "something else"))
        }
    }
}

fn integer(field: &'static str, value: Value) -> Result<i64, Malformed> {
    let integer = value.as_integer().and_then(|integer| i64::try_from(integer).ok());
    integer.ok_or_else(|| Malformed::value(FORMAT, field, 0, "an integer of 64 bits", "another item"))
}

fn number(value: Value) -> Result<Option<u64>, Malformed> {
    if value.is_null() {
        return Ok(None);
    }
    let number = value.as_integer().and_then(|integer| u64::try_from(integer).ok());
    number.map(Some).ok_or_else(|| Malformed::value(FORMAT, "number", 0, "a number or null", "another item"))
}

fn byte_string(field: &'static str, value: Value) -> Result<Vec<u8>, Malformed> {
    value.into_bytes().map_err(|_| Malformed::value(FORMAT, field, 0, "a byte string", "another item"))
}

fn fixed<const N: usize>(field: &'static str, bytes: Vec<u8>) -> Result<[u8; N], Malformed> {
    <[u8; N]>::try_from(bytes.as_slice()).map_err(|_| {
        Malformed::value(FORMAT, field, 0, format!("{N} bytes"), format!("{} bytes", bytes.len()))
    })
}

fn items<const N: usize>(field: &'static str, value: Value) -> Result<[Value; N], Malformed> {
    value
        .into_array()
        .ok()
        .and_then(|array| <[Value; N]>::try_from(array).ok())
        .ok_or_else(|| Malformed::value(FORMAT, field, 0, format!("an array of {N} items"), "another item"))
}

fn decode(field: &'static str, bytes: &[u8]) -> Result<Value, Malformed> {
    ciborium::de::from_reader_with_recursion_limit(bytes, 16)
        .map_err(|error| Malformed::value(FORMAT, field, 0, "one CBOR item", error.to_string()))
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

    fn sample() -> Bundle {
        let contents = Contents {
            subject: "tdx-b0c06f000000-platform".into(),
            made_at: 1_790_000_000,
            not_before: -1,
            not_after: 1_790_000_001,
            numbers: Numbers { evaluation: Some(20), amd_crl: Some(u64::MAX), ..Numbers::default() },
            endorsements: Endorsements::default(),
        };
        Bundle { contents, signer: [7; 32], signature: [9; 64] }
    }

    #[test]
    fn bundles_round_trip() {
        assert_eq!(Bundle::from_bytes(&sample().to_bytes()), Ok(sample()));
    }

    #[test]
    fn every_truncation_and_extension_is_refused() {
        let bytes = sample().to_bytes();
        for length in 0..bytes.len() {
            assert!(Bundle::from_bytes(&bytes[..length]).is_err(), "{length}");
        }
        assert!(Bundle::from_bytes(&[bytes, vec![0]].concat()).is_err());
        assert!(Bundle::from_bytes(&vec![0; MAX_BUNDLE + 1]).is_err());
    }

    #[test]
    fn a_subject_is_a_plain_name() {
        for subject in ["", "../../etc/passwd", "TDX", "a/b", "ü", "a\0b", &"a".repeat(201)] {
            let mut bundle = sample();
            bundle.contents.subject = subject.into();
            let refused = Bundle::from_bytes(&bundle.to_bytes());
            assert!(matches!(refused, Err(Malformed { field: "subject", .. })), "{subject:?}: {refused:?}");
        }
    }

    #[test]
    fn unprotected_headers_are_refused() {
        let bytes = sample().to_bytes();
        // The empty map after the protected headers (tag, array, byte string of 40 bytes) gets an entry.
        let at = 2 + 2 + protected(&[7; 32]).len();
        assert_eq!(bytes[at], 0xa0);
        let mut changed = bytes.clone();
        changed.splice(at..=at, [0xa1, 0x01, 0x26]);
        let refused = Bundle::from_bytes(&changed);
        assert!(matches!(refused, Err(Malformed { field: "CBOR", .. })), "{refused:?}");
    }
}

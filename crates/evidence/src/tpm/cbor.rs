//! Our own container for the parts of TPM Evidence, and Parsec's.
//!
//! Ours is an array, in the one deterministic encoding: `["bailey/tpm/1", TPMT_PUBLIC, [[TPMS_ATTEST,
//! TPMT_SIGNATURE, [[bank, register, value]…]]…], event log or null, [certificate…]]`. Bank is the algorithm's
//! identifier in the TCG's registry.

use ciborium::Value;

use super::{Attest, Attestation, Container, FORMAT, Quote, Signature};
use crate::eventlog::HashAlgorithm;
use crate::{CertificateDer, Malformed};

/// The name that our own container begins with.
pub const SCHEMA: &str = "bailey/tpm/1";
/// An array of five whose first item is a text of 12 bytes.
const HEAD: &[u8] = b"\x85\x6cbailey/tpm/1";
/// A map of two whose first key is `kat`, of Parsec's (draft-fossati-tls-attestation, "Parsec's TPM format").
const PARSEC_HEAD: &[u8] = b"\xa2\x63kat";

/// The parts of TPM Evidence, as a TPM gives them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Parts {
    /// TPMT_PUBLIC or TPM2B_PUBLIC of the attestation key.
    pub public: Vec<u8>,
    /// The quotes: one for each bank, or one for several.
    pub quotes: Vec<QuoteParts>,
    /// The event log as the firmware keeps it.
    pub event_log: Option<Vec<u8>>,
    /// The certificates of the key and of its issuers, in any order.
    pub certificates: Vec<CertificateDer>,
}

/// A quote as a TPM gives it, with the registers that it covers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct QuoteParts {
    /// TPMS_ATTEST.
    pub message: Vec<u8>,
    /// TPMT_SIGNATURE.
    pub signature: Vec<u8>,
    /// Bank, register and value of all that the quote selects.
    pub values: Vec<(HashAlgorithm, u8, Vec<u8>)>,
}

impl Parts {
    /// Encodes as [`SCHEMA`].
    pub fn to_bytes(&self) -> Vec<u8> {
        let bytes = |bytes: &[u8]| Value::Bytes(bytes.to_vec());
        let value = |(bank, register, value): &(HashAlgorithm, u8, Vec<u8>)| {
            Value::Array(vec![bank.id().into(), (*register).into(), bytes(value)])
        };
        let quote = |quote: &QuoteParts| {
            let values = quote.values.iter().map(value).collect();
            Value::Array(vec![bytes(&quote.message), bytes(&quote.signature), Value::Array(values)])
        };
        let document = Value::Array(vec![
            SCHEMA.into(),
            bytes(&self.public),
            Value::Array(self.quotes.iter().map(quote).collect()),
            self.event_log.as_deref().map_or(Value::Null, bytes),
            Value::Array(self.certificates.iter().map(|der| bytes(&der.0)).collect()),
        ]);
        let mut encoded = Vec::new();
        // Writing to a vector cannot fail, and the value holds nothing that CBOR cannot express.
        let written = ciborium::into_writer(&document, &mut encoded);
        debug_assert!(written.is_ok());
        encoded
    }

    /// Decodes what [`Parts::to_bytes`] wrote, in that encoding only.
    ///
    /// # Errors
    /// [`Malformed`] names the part that is not as it should be.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, Malformed> {
        let document = read(bytes)?;
        let [schema, public, quotes, event_log, certificates] = items("document", document)?;
        if schema.as_text() != Some(SCHEMA) {
            return Err(Malformed::unsupported(FORMAT, "schema", 0, SCHEMA, format!("{schema:?}")));
        }
        let quotes = array("quotes", quotes)?.into_iter().map(quote_parts).collect::<Result<_, _>>()?;
        let event_log = match event_log {
            Value::Null => None,
            other => Some(byte_string("event log", other)?),
        };
        let certificates = array("certificates", certificates)?
            .into_iter()
            .map(|der| byte_string("certificate", der).map(CertificateDer))
            .collect::<Result<_, _>>()?;
        let parts = Self { public: byte_string("public", public)?, quotes, event_log, certificates };
        if parts.to_bytes() != bytes {
            let expected = "the deterministic encoding";
            return Err(Malformed::value(FORMAT, "CBOR", 0, expected, "another encoding"));
        }
        Ok(parts)
    }
}

pub(super) fn recognises(bytes: &[u8]) -> bool {
    bytes.starts_with(HEAD) || bytes.starts_with(PARSEC_HEAD)
}

pub(super) fn parse(bytes: &[u8]) -> Result<Attestation, Malformed> {
    if bytes.starts_with(PARSEC_HEAD) {
        return parse_parsec(bytes);
    }
    Attestation::from_parts(&Parts::from_bytes(bytes)?)
}

fn quote_parts(value: Value) -> Result<QuoteParts, Malformed> {
    let [message, signature, values] = items("quote", value)?;
    let values = array("PCR values", values)?.into_iter().map(|value| {
        let [bank, register, value] = items("PCR value", value)?;
        let bank = HashAlgorithm::from_id(small("bank", &bank)?);
        Ok((bank, small("register", &register)?, byte_string("PCR value", value)?))
    });
    Ok(QuoteParts {
        message: byte_string("message", message)?,
        signature: byte_string("signature", signature)?,
        values: values.collect::<Result<_, _>>()?,
    })
}

/// Parsec's form: `{"kat": {…, "certInfo"}, "pat": {…, "sig", "attestInfo"}}`. The second is a quote; the first
/// certifies a key of the application's by the same attestation key, which is named by an identifier only. Values of
/// registers do not come along.
fn parse_parsec(bytes: &[u8]) -> Result<Attestation, Malformed> {
    let Value::Map(document) = read(bytes)? else { return Err(other("document", "a map")) };
    let pat = member("pat", &document)?;
    let attest = Attest::parse(sub_bytes("attestInfo", pat)?)?;
    let signature = Signature::parse(sub_bytes("sig", pat)?)?;
    let quote = Quote::new(attest, Some(signature), [])?;
    Attestation::new(Container::Parsec, None, vec![quote], None, Vec::new())
}

fn member<'a>(name: &'static str, map: &'a [(Value, Value)]) -> Result<&'a [(Value, Value)], Malformed> {
    match only(name, map)? {
        Value::Map(inner) => Ok(inner),
        _ => Err(other(name, "a map")),
    }
}

fn sub_bytes<'a>(name: &'static str, map: &'a [(Value, Value)]) -> Result<&'a [u8], Malformed> {
    match only(name, map)? {
        Value::Bytes(bytes) => Ok(bytes),
        _ => Err(other(name, "a byte string")),
    }
}

fn only<'a>(name: &'static str, map: &'a [(Value, Value)]) -> Result<&'a Value, Malformed> {
    let mut found = map.iter().filter(|(key, _)| key.as_text() == Some(name));
    match (found.next(), found.next()) {
        (Some((_, value)), None) => Ok(value),
        _ => Err(other(name, "the member once")),
    }
}

fn read(bytes: &[u8]) -> Result<Value, Malformed> {
    let mut rest = bytes;
    let value = ciborium::de::from_reader_with_recursion_limit(&mut rest, 16)
        .map_err(|error| Malformed::value(FORMAT, "CBOR", 0, "one item", error.to_string()))?;
    if rest.is_empty() {
        return Ok(value);
    }
    let seen = format!("{} bytes more", rest.len());
    Err(Malformed::value(FORMAT, "CBOR", bytes.len() - rest.len(), "one item", seen))
}

fn items<const N: usize>(field: &'static str, value: Value) -> Result<[Value; N], Malformed> {
    <[Value; N]>::try_from(array(field, value)?).map_err(|seen| {
        Malformed::value(FORMAT, field, 0, format!("an array of {N} items"), format!("{} items", seen.len()))
    })
}

fn array(field: &'static str, value: Value) -> Result<Vec<Value>, Malformed> {
    value.into_array().map_err(|_| other(field, "an array"))
}

fn byte_string(field: &'static str, value: Value) -> Result<Vec<u8>, Malformed> {
    value.into_bytes().map_err(|_| other(field, "a byte string"))
}

fn small<T: TryFrom<u64>>(field: &'static str, value: &Value) -> Result<T, Malformed> {
    let number = value.as_integer().and_then(|number| u64::try_from(number).ok());
    number.and_then(|number| T::try_from(number).ok()).ok_or_else(|| other(field, "a small number"))
}

fn other(field: &'static str, expected: &'static str) -> Malformed {
    Malformed::value(FORMAT, field, 0, expected, "another item")
}

//! AWS Nitro Enclaves: attestation documents (COSE_Sign1, RFC 9052; AWS Nitro Enclaves, "Attestation process", §3.2).

use std::collections::BTreeMap;

use ciborium::Value;
use coset::{CborSerializable, CoseSign1, RegisteredLabelWithPrivate, TaggedCborSerializable, iana};

use crate::{CertificateDer, Covered, Malformed, Measurement, pem};

const FORMAT: &str = "Nitro document";
/// AWS's limits: a document has at most 16 KiB.
const MAX_DOCUMENT: usize = 16 * 1024;
/// A certificate with a document inside, as RA-TLS libraries for Nitro make them.
const MAX_CONTAINER: usize = 64 * 1024;
const MAX_CERTIFICATE: usize = 1024;
const MAX_FREE_FIELD: usize = 1024;
/// Protected headers of ES384 alone, and the start of a COSE_Sign1 array that has them.
const START: [u8; 6] = [0x84, 0x44, 0xa1, 0x01, 0x38, 0x22];

/// An attestation document.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Document {
    signed: Vec<u8>,
    signature: Vec<u8>,
    module_id: String,
    timestamp_ms: u64,
    pcrs: BTreeMap<u8, Vec<u8>>,
    certificate: CertificateDer,
    cabundle: Vec<CertificateDer>,
    public_key: Option<Vec<u8>>,
    user_data: Option<Vec<u8>>,
    nonce: Option<Vec<u8>>,
    unknown_fields: Vec<String>,
    in_certificate: bool,
}

impl Document {
    /// Whether bytes look like Evidence of this kind: cheap, and no promise that they can be parsed.
    pub(crate) fn recognises(bytes: &[u8]) -> bool {
        let untagged = bytes.strip_prefix(&[0xd2]).unwrap_or(bytes);
        untagged.starts_with(&START) || container(bytes).is_some()
    }

    /// Parses a document, or a certificate that has one inside.
    ///
    /// # Errors
    /// [`Malformed`] names the first field that is not as its format demands.
    pub fn parse(bytes: &[u8]) -> Result<Self, Malformed> {
        if let Some(certificate) = container(bytes) {
            let at = find(&certificate, &START).unwrap_or_default();
            let mut document = Self::read(&certificate[at..], true)?;
            document.in_certificate = true;
            return Ok(document);
        }
        Self::read(bytes, false)
    }

    fn read(bytes: &[u8], more_follows: bool) -> Result<Self, Malformed> {
        if bytes.len() > MAX_DOCUMENT && !more_follows {
            return Err(Malformed::too_long(FORMAT, "length", 0, MAX_DOCUMENT, bytes.len()));
        }
        let bytes = if more_follows { first_item(bytes)? } else { bytes };
        let malformed = |error: coset::CoseError| {
            Malformed::value(FORMAT, "COSE_Sign1", 0, "one of ES384", error.to_string())
        };
        let cose = match bytes.first() {
            Some(0xd2) => CoseSign1::from_tagged_slice(bytes),
            _ => CoseSign1::from_slice(bytes),
        }
        .map_err(malformed)?;
        if cose.protected.header.alg != Some(RegisteredLabelWithPrivate::Assigned(iana::Algorithm::ES384)) {
            return Err(Malformed::unsupported(FORMAT, "algorithm", 0, "ES384", "another"));
        }
        if cose.signature.len() != 96 {
            let seen = format!("{} bytes", cose.signature.len());
            return Err(Malformed::value(FORMAT, "signature", 0, "96 bytes", seen));
        }
        let signed = cose.tbs_data(&[]);
        let payload = cose.payload.as_deref().unwrap_or_default();
        let mut rest = payload;
        let value: Value = ciborium::de::from_reader_with_recursion_limit(&mut rest, 8)
            .map_err(|error| Malformed::value(FORMAT, "payload", 0, "a CBOR map", error.to_string()))?;
        let (Value::Map(members), []) = (value, rest) else {
            return Err(Malformed::value(
                FORMAT,
                "payload",
                0,
                "a CBOR map and nothing after it",
                "another item",
            ));
        };
        let mut fields = Fields::new(members)?;
        let digest = fields.text("digest")?;
        if digest != "SHA384" {
            return Err(Malformed::unsupported(FORMAT, "digest", 0, "SHA384", digest));
        }
        let document = Self {
            signed,
            signature: cose.signature,
            module_id: fields.text("module_id")?,
            timestamp_ms: fields.unsigned("timestamp")?,
            pcrs: fields.pcrs()?,
            certificate: CertificateDer(fields.bytes("certificate", 1, MAX_CERTIFICATE)?),
            cabundle: fields.certificates()?,
            public_key: fields.optional("public_key")?,
            user_data: fields.optional("user_data")?,
            nonce: fields.optional("nonce")?,
            unknown_fields: fields.0.into_keys().collect(),
            in_certificate: false,
        };
        Ok(document)
    }

    /// What the signature covers (RFC 9052, §4.4).
    pub fn signed(&self) -> &[u8] {
        &self.signed
    }

    /// r and s, 48 bytes each, big-endian.
    pub fn signature(&self) -> &[u8] {
        &self.signature
    }

    /// The instance and enclave, as the hypervisor calls them.
    pub fn module_id(&self) -> &str {
        &self.module_id
    }

    /// When the document was made, milliseconds since 1970.
    pub fn timestamp_ms(&self) -> u64 {
        self.timestamp_ms
    }

    /// The platform configuration registers, by index.
    pub fn pcrs(&self) -> &BTreeMap<u8, Vec<u8>> {
        &self.pcrs
    }

    /// The certificate of the key that signed.
    pub fn certificate(&self) -> &CertificateDer {
        &self.certificate
    }

    /// The certificates of its issuers. The root among them is not trusted for being there.
    pub fn cabundle(&self) -> &[CertificateDer] {
        &self.cabundle
    }

    /// A key that the enclave asked to be covered.
    pub fn public_key(&self) -> Option<&[u8]> {
        self.public_key.as_deref()
    }

    /// Data that the enclave asked to be covered.
    pub fn user_data(&self) -> Option<&[u8]> {
        self.user_data.as_deref()
    }

    /// The asker's nonce.
    pub fn nonce(&self) -> Option<&[u8]> {
        self.nonce.as_deref()
    }

    /// Members that this version does not know.
    pub fn unknown_fields(&self) -> &[String] {
        &self.unknown_fields
    }

    /// Whether the document came inside a certificate, whose own key is not looked at.
    pub fn is_in_certificate(&self) -> bool {
        self.in_certificate
    }

    /// Whether the enclave runs in debug mode: the hypervisor then reports registers of zeros.
    pub fn is_debug(&self) -> bool {
        (0..3).all(|index| self.pcrs.get(&index).is_none_or(|value| value.iter().all(|&byte| byte == 0)))
    }

    /// The nonce when there is one, or else the user data; nothing when there is neither.
    pub fn covered(&self) -> Covered {
        Covered::new(self.nonce.as_deref().or(self.user_data.as_deref()).unwrap_or_default())
    }

    /// PCR 0: the enclave image.
    pub fn measurement(&self) -> Option<Measurement> {
        Measurement::new(self.pcrs.get(&0)?).ok()
    }

    /// Nitro has no launch configuration beside its registers.
    pub fn launch_configuration(&self) -> &[u8] {
        &[]
    }

    /// Everything measured: `pcr0`, …; and what the enclave asked to be covered, by name.
    pub fn measured(&self) -> BTreeMap<String, String> {
        let registers = self
            .pcrs
            .iter()
            .filter(|(index, value)| matches!(index, 0..=4 | 8) || value.iter().any(|&byte| byte != 0));
        let mut measured: BTreeMap<_, _> =
            registers.map(|(index, value)| (format!("pcr{index}"), hex::encode(value))).collect();
        for (name, value) in
            [("public_key", &self.public_key), ("user_data", &self.user_data), ("nonce", &self.nonce)]
        {
            measured.extend(value.as_ref().map(|value| (name.to_owned(), hex::encode(value))));
        }
        measured
    }
}

/// The certificate, DER, that holds a document.
fn container(bytes: &[u8]) -> Option<Vec<u8>> {
    if bytes.len() > MAX_CONTAINER {
        return None;
    }
    let certificate = match bytes {
        [0x30, 0x82, ..] => bytes.to_vec(),
        [b'-', b'-', ..] => {
            let chain = pem::certificates(bytes).ok()?;
            chain.into_iter().find(|certificate| find(&certificate.0, &START).is_some())?.0
        }
        _ => return None,
    };
    find(&certificate, &START)?;
    Some(certificate)
}

fn find(bytes: &[u8], start: &[u8]) -> Option<usize> {
    bytes.windows(start.len()).position(|window| window == start)
}

/// The bytes of the first CBOR item.
fn first_item(bytes: &[u8]) -> Result<&[u8], Malformed> {
    let mut rest = bytes;
    let _: Value = ciborium::de::from_reader_with_recursion_limit(&mut rest, 8)
        .map_err(|error| Malformed::value(FORMAT, "COSE_Sign1", 0, "a CBOR item", error.to_string()))?;
    Ok(&bytes[..bytes.len() - rest.len()])
}

/// The members of the payload that were not taken yet.
struct Fields(BTreeMap<String, Value>);

impl Fields {
    fn new(members: Vec<(Value, Value)>) -> Result<Self, Malformed> {
        let mut fields = BTreeMap::new();
        for (name, value) in members {
            let Value::Text(name) = name else {
                return Err(Malformed::value(FORMAT, "payload", 0, "names as text", "another item"));
            };
            if fields.insert(name, value).is_some() {
                return Err(Malformed::value(FORMAT, "payload", 0, "every name once", "a name twice"));
            }
        }
        Ok(Self(fields))
    }

    fn take(&mut self, name: &'static str) -> Result<Value, Malformed> {
        self.0.remove(name).ok_or_else(|| Malformed::value(FORMAT, name, 0, "a value", "nothing"))
    }

    fn text(&mut self, name: &'static str) -> Result<String, Malformed> {
        match self.take(name)? {
            Value::Text(text) if !text.is_empty() && text.len() <= 256 => Ok(text),
            _ => Err(Malformed::value(FORMAT, name, 0, "a text of 1 to 256 bytes", "something else")),
        }
    }

    fn unsigned(&mut self, name: &'static str) -> Result<u64, Malformed> {
        self.take(name)?
            .as_integer()
            .and_then(|number| u64::try_from(number).ok())
            .ok_or_else(|| Malformed::value(FORMAT, name, 0, "an unsigned integer", "something else"))
    }

    fn bytes(&mut self, name: &'static str, least: usize, most: usize) -> Result<Vec<u8>, Malformed> {
        byte_string(name, self.take(name)?, least, most)
    }

    fn optional(&mut self, name: &'static str) -> Result<Option<Vec<u8>>, Malformed> {
        match self.0.remove(name) {
            None | Some(Value::Null) => Ok(None),
            Some(value) => {
                byte_string(name, value, 0, MAX_FREE_FIELD).map(|bytes| Some(bytes).filter(|b| !b.is_empty()))
            }
        }
    }

    fn certificates(&mut self) -> Result<Vec<CertificateDer>, Malformed> {
        match self.take("cabundle")? {
            Value::Array(items) if (1..=8).contains(&items.len()) => items
                .into_iter()
                .map(|item| byte_string("cabundle", item, 1, MAX_CERTIFICATE).map(CertificateDer))
                .collect(),
            _ => Err(Malformed::value(
                FORMAT,
                "cabundle",
                0,
                "an array of 1 to 8 certificates",
                "something else",
            )),
        }
    }

    fn pcrs(&mut self) -> Result<BTreeMap<u8, Vec<u8>>, Malformed> {
        const EXPECTED: &str = "a map of 1 to 32 registers, 0 to 31, of 32, 48 or 64 bytes";
        let wrong = || Malformed::value(FORMAT, "pcrs", 0, EXPECTED, "something else");
        let Value::Map(members) = self.take("pcrs")? else { return Err(wrong()) };
        let mut pcrs = BTreeMap::new();
        for (index, value) in members {
            let index =
                index.as_integer().and_then(|index| u8::try_from(index).ok()).filter(|index| *index < 32);
            let (Some(index), Value::Bytes(value)) = (index, value) else { return Err(wrong()) };
            if !matches!(value.len(), 32 | 48 | 64) || pcrs.insert(index, value).is_some() {
                return Err(wrong());
            }
        }
        if pcrs.is_empty() { Err(wrong()) } else { Ok(pcrs) }
    }
}

fn byte_string(name: &'static str, value: Value, least: usize, most: usize) -> Result<Vec<u8>, Malformed> {
    match value {
        Value::Bytes(bytes) if (least..=most).contains(&bytes.len()) => Ok(bytes),
        Value::Bytes(bytes) => {
            let (expected, seen) = (format!("{least} to {most} bytes"), format!("{} bytes", bytes.len()));
            Err(Malformed::value(FORMAT, name, 0, expected, seen))
        }
        _ => Err(Malformed::value(FORMAT, name, 0, "a byte string", "another item")),
    }
}

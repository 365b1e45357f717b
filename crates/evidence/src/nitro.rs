//! AWS Nitro Enclaves: attestation documents (COSE_Sign1, RFC 9052), as the Nitro Secure Module makes them.
//!
//! Source: aws-nitro-enclaves-nsm-api, docs/attestation_process.md, §3. Limits are those of its CDDL. A document may
//! also travel in a certificate, whose key it then should name; see [`Carrier`].

mod carrier;

use std::collections::BTreeMap;

use crate::cbor::{Cursor, Key};
use crate::cose::{Algorithm, Sign1};
use crate::{CertificateDer, Covered, Malformed, Measurement};

pub use carrier::Carrier;

const FORMAT: &str = "Nitro document";
/// A document with every field at its limit has about 16 KiB.
const MAX_DOCUMENT: usize = 32 * 1024;
/// AWS's own chains have four certificates beside the leaf.
const MAX_CABUNDLE: usize = 8;
const MAX_CERTIFICATE: usize = 1024;
const MAX_USER_DATA: usize = 1024;
/// PCRs that [`Document::measured`] always tells: image, kernel, application, IAM role, instance id, image signer.
const ALWAYS_TOLD: [u8; 6] = [0, 1, 2, 3, 4, 8];

/// An attestation document, not verified.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Document {
    sign1: Sign1,
    module_id: String,
    timestamp_ms: u64,
    pcrs: BTreeMap<u8, Vec<u8>>,
    certificate: CertificateDer,
    cabundle: Vec<CertificateDer>,
    public_key: Option<Vec<u8>>,
    user_data: Option<Vec<u8>>,
    nonce: Option<Vec<u8>>,
    carrier: Option<Carrier>,
}

impl Document {
    /// Whether bytes look like Evidence of this kind: cheap, and no promise that they can be parsed.
    pub(crate) fn recognises(bytes: &[u8]) -> bool {
        is_document(bytes) || carrier::recognises(bytes)
    }

    /// Parses a document (COSE_Sign1, tagged or not), or a certificate that carries one (DER, or PEM of a chain whose
    /// first certificate does).
    ///
    /// # Errors
    /// [`Malformed`] names the first field that is not as its format demands.
    pub fn parse(bytes: &[u8]) -> Result<Self, Malformed> {
        if is_document(bytes) {
            return Self::read(bytes);
        }
        let (carrier, document) = carrier::read(bytes)?;
        Ok(Self { carrier: Some(carrier), ..Self::read(&document)? })
    }

    fn read(bytes: &[u8]) -> Result<Self, Malformed> {
        if bytes.len() > MAX_DOCUMENT {
            return Err(Malformed::too_long(FORMAT, "length", 0, MAX_DOCUMENT, bytes.len()));
        }
        let sign1 = Sign1::parse(FORMAT, bytes, 0)?;
        if sign1.algorithm() != Algorithm::Es384 {
            let seen = sign1.algorithm().to_string();
            return Err(Malformed::unsupported(FORMAT, "algorithm", 0, "ES384", seen));
        }
        let payload = Payload::read(sign1.payload(FORMAT))?;
        let absent = |field| Malformed::value(FORMAT, field, 0, "a value", "none");
        let pcrs = payload.pcrs.ok_or_else(|| absent("pcrs"))?;
        // Whether the enclave can be debugged is told by these alone.
        if let Some(index) = (0..=2).find(|index| !pcrs.contains_key(index)) {
            return Err(Malformed::value(FORMAT, "pcrs", 0, "PCR 0, 1 and 2", format!("no PCR {index}")));
        }
        payload.digest.ok_or_else(|| absent("digest"))?;
        Ok(Self {
            module_id: payload.module_id.ok_or_else(|| absent("module_id"))?.to_owned(),
            timestamp_ms: payload.timestamp.ok_or_else(|| absent("timestamp"))?,
            pcrs,
            certificate: payload.certificate.ok_or_else(|| absent("certificate"))?,
            cabundle: payload.cabundle.ok_or_else(|| absent("cabundle"))?,
            public_key: payload.public_key.flatten().map(<[u8]>::to_vec),
            user_data: payload.user_data.flatten().map(<[u8]>::to_vec),
            nonce: payload.nonce.flatten().map(<[u8]>::to_vec),
            carrier: None,
            sign1,
        })
    }

    /// The signed message around the claims.
    pub fn sign1(&self) -> &Sign1 {
        &self.sign1
    }

    /// The name of the Nitro Secure Module: the parent instance, and the enclave on it.
    pub fn module_id(&self) -> &str {
        &self.module_id
    }

    /// The parent instance: what is before `-enc` in the module's name.
    pub fn instance_id(&self) -> &str {
        self.module_id.rsplit_once("-enc").map_or(&self.module_id, |(instance, _)| instance)
    }

    /// When the document was made, in milliseconds since 1970, by the clock of the hypervisor.
    pub fn timestamp_ms(&self) -> u64 {
        self.timestamp_ms
    }

    /// The platform configuration registers by index.
    pub fn pcrs(&self) -> &BTreeMap<u8, Vec<u8>> {
        &self.pcrs
    }

    /// Whether one of PCR 0 to 2 is all zero. In production each is a digest; an enclave that was started in debug
    /// mode has zeros there.
    pub fn is_debug(&self) -> bool {
        (0..=2).any(|index| self.pcrs.get(&index).is_none_or(|pcr| is_zero(pcr)))
    }

    /// The certificate of the key that signed the document.
    pub fn certificate(&self) -> &CertificateDer {
        &self.certificate
    }

    /// The issuers, from the root to the certificate's own.
    pub fn cabundle(&self) -> &[CertificateDer] {
        &self.cabundle
    }

    /// A key that the enclave asked to be covered, in the enclave's own encoding.
    pub fn public_key(&self) -> Option<&[u8]> {
        self.public_key.as_deref()
    }

    /// What the enclave asked to be covered.
    pub fn user_data(&self) -> Option<&[u8]> {
        self.user_data.as_deref()
    }

    /// A nonce that the enclave asked to be covered.
    pub fn nonce(&self) -> Option<&[u8]> {
        self.nonce.as_deref()
    }

    /// The certificate that the document came in, when it came in one.
    pub fn carrier(&self) -> Option<&Carrier> {
        self.carrier.as_ref()
    }

    /// The nonce when there is one, otherwise the user data, otherwise nothing. Reference values can name the others
    /// as registers: see [`Document::measured`].
    pub fn covered(&self) -> Covered {
        Covered::new(self.nonce().or(self.user_data()).unwrap_or_default())
    }

    /// PCR 0: the digest of the enclave's image.
    pub fn measurement(&self) -> Option<Measurement> {
        self.pcrs.get(&0).and_then(|pcr| Measurement::new(pcr).ok())
    }

    /// Nothing: what the launcher configured is in the PCRs.
    pub fn launch_configuration(&self) -> &[u8] {
        &[]
    }

    /// `pcr0` to `pcr31`, of which those beyond 0 to 4 and 8 only when not zero; `user_data`, `nonce` and
    /// `public_key` when present. All in hexadecimal.
    pub fn measured(&self) -> BTreeMap<String, String> {
        let pcrs = self
            .pcrs
            .iter()
            .filter(|(index, pcr)| ALWAYS_TOLD.contains(index) || !is_zero(pcr))
            .map(|(index, pcr)| (format!("pcr{index}"), hex::encode(pcr)));
        let named =
            [("user_data", self.user_data()), ("nonce", self.nonce()), ("public_key", self.public_key())]
                .into_iter()
                .filter_map(|(name, value)| Some((name.to_owned(), hex::encode(value?))));
        pcrs.chain(named).collect()
    }
}

/// COSE_Sign1 with a protected header: an array of four that begins with a byte string, tagged 18 or not.
fn is_document(bytes: &[u8]) -> bool {
    matches!(bytes, [0x84, 0x40..=0x5b, ..] | [0xd2, 0x84, 0x40..=0x5b, ..])
}

fn is_zero(bytes: &[u8]) -> bool {
    bytes.iter().all(|&byte| byte == 0)
}

/// The claims as they stand; outer `None` means that the key was not there. An optional value may also be null.
#[derive(Default)]
struct Payload<'a> {
    module_id: Option<&'a str>,
    digest: Option<()>,
    timestamp: Option<u64>,
    pcrs: Option<BTreeMap<u8, Vec<u8>>>,
    certificate: Option<CertificateDer>,
    cabundle: Option<Vec<CertificateDer>>,
    public_key: Option<Option<&'a [u8]>>,
    user_data: Option<Option<&'a [u8]>>,
    nonce: Option<Option<&'a [u8]>>,
}

impl<'a> Payload<'a> {
    fn read(mut cursor: Cursor<'a>) -> Result<Self, Malformed> {
        let mut payload = Self::default();
        let mut left = cursor.map("payload")?;
        while cursor.more(&mut left) {
            let offset = cursor.offset();
            let key = cursor.key("payload")?;
            let twice =
                || Malformed::value(FORMAT, "payload", offset, "each key once", format!("{key} twice"));
            let Key::Text(name) = key else {
                return Err(cursor.value("payload", offset, "a known key", key.to_string()));
            };
            match name {
                "module_id" => put(&mut payload.module_id, module_id(&mut cursor)?, twice)?,
                "digest" => put(&mut payload.digest, digest(&mut cursor)?, twice)?,
                "timestamp" => put(&mut payload.timestamp, timestamp(&mut cursor)?, twice)?,
                "pcrs" => put(&mut payload.pcrs, pcrs(&mut cursor)?, twice)?,
                "certificate" => put(&mut payload.certificate, certificate(&mut cursor)?, twice)?,
                "cabundle" => put(&mut payload.cabundle, cabundle(&mut cursor)?, twice)?,
                "public_key" => put(&mut payload.public_key, optional(&mut cursor, "public_key", 1)?, twice)?,
                "user_data" => put(&mut payload.user_data, optional(&mut cursor, "user_data", 0)?, twice)?,
                "nonce" => put(&mut payload.nonce, optional(&mut cursor, "nonce", 0)?, twice)?,
                _ => return Err(cursor.value("payload", offset, "a known key", key.to_string())),
            }
        }
        cursor.finish("payload")?;
        Ok(payload)
    }
}

fn put<T>(slot: &mut Option<T>, value: T, twice: impl FnOnce() -> Malformed) -> Result<(), Malformed> {
    match slot.replace(value) {
        None => Ok(()),
        Some(_) => Err(twice()),
    }
}

fn module_id<'a>(cursor: &mut Cursor<'a>) -> Result<&'a str, Malformed> {
    let offset = cursor.offset();
    let text = cursor.text("module_id")?;
    let fits = (1..=256).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_graphic());
    if fits {
        Ok(text)
    } else {
        Err(cursor.value("module_id", offset, "1 to 256 printable characters", text))
    }
}

fn digest(cursor: &mut Cursor<'_>) -> Result<(), Malformed> {
    let offset = cursor.offset();
    match cursor.text("digest")? {
        "SHA384" => Ok(()),
        other => Err(Malformed::unsupported(FORMAT, "digest", offset, "SHA384", other)),
    }
}

fn timestamp(cursor: &mut Cursor<'_>) -> Result<u64, Malformed> {
    let offset = cursor.offset();
    match cursor.unsigned("timestamp")? {
        0 => Err(cursor.value("timestamp", offset, "milliseconds since 1970", "0")),
        // Beyond this, seconds would not be a time that people write.
        late if late > 253_402_300_799_999 => {
            Err(cursor.value("timestamp", offset, "milliseconds up to the year 9999", late.to_string()))
        }
        time => Ok(time),
    }
}

fn pcrs(cursor: &mut Cursor<'_>) -> Result<BTreeMap<u8, Vec<u8>>, Malformed> {
    let mut pcrs = BTreeMap::new();
    let mut left = cursor.map("pcrs")?;
    while cursor.more(&mut left) {
        let offset = cursor.offset();
        let index = match cursor.unsigned("PCR index")? {
            index @ 0..32 => index as u8,
            other => return Err(cursor.value("PCR index", offset, "0 to 31", other.to_string())),
        };
        let value = cursor.bytes_of("PCR", 32..=64, &[32, 48, 64])?;
        if pcrs.insert(index, value.to_vec()).is_some() {
            return Err(cursor.value("pcrs", offset, "each index once", format!("{index} twice")));
        }
    }
    Ok(pcrs)
}

fn certificate(cursor: &mut Cursor<'_>) -> Result<CertificateDer, Malformed> {
    cursor.bytes_of("certificate", 1..=MAX_CERTIFICATE, &[]).map(|der| CertificateDer(der.to_vec()))
}

fn cabundle(cursor: &mut Cursor<'_>) -> Result<Vec<CertificateDer>, Malformed> {
    let offset = cursor.offset();
    let mut bundle = Vec::new();
    let mut left = cursor.array("cabundle")?;
    while cursor.more(&mut left) {
        if bundle.len() == MAX_CABUNDLE {
            return Err(cursor.value("cabundle", offset, "at most 8 certificates", "more"));
        }
        bundle.push(certificate(cursor)?);
    }
    match bundle.is_empty() {
        true => Err(cursor.value("cabundle", offset, "a certificate", "none")),
        false => Ok(bundle),
    }
}

fn optional<'a>(
    cursor: &mut Cursor<'a>,
    field: &'static str,
    least: usize,
) -> Result<Option<&'a [u8]>, Malformed> {
    if cursor.has_null() {
        return Ok(None);
    }
    cursor.bytes_of(field, least..=MAX_USER_DATA, &[]).map(Some)
}

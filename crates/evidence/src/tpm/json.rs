//! TPM Evidence as JSON: that of Trustee's TPM attester, of go-attestation, and of a quote alone as Azure's libraries
//! write it. Members that nothing here needs are ignored: none of them is signed.

use base64::Engine as _;
use base64::alphabet;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
use serde::de::{SeqAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::{Attest, Attestation, AttestationKey, Container, FORMAT, PublicKey, Quote, Signature, wire};
use crate::Malformed;
use crate::eventlog::{EventLog, HashAlgorithm};

const INDIFFERENT: GeneralPurposeConfig =
    GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent);
const STANDARD: GeneralPurpose = GeneralPurpose::new(&alphabet::STANDARD, INDIFFERENT);
const URL_SAFE: GeneralPurpose = GeneralPurpose::new(&alphabet::URL_SAFE, INDIFFERENT);

/// Bytes as JSON has them: an array of numbers, or text in hexadecimal or base64.
pub(crate) enum Blob {
    Bytes(Vec<u8>),
    Text(String),
}

impl Blob {
    pub(crate) fn hexadecimal(self, field: &'static str) -> Result<Vec<u8>, Malformed> {
        match self {
            Self::Bytes(bytes) => Ok(bytes),
            Self::Text(text) => hex::decode(text)
                .map_err(|error| Malformed::value(FORMAT, field, 0, "hexadecimal digits", error.to_string())),
        }
    }

    /// Either alphabet, with padding or without.
    pub(crate) fn base64(self, field: &'static str) -> Result<Vec<u8>, Malformed> {
        let text = match self {
            Self::Bytes(bytes) => return Ok(bytes),
            Self::Text(text) => text,
        };
        let engine = if text.contains(['-', '_']) { URL_SAFE } else { STANDARD };
        engine.decode(text).map_err(|error| Malformed::value(FORMAT, field, 0, "base64", error.to_string()))
    }
}

impl Serialize for Blob {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Bytes(bytes) => serializer.collect_seq(bytes),
            Self::Text(text) => serializer.serialize_str(text),
        }
    }
}

impl<'de> Deserialize<'de> for Blob {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Either;
        impl<'de> Visitor<'de> for Either {
            type Value = Blob;

            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("text or an array of bytes")
            }

            fn visit_str<E>(self, text: &str) -> Result<Blob, E> {
                Ok(Blob::Text(text.to_owned()))
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut sequence: A) -> Result<Blob, A::Error> {
                let mut bytes = Vec::new();
                while let Some(byte) = sequence.next_element()? {
                    bytes.push(byte);
                }
                Ok(Blob::Bytes(bytes))
            }
        }
        deserializer.deserialize_any(Either)
    }
}

/// A quote as Azure's libraries write it: an RSASSA signature with SHA-256, the bare number.
#[derive(Deserialize)]
pub(crate) struct WireQuote {
    message: Blob,
    signature: Blob,
    pcrs: Vec<Blob>,
}

impl WireQuote {
    pub(crate) fn read(self) -> Result<Quote, Malformed> {
        let attest = Attest::parse(&self.message.hexadecimal("message")?)?;
        let signature = Signature::rsassa_sha256(self.signature.hexadecimal("signature")?);
        let values = self.pcrs.into_iter().map(|value| value.hexadecimal("PCR value"));
        Quote::with_unnamed(attest, Some(signature), values.collect::<Result<_, _>>()?)
    }
}

pub(super) fn recognises(bytes: &[u8]) -> bool {
    container(bytes).is_some()
}

fn container(bytes: &[u8]) -> Option<Container> {
    let text = bytes.trim_ascii_start().strip_prefix(b"{")?;
    let has = |name: &[u8]| text.windows(name.len()).any(|window| window == name);
    if has(b"\"ak_public\"") && has(b"\"tpm_quote\"") {
        Some(Container::Trustee)
    } else if has(b"\"PCRAlg\"") && has(b"\"Quote\"") {
        Some(Container::GoAttestation)
    } else if has(b"\"message\"") && has(b"\"pcrs\"") && has(b"\"signature\"") {
        Some(Container::AzureQuote)
    } else {
        None
    }
}

pub(super) fn parse(bytes: &[u8]) -> Result<Attestation, Malformed> {
    match container(bytes) {
        Some(Container::Trustee) => read::<Trustee>(bytes)?.read(),
        Some(Container::GoAttestation) => read::<GoAttestation>(bytes)?.read(),
        Some(Container::AzureQuote) => {
            let quote = read::<WireQuote>(bytes)?.read()?;
            Attestation::new(Container::AzureQuote, None, vec![quote], None, Vec::new())
        }
        _ => {
            let expected = "a container of TPM quotes";
            Err(Malformed::unsupported(FORMAT, "format", 0, expected, format!("{} other bytes", bytes.len())))
        }
    }
}

fn read<'de, T: Deserialize<'de>>(bytes: &'de [u8]) -> Result<T, Malformed> {
    serde_json::from_slice(bytes).map_err(|error| {
        Malformed::value(FORMAT, "JSON", 0, "the members of its container", error.to_string())
    })
}

/// Trustee, attester `tpm`: the key as SubjectPublicKeyInfo, the quote in the TPM's own structures.
#[derive(Deserialize)]
struct Trustee {
    ak_public: Blob,
    tpm_quote: TrusteeQuote,
    #[serde(default)]
    eventlog: Option<Blob>,
}

#[derive(Deserialize)]
struct TrusteeQuote {
    message: Blob,
    signature: Blob,
    pcrs: Vec<Blob>,
}

impl Trustee {
    fn read(self) -> Result<Attestation, Malformed> {
        let key = PublicKey::from_spki(&self.ak_public.base64("ak_public")?)?;
        let message = self.tpm_quote.message.base64("message")?;
        let attest = Attest::parse(wire::unsized_or_whole(&message))?;
        let signature = Signature::parse(&self.tpm_quote.signature.base64("signature")?)?;
        let values = self.tpm_quote.pcrs.into_iter().map(|value| value.hexadecimal("PCR value"));
        let quote = Quote::with_unnamed(attest, Some(signature), values.collect::<Result<_, _>>()?)?;
        let log = self.eventlog.map(|log| EventLog::parse(&log.base64("eventlog")?)).transpose()?;
        let key = Some(AttestationKey::bare(key));
        Attestation::new(Container::Trustee, key, vec![quote], log, Vec::new())
    }
}

/// go-attestation's dump of a TPM (attest/attest-tool/internal/types.go).
#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct GoAttestation {
    #[serde(rename = "AK")]
    ak: GoKey,
    quote: GoQuote,
    log: GoLog,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct GoKey {
    public: Blob,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct GoQuote {
    quote: Blob,
    signature: Blob,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct GoLog {
    #[serde(rename = "PCRs")]
    pcrs: Vec<GoRegister>,
    #[serde(default)]
    raw: Option<Blob>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct GoRegister {
    index: u8,
    digest: Blob,
    digest_alg: u8,
}

impl GoAttestation {
    fn read(self) -> Result<Attestation, Malformed> {
        let key = AttestationKey::parse(&self.ak.public.base64("AK.Public")?)?;
        let attest = Attest::parse(wire::unsized_or_whole(&self.quote.quote.base64("Quote.Quote")?))?;
        let signature = Signature::parse(&self.quote.signature.base64("Quote.Signature")?)?;
        let values = self.log.pcrs.into_iter().map(|register| {
            // Numbers of Go's crypto.Hash.
            let bank = match register.digest_alg {
                3 => HashAlgorithm::Sha1,
                5 => HashAlgorithm::Sha256,
                6 => HashAlgorithm::Sha384,
                7 => HashAlgorithm::Sha512,
                other => {
                    let expected = "3 (SHA-1), 5 (SHA-256), 6 (SHA-384) or 7 (SHA-512)";
                    return Err(Malformed::value(FORMAT, "DigestAlg", 0, expected, other.to_string()));
                }
            };
            Ok((bank, register.index, register.digest.base64("Digest")?))
        });
        let quote = Quote::new(attest, Some(signature), values.collect::<Result<Vec<_>, _>>()?)?;
        let log = self.log.raw.map(|raw| EventLog::parse(&raw.base64("Log.Raw")?)).transpose()?;
        Attestation::new(Container::GoAttestation, Some(key), vec![quote], log, Vec::new())
    }
}

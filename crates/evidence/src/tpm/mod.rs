//! TPM 2.0 quotes with what they need to be read: attestation key, PCR values, event log (TPM 2.0 Library,
//! part 2).
//!
//! There is no one container for these, so several are read, recognised by content: ours ([`SCHEMA`]), the protobuf of
//! go-tpm-tools, the JSON of Trustee and of go-attestation, Parsec's CBOR, and an attestation structure alone. A
//! container's fields that nothing here needs are not read; all that counts is signed by the key.

mod attest;
mod cbor;
mod json;
mod key;
mod protobuf;
mod signature;
mod wire;

use std::collections::BTreeMap;

use crate::eventlog::{EventLog, HashAlgorithm};
use crate::{CertificateDer, Covered, Malformed, Measurement};

pub use attest::{Attest, Clock, KIND_QUOTE, MAGIC, PcrSelection};
pub use cbor::{Parts, QuoteParts, SCHEMA};
pub(crate) use json::{Blob, WireQuote};
pub use key::{
    ATTRIBUTE_DECRYPT, ATTRIBUTE_FIXED_PARENT, ATTRIBUTE_FIXED_TPM, ATTRIBUTE_RESTRICTED,
    ATTRIBUTE_SENSITIVE_DATA_ORIGIN, ATTRIBUTE_SIGN, AttestationKey, PublicArea, PublicKey,
};
pub use signature::{Scheme, Signature};

const FORMAT: &str = "TPM evidence";
/// One quote for each bank is the most that makes sense.
const MAX_QUOTES: usize = 8;
/// Certificates of key and issuers.
const MAX_CERTIFICATES: usize = 8;

/// Which container the Evidence came in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Container {
    /// Ours, or made from parts.
    Bailey,
    /// The protobuf message `attest.Attestation` of go-tpm-tools.
    GoTpmTools,
    /// JSON of Trustee's TPM attester.
    Trustee,
    /// JSON of go-attestation.
    GoAttestation,
    /// CBOR of Parsec's key attestation.
    Parsec,
    /// JSON of a quote alone, as Azure's libraries write it.
    AzureQuote,
    /// A TPMS_ATTEST or TPM2B_ATTEST alone.
    Bare,
}

impl Container {
    /// What people call it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Bailey => "bailey/tpm/1",
            Self::GoTpmTools => "go-tpm-tools",
            Self::Trustee => "Trustee",
            Self::GoAttestation => "go-attestation",
            Self::Parsec => "Parsec",
            Self::AzureQuote => "a quote in Azure's JSON",
            Self::Bare => "an attestation structure alone",
        }
    }
}

/// Quotes of one key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Attestation {
    container: Container,
    key: Option<AttestationKey>,
    quotes: Vec<Quote>,
    event_log: Option<EventLog>,
    certificates: Vec<CertificateDer>,
}

/// A quote with the values of the registers that it covers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Quote {
    /// What the TPM attests.
    pub attest: Attest,
    /// The signature over it; None where it was not sent.
    pub signature: Option<Signature>,
    /// The values of registers as they were sent, each of the length of its bank.
    pub values: BTreeMap<(HashAlgorithm, u8), Vec<u8>>,
}

impl Quote {
    /// Takes the values as they are named. Whether they are those that the quote covers is for the appraisal.
    ///
    /// # Errors
    /// [`Malformed`] when a value has not the length of its bank, or comes twice.
    pub fn new(
        attest: Attest,
        signature: Option<Signature>,
        values: impl IntoIterator<Item = (HashAlgorithm, u8, Vec<u8>)>,
    ) -> Result<Self, Malformed> {
        let mut named = BTreeMap::new();
        for (bank, register, value) in values {
            if bank.size() != Some(value.len()) || register > 31 {
                let expected = match bank.size() {
                    Some(size) => format!("{size} bytes in the bank {bank}, register 0 to 31"),
                    None => "a bank that is known".into(),
                };
                let seen = format!("{} bytes, register {register} of {bank}", value.len());
                return Err(Malformed::value(FORMAT, "PCR value", 0, expected, seen));
            }
            if named.insert((bank, register), value).is_some() {
                let seen = format!("{register} of {bank} twice");
                return Err(Malformed::value(FORMAT, "PCR value", 0, "each register once", seen));
            }
        }
        Ok(Self { attest, signature, values: named })
    }

    /// For values that come without a name: they are those of the selected registers, in order, all of one bank.
    ///
    /// # Errors
    /// [`Malformed`] when their number or length is another.
    pub(crate) fn with_unnamed(
        attest: Attest,
        signature: Option<Signature>,
        values: Vec<Vec<u8>>,
    ) -> Result<Self, Malformed> {
        let selected: Vec<_> = attest.selected().collect();
        if selected.len() != values.len() || attest.selections.len() != 1 {
            let expected = format!("{}, as the quote selects, of one bank", selected.len());
            let seen = format!("{} of {} banks", values.len(), attest.selections.len());
            return Err(Malformed::value(FORMAT, "PCR values", 0, expected, seen));
        }
        let named = selected.into_iter().zip(values).map(|((bank, register), value)| (bank, register, value));
        Self::new(attest, signature, named.collect::<Vec<_>>())
    }
}

impl Attestation {
    /// Whether bytes look like Evidence of this kind: cheap, and no promise that they can be parsed.
    pub(crate) fn recognises(bytes: &[u8]) -> bool {
        is_attest(bytes) || cbor::recognises(bytes) || protobuf::recognises(bytes) || json::recognises(bytes)
    }

    /// Parses Evidence of this kind.
    ///
    /// # Errors
    /// [`Malformed`] names the first field that is not as its format demands.
    pub fn parse(bytes: &[u8]) -> Result<Self, Malformed> {
        if bytes.len() > crate::MAX_EVIDENCE {
            return Err(Malformed::too_long(FORMAT, "length", 0, crate::MAX_EVIDENCE, bytes.len()));
        }
        if is_attest(bytes) {
            let attest = Attest::parse(wire::unsized_or_whole(bytes))?;
            let quote = Quote::new(attest, None, [])?;
            return Self::new(Container::Bare, None, vec![quote], None, Vec::new());
        }
        if cbor::recognises(bytes) {
            return cbor::parse(bytes);
        }
        if protobuf::recognises(bytes) {
            return protobuf::parse(bytes);
        }
        json::parse(bytes)
    }

    /// Puts Evidence together from its parts.
    ///
    /// # Errors
    /// [`Malformed`] names the part that is not as its format demands.
    pub fn from_parts(parts: &Parts) -> Result<Self, Malformed> {
        let key = AttestationKey::parse(&parts.public)?;
        let quotes = parts.quotes.iter().map(|quote| {
            let attest = Attest::parse(wire::unsized_or_whole(&quote.message))?;
            let signature = Signature::parse(&quote.signature)?;
            Quote::new(attest, Some(signature), quote.values.iter().cloned())
        });
        let event_log = parts.event_log.as_deref().map(EventLog::parse).transpose()?;
        let quotes = quotes.collect::<Result<_, _>>()?;
        Self::new(Container::Bailey, Some(key), quotes, event_log, parts.certificates.clone())
    }

    fn new(
        container: Container,
        key: Option<AttestationKey>,
        quotes: Vec<Quote>,
        event_log: Option<EventLog>,
        certificates: Vec<CertificateDer>,
    ) -> Result<Self, Malformed> {
        let counts = |field, expected: &'static str, seen: usize| {
            Malformed::value(FORMAT, field, 0, expected, seen.to_string())
        };
        let Some(first) = quotes.first().filter(|_| quotes.len() <= MAX_QUOTES) else {
            return Err(counts("quotes", "1 to 8", quotes.len()));
        };
        if certificates.len() > MAX_CERTIFICATES {
            return Err(counts("certificates", "at most 8", certificates.len()));
        }
        if quotes.iter().any(|quote| quote.attest.extra_data != first.attest.extra_data) {
            return Err(Malformed::value(FORMAT, "extraData", 0, "one nonce in all quotes", "several"));
        }
        let mut banks: Vec<_> = quotes.iter().flat_map(|quote| &quote.attest.selections).collect();
        banks.sort_by_key(|selection| selection.bank);
        if let Some(twice) = banks.windows(2).find(|pair| pair[0].bank == pair[1].bank) {
            // Two quotes of one bank could give one register two values.
            let seen = format!("{} in two quotes", twice[0].bank);
            return Err(Malformed::value(FORMAT, "pcrSelect", 0, "each bank in one quote", seen));
        }
        Ok(Self { container, key, quotes, event_log, certificates })
    }

    /// Which container it came in.
    pub fn container(&self) -> Container {
        self.container
    }

    /// The key that is said to have signed; None where the container has none.
    pub fn key(&self) -> Option<&AttestationKey> {
        self.key.as_ref()
    }

    /// The quotes: at least one.
    pub fn quotes(&self) -> &[Quote] {
        &self.quotes
    }

    /// The event log that came along.
    pub fn event_log(&self) -> Option<&EventLog> {
        self.event_log.as_ref()
    }

    pub(crate) fn attach(&mut self, log: EventLog) {
        self.event_log = Some(log);
    }

    /// The certificates that came along: of the key and of its issuers, in any order.
    pub fn certificates(&self) -> &[CertificateDer] {
        &self.certificates
    }

    /// What the Evidence covers because its asker wanted so: the nonce, of all quotes the same.
    pub fn covered(&self) -> Covered {
        Covered::new(self.quotes.first().map_or(&[][..], |quote| &quote.attest.extra_data))
    }

    /// None: registers tell what the code is.
    pub fn measurement(&self) -> Option<Measurement> {
        None
    }

    /// Empty: a TPM has none.
    pub fn launch_configuration(&self) -> &[u8] {
        &[]
    }

    /// Everything measured, by the name that verdicts and reference values use: `pcr7.sha256` in hexadecimal,
    /// `firmware_version` in decimal.
    pub fn measured(&self) -> BTreeMap<String, String> {
        let mut measured: BTreeMap<_, _> = self.quotes.iter().flat_map(measured_registers).collect();
        if let Some(quote) = self.quotes.first() {
            measured.insert("firmware_version".into(), quote.attest.firmware_version.to_string());
        }
        measured
    }
}

/// The registers of a quote by name.
pub(crate) fn measured_registers(quote: &Quote) -> impl Iterator<Item = (String, String)> + '_ {
    quote.values.iter().map(|((bank, register), value)| (format!("pcr{register}.{bank}"), hex::encode(value)))
}

fn is_attest(bytes: &[u8]) -> bool {
    wire::unsized_or_whole(bytes).starts_with(&MAGIC)
}

//! Event logs: what firmware, boot loader and kernel extended into the registers of a TPM (TCG PC Client Platform
//! Firmware Profile, "Event Logging"; TCG EFI Protocol) or of a confidential VM (UEFI 2.10, §38 "Confidential
//! Computing"; ACPI table CCEL).
//!
//! Both forms are read: crypto-agile logs (`Spec ID Event03`), and logs of SHA-1 alone. A log is the word of whoever
//! sent it. Digests are worth something once they replay to registers that a TEE or a TPM signed; even then an
//! event's kind is covered by nothing, and its data only where the digest is one of that very data.

mod algorithm;
mod content;
mod describe;
mod device_path;
pub mod kind;
mod signatures;
#[cfg(test)]
mod tests;
mod windows;

pub use algorithm::HashAlgorithm;
pub use content::{
    Content, GLOBAL_VARIABLE, Grub, IMAGE_SECURITY_DATABASE, Image, TAG_ATTESTATION_AGENT, TAG_INITRD,
    TAG_LOAD_OPTIONS, Tagged, Variable,
};
pub use describe::EventDescription;
pub use signatures::SignatureDatabase;
pub use windows::{TRUST_BOUNDARY, WindowsEvent};

use crate::Malformed;
use crate::reader::Reader;

const FORMAT: &str = "event log";
/// A log longer than this is refused unread: ACPI areas of one MiB are in use, most of it padding.
pub const MAX_LENGTH: usize = 1024 * 1024;
/// More events are refused. Real logs have some hundred.
pub const MAX_EVENTS: usize = 16 * 1024;
/// More algorithms are refused: TPMs have up to five banks.
const MAX_ALGORITHMS: usize = 16;
const SIGNATURE_AGILE: &[u8; 16] = b"Spec ID Event03\0";
const SIGNATURE_LEGACY: &[u8; 13] = b"Spec ID Event";

/// A parsed event log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EventLog {
    algorithms: Vec<HashAlgorithm>,
    agile: bool,
    events: Vec<Event>,
    padding: usize,
}

/// One event.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Event {
    /// The register: a PCR, or in the log of a confidential VM the index of a measurement register (0 is MRTD, 1 to
    /// 4 are RTMR 0 to 3; TDX Virtual Firmware Design Guide, §8.1).
    pub register: u32,
    /// The kind; see [`kind`].
    pub kind: u32,
    /// One digest for each algorithm, in the order of the log.
    pub digests: Vec<(HashAlgorithm, Vec<u8>)>,
    /// What the log says was measured. Covered by the digests only for some kinds.
    pub data: Vec<u8>,
}

impl Event {
    /// The digest by an algorithm.
    pub fn digest(&self, algorithm: HashAlgorithm) -> Option<&[u8]> {
        self.digests.iter().find(|(own, _)| *own == algorithm).map(|(_, digest)| &digest[..])
    }

    /// Whether the event was extended into its register: all are but those of [`kind::EV_NO_ACTION`].
    pub fn is_extended(&self) -> bool {
        self.kind != kind::EV_NO_ACTION
    }
}

impl EventLog {
    /// Whether bytes look like an event log: cheap, and no promise that they can be parsed.
    pub fn recognises(bytes: &[u8]) -> bool {
        let Some((head, data)) = bytes.split_first_chunk::<32>() else { return false };
        let word = |at: usize| u32::from_le_bytes([head[at], head[at + 1], head[at + 2], head[at + 3]]);
        let fits = word(28) as usize <= data.len();
        let first = word(4);
        // Firmware measures its version, its contents or a POST code first.
        let plausible = matches!(first, 0x1 | 0x7 | 0x8) || data.starts_with(SIGNATURE_LEGACY);
        fits && word(0) <= 23 && plausible
    }

    /// Parses a log. Zeros or bytes of 0xff up to the end are padding: firmware gives the operating system an area
    /// that is larger than the log.
    ///
    /// # Errors
    /// [`Malformed`] names the first field that is not as its format demands.
    pub fn parse(bytes: &[u8]) -> Result<Self, Malformed> {
        if bytes.len() > MAX_LENGTH {
            return Err(Malformed::too_long(FORMAT, "length", 0, MAX_LENGTH, bytes.len()));
        }
        if bytes.starts_with(b"CCEL") && bytes.len() < 64 {
            let seen = "an ACPI table CCEL, which tells the log's address only";
            return Err(Malformed::unsupported(FORMAT, "first event", 0, "the log itself", seen));
        }
        let mut reader = Reader::new(FORMAT, bytes);
        let first = read_legacy_event(&mut reader)?;
        if first.data.starts_with(SIGNATURE_AGILE) {
            return Self::read_agile(first, reader);
        }
        if first.kind == kind::EV_NO_ACTION && !first.data.starts_with(SIGNATURE_LEGACY) {
            let expected = "EV_NO_ACTION with a Spec ID, or a measurement";
            let seen = "EV_NO_ACTION without a Spec ID";
            return Err(Malformed::value(FORMAT, "first event", 4, expected, seen));
        }
        let mut events = vec![first];
        let padding = read_events(&mut reader, &mut events, read_legacy_event)?;
        Ok(Self { algorithms: vec![HashAlgorithm::Sha1], agile: false, events, padding })
    }

    fn read_agile(first: Event, mut reader: Reader<'_>) -> Result<Self, Malformed> {
        let sizes = read_spec_id(&first)?;
        let header = Event { digests: Vec::new(), ..first };
        let mut events = vec![header];
        let padding = read_events(&mut reader, &mut events, |reader| read_agile_event(&sizes, reader))?;
        let algorithms = sizes.into_iter().map(|(algorithm, _)| algorithm).collect();
        Ok(Self { algorithms, agile: true, events, padding })
    }

    /// The events in the order of the log; in a crypto-agile log the first one is its header.
    pub fn events(&self) -> &[Event] {
        &self.events
    }

    /// The algorithms that events have digests by, in the order of the log.
    pub fn algorithms(&self) -> &[HashAlgorithm] {
        &self.algorithms
    }

    /// Whether the log is crypto-agile; otherwise it has SHA-1 alone.
    pub fn is_crypto_agile(&self) -> bool {
        self.agile
    }

    /// How many bytes of padding followed the last event.
    pub fn padding(&self) -> usize {
        self.padding
    }
}

fn read_events(
    reader: &mut Reader<'_>,
    events: &mut Vec<Event>,
    read: impl Fn(&mut Reader<'_>) -> Result<Event, Malformed>,
) -> Result<usize, Malformed> {
    loop {
        let rest = reader.rest();
        if is_padding(rest, reader.offset())? {
            return Ok(rest.len());
        }
        if events.len() == MAX_EVENTS {
            let expected = format!("at most {MAX_EVENTS} events");
            return Err(Malformed::value(FORMAT, "events", reader.offset(), expected, "more"));
        }
        events.push(read(reader)?);
    }
}

/// Whether nothing but padding is left. Padding begins where register and kind are all zeros or all ones: neither is
/// an event that firmware makes (EV_PREBOOT_CERT is reserved), and each such place is looked at only once.
fn is_padding(rest: &[u8], offset: usize) -> Result<bool, Malformed> {
    let head = &rest[..rest.len().min(8)];
    let Some(&filler) = head.first() else { return Ok(true) };
    if !matches!(filler, 0 | 0xff) || head.iter().any(|&byte| byte != filler) {
        return Ok(false);
    }
    match rest.iter().position(|&byte| byte != filler) {
        None => Ok(true),
        Some(index) => Err(Malformed::value(
            FORMAT,
            "padding",
            offset + index,
            format!("bytes of {filler:#04x} up to the end"),
            format!("{:#04x}", rest[index]),
        )),
    }
}

/// A TCG_PCR_EVENT: one SHA-1 digest.
fn read_legacy_event(reader: &mut Reader<'_>) -> Result<Event, Malformed> {
    let register = reader.u32("register")?;
    let kind = reader.u32("kind")?;
    let digest = reader.take("digest", 20)?.to_vec();
    let length = reader.u32("data length")? as usize;
    let data = reader.take("data", length)?.to_vec();
    Ok(Event { register, kind, digests: vec![(HashAlgorithm::Sha1, digest)], data })
}

/// A TCG_PCR_EVENT2: a digest for each algorithm that the header names. Not each event must have all of them; an
/// event that lacks one cannot be replayed by that algorithm.
fn read_agile_event(sizes: &[(HashAlgorithm, usize)], reader: &mut Reader<'_>) -> Result<Event, Malformed> {
    let register = reader.u32("register")?;
    let kind = reader.u32("kind")?;
    let count_offset = reader.offset();
    let count = reader.u32("digest count")? as usize;
    if count > sizes.len() {
        let expected = format!("at most {}, as the header names", sizes.len());
        return Err(Malformed::value(FORMAT, "digest count", count_offset, expected, count.to_string()));
    }
    let mut digests: Vec<(HashAlgorithm, Vec<u8>)> = Vec::with_capacity(count);
    for _ in 0..count {
        let offset = reader.offset();
        let algorithm = HashAlgorithm::from_id(reader.u16("digest algorithm")?);
        let Some((_, size)) = sizes.iter().find(|(own, _)| *own == algorithm) else {
            let expected = "an algorithm that the header names";
            return Err(Malformed::value(
                FORMAT,
                "digest algorithm",
                offset,
                expected,
                algorithm.to_string(),
            ));
        };
        if digests.iter().any(|(own, _)| *own == algorithm) {
            let expected = "each algorithm once";
            return Err(Malformed::value(
                FORMAT,
                "digest algorithm",
                offset,
                expected,
                algorithm.to_string(),
            ));
        }
        digests.push((algorithm, reader.take("digest", *size)?.to_vec()));
    }
    let length = reader.u32("data length")? as usize;
    let data = reader.take("data", length)?.to_vec();
    Ok(Event { register, kind, digests, data })
}

/// TCG_EfiSpecIdEvent: which algorithms the log has, with the size of their digests.
fn read_spec_id(first: &Event) -> Result<Vec<(HashAlgorithm, usize)>, Malformed> {
    /// Register, kind, digest and data length come before the data of the first event.
    const BASE: usize = 32;
    if first.kind != kind::EV_NO_ACTION {
        let seen = format!("{:#x}", first.kind);
        return Err(Malformed::value(FORMAT, "kind of the header", 4, "EV_NO_ACTION", seen));
    }
    if first.digests.iter().any(|(_, digest)| digest.iter().any(|&byte| byte != 0)) {
        return Err(Malformed::value(FORMAT, "digest of the header", 8, "zeros", "another value"));
    }
    let mut reader = Reader::at(FORMAT, &first.data, BASE);
    reader.take("signature", SIGNATURE_AGILE.len())?;
    reader.u32("platform class")?;
    reader.take("specification version, errata and UINTN size", 4)?;
    let count_offset = reader.offset();
    let count = reader.u32("algorithm count")? as usize;
    if count == 0 || count > MAX_ALGORITHMS {
        let expected = format!("1 to {MAX_ALGORITHMS}");
        return Err(Malformed::value(FORMAT, "algorithm count", count_offset, expected, count.to_string()));
    }
    let mut sizes: Vec<(HashAlgorithm, usize)> = Vec::with_capacity(count);
    for _ in 0..count {
        let offset = reader.offset();
        let algorithm = HashAlgorithm::from_id(reader.u16("algorithm")?);
        if sizes.iter().any(|(own, _)| *own == algorithm) {
            let expected = "each algorithm once";
            return Err(Malformed::value(FORMAT, "algorithm", offset, expected, algorithm.to_string()));
        }
        let offset = reader.offset();
        let size = usize::from(reader.u16("digest size")?);
        let known = algorithm.size().unwrap_or(size);
        if size != known || size == 0 || size > 128 {
            let expected = match algorithm.size() {
                Some(known) => known.to_string(),
                None => "1 to 128".into(),
            };
            return Err(Malformed::value(FORMAT, "digest size", offset, expected, size.to_string()));
        }
        sizes.push((algorithm, size));
    }
    let vendor = reader.u8("vendor data length")?;
    reader.take("vendor data", usize::from(vendor))?;
    reader.finish("header")?;
    Ok(sizes)
}

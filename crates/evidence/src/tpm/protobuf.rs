//! The message `attest.Attestation` of go-tpm-tools (proto/attest.proto; proto/tpm.proto of go-tpm-tools): as much of
//! protobuf as it takes. Fields that nothing here needs are skipped: the instance's self-description, a canonical event
//! log, and Evidence of a TEE beside the TPM's, which is of a kind of its own.

use super::{Attest, Attestation, AttestationKey, Container, FORMAT, MAX_QUOTES, Quote, Signature, wire};
use crate::eventlog::{EventLog, HashAlgorithm};
use crate::reader::Reader;
use crate::{CertificateDer, Malformed};

/// A PCR bank has 24 values; a message with many more is refused before they are read.
const MAX_VALUES: usize = 32;

/// Field 1, a TPMT_PUBLIC of an RSA or ECC key.
pub(super) fn recognises(bytes: &[u8]) -> bool {
    let [0x0a, rest @ ..] = bytes else { return false };
    let rest = match rest {
        [0x80..=0xff, 0..=0x7f, rest @ ..] | [0..=0x7f, rest @ ..] => rest,
        _ => return false,
    };
    matches!(rest, [0, 0x01 | 0x23, 0, 0x0b..=0x0d, ..])
}

pub(super) fn parse(bytes: &[u8]) -> Result<Attestation, Malformed> {
    let mut reader = Reader::new(FORMAT, bytes);
    let (mut key, mut quotes, mut log, mut certificates) = (None, Vec::new(), None, Vec::new());
    while let Some((number, field)) = next(&mut reader)? {
        match (number, field) {
            (1, Field::Bytes(public)) => once("ak_pub", &mut key, AttestationKey::parse(public)?)?,
            (2, Field::Bytes(quote)) if quotes.len() < MAX_QUOTES => quotes.push(read_quote(quote)?),
            (3, Field::Bytes(events)) if !events.is_empty() => {
                once("event_log", &mut log, EventLog::parse(events)?)?;
            }
            (6 | 7, Field::Bytes(der)) if certificates.len() <= super::MAX_CERTIFICATES => {
                certificates.push(CertificateDer(der.to_vec()));
            }
            (1..=3 | 6 | 7, _) => return Err(unfit("field", "the kind and number of go-tpm-tools", number)),
            _ => {}
        }
    }
    Attestation::new(Container::GoTpmTools, key, quotes, log, certificates)
}

/// `tpm.Quote`: quote, raw signature, registers.
fn read_quote(bytes: &[u8]) -> Result<Quote, Malformed> {
    let mut reader = Reader::new(FORMAT, bytes);
    let (mut attest, mut signature, mut values) = (None, None, None);
    while let Some((number, field)) = next(&mut reader)? {
        match (number, field) {
            (1, Field::Bytes(message)) => {
                once("quote", &mut attest, Attest::parse(wire::unsized_or_whole(message))?)?;
            }
            (2, Field::Bytes(own)) => once("raw_sig", &mut signature, Signature::parse(own)?)?,
            (3, Field::Bytes(own)) => once("pcrs", &mut values, read_values(own)?)?,
            _ => return Err(unfit("field of a quote", "1 to 3", number)),
        }
    }
    let attest = attest.ok_or_else(|| unfit("quote", "a TPMS_ATTEST", 0))?;
    Quote::new(attest, signature, values.unwrap_or_default())
}

/// `tpm.PCRs`: the bank, and a map from register to value.
fn read_values(bytes: &[u8]) -> Result<Vec<(HashAlgorithm, u8, Vec<u8>)>, Malformed> {
    let mut reader = Reader::new(FORMAT, bytes);
    let (mut bank, mut values) = (None, Vec::new());
    while let Some((number, field)) = next(&mut reader)? {
        match (number, field) {
            (1, Field::Number(id)) => {
                let id = u16::try_from(id).map_err(|_| unfit("hash", "an algorithm", id))?;
                once("hash", &mut bank, HashAlgorithm::from_id(id))?;
            }
            (2, Field::Bytes(entry)) if values.len() < MAX_VALUES => values.push(read_entry(entry)?),
            _ => return Err(unfit("field of registers", "1, or 2 up to 32 times", number)),
        }
    }
    let bank = bank.ok_or_else(|| unfit("hash", "an algorithm", 0))?;
    Ok(values.into_iter().map(|(register, value)| (bank, register, value)).collect())
}

/// An entry of a map; a key that is absent is zero.
fn read_entry(bytes: &[u8]) -> Result<(u8, Vec<u8>), Malformed> {
    let mut reader = Reader::new(FORMAT, bytes);
    let (mut register, mut value) = (None, None);
    while let Some((number, field)) = next(&mut reader)? {
        match (number, field) {
            (1, Field::Number(own)) => {
                let own = u8::try_from(own).map_err(|_| unfit("register", "0 to 31", own))?;
                once("register", &mut register, own)?;
            }
            (2, Field::Bytes(own)) => once("value", &mut value, own.to_vec())?,
            _ => return Err(unfit("field of a register", "1 or 2", number)),
        }
    }
    Ok((register.unwrap_or(0), value.unwrap_or_default()))
}

enum Field<'a> {
    Number(u64),
    Bytes(&'a [u8]),
}

/// The next field by its number; None at the end.
fn next<'a>(reader: &mut Reader<'a>) -> Result<Option<(u64, Field<'a>)>, Malformed> {
    if reader.rest().is_empty() {
        return Ok(None);
    }
    let offset = reader.offset();
    let key = varint(reader)?;
    let field = match key & 7 {
        0 => Field::Number(varint(reader)?),
        1 => Field::Bytes(reader.take("fixed 64", 8)?),
        2 => {
            let length = varint(reader)?;
            Field::Bytes(reader.take("field", usize::try_from(length).unwrap_or(usize::MAX))?)
        }
        5 => Field::Bytes(reader.take("fixed 32", 4)?),
        kind => {
            let seen = kind.to_string();
            return Err(Malformed::value(FORMAT, "protobuf wire type", offset, "0, 1, 2 or 5", seen));
        }
    };
    Ok(Some((key >> 3, field)))
}

fn varint(reader: &mut Reader<'_>) -> Result<u64, Malformed> {
    let offset = reader.offset();
    let mut number = 0_u64;
    for shift in (0..64).step_by(7) {
        let byte = reader.u8("varint")?;
        number |= u64::from(byte & 0x7f) << shift;
        if byte & 0x80 == 0 {
            return Ok(number);
        }
    }
    Err(Malformed::value(FORMAT, "varint", offset, "at most 10 bytes", "more"))
}

fn once<T>(field: &'static str, place: &mut Option<T>, value: T) -> Result<(), Malformed> {
    match place.replace(value) {
        None => Ok(()),
        Some(_) => Err(Malformed::value(FORMAT, field, 0, "the field once", "twice")),
    }
}

fn unfit(field: &'static str, expected: &'static str, seen: u64) -> Malformed {
    Malformed::value(FORMAT, field, 0, expected, seen.to_string())
}

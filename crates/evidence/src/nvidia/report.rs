//! One report: the request `GET_MEASUREMENTS` and the response `MEASUREMENTS` of SPDM (DMTF DSP0274, version
//! 1.1.0, §10.11), one after the other, as NVIDIA's driver hands them out. The signature covers both, without
//! itself. What NVIDIA adds is in the response's opaque data: type, length, value.

use super::opaque::OpaqueData;
use crate::Malformed;
use crate::reader::Reader;

const FORMAT: &str = "SPDM report";
const SPDM_1_1: u8 = 0x11;
const GET_MEASUREMENTS: u8 = 0xe0;
const MEASUREMENTS: u8 = 0x60;
/// The request asks for a signature.
const SIGNATURE_REQUESTED: u8 = 1;
/// The request asks for all measurements.
const ALL_MEASUREMENTS: u8 = 0xff;
/// The block is as DMTF specifies it.
const DMTF: u8 = 1;
const SIGNATURE: usize = 96;

/// The beginning of every report: what was asked for, before the nonce.
pub(super) const START: [u8; 4] = [SPDM_1_1, GET_MEASUREMENTS, SIGNATURE_REQUESTED, ALL_MEASUREMENTS];

/// A report of one device.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Report {
    signed: Vec<u8>,
    nonce: [u8; 32],
    measurements: Vec<Measurement>,
    opaque: OpaqueData,
    signature: [u8; SIGNATURE],
    padding: usize,
}

/// One measurement block.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Measurement {
    /// Its number, from 1.
    pub index: u8,
    /// What is measured (DSP0274, `DMTFSpecMeasurementValueType`): 0 immutable ROM, 1 firmware, 2 hardware
    /// configuration, 3 firmware configuration; 0x80 is added for a value that is no digest.
    pub kind: u8,
    /// The digest, or the value.
    pub value: Vec<u8>,
}

impl Report {
    /// Parses a report. Zero bytes that follow it are counted ([`Report::padding`]); others are refused.
    ///
    /// # Errors
    /// [`Malformed`] names the first field that is not as its format demands.
    pub fn parse(bytes: &[u8]) -> Result<Self, Malformed> {
        let mut reader = Reader::new(FORMAT, bytes);
        let (nonce, slot) = read_request(&mut reader)?;
        let measurements = read_measurements(&mut reader, slot)?;
        // The device's own nonce, which makes each response unique; nobody has anything to compare it with.
        reader.take("response nonce", 32)?;
        let length = usize::from(reader.u16("opaque data length")?);
        let offset = reader.offset();
        let opaque = OpaqueData::parse(reader.take("opaque data", length)?, offset)?;
        let signed = bytes[..reader.offset()].to_vec();
        let signature = reader.array("signature")?;
        let padding = reader.rest().len();
        reader.zeros("padding", padding)?;
        Ok(Self { signed, nonce, measurements, opaque, signature, padding })
    }

    /// What the signature covers: request and response.
    pub fn signed(&self) -> &[u8] {
        &self.signed
    }

    /// ECDSA P-384 over SHA-384 of [`Report::signed`]: r and s, 48 bytes each, big-endian.
    pub fn signature(&self) -> &[u8; SIGNATURE] {
        &self.signature
    }

    /// The nonce of the request.
    pub fn nonce(&self) -> &[u8; 32] {
        &self.nonce
    }

    /// The measurements, by their index.
    pub fn measurements(&self) -> &[Measurement] {
        &self.measurements
    }

    /// The measurement of an index, from 1.
    pub fn measurement(&self, index: u8) -> Option<&Measurement> {
        self.measurements.iter().find(|measurement| measurement.index == index)
    }

    /// What NVIDIA adds.
    pub fn opaque(&self) -> &OpaqueData {
        &self.opaque
    }

    /// How many zero bytes followed the report proper. They are not covered by the signature.
    pub fn padding(&self) -> usize {
        self.padding
    }
}

/// The nonce, and the slot of the certificate chain.
fn read_request(reader: &mut Reader<'_>) -> Result<([u8; 32], u8), Malformed> {
    let version = reader.u8("request version")?;
    if version != SPDM_1_1 {
        // Version 1.2 signs something else.
        let seen = format!("{version:#04x}");
        return Err(Malformed::unsupported(FORMAT, "request version", 0, "0x11, SPDM 1.1", seen));
    }
    let asked = reader.array::<3>("request")?;
    if asked != START[1..] {
        let expected = "a GET_MEASUREMENTS request for all measurements, signed";
        return Err(Malformed::unsupported(FORMAT, "request", 1, expected, hex::encode(asked)));
    }
    let nonce = reader.array("nonce")?;
    let slot = reader.u8("slot")?;
    Ok((nonce, slot))
}

fn read_measurements(reader: &mut Reader<'_>, slot: u8) -> Result<Vec<Measurement>, Malformed> {
    let start = reader.offset();
    let [version, code, _, response_slot] = reader.array("response")?;
    if [version, code] != [SPDM_1_1, MEASUREMENTS] || response_slot & 0x0f != slot & 0x0f {
        let expected = "a MEASUREMENTS response of SPDM 1.1, for the slot of the request";
        let seen = hex::encode([version, code, response_slot]);
        return Err(Malformed::unsupported(FORMAT, "response", start, expected, seen));
    }
    let count = usize::from(reader.u8("number of blocks")?);
    let [low, middle, high] = reader.array("measurement record length")?;
    let length = usize::from(low) | usize::from(middle) << 8 | usize::from(high) << 16;
    let base = reader.offset();
    let mut record = Reader::at(FORMAT, reader.take("measurement record", length)?, base);
    let mut measurements: Vec<Measurement> = Vec::new();
    for _ in 0..count {
        let offset = record.offset();
        let measurement = read_block(&mut record)?;
        let last = measurements.last().map_or(0, |last| last.index);
        if measurement.index <= last {
            let seen = format!("{} after {last}", measurement.index);
            return Err(Malformed::value(FORMAT, "measurement index", offset, "rising numbers from 1", seen));
        }
        measurements.push(measurement);
    }
    record.finish("measurement record length")?;
    Ok(measurements)
}

fn read_block(record: &mut Reader<'_>) -> Result<Measurement, Malformed> {
    let offset = record.offset();
    let index = record.u8("measurement index")?;
    let specification = record.u8("measurement specification")?;
    if specification != DMTF {
        let seen = format!("{specification:#04x}");
        return Err(Malformed::unsupported(
            FORMAT,
            "measurement specification",
            offset + 1,
            "1 (DMTF)",
            seen,
        ));
    }
    let size = usize::from(record.u16("measurement size")?);
    let base = record.offset();
    let mut block = Reader::at(FORMAT, record.take("measurement", size)?, base);
    let kind = block.u8("measurement kind")?;
    let length = usize::from(block.u16("measurement value length")?);
    let value = block.take("measurement value", length)?.to_vec();
    block.finish("measurement size")?;
    Ok(Measurement { index, kind, value })
}

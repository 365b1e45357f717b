//! TPMS_ATTEST: what a TPM says about its registers, as the bytes that it signs (TPM 2.0 Library, part 2, §10.12).

use super::wire;
use crate::Malformed;
use crate::eventlog::HashAlgorithm;
use crate::reader::Reader;

const FORMAT: &str = "TPMS_ATTEST";
/// TPM_GENERATED_VALUE: a restricted key signs nothing from outside that begins so.
pub const MAGIC: [u8; 4] = [0xff, b'T', b'C', b'G'];
/// TPM_ST_ATTEST_QUOTE.
pub const KIND_QUOTE: u16 = 0x8018;
/// More banks are refused: TPMs have up to five.
const MAX_SELECTIONS: usize = 16;
/// A TPM has 24 PCRs, and the structure has room for 32 (TPM2_PCR_SELECT_MAX is 3 or 4 in practice).
const MAX_SELECT: u8 = 4;

/// The attestation structure of a quote.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Attest {
    /// The bytes that are signed.
    pub(super) bytes: Vec<u8>,
    /// The qualified name of the key that signed: algorithm and digest over all its parents.
    pub qualified_signer: Vec<u8>,
    /// What the asker wanted covered: the nonce, up to 64 bytes.
    pub extra_data: Vec<u8>,
    /// The TPM's clock.
    pub clock: Clock,
    /// The TPM's firmware, in its vendor's own numbering.
    pub firmware_version: u64,
    /// The registers that were quoted, by bank.
    pub selections: Vec<PcrSelection>,
    /// The digest of their values, by the algorithm of the signature.
    pub pcr_digest: Vec<u8>,
}

/// TPMS_CLOCK_INFO. Firmware hides counters in quotes of keys outside of the endorsement hierarchy.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Clock {
    /// Milliseconds that the TPM was powered on.
    pub clock: u64,
    /// How often the TPM was reset.
    pub reset_count: u32,
    /// How often it was resumed since.
    pub restart_count: u32,
    /// Whether the clock never had a higher value.
    pub safe: bool,
}

/// TPMS_PCR_SELECTION: registers of one bank.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PcrSelection {
    /// The bank.
    pub bank: HashAlgorithm,
    /// The numbers of the registers, ascending.
    pub registers: Vec<u8>,
}

impl Attest {
    /// Parses the structure of a quote, all of `bytes`.
    ///
    /// # Errors
    /// [`Malformed`] names the first field that is not as the format demands: among them structures that are not of
    /// quotes.
    pub fn parse(bytes: &[u8]) -> Result<Self, Malformed> {
        let mut reader = Reader::new(FORMAT, bytes);
        let magic = reader.array::<4>("magic")?;
        if magic != MAGIC {
            return Err(Malformed::value(FORMAT, "magic", 0, "ff544347", hex::encode(magic)));
        }
        let kind = wire::u16(&mut reader, "type")?;
        if kind != KIND_QUOTE {
            return Err(Malformed::unsupported(
                FORMAT,
                "type",
                4,
                "0x8018 (a quote)",
                format!("{kind:#06x}"),
            ));
        }
        let qualified_signer = wire::sized(&mut reader, "qualifiedSigner")?.to_vec();
        let extra_offset = reader.offset();
        let extra_data = wire::sized(&mut reader, "extraData")?.to_vec();
        if extra_data.len() > 66 {
            return Err(Malformed::too_long(FORMAT, "extraData", extra_offset, 66, extra_data.len()));
        }
        let clock = Clock {
            clock: wire::u64(&mut reader, "clock")?,
            reset_count: wire::u32(&mut reader, "resetCount")?,
            restart_count: wire::u32(&mut reader, "restartCount")?,
            safe: read_flag(&mut reader)?,
        };
        let firmware_version = wire::u64(&mut reader, "firmwareVersion")?;
        let selections = read_selections(&mut reader)?;
        let pcr_digest = wire::sized(&mut reader, "pcrDigest")?.to_vec();
        reader.finish("TPMS_ATTEST")?;
        Ok(Self {
            bytes: bytes.to_vec(),
            qualified_signer,
            extra_data,
            clock,
            firmware_version,
            selections,
            pcr_digest,
        })
    }

    /// The bytes that are signed.
    pub fn signed(&self) -> &[u8] {
        &self.bytes
    }

    /// Every register that is quoted, in the order in which their values are digested.
    pub fn selected(&self) -> impl Iterator<Item = (HashAlgorithm, u8)> + '_ {
        self.selections
            .iter()
            .flat_map(|selection| selection.registers.iter().map(|&register| (selection.bank, register)))
    }
}

fn read_flag(reader: &mut Reader<'_>) -> Result<bool, Malformed> {
    let offset = reader.offset();
    match reader.u8("safe")? {
        0 => Ok(false),
        1 => Ok(true),
        other => Err(Malformed::value(FORMAT, "safe", offset, "0 or 1", other.to_string())),
    }
}

/// TPML_PCR_SELECTION. A bank that is named twice is refused: its values would count twice.
fn read_selections(reader: &mut Reader<'_>) -> Result<Vec<PcrSelection>, Malformed> {
    let offset = reader.offset();
    let count = wire::u32(reader, "pcrSelect count")? as usize;
    if count > MAX_SELECTIONS {
        let expected = format!("at most {MAX_SELECTIONS}");
        return Err(Malformed::value(FORMAT, "pcrSelect count", offset, expected, count.to_string()));
    }
    let mut selections: Vec<PcrSelection> = Vec::with_capacity(count);
    for _ in 0..count {
        let offset = reader.offset();
        let bank = HashAlgorithm::from_id(wire::u16(reader, "pcrSelect hash")?);
        if selections.iter().any(|own| own.bank == bank) {
            return Err(Malformed::value(
                FORMAT,
                "pcrSelect hash",
                offset,
                "each bank once",
                bank.to_string(),
            ));
        }
        let offset = reader.offset();
        let size = reader.u8("sizeofSelect")?;
        if size > MAX_SELECT {
            let expected = format!("at most {MAX_SELECT}");
            return Err(Malformed::value(FORMAT, "sizeofSelect", offset, expected, size.to_string()));
        }
        let bits = reader.take("pcrSelect", usize::from(size))?;
        let registers = (0..8 * size).filter(|&register| {
            bits.get(usize::from(register / 8)).is_some_and(|byte| byte >> (register % 8) & 1 == 1)
        });
        selections.push(PcrSelection { bank, registers: registers.collect() });
    }
    Ok(selections)
}

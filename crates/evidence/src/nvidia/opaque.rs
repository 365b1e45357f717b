//! What NVIDIA says beside the measurements, in the opaque data of the response: fields of type, length and
//! value, little-endian, each at most once. The numbers of the types are from NVIDIA's attestation SDK and
//! nvtrust. Fields that are not read here are kept.

use std::collections::BTreeMap;

use crate::Malformed;
use crate::reader::Reader;

const FORMAT: &str = "SPDM report";

const DRIVER_VERSION: u16 = 3;
const VBIOS_VERSION: u16 = 6;
const NVDEC0_STATUS: u16 = 11;
const BOARD_ID: u16 = 14;
const CHIP_SKU: u16 = 15;
const PROJECT: u16 = 17;
const PROJECT_SKU: u16 = 18;
const FWID: u16 = 20;
const PROTECTED_PCIE: u16 = 21;
const SWITCH_PDI: u16 = 22;
const CHIP_INFO: u16 = 35;
const FEATURE_FLAG: u16 = 36;

/// Flags have two values that differ in every bit.
const ON: u8 = 0xaa;
const OFF: u8 = 0x55;

/// In which way GPUs work together under confidential computing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MultiGpu {
    /// Each for itself.
    Single,
    /// Several, with encrypted links between them.
    Multiple,
    /// Several, with links that are not encrypted: whoever has the switches can read them.
    ProtectedPcie,
}

/// Opaque data, taken apart.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct OpaqueData {
    fields: BTreeMap<u16, Vec<u8>>,
    driver: Option<String>,
    vbios: Option<String>,
    chip: Option<String>,
    project: Option<String>,
    project_sku: Option<String>,
    chip_sku: Option<String>,
    fwid: Option<[u8; 48]>,
    board_id: Option<u32>,
    multi_gpu: Option<MultiGpu>,
}

impl OpaqueData {
    pub(super) fn parse(bytes: &[u8], base: usize) -> Result<Self, Malformed> {
        let mut reader = Reader::at(FORMAT, bytes, base);
        let mut data = Self::default();
        while !reader.rest().is_empty() {
            let start = reader.offset();
            let kind = reader.u16("opaque field type")?;
            let length = usize::from(reader.u16("opaque field length")?);
            let offset = reader.offset();
            let value = reader.take("opaque field", length)?;
            data.read_field(kind, value, offset)?;
            if data.fields.insert(kind, value.to_vec()).is_some() {
                return Err(Malformed::value(
                    FORMAT,
                    "opaque field type",
                    start,
                    "each once",
                    kind.to_string(),
                ));
            }
        }
        if data.multi_gpu.is_none() && data.fields.get(&PROTECTED_PCIE).is_some_and(|value| *value == [ON]) {
            data.multi_gpu = Some(MultiGpu::ProtectedPcie);
        }
        Ok(data)
    }

    fn read_field(&mut self, kind: u16, value: &[u8], offset: usize) -> Result<(), Malformed> {
        let array = |name, expected| {
            let seen = format!("{} bytes", value.len());
            Malformed::value(FORMAT, name, offset, expected, seen)
        };
        match kind {
            DRIVER_VERSION => self.driver = Some(word(value, "driver version", offset)?),
            VBIOS_VERSION => self.vbios = Some(vbios_version(value, offset)?),
            CHIP_INFO => self.chip = Some(word(value, "chip", offset)?),
            PROJECT => self.project = Some(word(value, "project", offset)?),
            PROJECT_SKU => self.project_sku = Some(word(value, "project SKU", offset)?),
            CHIP_SKU => self.chip_sku = Some(word(value, "chip SKU", offset)?),
            FWID => self.fwid = Some(value.try_into().map_err(|_| array("FWID", "48 bytes"))?),
            BOARD_ID => {
                let bytes = value.try_into().map_err(|_| array("board id", "4 bytes"))?;
                self.board_id = Some(u32::from_le_bytes(bytes));
            }
            FEATURE_FLAG => {
                self.multi_gpu = Some(match value {
                    [0, 0] => MultiGpu::Single,
                    [1, 0] => MultiGpu::Multiple,
                    [2, 0] => MultiGpu::ProtectedPcie,
                    other => {
                        let (expected, seen) = ("0, 1 or 2, 16 bits", hex::encode(other));
                        return Err(Malformed::unsupported(FORMAT, "feature flag", offset, expected, seen));
                    }
                });
            }
            SWITCH_PDI if !value.len().is_multiple_of(8) => {
                return Err(array("identities of switches", "8 bytes for each"));
            }
            _ => {}
        }
        Ok(())
    }

    /// The version of the driver, such as `580.159.03`. Switches have none.
    pub fn driver(&self) -> Option<&str> {
        self.driver.as_deref()
    }

    /// The version of the VBIOS, or of a switch's BIOS, such as `96.00.A5.00.01`.
    pub fn vbios(&self) -> Option<&str> {
        self.vbios.as_deref()
    }

    /// The chip, such as `GB100`. Hopper does not tell.
    pub fn chip(&self) -> Option<&str> {
        self.chip.as_deref()
    }

    /// Project, SKU of the project, and SKU of the chip, which name the board that a VBIOS is for.
    pub fn board(&self) -> Option<(&str, &str, &str)> {
        Some((self.project.as_deref()?, self.project_sku.as_deref()?, self.chip_sku.as_deref()?))
    }

    /// The number of the board.
    pub fn board_id(&self) -> Option<u32> {
        self.board_id
    }

    /// The digest of the firmware that the device's certificate was made for.
    pub fn fwid(&self) -> Option<&[u8; 48]> {
        self.fwid.as_ref()
    }

    /// In which way GPUs work together, if the device tells.
    pub fn multi_gpu(&self) -> Option<MultiGpu> {
        self.multi_gpu
    }

    /// Whether the device says that its video decoder 0 is off: its measurement is not compared then.
    pub fn video_decoder_is_off(&self) -> bool {
        self.fields.get(&NVDEC0_STATUS).is_some_and(|value| *value == [OFF])
    }

    /// Identities of the switches that a GPU is linked with, or of a switch itself.
    pub fn switches(&self) -> impl Iterator<Item = &[u8]> {
        self.fields.get(&SWITCH_PDI).into_iter().flat_map(|value| value.chunks_exact(8))
    }

    /// All fields by type.
    pub fn fields(&self) -> &BTreeMap<u16, Vec<u8>> {
        &self.fields
    }
}

/// Text of letters, digits, `.`, `-` and `_`, followed by any number of NULs.
fn word(value: &[u8], field: &'static str, offset: usize) -> Result<String, Malformed> {
    let end = value.iter().rposition(|&byte| byte != 0).map_or(0, |last| last + 1);
    let text = &value[..end];
    if text.iter().all(|byte| byte.is_ascii_alphanumeric() || b"._-".contains(byte)) {
        return Ok(text.iter().copied().map(char::from).collect());
    }
    Err(Malformed::value(FORMAT, field, offset, "letters, digits and dots", hex::encode(value)))
}

/// Switches tell it as text, GPUs as a number of 40 bits in 8 bytes, whose lowest 32 bits come first in the text.
fn vbios_version(value: &[u8], offset: usize) -> Result<String, Malformed> {
    match *value {
        [d, c, b, a, e, 0, 0, 0] => Ok(format!("{a:02X}.{b:02X}.{c:02X}.{d:02X}.{e:02X}")),
        _ if value.len() > 8 => word(value, "VBIOS version", offset),
        _ => Err(Malformed::value(FORMAT, "VBIOS version", offset, "40 bits, or text", hex::encode(value))),
    }
}

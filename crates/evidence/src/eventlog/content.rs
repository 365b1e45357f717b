//! What the data of events says: the structures of UEFI and the TCG, and the conventions of Linux, grub, systemd,
//! Google's cloud, and td-shim. All of it is the log's word; see [`Content`] for what digests cover.

use super::{Event, device_path, kind};
use crate::Malformed;
use crate::reader::Reader;

const FORMAT: &str = "event";

/// The data of an event, typed by the event's kind. Data that is not as its kind demands is [`Content::Opaque`]:
/// firmware is free to write what it likes, and nothing is concluded from it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Content<'a> {
    /// The end of the pre-OS phase. The digest is of all data.
    Separator,
    /// A UEFI variable. The digest is of all data; for EV_EFI_VARIABLE_BOOT mostly of the variable's value alone.
    Variable(Variable<'a>),
    /// An image. The digest is of the image (Authenticode), and covers nothing of the data.
    Image(Image<'a>),
    /// Text of the firmware, or of td-shim's kind. The digest is of all data.
    Text(String),
    /// What grub measures as text. The digest is of the text, with or without the NUL after it, and not of the label.
    Grub(Grub<'a>),
    /// Other text of a boot loader in ASCII: names of files and of variables of shim. The digest is of what is named.
    Named(&'a str),
    /// Other text of a boot loader in UTF-16: systemd's. The digest is of this text, of a section that is so named, or
    /// of the section's name.
    Wide(String),
    /// A tagged structure. The digest is of all data, or of what the tag means.
    Tagged(Tagged<'a>),
    /// td-shim's configuration by name. The digest is of the value alone.
    ShimConfiguration {
        /// Which.
        name: &'a str,
        /// The value.
        value: &'a [u8],
    },
    /// EV_NO_ACTION: no digest, by nothing covered.
    NoAction,
    /// Anything else.
    Opaque,
}

/// UEFI_VARIABLE_DATA.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Variable<'a> {
    /// Whose variable: a GUID as it is in memory.
    pub vendor: [u8; 16],
    /// The name.
    pub name: String,
    /// The value.
    pub value: &'a [u8],
}

/// UEFI_IMAGE_LOAD_EVENT.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Image<'a> {
    /// Length of the image in memory.
    pub length: u64,
    /// The device path as bytes.
    pub device_path: &'a [u8],
}

/// What grub says that it measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Grub<'a> {
    /// Whether the label says kernel command line; otherwise it is a command.
    pub kernel_command_line: bool,
    /// The text without label and without what follows its NUL.
    pub text: &'a str,
}

/// TCG_PCClientTaggedEvent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Tagged<'a> {
    /// The tag.
    pub tag: u32,
    /// The data below it.
    pub data: &'a [u8],
}

/// Tag of Linux's EFI stub: the digest is of the kernel's load options.
pub const TAG_LOAD_OPTIONS: u32 = 0x8f3b_22ed;
/// Tag of Linux's EFI stub: the digest is of the initrd.
pub const TAG_INITRD: u32 = 0x8f3b_22ec;
/// Tag of the attestation agent of confidential containers (AAEL): the digest is of all data.
pub const TAG_ATTESTATION_AGENT: u32 = u32::from_le_bytes(*b"LEAA");

/// EFI_GLOBAL_VARIABLE, 8BE4DF61-93CA-11D2-AA0D-00E098032B8C, as it is in memory.
pub const GLOBAL_VARIABLE: [u8; 16] =
    [0x61, 0xdf, 0xe4, 0x8b, 0xca, 0x93, 0xd2, 0x11, 0xaa, 0x0d, 0x00, 0xe0, 0x98, 0x03, 0x2b, 0x8c];
/// EFI_IMAGE_SECURITY_DATABASE, D719B2CB-3D3A-4596-A3BC-DAD00E67656F, as it is in memory.
pub const IMAGE_SECURITY_DATABASE: [u8; 16] =
    [0xcb, 0xb2, 0x19, 0xd7, 0x3a, 0x3d, 0x96, 0x45, 0xa3, 0xbc, 0xda, 0xd0, 0x0e, 0x67, 0x65, 0x6f];

impl Event {
    /// What the data says.
    pub fn content(&self) -> Content<'_> {
        let data = &self.data[..];
        match self.kind {
            kind::EV_NO_ACTION => Some(Content::NoAction),
            kind::EV_SEPARATOR => Some(Content::Separator),
            kind::EV_EFI_VARIABLE_DRIVER_CONFIG
            | kind::EV_EFI_VARIABLE_BOOT
            | kind::EV_EFI_VARIABLE_BOOT2
            | kind::EV_EFI_VARIABLE_AUTHORITY => read_variable(data).ok().map(Content::Variable),
            kind::EV_EFI_BOOT_SERVICES_APPLICATION
            | kind::EV_EFI_BOOT_SERVICES_DRIVER
            | kind::EV_EFI_RUNTIME_SERVICES_DRIVER => read_image(data).ok().map(Content::Image),
            kind::EV_EFI_ACTION => ascii(data).map(|text| Content::Text(text.into())),
            kind::EV_S_CRTM_VERSION => version(data).map(Content::Text),
            kind::EV_IPL => read_boot_loader(data),
            kind::EV_EVENT_TAG => read_tagged(data).ok().map(Content::Tagged),
            kind::EV_PLATFORM_CONFIG_FLAGS => read_shim_configuration(data),
            _ => None,
        }
        .unwrap_or(Content::Opaque)
    }
}

fn read_variable(data: &[u8]) -> Result<Variable<'_>, Malformed> {
    let mut reader = Reader::new(FORMAT, data);
    let vendor = reader.array("vendor")?;
    let name_length = length(&mut reader, "name length")?;
    let value_length = length(&mut reader, "value length")?;
    let name = reader.take("name", name_length.saturating_mul(2))?;
    let value = reader.take("value", value_length)?;
    reader.finish("variable")?;
    let name = wide(name).ok_or_else(|| Malformed::value(FORMAT, "name", 32, "UTF-16", "something else"))?;
    Ok(Variable { vendor, name, value })
}

fn length(reader: &mut Reader<'_>, field: &'static str) -> Result<usize, Malformed> {
    let offset = reader.offset();
    let length = reader.u64(field)?;
    usize::try_from(length)
        .map_err(|_| Malformed::value(FORMAT, field, offset, "a length that fits", length.to_string()))
}

fn read_image(data: &[u8]) -> Result<Image<'_>, Malformed> {
    let mut reader = Reader::new(FORMAT, data);
    reader.u64("location")?;
    let image_length = reader.u64("length in memory")?;
    reader.u64("link-time address")?;
    let path_length = length(&mut reader, "device path length")?;
    let device_path = reader.take("device path", path_length)?;
    reader.finish("image")?;
    Ok(Image { length: image_length, device_path })
}

fn read_tagged(data: &[u8]) -> Result<Tagged<'_>, Malformed> {
    let mut reader = Reader::new(FORMAT, data);
    let tag = reader.u32("tag")?;
    let length = reader.u32("length")? as usize;
    let data = reader.take("data", length)?;
    // Linux counts the NUL after its text in one version, and not in another.
    if !matches!(reader.rest(), [] | [0]) {
        reader.finish("tagged structure")?;
    }
    Ok(Tagged { tag, data })
}

/// TD_SHIM_PLATFORM_CONFIG_INFO: a name of 16 bytes, a length, the value.
fn read_shim_configuration(data: &[u8]) -> Option<Content<'_>> {
    let (name, rest) = data.split_first_chunk::<16>()?;
    let (length, value) = rest.split_first_chunk::<4>()?;
    let name = ascii(&data[..name.iter().position(|&byte| byte == 0).unwrap_or(name.len())])?;
    let fits = u32::from_le_bytes(*length) as usize == value.len() && name.starts_with("td_");
    fits.then_some(Content::ShimConfiguration { name, value })
}

fn read_boot_loader(data: &[u8]) -> Option<Content<'_>> {
    const LABELS: [(&str, bool); 4] = [
        ("grub_cmd: ", false),
        ("kernel_cmdline: ", true),
        // Before grub 2.04, and in distributions that keep to it. Those also write a byte too much after the NUL.
        ("grub_cmd ", false),
        ("grub_kernel_cmdline ", true),
    ];
    let end = data.iter().position(|&byte| byte == 0).unwrap_or(data.len());
    if end > 1 && data.len() - end <= 2 {
        let text = std::str::from_utf8(&data[..end]).ok()?;
        let labelled = LABELS.iter().find_map(|(label, kernel_command_line)| {
            let text = text.strip_prefix(label)?;
            Some(Content::Grub(Grub { kernel_command_line: *kernel_command_line, text }))
        });
        return Some(labelled.unwrap_or(Content::Named(text)));
    }
    wide(data).map(Content::Wide)
}

/// A version in UTF-16, or a GUID.
fn version(data: &[u8]) -> Option<String> {
    let text = wide(data).filter(|text| text.bytes().all(|byte| matches!(byte, b' '..=b'~')));
    text.or_else(|| (data.len() == 16).then(|| device_path::guid(data)).flatten())
}

/// Text in printable ASCII.
fn ascii(data: &[u8]) -> Option<&str> {
    let data = data.strip_suffix(&[0]).unwrap_or(data);
    let printable = data.iter().all(|byte| matches!(byte, b' '..=b'~' | b'\t' | b'\n' | b'\r'));
    if printable { std::str::from_utf8(data).ok() } else { None }
}

/// Text in UTF-16, little-endian, up to the NUL if there is one. systemd-boot wrote a byte too few for the last unit.
pub(super) fn wide(data: &[u8]) -> Option<String> {
    let units: Vec<u16> = data.chunks_exact(2).map(|unit| u16::from_le_bytes([unit[0], unit[1]])).collect();
    let end = units.iter().position(|&unit| unit == 0).unwrap_or(units.len());
    if end == 0 || units[end..].iter().any(|&unit| unit != 0) {
        return None;
    }
    String::from_utf16(&units[..end]).ok().filter(|text| !text.chars().any(|char| char.is_control()))
}

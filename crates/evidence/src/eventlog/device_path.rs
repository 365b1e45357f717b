//! UEFI device paths as text (UEFI 2.10, §10.3, §10.6): the nodes that boot paths are made of, by name; others by
//! their numbers.

use std::fmt::Write;

const MEDIA: u8 = 4;
const END: u8 = 0x7f;

/// The path as text; None when its nodes do not fit its length.
pub(super) fn text(mut path: &[u8]) -> Option<String> {
    let mut text = String::new();
    while let Some((&[kind, subkind, low, high], _)) = path.split_first_chunk::<4>() {
        let length = usize::from(u16::from_le_bytes([low, high]));
        if length < 4 || length > path.len() {
            return None;
        }
        let (node, rest) = path.split_at(length);
        path = rest;
        if kind == END {
            continue;
        }
        if !text.is_empty() {
            text.push('/');
        }
        write_node(kind, subkind, &node[4..], &mut text);
    }
    path.is_empty().then_some(text)
}

fn write_node(kind: u8, subkind: u8, data: &[u8], text: &mut String) {
    let written = match (kind, subkind) {
        (1, 1) => pair(data).map(|[function, device]| write!(text, "Pci({device:#x},{function:#x})")),
        (2, 1) => words(data).map(|[hid, uid]| {
            if hid & 0xffff == 0x41d0 && hid >> 16 == 0x0a03 {
                return write!(text, "PciRoot({uid:#x})");
            }
            write!(text, "Acpi({hid:#010x},{uid:#x})")
        }),
        (3, 2) => words(data).map(|[target, unit]| {
            let [target, unit] = [target & 0xffff, (target >> 16) | (unit << 16)];
            write!(text, "Scsi({target:#x},{unit:#x})")
        }),
        (3, 23) => data
            .split_first_chunk::<4>()
            .map(|(namespace, _)| write!(text, "NVMe({:#x})", u32::from_le_bytes(*namespace))),
        (MEDIA, 1) => hard_drive(data).map(|(number, id)| write!(text, "HD({number},{id})")),
        (MEDIA, 4) => wide(data).map(|path| write!(text, "{path}")),
        (MEDIA, 3) => guid(data).map(|id| write!(text, "VenMedia({id})")),
        (MEDIA, 6) => guid(data).map(|id| write!(text, "FvFile({id})")),
        (MEDIA, 7) => guid(data).map(|id| write!(text, "Fv({id})")),
        _ => None,
    };
    if !matches!(written, Some(Ok(()))) {
        let _ = write!(text, "Path({kind},{subkind},{})", hex::encode(data));
    }
}

fn pair(data: &[u8]) -> Option<[u8; 2]> {
    data.try_into().ok()
}

fn words(data: &[u8]) -> Option<[u32; 2]> {
    let (first, rest) = data.split_first_chunk::<4>()?;
    let mut second = [0; 4];
    let rest = rest.get(..rest.len().min(4))?;
    second.get_mut(..rest.len())?.copy_from_slice(rest);
    Some([u32::from_le_bytes(*first), u32::from_le_bytes(second)])
}

/// Partition number and the partition's id.
fn hard_drive(data: &[u8]) -> Option<(u32, String)> {
    const GPT: u8 = 2;
    let number = u32::from_le_bytes(data.get(..4)?.try_into().ok()?);
    let id = match data.get(37)? {
        &GPT => guid(data.get(20..36)?)?,
        _ => hex::encode(data.get(20..36)?),
    };
    Some((number, id))
}

fn wide(data: &[u8]) -> Option<String> {
    let units: Vec<u16> = data.chunks_exact(2).map(|unit| u16::from_le_bytes([unit[0], unit[1]])).collect();
    let end = units.iter().position(|&unit| unit == 0).unwrap_or(units.len());
    let text = String::from_utf16(&units[..end]).ok()?;
    (!text.chars().any(char::is_control)).then_some(text)
}

/// A GUID, in the form that people write it.
pub(super) fn guid(data: &[u8]) -> Option<String> {
    let id: &[u8; 16] = data.get(..16)?.try_into().ok()?;
    let [a, b, c, d, e, f, g, h, rest @ ..] = *id;
    let first = u32::from_le_bytes([a, b, c, d]);
    let [second, third] = [u16::from_le_bytes([e, f]), u16::from_le_bytes([g, h])];
    let (fourth, fifth) = rest.split_at(2);
    Some(format!(
        "{first:08X}-{second:04X}-{third:04X}-{}-{}",
        hex::encode_upper(fourth),
        hex::encode_upper(fifth)
    ))
}

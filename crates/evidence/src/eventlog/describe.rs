//! A log as people read it.

use serde::Serialize;

use super::content::{Content, Tagged};
use super::{Event, EventLog, device_path, kind};
use super::{TAG_ATTESTATION_AGENT, TAG_INITRD, TAG_LOAD_OPTIONS};

/// Longer descriptions are cut, and say so.
const MAX_TEXT: usize = 400;

/// One event, readable.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct EventDescription {
    /// The place in the log, counted from zero.
    pub index: usize,
    /// The register: a PCR, or a measurement register of a confidential VM (0 is MRTD, 1 to 4 are RTMR 0 to 3).
    pub register: u32,
    /// The name of the kind, or its number.
    pub kind: String,
    /// The digest by the strongest algorithm of the log, hexadecimal; empty for events that are not extended.
    pub digest: String,
    /// What the log says that was measured: its word, not more.
    pub description: String,
}

impl EventLog {
    /// The events, readable: what the log says, of which nothing is verified.
    pub fn describe(&self) -> Vec<EventDescription> {
        self.events().iter().enumerate().map(|(index, event)| describe(index, event)).collect()
    }
}

fn describe(index: usize, event: &Event) -> EventDescription {
    let strongest = event.digests.iter().max_by_key(|(_, digest)| digest.len());
    let digest =
        strongest.filter(|_| event.is_extended()).map_or_else(String::new, |(_, digest)| hex::encode(digest));
    EventDescription {
        index,
        register: event.register,
        kind: kind::name(event.kind).map_or_else(|| format!("{:#010x}", event.kind), str::to_owned),
        digest,
        description: shortened(description(event)),
    }
}

fn description(event: &Event) -> String {
    match event.content() {
        Content::Separator => format!("separator {}", hex::encode(&event.data)),
        Content::Variable(variable) => {
            format!("variable {} ({} bytes)", variable.name, variable.value.len())
        }
        Content::Image(image) => {
            let path = image.path().unwrap_or_else(|| "path that cannot be read".into());
            format!("image {path} ({} bytes)", image.length)
        }
        Content::Text(text) => text,
        Content::Grub(grub) if grub.kernel_command_line => format!("kernel command line: {}", grub.text),
        Content::Grub(grub) => format!("grub command: {}", grub.text),
        Content::Named(name) => name.into(),
        Content::Wide(text) => text,
        Content::Tagged(tagged) => describe_tagged(tagged),
        Content::ShimConfiguration { name, value } => match shim_text(name, value) {
            Some(text) => format!("{name}: {text}"),
            None => format!("{name} ({} bytes)", value.len()),
        },
        Content::NoAction => describe_no_action(&event.data),
        Content::Opaque => describe_opaque(&event.data),
    }
}

/// The text of td-shim's entry for the kernel's command line, which it pads with zeros.
pub(super) fn shim_text<'a>(name: &str, value: &'a [u8]) -> Option<&'a str> {
    let end = value.iter().rposition(|&byte| byte != 0).map_or(0, |last| last + 1);
    let text = std::str::from_utf8(&value[..end]).ok()?;
    (name == "td_payload_info" && !text.chars().any(char::is_control)).then_some(text)
}

fn describe_tagged(tagged: Tagged<'_>) -> String {
    match tagged.tag {
        TAG_LOAD_OPTIONS => "load options of the kernel".into(),
        TAG_INITRD => "initrd".into(),
        TAG_ATTESTATION_AGENT => printable(tagged.data),
        tag => format!("tag {tag:#010x} ({} bytes)", tagged.data.len()),
    }
}

fn describe_no_action(data: &[u8]) -> String {
    if data.starts_with(b"Spec ID Event") {
        return "header of the log".into();
    }
    match data.strip_prefix(b"StartupLocality\0") {
        Some([locality]) => format!("the TPM was started at locality {locality}"),
        _ => describe_opaque(data),
    }
}

fn describe_opaque(data: &[u8]) -> String {
    let end = data.iter().position(|&byte| byte == 0).unwrap_or(data.len());
    let text = data[..end].iter().all(|byte| matches!(byte, b' '..=b'~'));
    match text && end > 3 {
        true => printable(&data[..end]),
        false => format!("{} bytes", data.len()),
    }
}

fn printable(data: &[u8]) -> String {
    String::from_utf8_lossy(data).into_owned()
}

/// Control characters of a hostile log stay out of terminals.
fn shortened(text: String) -> String {
    let clean = |char: char| if char.is_control() { '\u{fffd}' } else { char };
    let mut short: String = text.chars().take(MAX_TEXT).map(clean).collect();
    if text.chars().nth(MAX_TEXT).is_some() {
        short.push('…');
    }
    short
}

impl super::Image<'_> {
    /// The device path as text (UEFI 2.10, §10.6); None when it cannot be read. No digest covers it.
    pub fn path(&self) -> Option<String> {
        device_path::text(self.device_path)
    }
}

impl Content<'_> {
    /// The kernel's command line that td-shim was given, where this is its event.
    pub fn shim_command_line(&self) -> Option<&str> {
        match self {
            Self::ShimConfiguration { name, value } => shim_text(name, value),
            _ => None,
        }
    }
}

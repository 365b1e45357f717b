//! Command lines of kernels: which of the texts that boot loaders measured is one, and what the kernel itself measured.

use std::collections::BTreeSet;

use evidence::eventlog::HashAlgorithm;

use super::claims::{BootClaims, CommandLine, CommandLineSource, Section};
use super::replay::hash;
use crate::verdict::Check;
use crate::{Code, Crypto};

/// A text that grub measured, with what its label says.
pub(super) struct GrubText<'a> {
    pub(super) text: &'a str,
    pub(super) kernel_command_line: bool,
}

/// The command lines among grub's texts, in the order of the register. A label may lie: it is covered by no digest.
/// The texts themselves and their order are proven, and grub measures the command line while it runs the command that
/// loads the kernel, so a text right after `linux TEXT` is one whatever its label. That confirms it if `complete`:
/// otherwise a later command may hide among events whose text is not proven.
pub(super) fn of_grub(texts: &[GrubText<'_>], complete: bool) -> Vec<CommandLine> {
    let line = |(index, text): (usize, &GrubText<'_>)| {
        let before = index.checked_sub(1).and_then(|before| texts.get(before));
        let loaded = before.is_some_and(|before| loads(before.text, text.text));
        (loaded || text.kernel_command_line).then(|| CommandLine {
            text: text.text.into(),
            source: CommandLineSource::Grub,
            confirmed: loaded && complete,
        })
    };
    texts.iter().enumerate().filter_map(line).collect()
}

fn loads(command: &str, line: &str) -> bool {
    const COMMANDS: [&str; 3] = ["linux ", "linuxefi ", "linux16 "];
    // grub quotes arguments in the one text and not in the other.
    let bare = |text: &str| text.replace(['"', '\'', '\\'], "");
    let rest = COMMANDS.iter().find_map(|name| command.strip_prefix(name));
    rest.is_some_and(|rest| bare(rest.trim_end()) == bare(line.trim_end()))
}

/// Marks the lines whose load options the kernel measured.
pub(super) fn confirm(claims: &mut BootClaims, crypto: &dyn Crypto) {
    let (algorithm, options) = (claims.algorithm, &claims.load_options);
    for line in claims.kernel_command_lines.iter_mut().filter(|line| !line.confirmed) {
        line.confirmed = load_options(&line.text, algorithm, crypto).any(|digest| options.contains(&digest));
    }
}

/// The digests that load options with this command line can have: in UTF-16, with or without the NUL after them, and
/// with the word that grub puts before the image's name (Linux, `drivers/firmware/efi/libstub`).
fn load_options<'a>(
    line: &'a str,
    algorithm: HashAlgorithm,
    crypto: &'a dyn Crypto,
) -> impl Iterator<Item = String> + 'a {
    ["", "BOOT_IMAGE="].into_iter().flat_map(move |prefix| {
        let wide = |text: &str| text.encode_utf16().flat_map(u16::to_le_bytes).collect::<Vec<u8>>();
        let text = [wide(prefix), wide(line)].concat();
        [&b""[..], &[0, 0]]
            .map(|end| hash(algorithm, &[&text, end], crypto).map(hex::encode).unwrap_or_default())
    })
}

/// Whether the kernel was started with one of the command lines that a policy names.
pub(super) fn check(
    allowed: &BTreeSet<String>,
    claims: &BootClaims,
    complete: bool,
    crypto: &dyn Crypto,
) -> Check {
    const NAME: &str = "kernel-command-line";
    let fail = |text: &str, observed: &str| {
        Check::failed(NAME, Code::KernelCommandLineMismatch, text)
            .expected(allowed.iter().map(String::as_str).collect::<Vec<_>>().join(" | "))
            .observed(observed.replace(|char: char| char.is_control(), "\u{fffd}"))
            .mend("boot with a command line that the policy names, or name this one in boot.kernel_command_line")
    };
    if !complete {
        let text =
            "an event of the register for command lines does not prove its text: it may hide another one";
        return fail(text, "an event whose digest is not one of its text");
    }
    for line in &claims.kernel_command_lines {
        let known = allowed.contains(&line.text) || allowed.contains(without_image(&line.text));
        if !known {
            return fail("the kernel was started with another command line", &line.text);
        }
        if !line.confirmed {
            return fail("that this is a command line is only the log's word", &line.text);
        }
    }
    let section = claims.unified_kernel_sections.iter().find(|section| section.name == ".cmdline");
    if let Some(section) =
        section.filter(|section| !allowed.iter().any(|line| is_section(line, section, claims, crypto)))
    {
        return fail("the kernel image has another command line in it", &section.digest);
    }
    let shown: BTreeSet<String> = allowed
        .iter()
        .chain(claims.kernel_command_lines.iter().map(|line| &line.text))
        .flat_map(|line| load_options(line, claims.algorithm, crypto))
        .collect();
    if let Some(other) = claims.load_options.iter().find(|digest| !shown.contains(*digest)) {
        return fail("the kernel measured other load options", other);
    }
    // A section alone shows nothing: the stub may have been given another line, by a host that hides that event.
    if claims.kernel_command_lines.is_empty() && claims.load_options.is_empty() {
        return fail("the event log shows no command line", "none");
    }
    Check::passed(NAME, "the kernel was started with a command line that the policy names")
}

/// Whether the section of a unified kernel image holds this command line: tools end it with a NUL, a line feed, or
/// not at all.
fn is_section(line: &str, section: &Section, claims: &BootClaims, crypto: &dyn Crypto) -> bool {
    ["", "\0", "\n"].iter().any(|end| {
        let digest = hash(claims.algorithm, &[line.as_bytes(), end.as_bytes()], crypto);
        digest.is_ok_and(|digest| hex::encode(digest) == section.digest)
    })
}

/// A line of grub's without the name of the image, which comes first.
fn without_image(line: &str) -> &str {
    match line.split_once(' ') {
        Some((image, rest)) if image.starts_with(['/', '(']) => rest,
        _ => line,
    }
}

//! Unified kernel images: a kernel, its command line, initial RAM disk and more, in the sections of one EFI program
//! (UAPI Group Specifications, UKI; systemd-stub(7)). What its stub and the userspace it starts extend into PCR 11,
//! and what firmware extends into PCR 4.

use crate::pe::Program;
use crate::{Bank, Malformed, Register};

const ARTEFACT: &str = "unified kernel image";
/// The sections that are measured, in the order in which they are, which is not that of the file (systemd-stub(7);
/// `.pcrsig` signs the result, and is not).
const MEASURED: [&str; 9] =
    [".linux", ".osrel", ".cmdline", ".initrd", ".ucode", ".splash", ".dtb", ".uname", ".sbat"];
const PUBLIC_KEY: &str = ".pcrpkey";
/// Sections of which the machine, or a person at its boot menu, picks one.
const CHOSEN_AT_BOOT: [&str; 4] = [".profile", ".dtbauto", ".hwids", ".efifw"];

/// The words that `systemd-pcrphase` extends into PCR 11 while a system starts, in their order
/// (systemd-pcrphase.service(8)).
pub const PHASES: [&str; 4] = ["enter-initrd", "leave-initrd", "sysinit", "ready"];

/// A parsed image.
#[derive(Clone, Debug)]
pub struct Uki<'a> {
    program: Program<'a>,
    /// Name and contents of what is measured, in that order.
    measured: Vec<(&'static str, &'a [u8])>,
}

impl<'a> Uki<'a> {
    /// Reads an image.
    ///
    /// # Errors
    /// [`Malformed`] when it is none, or when what it measures depends on the machine that it boots on.
    pub fn parse(bytes: &'a [u8]) -> Result<Self, Malformed> {
        let program = Program::parse(bytes)?;
        if program.sections().iter().any(|section| CHOSEN_AT_BOOT.contains(&section.name)) {
            return Err(Malformed::Unsupported {
                artefact: ARTEFACT,
                reason: "it has sections that are chosen at boot (.profile, .dtbauto, .hwids or .efifw), so there is \
                         no one value; build an image for each choice",
            });
        }
        let mut measured = Vec::new();
        for name in MEASURED.into_iter().chain([PUBLIC_KEY]) {
            let mut found = program.sections().iter().filter(|section| section.name == name);
            let Some(section) = found.next() else { continue };
            if found.next().is_some() {
                return Err(Malformed::field(ARTEFACT, "sections", "one of each name"));
            }
            if section.loaded != section.contents.len() {
                return Err(Malformed::field(
                    ARTEFACT,
                    "section",
                    "a size in memory of at most that in the file",
                ));
            }
            measured.push((name, section.contents));
        }
        match measured.first() {
            Some((".linux", _)) => Ok(Self { program, measured }),
            _ => Err(Malformed::field(ARTEFACT, "sections", "a section .linux: this is another EFI program")),
        }
    }

    /// The contents of a measured section, such as `.cmdline`.
    pub fn section(&self, name: &str) -> Option<&'a [u8]> {
        self.measured.iter().find(|(own, _)| *own == name).map(|(_, contents)| *contents)
    }

    /// Names of the sections that are measured, in that order.
    pub fn measured(&self) -> impl Iterator<Item = &'static str> {
        self.measured.iter().map(|(name, _)| *name)
    }

    /// PCR 11 after these phases of the system's start: for each section its name with a NUL, then its contents; for
    /// each phase its word (`systemd-measure calculate` gives the same).
    pub fn pcr11(&self, bank: Bank, phases: &[&str]) -> Register {
        let mut register = Register::new(bank);
        for (name, contents) in &self.measured {
            register.extend(&bank.digest(&[name.as_bytes(), &[0]]));
            register.measure(contents);
        }
        for phase in phases {
            register.measure(phase.as_bytes());
        }
        register
    }

    /// The digest that firmware extends when it loads this image.
    ///
    /// # Errors
    /// [`Malformed`] when the file is not laid out so that there is one.
    pub fn authenticode(&self, bank: Bank) -> Result<Vec<u8>, Malformed> {
        self.program.authenticode(bank)
    }

    /// The digest that firmware extends when the stub has it load the kernel inside.
    ///
    /// # Errors
    /// [`Malformed`] when the kernel is no EFI program.
    pub fn kernel_authenticode(&self, bank: Bank) -> Result<Vec<u8>, Malformed> {
        Program::parse(self.measured[0].1)?.authenticode(bank)
    }
}

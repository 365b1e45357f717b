//! The image of a virtual machine that holds one Keep: kernel, initial RAM disk, command line, and nothing else. Built
//! byte for byte the same from the same parts, and measured offline. It starts nothing and does no I/O.
//!
//! ```text
//!  parts ─► Image { kernel, initrd, command line } ─► unified, on a disk   (machines with a TPM)
//!                            │                     └► QEMU's -kernel                    (SEV-SNP, TDX)
//!                            └► what they measure to: PCR 4, 9, 12; MEASUREMENT; MRTD, RTMR1, RTMR2
//! ```
//!
//! `docs/vm-guest.md` says what each register holds, and what a host can still decide.

pub mod archive;
mod command_line;
pub mod disk;
mod elf;
mod fat;
mod image;
pub mod measure;
mod unified;

pub use command_line::COMMAND_LINE;
pub use elf::Elf;
pub use image::{Image, MODULES, Parts};

/// The size of everything together that an image may have.
pub const MAX_IMAGE: usize = 256 * 1024 * 1024;

/// Why no image can be built.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Unbuildable {
    /// A part that is not what it should be.
    #[error("{artefact}: expected {expected}")]
    Artefact {
        /// Which part.
        artefact: &'static str,
        /// What it should be.
        expected: &'static str,
    },
    /// Something that a program needs is not among the parts.
    #[error("{wanted:?}, which {by:?} needs, is not among the parts")]
    Missing {
        /// What is needed.
        wanted: String,
        /// By what.
        by: String,
    },
    /// A part, or all of them, are too large.
    #[error("{artefact}: {size} bytes; at most {limit} are allowed")]
    TooLarge {
        /// Which part.
        artefact: &'static str,
        /// Its size in bytes.
        size: usize,
        /// The most that is allowed.
        limit: usize,
    },
    /// The compressor gave up.
    #[error("the initial RAM disk cannot be compressed: {0}")]
    Compression(String),
}

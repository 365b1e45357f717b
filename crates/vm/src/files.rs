//! The folder of a guest's image, as `bailey image build` makes it, and the files that a host makes for one machine.

use std::{
    fs,
    path::{Path, PathBuf},
};

use crate::{VmError, file};

/// A guest's image.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Guest {
    folder: PathBuf,
    command_line: String,
}

impl Guest {
    /// The image in a folder.
    ///
    /// # Errors
    /// [`VmError::File`] when there is none.
    pub fn open(folder: &Path) -> Result<Self, VmError> {
        let path = folder.join("cmdline");
        let command_line = fs::read_to_string(&path).map_err(file(&path))?;
        for name in ["disk.img", "kernel", "initrd", "firmware.fd"] {
            let path = folder.join(name);
            fs::metadata(&path).map_err(file(&path))?;
        }
        Ok(Self { folder: folder.to_owned(), command_line })
    }

    /// For machines that boot from a disk.
    pub fn disk(&self) -> PathBuf {
        self.folder.join("disk.img")
    }

    /// For machines whose kernel QEMU starts.
    pub fn kernel(&self) -> PathBuf {
        self.folder.join("kernel")
    }

    /// The initial RAM disk.
    pub fn initrd(&self) -> PathBuf {
        self.folder.join("initrd")
    }

    /// The kernel's command line.
    pub fn command_line(&self) -> &str {
        &self.command_line
    }

    /// Firmware.
    pub fn firmware(&self) -> PathBuf {
        self.folder.join("firmware.fd")
    }

    /// Firmware's variables, as a new machine has them.
    pub fn variables(&self) -> PathBuf {
        self.folder.join("variables.fd")
    }
}

/// The disk with a workload: its length, 8 bytes little-endian, then the workload, then zeros up to a whole block.
pub(crate) fn workload_disk(workload: &[u8]) -> Vec<u8> {
    let mut out = (workload.len() as u64).to_le_bytes().to_vec();
    out.extend_from_slice(workload);
    out.resize(out.len().next_multiple_of(512), 0);
    out
}

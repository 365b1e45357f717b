//! The image for machines that boot from a disk, as those with a TPM do.

use crate::{Image, Unbuildable, fat, unified};

/// os-release(5): what the image calls itself.
const RELEASE: &[u8] = b"ID=bailey\nNAME=\"Bailey guest\"\n";

impl Image {
    /// The image as one EFI program, with systemd's stub (`linuxx64.efi.stub`).
    ///
    /// # Errors
    /// [`Unbuildable`] when the stub is none.
    pub fn unified(&self, stub: &[u8]) -> Result<Vec<u8>, Unbuildable> {
        let sections: [(&str, &[u8]); 4] = [
            (".osrel", RELEASE),
            (".cmdline", self.command_line.as_bytes()),
            (".initrd", &self.initrd),
            (".linux", &self.kernel),
        ];
        unified::build(stub, &sections)
    }
}

/// The disk that firmware boots `unified` from: there is one file, where firmware looks for it.
///
/// # Errors
/// [`Unbuildable::TooLarge`].
pub fn bootable(unified: &[u8]) -> Result<Vec<u8>, Unbuildable> {
    fat::disk(&["EFI", "BOOT"], "BOOTX64 EFI", unified)
}

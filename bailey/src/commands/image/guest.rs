//! The folder of a guest's image: its files, written and read back.

use std::{
    fs,
    path::{Path, PathBuf},
};

use reference::uki::Uki;
use sha2::{Digest, Sha256};
use vm_image::{Image, MAX_IMAGE, disk};

use crate::failure::{Failure, Input, Outcome};

/// All of it.
pub(super) struct Artefacts {
    /// For QEMU's -kernel.
    pub(super) image: Image,
    /// As one EFI program.
    pub(super) unified: Vec<u8>,
    /// The disk that it is on.
    pub(super) disk: Vec<u8>,
    /// OVMF.
    pub(super) firmware: Vec<u8>,
    /// Its variables, empty.
    pub(super) variables: Vec<u8>,
}

impl Artefacts {
    /// Writes them to a folder of their own: whole, or not at all.
    pub(super) fn write(&self, folder: &Path) -> Outcome {
        let making = making(folder);
        let failed = |path: &Path| format!("{} cannot be written", path.display());
        if fs::exists(folder).malformed(failed(folder))? {
            return Err(Failure::malformed(format!("{} exists already", folder.display()))
                .hint("give another folder, or remove this one"));
        }
        let _ = fs::remove_dir_all(&making);
        fs::create_dir_all(&making).malformed(failed(&making))?;
        let files: [(&str, &[u8]); 7] = [
            ("kernel", &self.image.kernel),
            ("initrd", &self.image.initrd),
            ("cmdline", self.image.command_line.as_bytes()),
            ("image.efi", &self.unified),
            ("disk.img", &self.disk),
            ("firmware.fd", &self.firmware),
            ("variables.fd", &self.variables),
        ];
        for (name, bytes) in files {
            let path = making.join(name);
            fs::write(&path, bytes).malformed(failed(&path))?;
        }
        fs::rename(&making, folder).malformed(failed(folder))
    }

    /// Reads them back. The disk must hold the unified image, and that the other files.
    pub(super) fn open(folder: &Path) -> Outcome<Self> {
        if !folder.join("disk.img").is_file() {
            return Err(Failure::malformed(format!("{} holds no image of a guest", folder.display()))
                .hint("`bailey image build PARTS --out FOLDER` makes one"));
        }
        let file = |name: &str| read(&folder.join(name));
        let command_line = String::from_utf8(file("cmdline")?).malformed("the command line is not UTF-8")?;
        let image = Image {
            kernel: file("kernel")?,
            initrd: file("initrd")?,
            command_line,
            contents: std::collections::BTreeMap::new(),
        };
        let artefacts = Self {
            image,
            unified: file("image.efi")?,
            disk: file("disk.img")?,
            firmware: file("firmware.fd")?,
            variables: file("variables.fd")?,
        };
        let uki = Uki::parse(&artefacts.unified).malformed("image.efi cannot be measured")?;
        let parts = [
            (".linux", &artefacts.image.kernel[..]),
            (".initrd", &artefacts.image.initrd),
            (".cmdline", artefacts.image.command_line.as_bytes()),
        ];
        let same = parts.iter().all(|(name, bytes)| uki.section(name) == Some(bytes));
        if !same || disk::bootable(&artefacts.unified).is_ok_and(|disk| disk != artefacts.disk) {
            return Err(Failure::refused(format!(
                "the files of {} are not those of one image",
                folder.display()
            ))
            .hint("one was changed since; build the image again"));
        }
        Ok(artefacts)
    }
}

fn making(folder: &Path) -> PathBuf {
    let mut name = folder.as_os_str().to_owned();
    name.push(".new");
    name.into()
}

/// Reads a file that is at most as large as an image.
pub(super) fn read(path: &Path) -> Outcome<Vec<u8>> {
    let unreadable = || format!("{} cannot be read", path.display());
    let size = fs::metadata(path).malformed(unreadable())?.len();
    if size > 2 * MAX_IMAGE as u64 {
        return Err(Failure::malformed(format!("{} has {size} bytes, more than an image", path.display())));
    }
    fs::read(path).malformed(unreadable())
}

/// SHA-256, hexadecimal.
pub(super) fn digest(bytes: &[u8]) -> String {
    hex::encode(Sha256::digest(bytes))
}

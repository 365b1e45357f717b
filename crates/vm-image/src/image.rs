//! An image from its parts.

use std::collections::{BTreeMap, BTreeSet};

use crate::{
    COMMAND_LINE, MAX_IMAGE, Unbuildable,
    archive::{Archive, Kind},
    elf::Elf,
};

/// The kernel's modules that an image has, in the order in which they are loaded: what gives reports of TEEs, the network,
/// the disk that the workload comes on, what the host tells.
pub const MODULES: [&str; 9] = [
    "configfs",
    "tsm",
    "sev-guest",
    "tdx-guest",
    "failover",
    "net_failover",
    "virtio_net",
    "virtio_blk",
    "qemu_fw_cfg",
];
/// Folders that are mounted on.
const FOLDERS: [&str; 5] = ["dev", "proc", "run", "sys", "tmp"];
/// Where a program finds libraries.
const LIBRARIES: &str = "lib";
/// Level 19 is a tenth smaller than 12, and takes five times as long.
const LEVEL: i32 = 12;
const SIGNED: &[u8] = b"~Module signature appended~\n";

/// What an image is made of.
#[derive(Clone, Debug, Default)]
pub struct Parts {
    /// The kernel: a bzImage, an EFI program.
    pub kernel: Vec<u8>,
    /// The kernel's modules by name, not compressed, signed: those of [`MODULES`]; further ones are left out.
    pub modules: BTreeMap<String, Vec<u8>>,
    /// `bailey-init`, the first process.
    pub init: Vec<u8>,
    /// `bailey-keep`.
    pub keep: Vec<u8>,
    /// Libraries by file name, the loader among them: those that the programs need; further ones are left out.
    pub libraries: BTreeMap<String, Vec<u8>>,
}

/// An image.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Image {
    /// The kernel.
    pub kernel: Vec<u8>,
    /// The initial RAM disk, compressed.
    pub initrd: Vec<u8>,
    /// The kernel's command line.
    pub command_line: String,
    /// What is in the initial RAM disk: paths and sizes.
    pub contents: BTreeMap<String, usize>,
}

impl Image {
    /// Builds an image.
    ///
    /// # Errors
    /// [`Unbuildable`] names the part that is wrong, missing, or too large.
    pub fn build(parts: &Parts) -> Result<Self, Unbuildable> {
        if parts.kernel.get(0x202..0x206) != Some(b"HdrS") || !parts.kernel.starts_with(b"MZ") {
            return Err(Unbuildable::Artefact {
                artefact: "kernel",
                expected: "a Linux bzImage with an EFI stub",
            });
        }
        let mut archive = Archive::default();
        for (path, program) in [("init", &parts.init), ("bin/bailey-keep", &parts.keep)] {
            programs(&mut archive, path, program, parts)?;
        }
        for (index, name) in MODULES.iter().enumerate() {
            let missing = || Unbuildable::Missing { wanted: format!("{name}.ko"), by: "the kernel".into() };
            let module = parts.modules.get(*name).ok_or_else(missing)?;
            if !module.ends_with(SIGNED) {
                return Err(Unbuildable::Artefact {
                    artefact: "module",
                    expected: "a signed module, not compressed: the kernel takes no other",
                });
            }
            archive.insert(format!("{LIBRARIES}/modules/{index:02}-{name}.ko"), Kind::Data, module.clone());
        }
        let contents = archive.files().map(|(path, size)| (path.to_owned(), size)).collect();
        let archive = archive.to_bytes(&FOLDERS);
        let size = archive.len() + parts.kernel.len();
        if size > MAX_IMAGE {
            return Err(Unbuildable::TooLarge { artefact: "image", size, limit: MAX_IMAGE });
        }
        let initrd = zstd::bulk::compress(&archive, LEVEL)
            .map_err(|error| Unbuildable::Compression(error.to_string()))?;
        Ok(Self { kernel: parts.kernel.clone(), initrd, command_line: COMMAND_LINE.to_owned(), contents })
    }

    /// Bytes that are measured: kernel and initial RAM disk.
    pub fn size(&self) -> usize {
        self.kernel.len() + self.initrd.len()
    }
}

/// A program, with the libraries that it needs, and they need, and what loads them.
fn programs(archive: &mut Archive, path: &str, program: &[u8], parts: &Parts) -> Result<(), Unbuildable> {
    let elf = Elf::parse(program)?;
    archive.insert(path, Kind::Program, elf.stripped(program));
    let (mut wanted, mut seen) = (vec![(elf, path.to_owned())], BTreeSet::new());
    while let Some((elf, by)) = wanted.pop() {
        // The loader is looked for where the program says; libraries where Debian's loader looks last.
        let loader = elf.interpreter.iter().map(|path| path.trim_start_matches('/').to_owned());
        let libraries = elf.needed.iter().map(|name| format!("{LIBRARIES}/{name}"));
        for place in loader.chain(libraries) {
            if !seen.insert(place.clone()) {
                continue;
            }
            let name = place.rsplit('/').next().unwrap_or(&place).to_owned();
            let missing = || Unbuildable::Missing { wanted: name.clone(), by: by.clone() };
            let library = parts.libraries.get(&name).ok_or_else(missing)?;
            let elf = Elf::parse(library)?;
            archive.insert(place, Kind::Program, elf.stripped(library));
            wanted.push((elf, name));
        }
    }
    Ok(())
}

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

#[cfg(test)]
mod tests {
    use super::*;

    fn parts() -> Parts {
        let mut kernel = b"MZ".to_vec();
        kernel.resize(0x400, 0);
        kernel[0x202..0x206].copy_from_slice(b"HdrS");
        let program = std::fs::read(std::env::current_exe().unwrap()).unwrap();
        let elf = Elf::parse(&program).unwrap();
        let mut libraries = BTreeMap::new();
        for name in elf
            .needed
            .iter()
            .cloned()
            .chain(elf.interpreter.iter().filter_map(|path| Some(path.rsplit('/').next()?.to_owned())))
        {
            let paths =
                ["/lib/x86_64-linux-gnu", "/lib64", "/usr/lib"].map(|folder| format!("{folder}/{name}"));
            let found = paths.iter().find_map(|path| std::fs::read(path).ok());
            libraries.insert(name, found.unwrap());
        }
        let module = |name: &str| (name.to_owned(), [name.as_bytes(), SIGNED].concat());
        let modules = MODULES.into_iter().map(module).collect();
        let keep = std::fs::read("/proc/self/exe").unwrap();
        Parts { kernel, modules, init: program, keep, libraries }
    }

    #[test]
    fn two_builds_are_the_same_and_hold_nothing_else() {
        let parts = parts();
        let first = Image::build(&parts).unwrap();
        assert_eq!(first, Image::build(&parts).unwrap());
        let known = |path: &str| {
            ["init", "bin/bailey-keep"].contains(&path)
                || path.starts_with("lib/")
                || path.starts_with("lib64/")
        };
        let others: Vec<_> = first.contents.keys().filter(|path| !known(path)).collect();
        assert!(others.is_empty(), "{others:?}");
        // Debug information and symbols are left out.
        assert!(first.contents["init"] < parts.init.len());
    }

    #[test]
    fn what_is_missing_or_wrong_is_named() {
        let refused = |change: &dyn Fn(&mut Parts)| {
            let mut changed = parts();
            change(&mut changed);
            Image::build(&changed).unwrap_err()
        };
        let missing = refused(&|parts| drop(parts.libraries.remove("libc.so.6")));
        assert!(matches!(missing, Unbuildable::Missing { wanted, .. } if wanted == "libc.so.6"));
        let missing = refused(&|parts| drop(parts.modules.remove("virtio_net")));
        assert!(matches!(missing, Unbuildable::Missing { wanted, .. } if wanted == "virtio_net.ko"));
        let unsigned = refused(&|parts| drop(parts.modules.insert("tsm".into(), b"tsm".to_vec())));
        assert!(matches!(unsigned, Unbuildable::Artefact { artefact: "module", .. }));
        let script = refused(&|parts| parts.keep = b"#!/bin/sh".to_vec());
        assert!(matches!(script, Unbuildable::Artefact { artefact: "program", .. }));
        let kernel = refused(&|parts| parts.kernel.clear());
        assert!(matches!(kernel, Unbuildable::Artefact { artefact: "kernel", .. }));
    }
}

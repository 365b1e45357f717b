//! `bailey image build`: the image of a virtual machine that holds one Keep, from a folder of parts. `cargo xtask tools`
//! makes such a folder.

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
};

use clap::Args;
use serde_json::json;
use vm_image::{Image, MODULES, Parts, disk};

use super::guest::{self, Artefacts, digest};
use crate::{
    commands::print_json,
    failure::{Failure, Input, Outcome},
};

/// The same parts give the same bytes. What they measure to: `bailey image measure`.
#[derive(Args)]
pub struct Build {
    /// The folder with the parts: kernel, modules/NAME.ko, libraries/NAME, stub.efi, firmware.fd, variables.fd
    parts: PathBuf,
    /// The program of the Keep; without one, PARTS/bailey-keep
    #[arg(long, value_name = "FILE")]
    keep: Option<PathBuf>,
    /// The first process; without one, PARTS/bailey-init
    #[arg(long, value_name = "FILE")]
    init: Option<PathBuf>,
    /// The folder to put the image into, which must not exist
    #[arg(long, value_name = "DIR")]
    out: PathBuf,
    /// For a program
    #[arg(long)]
    json: bool,
}

impl Build {
    pub(super) fn run(self) -> Outcome {
        let at = |name: &str| self.parts.join(name);
        if !at("kernel").is_file() {
            return Err(Failure::malformed(format!("{} has no parts of an image", self.parts.display()))
                .hint("`cargo xtask tools` makes such a folder: target/tools/vm"));
        }
        let parts = Parts {
            kernel: guest::read(&at("kernel"))?,
            modules: modules(&at("modules"))?,
            init: guest::read(&self.init.clone().unwrap_or_else(|| at("bailey-init")))?,
            keep: guest::read(&self.keep.clone().unwrap_or_else(|| at("bailey-keep")))?,
            libraries: folder(&at("libraries"))?,
        };
        let image = Image::build(&parts).malformed("no image can be built")?;
        let unified = image.unified(&guest::read(&at("stub.efi"))?).malformed("no image can be built")?;
        let artefacts = Artefacts {
            disk: disk::bootable(&unified).malformed("no image can be built")?,
            unified,
            image,
            firmware: guest::read(&at("firmware.fd"))?,
            variables: guest::read(&at("variables.fd"))?,
        };
        artefacts.write(&self.out)?;
        let image = &artefacts.image;
        let told = [
            ("kernel", &image.kernel),
            ("initrd", &image.initrd),
            ("image.efi", &artefacts.unified),
            ("disk.img", &artefacts.disk),
            ("firmware.fd", &artefacts.firmware),
        ];
        if self.json {
            let digests: BTreeMap<_, _> = told
                .iter()
                .map(|(name, bytes)| (*name, json!({ "size": bytes.len(), "sha256": digest(bytes) })))
                .collect();
            return print_json(&json!({
                "artefacts": digests, "command_line": image.command_line, "contents": image.contents,
            }));
        }
        for (name, bytes) in told {
            crate::say!("{name:<12} {:>9} bytes  sha256 {}", bytes.len(), digest(bytes));
        }
        crate::say!("{} bytes are measured; next: bailey image measure {}", image.size(), self.out.display());
        Ok(())
    }
}

fn modules(path: &Path) -> Outcome<BTreeMap<String, Vec<u8>>> {
    let mut modules = BTreeMap::new();
    for name in MODULES {
        modules.insert(name.to_owned(), guest::read(&path.join(format!("{name}.ko")))?);
    }
    Ok(modules)
}

fn folder(path: &Path) -> Outcome<BTreeMap<String, Vec<u8>>> {
    let unreadable = || format!("{} cannot be read", path.display());
    let mut files = BTreeMap::new();
    for entry in fs::read_dir(path).malformed(unreadable())? {
        let entry = entry.malformed(unreadable())?;
        let name = entry.file_name().into_string().map_err(|name| {
            Failure::malformed(format!("{} in {} is no name in UTF-8", name.display(), path.display()))
        })?;
        files.insert(name, guest::read(&entry.path())?);
    }
    Ok(files)
}

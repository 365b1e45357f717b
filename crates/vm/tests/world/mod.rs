//! What tests of machines share: the parts of an image, the image in a folder, and whom its client trusts.

use std::{
    collections::BTreeMap,
    net::{Ipv4Addr, SocketAddrV4},
    path::{Path, PathBuf},
    process::Command,
};

use appraisal::{AnchorKey, ReferenceValue, TrustAnchor};
use base64::{Engine, engine::general_purpose::STANDARD};
use evidence::{CertificateDer, Platform};
use vm::{Forward, authority::Authority};
use vm_image::{Image, MODULES, Parts, disk};

/// The parts that `cargo xtask tools` makes; None, told loudly, where they or the programs are not.
pub fn parts() -> Option<Parts> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../target/tools/vm");
    let there = |program: &str| Command::new(program).arg("--version").output().is_ok();
    if !there("qemu-system-x86_64") || !there("swtpm") || !folder.join("kernel").is_file() {
        eprintln!("\n*** NOT RUN: no virtual machines here: cargo xtask tools ***\n");
        return None;
    }
    let read = |path: PathBuf| std::fs::read(&path).unwrap_or_else(|_| panic!("{}", path.display()));
    let all = |kind: &str| -> BTreeMap<String, Vec<u8>> {
        let files =
            std::fs::read_dir(folder.join(kind)).expect("a folder").map(|file| file.expect("a file").path());
        files
            .map(|path| (path.file_name().expect("a name").to_str().expect("UTF-8").to_owned(), read(path)))
            .collect()
    };
    let modules = MODULES.map(|name| (name.to_owned(), read(folder.join(format!("modules/{name}.ko")))));
    Some(Parts {
        kernel: read(folder.join("kernel")),
        modules: modules.into(),
        init: read(testkit::binary("bailey-init")),
        keep: read(testkit::binary("bailey-keep")),
        libraries: all("libraries"),
    })
}

/// An image in a folder, as `bailey image build` leaves it.
pub fn written(image: &Image, folder: &Path) -> Vec<u8> {
    let tools = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../target/tools/vm");
    let unified = image.unified(&stub()).expect("an image");
    let disk = disk::bootable(&unified).expect("a disk");
    for (name, bytes) in [
        ("disk.img", &disk[..]),
        ("kernel", &image.kernel),
        ("initrd", &image.initrd),
        ("cmdline", image.command_line.as_bytes()),
    ] {
        std::fs::write(folder.join(name), bytes).expect("written");
    }
    for name in ["firmware.fd", "variables.fd"] {
        std::fs::copy(tools.join(name), folder.join(name)).expect("copied");
    }
    unified
}

/// A port of the guest, on one of the loopback address.
pub fn loopback(guest: u16) -> Forward {
    Forward { host: SocketAddrV4::new(Ipv4Addr::LOCALHOST, 0), guest }
}

pub fn value(registers: BTreeMap<String, String>) -> ReferenceValue {
    ReferenceValue {
        label: "keep in a virtual machine".into(),
        platform: Platform::Tpm,
        measurement: None,
        launch_configuration: None,
        registers,
        minimum: BTreeMap::new(),
    }
}

/// The CA of this host's TPMs, as a policy names it.
pub fn anchor(authority: &Authority) -> TrustAnchor {
    let pem = std::fs::read_to_string(authority.certificate()).expect("the CA");
    let text: String = pem.lines().filter(|line| !line.starts_with('-')).collect();
    let der = CertificateDer(STANDARD.decode(text).expect("base64"));
    TrustAnchor::new("this host", AnchorKey::Certificate(der), None).expect("an anchor")
}

pub fn stub() -> Vec<u8> {
    let tools = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../target/tools/vm");
    std::fs::read(tools.join("stub.efi")).expect("the stub")
}

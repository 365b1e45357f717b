//! The parts of the guest of virtual machines, below `target/tools/vm`: a kernel of Debian's and the few of its modules that
//! the guest loads, systemd's stub, firmware, and the libraries that our programs need. `bailey image build` makes the
//! image of them. Nothing of the system changes; apt checks Debian's signatures.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context, Result, bail, ensure};
use sha2::{Digest, Sha256};

use crate::shell::{available, root, run, step};

/// The kernel for virtual machines: of Debian 12 as a backport, and Debian 13's own. It must be 6.9 or later, for TDX.
const KERNELS: [&str; 2] = ["linux-image-6.12-cloud-amd64", "linux-image-cloud-amd64"];
const STUB_PACKAGE: &str = "systemd-boot-efi";
const STUB: &str = "usr/lib/systemd/boot/efi/linuxx64.efi.stub";
/// As `vm_image::MODULES`, which refuses an image without one.
const MODULES: [&str; 9] = [
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
/// What programs linked with glibc need.
const LIBRARIES: [&str; 4] = ["ld-linux-x86-64.so.2", "libc.so.6", "libgcc_s.so.1", "libm.so.6"];
const LIBRARY_FOLDER: &str = "/lib/x86_64-linux-gnu";
/// Of the package ovmf. The smaller one, where there are two: firmware hashes all of itself.
const FIRMWARE: [(&str, &str); 2] =
    [("OVMF_CODE.fd", "OVMF_VARS.fd"), ("OVMF_CODE_4M.fd", "OVMF_VARS_4M.fd")];
const FIRMWARE_FOLDER: &str = "/usr/share/OVMF";

/// Whether the tests of virtual machines have what they need.
pub fn ready() -> bool {
    let parts = root().join("target/tools/vm/variables.fd").is_file();
    parts && available("qemu-system-x86_64") && available("swtpm")
}

/// Sees to it that there are the parts, where that needs nobody's permission.
pub fn provide() -> Result<()> {
    let can = available("apt-get") && available("dpkg") && available("xz") && cfg!(target_arch = "x86_64");
    if ready() || !can {
        return Ok(());
    }
    step("unpacking the parts of the guest of virtual machines");
    let place = root().join("target/tools");
    // Made aside and then moved, so that a failure leaves nothing half done.
    let making = place.join("vm.new");
    let _ = fs::remove_dir_all(&making);
    let root = making.join("root");
    fs::create_dir_all(&root)?;
    for package in [kernel()?.as_str(), STUB_PACKAGE] {
        run(Command::new("apt-get").args(["-qq", "download", package]).current_dir(&making))?;
    }
    let mut told = String::new();
    for package in files(&making)?.iter().filter(|path| path.extension().is_some_and(|end| end == "deb")) {
        let digest = Sha256::digest(fs::read(package)?);
        let digest: String = digest.iter().map(|byte| format!("{byte:02x}")).collect();
        let name = package.file_name().unwrap_or_default().to_string_lossy().into_owned();
        told.push_str(&format!("{digest}  {name}\n"));
        run(Command::new("dpkg").arg("-x").arg(package).arg(&root))?;
        fs::remove_file(package)?;
    }
    unpack(&root, &making)?;
    // From what the image is: the same packages give the same image.
    fs::write(making.join("packages.sha256"), told)?;
    fs::remove_dir_all(&root)?;
    let last = place.join("vm");
    let _ = fs::remove_dir_all(&last);
    fs::rename(making, last)?;
    Ok(())
}

fn unpack(root: &Path, making: &Path) -> Result<()> {
    let boot = files(&root.join("boot"))?;
    let kernel = boot.iter().find(|path| path.to_string_lossy().contains("vmlinuz-"));
    fs::copy(kernel.context("the package has no kernel")?, making.join("kernel"))?;
    fs::copy(root.join(STUB), making.join("stub.efi")).context("the package has no stub")?;
    let (modules, libraries) = (making.join("modules"), making.join("libraries"));
    fs::create_dir(&modules)?;
    fs::create_dir(&libraries)?;
    let below = [root.join("lib/modules"), root.join("usr/lib/modules")];
    let tree = below.iter().find(|path| path.is_dir()).context("the package has no modules")?;
    for name in MODULES {
        let found = find(tree, &format!("{name}.ko.xz"))?;
        let packed = found.with_context(|| format!("the kernel has no module {name}"))?;
        let output = Command::new("xz").arg("-dc").arg(packed).output()?;
        ensure!(output.status.success(), "the module {name} cannot be unpacked");
        fs::write(modules.join(format!("{name}.ko")), output.stdout)?;
    }
    for name in LIBRARIES {
        fs::copy(Path::new(LIBRARY_FOLDER).join(name), libraries.join(name))
            .with_context(|| format!("this machine has no {name}"))?;
    }
    let firmware = Path::new(FIRMWARE_FOLDER);
    let Some((code, variables)) = FIRMWARE.iter().find(|(code, _)| firmware.join(code).is_file()) else {
        bail!("there is no OVMF here\n  mend: sudo apt-get install ovmf");
    };
    fs::copy(firmware.join(code), making.join("firmware.fd"))?;
    fs::copy(firmware.join(variables), making.join("variables.fd"))?;
    Ok(())
}

/// The package that one of the names stands for today.
fn kernel() -> Result<String> {
    for name in KERNELS {
        let output = Command::new("apt-cache").args(["depends", name]).output().context("apt-cache")?;
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        if let Some(package) = text.lines().find_map(|line| line.trim().strip_prefix("Depends: ")) {
            return Ok(package.to_owned());
        }
    }
    bail!("apt knows no kernel for virtual machines; `apt-get update` may be wanted first")
}

fn files(folder: &Path) -> Result<Vec<PathBuf>> {
    let mut files = fs::read_dir(folder)
        .and_then(|entries| {
            entries.map(|entry| entry.map(|entry| entry.path())).collect::<Result<Vec<_>, _>>()
        })
        .with_context(|| format!("{} cannot be read", folder.display()))?;
    files.sort();
    Ok(files)
}

fn find(folder: &Path, name: &str) -> Result<Option<PathBuf>> {
    for path in files(folder)? {
        if path.is_dir() && !path.is_symlink() {
            if let Some(found) = find(&path, name)? {
                return Ok(Some(found));
            }
        } else if path.file_name().is_some_and(|own| own == name) {
            return Ok(Some(path));
        }
    }
    Ok(None)
}

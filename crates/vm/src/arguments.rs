//! QEMU's arguments, from what a machine is to be. Pure: the golden texts in `tests/` are what a reviewer reads.
//!
//! Sources: QEMU's `docs/system/i386/amd-memory-encryption.rst` and `qapi/qom.json` (`sev-snp-guest`, since 9.1),
//! `docs/system/i386/tdx.rst` (`tdx-guest`, since 10.1), `docs/specs/tpm.rst`, `docs/specs/fw_cfg.rst`. The arguments for
//! SEV-SNP and TDX have **not yet run on hardware**.

use std::{
    net::SocketAddrV4,
    path::{Path, PathBuf},
};

use base64::{Engine, engine::general_purpose::STANDARD};

use serde::{Deserialize, Serialize};

use crate::files::Guest;

/// Where the guest's network card is, on QEMU's user network.
pub const GUEST_ADDRESS: &str = "10.0.2.15";
/// Where the guest finds the host's storage: on QEMU's user network, and nowhere else. A connection to it ends in the
/// machine's own folder on the host, also where the guest may connect to nothing.
pub const STORAGE: (&str, u16) = ("10.0.2.100", 7001);
/// Where the guest finds the workload that the host supplied; as in `bailey-init`.
pub const WORKLOAD: &str = "/run/bailey/workload";
/// How much of the console QEMU keeps for whoever reads it, in bytes.
pub const CONSOLE: usize = 1 << 20;

pub(crate) const STORAGE_SOCKET: &str = "storage.sock";

/// What executes the guest's instructions.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Accelerator {
    /// QEMU itself.
    #[default]
    Tcg,
    /// The processor, by KVM.
    Kvm,
}

/// What the machine consists of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Hardware {
    /// What executes it. SEV-SNP and TDX are always KVM's.
    pub accelerator: Accelerator,
    /// Memory in MiB.
    pub memory_mib: u64,
    /// Virtual processors.
    pub processors: u32,
}

impl Default for Hardware {
    fn default() -> Self {
        Self { accelerator: Accelerator::Tcg, memory_mib: 768, processors: 1 }
    }
}

/// What protects the machine, or witnesses what it booted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Protection {
    /// Nothing protects it; a TPM witnesses.
    Tpm,
    /// AMD SEV-SNP: memory encrypted, kernel, initial RAM disk and command line in MEASUREMENT, the digest of the launch
    /// configuration in HOST_DATA. Not yet run on hardware.
    Snp {
        /// Where the encryption bit is, and how many bits of physical addresses it costs (CPUID 0x8000001F, EBX).
        cbitpos: u8,
        /// The second of both.
        reduced_phys_bits: u8,
        /// SHA-256 of the launch configuration.
        host_data: [u8; 32],
    },
    /// Intel TDX: the digest of the launch configuration in MRCONFIGID. Not yet run on hardware.
    Tdx {
        /// SHA-384 of the launch configuration.
        mrconfigid: [u8; 48],
        /// The port of the quote generation service, by vsock on the host (context 2).
        quote_port: u32,
    },
}

impl Protection {
    /// SEV-SNP on today's processors.
    pub fn snp(host_data: [u8; 32]) -> Self {
        Self::Snp { cbitpos: 51, reduced_phys_bits: 1, host_data }
    }

    /// TDX, with the quote generation service at its usual port.
    pub fn tdx(mrconfigid: [u8; 48]) -> Self {
        Self::Tdx { mrconfigid, quote_port: 4050 }
    }
}

/// A port of this host that leads to one of the guest.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Forward {
    /// The host's address; QEMU picks the port where it is 0.
    pub host: SocketAddrV4,
    /// The guest's port.
    pub guest: u16,
}

/// What the host hands to the guest, as files. None of it is trusted there before it is measured.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Supplied {
    /// `opt/io.bailey/configuration`: the launch configuration.
    pub configuration: Option<PathBuf>,
    /// `opt/io.bailey/arguments`: hints, a JSON list.
    pub arguments: Option<PathBuf>,
    /// `opt/io.bailey/endorsements`: certificates of the TPM's attestation key.
    pub endorsements: Option<PathBuf>,
    /// The disk with the workload.
    pub workload: Option<PathBuf>,
    /// Ports of the guest that are opened on this host.
    pub ports: Vec<Forward>,
    /// Whether the guest finds storage at [`STORAGE`]: what it says there comes out of `storage.sock` in the machine's folder.
    pub storage: bool,
    /// Whether the guest may connect to others by itself. Then it can reach the host's loopback services, too, at 10.0.2.2.
    pub outgoing: bool,
}

/// All arguments. `folder` is the machine's own: sockets and variables of firmware lie there.
pub fn qemu(
    guest: &Guest,
    hardware: &Hardware,
    protection: &Protection,
    supplied: &Supplied,
    folder: &Path,
) -> Vec<String> {
    let mut all = Arguments::default();
    all.flag("-nodefaults").flag("-no-user-config").flag("-no-reboot");
    // Stays, so that the last of the console can be read.
    all.pair("-action", "shutdown=pause").pair("-display", "none");
    all.pair("-sandbox", "on,obsolete=deny,elevateprivileges=deny,spawn=deny,resourcecontrol=deny");
    all.pair("-m", hardware.memory_mib).pair("-smp", hardware.processors);
    all.pair("-qmp", format!("unix:{},server=on,wait=off", text(&folder.join("qmp"))));
    all.pair("-chardev", format!("ringbuf,id=console,size={CONSOLE}")).pair("-serial", "chardev:console");
    machine(&mut all, hardware, protection);
    boot(&mut all, guest, protection, folder);
    for (name, path) in [
        ("configuration", &supplied.configuration),
        ("arguments", &supplied.arguments),
        ("endorsements", &supplied.endorsements),
    ] {
        if let Some(path) = path {
            all.pair("-fw_cfg", format!("name=opt/io.bailey/{name},file={}", text(path)));
        }
    }
    if let Some(disk) = &supplied.workload {
        all.pair("-drive", format!("if=none,id=workload,format=raw,readonly=on,file={}", text(disk)));
        all.pair("-device", "virtio-blk-pci,drive=workload,serial=workload,addr=3");
    }
    let restrict = if supplied.outgoing { "off" } else { "on" };
    let mut network = format!("user,id=net,ipv6=off,restrict={restrict}");
    for Forward { host, guest } in &supplied.ports {
        network.push_str(&format!(",hostfwd=tcp:{host}-{GUEST_ADDRESS}:{guest}"));
    }
    if supplied.storage {
        let socket = text(&folder.join(STORAGE_SOCKET));
        all.pair("-chardev", format!("socket,id=storage,path={socket},server=on,wait=off"));
        network.push_str(&format!(",guestfwd=tcp:{}:{}-chardev:storage", STORAGE.0, STORAGE.1));
    }
    all.pair("-netdev", network);
    all.pair("-device", "virtio-net-pci,netdev=net,addr=4,romfile=");
    all.0
}

fn machine(all: &mut Arguments, hardware: &Hardware, protection: &Protection) {
    match protection {
        Protection::Tpm => {
            let (accelerator, processor) = match hardware.accelerator {
                Accelerator::Tcg => ("tcg", "max"),
                Accelerator::Kvm => ("kvm", "host"),
            };
            all.pair("-machine", "q35,hpet=off").pair("-accel", accelerator).pair("-cpu", processor);
        }
        Protection::Snp { cbitpos, reduced_phys_bits, host_data } => {
            let memory = hardware.memory_mib;
            all.pair("-machine", "q35,confidential-guest-support=tee,memory-backend=ram");
            all.pair("-accel", "kvm").pair("-cpu", "EPYC-v4");
            all.pair(
                "-object",
                format!("memory-backend-memfd,id=ram,size={memory}M,share=true,prealloc=false"),
            );
            // Policy: SMT allowed, the reserved bit that must be one; no debugging, no migration.
            all.pair(
                "-object",
                format!(
                    "sev-snp-guest,id=tee,cbitpos={cbitpos},reduced-phys-bits={reduced_phys_bits},policy=0x30000,\
                     kernel-hashes=on,host-data={}",
                    STANDARD.encode(host_data)
                ),
            );
        }
        Protection::Tdx { mrconfigid, quote_port } => {
            all.pair("-machine", "q35,kernel-irqchip=split,confidential-guest-support=tee,hpet=off");
            all.pair("-accel", "kvm").pair("-cpu", "host");
            // An object with a socket address in it can only be given as JSON.
            let object = serde_json::json!({
                "qom-type": "tdx-guest",
                "id": "tee",
                "mrconfigid": STANDARD.encode(mrconfigid),
                "quote-generation-socket": { "type": "vsock", "cid": "2", "port": quote_port.to_string() },
            });
            all.pair("-object", object);
        }
    }
}

fn boot(all: &mut Arguments, guest: &Guest, protection: &Protection, folder: &Path) {
    match protection {
        Protection::Tpm => {
            let flash = |unit, only, path: &Path| {
                format!("if=pflash,format=raw,unit={unit},readonly={only},file={}", text(path))
            };
            all.pair("-drive", flash(0, "on", &guest.firmware()));
            all.pair("-drive", flash(1, "off", &folder.join("variables")));
            all.pair("-chardev", format!("socket,id=tpm,path={}", text(&folder.join("tpm.sock"))));
            all.pair("-tpmdev", "emulator,id=tpm,chardev=tpm").pair("-device", "tpm-crb,tpmdev=tpm");
            let disk = text(&guest.disk());
            all.pair("-drive", format!("if=none,id=image,format=raw,readonly=on,file={disk}"));
            all.pair("-device", "virtio-blk-pci,drive=image,bootindex=0,addr=2");
        }
        Protection::Snp { .. } | Protection::Tdx { .. } => {
            all.pair("-bios", text(&guest.firmware()));
            all.pair("-kernel", text(&guest.kernel())).pair("-initrd", text(&guest.initrd()));
            all.pair("-append", guest.command_line());
        }
    }
}

/// A path inside of an argument: commas are doubled there.
fn text(path: &Path) -> String {
    path.to_string_lossy().replace(',', ",,")
}

#[derive(Default)]
struct Arguments(Vec<String>);

impl Arguments {
    fn flag(&mut self, name: &str) -> &mut Self {
        self.0.push(name.to_owned());
        self
    }

    fn pair(&mut self, name: &str, value: impl ToString) -> &mut Self {
        self.0.extend([name.to_owned(), value.to_string()]);
        self
    }
}

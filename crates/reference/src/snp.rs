//! The launch digest of a SEV-SNP guest (AMD 56860, SEV Secure Nested Paging Firmware ABI, §8.17): a chain of SHA-384
//! over every page that the hypervisor loads, with its address and kind, the virtual processors' initial state among
//! them.

mod save_area;

use sha2::{Digest, Sha256, Sha384};

use crate::{Malformed, ovmf};
pub use save_area::{Hypervisor, ProcessorModel};

const ARTEFACT: &str = "OVMF firmware";
const PAGE: usize = 4096;
/// Where the first 4 GiB end, and firmware with them.
const FOUR_GIB: u64 = 1 << 32;
/// The address under which the initial state of processors is measured.
const SAVE_AREA_ADDRESS: u64 = 0xffff_ffff_f000;
/// Where the bootstrap processor starts.
const BOOTSTRAP_EIP: u32 = 0xffff_fff0;
/// dc886566-984a-4798-a75e-5585a7bf67cc: where the SEV metadata lie.
const METADATA: [u8; 16] =
    ovmf::guid(0xdc886566, 0x984a, 0x4798, [0xa7, 0x5e, 0x55, 0x85, 0xa7, 0xbf, 0x67, 0xcc]);
/// 00f771de-1a7e-4fcb-890e-68c77e2fb44e: where the other processors start.
const RESET_BLOCK: [u8; 16] =
    ovmf::guid(0x00f771de, 0x1a7e, 0x4fcb, [0x89, 0x0e, 0x68, 0xc7, 0x7e, 0x2f, 0xb4, 0x4e]);
/// 7255371f-3a3b-4b04-927b-1da6efa8d454: where the hashes of kernel, initrd and command line go.
const HASHES_TABLE: [u8; 16] =
    ovmf::guid(0x7255371f, 0x3a3b, 0x4b04, [0x92, 0x7b, 0x1d, 0xa6, 0xef, 0xa8, 0xd4, 0x54]);

/// A guest about to be launched.
#[derive(Clone, Debug)]
pub struct Guest<'a> {
    /// The firmware, whole.
    pub firmware: &'a [u8],
    /// What is started directly, when it is.
    pub kernel: Option<Kernel<'a>>,
    /// How many virtual processors there are.
    pub processors: u32,
    /// What the virtual processors claim to be; not looked at by every hypervisor.
    pub model: ProcessorModel,
    /// Who launches.
    pub hypervisor: Hypervisor,
    /// SEV_FEATURES of the initial state; 1 is SNP alone. Linux before 6.10 or so asks for 1, and then for what
    /// `kvm_amd` adds, such as 0x21 (debug swap).
    pub features: u64,
}

/// What the hypervisor starts directly, without a boot loader.
#[derive(Clone, Copy, Debug)]
pub struct Kernel<'a> {
    /// The kernel image.
    pub kernel: &'a [u8],
    /// The initial RAM disk; empty when there is none.
    pub initrd: &'a [u8],
    /// The command line, without a NUL at its end.
    pub command_line: &'a str,
}

/// MEASUREMENT of a report by this guest.
///
/// # Errors
/// [`Malformed`] when the firmware is none that can launch this guest.
pub fn launch_digest(guest: &Guest<'_>) -> Result<[u8; 48], Malformed> {
    let firmware = guest.firmware;
    if firmware.is_empty() || !firmware.len().is_multiple_of(PAGE) || firmware.len() as u64 > FOUR_GIB {
        return Err(Malformed::field(ARTEFACT, "length", "a multiple of 4096 bytes"));
    }
    let mut digest = LaunchDigest([0; 48]);
    digest.load(FOUR_GIB - firmware.len() as u64, firmware);
    sections(guest, &mut digest)?;
    for processor in 0..guest.processors {
        let eip = if processor == 0 { BOOTSTRAP_EIP } else { secondary_eip(firmware)? };
        let page = save_area::page(eip, guest);
        digest.update(PageKind::SaveArea, SAVE_AREA_ADDRESS, sha384(&page));
    }
    Ok(digest.0)
}

fn secondary_eip(firmware: &[u8]) -> Result<u32, Malformed> {
    ovmf::entry(firmware, RESET_BLOCK)?
        .and_then(|entry| ovmf::number(entry, 0))
        .ok_or_else(|| Malformed::field(ARTEFACT, "SEV-ES reset block", "an address"))
}

/// The pages that the firmware's metadata ask for.
fn sections(guest: &Guest<'_>, digest: &mut LaunchDigest) -> Result<(), Malformed> {
    let offset = ovmf::entry(guest.firmware, METADATA)?
        .and_then(|entry| ovmf::number(entry, 0))
        .ok_or_else(|| Malformed::field(ARTEFACT, "SEV metadata", "a table: this firmware is not for SNP"))?;
    let mut hashes_wanted = guest.kernel.is_some();
    for item in ovmf::items(guest.firmware, offset as usize, b"ASEV", 12)? {
        let [address, length, kind] = [0, 4, 8].map(|at| ovmf::number(item, at).unwrap_or_default());
        let (address, length) = (u64::from(address), length as usize);
        if !length.is_multiple_of(PAGE) {
            return Err(Malformed::field(ARTEFACT, "SEV metadata section", "a multiple of 4096 bytes"));
        }
        match (kind, guest.kernel) {
            (1 | 4, _) => digest.reserve(PageKind::Zero, address, length),
            (2, _) => digest.update(PageKind::Secrets, address, [0; 48]),
            (3, _) if guest.hypervisor == Hypervisor::Ec2 => {}
            (3, _) => digest.update(PageKind::Cpuid, address, [0; 48]),
            (0x10, Some(kernel)) => {
                hashes_wanted = false;
                digest.load(address, &hashes_page(guest.firmware, &kernel)?);
            }
            (0x10, None) => digest.reserve(PageKind::Zero, address, length),
            _ => {
                return Err(Malformed::field(
                    ARTEFACT,
                    "SEV metadata section",
                    "a kind of section that is known",
                ));
            }
        }
    }
    // EC2 loads the CPUID page last.
    if guest.hypervisor == Hypervisor::Ec2 {
        for item in ovmf::items(guest.firmware, offset as usize, b"ASEV", 12)? {
            if ovmf::number(item, 8) == Some(3) {
                digest.update(PageKind::Cpuid, u64::from(ovmf::number(item, 0).unwrap_or_default()), [0; 48]);
            }
        }
    }
    if hashes_wanted {
        return Err(Malformed::Unsupported {
            artefact: ARTEFACT,
            reason: "it does not measure a kernel that the hypervisor starts; use the firmware of OvmfPkg/AmdSev",
        });
    }
    Ok(())
}

/// The page with the hashes that firmware compares with what it is given (QEMU, `target/i386/sev.c`).
fn hashes_page(firmware: &[u8], kernel: &Kernel<'_>) -> Result<[u8; PAGE], Malformed> {
    const TABLE: [u8; 16] =
        ovmf::guid(0x9438d606, 0x4f22, 0x4cc9, [0xb4, 0x79, 0xa7, 0x93, 0xd4, 0x11, 0xfd, 0x21]);
    const COMMAND_LINE: [u8; 16] =
        ovmf::guid(0x97d02dd8, 0xbd20, 0x4c94, [0xaa, 0x78, 0xe7, 0x71, 0x4d, 0x36, 0xab, 0x2a]);
    const INITRD: [u8; 16] =
        ovmf::guid(0x44baf731, 0x3a2f, 0x4bd7, [0x9a, 0xf1, 0x41, 0xe2, 0x91, 0x69, 0x78, 0x1d]);
    const KERNEL: [u8; 16] =
        ovmf::guid(0x4de79437, 0xabd2, 0x427f, [0xb8, 0x35, 0xd5, 0xb1, 0x72, 0xd2, 0x04, 0x5b]);
    let address = ovmf::entry(firmware, HASHES_TABLE)?
        .and_then(|entry| ovmf::number(entry, 0))
        .filter(|address| *address != 0)
        .ok_or_else(|| Malformed::field(ARTEFACT, "table of hashes", "an address"))?;
    let mut table = TABLE.to_vec();
    // Header and three entries of 50 bytes each; with both lengths, 168.
    table.extend_from_slice(&168u16.to_le_bytes());
    let with_nul = [kernel.command_line.as_bytes(), &[0]].concat();
    for (guid, bytes) in
        [(COMMAND_LINE, with_nul.as_slice()), (INITRD, kernel.initrd), (KERNEL, kernel.kernel)]
    {
        table.extend_from_slice(&guid);
        table.extend_from_slice(&50u16.to_le_bytes());
        table.extend_from_slice(&Sha256::digest(bytes));
    }
    let mut page = [0; PAGE];
    let start = address as usize % PAGE;
    page.get_mut(start..start + table.len())
        .ok_or_else(|| Malformed::field(ARTEFACT, "table of hashes", "room in its page"))?
        .copy_from_slice(&table);
    Ok(page)
}

/// PAGE_TYPE of §8.17.2.
#[derive(Clone, Copy)]
enum PageKind {
    Normal = 1,
    SaveArea = 2,
    Zero = 3,
    Secrets = 5,
    Cpuid = 6,
}

/// LD: the chain so far.
struct LaunchDigest([u8; 48]);

impl LaunchDigest {
    /// Hashes PAGE_INFO (§8.17.2, table 67).
    fn update(&mut self, kind: PageKind, address: u64, contents: [u8; 48]) {
        const LENGTH: u16 = 0x70;
        let mut info = Sha384::new();
        info.update(self.0);
        info.update(contents);
        info.update(LENGTH.to_le_bytes());
        // Kind; not an initial migration image; no permissions for VMPL 3, 2 and 1; a reserved byte.
        info.update([kind as u8, 0, 0, 0, 0, 0]);
        info.update(address.to_le_bytes());
        self.0 = info.finalize().into();
    }

    fn load(&mut self, address: u64, bytes: &[u8]) {
        for (index, page) in bytes.chunks(PAGE).enumerate() {
            self.update(PageKind::Normal, address + (index * PAGE) as u64, sha384(page));
        }
    }

    /// Pages without contents of the hypervisor's.
    fn reserve(&mut self, kind: PageKind, address: u64, length: usize) {
        for offset in (0..length).step_by(PAGE) {
            self.update(kind, address + offset as u64, [0; 48]);
        }
    }
}

fn sha384(bytes: &[u8]) -> [u8; 48] {
    Sha384::digest(bytes).into()
}

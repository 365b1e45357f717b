//! Launch digests against the vectors of virtee/sev 8.0.0 (Apache-2.0, `tests/measurement.rs`): the last page of two
//! builds of OVMF, and the digests that its authors publish, which began as those of `sev-snp-measure` (IBM).

use reference::Malformed;
use reference::snp::{Guest, Hypervisor, Kernel, ProcessorModel, launch_digest};

const AMD_SEV: &[u8] = include_bytes!("vectors/ovmf_AmdSev_suffix.bin");
const OVMF_X64: &[u8] = include_bytes!("vectors/ovmf_OvmfX64_suffix.bin");
const NOTHING: Kernel<'static> = Kernel { kernel: b"", initrd: b"", command_line: "" };
const QUIET: Kernel<'static> = Kernel { kernel: b"", initrd: b"", command_line: "console=ttyS0 loglevel=7" };

fn guest(
    firmware: &'static [u8],
    kernel: Option<Kernel<'static>>,
    processors: u32,
    features: u64,
) -> Guest<'static> {
    let model = ProcessorModel::named("EPYC-v4").unwrap();
    Guest { firmware, kernel, processors, model, hypervisor: Hypervisor::Qemu, features }
}

#[test]
fn published_digests() {
    for (guest, expected) in [
        (
            guest(AMD_SEV, Some(NOTHING), 1, 1),
            "ddc5224521617a536ee7ce9dd6224d1b58a8d4fda1c741f3ac99fc4bfa04ba6e9fc98646d4a07a9079397fa3852819b5",
        ),
        (
            guest(AMD_SEV, Some(NOTHING), 1, 0x21),
            "329c8ce0972ae52343b64d34a434a86f245dfd74f5ed7aae15d22efc78fb9683632b9b50e4e1d7fa41179ef98a7ef198",
        ),
        (
            guest(AMD_SEV, Some(QUIET), 1, 1),
            "6d287813eb5222d770f75005c664e34c204f385ce832cc2ce7d0d6f354454362f390ef83a92046c042e706363b4b08fa",
        ),
        (
            guest(AMD_SEV, Some(QUIET), 1, 0x21),
            "803f691094946e42068aaa3a8f9e26a5c89f36f7b73ecfb28c653360fe4b3aba7e534442e7e1e17895dfe778d0228977",
        ),
        (
            guest(AMD_SEV, None, 1, 1),
            "19358ba9a7615534a9a1e2f0dfc29384dcd4dcb7062ff9c6013b26869a5fc6ecabe033c48dd6f6db5d6d76e7c5df632d",
        ),
        (
            guest(AMD_SEV, Some(NOTHING), 4, 1),
            "5061fffb019493a903613d56d54b94912a1a2f9e4502385f5c194616753720a92441310ba6c4933de877c36e23046ad5",
        ),
        (
            guest(AMD_SEV, Some(NOTHING), 4, 0x21),
            "4953b1fb416fa874980e8442b3706d345926d5f38879134e00813c5d7abcbe78eafe7b422907be0b4698e2414a631942",
        ),
        (
            guest(OVMF_X64, None, 1, 1),
            "da0296de8193586a5512078dcd719eccecbd87e2b825ad4148c44f665dc87df21e5b49e21523a9ad993afdb6a30b4005",
        ),
        (
            guest(OVMF_X64, None, 1, 0x21),
            "28797ae0afaba4005a81e629acebfb59e6687949d6be44007cd5506823b0dd66f146aaae26ff291eed7b493d8a64c385",
        ),
        (
            Guest { hypervisor: Hypervisor::Ec2, ..guest(AMD_SEV, Some(NOTHING), 1, 1) },
            "7d3756157c805bf6adf617064c8552e8c1688fa1c8756f11cbf56ba5d25c9270fb69c0505c1cbe1c5c66c0e34c6ed3be",
        ),
        (
            Guest { hypervisor: Hypervisor::Ec2, ..guest(AMD_SEV, Some(NOTHING), 1, 0x21) },
            "6ae80856486b1396af8c82a40351d6ed76a20c785e9c7fa4ffa27c22d5d6313b4b3b458cd3c9968e6f89fb5d8450d7a6",
        ),
    ] {
        assert_eq!(hex::encode(launch_digest(&guest).unwrap()), expected, "{:?}", guest.hypervisor);
    }
}

#[test]
fn a_kernel_that_the_firmware_would_not_measure_is_refused() {
    let refused = launch_digest(&guest(OVMF_X64, Some(NOTHING), 1, 1)).unwrap_err();
    assert!(matches!(refused, Malformed::Unsupported { .. }), "{refused}");
}

#[test]
fn every_part_counts() {
    let base = launch_digest(&guest(AMD_SEV, Some(QUIET), 2, 1)).unwrap();
    let kernel = Kernel { kernel: b"k", ..QUIET };
    let initrd = Kernel { initrd: b"i", ..QUIET };
    for other in [
        guest(AMD_SEV, Some(kernel), 2, 1),
        guest(AMD_SEV, Some(initrd), 2, 1),
        guest(AMD_SEV, Some(QUIET), 3, 1),
        Guest { model: ProcessorModel::named("EPYC-Milan").unwrap(), ..guest(AMD_SEV, Some(QUIET), 2, 1) },
    ] {
        assert_ne!(launch_digest(&other).unwrap(), base);
    }
    assert_eq!(ProcessorModel::named("EPYC-Milan-v2"), ProcessorModel::named("EPYC-Milan"));
    assert_eq!(ProcessorModel::named("Skylake"), None);
}

#[test]
fn s43_firmware_that_lies_is_refused_or_measured_and_never_panics() {
    // The table that describes the firmware lies at its end; the rest is code, of which a sample will do.
    for at in (0..AMD_SEV.len()).filter(|at| *at > 3600 || at % 97 == 0) {
        let mut altered = AMD_SEV.to_vec();
        altered[at] ^= 1 << (at % 8);
        let leaked: &'static [u8] = altered.leak();
        if let Ok(digest) = launch_digest(&guest(leaked, Some(QUIET), 2, 1)) {
            assert_ne!(digest, launch_digest(&guest(AMD_SEV, Some(QUIET), 2, 1)).unwrap(), "{at}");
        }
    }
    for length in [0, 1, 31, 4095, 4097] {
        let short: &'static [u8] = vec![0; length].leak();
        assert!(launch_digest(&guest(short, None, 1, 1)).is_err());
    }
}

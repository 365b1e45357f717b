//! Measurements of trust domains against a quote that TDX hardware signed, and the log of the same machine: it ran the
//! OVMF that Ubuntu publishes. See `vectors/README.md`.

use evidence::Evidence;
use evidence::eventlog::{EventLog, HashAlgorithm};
use reference::tdx::direct_boot::{self, InitrdHint};
use reference::{Bank, tdx};
use serde_json::Value;

const QUOTE: &[u8] = include_bytes!(
    "../../appraisal/tests/vectors/tdx/attestation-rs-tdx_quote_live.dat.quote-v4-tdx-3ab56d.bin"
);
const LOG: &[u8] = include_bytes!("../../appraisal/tests/vectors/eventlog/attestation-rs-tdx_ccel_live2.dat");
/// Pages of the firmware: 0 and 0xff stand for a page of that byte, 1 for the 4096 bytes that follow.
const PAGES: &[u8] = include_bytes!("vectors/tdx/ubuntu-OVMF-2025.02-8ubuntu3.pages");
/// SHA-256 of `/usr/share/ovmf/OVMF.fd` in Ubuntu's package ovmf 2025.02-8ubuntu3.
const PUBLISHED: &str = "a8135e3ddf1a3217cf36fa579c3cd24baed74a7879a656a5d7097e828af0a72e";

fn firmware() -> Vec<u8> {
    let (mut firmware, mut rest) = (Vec::new(), PAGES);
    while let Some((kind, after)) = rest.split_first() {
        let (page, after) = if *kind == 1 { after.split_at(4096) } else { (&[*kind; 4096][..], after) };
        firmware.extend_from_slice(page);
        rest = after;
    }
    assert_eq!(hex::encode(Bank::Sha256.digest(&[&firmware])), PUBLISHED);
    firmware
}

fn log() -> EventLog {
    EventLog::parse(LOG).unwrap()
}

/// The digests of a register (1 is RTMR0) in the log.
fn digests(register: u32) -> Vec<Vec<u8>> {
    let log = log();
    let events = log.events().iter().filter(|event| event.register == register);
    events.filter_map(|event| Some(event.digest(HashAlgorithm::Sha384)?.to_vec())).collect()
}

fn measured(name: &str) -> String {
    Evidence::parse(QUOTE).unwrap().measured()[name].clone()
}

#[test]
fn mrtd_of_published_firmware_is_that_of_the_quote() {
    let firmware = firmware();
    let mrtd = tdx::mrtd(&firmware).unwrap();
    assert_eq!(Evidence::parse(QUOTE).unwrap().measurement().unwrap().as_bytes(), mrtd);
    // The machine's log tells the digest of the firmware's variables, so it is this very file that ran.
    assert!(digests(1).contains(&Bank::Sha384.digest(&[&firmware[..0x84000]])));
    // The variables themselves are added without being extended; code counts to its last byte.
    for (at, same) in [(0x100, true), (0x84000, false), (firmware.len() - 1, false)] {
        let mut altered = firmware.clone();
        altered[at] ^= 1;
        assert_eq!(tdx::mrtd(&altered).unwrap() == mrtd, same, "{at:#x}");
    }
}

#[test]
fn registers_of_a_direct_boot_are_those_of_the_quote() {
    let [kernel, more @ ..] = &digests(2)[..] else { panic!("no kernel") };
    assert_eq!(more.len(), 4);
    assert_eq!(hex::encode(direct_boot::rtmr1_of(kernel).value()), measured("rtmr1"));
    let [options, initrd] = &digests(3)[..] else { panic!("other events") };
    assert_eq!(hex::encode(direct_boot::rtmr2_of(options, initrd).value()), measured("rtmr2"));
}

#[test]
fn artefacts_of_a_direct_boot_are_measured_as_systemd_pcrlock_measures_them() {
    let digest = |json: &str| {
        let json: Value = serde_json::from_str(json).unwrap();
        let digests = json["records"][0]["digests"].as_array().unwrap().clone();
        let digest = digests.iter().find(|digest| digest["hashAlg"] == "sha384").unwrap();
        hex::decode(digest["digest"].as_str().unwrap()).unwrap()
    };
    let kernel = digest(include_str!("vectors/uki/pcrlock-kernel.efi.json"));
    assert_eq!(
        direct_boot::rtmr1(include_bytes!("vectors/uki/kernel.efi")).unwrap(),
        direct_boot::rtmr1_of(&kernel)
    );
    let options = digest(include_str!("vectors/uki/pcrlock-cmdline.json"));
    let initrd = Bank::Sha384.digest(&[b"initrd"]);
    assert_eq!(
        direct_boot::rtmr2("console=ttyS0 quiet", b"initrd"),
        direct_boot::rtmr2_of(&options, &initrd)
    );
    assert!(direct_boot::rtmr1(b"no program").is_err());
    assert_eq!(InitrdHint::Before.command_line("quiet"), "initrd=initrd quiet");
    assert_eq!(InitrdHint::After.command_line("quiet"), "quiet initrd=initrd");
}

/// The firmware with a 32-bit number of one section's entry changed.
fn altered(section: usize, field: usize, value: u32) -> Vec<u8> {
    let mut firmware = firmware();
    let table = firmware.windows(4).rposition(|window| window == b"TDVF").unwrap();
    let at = table + 16 + section * 32 + field;
    firmware[at..at + 4].copy_from_slice(&value.to_le_bytes());
    firmware
}

#[test]
fn s43_firmware_that_lies_about_its_sections_is_refused() {
    for (section, field, value, expected) in [
        (0, 28, 4, "attributes that are known"),
        (0, 28, 3, "contents of the file, added"),
        (0, 24, 2, "contents of the file, added"),
        (0, 0, 0x84001, "contents inside the file"),
        (0, 4, 0xffff_ffff, "contents inside the file"),
        (0, 8, 0xffc8_4001, "whole pages"),
        (0, 16, 0x37c001, "whole pages"),
        (0, 16, 0x37b000, "not longer than its memory"),
        (2, 20, 1, "at most 256 MiB"),
        (2, 12, 0xffff_ffff, ""),
    ] {
        match tdx::mrtd(&altered(section, field, value)) {
            Err(refused) => {
                assert!(!expected.is_empty() && refused.to_string().contains(expected), "{refused}")
            }
            Ok(other) => assert!(expected.is_empty() && other != tdx::mrtd(&firmware()).unwrap(), "{field}"),
        }
    }
    let mut overflow = altered(2, 12, 0xffff_ffff);
    let table = overflow.windows(4).rposition(|window| window == b"TDVF").unwrap() + 16 + 2 * 32;
    overflow[table + 8..table + 12].copy_from_slice(&0xffff_f000u32.to_le_bytes());
    assert!(tdx::mrtd(&overflow).unwrap_err().to_string().contains("whole pages"));
}

#[test]
fn s43_firmware_for_other_platforms_is_refused() {
    for other in [&include_bytes!("vectors/ovmf_OvmfX64_suffix.bin")[..], &[0; 4096], b""] {
        assert!(tdx::mrtd(other).is_err());
    }
}

//! Unified kernel images against systemd's own tools, version 257: `systemd-measure calculate`, `systemd-pcrlock`; and
//! against logs of machines that booted such images. See `vectors/README.md`.

use evidence::eventlog::{EventLog, HashAlgorithm};
use reference::pe::Program;
use reference::uki::{PHASES, Uki};
use reference::{Bank, Malformed, Register, boot};
use serde_json::Value;

const IMAGE: &[u8] = include_bytes!("vectors/uki/bailey.efi");
const KERNEL: &[u8] = include_bytes!("vectors/uki/kernel.efi");
const SIGNED: &[u8] = include_bytes!("vectors/uki/kernel.signed.efi");
const MEASURE: &str = include_str!("vectors/uki/systemd-measure.json");

/// The digest of record `index` of a `.pcrlock` file, and its register.
fn locked(json: &str, index: usize, bank: Bank) -> (u64, String) {
    let json: Value = serde_json::from_str(json).unwrap();
    let record = &json["records"][index];
    let digests = record["digests"].as_array().unwrap();
    let digest = digests.iter().find(|digest| digest["hashAlg"] == bank.as_str()).unwrap();
    (record["pcr"].as_u64().unwrap(), digest["digest"].as_str().unwrap().to_owned())
}

#[test]
fn pcr_11_is_that_of_systemd_measure_in_every_bank_and_phase() {
    let image = Uki::parse(IMAGE).unwrap();
    let published: Value = serde_json::from_str(MEASURE).unwrap();
    for bank in Bank::ALL {
        let rows = published[bank.as_str()].as_array().unwrap();
        assert_eq!(rows.len(), PHASES.len());
        for row in rows {
            let phases: Vec<_> = row["phase"].as_str().unwrap().split(':').collect();
            assert_eq!(hex::encode(image.pcr11(bank, &phases).value()), row["hash"], "{bank:?} {phases:?}");
        }
    }
}

#[test]
fn authenticode_digests_are_those_of_systemd_pcrlock() {
    let image = Uki::parse(IMAGE).unwrap();
    for bank in Bank::ALL {
        let (register, digest) = locked(include_str!("vectors/uki/pcrlock-bailey.json"), 0, bank);
        assert_eq!((register, hex::encode(image.authenticode(bank).unwrap())), (4, digest));
        let (register, digest) = locked(include_str!("vectors/uki/pcrlock-kernel.efi.json"), 0, bank);
        assert_eq!((register, hex::encode(image.kernel_authenticode(bank).unwrap())), (4, digest.clone()));
        // A signature changes nothing (pcrlock says so, too), and a change of what is signed does.
        assert_eq!(hex::encode(Program::parse(SIGNED).unwrap().authenticode(bank).unwrap()), digest);
        let mut altered = SIGNED.to_vec();
        altered[0x500] ^= 1;
        assert_ne!(hex::encode(Program::parse(&altered).unwrap().authenticode(bank).unwrap()), digest);
    }
}

/// A program that Ubuntu publishes, signed, in the log of a TDX guest that ran it.
#[test]
fn real_firmware_measured_a_published_program_as_we_do() {
    let program = Program::parse(include_bytes!("vectors/uki/ubuntu-fbx64-15.8.efi")).unwrap();
    let log =
        EventLog::parse(include_bytes!("../../appraisal/tests/vectors/eventlog/trustee-CCEL_data_grub"))
            .unwrap();
    let ours = program.authenticode(Bank::Sha384).unwrap();
    assert!(log.events().iter().any(|event| event.digest(HashAlgorithm::Sha384) == Some(&ours[..])));
}

#[test]
fn command_lines_from_outside_are_measured_as_systemd_pcrlock_says() {
    for bank in Bank::ALL {
        let (_, digest) = locked(include_str!("vectors/uki/pcrlock-cmdline.json"), 0, bank);
        assert_eq!(hex::encode(bank.digest(&[&boot::load_options("console=ttyS0 quiet")])), digest);
        let mut register = Register::new(bank);
        register.extend(&hex::decode(digest).unwrap());
        assert_eq!(boot::pcr12(bank, "console=ttyS0 quiet"), register);
    }
}

/// The stub's events of two machines of Google Cloud: a vTPM's log, and the log of a TDX guest, where PCR 11 is RTMR2
/// (register 3). Their order and the names that they hash are ours.
#[test]
fn real_machines_measure_the_sections_that_we_do_in_the_order_in_which_we_do() {
    let names = [".linux", ".osrel", ".cmdline", ".initrd", ".uname", ".sbat"];
    for (log, register, algorithm, bank) in [
        (
            &include_bytes!("../../appraisal/tests/vectors/eventlog/dstack-tpm_eventlog.bin")[..],
            11,
            HashAlgorithm::Sha256,
            Bank::Sha256,
        ),
        (
            &include_bytes!("../../appraisal/tests/vectors/eventlog/dstack-tpm_eventlog.bin")[..],
            11,
            HashAlgorithm::Sha384,
            Bank::Sha384,
        ),
        (
            &include_bytes!("../../appraisal/tests/vectors/eventlog/trustee-CCEL_data_grub_gke")[..],
            3,
            HashAlgorithm::Sha384,
            Bank::Sha384,
        ),
    ] {
        let log = EventLog::parse(log).unwrap();
        let events: Vec<_> = log.events().iter().filter(|event| event.register == register).collect();
        assert_eq!(events.len(), 2 * names.len());
        for (pair, name) in events.chunks(2).zip(names) {
            let expected = bank.digest(&[name.as_bytes(), &[0]]);
            assert_eq!(pair[0].digest(algorithm), Some(&expected[..]), "{name}");
        }
        let ours = Uki::parse(IMAGE).unwrap();
        let order: Vec<_> = ours.measured().filter(|name| names.contains(name)).collect();
        assert_eq!(order, names);
    }
}

/// The same log shows what firmware extends before and after, by the texts that we hash.
#[test]
fn real_firmware_extends_the_texts_that_we_do() {
    let log =
        EventLog::parse(include_bytes!("../../appraisal/tests/vectors/eventlog/dstack-tpm_eventlog.bin"))
            .unwrap();
    let digest = |text: &[u8]| Bank::Sha256.digest(&[text]);
    let has = |register, wanted: Vec<u8>| {
        log.events().iter().any(|event| {
            event.register == register && event.digest(HashAlgorithm::Sha256) == Some(&wanted[..])
        })
    };
    assert!(has(4, digest(boot::CALLING)) && has(4, digest(&boot::SEPARATOR)));
    assert!(boot::EXIT.into_iter().all(|text| has(5, digest(text))));
    let mut register = Register::new(Bank::Sha256);
    register.measure(boot::CALLING);
    register.measure(&boot::SEPARATOR);
    register.extend(&[7; 32]);
    assert_eq!(boot::pcr4(Bank::Sha256, &[vec![7; 32]]), register);
}

/// The image with its section `from` called `to`.
fn renamed(from: &str, to: &str) -> Vec<u8> {
    let mut image = IMAGE.to_vec();
    let field = |name: &str| {
        let mut field = [0; 8];
        field[..name.len()].copy_from_slice(name.as_bytes());
        field
    };
    let at = image.windows(8).position(|window| window == field(from)).unwrap();
    image[at..at + 8].copy_from_slice(&field(to));
    image
}

/// A signature over PCR 11 cannot be part of it; sections of other names are of no meaning to the stub.
#[test]
fn signatures_and_unknown_sections_are_not_measured() {
    let (signed, other) = (renamed(".dtb", ".pcrsig"), renamed(".dtb", ".other"));
    let pcr11 = |image| Uki::parse(image).unwrap().pcr11(Bank::Sha256, &[]);
    assert_eq!(pcr11(&signed), pcr11(&other));
    assert_ne!(pcr11(&signed), pcr11(IMAGE));
    assert!(!Uki::parse(&signed).unwrap().measured().any(|name| name == ".pcrsig" || name == ".dtb"));
}

#[test]
fn s43_images_without_one_value_are_refused() {
    for chosen in [".profile", ".dtbauto", ".hwids", ".efifw"] {
        let refused = Uki::parse(&renamed(".dtb", chosen)).unwrap_err();
        assert!(matches!(refused, Malformed::Unsupported { .. }), "{chosen}: {refused}");
    }
    let refused = Uki::parse(&renamed(".dtb", ".osrel")).unwrap_err();
    assert!(refused.to_string().contains("one of each name"), "{refused}");
    assert!(Uki::parse(KERNEL).unwrap_err().to_string().contains("a section .linux"));
    // `.dtb` takes 64 bytes of memory, and 512 of the file.
    let at = IMAGE.windows(8).position(|window| window == b".dtb\0\0\0\0").unwrap();
    let mut greater = IMAGE.to_vec();
    greater[at + 8..at + 12].copy_from_slice(&513u32.to_le_bytes());
    assert!(Uki::parse(&greater).unwrap_err().to_string().contains("size in memory"));
}

#[test]
fn s43_programs_that_lie_about_their_layout_are_refused_and_never_panic() {
    for length in 0..IMAGE.len() {
        assert!(length > 0x400 || Program::parse(&IMAGE[..length]).is_err(), "{length}");
    }
    for at in 0..0x400 {
        for value in [0, 1, 0x7f, 0xff] {
            let mut altered = IMAGE.to_vec();
            altered[at] = value;
            if let Ok(image) = Uki::parse(&altered) {
                let _ = (image.authenticode(Bank::Sha256), image.kernel_authenticode(Bank::Sha256));
            }
        }
    }
    // A certificate table that does not end with the file would hide what follows it.
    let hidden = [SIGNED, b"more"].concat();
    assert!(Program::parse(&hidden).unwrap_err().to_string().contains("certificate table"));
    // Sections one over the other: bytes that are measured twice, and others that are not.
    let at = KERNEL.windows(8).position(|window| window == b".data\0\0\0").unwrap();
    let mut overlapping = KERNEL.to_vec();
    overlapping[at + 20..at + 24].copy_from_slice(&0x400u32.to_le_bytes());
    let refused = Program::parse(&overlapping).unwrap().authenticode(Bank::Sha256).unwrap_err();
    assert!(refused.to_string().contains("overlap"), "{refused}");
}

//! A kernel that is played: real files in a folder, and what the kernel's drivers would do when they are written. What
//! its firmware gives was recorded on real machines (`crates/appraisal/tests/vectors`).

use std::{
    io,
    path::Path,
    sync::{Arc, Mutex},
};

use evidence::{Evidence, Platform, ReportData, snp::REPORT_LENGTH};
use sha2::{Digest, Sha256, Sha384, Sha512};
use tempfile::TempDir;

use super::{
    CONFIGURATION, Machine, Paths, detect, found, gramine, ioctl,
    kernel::{Exit, Kernel},
    snp, tdx, tsm,
};
use crate::{AttesterError, Tee};

const REPORTS: &str = "/sys/kernel/config/tsm/report";
/// What programs ask for, of each recording its own.
const SNP_REPORT: &str = "snp/attestation-rs-live-report-v5-genoa.bin.report-v5-8fd941.bin";
const TDX_QUOTE: &str = "tdx/dcap-qvl-tdx_quote.quote-v4-tdx-f1c850.bin";
const SGX_QUOTE: &str = "sgx/dcap-qvl-sgx_quote.quote-v3-sgx-f8b810.bin";
const CCA_TOKEN: &str = "cca/rust-ccatoken-cca-token-01.cbor";

fn recorded(file: &str) -> Vec<u8> {
    let vectors = Path::new(env!("CARGO_MANIFEST_DIR")).join("../appraisal/tests/vectors");
    std::fs::read(vectors.join(file)).unwrap()
}

fn covered(evidence: &[u8]) -> ReportData {
    ReportData(Evidence::parse(evidence).unwrap().covered().as_bytes().try_into().unwrap())
}

/// What the firmware and the host do.
#[derive(Default)]
struct Firmware {
    provider: &'static str,
    evidence: Vec<u8>,
    certificates: Vec<u8>,
    /// So many times somebody else writes to our folder.
    interferes: usize,
    /// The host's error, in the upper half.
    error: u64,
    key: [u8; 32],
    /// Of a TD or an enclave.
    configuration: Vec<u8>,
    /// What was asked for last.
    asked: Vec<u8>,
}

struct Fake {
    paths: Paths,
    folder: TempDir,
    firmware: Mutex<Firmware>,
}

impl Fake {
    fn new(firmware: Firmware) -> Self {
        let folder = tempfile::tempdir().unwrap();
        Self { paths: Paths::below(folder.path()), folder, firmware: Mutex::new(firmware) }
    }

    fn file(self, path: &str, bytes: impl AsRef<[u8]>) -> Self {
        let path = self.folder.path().join(&path[1..]);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, bytes).unwrap();
        self
    }

    fn folder(self, path: &str) -> Self {
        std::fs::create_dir_all(self.folder.path().join(&path[1..])).unwrap();
        self
    }

    fn open(self) -> Result<Machine, AttesterError> {
        found(Arc::new(self))
    }

    fn put(&self, path: &str, bytes: &[u8]) {
        std::fs::write(self.folder.path().join(&path[1..]), bytes).unwrap();
    }

    fn tsm(provider: &'static str, evidence: &[u8]) -> Self {
        Self::new(Firmware { provider, evidence: evidence.to_vec(), ..Firmware::default() }).folder(REPORTS)
    }

    fn sev_guest(evidence: &[u8]) -> Self {
        let firmware = Firmware { evidence: evidence.to_vec(), key: [7; 32], ..Firmware::default() };
        Self::new(firmware).file(snp::DEVICE, "")
    }

    fn td() -> Self {
        Self::tsm(tsm::TDX, &recorded(TDX_QUOTE)).file(tdx::DEVICE, "")
    }

    fn enclave(configuration: &[u8]) -> Self {
        let firmware = Firmware {
            evidence: recorded(SGX_QUOTE),
            configuration: configuration.to_vec(),
            ..Firmware::default()
        };
        Self::new(firmware)
            .file(gramine::TYPE, "dcap\n")
            .file("/dev/attestation/my_target_info", [1; 512])
            .file("/dev/attestation/target_info", "")
            .file("/dev/attestation/user_report_data", "")
            .file("/dev/attestation/keys/_sgx_mrenclave", [7; 16])
    }
}

impl Kernel for Fake {
    fn read(&self, path: &str, limit: usize) -> io::Result<Vec<u8>> {
        self.paths.read(path, limit)
    }

    fn write(&self, path: &str, bytes: &[u8]) -> io::Result<()> {
        self.paths.write(path, bytes)?;
        let mut firmware = self.firmware.lock().unwrap();
        if let Some(folder) = path.strip_suffix("/inblob") {
            firmware.asked = bytes.to_vec();
            let others = usize::from(firmware.interferes > 0);
            firmware.interferes -= others;
            self.put(&format!("{folder}/generation"), format!("{}\n", 1 + others).as_bytes());
            self.put(&format!("{folder}/outblob"), &firmware.evidence);
            if !firmware.certificates.is_empty() {
                self.put(&format!("{folder}/auxblob"), &firmware.certificates);
            }
        } else if path.ends_with("/user_report_data") {
            self.put("/dev/attestation/quote", &firmware.evidence);
            let mut report = vec![0; 432];
            let configuration = &firmware.configuration;
            report[192..192 + configuration.len()].copy_from_slice(configuration);
            report[320..384].copy_from_slice(bytes);
            self.put("/dev/attestation/report", &report);
        }
        Ok(())
    }

    fn make_directory(&self, path: &str) -> io::Result<()> {
        let provider = self.firmware.lock().unwrap().provider;
        if provider.is_empty() {
            return Err(io::Error::from_raw_os_error(6));
        }
        self.paths.make_directory(path)?;
        self.put(&format!("{path}/provider"), format!("{provider}\n").as_bytes());
        self.put(&format!("{path}/generation"), b"0\n");
        self.put(&format!("{path}/inblob"), b"");
        Ok(())
    }

    fn remove_directory(&self, path: &str) -> io::Result<()> {
        std::fs::remove_dir_all(self.folder.path().join(&path[1..]))
    }

    fn exists(&self, path: &str) -> bool {
        self.paths.exists(path)
    }

    fn snp_report(
        &self,
        _: &str,
        request: &[u8; ioctl::SNP_REPORT_REQUEST],
        response: &mut [u8; ioctl::SNP_REPORT_RESPONSE],
        certificates: &mut [u8],
    ) -> io::Result<Exit> {
        let mut firmware = self.firmware.lock().unwrap();
        firmware.asked = request.to_vec();
        if firmware.error != 0 {
            return Ok(Exit {
                result: Err(io::Error::from_raw_os_error(5)),
                info: firmware.error,
                needed: 0,
            });
        }
        let needed = firmware.certificates.len().next_multiple_of(4096);
        if needed > certificates.len() {
            return Ok(Exit { result: Err(io::Error::from_raw_os_error(5)), info: 1 << 32, needed });
        }
        certificates[..firmware.certificates.len()].copy_from_slice(&firmware.certificates);
        response[4..8].copy_from_slice(&u32::try_from(firmware.evidence.len()).unwrap().to_le_bytes());
        response[32..32 + firmware.evidence.len()].copy_from_slice(&firmware.evidence);
        Ok(Exit { result: Ok(()), info: 0, needed: certificates.len() })
    }

    fn snp_key(
        &self,
        _: &str,
        request: &[u8; ioctl::SNP_KEY_REQUEST],
        response: &mut [u8; ioctl::SNP_KEY_RESPONSE],
    ) -> io::Result<Exit> {
        let mut firmware = self.firmware.lock().unwrap();
        firmware.asked = request.to_vec();
        response[32..].copy_from_slice(&firmware.key);
        Ok(Exit { result: Ok(()), info: 0, needed: 0 })
    }

    fn tdx_report(&self, _: &str, report_data: &[u8; 64]) -> io::Result<[u8; ioctl::TDX_REPORT]> {
        let mut report = [0; ioctl::TDX_REPORT];
        report[0] = 0x81;
        report[128..192].copy_from_slice(report_data);
        report[576..576 + 48].copy_from_slice(&self.firmware.lock().unwrap().configuration);
        Ok(report)
    }
}

/// A table as the host gives it (GHCB specification, §4.1.8.1): GUID, offset, length, and an entry of zeroes.
fn table(entries: &[([u8; 16], &[u8])]) -> Vec<u8> {
    let mut offset = 24 * (entries.len() + 1);
    let (mut head, mut body) = (Vec::new(), Vec::new());
    for (guid, der) in entries {
        let numbers = [offset, der.len()].map(|number| u32::try_from(number).unwrap().to_le_bytes());
        head.extend([&guid[..], &numbers.concat()].concat());
        body.extend_from_slice(der);
        offset += der.len();
    }
    [head, vec![0; 24], body].concat()
}

const VCEK: [u8; 16] = *b"\x63\xda\x75\x8d\xe6\x64\x45\x64\xad\xc5\xf4\xb9\x3b\xe8\xac\xcd";
const ASK: [u8; 16] = *b"\x4a\xb7\xb3\x79\xbb\xac\x4f\xe4\xa0\x2f\x05\xae\xf3\x27\xc7\x82";

#[test]
fn each_platform_is_found_and_gives_the_evidence_that_was_asked_for() {
    let report = recorded(SNP_REPORT);
    for (kernel, platform, file) in [
        (Fake::td(), Platform::Tdx, TDX_QUOTE),
        (Fake::enclave(&[]), Platform::Sgx, SGX_QUOTE),
        (Fake::sev_guest(&report), Platform::Snp, SNP_REPORT),
        (Fake::tsm(tsm::SNP, &report), Platform::Snp, SNP_REPORT),
        (Fake::tsm(tsm::CCA, &recorded(CCA_TOKEN)), Platform::Cca, CCA_TOKEN),
    ] {
        let machine = kernel.open().unwrap();
        assert_eq!((machine.platform(), machine.emulated()), (platform, false));
        let wanted = recorded(file);
        let raw = machine.evidence(&covered(&wanted)).unwrap();
        assert_eq!(raw.evidence, wanted, "{platform}");
        evidence::Endorsements::from_bytes(&raw.endorsements).unwrap();
        // Evidence over anything else is somebody else's.
        let other = machine.evidence(&ReportData([9; 64]));
        assert!(matches!(other, Err(AttesterError::Raced)), "{platform}");
    }
}

/// Confidential Containers' agent turns into a sample there.
#[test]
fn where_there_is_no_tee_nothing_is_made_up() {
    for kernel in [Fake::new(Firmware::default()), Fake::tsm("", &[]).folder(REPORTS)] {
        assert!(matches!(kernel.open(), Err(AttesterError::NotInTee { .. })));
    }
    let empty = tempfile::tempdir().unwrap();
    assert!(matches!(detect(&Paths::below(empty.path())), Err(AttesterError::NotInTee { .. })));
    let unknown = Fake::tsm("future_guest", &[]).open();
    assert!(matches!(unknown, Err(AttesterError::UnknownProvider { .. })));
    let td = Fake::new(Firmware::default()).file(tdx::DEVICE, "").open();
    assert!(matches!(td, Err(AttesterError::NoQuotes)), "a TD that cannot have quotes says so");
    let enclave = Fake::enclave(&[]).file(gramine::TYPE, "none").open();
    assert!(matches!(enclave, Err(AttesterError::OtherProvider { .. })));
}

#[test]
fn a_report_that_others_raced_for_is_asked_for_again() {
    let quote = recorded(TDX_QUOTE);
    for (interferes, expected) in [(0, true), (4, true), (5, false)] {
        let kernel = Fake::td();
        kernel.firmware.lock().unwrap().interferes = interferes;
        let reports = kernel.folder.path().join(&REPORTS[1..]);
        let machine = kernel.open().unwrap();
        let given = machine.evidence(&covered(&quote));
        assert_eq!(given.is_ok(), expected, "{interferes}");
        assert!(expected || matches!(given, Err(AttesterError::Raced)));
        assert_eq!(std::fs::read_dir(reports).unwrap().count(), 0, "no folder stays");
    }
}

#[test]
fn the_hosts_certificates_are_stapled_if_it_gave_any() {
    let report = recorded(SNP_REPORT);
    let long = [1; 5 * 4096];
    for certificates in [table(&[(ASK, b"ask"), (VCEK, b"vcek")]), table(&[(VCEK, b"vcek"), (ASK, &long)])] {
        for kernel in [Fake::sev_guest(&report), Fake::tsm(tsm::SNP, &report)] {
            kernel.firmware.lock().unwrap().certificates.clone_from(&certificates);
            let raw = kernel.open().unwrap().evidence(&covered(&report)).unwrap();
            let amd = evidence::Endorsements::from_bytes(&raw.endorsements).unwrap().amd.unwrap();
            assert_eq!((amd.vek.0.as_slice(), amd.issuer_chain.len()), (&b"vcek"[..], 1));
        }
    }
    let raw = Fake::sev_guest(&report).open().unwrap().evidence(&covered(&report)).unwrap();
    assert_eq!(evidence::Endorsements::from_bytes(&raw.endorsements).unwrap().amd, None);
}

#[test]
fn what_the_firmware_refuses_is_said() {
    let kernel = Fake::sev_guest(&recorded(SNP_REPORT));
    kernel.firmware.lock().unwrap().error = 2 << 32;
    let refused = kernel.open().unwrap().evidence(&ReportData([0; 64]));
    assert!(matches!(refused, Err(AttesterError::Firmware { code: 0x2_0000_0000 })));
    for wrong in [vec![0; REPORT_LENGTH], vec![1; 100]] {
        assert!(Fake::sev_guest(&wrong).open().unwrap().evidence(&ReportData([0; 64])).is_err());
    }
}

/// What is handed in counts only if it was measured, by what the host cannot reach.
#[test]
fn a_launch_configuration_counts_only_if_it_was_measured() {
    let bytes = b"configuration";
    let none = Fake::td().open().unwrap();
    assert!(none.launch_configuration().is_empty());
    let measured = |kernel: Fake, digest: &[u8]| {
        kernel.firmware.lock().unwrap().configuration = digest.to_vec();
        kernel.file(CONFIGURATION, bytes).open()
    };
    for (kernel, digest) in [
        (Fake::td as fn() -> Fake, Sha384::digest(bytes).to_vec()),
        (|| Fake::enclave(&[]), Sha512::digest(bytes).to_vec()),
    ] {
        assert_eq!(measured(kernel(), &digest).unwrap().launch_configuration(), bytes);
        let other = measured(kernel(), &vec![1; digest.len()]);
        assert!(matches!(other, Err(AttesterError::OtherConfiguration { .. })));
    }
    // A recorded report with HOST_DATA of its own, in which the digest is put.
    let mut report = recorded(SNP_REPORT);
    let refused = Fake::sev_guest(&asked(&report)).file(CONFIGURATION, bytes).open();
    assert!(matches!(refused, Err(AttesterError::OtherConfiguration { .. })));
    report[0xc0..0xe0].copy_from_slice(&Sha256::digest(bytes));
    let machine = Fake::sev_guest(&asked(&report)).file(CONFIGURATION, bytes).open().unwrap();
    assert_eq!(machine.launch_configuration(), bytes);
    // The quote says the same, and comes from the host: without the TD's own report it is not enough.
    let without = Fake::tsm(tsm::TDX, &recorded(TDX_QUOTE)).file(CONFIGURATION, bytes).open();
    assert!(matches!(without, Err(AttesterError::Unmeasured { .. })));
}

/// The report as if it covered what is asked for where HOST_DATA alone is wanted.
fn asked(report: &[u8]) -> Vec<u8> {
    let mut report = report.to_vec();
    report[0x50..0x90].copy_from_slice(&[0x42; 64]);
    report
}

#[test]
fn s46_sealing_keys_differ_by_platform_configuration_and_context() {
    let report = asked(&recorded(SNP_REPORT));
    let mut other = report.clone();
    other[0xc0] ^= 1;
    let snp = |report: &[u8]| Fake::sev_guest(report).open().unwrap();
    let keys = [
        snp(&report).sealing_key("state").unwrap(),
        snp(&report).sealing_key("stat").unwrap(),
        snp(&other).sealing_key("state").unwrap(),
        Fake::enclave(&[]).open().unwrap().sealing_key("state").unwrap(),
        Fake::enclave(&[1]).open().unwrap().sealing_key("state").unwrap(),
    ];
    for (at, key) in keys.iter().enumerate() {
        assert!(!keys[..at].contains(key), "{at}");
    }
    assert_eq!(snp(&report).sealing_key("state").unwrap(), keys[0], "and the same one for the same");
    for context in ["", &"x".repeat(257)] {
        assert!(matches!(snp(&report).sealing_key(context), Err(AttesterError::Context { .. })));
    }
    let zero = Fake::sev_guest(&report);
    zero.firmware.lock().unwrap().key = [0; 32];
    assert!(matches!(zero.open().unwrap().sealing_key("state"), Err(AttesterError::UnexpectedResponse)));
}

#[test]
fn the_derived_key_is_bound_to_policy_and_measurement() {
    let kernel = Arc::new(Fake::sev_guest(&asked(&recorded(SNP_REPORT))));
    snp::derived_key(kernel.as_ref()).unwrap();
    let asked = kernel.firmware.lock().unwrap().asked.clone();
    assert_eq!(asked[..8], [0; 8], "the VCEK is the root");
    assert_eq!(u64::from_le_bytes(asked[8..16].try_into().unwrap()), 0b1001);
}

#[test]
fn platforms_without_a_sealing_key_say_so() {
    for kernel in
        [Fake::td(), Fake::tsm(tsm::SNP, &recorded(SNP_REPORT)), Fake::tsm(tsm::CCA, &recorded(CCA_TOKEN))]
    {
        let refused = kernel.open().unwrap().sealing_key("state");
        assert!(matches!(refused, Err(AttesterError::NoSealingKey { .. })));
    }
}

/// The folder, the device and the enclave's files of the machine itself, as far as a folder can play them.
#[test]
fn files_are_read_whole_or_not_at_all() {
    let fake = Fake::new(Firmware::default()).file("/dev/attestation/quote", [1; 100]);
    assert_eq!(fake.paths.read("/dev/attestation/quote", 100).unwrap().len(), 100);
    assert!(fake.paths.read("/dev/attestation/quote", 99).is_err());
    assert!(fake.paths.write("/dev/absent", b"x").is_err());
    assert!(!Path::new("/dev/absent").exists(), "nothing is made by writing");
}

//! Recorded event logs, against what machines and other implementations say of them: registers of quotes, PCRs beside
//! the logs, and registers that go-eventlog publishes.

use std::collections::{BTreeMap, BTreeSet};

use appraisal::boot::{self, BootClaims, Layout, SecureBoot, Unreplayable};
use appraisal::{BootPolicy, Check, Code, Outcome, Policy, assess};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use crypto_aws_lc::AwsLc;
use evidence::eventlog::{EventLog, HashAlgorithm};
use evidence::{Evidence, MalformedKind};

use crate::lab::intel::Intel;
use crate::rendering::golden;
use crate::vectors::{at, dcap, evidence, read, rows};

pub const COS_TDX: &str = "eventlog/go-eventlog-cos-113-intel-tdx.bin";
pub const UBUNTU_SNP: &str = "eventlog/go-tpm-tools-ubuntu-2404-amd-sevsnp.bin";

pub fn log(file: &str) -> EventLog {
    EventLog::parse(&read(file)).unwrap_or_else(|error| panic!("{file}: {error}"))
}

pub fn layout(file: &str) -> Layout {
    let vm = ["CCEL", "ccel", "intel-tdx", "-event_log.bin"].iter().any(|part| file.contains(part));
    if vm { Layout::ConfidentialVm } else { Layout::Tpm }
}

/// Checks a log against registers that were really signed, or are taken as if.
pub fn check(
    log: &EventLog,
    algorithm: HashAlgorithm,
    layout: Layout,
    attested: &BTreeMap<u32, Vec<u8>>,
    policy: &BootPolicy,
) -> (Check, Option<BootClaims>) {
    boot::check(log, algorithm, layout, attested, policy, &AwsLc)
}

/// The claims of a log whose registers are what it replays to.
pub fn claims(file: &str, algorithm: HashAlgorithm) -> BootClaims {
    let log = log(file);
    let attested = boot::replay(&log, algorithm, &AwsLc).unwrap();
    check(&log, algorithm, layout(file), &attested, &BootPolicy::default()).1.unwrap()
}

#[test]
fn every_log_is_read_as_the_index_says() {
    let mut seen = 0;
    for row in rows().iter().filter(|row| row.is_in("eventlog")) {
        seen += 1;
        let parsed = EventLog::parse(&read(&row.file));
        let unreadable = ["ACPI CCEL table", "JSON event log", "NEGATIVE: truncated"];
        if unreadable.iter().any(|text| row.expected.starts_with(text)) {
            assert!(parsed.is_err(), "{}", row.file);
            continue;
        }
        let log = parsed.unwrap_or_else(|error| panic!("{}: {error}", row.file));
        assert!(EventLog::recognises(&read(&row.file)), "{}", row.file);
        assert!(log.events().len() > 5, "{}", row.file);
        assert_eq!(log.describe().len(), log.events().len(), "{}", row.file);
        for algorithm in log.algorithms() {
            let replayed = boot::replay(&log, *algorithm, &AwsLc);
            match algorithm {
                HashAlgorithm::Sm3 => assert_eq!(replayed, Err(Unreplayable::Algorithm(*algorithm))),
                _ => {
                    let attested = replayed.unwrap_or_else(|error| panic!("{}: {error}", row.file));
                    let policy = BootPolicy::default();
                    let (check, claims) = check(&log, *algorithm, layout(&row.file), &attested, &policy);
                    assert_ne!(check.outcome, Outcome::Failed, "{}: {check:?}", row.file);
                    assert!(claims.is_some(), "{}", row.file);
                }
            }
        }
    }
    assert_eq!(seen, 39);
}

#[test]
fn a_ccel_table_is_told_apart_from_its_log() {
    let refused = EventLog::parse(&read("eventlog/go-eventlog-CCEL.bin")).unwrap_err();
    assert_eq!(refused.kind, MalformedKind::Unsupported);
    assert!(refused.seen.contains("address"), "{refused}");
}

#[test]
fn sm3_is_refused_by_its_code() {
    let log = log("eventlog/trustee-CCEL_data_csv");
    assert_eq!(log.algorithms(), [HashAlgorithm::Sm3]);
    for algorithm in [HashAlgorithm::Sm3, HashAlgorithm::Sha384, HashAlgorithm::Other(0x27)] {
        let (check, claims) =
            check(&log, algorithm, Layout::ConfidentialVm, &BTreeMap::new(), &BootPolicy::default());
        assert_eq!((check.code, claims), (Some(Code::EventLogAlgorithmUnsupported), None));
    }
}

/// The JSON of go-attestation has the PCRs that the machine's TPM told beside the raw log.
#[test]
fn logs_of_tpm_1_2_and_windows_replay_to_the_pcrs_beside_them() {
    for (file, firmwares) in
        [("go-eventlog-linux_tpm12.json", 0..=7), ("go-eventlog-windows_gcp_shielded_vm.json", 0..=14)]
    {
        let json: serde_json::Value = serde_json::from_slice(&read(&format!("eventlog/{file}"))).unwrap();
        let bytes = |value: &serde_json::Value| STANDARD.decode(value.as_str().unwrap()).unwrap();
        let log = EventLog::parse(&bytes(&json["Log"]["Raw"])).unwrap();
        let pcrs: BTreeMap<u32, Vec<u8>> = json["Log"]["PCRs"]
            .as_array()
            .unwrap()
            .iter()
            .map(|pcr| (u32::try_from(pcr["Index"].as_u64().unwrap()).unwrap(), bytes(&pcr["Digest"])))
            .collect();
        let policy = BootPolicy::default();
        let (check, claims) = check(&log, HashAlgorithm::Sha1, Layout::Tpm, &pcrs, &policy);
        assert_ne!(check.outcome, Outcome::Failed, "{file}: {check:?}");
        let claims = claims.unwrap();
        for pcr in firmwares.filter(|pcr| log.events().iter().any(|event| event.register == *pcr)) {
            assert!(claims.registers.contains(&format!("pcr{pcr}").as_str()), "{file}: {pcr}");
        }
        if file.contains("windows") {
            golden("boot-windows.json", &(serde_json::to_string_pretty(&claims).unwrap() + "\n"));
        }
    }
}

/// Registers that go-eventlog publishes for this machine (`ccel/eventlog_data.go`, COS113TDX).
fn cos_rtmrs() -> [Vec<u8>; 3] {
    [
        "3fa2f61f395b7f5feefb4ec2df61297f109ad8abcd6410c1b7df60f21f37b19297fc35e544039c7e1edece752afd17f6",
        "f62dbc072bd5d3f3438b7b35c39a727f5aea2ffc2473f43723953f530daf62504f0a7944aa62c41a86e8a878c2b122c1",
        "4969684dc87381fc3b3134176c8d8806eaf0a901859f5f70cfae8d17714b46c10a8de219048c9fc09f11f381a6fbe7c1",
    ]
    .map(|text| hex::decode(text).unwrap())
}

/// A TD of the lab with the registers of Google's machine.
fn cos() -> Intel {
    let [first, second, third] = cos_rtmrs().map(|rtmr| rtmr.try_into().unwrap());
    Intel { rtmr: [first, second, third, [0; 48]], ..Intel::tdx() }
}

#[test]
fn a_td_with_its_log_is_accepted_and_claims_its_boot() {
    let mut presented = cos().present();
    presented.evidence = presented.evidence.with_event_log(log(COS_TDX)).unwrap();
    let appraised = presented.appraise().unwrap();
    let verdict = appraised.verdict();
    for register in ["boot/rtmr0", "boot/rtmr1", "boot/rtmr2"] {
        assert_eq!(verdict.check(register).unwrap().outcome, Outcome::Passed);
    }
    assert_eq!(verdict.check("boot/rtmr3").unwrap().outcome, Outcome::Skipped);
    let warned: Vec<_> = verdict.warnings().iter().map(|reason| reason.code).collect();
    assert_eq!(warned, [Code::SecureBootNotEnabled]);
    let claims = verdict.claims().boot.as_ref().unwrap();
    golden("boot-cos-tdx.json", &(serde_json::to_string_pretty(claims).unwrap() + "\n"));
    golden("boot-cos-tdx.txt", &verdict.render_all(false));

    let mut policy = presented.policy();
    policy.boot.secure_boot = appraisal::Rule::Refuse;
    assert_eq!(presented.refusal_under(&policy), [Code::SecureBootNotEnabled]);
    policy.boot.secure_boot = appraisal::Rule::Allow;
    assert!(presented.appraise_under(&policy).unwrap().verdict().warnings().is_empty());
}

#[test]
fn without_a_log_there_is_no_check_of_the_boot() {
    let presented = cos().present();
    let appraised = presented.appraise().unwrap();
    assert!(appraised.verdict().check("boot").is_none());
    assert!(appraised.verdict().claims().boot.is_none());
}

#[test]
fn evidence_without_registers_takes_no_log() {
    let sgx = Intel::sgx().present().evidence;
    assert!(sgx.with_event_log(log(COS_TDX)).is_err());
}

#[test]
fn a_log_with_a_duplicate_separator_matches_one_register_only() {
    let mut presented = cos().present();
    let file = "eventlog/go-eventlog-cos-113-intel-tdx-dupe-separator.bin";
    presented.evidence = presented.evidence.with_event_log(log(file)).unwrap();
    let refused = presented.appraise().unwrap_err();
    let failed: Vec<_> =
        refused.verdict().reasons().iter().map(|reason| (reason.code, &reason.check[..])).collect();
    let mismatch = Code::EventLogMismatch;
    assert_eq!(failed, [(mismatch, "boot/rtmr0"), (mismatch, "boot/rtmr1")]);
    let claims = refused.verdict().claims().boot.as_ref().unwrap();
    assert_eq!(claims.registers, ["rtmr2"]);
    assert_eq!((claims.secure_boot, claims.images.len()), (SecureBoot::NotMeasured, 0));
}

fn live(log_file: &str, policy: &Policy) -> appraisal::Verdict {
    let quote = evidence("tdx/attestation-rs-tdx_quote_live.dat.quote-v4-tdx-3ab56d.bin");
    let endorsements = dcap("bundles/quote-v4-tdx-3ab56d67-20260301T1936-e18.collateral.json");
    let quote = quote.with_event_log(log(log_file)).unwrap();
    let now = at("2026-03-31T07:22:37Z");
    assess(&quote, &endorsements, None, None, policy, now, &AwsLc).verdict().clone()
}

#[test]
fn a_recorded_quote_with_its_own_log() {
    let verdict = live("eventlog/attestation-rs-tdx_ccel_live2.dat", &Policy::genuine());
    assert!(verdict.is_accepted(), "{verdict}");
    assert_eq!(verdict.claims().boot.as_ref().unwrap().registers, ["rtmr0", "rtmr1", "rtmr2"]);
}

#[test]
fn a_recorded_quote_with_the_log_of_another_boot() {
    let verdict = live("eventlog/attestation-rs-tdx_ccel_live.bin", &Policy::genuine());
    assert_eq!(verdict.codes().collect::<Vec<_>>(), [Code::EventLogMismatch]);
    assert_eq!(verdict.reasons()[0].check, "boot/rtmr2");
    let claims = verdict.claims().boot.as_ref().unwrap();
    assert_eq!(claims.registers, ["rtmr0", "rtmr1"]);
    // The initrd was measured into the register that does not match.
    assert!(claims.initrds.is_empty() && claims.load_options.is_empty());
    let mut policy = Policy::genuine();
    policy.boot.registers = Some(BTreeSet::from(["rtmr0".into(), "rtmr1".into()]));
    let verdict = live("eventlog/attestation-rs-tdx_ccel_live.bin", &policy);
    assert!(verdict.is_accepted(), "{verdict}");
    assert!(verdict.warnings().iter().any(|reason| reason.code == Code::EventLogMismatch));
}

#[test]
fn a_recorded_quote_of_dstack_matches_its_first_register() {
    let quote = evidence("tdx/dcap-qvl-quote-from-tappd.quote-v4-tdx-32f070.bin");
    let Evidence::Tdx(quote) = &quote else { panic!() };
    let attested = (1..).zip(quote.report().rtmr.iter().map(|rtmr| rtmr.to_vec())).collect();
    let log = log("eventlog/dstack-ccel.bin");
    let algorithm = HashAlgorithm::Sha384;
    let (strict, claims) = check(&log, algorithm, Layout::ConfidentialVm, &attested, &BootPolicy::default());
    assert_eq!(strict.code, Some(Code::EventLogMismatch));
    // RTMR 2 holds zeros, and the log has no events for it.
    assert_eq!(claims.unwrap().registers, ["rtmr0", "rtmr2"]);
    let policy = BootPolicy { registers: Some(BTreeSet::from(["rtmr0".into()])), ..BootPolicy::default() };
    let (lenient, claims) = check(&log, algorithm, Layout::ConfidentialVm, &attested, &policy);
    assert_eq!((lenient.outcome, claims.unwrap().registers), (Outcome::Warned, vec!["rtmr0"]));
}

#[test]
fn an_ubuntu_of_googles_under_snp() {
    let claims = claims(UBUNTU_SNP, HashAlgorithm::Sha256);
    golden("boot-ubuntu-snp.json", &(serde_json::to_string_pretty(&claims).unwrap() + "\n"));
}

#[test]
fn a_description_for_people() {
    let log = log("eventlog/attestation-rs-tdx_ccel_live2.dat");
    golden("event-log.json", &(serde_json::to_string_pretty(&log.describe()).unwrap() + "\n"));
}

#[test]
fn what_the_logs_tell() {
    let agent = claims("eventlog/trustee-CCEL_AAEL_alibabacloud", HashAlgorithm::Sha384);
    assert_eq!(agent.runtime.len(), 2);
    assert_eq!(agent.runtime[0].text, "coco.com some-operation some-content");
    assert_eq!((agent.kernel_command_lines.len(), agent.kernel_command_lines[0].confirmed), (1, false));
    let unified = claims("eventlog/dstack-tpm_eventlog.bin", HashAlgorithm::Sha256);
    let names: Vec<_> = unified.unified_kernel_sections.iter().map(|section| &section.name[..]).collect();
    assert_eq!(names, [".linux", ".osrel", ".cmdline", ".initrd", ".uname", ".sbat"]);
    let shim = claims("eventlog/trustee-CCEL_data", HashAlgorithm::Sha384);
    assert_eq!(shim.kernel_command_lines[0].text, "root=/dev/vda1 console=hvc0 rw");
    assert!(!shim.kernel_command_lines[0].confirmed);
    let stopped = claims("eventlog/go-eventlog-ebs_event_missing_eventlog", HashAlgorithm::Sha1);
    assert!(!stopped.exited_boot_services);
    let keys = claims("eventlog/go-eventlog-sb_cert_eventlog", HashAlgorithm::Sha256);
    assert_eq!((keys.secure_boot, keys.setup_mode), (SecureBoot::Enabled, Some(false)));
}

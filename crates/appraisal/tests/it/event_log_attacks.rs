//! Logs that lie. Registers are taken as signed and the log as the host's: whatever the host writes, it proves no more
//! than the digests do.

use std::collections::{BTreeMap, BTreeSet};

use appraisal::boot::{self, BootClaims, CommandLineSource, Layout, SecureBoot};
use appraisal::{BootPolicy, Check, Code, Crypto, Outcome, Policy};
use crypto_aws_lc::AwsLc;
use evidence::eventlog::{EventLog, GLOBAL_VARIABLE, HashAlgorithm, TAG_LOAD_OPTIONS, kind};

use crate::event_logs::{COS_TDX, UBUNTU_SNP, check, log};
use crate::vectors::read;

const ALGORITHM: HashAlgorithm = HashAlgorithm::Sha256;

/// An event to be written: its digest is of `measured`, whatever the log says of it.
#[derive(Clone)]
struct Event {
    register: u32,
    kind: u32,
    measured: Vec<u8>,
    data: Vec<u8>,
}

impl Event {
    fn new(register: u32, kind: u32, measured: &[u8], data: &[u8]) -> Self {
        Self { register, kind, measured: measured.into(), data: data.into() }
    }

    /// An event whose digest is of its data.
    fn honest(register: u32, kind: u32, data: &[u8]) -> Self {
        Self::new(register, kind, data, data)
    }

    fn separator(register: u32) -> Self {
        Self::honest(register, kind::EV_SEPARATOR, &[0; 4])
    }

    fn grub(label: &str, text: &str) -> Self {
        Self::new(8, kind::EV_IPL, text.as_bytes(), format!("{label}{text}\0").as_bytes())
    }

    fn load_options(text: &str) -> Self {
        let mut data = TAG_LOAD_OPTIONS.to_le_bytes().to_vec();
        data.extend(3u32.to_le_bytes());
        data.extend(b"any");
        Self::new(9, kind::EV_EVENT_TAG, &wide(text), &data)
    }
}

fn wide(text: &str) -> Vec<u8> {
    text.encode_utf16().flat_map(u16::to_le_bytes).collect()
}

fn variable(name: &str, value: &[u8]) -> Vec<u8> {
    let mut data = GLOBAL_VARIABLE.to_vec();
    data.extend((name.len() as u64).to_le_bytes());
    data.extend((value.len() as u64).to_le_bytes());
    data.extend(wide(name));
    data.extend(value);
    data
}

fn secure_boot(value: &[u8]) -> Event {
    Event::honest(7, kind::EV_EFI_VARIABLE_DRIVER_CONFIG, &variable("SecureBoot", value))
}

fn written(events: &[Event]) -> EventLog {
    let mut bytes = vec![0; 4];
    bytes.extend(kind::EV_NO_ACTION.to_le_bytes());
    bytes.extend([0; 20]);
    let mut header = b"Spec ID Event03\0".to_vec();
    header.extend([0, 0, 0, 0, 0, 2, 0, 2, 1, 0, 0, 0]);
    header.extend(ALGORITHM.id().to_le_bytes());
    header.extend(32u16.to_le_bytes());
    header.push(0);
    bytes.extend((header.len() as u32).to_le_bytes());
    bytes.extend(header);
    for event in events {
        bytes.extend(event.register.to_le_bytes());
        bytes.extend(event.kind.to_le_bytes());
        bytes.extend(1u32.to_le_bytes());
        bytes.extend(ALGORITHM.id().to_le_bytes());
        bytes.extend(AwsLc.sha256(&[&event.measured]));
        bytes.extend((event.data.len() as u32).to_le_bytes());
        bytes.extend(&event.data);
    }
    EventLog::parse(&bytes).unwrap()
}

/// Judges a log over the registers that it replays to.
fn judged_under(events: &[Event], policy: &BootPolicy) -> (Check, Option<BootClaims>) {
    let log = written(events);
    let attested = boot::replay(&log, ALGORITHM, &AwsLc).unwrap();
    check(&log, ALGORITHM, Layout::Tpm, &attested, policy)
}

fn judged(events: &[Event]) -> (Check, Option<BootClaims>) {
    judged_under(events, &BootPolicy::default())
}

#[track_caller]
fn claimed(events: &[Event]) -> BootClaims {
    let (check, claims) = judged(events);
    claims.unwrap_or_else(|| panic!("{check:?}"))
}

#[track_caller]
fn inconsistent(events: &[Event]) {
    let (check, claims) = judged(events);
    assert_eq!((check.code, claims), (Some(Code::EventLogInconsistent), None), "{:?}", check.checks);
}

#[test]
fn secure_boot_is_told_by_its_variable() {
    assert_eq!(claimed(&[secure_boot(&[1]), Event::separator(7)]).secure_boot, SecureBoot::Enabled);
    assert_eq!(claimed(&[secure_boot(&[0]), Event::separator(7)]).secure_boot, SecureBoot::Disabled);
    assert_eq!(claimed(&[secure_boot(&[]), Event::separator(7)]).secure_boot, SecureBoot::Disabled);
    assert_eq!(claimed(&[Event::separator(7)]).secure_boot, SecureBoot::NotMeasured);
}

#[test]
fn data_that_was_not_measured_claims_nothing() {
    let (off, on) = (variable("SecureBoot", &[0]), variable("SecureBoot", &[1]));
    let event = Event::new(7, kind::EV_EFI_VARIABLE_DRIVER_CONFIG, &off, &on);
    let claims = claimed(&[event, Event::separator(7)]);
    assert_eq!((claims.secure_boot, claims.events_not_proven), (SecureBoot::NotMeasured, 1));
    let line = Event::new(8, kind::EV_IPL, b"/vmlinuz evil", b"kernel_cmdline: /vmlinuz good\0");
    assert!(claimed(&[line]).kernel_command_lines.is_empty());
    let leaves = Event::new(5, kind::EV_EFI_ACTION, b"other", b"Exit Boot Services Returned with Success");
    assert!(!claimed(&[leaves]).exited_boot_services);
    let agent = Event::new(16, kind::EV_EVENT_TAG, b"other", b"LEAA\x05\0\0\0a b c");
    assert!(claimed(&[agent]).runtime.is_empty());
}

/// The value of a boot variable is the host's to choose, and is measured without the variable's name.
#[test]
fn a_boot_variable_does_not_become_secure_boots() {
    let on = variable("SecureBoot", &[1]);
    let forged = Event::new(7, kind::EV_EFI_VARIABLE_DRIVER_CONFIG, &on, &on);
    let claims = claimed(&[Event::separator(7), forged.clone()]);
    assert_eq!(claims.secure_boot, SecureBoot::NotMeasured);
    // The same where the log gives the separator another name.
    let hidden = Event::new(7, kind::EV_EFI_ACTION, &[0; 4], b"nothing");
    inconsistent(&[hidden, forged]);
}

#[test]
fn a_variable_in_another_register_or_of_another_vendor_is_not_secure_boots() {
    let elsewhere = Event { register: 1, ..secure_boot(&[1]) };
    assert_eq!(claimed(&[elsewhere]).secure_boot, SecureBoot::NotMeasured);
    let mut data = variable("SecureBoot", &[1]);
    data[0] ^= 1;
    let foreign = Event::honest(7, kind::EV_EFI_VARIABLE_DRIVER_CONFIG, &data);
    assert_eq!(claimed(&[foreign]).secure_boot, SecureBoot::NotMeasured);
}

#[test]
fn secure_boot_measured_twice_is_inconsistent() {
    inconsistent(&[secure_boot(&[0]), secure_boot(&[1]), Event::separator(7)]);
}

#[test]
fn a_second_separator_is_inconsistent() {
    inconsistent(&[Event::separator(7), Event::separator(7)]);
}

#[test]
fn separators_of_other_values_are_inconsistent() {
    inconsistent(&[Event::honest(0, kind::EV_SEPARATOR, b"WBCL")]);
    inconsistent(&[Event::honest(0, kind::EV_SEPARATOR, &[1, 0, 0, 0])]);
    inconsistent(&[Event::new(0, kind::EV_SEPARATOR, b"else", &[0; 4])]);
    let ones = Event::honest(7, kind::EV_SEPARATOR, &[0xff; 4]);
    assert_eq!(claimed(&[ones, secure_boot(&[1])]).secure_boot, SecureBoot::NotMeasured);
}

#[test]
fn registers_that_do_not_exist_are_inconsistent() {
    inconsistent(&[Event::honest(24, kind::EV_EFI_ACTION, b"text")]);
    let log = written(&[Event::honest(5, kind::EV_EFI_ACTION, b"text")]);
    let attested = boot::replay(&log, ALGORITHM, &AwsLc).unwrap();
    let (check, _) = check(&log, ALGORITHM, Layout::ConfidentialVm, &attested, &BootPolicy::default());
    assert_eq!(check.code, Some(Code::EventLogInconsistent));
}

/// A label is covered by no digest: a command that prints the wanted line does not make it the kernel's.
#[test]
fn a_label_alone_confirms_no_command_line() {
    let wanted = "/vmlinuz root=/dev/good";
    let (evil, load) = ("/vmlinuz root=/dev/evil", "linux /vmlinuz root=/dev/evil");
    let lie = [
        Event::grub("kernel_cmdline: ", wanted),
        Event::grub("grub_cmd: ", load),
        Event::grub("grub_cmd: ", evil),
    ];
    let lines = claimed(&lie).kernel_command_lines;
    let shown: Vec<_> = lines.iter().map(|line| (&line.text[..], line.confirmed)).collect();
    assert_eq!(shown, [(wanted, false), (evil, true)]);
    let policy = allowing("root=/dev/good");
    assert_eq!(judged_under(&lie[..1], &policy).0.code, Some(Code::KernelCommandLineMismatch));
    assert_eq!(judged_under(&lie, &policy).0.code, Some(Code::KernelCommandLineMismatch));
}

fn allowing(line: &str) -> BootPolicy {
    BootPolicy {
        kernel_command_line: Some(BTreeSet::from([line.into()])),
        secure_boot: appraisal::Rule::Allow,
        ..BootPolicy::default()
    }
}

#[test]
fn command_lines_that_a_policy_names() {
    let line = "/vmlinuz root=/dev/good ro";
    let grub = [Event::grub("grub_cmd: ", &format!("linux {line}")), Event::grub("kernel_cmdline: ", line)];
    let kernel = Event::load_options(&format!("BOOT_IMAGE={line}"));
    let outcome = |events: &[Event], allowed: &str| judged_under(events, &allowing(allowed)).0.outcome;
    for allowed in [line, "root=/dev/good ro"] {
        assert_eq!(outcome(&grub, allowed), Outcome::Passed);
        assert_eq!(outcome(&[grub[1].clone(), kernel.clone()], allowed), Outcome::Passed);
    }
    assert_eq!(outcome(&grub, "root=/dev/good"), Outcome::Failed);
    assert_eq!(outcome(&[], line), Outcome::Failed);
    // What the kernel measured is something else than what grub showed.
    let other = Event::load_options("BOOT_IMAGE=/vmlinuz init=/bin/sh");
    assert_eq!(outcome(&[grub[0].clone(), grub[1].clone(), other.clone()], line), Outcome::Failed);
    // A kernel that firmware starts measures its line, and nothing else shows it.
    let direct = Event::load_options("console=hvc0 quiet");
    assert_eq!(outcome(std::slice::from_ref(&direct), "console=hvc0 quiet"), Outcome::Passed);
    assert_eq!(outcome(&[direct], "console=hvc0"), Outcome::Failed);
    // A line that may hold anything after the part that is known is not known.
    assert_eq!(outcome(&grub, ""), Outcome::Failed);
}

/// A host that writes grub's configuration runs the wanted command, then another, and passes the latter's events off
/// as something else.
#[test]
fn a_command_that_hides_among_other_events() {
    let good = "/vmlinuz root=/dev/good";
    let shown = [Event::grub("grub_cmd: ", &format!("linux {good}")), Event::grub("kernel_cmdline: ", good)];
    let policy = allowing(good);
    assert_eq!(judged_under(&shown, &policy).0.outcome, Outcome::Passed);
    let evil = b"/vmlinuz root=/dev/evil";
    for (kind, data) in [
        (kind::EV_IPL, &b"grub_cmd: harmless\0"[..]),
        (kind::EV_IPL, b"/grub/harmless.mod\0"),
        (kind::EV_EFI_ACTION, b"harmless"),
        (kind::EV_EFI_BOOT_SERVICES_APPLICATION, b"harmless"),
    ] {
        let hidden = [&shown[..], &[Event::new(8, kind, evil, data)]].concat();
        let (check, claims) = judged_under(&hidden, &policy);
        assert_eq!(check.code, Some(Code::KernelCommandLineMismatch), "{kind:#x}");
        assert!(claims.unwrap().kernel_command_lines.iter().all(|line| !line.confirmed));
    }
}

/// A file that grub reads, such as its environment, is measured beside the kernel's load options: the host may write
/// the wanted line into it, and have the log call it the kernel's.
#[test]
fn a_file_that_passes_for_load_options() {
    let wanted = "root=/dev/good";
    let actual =
        Event { data: b"harmless\0".to_vec(), kind: kind::EV_IPL, ..Event::load_options("root=/dev/evil") };
    let initrd = Event::new(9, kind::EV_IPL, b"the initrd", b"harmless\0");
    for rest in [&[actual.clone()][..], &[actual, initrd]] {
        let events = [&[Event::load_options(wanted)], rest].concat();
        let (check, claims) = judged_under(&events, &allowing(wanted));
        assert_eq!(check.code, Some(Code::KernelCommandLineMismatch));
        assert!(claims.unwrap().load_options.is_empty());
    }
}

#[test]
fn registers_that_a_policy_names_must_be_there() {
    let events = [secure_boot(&[1]), Event::separator(7)];
    let outcome = |name: &str| {
        let policy = BootPolicy { registers: Some(BTreeSet::from([name.into()])), ..BootPolicy::default() };
        judged_under(&events, &policy).0.outcome
    };
    assert_eq!(outcome("pcr7"), Outcome::Passed);
    assert_eq!(outcome("pcr4"), Outcome::Failed);
    assert_eq!(outcome("PCR7"), Outcome::Failed);
    // A policy may be for TDs, too; then it is no laxer for TPMs.
    assert_eq!(outcome("rtmr1"), Outcome::Passed);
    let policy = BootPolicy { registers: Some(BTreeSet::from(["rtmr1".into()])), ..BootPolicy::default() };
    let attested = BTreeMap::from([(7, vec![9; 32])]);
    let (check, _) = check(&written(&events), ALGORITHM, Layout::Tpm, &attested, &policy);
    assert_eq!(check.outcome, Outcome::Failed);
}

#[test]
fn the_command_line_within_a_unified_kernel() {
    let name = wide(".cmdline\0");
    let section = [
        Event::new(11, kind::EV_IPL, b".cmdline\0", &name),
        Event::new(11, kind::EV_IPL, b"root=/dev/good\0", &name),
    ];
    let outcome = |events: &[Event], allowed: &str| judged_under(events, &allowing(allowed)).0.outcome;
    let kernel = |line: &str| [&section[..], &[Event::load_options(line)]].concat();
    assert_eq!(outcome(&kernel("root=/dev/good"), "root=/dev/good"), Outcome::Passed);
    assert_eq!(outcome(&kernel("root=/dev/evil"), "root=/dev/evil"), Outcome::Failed);
    assert_eq!(outcome(&kernel("root=/dev/evil"), "root=/dev/good"), Outcome::Failed);
    // The stub may have been given another line, and the host may hide that event.
    assert_eq!(outcome(&section, "root=/dev/good"), Outcome::Failed);
    // Without the name's own measurement, the digest is of nothing in particular.
    let claims = claimed(&section[1..]);
    assert!(claims.unified_kernel_sections.is_empty());
}

#[test]
fn systemds_command_line_is_claimed_and_not_confirmed() {
    let data = wide("root=/dev/good\0");
    let lines = claimed(&[Event::honest(12, kind::EV_IPL, &data)]).kernel_command_lines;
    assert_eq!((lines[0].source, lines[0].confirmed), (CommandLineSource::Systemd, false));
    let kernel = Event::load_options("root=/dev/good");
    let lines = claimed(&[Event::honest(12, kind::EV_IPL, &data), kernel]).kernel_command_lines;
    assert!(lines[0].confirmed);
}

#[test]
fn the_locality_of_startup_is_in_pcr_0_alone() {
    let mut locality = b"StartupLocality\0".to_vec();
    locality.push(3);
    let event = Event::honest(0, kind::EV_S_CRTM_VERSION, &wide("1"));
    let log = written(&[Event::honest(0, kind::EV_NO_ACTION, &locality), event.clone(), Event::separator(1)]);
    let registers = boot::replay(&log, ALGORITHM, &AwsLc).unwrap();
    let mut start = [0; 32];
    let extended =
        |start: &[u8], measured: &[u8]| AwsLc.sha256(&[start, &AwsLc.sha256(&[measured])]).to_vec();
    assert_eq!(registers[&1], extended(&start, &[0; 4]));
    start[31] = 3;
    assert_eq!(registers[&0], extended(&start, &event.measured));
    let hcrtm = Event::honest(0, kind::EV_EFI_HCRTM_EVENT, b"HCRTM");
    start[31] = 4;
    let registers = boot::replay(&written(&[hcrtm]), ALGORITHM, &AwsLc).unwrap();
    assert_eq!(registers[&0], extended(&start, b"HCRTM"));
}

#[test]
fn events_that_are_not_extended_count_for_nothing() {
    let on = Event { kind: kind::EV_NO_ACTION, ..secure_boot(&[1]) };
    let log = written(&[on]);
    assert!(boot::replay(&log, ALGORITHM, &AwsLc).unwrap().is_empty());
    assert_eq!(
        claimed(&[Event { kind: kind::EV_NO_ACTION, ..secure_boot(&[1]) }]).secure_boot,
        SecureBoot::NotMeasured
    );
}

#[test]
fn registers_that_evidence_does_not_cover() {
    let log = written(&[secure_boot(&[1]), Event::separator(7), Event::honest(5, kind::EV_EFI_ACTION, b"x")]);
    let mut attested = boot::replay(&log, ALGORITHM, &AwsLc).unwrap();
    attested.remove(&7);
    let judge = |policy: &BootPolicy| check(&log, ALGORITHM, Layout::Tpm, &attested, policy);
    let (lenient, claims) = judge(&BootPolicy::default());
    assert_ne!(lenient.outcome, Outcome::Failed);
    let claims = claims.unwrap();
    assert_eq!((claims.registers, claims.secure_boot), (vec!["pcr5"], SecureBoot::NotMeasured));
    let named = BootPolicy { registers: Some(BTreeSet::from(["pcr7".into()])), ..BootPolicy::default() };
    assert_eq!(judge(&named).0.code, Some(Code::EventLogMismatch));
}

/// A host that leaves out all events of a register of the firmware's does not get it skipped.
#[test]
fn a_log_without_events_for_a_register_that_was_extended() {
    let log = written(&[Event::honest(5, kind::EV_EFI_ACTION, b"x")]);
    let mut attested = boot::replay(&log, ALGORITHM, &AwsLc).unwrap();
    attested.insert(7, vec![9; 32]);
    attested.insert(10, vec![9; 32]);
    let (check, _) = check(&log, ALGORITHM, Layout::Tpm, &attested, &BootPolicy::default());
    let outcomes: BTreeMap<_, _> = check.checks.iter().map(|check| (check.name, check.outcome)).collect();
    assert_eq!((outcomes["pcr7"], outcomes["pcr10"]), (Outcome::Failed, Outcome::Skipped));
}

/// What one log claims that the other does not.
fn added(original: &BootClaims, changed: &BootClaims) -> Vec<String> {
    let facts = |claims: &BootClaims| {
        let mut facts = BTreeSet::from([
            format!("{:?} {:?}", claims.firmware_version, claims.gce_technology),
            format!("{:?} {:?} {:?}", claims.platform_key, claims.exchange_keys, claims.setup_mode),
            format!("{:?} {:?}", claims.allowed, claims.forbidden),
            format!("{:?} {:?}", claims.secure_boot, claims.exited_boot_services),
        ]);
        facts.extend(claims.registers.iter().map(|name| format!("register {name}")));
        facts.extend(claims.authorities.iter().map(|authority| format!("{authority:?}")));
        facts.extend(claims.runtime.iter().map(|event| format!("{event:?}")));
        facts.extend(claims.unified_kernel_sections.iter().map(|section| format!("{section:?}")));
        let confirmed = claims.kernel_command_lines.iter().filter(|line| line.confirmed);
        facts.extend(confirmed.map(|line| format!("{line:?}")));
        facts
    };
    facts(changed).difference(&facts(original)).cloned().collect()
}

/// What may be lost when an event is no longer what it was: each such claim becomes empty, and not another.
fn only_lost(added: &[String]) -> bool {
    added.iter().all(|fact| fact.contains("None") || fact.contains("NotMeasured") || fact.ends_with("false"))
}

/// No flip of a bit anywhere adds a claim: what is covered by digests makes the log mismatch, and what is not covered
/// is claimed nowhere but in fields that say `unattested`.
#[test]
fn no_flip_of_a_byte_adds_a_claim() {
    let vm = Layout::ConfidentialVm;
    // Every byte of the short log; of those that are mostly certificates, every so many.
    for (file, algorithm, layout, step) in [
        ("eventlog/attestation-rs-tdx_ccel_live2.dat", HashAlgorithm::Sha384, vm, 1),
        (COS_TDX, HashAlgorithm::Sha384, vm, 7),
        (UBUNTU_SNP, ALGORITHM, Layout::Tpm, 31),
    ] {
        let mut bytes = read(file);
        let good = log(file);
        let attested = boot::replay(&good, algorithm, &AwsLc).unwrap();
        let policy = BootPolicy::default();
        let original = check(&good, algorithm, layout, &attested, &policy).1.unwrap();
        for offset in (0..bytes.len()).step_by(step) {
            bytes[offset] ^= 1;
            if let Ok(log) = EventLog::parse(&bytes)
                && let (_, Some(claims)) = check(&log, algorithm, layout, &attested, &policy)
            {
                let added = added(&original, &claims);
                assert!(only_lost(&added), "{file} at {offset}: {added:?}");
            }
            bytes[offset] ^= 1;
        }
    }
}

/// No flip in a digest that is replayed is accepted.
#[test]
fn no_flip_in_a_digest_is_accepted() {
    let good = read(COS_TDX);
    let log = log(COS_TDX);
    let attested = boot::replay(&log, HashAlgorithm::Sha384, &AwsLc).unwrap();
    for event in log.events().iter().filter(|event| event.is_extended()) {
        let digest = event.digest(HashAlgorithm::Sha384).unwrap();
        let start = good.windows(digest.len()).position(|window| window == digest).unwrap();
        for offset in start..start + digest.len() {
            let mut bytes = good.clone();
            bytes[offset] ^= 0x80;
            let log = EventLog::parse(&bytes).unwrap();
            let policy = BootPolicy::default();
            let (check, _) = check(&log, HashAlgorithm::Sha384, Layout::ConfidentialVm, &attested, &policy);
            assert_eq!(check.outcome, Outcome::Failed, "at {offset}");
        }
    }
}

#[test]
fn no_truncation_is_accepted() {
    let bytes = read(COS_TDX);
    let log = log(COS_TDX);
    let attested = boot::replay(&log, HashAlgorithm::Sha384, &AwsLc).unwrap();
    for length in 0..bytes.len() - log.padding() {
        if let Ok(log) = EventLog::parse(&bytes[..length]) {
            let policy = BootPolicy::default();
            let (check, _) = check(&log, HashAlgorithm::Sha384, Layout::ConfidentialVm, &attested, &policy);
            assert_eq!(check.outcome, Outcome::Failed, "cut to {length}");
        }
    }
}

#[test]
fn a_policy_for_the_boot_as_text() {
    let text = r#"{"boot":{"registers":["rtmr0"],"secure_boot":"refuse","kernel_command_line":["quiet"]}}"#;
    let policy: Policy = serde_json::from_str(text).unwrap();
    assert_eq!(policy.boot.registers, Some(BTreeSet::from(["rtmr0".to_owned()])));
    assert_eq!(policy.boot.secure_boot, appraisal::Rule::Refuse);
    assert_eq!(Policy::production().boot, BootPolicy::default());
    let unknown = r#"{"boot":{"secureboot":"allow"}}"#;
    assert!(serde_json::from_str::<Policy>(unknown).is_err());
}

fn windows(flags: &[(u32, u8)]) -> Vec<u8> {
    let entry =
        |tag: u32, value: &[u8]| [&tag.to_le_bytes(), &(value.len() as u32).to_le_bytes(), value].concat();
    let inner: Vec<u8> = flags.iter().flat_map(|(tag, value)| entry(*tag, &[*value])).collect();
    entry(evidence::eventlog::TRUST_BOUNDARY, &inner)
}

#[test]
fn windows_tells_the_worse_of_two() {
    const DEBUGGING: u32 = 0x0005_0001;
    const INTEGRITY: u32 = 0x0005_0002;
    let good = Event::honest(12, kind::EV_EVENT_TAG, &windows(&[(DEBUGGING, 0), (INTEGRITY, 1)]));
    let bad = Event::honest(13, kind::EV_EVENT_TAG, &windows(&[(DEBUGGING, 1), (INTEGRITY, 0)]));
    let told = |events: &[Event]| {
        let boot = claimed(events).windows.unwrap();
        (boot.kernel_debugging, boot.code_integrity)
    };
    assert_eq!(told(std::slice::from_ref(&good)), (Some(false), Some(true)));
    assert_eq!(told(&[good.clone(), bad.clone()]), (Some(true), Some(false)));
    assert_eq!(told(&[bad.clone(), good.clone()]), (Some(true), Some(false)));
    let both = windows(&[(DEBUGGING, 1), (INTEGRITY, 0), (DEBUGGING, 0), (INTEGRITY, 1)]);
    assert_eq!(told(&[Event::honest(12, kind::EV_EVENT_TAG, &both)]), (Some(true), Some(false)));
    let forged = Event::new(12, kind::EV_EVENT_TAG, &bad.data, &good.data);
    assert_eq!(claimed(&[forged]).windows, None);
}

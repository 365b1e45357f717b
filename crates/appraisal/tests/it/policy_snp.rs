//! What a policy demands of SNP reports alone, what they claim, and the traps of the format.

use appraisal::{Code, FirmwareVersion, IdBlock, Mask, Outcome, Policy, SnpMinimum, SnpPolicy};
use evidence::snp::{ProductFamily, VMPL_HOST};
use evidence::{Evidence, Measurement};

use crate::lab::Presented;
use crate::lab::amd::{Amd, at};
use crate::vectors::{amd_certificates, at as time, evidence, look, read, rows};

fn with(more: &[(usize, &[u8])]) -> Amd {
    Amd { more: more.iter().map(|(offset, bytes)| (*offset, bytes.to_vec())).collect(), ..Amd::genoa() }
}

fn snp(change: impl FnOnce(&mut SnpPolicy)) -> impl FnOnce(&mut Policy) {
    |policy| change(&mut policy.snp)
}

#[test]
fn only_privilege_levels_that_are_named_are_accepted() {
    let at_level = |vmpl| Amd { vmpl, ..Amd::genoa() }.present();
    for vmpl in 0..=3 {
        assert!(at_level(vmpl).appraise().is_ok(), "by default any of the guest's");
    }
    let zero = || snp(|snp| snp.vmpl = [0].into());
    assert!(at_level(0).accepted_with(zero()).is_empty());
    assert_eq!(at_level(1).refused_with(zero()), [Code::VmplNotAllowed]);
    assert_eq!(at_level(4).refusal(), [Code::VmplNotAllowed]);
}

/// The host can ask for a report, too: it covers nothing that the guest chose.
#[test]
fn a_report_that_the_host_asked_for_is_refused() {
    let presented = Amd { vmpl: VMPL_HOST, ..Amd::genoa() }.present();
    let refused = presented.appraise().unwrap_err();
    assert_eq!(refused.codes(), [Code::VmplNotAllowed]);
    let check = refused.verdict().check("configuration/vmpl").unwrap();
    assert_eq!(check.observed.as_deref(), Some("host"));
}

#[test]
fn the_format_may_have_a_floor() {
    for (version, least, good) in [(2, 2, true), (2, 3, false), (4, 5, false), (5, 5, true)] {
        let presented = Amd { version, ..Amd::genoa() }.present();
        let floor = snp(|snp| snp.minimum_report_version = Some(least));
        match good {
            true => assert!(presented.accepted_with(floor).is_empty()),
            false => assert_eq!(presented.refused_with(floor), [Code::ReportVersionTooLow]),
        }
    }
}

#[test]
fn the_guest_may_have_to_demand_an_abi() {
    let presented = Amd { policy: 0x30000 | 1 << 8 | 55, ..Amd::genoa() }.present();
    let floor = |text: &'static str| snp(move |snp| snp.minimum_abi = Some(text.parse().unwrap()));
    assert!(presented.accepted_with(floor("1.55")).is_empty());
    assert_eq!(presented.refused_with(floor("1.56")), [Code::AbiVersionTooLow]);
    assert_eq!(presented.refused_with(floor("2.0")), [Code::AbiVersionTooLow]);
}

#[test]
fn firmware_must_be_new_enough_both_running_and_committed() {
    // In the report: build, minor, major.
    let firmware = |current: [u8; 3], committed: [u8; 3]| {
        with(&[(at::CURRENT_FIRMWARE, &current), (at::COMMITTED_FIRMWARE, &committed)]).present()
    };
    let floor = || snp(|snp| snp.minimum_firmware = Some(FirmwareVersion { major: 1, minor: 55, build: 21 }));
    assert!(firmware([21, 55, 1], [21, 55, 1]).accepted_with(floor()).is_empty());
    assert!(firmware([0, 0, 2], [0, 56, 1]).accepted_with(floor()).is_empty());
    for (current, committed, mend) in [
        ([20, 55, 1], [20, 55, 1], "update the host's SEV firmware"),
        ([99, 54, 1], [99, 54, 1], "update the host's SEV firmware"),
        ([21, 55, 1], [20, 55, 1], "let the host commit"),
    ] {
        let presented = firmware(current, committed);
        let refused = presented.appraise_under(&presented.policy_with(floor())).unwrap_err();
        assert_eq!(refused.codes(), [Code::FirmwareVersionTooLow]);
        let seen = refused.verdict().reasons()[0].mend.as_deref().unwrap();
        assert!(seen.starts_with(mend), "{seen}");
    }
}

#[test]
fn mitigations_must_be_there_at_launch_and_now() {
    let mitigations = |version, launch: u8, current: u8| {
        let more = [(at::LAUNCH_MITIGATIONS, &[launch][..]), (at::CURRENT_MITIGATIONS, &[current])];
        Amd { version, ..with(&more) }.present()
    };
    let require = || snp(|snp| snp.required_mitigations = Mask(0b101));
    assert!(mitigations(5, 0b111, 0b101).accepted_with(require()).is_empty());
    for (version, launch, current) in [(5, 0b001, 0b101), (5, 0b101, 0b100), (5, 0, 0), (4, 0b101, 0b101)] {
        let presented = mitigations(version, launch, current);
        assert!(presented.appraise().is_ok(), "nothing is required by default");
        assert_eq!(presented.refused_with(require()), [Code::MitigationMissing]);
    }
}

#[test]
fn an_id_block_may_be_demanded_and_whose() {
    let bare = Amd::genoa().present();
    let signed = with(&[(at::ID_KEY, &[1; 48])]).present();
    let authored = with(&[(at::ID_KEY, &[1; 48]), (at::AUTHOR_KEY, &[2; 48]), (at::FLAGS, &[1])]).present();
    let demand = |id_block| snp(move |snp| snp.id_block = id_block);
    let missing = [Code::IdBlockMissing];
    assert_eq!(bare.refused_with(demand(IdBlock::Signed)), missing);
    assert!(signed.accepted_with(demand(IdBlock::Signed)).is_empty());
    assert_eq!(signed.refused_with(demand(IdBlock::Authored)), missing);
    assert!(authored.accepted_with(demand(IdBlock::Authored)).is_empty());

    let keys = |byte: u8| [Measurement::from([byte; 48])].into();
    let id_key = |byte| snp(move |snp| snp.id_keys = keys(byte));
    let author = |byte| snp(move |snp| snp.author_keys = keys(byte));
    let not_allowed = [Code::SignerNotAllowed];
    assert!(signed.accepted_with(id_key(1)).is_empty());
    assert_eq!(signed.refused_with(id_key(2)), not_allowed);
    assert!(authored.accepted_with(author(2)).is_empty());
    assert_eq!(authored.refused_with(author(1)), not_allowed);
    assert_eq!(signed.refused_with(author(2)), not_allowed);
    // The digest of no key is nobody's.
    assert_eq!(bare.refused_with(id_key(0)), not_allowed);
}

fn floor(family: Option<ProductFamily>, snp: u8) -> Vec<SnpMinimum> {
    vec![SnpMinimum { family, snp, ..SnpMinimum::default() }]
}

/// The committed TCB is where the host can go back to; that of the launch is what measured the guest.
#[test]
fn the_committed_tcb_and_that_of_the_launch_have_floors_of_their_own() {
    let older = [10, 0, 0, 0, 0, 0, 22, 84];
    let committed = with(&[(at::COMMITTED_TCB, &older)]).present();
    let launch = with(&[(at::LAUNCH_TCB, &older)]).present();
    let on_committed = |snp| move |policy: &mut Policy| policy.minimum.snp_committed = floor(None, snp);
    let on_launch = |snp| move |policy: &mut Policy| policy.minimum.snp_launch = floor(None, snp);
    let below = [Code::TcbBelowMinimum];
    assert!(committed.accepted_with(on_committed(22)).is_empty());
    assert_eq!(committed.refused_with(on_committed(23)), below);
    assert!(committed.accepted_with(on_launch(23)).is_empty());
    assert!(launch.accepted_with(on_launch(22)).is_empty());
    assert_eq!(launch.refused_with(on_launch(23)), below);
    assert!(launch.accepted_with(on_committed(23)).is_empty());
    let turin = |policy: &mut Policy| policy.minimum.snp_launch = floor(Some(ProductFamily::Turin), 23);
    assert!(launch.accepted_with(turin).is_empty(), "a floor for another family is none");
    // Bytes that the family reserves are below any floor.
    let odd = with(&[(at::COMMITTED_TCB, &[255; 8])]).present();
    assert_eq!(odd.refused_with(on_committed(0)), below);
}

#[test]
fn a_report_claims_all_that_it_tells() {
    let platform = with(&[
        (at::GUEST_SVN, &[7]),
        (at::FAMILY_ID, &[0xfa; 16]),
        (at::IMAGE_ID, &[0x1a; 16]),
        (at::ID_KEY, &[1; 48]),
        (at::AUTHOR_KEY, &[2; 48]),
        (at::FLAGS, &[1]),
        (at::CURRENT_FIRMWARE, &[21, 55, 1]),
        (at::COMMITTED_FIRMWARE, &[20, 54, 1]),
        (at::LAUNCH_MITIGATIONS, &[3]),
        (at::CURRENT_MITIGATIONS, &[7]),
        (at::CURRENT_TCB, &[11, 0, 0, 0, 0, 0, 24, 85]),
    ]);
    let platform = Amd { version: 5, vmpl: 2, platform_info: 0x7f, policy: 0x1_30137, ..platform };
    let appraised = platform.present().appraise().unwrap();
    let claims = serde_json::to_value(appraised.verdict().claims()).unwrap();
    let at =
        |path: &str| claims.pointer(&format!("/snp/{path}")).unwrap_or_else(|| panic!("{path}: {claims:#}"));
    for (path, expected) in [
        ("report_version", "5"),
        ("vmpl", "2"),
        ("guest_svn", "7"),
        ("family_id", &"fa".repeat(16)),
        ("image_id", &"1a".repeat(16)),
        ("id_key_digest", &"01".repeat(48)),
        ("author_key_digest", &"02".repeat(48)),
        ("chip_id", &"c1".repeat(64)),
        ("signing_key", "VCEK"),
        ("current_firmware", "1.55.21"),
        ("committed_firmware", "1.54.20"),
        ("launch_mitigations", "0x3"),
        ("current_mitigations", "0x7"),
        ("tcb/reported", "bootloader 10, tee 0, snp 23, microcode 84"),
        ("tcb/current", "bootloader 11, tee 0, snp 24, microcode 85"),
        ("guest_policy/minimum_abi", "1.55"),
        ("guest_policy/smt", "true"),
        ("guest_policy/single_socket", "true"),
        ("guest_policy/debug", "false"),
        ("platform_info/bits", "0x7f"),
        ("platform_info/smt", "true"),
        ("platform_info/tsme", "true"),
        ("platform_info/ecc", "true"),
        ("platform_info/rapl_disabled", "true"),
        ("platform_info/ciphertext_hiding", "true"),
        ("platform_info/alias_check_complete", "true"),
        ("platform_info/tio", "false"),
        ("platform_info/unknown", "0x40"),
    ] {
        let seen = at(path);
        assert_eq!(seen.as_str().map_or_else(|| seen.to_string(), str::to_owned), expected, "{path}");
    }
    let shown = appraised.verdict().check("configuration/platform-info").unwrap();
    assert_eq!(
        shown.text,
        "SMT on, TSME on, ECC on, RAPL off, ciphertext hiding on, alias check done, trusted I/O off, \
         0x40 not known to this version"
    );
}

fn recorded(file: &str) -> appraisal::Assessment {
    let report = evidence(file);
    let row = rows().into_iter().find(|row| row.file == file).unwrap();
    let now = row.at.unwrap_or_else(|| time("2026-01-01T00:00:00Z"));
    look(&report, &amd_certificates().fit(&report, now), now)
}

/// Traps 8 and 9: Turin has another TCB layout, and real Turin reports set a bit that has no name.
#[test]
fn traps_8_and_9_real_turin_reports() {
    let of_turin = |file: &str| {
        let Evidence::Snp(report) = evidence(file) else { return false };
        report.body().family() == Some(ProductFamily::Turin)
    };
    let rows = rows().into_iter().filter(|row| row.is_in("snp") && of_turin(&row.file));
    let turin: Vec<_> = rows.collect();
    assert!(!turin.is_empty());
    for row in turin {
        let assessment = recorded(&row.file);
        let verdict = assessment.verdict();
        assert!(verdict.is_accepted(), "{}\n{verdict}", row.file);
        let claims = verdict.claims().snp.as_ref().unwrap();
        assert_eq!(claims.platform_info.unknown, 0x40);
        assert!(claims.tcb.reported.starts_with("fmc "), "{}", claims.tcb.reported);
        assert!(verdict.check("configuration/platform-info").unwrap().text.contains("0x40 not known"));
    }
}

/// Trap 10: a report of version 2 does not tell its family, so the certificate does; later ones must agree.
#[test]
fn trap_10_the_family_of_an_old_report_is_its_certificates() {
    for (platform, family) in [(Amd::milan(), "Milan"), (Amd::genoa(), "Genoa")] {
        // What lies where later versions have the CPUID means nothing.
        let old = Amd { version: 2, more: vec![(0x188, vec![0x1a, 2, 1])], ..platform.clone() };
        assert_eq!(old.present().appraise().unwrap().verdict().product(), Some(family));
        for version in 3..=5 {
            let lying = Amd { version, more: vec![(0x188, vec![0x1a, 2, 1])], ..platform.clone() };
            assert_eq!(lying.present().refusal(), [Code::ProductMismatch]);
        }
    }
}

/// Trap 11: certificates of VCEKs have the serial number 0, and RSA-PSS signatures under plain RSA keys.
#[test]
fn trap_11_real_vceks_are_read_as_amd_makes_them() {
    for file in
        ["snp/sev-report_milan.report-v2-120d77.bin", "snp/oak-genoa_oc_evidence.report-v5-6d1cef.bin"]
    {
        let assessment = recorded(file);
        assert_eq!(assessment.verdict().check("genuine/chain").unwrap().outcome, Outcome::Passed);
    }
}

/// Trap 12: what runs is often newer than what is reported; only the latter is certified, so floors are for that.
#[test]
fn trap_12_floors_are_for_the_reported_tcb() {
    let newer = with(&[(at::CURRENT_TCB, &[10, 0, 0, 0, 0, 0, 99, 84])]).present();
    assert!(newer.appraise().is_ok());
    let demand = |snp| move |policy: &mut Policy| policy.minimum.snp = floor(None, snp);
    assert!(newer.accepted_with(demand(23)).is_empty());
    assert_eq!(newer.refused_with(demand(24)), [Code::TcbBelowMinimum]);
    let differing = rows().into_iter().filter(|row| row.is_in("snp")).filter(|row| {
        let Evidence::Snp(report) = evidence(&row.file) else { return false };
        report.body().current_tcb != report.body().reported_tcb
    });
    assert!(differing.count() >= 4, "as recorded");
}

/// Trap 13: the top 24 bytes of R and S must be zero, or one signature had many encodings.
#[test]
fn trap_13_padding_of_the_signature_must_be_zero() {
    let report = read("snp/oak-genoa_oc_evidence.report-v5-6d1cef.bin");
    assert!(Evidence::parse(&report).is_ok());
    for start in [0x2a0, 0x2e8] {
        for byte in [start + 48, start + 71] {
            let mut changed = report.clone();
            changed[byte] = 1;
            assert!(Evidence::parse(&changed).is_err(), "{byte:#x}");
        }
    }
}

fn vlek() -> Amd {
    Amd { vlek: true, signing_key: 1, chip: [0; 64], ..Amd::genoa() }
}

/// Trap 14: a VLEK is issued by the ASVK, tells no chip, and its reports say so.
#[test]
fn trap_14_a_vlek_is_no_vcek() {
    let appraised = vlek().present().appraise().unwrap();
    let claims = appraised.verdict().claims().snp.clone().unwrap();
    assert_eq!((claims.signing_key, claims.chip_id), ("VLEK", None));
    assert_eq!(claims.provider.as_deref(), Some("CN=lab-cloud"));
    let refused = |platform: Amd| -> Vec<Code> { Presented::refusal(&platform.present()) };
    assert_eq!(refused(Amd { signing_key: 0, ..vlek() }), [Code::VekKindMismatch]);
    assert_eq!(refused(Amd { signing_key: 1, ..Amd::genoa() }), [Code::VekKindMismatch]);
    let below_ask = Amd { issuer_name: Some("SEV-Genoa"), ..vlek() };
    assert_eq!(refused(below_ask), [Code::CertificateMalformed]);
    let below_asvk = Amd { issuer_name: Some("SEV-VLEK-Genoa"), ..Amd::genoa() };
    assert_eq!(refused(below_asvk), [Code::CertificateMalformed]);
}

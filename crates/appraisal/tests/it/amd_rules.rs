//! One thing wrong at a time on SNP. Each test fails when its rule is deleted.

use appraisal::{Code, Policy, Rule, SnpMinimum, TcbStatus};
use evidence::snp::ProductFamily;

use crate::lab::amd::{Amd, ISSUER_SERIAL};
use crate::lab::{Presented, Window};

const PAST: Window = Window(-40, -1);
const FUTURE: Window = Window(1, 30);

#[track_caller]
fn refused(platform: &Amd, codes: &[Code]) {
    assert_eq!(platform.present().refusal(), codes);
}

fn vlek() -> Amd {
    Amd { vlek: true, signing_key: 1, chip: [0; 64], ..Amd::genoa() }
}

fn genuine(presented: &Presented) -> Policy {
    Policy { emulated_roots: presented.policy().emulated_roots, ..Policy::genuine() }
}

#[test]
fn good_platforms_of_every_family_and_version_are_accepted() {
    let versions = (2..=5).map(|version| Amd { version, ..Amd::genoa() });
    for platform in versions.chain([Amd::milan(), Amd::turin(), vlek()]) {
        let presented = platform.present();
        let appraised = presented.appraise().unwrap_or_else(|refused| panic!("{}", refused.verdict()));
        assert!(appraised.emulated());
        assert_eq!(appraised.verdict().product(), Some(platform.family));
        assert_eq!(appraised.collateral().amd_crl_number, Some(7));
    }
}

#[test]
fn the_platform_identity_is_the_chip_or_the_provider() {
    let chip = Amd::genoa().present().appraise().unwrap();
    assert_eq!(chip.platform_identity().map(ToString::to_string), Some("c1".repeat(64)));
    let provider = vlek().present().appraise().unwrap();
    assert_eq!(provider.platform_identity().map(ToString::to_string), Some("CN=lab-cloud".into()));
}

#[test]
fn s40_a_root_that_the_policy_does_not_name_is_refused() {
    let presented = Amd::genoa().present();
    let refused = presented.appraise_under(&Policy::production()).unwrap_err();
    assert_eq!(refused.codes(), [Code::RootNotTrusted]);
    assert_eq!(presented.refusal_under(&Amd::genoa().present().policy()), [Code::RootNotTrusted]);
}

#[test]
fn s20_an_expired_or_early_certificate_is_refused() {
    refused(&Amd { leaf_window: PAST, ..Amd::genoa() }, &[Code::CertificateExpired]);
    refused(&Amd { leaf_window: FUTURE, ..Amd::genoa() }, &[Code::CertificateNotYetValid]);
    refused(&Amd { issuer_window: PAST, ..Amd::genoa() }, &[Code::CertificateExpired]);
    refused(&Amd { issuer_window: FUTURE, ..Amd::genoa() }, &[Code::CertificateNotYetValid]);
}

#[test]
fn s20_a_missing_or_expired_crl_is_refused_by_production_and_shown_by_genuine() {
    for (crl, code) in [(None, Code::CrlMissing), (Some(PAST), Code::CrlExpired)] {
        let presented = Amd { crl, ..Amd::genoa() }.present();
        assert_eq!(presented.refusal(), [code]);
        let appraised = presented.appraise_under(&genuine(&presented)).unwrap();
        assert_eq!(
            appraised.verdict().warnings().iter().map(|reason| reason.code).collect::<Vec<_>>(),
            [code]
        );
    }
    refused(&Amd { crl: Some(FUTURE), ..Amd::genoa() }, &[Code::CrlNotYetValid]);
}

#[test]
fn no_policy_makes_a_missing_crl_invisible() {
    let presented = Amd { crl: None, ..Amd::genoa() }.present();
    let policy = Policy { amd_crl: Rule::Allow, ..presented.policy() };
    let appraised = presented.appraise_under(&policy).unwrap();
    assert_eq!(appraised.verdict().warnings()[0].code, Code::CrlMissing);
}

#[test]
fn s37_a_revoked_issuer_is_refused_under_every_policy() {
    for crl in [Window::GOOD, PAST] {
        let presented = Amd { crl: Some(crl), revoked: vec![ISSUER_SERIAL], ..Amd::genoa() }.present();
        assert_eq!(presented.refusal(), [Code::CertificateRevoked]);
        let lax = Policy { amd_crl: Rule::Allow, ..genuine(&presented) };
        assert_eq!(presented.refusal_under(&lax), [Code::CertificateRevoked]);
    }
}

#[test]
fn a_crl_that_the_root_did_not_sign_is_refused() {
    let presented = Amd { foreign_crl: true, ..Amd::genoa() }.present();
    assert_eq!(presented.refusal_under(&genuine(&presented)), [Code::CrlSignatureInvalid]);
}

#[test]
fn s18_an_older_crl_than_the_floor_is_refused() {
    let presented = Amd::genoa().present();
    let mut policy = presented.policy();
    policy.minimum.amd_crl_number = Some(7);
    assert!(presented.appraise_under(&policy).is_ok());
    policy.minimum.amd_crl_number = Some(8);
    assert_eq!(presented.refusal_under(&policy), [Code::CollateralRolledBack]);
}

#[test]
fn s35_report_tcb_must_equal_certificate() {
    for byte in [0, 1, 6, 7] {
        let mut platform = Amd::genoa();
        platform.tcb[byte] += 1;
        refused(&platform, &[Code::TcbMismatch]);
    }
    for byte in [0, 1, 2, 3, 7] {
        let mut platform = Amd::turin();
        platform.tcb[byte] += 1;
        refused(&platform, &[Code::TcbMismatch]);
    }
    for part in 0..4 {
        let mut platform = Amd::genoa();
        platform.certified[part] += 1;
        refused(&platform, &[Code::TcbMismatch]);
    }
}

#[test]
fn s35_reserved_tcb_bytes_must_be_zero() {
    for byte in 2..=5 {
        let mut platform = Amd::genoa();
        platform.tcb[byte] = 1;
        refused(&platform, &[Code::TcbMismatch]);
    }
    for byte in 4..=6 {
        let mut platform = Amd::turin();
        platform.tcb[byte] = 1;
        refused(&platform, &[Code::TcbMismatch]);
    }
}

#[test]
fn s35_vcek_wrong_chip() {
    for byte in [0, 31, 63] {
        let mut platform = Amd::genoa();
        platform.chip[byte] ^= 1;
        refused(&platform, &[Code::ChipIdMismatch]);
    }
    // Turin has eight bytes of chip id, and zeros after them.
    for byte in [0, 7, 8, 63] {
        let mut platform = Amd::turin();
        platform.chip[byte] ^= 1;
        refused(&platform, &[Code::ChipIdMismatch]);
    }
    refused(&Amd { chip: [0; 64], ..Amd::genoa() }, &[Code::ChipIdMismatch]);
}

#[test]
fn a_chip_id_of_another_length_is_refused() {
    refused(&Amd { certified_chip: vec![0xc1; 8], ..Amd::genoa() }, &[Code::CertificateMalformed]);
}

#[test]
fn s35_a_vlek_report_with_a_vcek_and_the_other_way_round_is_refused() {
    refused(&Amd { signing_key: 1, ..Amd::genoa() }, &[Code::VekKindMismatch]);
    refused(&Amd { signing_key: 0, ..vlek() }, &[Code::VekKindMismatch]);
    refused(&Amd { signing_key: 7, ..Amd::genoa() }, &[Code::VekKindMismatch]);
}

#[test]
fn a_report_of_another_product_than_its_certificate_is_refused() {
    refused(&Amd { cpuid: [0x19, 1, 1], ..Amd::genoa() }, &[Code::ProductMismatch]);
    refused(&Amd { cpuid: [0x17, 1, 1], ..Amd::genoa() }, &[Code::ProductMismatch]);
    // A certificate of one product below the issuer of another.
    refused(&Amd { certified_family: "Milan", ..Amd::genoa() }, &[Code::CertificateMalformed]);
    refused(&Amd { certified_family: "Rome", ..Amd::genoa() }, &[Code::CertificateMalformed]);
}

#[test]
fn s36_debug_is_refused_whatever_else_the_policy_allows() {
    let presented = Amd { policy: 0x30000 | 1 << 19, ..Amd::genoa() }.present();
    assert_eq!(presented.refusal(), [Code::DebugEnabled]);
    assert_eq!(presented.refusal_under(&genuine(&presented)), [Code::DebugEnabled]);
}

#[test]
fn s36_other_weakening_bits_are_refused_by_production_and_shown_by_genuine() {
    for (policy, platform_info, code) in [
        (0x30000 | 1 << 18, 0x25, Code::MigrationAllowed),
        (0x30000 | 1 << 26, 0x25, Code::AttributesUnknown),
        (0x30000, 0x05, Code::AliasCheckMissing),
    ] {
        let presented = Amd { policy, platform_info, ..Amd::genoa() }.present();
        assert_eq!(presented.refusal(), [code]);
        assert!(presented.appraise_under(&genuine(&presented)).is_ok());
    }
}

#[test]
fn smt_is_refused_where_the_policy_says_so() {
    let presented = Amd::genoa().present();
    let policy = Policy { smt: Rule::Refuse, ..presented.policy() };
    assert_eq!(presented.refusal_under(&policy), [Code::SmtAllowed]);
    let single = Amd { policy: 0x20000, ..Amd::genoa() }.present();
    assert!(single.appraise_under(&Policy { smt: Rule::Refuse, ..single.policy() }).is_ok());
}

#[test]
fn s48_a_denied_product_family_is_refused() {
    for (platform, family) in [(Amd::milan(), ProductFamily::Milan), (Amd::turin(), ProductFamily::Turin)] {
        let presented = platform.present();
        let policy = Policy { denied_families: [family].into(), ..presented.policy() };
        assert_eq!(presented.refusal_under(&policy), [Code::ProductFamilyDenied]);
    }
    // A report of version 2 does not tell its family, and the certificate does.
    let old = Amd { version: 2, ..Amd::milan() }.present();
    let policy = Policy { denied_families: [ProductFamily::Milan].into(), ..old.policy() };
    assert_eq!(old.refusal_under(&policy), [Code::ProductFamilyDenied]);
}

#[test]
fn s48_every_verdict_on_milan_warns() {
    let appraised = Amd::milan().present().appraise().unwrap();
    assert_eq!(appraised.verdict().warnings()[0].code, Code::ProductFamilyCompromised);
}

#[test]
fn a_floor_above_the_platform_is_refused_with_each_component() {
    let presented = Amd::genoa().present();
    let mut policy = presented.policy();
    policy.minimum.snp = vec![SnpMinimum { microcode: 84, ..SnpMinimum::default() }];
    let appraised = presented.appraise_under(&policy).unwrap();
    assert_eq!(appraised.verdict().tcb().status, Some(TcbStatus::UpToDate));
    policy.minimum.snp = vec![SnpMinimum { microcode: 85, snp: 24, ..SnpMinimum::default() }];
    let refused = presented.appraise_under(&policy).unwrap_err();
    assert_eq!(refused.codes(), [Code::TcbBelowMinimum, Code::TcbBelowMinimum]);
    assert_eq!(refused.verdict().tcb().status, Some(TcbStatus::OutOfDate));
    let check = refused.verdict().check("tcb/microcode").unwrap();
    assert_eq!((check.observed.as_deref(), check.expected.as_deref()), (Some("84"), Some("85")));
    // A floor for another family is none.
    policy.minimum.snp[0].family = Some(ProductFamily::Turin);
    assert!(presented.appraise_under(&policy).is_ok());
}

#[test]
fn missing_endorsements_say_where_to_fetch_them() {
    let mut presented = Amd::genoa().present();
    presented.endorsements.amd = None;
    let refused = presented.appraise().unwrap_err();
    assert_eq!(refused.codes(), [Code::EndorsementsMissing]);
    let mend = refused.verdict().reasons()[0].mend.as_deref().unwrap();
    assert!(mend.contains("https://kdsintf.amd.com/vcek/v1/Genoa/c1c1"), "{mend}");
    assert!(mend.ends_with("?blSPL=10&teeSPL=0&snpSPL=23&ucodeSPL=84"), "{mend}");
}

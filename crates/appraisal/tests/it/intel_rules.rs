//! One thing wrong at a time on SGX and TDX. Each test fails when its rule is deleted.

use appraisal::{Code, Origin, Outcome, Policy, Rule, TcbStatus, UnixTime};

use crate::lab::intel::{CA_SERIAL, Intel, PCK_SERIAL, SIGNER_SERIAL};
use crate::lab::{DAY, NOW, Window};

const PAST: Window = Window(-40, -1);
const FUTURE: Window = Window(1, 30);

#[track_caller]
fn refused(platform: &Intel, codes: &[Code]) {
    assert_eq!(platform.present().refusal(), codes);
}

/// Both kinds of TEE with the same thing wrong.
#[track_caller]
fn both_refused(spoil: impl Fn(&mut Intel), codes: &[Code]) {
    for mut platform in [Intel::sgx(), Intel::tdx()] {
        spoil(&mut platform);
        refused(&platform, codes);
    }
}

#[test]
fn a_good_platform_is_accepted_and_emulated() {
    for platform in [Intel::sgx(), Intel::tdx()] {
        let presented = platform.present();
        let appraised = presented.appraise().unwrap_or_else(|refused| panic!("{}", refused.verdict()));
        assert!(appraised.emulated());
        assert_eq!(appraised.verdict().origin(), Some(&Origin::Emulated("lab".into())));
        assert_eq!(appraised.verdict().tcb().status, Some(TcbStatus::UpToDate));
        assert_eq!(appraised.platform_identity().map(ToString::to_string), Some("ab".repeat(16)));
        assert_eq!(appraised.collateral().tcb_evaluation_data_number, Some(20));
        assert_eq!(appraised.collateral().intel_collateral_issued, Some(UnixTime(NOW - 10 * DAY)));
    }
}

#[test]
fn s40_a_root_that_the_policy_does_not_name_is_refused() {
    for platform in [Intel::sgx(), Intel::tdx()] {
        let presented = platform.present();
        for policy in [Policy::production(), Policy::genuine(), platform.present().policy()] {
            let refused = presented.appraise_under(&policy).unwrap_err();
            assert_eq!(refused.codes(), [Code::RootNotTrusted]);
            assert!(refused.to_string().contains("emulated or development root"), "{refused}");
            assert_eq!(refused.verdict().origin(), None);
        }
    }
}

#[test]
fn s20_an_expired_or_early_certificate_is_refused() {
    both_refused(|it| it.pck_window = PAST, &[Code::CertificateExpired]);
    both_refused(|it| it.pck_window = FUTURE, &[Code::CertificateNotYetValid]);
    both_refused(|it| it.ca_window = PAST, &[Code::CertificateExpired]);
    both_refused(|it| it.ca_window = FUTURE, &[Code::CertificateNotYetValid]);
    both_refused(|it| it.signer_window = PAST, &[Code::CertificateExpired]);
    both_refused(|it| it.signer_window = FUTURE, &[Code::CertificateNotYetValid]);
}

#[test]
fn s20_expired_or_early_collateral_is_refused() {
    both_refused(|it| it.info_window = PAST, &[Code::CollateralExpired]);
    both_refused(|it| it.info_window = FUTURE, &[Code::CollateralNotYetValid]);
    both_refused(|it| it.identity_window = PAST, &[Code::CollateralExpired]);
    both_refused(|it| it.identity_window = FUTURE, &[Code::CollateralNotYetValid]);
    both_refused(|it| it.root_crl_window = PAST, &[Code::CrlExpired]);
    both_refused(|it| it.root_crl_window = FUTURE, &[Code::CrlNotYetValid]);
    both_refused(|it| it.pck_crl_window = PAST, &[Code::CrlExpired]);
    both_refused(|it| it.pck_crl_window = FUTURE, &[Code::CrlNotYetValid]);
}

#[test]
fn s20_missing_collateral_is_refused() {
    for platform in [Intel::sgx(), Intel::tdx()] {
        let mut presented = platform.present();
        presented.endorsements.intel = None;
        assert_eq!(presented.refusal(), [Code::EndorsementsMissing]);
    }
}

#[test]
fn s37_a_revoked_certificate_is_refused() {
    both_refused(|it| it.revoked_by_ca = vec![3, PCK_SERIAL], &[Code::CertificateRevoked]);
    both_refused(|it| it.revoked_by_root = vec![CA_SERIAL], &[Code::CertificateRevoked]);
    both_refused(|it| it.revoked_by_root = vec![SIGNER_SERIAL], &[Code::CertificateRevoked]);
    // Expired lists revoke all the same, and say the graver thing.
    both_refused(
        |it| (it.revoked_by_ca, it.pck_crl_window) = (vec![PCK_SERIAL], PAST),
        &[Code::CertificateRevoked],
    );
    // Serial numbers are those of one issuer.
    let mut other = Intel::tdx();
    other.revoked_by_root = vec![PCK_SERIAL];
    other.revoked_by_ca = vec![CA_SERIAL, SIGNER_SERIAL];
    assert!(other.present().appraise().is_ok());
}

#[test]
fn a_list_signed_by_another_ca_of_that_name_is_refused() {
    both_refused(|it| it.foreign_pck_crl = true, &[Code::CrlSignatureInvalid]);
}

/// Two trusted roots of one name: what one says about the platforms of the other means nothing.
#[test]
fn s40_collateral_under_another_root_is_refused() {
    both_refused(|it| it.foreign_collateral = true, &[Code::RootNotTrusted]);
    let mut platform = Intel::tdx();
    platform.foreign_collateral = true;
    let presented = platform.present();
    let other = &presented.endorsements.intel.as_ref().unwrap().tcb_info.issuer_chain[1];
    let policy =
        presented.policy().trust_emulated([appraisal::EmulatedRoot::new("other lab", &other.0).unwrap()]);
    assert_eq!(presented.refusal_under(&policy), [Code::RootNotTrusted]);
}

#[test]
fn s37_every_status_but_up_to_date_is_refused_by_production() {
    for (status, code) in [
        ("SWHardeningNeeded", Code::TcbSwHardeningNeeded),
        ("ConfigurationNeeded", Code::TcbConfigurationNeeded),
        ("ConfigurationAndSWHardeningNeeded", Code::TcbConfigurationAndSwHardeningNeeded),
        ("OutOfDate", Code::TcbOutOfDate),
        ("OutOfDateConfigurationNeeded", Code::TcbOutOfDateConfigurationNeeded),
        ("Revoked", Code::TcbRevoked),
    ] {
        both_refused(|it| it.platform_status = status, &[code]);
        both_refused(|it| it.qe_status = status, &[code]);
        refused(&Intel { module_status: status, ..Intel::tdx() }, &[code]);
    }
}

#[test]
fn s37_a_status_that_we_do_not_know_is_refused() {
    for status in ["", "Fine", "uptodate", "UpToDate "] {
        both_refused(|it| it.platform_status = status, &[Code::CollateralMalformed]);
        both_refused(|it| it.qe_status = status, &[Code::CollateralMalformed]);
        refused(&Intel { module_status: status, ..Intel::tdx() }, &[Code::CollateralMalformed]);
    }
}

#[test]
fn s37_extra_or_repeated_fields_in_signed_collateral_are_refused() {
    both_refused(|it| it.info_extra = r#""surprise":1,"#, &[Code::CollateralMalformed]);
    both_refused(|it| it.info_extra = r#""tcbType":0,"#, &[Code::CollateralMalformed]);
}

#[test]
fn revoked_is_accepted_by_no_policy() {
    let presented = Intel { platform_status: "Revoked", ..Intel::tdx() }.present();
    let mut policy = presented.policy();
    policy.accepted_tcb.insert(TcbStatus::Revoked);
    assert_eq!(presented.refusal_under(&policy), [Code::TcbRevoked]);
}

#[test]
fn a_policy_may_accept_other_statuses_and_the_verdict_says_so() {
    let presented = Intel { platform_status: "SWHardeningNeeded", ..Intel::sgx() }.present();
    let mut policy = presented.policy();
    policy.accepted_tcb.insert(TcbStatus::SWHardeningNeeded);
    let appraised = presented.appraise_under(&policy).unwrap();
    let warned: Vec<_> = appraised.verdict().warnings().iter().map(|reason| reason.code).collect();
    assert_eq!(warned, [Code::TcbSwHardeningNeeded]);
}

#[test]
fn versions_below_every_level_are_an_error_and_not_out_of_date() {
    both_refused(|it| it.cpu_components[15] = 1, &[Code::TcbLevelUnknown]);
    both_refused(|it| it.pce_svn = 4, &[Code::TcbLevelUnknown]);
    both_refused(|it| it.qe_isv_svn = 5, &[Code::TcbLevelUnknown]);
    let mut module = Intel::tdx();
    module.tee_tcb_svn[0] = 2;
    refused(&module, &[Code::TcbLevelUnknown]);
    let mut microcode = Intel::tdx();
    microcode.tee_tcb_svn[2] = 1;
    refused(&microcode, &[Code::TcbLevelUnknown]);
}

#[test]
fn each_component_counts() {
    for component in 0..16 {
        both_refused(|it| it.cpu_components[component] = 4, &[Code::TcbOutOfDate]);
    }
    both_refused(|it| it.pce_svn = 10, &[Code::TcbOutOfDate]);
    both_refused(|it| it.qe_isv_svn = 7, &[Code::TcbOutOfDate]);
}

/// The first two TDX components are the module's own version when it has a major one.
#[test]
fn the_tdx_module_is_judged_by_its_own_levels() {
    let mut outdated = Intel::tdx();
    outdated.tee_tcb_svn[0] = 4;
    let refused = outdated.present().appraise().unwrap_err();
    assert_eq!(refused.codes(), [Code::TcbOutOfDate]);
    assert_eq!(refused.verdict().tcb().advisories, ["LAB-SA-1"]);
    // Version 0 has no levels of its own, so its component counts.
    let mut version_0 = Intel::tdx();
    version_0.tee_tcb_svn[1] = 0;
    assert!(version_0.present().appraise().is_ok());
    version_0.tee_tcb_svn[0] = 4;
    assert_eq!(version_0.present().refusal(), [Code::TcbOutOfDate]);
}

#[test]
fn s37_a_module_that_intel_does_not_name_is_refused() {
    refused(&Intel { module_id: "TDX_02", ..Intel::tdx() }, &[Code::TdxModuleMismatch]);
    refused(&Intel { seam_attributes: 1, ..Intel::tdx() }, &[Code::TdxModuleMismatch]);
}

#[test]
fn a_td_is_judged_by_the_versions_of_its_launch_and_of_now() {
    let good = Intel::tdx().tee_tcb_svn;
    let mut old = good;
    old[0] = 3;
    let with = |launch, current| Intel { tee_tcb_svn: launch, current_svn: Some(current), ..Intel::tdx() };
    assert!(with(good, good).present().appraise().is_ok());
    refused(&with(old, good), &[Code::TcbTdRelaunchAdvised]);
    refused(&with(good, old), &[Code::TcbOutOfDate]);
    refused(&with(old, old), &[Code::TcbOutOfDate]);
}

#[test]
fn another_quoting_enclave_is_refused() {
    both_refused(|it| it.qe_prod_id = 1, &[Code::QeIdentityMismatch]);
    // A quoting enclave in debug mode would give its key away.
    both_refused(|it| it.qe_attributes |= 2, &[Code::QeIdentityMismatch]);
}

#[test]
fn the_attestation_key_digest_is_followed_by_zeros() {
    both_refused(|it| it.extra_report_data = 1, &[Code::AttestationKeyNotBound]);
}

#[test]
fn collateral_of_another_platform_is_refused() {
    both_refused(|it| it.info_fmspc = "B0C06F000001", &[Code::FmspcMismatch]);
    both_refused(|it| it.info_pce_id = "0001", &[Code::PceidMismatch]);
}

#[test]
fn s36_debug_is_refused_whatever_else_the_policy_allows() {
    for platform in [
        Intel { sgx_attributes: 5 | 2, ..Intel::sgx() },
        Intel { td_attributes: 1 << 28 | 1, ..Intel::tdx() },
        Intel { td_attributes: 1 << 28 | 1 << 5, ..Intel::tdx() },
    ] {
        let presented = platform.present();
        assert_eq!(presented.refusal(), [Code::DebugEnabled]);
        let genuine = Policy { emulated_roots: presented.policy().emulated_roots, ..Policy::genuine() };
        assert_eq!(presented.refusal_under(&genuine), [Code::DebugEnabled]);
        let explicit = Policy { debug: Rule::Warn, ..presented.policy() };
        assert!(presented.appraise_under(&explicit).is_ok());
    }
}

#[test]
fn s36_weakening_attributes_are_refused_by_production_and_shown_by_genuine() {
    for (attributes, code) in [
        (0, Code::SeptVeEnabled),
        (1 << 28 | 1 << 29, Code::MigrationAllowed),
        (1 << 28 | 1 << 63, Code::PerfmonEnabled),
        (1 << 28 | 1 << 40, Code::AttributesUnknown),
    ] {
        let presented = Intel { td_attributes: attributes, ..Intel::tdx() }.present();
        assert_eq!(presented.refusal(), [code]);
        let genuine = Policy { emulated_roots: presented.policy().emulated_roots, ..Policy::genuine() };
        let appraised = presented.appraise_under(&genuine).unwrap();
        assert_eq!(
            appraised.verdict().warnings().iter().map(|reason| reason.code).collect::<Vec<_>>(),
            [code]
        );
    }
}

#[test]
fn s51_a_service_td_is_refused() {
    let good = Intel::tdx().tee_tcb_svn;
    let platform = Intel { current_svn: Some(good), mrservicetd: [1; 48], ..Intel::tdx() };
    refused(&platform, &[Code::ServiceTdBound]);
}

#[test]
fn s18_older_collateral_than_the_floor_is_refused() {
    for platform in [Intel::sgx(), Intel::tdx()] {
        let presented = platform.present();
        let mut policy = presented.policy();
        policy.minimum.tcb_evaluation_data_number = Some(20);
        policy.minimum.intel_collateral_issued = Some(UnixTime(NOW - 10 * DAY));
        assert!(presented.appraise_under(&policy).is_ok());
        policy.minimum.tcb_evaluation_data_number = Some(21);
        assert_eq!(presented.refusal_under(&policy), [Code::CollateralRolledBack]);
    }
    // Each of the four statements counts.
    let older = Window(-11, 20);
    let floor = Some(UnixTime(NOW - 10 * DAY));
    let spoils: [fn(&mut Intel, Window); 4] = [
        |it, window| it.info_window = window,
        |it, window| it.identity_window = window,
        |it, window| it.root_crl_window = window,
        |it, window| it.pck_crl_window = window,
    ];
    for spoil in spoils {
        let mut platform = Intel::tdx();
        spoil(&mut platform, older);
        let presented = platform.present();
        let mut policy = presented.policy();
        policy.minimum.intel_collateral_issued = floor;
        assert_eq!(presented.refusal_under(&policy), [Code::CollateralRolledBack]);
    }
}

#[test]
fn a_floor_above_the_platform_is_refused() {
    let presented = Intel::tdx().present();
    let floors: [fn(&mut Policy); 3] = [
        |policy| policy.minimum.intel_pce_svn = Some(12),
        |policy| policy.minimum.intel_cpu_svn = Some([5, 5, 6, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]),
        |policy| policy.minimum.tdx_tee_tcb_svn = Some([6, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]),
    ];
    for set in floors {
        let mut policy = presented.policy();
        set(&mut policy);
        assert_eq!(presented.refusal_under(&policy), [Code::TcbBelowMinimum]);
    }
}

#[test]
fn what_was_not_checked_is_shown_with_its_reason() {
    let appraised = Intel::tdx().present().appraise().unwrap();
    let verdict = appraised.verdict();
    for path in ["configuration/service-td", "tcb/minimum", "mine/launch-configuration"] {
        let check = verdict.check(path).unwrap_or_else(|| panic!("no {path} in\n{verdict}"));
        assert_eq!(check.outcome, Outcome::Skipped, "{path}");
        assert!(!check.text.is_empty());
        assert!(verdict.to_string().contains(&check.text));
    }
}

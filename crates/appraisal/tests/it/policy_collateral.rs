//! How current the vendors' statements must be: a warning before the end, after it what the policy says.

use appraisal::{Code, CollateralPolicy, Policy, Rule};

use crate::lab::amd::Amd;
use crate::lab::intel::Intel;
use crate::lab::nitro::{Ca, Crl, Nitro, crl};
use crate::lab::nvidia::Nvidia;
use crate::lab::tpm::Tpm;
use crate::lab::{Presented, Window, warned};
use crate::nvidia_rules;

/// Ended two days ago.
const ENDED: Window = Window(-30, -2);

fn intel(set: impl Fn(&mut Intel)) -> Presented {
    let mut platform = Intel::tdx();
    set(&mut platform);
    platform.present()
}

/// Each of Intel's statements with a window, and the code when it has expired.
fn statements(window: Window) -> Vec<(Presented, Code)> {
    vec![
        (intel(|it| it.info_window = window), Code::CollateralExpired),
        (intel(|it| it.identity_window = window), Code::CollateralExpired),
        (intel(|it| it.root_crl_window = window), Code::CrlExpired),
        (intel(|it| it.pck_crl_window = window), Code::CrlExpired),
        (Amd { crl: Some(window), ..Amd::genoa() }.present(), Code::CrlExpired),
    ]
}

fn grace(days: u32) -> impl FnOnce(&mut Policy) {
    move |policy| policy.collateral.grace_days = days
}

#[test]
fn expired_collateral_is_refused_unless_the_policy_gives_days() {
    for (presented, expired) in statements(ENDED) {
        assert_eq!(presented.refusal(), [expired], "the default gives none");
        assert_eq!(presented.refused_with(grace(1)), [expired]);
        assert_eq!(presented.accepted_with(grace(2)), [Code::CollateralInGrace]);
        let policy = presented.policy_with(grace(9));
        let appraised = presented.appraise_under(&policy).unwrap();
        let warning = &appraised.verdict().warnings()[0];
        assert!(warning.text.contains("7 days left"), "{}", warning.text);
        assert!(warning.mend.as_deref().unwrap().starts_with("fetch"), "{warning:?}");
    }
}

#[test]
fn s37_an_ended_list_in_grace_still_revokes() {
    let revoked = Amd { crl: Some(ENDED), revoked: vec![crate::lab::amd::ISSUER_SERIAL], ..Amd::genoa() };
    assert_eq!(revoked.present().refused_with(grace(9)), [Code::CertificateRevoked]);
}

#[test]
fn s18_grace_lifts_no_floor() {
    let presented = Amd { crl: Some(ENDED), ..Amd::genoa() }.present();
    let policy = presented.policy_with(|policy| {
        policy.collateral.grace_days = 9;
        policy.minimum.amd_crl_number = Some(8);
    });
    assert_eq!(presented.refusal_under(&policy), [Code::CollateralRolledBack]);
}

#[test]
fn a_warning_comes_before_the_end() {
    // Of thirty days, seven are left, or six.
    for (presented, _) in statements(Window(-23, 7)) {
        assert!(presented.accepted_with(|_| {}).is_empty(), "seven days are enough by default");
        let eight = |policy: &mut Policy| policy.collateral.warn_days = 8;
        assert_eq!(presented.accepted_with(eight), [Code::CollateralExpiresSoon]);
    }
    for (presented, _) in statements(Window(-24, 6)) {
        assert_eq!(presented.accepted_with(|_| {}), [Code::CollateralExpiresSoon]);
        assert!(presented.accepted_with(|policy| policy.collateral.warn_days = 0).is_empty());
        let appraised = presented.appraise().unwrap();
        assert!(appraised.verdict().warnings()[0].text.contains("6 days left"));
    }
}

#[test]
fn what_lives_for_days_only_gives_no_warning_in_the_first_half_of_its_life() {
    let young = Amd { crl: Some(Window(-2, 3)), ..Amd::genoa() }.present();
    assert!(young.accepted_with(|_| {}).is_empty());
    let old = Amd { crl: Some(Window(-3, 2)), ..Amd::genoa() }.present();
    assert_eq!(old.accepted_with(|_| {}), [Code::CollateralExpiresSoon]);
}

/// The certificate of a VLEK lives a year, and only its cloud can renew it.
#[test]
fn a_certificate_that_ends_soon_is_a_warning_too() {
    let soon = Window(-360, 5);
    let vlek = Amd { vlek: true, signing_key: 1, chip: [0; 64], leaf_window: soon, ..Amd::genoa() };
    assert_eq!(vlek.present().accepted_with(|_| {}), [Code::CollateralExpiresSoon]);
    assert_eq!(intel(|it| it.pck_window = soon).accepted_with(|_| {}), [Code::CollateralExpiresSoon]);
    // Grace is for statements, not for certificates.
    let ended = Amd { leaf_window: ENDED, ..Amd::genoa() }.present();
    assert_eq!(ended.refused_with(grace(9)), [Code::CertificateExpired]);
}

#[test]
fn old_collateral_is_refused_whatever_its_end() {
    let at_most = |days| move |policy: &mut Policy| policy.collateral.max_age_days = Some(days);
    for (presented, _) in statements(Window(-20, 60)) {
        assert!(presented.accepted_with(at_most(20)).is_empty());
        assert_eq!(presented.refused_with(at_most(19)), [Code::CollateralTooOld]);
    }
}

#[test]
fn the_rule_for_missing_lists_does_not_excuse_old_ones() {
    let presented = Amd { crl: Some(Window(-20, 60)), ..Amd::genoa() }.present();
    let policy = presented.policy_with(|policy| {
        policy.amd_crl = Rule::Allow;
        policy.collateral.max_age_days = Some(1);
    });
    assert_eq!(presented.refusal_under(&policy), [Code::CollateralTooOld]);
}

#[test]
fn nitro_lists_follow_the_same_rules() {
    let ended = Crl { window: ENDED, ..crl(Ca::Root, &[]) };
    let presented = Nitro { crls: vec![ended, crl(Ca::Region, &[])], ..Nitro::good() }.present();
    let refuse = |days: u32| {
        move |policy: &mut Policy| {
            policy.nitro.missing_crl = Rule::Refuse;
            policy.collateral.grace_days = days;
        }
    };
    assert!(presented.refused_with(refuse(1)).contains(&Code::CrlExpired));
    assert_eq!(presented.accepted_with(refuse(2)), [Code::CollateralInGrace]);
}

#[test]
fn lists_of_tpms_and_devices_follow_the_same_rules() {
    let days = |days| CollateralPolicy { grace_days: days, ..CollateralPolicy::default() };
    let tpm = Tpm { crls: Some(ENDED), ..Tpm::good() }.present();
    let with = |given| Policy { collateral: days(given), ..tpm.policy() };
    assert!(tpm.refusal_under(&with(1)).contains(&Code::CrlExpired));
    assert!(warned(&tpm.appraise_under(&with(2)).unwrap()).contains(&Code::CollateralInGrace));

    let device = Nvidia { crls: Some(ENDED), ..Nvidia::good() };
    let refused = nvidia_rules::refused(&device, |policy| policy.collateral = days(1));
    assert!(refused.contains(&Code::CrlExpired), "{refused:?}");
    let appraised = nvidia_rules::accepted(&device, |policy| policy.collateral = days(2));
    assert!(warned(&appraised).contains(&Code::CollateralInGrace));
    let old = |policy: &mut Policy| policy.collateral.max_age_days = Some(9);
    assert!(nvidia_rules::refused(&Nvidia::good(), old).contains(&Code::CollateralTooOld));
}

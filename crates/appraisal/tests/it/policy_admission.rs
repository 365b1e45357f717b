//! Kinds of TEE, product families and machines that a policy accepts.

use appraisal::{
    AcceptedFamily, Appraised, Code, Fmspc, IntelPolicy, ListedIdentity, PlatformIdentities, Policy, Refused,
    Rule, SgxType,
};
use evidence::snp::ProductFamily::{Genoa, Milan, Turin};
use evidence::{Evidence, Platform};

use crate::lab::amd::Amd;
use crate::lab::cca::Cca;
use crate::lab::intel::Intel;
use crate::lab::nitro::Nitro;
use crate::lab::nvidia::{Device, Nvidia};
use crate::lab::tpm::Tpm;
use crate::lab::{Presented, der, warned};
use crate::{cca_rules, nvidia_rules};

fn vlek() -> Presented {
    Amd { vlek: true, signing_key: 1, chip: [0; 64], ..Amd::genoa() }.present()
}

fn listed(id: impl Into<String>) -> ListedIdentity {
    ListedIdentity::new(id, Some("example.com".into())).unwrap()
}

fn lists(allow: &[&str], deny: &[&str]) -> PlatformIdentities {
    let read = |ids: &[&str]| ids.iter().map(|id| listed(*id)).collect();
    PlatformIdentities { allow: read(allow), deny: read(deny) }
}

fn under(allow: &[&str], deny: &[&str]) -> impl FnOnce(&mut Policy) + use<> {
    let lists = lists(allow, deny);
    move |policy| policy.platform_identities = lists
}

#[test]
fn only_platforms_that_are_named_are_accepted() {
    let only = |platforms: &[Platform]| {
        let platforms = platforms.iter().copied().collect();
        move |policy: &mut Policy| policy.platforms = platforms
    };
    for presented in [Amd::genoa().present(), Intel::sgx().present(), Intel::tdx().present()] {
        let own = presented.evidence.platform();
        assert!(presented.accepted_with(only(&[])).is_empty(), "none named is any");
        assert!(presented.accepted_with(only(&[own, Platform::Nitro])).is_empty());
        let others: Vec<_> = Platform::ALL.into_iter().filter(|other| *other != own).collect();
        assert_eq!(presented.refused_with(only(&others)), [Code::PlatformDenied]);
    }
}

#[test]
fn s48_only_amd_families_that_are_named_are_accepted() {
    let presented = Amd::genoa().present();
    let allow = |policy: &mut Policy| policy.allowed_families = [Genoa, Turin].into();
    assert!(presented.accepted_with(allow).is_empty());
    let other = |policy: &mut Policy| policy.allowed_families = [Turin].into();
    assert_eq!(presented.refused_with(other), [Code::ProductFamilyDenied]);
    let both = |policy: &mut Policy| {
        policy.allowed_families = [Genoa].into();
        policy.denied_families = [Genoa].into();
    };
    assert_eq!(presented.refused_with(both), [Code::ProductFamilyDenied], "denial wins");
}

#[test]
fn s48_a_compromised_family_needs_a_trusted_operator_where_the_policy_says_so() {
    let presented = Amd::milan().present();
    let refuse = |policy: &mut Policy| policy.compromised = Rule::Refuse;
    assert_eq!(presented.refused_with(refuse), [Code::ProductFamilyCompromised]);
    let allow = |policy: &mut Policy| policy.compromised = Rule::Allow;
    assert_eq!(presented.accepted_with(allow), [Code::ProductFamilyCompromised], "never without a warning");
    let operated = |family| {
        move |policy: &mut Policy| {
            policy.compromised = Rule::Refuse;
            policy.accept_compromised = vec![AcceptedFamily { family, operator: "example.com".into() }];
        }
    };
    assert_eq!(presented.refused_with(operated(Genoa)), [Code::ProductFamilyCompromised]);
    let appraised = presented.appraise_under(&presented.policy_with(operated(Milan))).unwrap();
    assert_eq!(warned(&appraised), [Code::ProductFamilyCompromised]);
    let text = &appraised.verdict().warnings()[0].text;
    assert!(text.contains("the policy trusts its operator, example.com"), "{text}");
}

#[test]
fn s48_intel_families_are_named_by_fmspc() {
    let own = Fmspc([0xb0, 0xc0, 0x6f, 0, 0, 0]);
    let other = Fmspc([0x90, 0xc0, 0x6f, 0, 0, 0]);
    for presented in [Intel::sgx().present(), Intel::tdx().present()] {
        assert!(presented.accepted_with(|policy| policy.denied_fmspc = [other].into()).is_empty());
        assert!(presented.accepted_with(|policy| policy.allowed_fmspc = [own].into()).is_empty());
        let denied = presented.refused_with(|policy| policy.denied_fmspc = [own].into());
        assert_eq!(denied, [Code::ProductFamilyDenied]);
        let not_allowed = presented.refused_with(|policy| policy.allowed_fmspc = [other].into());
        assert_eq!(not_allowed, [Code::ProductFamilyDenied]);
    }
}

/// S-49: whoever holds a machine can attack its memory bus, so a policy may name machines.
#[track_caller]
fn lists_hold(presented: &Presented, own: &str) {
    let other = "00".repeat(64);
    assert!(presented.accepted_with(under(&[own], &[])).is_empty());
    assert!(presented.accepted_with(under(&[&other, own], &[])).is_empty());
    let refused = presented.refused_with(under(&[&other], &[]));
    assert_eq!(refused, [Code::PlatformIdentityNotAllowed]);
    assert_eq!(presented.refused_with(under(&[], &[own])), [Code::PlatformIdentityDenied]);
    assert_eq!(presented.refused_with(under(&[own], &[own])), [Code::PlatformIdentityDenied], "denial wins");
}

#[test]
fn s49_only_machines_that_are_listed_are_accepted() {
    lists_hold(&Amd::genoa().present(), &"C1".repeat(64));
    lists_hold(&Amd::turin().present(), &"c2".repeat(8));
    lists_hold(&vlek(), "CN=lab-cloud");
    lists_hold(&Intel::sgx().present(), &"ab".repeat(16));
    lists_hold(&Intel::tdx().present(), &"ab".repeat(16));
    assert!(Amd::genoa().present().accepted_with(under(&[], &["00"])).is_empty());
}

#[test]
fn s49_intel_platforms_of_several_packages_have_an_instance_id_too() {
    let oid = der(6, &[0x2a, 0x86, 0x48, 0x86, 0xf8, 0x4d, 1, 13, 1, 6]);
    let entry = der(0x30, &[oid, der(4, &[0x1d; 16])].concat());
    lists_hold(&Intel { pck_entries: entry.clone(), ..Intel::sgx() }.present(), &"1d".repeat(16));
    lists_hold(&Intel { pck_entries: entry, ..Intel::tdx() }.present(), &"1d".repeat(16));
}

/// Forged Evidence is from no machine, and is refused for what it is alone.
#[test]
fn lists_say_nothing_of_what_is_not_genuine() {
    let presented = Amd::genoa().present();
    let listed = Policy { platform_identities: lists(&["00"], &[]), ..Policy::production() };
    assert_eq!(presented.refusal_under(&listed), [Code::RootNotTrusted]);
}

/// A denied chip could hide behind its provider's key.
#[test]
fn s49_denied_machines_are_not_excluded_by_a_vlek() {
    let deny = under(&[], &[&"c1".repeat(64)]);
    assert_eq!(vlek().refused_with(deny), [Code::PlatformIdentityUnknown]);
}

fn outcome(appraise: impl Fn(&Policy) -> Result<Appraised, Refused>, policy: &Policy, own: &str) {
    let with = |allow: &[&str], deny: &[&str]| {
        let policy = Policy { platform_identities: lists(allow, deny), ..policy.clone() };
        appraise(&policy).map_err(|refused| refused.codes())
    };
    with(&[own], &[]).unwrap_or_else(|codes| panic!("{own}: {codes:?}"));
    assert_eq!(with(&["other"], &[]).unwrap_err(), [Code::PlatformIdentityNotAllowed]);
    assert_eq!(with(&[], &[own]).unwrap_err(), [Code::PlatformIdentityDenied]);
}

#[test]
fn s49_lists_hold_for_tpms_and_nitro() {
    let tpm = Tpm::good().present();
    let key = tpm.appraise_under(&tpm.policy()).unwrap().platform_identity().unwrap().to_string();
    outcome(|policy| tpm.appraise_under(policy), &tpm.policy(), &key);
    let nitro = Nitro::good().present();
    let instance = nitro.appraise().unwrap().platform_identity().unwrap().to_string();
    outcome(|policy| nitro.appraise_under(policy), &nitro.policy(), &instance);
}

#[test]
fn s49_lists_hold_for_cca_platforms() {
    let made = Cca::good().make();
    let token = Evidence::parse(&made.token).unwrap();
    let look = |identities| {
        let policy = Policy { platform_identities: identities, ..made.policy() };
        cca_rules::look(&token, &policy).verdict().codes().collect::<Vec<_>>()
    };
    let verdict = cca_rules::look(&token, &made.policy());
    let own = verdict.verdict().platform_identity().unwrap().to_string();
    assert!(look(lists(&[&own], &[])).is_empty());
    assert_eq!(look(lists(&["other"], &[])), [Code::PlatformIdentityNotAllowed]);
    assert_eq!(look(lists(&[], &[&own])), [Code::PlatformIdentityDenied]);
}

/// Several devices are several machines: each must be listed, and none denied.
#[test]
fn s49_each_device_must_be_listed() {
    let lab = Nvidia { devices: vec![Device::good(1), Device::good(2)], ..Nvidia::good() };
    let appraised = nvidia_rules::accepted(&lab, |_| {});
    let serials = appraised.platform_identity().unwrap().to_string();
    let (first, second) = serials.split_once(',').unwrap();
    nvidia_rules::accepted(&lab, under(&[first, second], &[]));
    let refused = |allow: &[&str], deny: &[&str]| nvidia_rules::refused(&lab, under(allow, deny));
    assert_eq!(refused(&[first], &[]), [Code::PlatformIdentityNotAllowed]);
    assert_eq!(refused(&[], &[second]), [Code::PlatformIdentityDenied]);
}

type Knob = fn(&mut IntelPolicy) -> &mut Rule;

/// What the PCK certificate of a platform of several packages says of it (entry 7), and the knobs for it.
#[test]
fn what_intel_certifies_of_a_platform_is_ruled() {
    let oid = |tail: &[u8]| der(6, &[&[0x2a, 0x86, 0x48, 0x86, 0xf8, 0x4d, 1, 13, 1], tail].concat());
    let pair = |tail: &[u8], value: Vec<u8>| der(0x30, &[oid(tail), value].concat());
    let platform = |on: u8| {
        let flags = (1u8..=3).flat_map(|number| pair(&[7, number], der(1, &[on])));
        let entry = pair(&[7], der(0x30, &flags.collect::<Vec<_>>()));
        Intel { pck_entries: entry, ..Intel::tdx() }.present()
    };
    let (on, off, silent) = (platform(0xff), platform(0), Intel::sgx().present());
    let rules: [(Knob, Code); 3] = [
        (|intel| &mut intel.dynamic_platform, Code::DynamicPlatform),
        (|intel| &mut intel.cached_keys, Code::CachedKeys),
        (|intel| &mut intel.smt, Code::SmtAllowed),
    ];
    for (rule, code) in rules {
        let set = |to: Rule| move |policy: &mut Policy| *rule(&mut policy.intel) = to;
        assert!(on.accepted_with(|_| {}).is_empty(), "the default asks nothing");
        assert_eq!(on.refused_with(set(Rule::Refuse)), [code]);
        assert_eq!(on.accepted_with(set(Rule::Warn)), [code]);
        assert!(off.accepted_with(set(Rule::Refuse)).is_empty());
    }
    assert_eq!(silent.refused_with(|policy| policy.intel.smt = Rule::Refuse), [Code::SmtAllowed]);
    let of_type = |kind| move |policy: &mut Policy| policy.intel.sgx_types = [kind].into();
    assert!(silent.accepted_with(of_type(SgxType::Scalable)).is_empty());
    let refused = silent.refused_with(of_type(SgxType::ScalableWithIntegrity));
    assert_eq!(refused, [Code::SgxTypeNotAllowed]);
}

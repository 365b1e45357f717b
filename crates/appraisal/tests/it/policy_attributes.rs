//! Bits that a policy requires or forbids, in every word that tells how a TEE or its platform is configured.

use appraisal::{AttributeBits, Bits, Code};

use crate::lab::Presented;
use crate::lab::amd::Amd;
use crate::lab::intel::Intel;

/// A bit that is set and one that is clear.
#[track_caller]
fn bits_hold(presented: &Presented, (set, clear): (u64, u64), place: fn(&mut AttributeBits) -> &mut Bits) {
    let with = |required, forbidden| {
        presented.policy_with(|policy| {
            *place(&mut policy.attributes) = Bits::new(required, forbidden).unwrap();
        })
    };
    presented.appraise_under(&with(set, clear)).unwrap_or_else(|refused| panic!("{}", refused.verdict()));
    assert_eq!(presented.refusal_under(&with(set | clear, 0)), [Code::RequiredBitsClear]);
    assert_eq!(presented.refusal_under(&with(0, set | clear)), [Code::ForbiddenBitsSet]);
}

#[test]
fn bits_of_sgx() {
    let sgx = Intel::sgx().present();
    bits_hold(&sgx, (1 << 2, 1 << 4), |bits| &mut bits.sgx_attributes);
    bits_hold(&sgx, (1 << 5, 1 << 17), |bits| &mut bits.sgx_xfrm);
    let forbid = sgx.policy_with(|policy| policy.attributes.sgx_misc_select = Bits::new(0, 1).unwrap());
    assert!(sgx.appraise_under(&forbid).is_ok());
    let demand = sgx.policy_with(|policy| policy.attributes.sgx_misc_select = Bits::new(1, 0).unwrap());
    assert_eq!(sgx.refusal_under(&demand), [Code::RequiredBitsClear]);
}

#[test]
fn bits_of_tdx() {
    let tdx = Intel::tdx().present();
    bits_hold(&tdx, (1 << 28, 1 << 30), |bits| &mut bits.tdx_attributes);
    bits_hold(&tdx, (1 << 5, 1 << 17), |bits| &mut bits.tdx_xfam);
}

#[test]
fn bits_of_the_snp_guest_policy() {
    let single = Amd { policy: 0x30000 | 1 << 20, ..Amd::genoa() }.present();
    for other in 21..=25 {
        bits_hold(&single, (1 << 20, 1 << other), |bits| &mut bits.snp_policy);
    }
}

/// SMT, TSME, ECC, RAPL off, ciphertext hiding, alias check, trusted I/O, and those without a name.
#[test]
fn each_bit_of_the_snp_platform_is_ruled() {
    const ALIAS_CHECK: u64 = 1 << 5;
    for bit in [0, 1, 2, 3, 4, 6, 7, 63] {
        let set = Amd { platform_info: ALIAS_CHECK | 1 << bit, ..Amd::genoa() }.present();
        let other = if bit == 0 { 1 } else { 0 };
        bits_hold(&set, (1 << bit, 1 << other), |bits| &mut bits.snp_platform_info);
    }
    bits_hold(&Amd::genoa().present(), (ALIAS_CHECK, 1 << 4), |bits| &mut bits.snp_platform_info);
}

#[test]
fn a_failure_says_which_bits() {
    let presented = Amd::genoa().present();
    let policy = presented
        .policy_with(|policy| policy.attributes.snp_platform_info = Bits::new(1 << 4 | 1 << 3, 1).unwrap());
    let refused = presented.appraise_under(&policy).unwrap_err();
    let check = refused.verdict().check("configuration/platform-bits").unwrap();
    assert!(check.text.ends_with(": 3, 4"), "{}", check.text);
    assert_eq!(check.expected.as_deref(), Some("0x18 set, 0x1 clear"));
    assert_eq!(check.observed.as_deref(), Some("0x25"));
}

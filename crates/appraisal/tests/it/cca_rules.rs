//! CCA: recorded tokens with the keys that signed them, and one thing wrong at a time. All recorded keys are test keys.

use appraisal::{
    Assessment, CcaPolicy, Code, Origin, Policy, ReferenceValue, ReferenceValues, Rule, TrustAnchor,
    UnixTime, appraise, assess,
};
use ciborium::Value;
use coset::TaggedCborSerializable as _;
use coset::iana::Algorithm::{ES256, ES384, ES512};
use crypto_aws_lc::AwsLc;
use evidence::cca::{PlatformClaims, RealmClaims};
use evidence::{Endorsements, Evidence, MalformedKind, Platform};

use crate::lab::cca::{Cca, Made, component};
use crate::lab::{NOW, REPORT_DATA};
use crate::vectors::{evidence, read};

const TOKEN_01: &str = "cca/rust-ccatoken-cca-token-01.cbor";
const TOKEN_02: &str = "cca/rust-ccatoken-cca-token-02.cbor";
const DRAFT: &str = "cca/rust-ccatoken-cca-token-draft-ffm-00.cbor";
const BUG_33: &str = "cca/rust-ccatoken-bug-33-repro.cbor";
const TF_A: &str = "cca/rust-ccatoken-ta-tfa.json";

fn enrolled(file: &str) -> Vec<TrustAnchor> {
    TrustAnchor::from_file_bytes(file, &read(file)).unwrap()
}

pub fn look(token: &Evidence, policy: &Policy) -> Assessment {
    assess(token, &Endorsements::default(), None, None, policy, UnixTime(NOW), &AwsLc)
}

/// The codes of a recorded token under production, with the anchors of a file.
fn codes(token: &str, anchors: &str) -> Vec<Code> {
    let policy = Policy { trust_anchors: enrolled(anchors), ..Policy::production() };
    look(&evidence(token), &policy).verdict().codes().collect()
}

#[test]
fn every_recorded_token_gives_the_measured_verdict() {
    let table: &[(&str, &str, &[Code])] = &[
        (TOKEN_01, TF_A, &[]),
        (TOKEN_01, "cca/rust-ccatoken-cpak.json", &[]),
        (TOKEN_02, "cca/rust-ccatoken-ta-02-ok.json", &[]),
        (TOKEN_02, "cca/rust-ccatoken-ta-02-bad.json", &[Code::PlatformTokenSignatureInvalid]),
        (TOKEN_02, TF_A, &[Code::PlatformKeyNotEnrolled]),
        (TOKEN_02, "cca/rust-ccatoken-pkey.json", &[Code::PlatformTokenSignatureInvalid]),
        (TOKEN_02, "cca/rust-ccatoken-ta.json", &[Code::PlatformKeyNotEnrolled]),
        (DRAFT, TF_A, &[]),
        (BUG_33, TF_A, &[Code::RealmKeyNotBound]),
        (BUG_33, "cca/trustee-cpak-pub.json", &[Code::RealmKeyNotBound]),
        ("cca/services-cca-evidence.cbor", "cca/services-ec-p256.jwk", &[]),
        ("cca/services-cca-good.cbor", "cca/services-ec-p256.jwk", &[]),
        ("cca/trustee-trustee-cca-example-token.cbor", "cca/trustee-cpak-pub.json", &[]),
    ];
    for (token, anchors, expected) in table {
        assert_eq!(codes(token, anchors), *expected, "{token} with {anchors}");
        let parsed = evidence(token);
        let genuine = Policy { trust_anchors: enrolled(anchors), ..Policy::genuine() };
        let assessment = look(&parsed, &genuine);
        let verdict = assessment.verdict();
        assert_eq!(verdict.is_accepted(), expected.is_empty(), "{verdict}");
        assert_eq!(verdict.platform(), Platform::Cca);
        let origin = expected.is_empty().then(|| Origin::Enrolled((*anchors).to_owned()));
        assert_eq!(verdict.origin(), origin.as_ref());
        assert_eq!(verdict.claims().cca.is_some(), expected.is_empty());
    }
}

#[test]
fn no_key_is_trusted_that_the_policy_does_not_enrol() {
    for policy in [Policy::production(), Policy::genuine()] {
        let assessment = look(&evidence(TOKEN_01), &policy);
        assert_eq!(assessment.verdict().codes().collect::<Vec<_>>(), [Code::PlatformKeyNotEnrolled]);
    }
}

#[test]
fn s35_a_key_of_another_instance_is_not_taken() {
    let made = Cca::good().make();
    let token = Evidence::parse(&made.token).unwrap();
    assert!(look(&token, &made.policy_of_instance(1)).verdict().is_accepted());
    let other = look(&token, &made.policy_of_instance(2));
    assert_eq!(other.verdict().codes().collect::<Vec<_>>(), [Code::PlatformKeyNotEnrolled]);
}

#[test]
fn every_algorithm_form_of_key_and_binding_hash_is_verified() {
    for (platform, realm) in [(ES256, ES512), (ES384, ES256), (ES512, ES384)] {
        for cose_key in [true, false] {
            for hash in ["sha-256", "sha-384", "sha-512"] {
                let cca = Cca { cose_key, key_hash: hash, bound_by: hash, ..Cca::signed_by(platform, realm) };
                assert_eq!(refusal(&cca), [], "{platform:?} {realm:?} {cose_key} {hash}");
            }
        }
    }
}

fn refusal(cca: &Cca) -> Vec<Code> {
    let made = cca.make();
    refusal_under(&made, &made.policy())
}

fn refusal_under(made: &Made, policy: &Policy) -> Vec<Code> {
    let token = Evidence::parse(&made.token).unwrap();
    let assessment = look(&token, policy);
    let codes: Vec<_> = assessment.verdict().codes().collect();
    assert_eq!(assessment.verdict().is_accepted(), codes.is_empty(), "{}", assessment.verdict());
    codes
}

/// Trap 18: the binding's algorithm is a claim of its own, not that of the measurements, and not the longest that fits.
#[test]
fn a_challenge_by_another_algorithm_than_claimed_does_not_bind() {
    for bound_by in ["sha-384", "sha-512"] {
        assert_eq!(refusal(&Cca { bound_by, ..Cca::good() }), [Code::RealmKeyNotBound]);
    }
}

#[test]
fn a_realm_token_signed_by_another_key_is_refused() {
    assert_eq!(refusal(&Cca { other_realm_key: true, ..Cca::good() }), [Code::RealmTokenSignatureInvalid]);
}

#[test]
fn a_platform_token_with_a_realm_token_of_elsewhere_is_refused() {
    let (one, two) = (Cca::good().make(), Cca::good().make());
    let tokens = |made: &Made| {
        let Value::Tag(399, map) = ciborium::from_reader(made.token.as_slice()).unwrap() else { panic!() };
        let Value::Map(pairs) = *map else { panic!() };
        pairs
    };
    let spliced = Value::Map(vec![tokens(&one)[0].clone(), tokens(&two)[1].clone()]);
    let mut token = Vec::new();
    ciborium::into_writer(&Value::Tag(399, spliced.into()), &mut token).unwrap();
    let spliced = Made { token, jwk: one.jwk.clone() };
    assert_eq!(refusal_under(&spliced, &one.policy()), [Code::RealmKeyNotBound]);
}

/// A signature by an algorithm that is not the one of the key's curve is none, even where lengths agree.
#[test]
fn key_and_algorithm_must_go_together() {
    let made = Cca::signed_by(ES256, ES384).make();
    let other = Cca::signed_by(ES384, ES384).make();
    assert_eq!(refusal_under(&made, &other.policy()), [Code::PlatformTokenSignatureInvalid]);
}

#[test]
fn s36_a_platform_that_can_be_debugged_is_refused() {
    for lifecycle in [0x4000, 0x5003] {
        let made = Cca { lifecycle, ..Cca::good() }.make();
        assert_eq!(refusal_under(&made, &made.policy()), [Code::DebugEnabled]);
        let genuine = Policy { trust_anchors: made.policy().trust_anchors, ..Policy::genuine() };
        assert_eq!(refusal_under(&made, &genuine), [Code::DebugEnabled]);
        assert_eq!(refusal_under(&made, &Policy { debug: Rule::Warn, ..made.policy() }), []);
    }
}

#[test]
fn a_platform_that_is_not_secured_is_refused() {
    for lifecycle in [0, 0x1000, 0x2001, 0x2fff, 0x3100, 0x6000, 0xffff] {
        let made = Cca { lifecycle, ..Cca::good() }.make();
        assert_eq!(refusal_under(&made, &made.policy()), [Code::LifecycleNotSecured]);
        let cca = CcaPolicy { lifecycle: Rule::Warn, ..CcaPolicy::default() };
        assert_eq!(refusal_under(&made, &Policy { cca, ..made.policy() }), []);
    }
}

#[test]
fn unknown_claims_are_named_and_refused_by_production() {
    let spurious = vec![(Value::from(99), Value::from(1)), (Value::from("x"), Value::Array(vec![]))];
    for cca in [Cca { platform: spurious.clone(), ..Cca::good() }, Cca { realm: spurious, ..Cca::good() }] {
        let made = cca.make();
        assert_eq!(refusal_under(&made, &made.policy()), [Code::ClaimsUnknown]);
        let genuine = Policy { trust_anchors: made.policy().trust_anchors, ..Policy::genuine() };
        let assessment = look(&Evidence::parse(&made.token).unwrap(), &genuine);
        assert!(assessment.verdict().is_accepted());
        let unknown = &assessment.verdict().claims().cca.as_ref().unwrap().unknown;
        assert!(unknown[0].ends_with(" 99") && unknown[1].ends_with(" \"x\""), "{unknown:?}");
    }
}

#[test]
fn the_realm_is_compared_with_reference_values_and_so_is_the_firmware() {
    let made = Cca::good().make();
    let token = Evidence::parse(&made.token).unwrap();
    let mut reference = ReferenceValues {
        report_data: REPORT_DATA.into(),
        measurements: vec![ReferenceValue::program("realm", Platform::Cca, token.measurement().unwrap())],
    };
    let judge = |reference: &ReferenceValues| {
        let none = Endorsements::default();
        appraise(&token, &none, reference, &made.policy(), UnixTime(NOW), &AwsLc)
            .map(|appraised| appraised.launch_configuration().to_vec())
            .map_err(|refused| refused.codes())
    };
    let registers = &mut reference.measurements[0].registers;
    for (name, value) in [
        ("sw.RMM.measurement", "01".repeat(32)),
        ("sw.RMM.signer_id", "ee".repeat(32)),
        ("sw.RMM.version", "1.0".into()),
        ("sw.count", "2".into()),
        ("rem3", "03".repeat(32)),
    ] {
        registers.insert(name.into(), value);
    }
    assert_eq!(judge(&reference).unwrap(), [0x77; 64]);
    reference.measurements[0].registers.insert("sw.BL.measurement".into(), "01".repeat(32));
    assert_eq!(judge(&reference).unwrap_err(), [Code::RegisterMismatch]);
    reference.measurements[0].registers.clear();
    let mut other = REPORT_DATA;
    other.0[63] ^= 1;
    reference.report_data = other.into();
    assert_eq!(judge(&reference).unwrap_err(), [Code::ReportDataMismatch]);
}

/// A component cannot take the place of another by its name.
#[test]
fn components_are_named_by_type_only_where_that_is_unambiguous() {
    let kinds = [Some("RMM"), Some("BL"), Some("BL"), Some("0"), Some("RMM.version"), None, Some("count")];
    let components = kinds.iter().zip(1..).map(|(kind, byte)| component(*kind, byte)).collect();
    let token = Evidence::parse(&Cca { components, ..Cca::good() }.make().token).unwrap();
    let names: Vec<_> = token
        .measured()
        .keys()
        .filter_map(|name| name.strip_prefix("sw.")?.strip_suffix(".measurement").map(str::to_owned))
        .collect();
    assert_eq!(names, ["1", "2", "3", "4", "5", "6", "RMM"]);
}

#[test]
fn claim_sets_that_stand_alone_have_a_defined_outcome() {
    let platform = PlatformClaims::parse(&read("cca/rust-ccatoken-platform-claims.cbor")).unwrap();
    assert!(platform.lifecycle.is_secured() && platform.components.len() == 2 && platform.unknown.is_empty());
    let realm = |name: &str| RealmClaims::parse(&read(&format!("cca/rust-ccatoken-realm-claims{name}.cbor")));
    assert_eq!(realm("").unwrap().challenge, [0xab; 64]);
    assert_eq!(realm("-missing-challenge").unwrap_err().field, "challenge");
    assert_eq!(realm("+spurious-numeric-key").unwrap().unknown.len(), 1);
    assert_eq!(realm("+spurious-text-key").unwrap().unknown.len(), 1);
}

#[test]
fn every_claim_is_checked() {
    let parse = |cca: &Cca| Evidence::parse(&cca.make().token).map(drop);
    for (label, field) in [
        (10, "challenge"),
        (256, "instance id"),
        (2395, "lifecycle"),
        (2396, "implementation id"),
        (2399, "software components"),
        (2401, "configuration"),
        (2402, "hash algorithm"),
        (44235, "personalisation value"),
        (44236, "hash algorithm"),
        (44237, "public key"),
        (44238, "initial measurement"),
        (44239, "extensible measurements"),
        (44240, "hash algorithm of the public key"),
    ] {
        let error = parse(&Cca { without: Some(label), ..Cca::good() }).unwrap_err();
        assert_eq!((error.field, error.expected.as_ref()), (field, "a claim"));
    }
    let bytes = |length| Value::Bytes(vec![2; length]);
    let platform = |label: i64, value: Value| {
        let cca = Cca { without: Some(label), platform: vec![(Value::from(label), value)], ..Cca::good() };
        parse(&cca).unwrap_err().field
    };
    assert_eq!(platform(256, bytes(33)), "instance id");
    assert_eq!(platform(256, bytes(32)), "instance id");
    assert_eq!(platform(265, Value::from("tag:psacertified.org,2023:psa#tfm")), "profile");
    assert_eq!(platform(2395, Value::from(0x1_3000)), "lifecycle");
    assert_eq!(platform(2396, bytes(31)), "implementation id");
    assert_eq!(platform(2399, Value::Array(vec![])), "software components");
    assert_eq!(platform(2399, Value::Array(vec![component(None, 1); 65])), "software components");
    assert_eq!(
        platform(2399, Value::Array(vec![Value::Map(vec![(Value::from(2), bytes(32))])])),
        "software component"
    );
    assert_eq!(platform(2402, Value::from("md5")), "hash algorithm");
    let realm = |label: i64, value: Value| {
        let cca = Cca { without: Some(label), realm: vec![(Value::from(label), value)], ..Cca::good() };
        parse(&cca).unwrap_err().field
    };
    assert_eq!(realm(44235, bytes(63)), "personalisation value");
    assert_eq!(realm(44237, bytes(97)), "public key");
    assert_eq!(realm(44238, bytes(20)), "initial measurement");
    assert_eq!(realm(44239, Value::Array(vec![bytes(32); 3])), "extensible measurements");
    assert_eq!(realm(44239, Value::Array(vec![bytes(32); 5])), "extensible measurements");
    let twice = Cca { realm: vec![(Value::from(44238), bytes(32))], ..Cca::good() };
    assert_eq!(parse(&twice).unwrap_err().expected, "each claim once");
    let many = (0..17).map(|label| (Value::from(500 + label), Value::Null)).collect();
    assert_eq!(parse(&Cca { realm: many, ..Cca::good() }).unwrap_err().field, "claims");
    // ES256 in the header over a signature of ES384's length.
    assert_eq!(parse(&Cca { platform_header: ES256, ..Cca::good() }).unwrap_err().field, "signature");
}

#[test]
fn the_signed_bytes_are_those_of_coset() {
    for file in [TOKEN_01, TOKEN_02, DRAFT] {
        let Value::Tag(399, map) = ciborium::from_reader(read(file).as_slice()).unwrap() else { panic!() };
        let Evidence::Cca(token) = evidence(file) else { panic!() };
        for ((_, part), own) in map.as_map().unwrap().iter().zip([token.platform(), token.realm()]) {
            let theirs = coset::CoseSign1::from_tagged_slice(part.as_bytes().unwrap()).unwrap();
            assert_eq!(own.signed(), theirs.tbs_data(b""));
        }
    }
}

#[test]
fn no_flip_and_no_truncation_of_a_token_is_accepted() {
    let original = read(DRAFT);
    let policy = Policy { trust_anchors: enrolled(TF_A), ..Policy::genuine() };
    let accepted = |bytes: &[u8]| {
        Evidence::parse(bytes).is_ok_and(|token| look(&token, &policy).verdict().is_accepted())
    };
    assert!(accepted(&original));
    for offset in 0..original.len() {
        let mut bytes = original.clone();
        bytes[offset] ^= 1 << (offset % 8);
        assert!(!accepted(&bytes), "flip at {offset}");
        assert!(Evidence::parse(&original[..offset]).is_err(), "cut to {offset}");
    }
    let longer = Evidence::parse(&[&original[..], &[0]].concat()).unwrap_err();
    assert_eq!(longer.kind, MalformedKind::Value);
}

//! Nitro: recorded documents at their own time and at others, and one thing wrong at a time. Each test fails when its
//! rule is deleted.

use appraisal::{
    Code, Decision, EndorsementsBuilder, Origin, Policy, ReferenceValue, ReferenceValues, Rule, UnixTime,
    appraise, assess,
};
use ciborium::Value;
use coset::CborSerializable as _;
use crypto_aws_lc::AwsLc;
use evidence::{CertificateDer, CrlDer, Endorsements, Evidence, Malformed, Platform};
use rcgen::KeyUsagePurpose;

use crate::lab::nitro::{Ca, Crl, LEAF_SERIAL, Nitro, ZONE_SERIAL, crl};
use crate::lab::{DAY, NOW, Presented, Window, der};
use crate::vectors::{at, evidence, look, read, rows};

const DOCUMENT: &str = "nitro/dstack-nitro_attestation-54ae0f.cbor";
const DOCUMENT_AT: &str = "2025-12-25T16:04:19Z";
const CARRIER: &str =
    "nitro/attestation-doc-validation-non-debug-cert-containing-attestation-document-18-1-23-der.crt";
const PAST: Window = Window(-40, -1);
const FUTURE: Window = Window(1, 30);

#[track_caller]
fn refused(platform: &Nitro, codes: &[Code]) {
    assert_eq!(platform.present().refusal(), codes);
}

fn codes(evidence: &Evidence, now: UnixTime) -> Vec<Code> {
    look(evidence, &Endorsements::default(), now).verdict().codes().collect()
}

fn warnings(presented: &Presented, policy: &Policy) -> Vec<Code> {
    let appraised =
        presented.appraise_under(policy).unwrap_or_else(|refused| panic!("{}", refused.verdict()));
    appraised.verdict().warnings().iter().map(|reason| reason.code).collect()
}

fn policy(presented: &Presented, change: impl FnOnce(&mut Policy)) -> Policy {
    let mut policy = presented.policy();
    change(&mut policy);
    policy
}

#[test]
fn every_recorded_document_gives_the_measured_verdict_at_its_own_time_and_no_other() {
    let mut seen = (0, 0);
    for row in rows().iter().filter(|row| row.is_in("nitro")) {
        let document = evidence(&row.file);
        let now = row.at.unwrap();
        let debug = row.expected.contains("DEBUG");
        let assessment = look(&document, &Endorsements::default(), now);
        let verdict = assessment.verdict();
        assert_eq!(verdict.platform(), Platform::Nitro);
        assert_eq!(verdict.is_accepted(), !debug, "{}\n{verdict}", row.file);
        let expected: &[Code] = if debug { &[Code::DebugEnabled] } else { &[] };
        assert_eq!(verdict.codes().collect::<Vec<_>>(), expected, "{}", row.file);
        assert_eq!(verdict.origin(), Some(&Origin::Vendor));
        assert_eq!(verdict.warnings()[0].code, Code::CrlMissing);
        if let Some((_, instance)) = row.notes.split_once("instance ") {
            let instance = instance.split("-enc").next().unwrap();
            assert_eq!(verdict.platform_identity().unwrap().to_string(), instance);
        }
        let late = UnixTime(now.0 + 4 * 3600);
        assert!(codes(&document, late).contains(&Code::CertificateExpired), "{}", row.file);
        assert!(
            codes(&document, UnixTime(now.0 - 3600)).contains(&Code::CertificateNotYetValid),
            "{}",
            row.file
        );
        if debug { seen.1 += 1 } else { seen.0 += 1 }
    }
    assert_eq!(seen, (5, 5));
}

/// Production with a nonce and a measurement: no part of it depends on the policy `genuine`.
#[test]
fn a_recorded_document_is_accepted_in_production_when_it_covers_what_was_asked() {
    let document = evidence(DOCUMENT);
    let reference = ReferenceValues {
        report_data: document.covered(),
        measurements: vec![ReferenceValue::program("x", Platform::Nitro, document.measurement().unwrap())],
    };
    let none = Endorsements::default();
    let appraised =
        appraise(&document, &none, &reference, &Policy::production(), at(DOCUMENT_AT), &AwsLc).unwrap();
    assert!(!appraised.emulated());
    assert_eq!(appraised.report_data().as_bytes().len(), 64);
}

#[test]
fn an_expired_document_says_that_it_must_be_appraised_fresh() {
    let assessment = look(&evidence(DOCUMENT), &Endorsements::default(), at("2026-01-01T00:00:00Z"));
    let validity = assessment.verdict().check("genuine/validity").unwrap();
    assert!(validity.mend.as_ref().unwrap().contains("appraise it fresh"));
}

#[test]
fn nonce_user_data_and_public_key_are_told_apart() {
    let presented = Nitro::good().present();
    let appraised = presented.appraise().unwrap_or_else(|refused| panic!("{}", refused.verdict()));
    let claims = appraised.verdict().claims().nitro.as_ref().unwrap();
    assert_eq!(claims.user_data.as_ref().unwrap().as_bytes(), b"user data");
    assert_eq!(claims.public_key.as_ref().unwrap().as_bytes(), b"public key");
    assert_eq!(claims.nonce.as_ref().unwrap(), appraised.report_data());
    assert_eq!(claims.certificate_key_bound, None);
    let measured = presented.evidence.measured();
    assert_eq!(measured["user_data"], "757365722064617461");
    assert_eq!(measured["public_key"], "7075626c6963206b6579");
    let names: Vec<_> = measured.keys().filter(|name| name.starts_with("pcr")).map(String::as_str).collect();
    assert_eq!(names, ["pcr0", "pcr1", "pcr2", "pcr3", "pcr4", "pcr8"]);
    assert_eq!(appraised.platform_identity().unwrap().to_string(), "i-0123456789abcdef0");
}

#[test]
fn what_is_covered_is_the_nonce_then_the_user_data_then_nothing() {
    let covered = |nonce: Option<&[u8]>, user_data: Option<&[u8]>| {
        let nitro = Nitro {
            nonce: nonce.map(<[u8]>::to_vec),
            user_data: user_data.map(<[u8]>::to_vec),
            ..Nitro::good()
        };
        Evidence::parse(&nitro.bytes()).unwrap().covered().as_bytes().to_vec()
    };
    assert_eq!(covered(Some(b"n"), Some(b"u")), b"n");
    assert_eq!(covered(None, Some(b"u")), b"u");
    assert_eq!(covered(None, None), b"");
    // A nonce that is there and empty covers nothing, and user data do not stand in for it.
    assert_eq!(covered(Some(b""), Some(b"u")), b"");
}

#[test]
fn a_reference_value_can_name_user_data_and_public_key() {
    let presented = Nitro::good().present();
    let mut reference = presented.reference();
    reference.measurements[0].registers.insert("public_key".into(), "7075626c6963206b6579".into());
    let judge = |reference: &ReferenceValues| {
        let policy = presented.policy();
        appraise(&presented.evidence, &presented.endorsements, reference, &policy, UnixTime(NOW), &AwsLc)
            .map_err(|refused| refused.codes())
    };
    assert!(judge(&reference).is_ok());
    reference.measurements[0].registers.insert("user_data".into(), "00".into());
    assert_eq!(judge(&reference).unwrap_err(), [Code::RegisterMismatch]);
}

/// S-20: a defined outcome for each temporal fault: of leaf, CA and list, and for revocation and its absence.
#[test]
fn s20_every_temporal_fault_has_a_defined_outcome() {
    let hour = 3600;
    let list = |window| vec![crl(Ca::Root, &[]), Crl { window, ..crl(Ca::Region, &[]) }];
    let good = Nitro::good();
    let table: &[(&str, Nitro, &[Code])] = &[
        (
            "expired leaf",
            Nitro { leaf_window: (-4 * hour, -hour), made: -2 * hour, ..good.clone() },
            &[Code::CertificateExpired],
        ),
        (
            "early leaf",
            Nitro { leaf_window: (hour, 4 * hour), made: 2 * hour, ..good.clone() },
            &[Code::CertificateNotYetValid, Code::TimestampInFuture],
        ),
        ("expired CA", Nitro { zone_window: (-5 * DAY, -hour), ..good.clone() }, &[Code::CertificateExpired]),
        ("early CA", Nitro { zone_window: (hour, DAY), ..good.clone() }, &[Code::CertificateNotYetValid]),
        ("early list", Nitro { crls: list(FUTURE), ..good.clone() }, &[Code::CrlNotYetValid]),
        (
            "revoked CA",
            Nitro { crls: vec![crl(Ca::Region, &[ZONE_SERIAL])], ..good.clone() },
            &[Code::CertificateRevoked],
        ),
        (
            "revoked by an old list",
            Nitro { crls: vec![Crl { window: PAST, ..crl(Ca::Region, &[ZONE_SERIAL]) }], ..good.clone() },
            &[Code::CertificateRevoked],
        ),
        (
            "revoked leaf",
            Nitro { crls: vec![crl(Ca::Instance, &[LEAF_SERIAL])], ..good.clone() },
            &[Code::CertificateRevoked],
        ),
        (
            "forged list",
            Nitro { crls: vec![Crl { forged: true, ..crl(Ca::Region, &[]) }], ..good.clone() },
            &[Code::CrlSignatureInvalid],
        ),
    ];
    for (name, platform, expected) in table {
        let presented = platform.present();
        let seen = presented.refusal();
        assert_eq!(&seen, expected, "{name}");
        let mut lax = presented.policy();
        lax.nitro = appraisal::NitroPolicy { missing_crl: Rule::Allow, ..appraisal::NitroPolicy::genuine() };
        assert_eq!(&presented.refusal_under(&lax), expected, "{name}, under a lax policy");
    }
    // Missing or expired lists: a warning by default, since AWS says so, and a refusal on demand.
    for (crls, seen) in [
        (vec![], vec![Code::CrlMissing]),
        (vec![crl(Ca::Root, &[])], vec![Code::CrlMissing]),
        (vec![crl(Ca::Root, &[]), crl(Ca::Region, &[]), crl(Ca::Stranger, &[])], vec![]),
        (list(PAST), vec![Code::CrlExpired, Code::CrlMissing]),
    ] {
        let presented = Nitro { crls, ..good.clone() }.present();
        assert_eq!(warnings(&presented, &presented.policy()), seen);
        let allow = policy(&presented, |policy| policy.nitro.missing_crl = Rule::Allow);
        assert_eq!(warnings(&presented, &allow), seen);
        let refuse = policy(&presented, |policy| policy.nitro.missing_crl = Rule::Refuse);
        match seen.is_empty() {
            true => assert!(presented.appraise_under(&refuse).is_ok()),
            false => assert_eq!(presented.refusal_under(&refuse), seen),
        }
    }
}

#[test]
fn a_list_that_cannot_be_read_is_refused() {
    let mut presented = Nitro::good().present();
    presented.endorsements.aws.as_mut().unwrap().crls.push(CrlDer(vec![0x30, 0]));
    assert_eq!(presented.refusal(), [Code::CrlMalformed]);
}

#[test]
fn lists_are_picked_from_a_heap_of_files() {
    let presented =
        Nitro { crls: vec![crl(Ca::Region, &[ZONE_SERIAL]), crl(Ca::Stranger, &[])], ..Nitro::good() }
            .present();
    let mut builder = EndorsementsBuilder::new();
    for list in &presented.endorsements.aws.as_ref().unwrap().crls {
        builder.add_file_bytes(&list.0).unwrap();
    }
    let endorsements = builder.fit(&presented.evidence, UnixTime(NOW));
    assert_eq!(endorsements.aws.as_ref().unwrap().crls.len(), 1);
    let again = Presented { endorsements, ..presented };
    assert_eq!(again.refusal(), [Code::CertificateRevoked]);
    let mut whole = EndorsementsBuilder::new();
    whole.add(again.endorsements.clone());
    assert_eq!(whole.fit(&again.evidence, UnixTime(NOW)), again.endorsements);
}

#[test]
fn s40_a_root_that_the_policy_does_not_name_is_refused() {
    let presented = Nitro::good().present();
    assert_eq!(presented.refusal_under(&Policy::production()), [Code::RootNotTrusted]);
    assert!(presented.appraise().unwrap().emulated());
}

/// The root that comes in the cabundle has the trusted one's name and a key of its own.
#[test]
fn the_root_of_the_cabundle_is_not_trusted() {
    refused(&Nitro { forged_root: true, ..Nitro::good() }, &[Code::ChainSignatureInvalid]);
}

/// A CA of one's own under the name of AWS's, with AWS's certificate beside it.
#[test]
fn every_signature_of_the_chain_is_verified() {
    for name in ["region", "zone", "instance"] {
        refused(&Nitro { forged: Some(name), ..Nitro::good() }, &[Code::ChainSignatureInvalid]);
    }
}

#[test]
fn a_ca_must_be_one_and_allow_the_length_of_the_path() {
    refused(&Nitro { zone_is_ca: false, ..Nitro::good() }, &[Code::CertificateMalformed]);
    refused(&Nitro { zone_path_length: 0, ..Nitro::good() }, &[Code::CertificateMalformed]);
    refused(
        &Nitro { leaf_usages: vec![KeyUsagePurpose::KeyAgreement], ..Nitro::good() },
        &[Code::CertificateMalformed],
    );
    refused(&Nitro { skip_zone: true, ..Nitro::good() }, &[Code::ChainIncomplete]);
}

#[test]
fn the_timestamp_must_lie_within_the_leaf_and_not_ahead() {
    let window = (-3600, 7200);
    refused(
        &Nitro { leaf_window: window, made: -3700, ..Nitro::good() },
        &[Code::TimestampOutsideCertificate],
    );
    refused(
        &Nitro { leaf_window: window, made: 7300, ..Nitro::good() },
        &[Code::TimestampOutsideCertificate],
    );
    refused(&Nitro { leaf_window: window, made: 1, ..Nitro::good() }, &[Code::TimestampInFuture]);
    assert!(Nitro { leaf_window: window, made: 0, ..Nitro::good() }.present().appraise().is_ok());
}

#[test]
fn s13_a_document_older_than_the_policy_allows_is_refused() {
    let presented = Nitro::good().present();
    let within = policy(&presented, |policy| policy.nitro.max_age_seconds = Some(60));
    assert!(presented.appraise_under(&within).is_ok());
    let beyond = policy(&presented, |policy| policy.nitro.max_age_seconds = Some(59));
    assert_eq!(presented.refusal_under(&beyond), [Code::EvidenceTooOld]);
}

#[test]
fn s36_debug_is_refused_unless_the_policy_says_otherwise() {
    let presented = Nitro { pcr0: [0; 48], ..Nitro::good() }.present();
    assert_eq!(presented.refusal(), [Code::DebugEnabled]);
    let warn = policy(&presented, |policy| policy.debug = Rule::Warn);
    assert_eq!(warnings(&presented, &warn), [Code::DebugEnabled]);
}

#[test]
fn the_tag_of_cose_may_be_there_or_not() {
    assert!(Nitro { tagged: true, ..Nitro::good() }.present().appraise().is_ok());
}

/// A certificate in the manner of RA-TLS, around a document: its own key is covered, or is not.
#[test]
fn a_certificate_that_carries_a_document_must_be_covered_by_it() {
    let carried = evidence(CARRIER);
    let bare = evidence(
        "nitro/attestation-doc-validation-non-debug-cert-containing-attestation-document-18-1-23.pem-061b9b.cbor",
    );
    let (Evidence::Nitro(carried), Evidence::Nitro(bare)) = (&carried, &bare) else { panic!() };
    assert_eq!(carried.sign1(), bare.sign1());
    let now = at("2023-01-18T13:07:20Z");
    let none = Endorsements::default();
    let look = |evidence: &Evidence| {
        let assessment = assess(evidence, &none, None, None, &Policy::production(), now, &AwsLc);
        let bound = assessment.verdict().claims().nitro.as_ref().unwrap().certificate_key_bound;
        (assessment.verdict().decision(), bound)
    };
    assert_eq!(look(&Evidence::Nitro(carried.clone())), (Decision::Accepted, Some(true)));

    // The same document in another's certificate, in an extension of its own.
    let key = rcgen::KeyPair::generate().unwrap();
    let document = read(
        "nitro/attestation-doc-validation-non-debug-cert-containing-attestation-document-18-1-23.pem-061b9b.cbor",
    );
    for contents in [document.clone(), der(4, &document)] {
        let mut params = rcgen::CertificateParams::default();
        params.custom_extensions =
            vec![rcgen::CustomExtension::from_oid_content(&[1, 3, 6, 1, 4, 1, 99999, 1], contents)];
        let certificate = params.self_signed(&key).unwrap();
        let stolen = Evidence::parse(certificate.der()).unwrap();
        assert_eq!(look(&stolen), (Decision::Refused, Some(false)));
        let pem = evidence::pem::encode(&CertificateDer(certificate.der().to_vec()));
        assert_eq!(Evidence::parse(pem.as_bytes()).unwrap(), stolen);
        let genuine = assess(&stolen, &none, None, None, &Policy::genuine(), now, &AwsLc);
        assert!(genuine.verdict().is_accepted());
        assert!(
            genuine.verdict().warnings().iter().any(|reason| reason.code == Code::CertificateKeyNotBound)
        );
        assert!(codes(&stolen, now).is_empty());
    }

    let mut params = rcgen::CertificateParams::default();
    params.custom_extensions = (1..=2)
        .map(|arc| {
            rcgen::CustomExtension::from_oid_content(&[1, 3, 6, 1, 4, 1, 99999, arc], document.clone())
        })
        .collect();
    assert!(Evidence::parse(params.self_signed(&key).unwrap().der()).is_err(), "which of two documents?");
    assert!(Evidence::parse(rcgen::CertificateParams::default().self_signed(&key).unwrap().der()).is_err());
}

fn malformed(change: impl FnOnce(&mut Nitro)) -> Malformed {
    let mut nitro = Nitro::good();
    change(&mut nitro);
    Evidence::parse(&nitro.bytes()).unwrap_err()
}

#[test]
fn every_field_is_checked_against_its_limits() {
    for field in ["module_id", "digest", "timestamp", "pcrs", "certificate", "cabundle"] {
        assert_eq!(malformed(|nitro| nitro.without = Some(field)).field, field);
    }
    let extra = |key: Value, value: Value| malformed(|nitro| nitro.extra = vec![(key, value)]);
    assert_eq!(extra(Value::from("nitrotpm_pcrs"), Value::Map(vec![])).field, "payload");
    assert_eq!(extra(Value::from(1), Value::Null).field, "payload");
    assert_eq!(extra(Value::from("digest"), Value::from("SHA384")).expected, "each key once");
    assert_eq!(extra(Value::from("nonce"), Value::Null).expected, "each key once");
    assert_eq!(malformed(|nitro| nitro.nonce = Some(vec![0; 1025])).field, "nonce");
    assert_eq!(malformed(|nitro| nitro.user_data = Some(vec![0; 1025])).field, "user_data");
    assert_eq!(malformed(|nitro| nitro.public_key = Some(vec![])).field, "public_key");
    assert_eq!(malformed(|nitro| nitro.algorithm = coset::iana::Algorithm::ES256).field, "signature");
    assert_eq!(malformed(|nitro| nitro.algorithm = coset::iana::Algorithm::EdDSA).field, "algorithm");
    let replaced = |field: &'static str, value: Value| {
        malformed(|nitro| (nitro.without, nitro.extra) = (Some(field), vec![(Value::from(field), value)]))
    };
    let pcr = |index: i32, length| (Value::from(index), Value::Bytes(vec![1; length]));
    assert_eq!(replaced("pcrs", Value::Map(vec![pcr(32, 48)])).field, "PCR index");
    assert_eq!(replaced("pcrs", Value::Map(vec![pcr(0, 47)])).field, "PCR");
    assert_eq!(replaced("pcrs", Value::Map(vec![pcr(0, 48), pcr(1, 48)])).expected, "PCR 0, 1 and 2");
    assert_eq!(replaced("pcrs", Value::Map(vec![pcr(0, 48), pcr(0, 48)])).expected, "each index once");
    assert_eq!(replaced("digest", Value::from("SHA256")).field, "digest");
    assert_eq!(replaced("timestamp", Value::from(0)).field, "timestamp");
    assert_eq!(replaced("timestamp", Value::from(u64::MAX)).field, "timestamp");
    assert_eq!(replaced("module_id", Value::from("")).field, "module_id");
    assert_eq!(replaced("certificate", Value::Bytes(vec![0; 1025])).field, "certificate");
    assert_eq!(replaced("cabundle", Value::Array(vec![])).field, "cabundle");
    assert_eq!(replaced("cabundle", Value::Array(vec![Value::Bytes(vec![0]); 9])).field, "cabundle");
}

/// What an independent implementation reads and would sign is what ours does.
#[test]
fn the_signed_bytes_are_those_of_coset() {
    for row in rows().iter().filter(|row| row.is_in("nitro") && row.file.ends_with(".cbor")) {
        let sign1 = coset::CoseSign1::from_slice(&read(&row.file)).unwrap();
        let Evidence::Nitro(document) = evidence(&row.file) else { panic!() };
        assert_eq!(document.sign1().signed(), sign1.tbs_data(b""));
        assert_eq!(document.sign1().signature(), sign1.signature);
    }
}

#[test]
fn no_flip_and_no_truncation_of_a_document_is_accepted() {
    let original = read(DOCUMENT);
    let accepted = |bytes: &[u8]| {
        Evidence::parse(bytes).is_ok_and(|document| {
            look(&document, &Endorsements::default(), at(DOCUMENT_AT)).verdict().is_accepted()
        })
    };
    assert!(accepted(&original));
    for offset in 0..original.len() {
        let mut bytes = original.clone();
        bytes[offset] ^= 1 << (offset % 8);
        assert!(!accepted(&bytes), "flip at {offset}");
        assert!(Evidence::parse(&original[..offset]).is_err(), "cut to {offset}");
    }
    assert!(Evidence::parse(&[&original[..], &[0]].concat()).is_err());
}

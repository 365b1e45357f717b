//! The forms that quotes of SGX and TDX come in: versions, bodies, certification data; and what Intel signs in every
//! form that it has signed it in. The traps are those of the formats' own pages, each met with real samples.

use std::time::{Duration, Instant};

use appraisal::{Code, EndorsementsBuilder, Outcome, Policy, Rule, TcbStatus, UnixTime};
use evidence::quote::{CertificationData, Ppid};
use evidence::{Evidence, MalformedKind, SignedDocument};

use crate::lab::intel::Intel;
use crate::lab::{NOW, der};
use crate::vectors::{at, dcap, evidence, look, read, rows};

const TD_15_EX: &str = "tdx/dcap-qvl-0.7.1-tdx_quote_td15ex.quote-v5-tdx-fd8857.bin";

#[track_caller]
fn accepted(platform: &Intel) -> Evidence {
    let presented = platform.present();
    let appraised = presented.appraise().unwrap_or_else(|refused| panic!("{}", refused.verdict()));
    assert_eq!(appraised.verdict().tcb().status, Some(TcbStatus::UpToDate));
    presented.evidence
}

#[test]
fn sgx_enclaves_are_appraised_in_every_version_of_quotes() {
    for version in [3, 4, 5] {
        let quote = accepted(&Intel { quote_version: Some(version), ..Intel::sgx() });
        let Evidence::Sgx(quote) = &quote else { panic!("{version}: not SGX") };
        assert_eq!(quote.header().version, version);
        // The descriptor of the body is signed.
        assert_eq!(quote.signed().len(), if version == 5 { 438 } else { 432 });
    }
}

#[test]
fn tds_are_appraised_in_every_body() {
    let svn = Intel::tdx().tee_tcb_svn;
    let later = Intel { current_svn: Some(svn), ..Intel::tdx() };
    for (platform, length) in [
        (Intel::tdx(), 48 + 584),
        (Intel { quote_version: Some(5), ..Intel::tdx() }, 54 + 584),
        (later.clone(), 54 + 648),
        (Intel { later_service_td: Some([0; 48]), ..later.clone() }, 54 + 885),
    ] {
        let Evidence::Tdx(quote) = accepted(&platform) else { panic!("not TDX") };
        assert_eq!(quote.signed().len(), length);
        assert_eq!(quote.report().extended.is_some(), platform.later_service_td.is_some());
    }
}

/// What TDX 1.5 says of a service TD was said at the launch; the extended report tells of those bound later.
#[test]
fn s51_a_service_td_that_was_bound_later_is_refused() {
    let svn = Intel::tdx().tee_tcb_svn;
    let bound = Intel { current_svn: Some(svn), later_service_td: Some([1; 48]), ..Intel::tdx() }.present();
    assert_eq!(bound.refusal(), [Code::ServiceTdBound]);
    let possible = Intel { td_attributes: 1 << 28 | 1 << 17, ..Intel::tdx() }.present();
    assert_eq!(possible.refusal(), [Code::ServiceTdBound]);
    let allowed = Policy { service_td: Rule::Allow, ..possible.policy() };
    assert!(possible.appraise_under(&allowed).is_ok());
}

#[test]
fn s36_cpu_state_and_enclave_attributes_that_nobody_knows_are_refused() {
    for xfam in [0xe6, 0xe5, 0xe7 | 1 << 40] {
        let platform = Intel { xfam, ..Intel::tdx() };
        assert_eq!(platform.present().refusal(), [Code::AttributesUnknown], "{xfam:#x}");
    }
    let enclave = Intel { sgx_attributes: 5 | 1 << 33, ..Intel::sgx() };
    assert_eq!(enclave.present().refusal(), [Code::AttributesUnknown]);
    // What real enclaves have: PROVISION_KEY, CET, KSS, AEX-Notify.
    accepted(&Intel { sgx_attributes: 5 | 1 << 4 | 1 << 6 | 1 << 7 | 1 << 10, ..Intel::sgx() });
}

#[test]
fn the_extended_td_report_of_a_real_machine_is_read_and_claimed() {
    let quote = evidence(TD_15_EX);
    let Evidence::Tdx(parsed) = &quote else { panic!("not TDX") };
    assert_eq!(parsed.signed().len(), 54 + 885);
    let extended = parsed.report().extended.as_ref().unwrap();
    assert_eq!((extended.vm_id, extended.td_id[..4].to_vec()), (0, vec![0xe1, 0xf3, 0xee, 0x82]));
    assert_eq!(extended.current_service_td, [0; 48]);
    let bundle = dcap("bundles/quote-v5-tdx-fd88575b-20261008T0009-e20.collateral.json");
    let assessment = look(&quote, &bundle, at("2026-10-23T00:06:48Z"));
    let claims = assessment.verdict().claims().tdx.clone().unwrap();
    assert_eq!(claims.extended.as_ref().unwrap().td_id, extended.td_id);
    assert_eq!(claims.tee_tcb_svn_2, Some(claims.tee_tcb_svn));
    assert!(claims.attributes.sept_ve_disable && !claims.attributes.debug);
    assert_eq!(claims.platform.fmspc, [0xb0, 0xc0, 0x6f, 0, 0, 0]);
    assert_eq!(claims.platform.smt_enabled, Some(true));
    let collateral = claims.platform.collateral.unwrap();
    assert_eq!(collateral.tcb_evaluation_data_number, 20);
    assert_eq!(collateral.pck_crl_number, Some(1));
    assert!(
        collateral.issued < at("2026-10-23T00:06:48Z") && at("2026-10-23T00:06:48Z") < collateral.expires
    );
}

#[test]
fn an_attestation_key_on_p_384_is_refused_by_name() {
    for file in ["negatives/sgx3-ok.quote", "negatives/tdx4-ok.quote", TD_15_EX] {
        let mut bytes = read(file);
        bytes[2] = 3;
        let error = Evidence::parse(&bytes).unwrap_err();
        assert_eq!((error.kind, error.field), (MalformedKind::Unsupported, "attestation key type"));
        assert!(error.seen.contains("P-384"), "{error}");
    }
}

/// Kind 4: the issuers come with Intel's revocation list.
#[test]
fn a_pck_certificate_alone_is_completed_from_the_endorsements() {
    for (good, other) in [(Intel::sgx(), Intel::tdx()), (Intel::tdx(), Intel::sgx())] {
        let alone = Intel { certification_kind: 4, ..good };
        accepted(&Intel { ca_beside: true, ..alone.clone() });
        accepted(&Intel { pck_beside: true, ..alone.clone() });
        assert_eq!(alone.present().refusal(), [Code::ChainIncomplete]);
        // The issuers of another hierarchy.
        let mut foreign = alone.present();
        let beside = Intel { ca_beside: true, ..other }.present().endorsements.intel.unwrap();
        foreign.endorsements.intel.as_mut().unwrap().pck_crl_issuer_chain = beside.pck_crl_issuer_chain;
        assert_eq!(foreign.refusal(), [Code::ChainSignatureInvalid]);
    }
}

/// Kinds 1 to 3: what Intel would be asked, unless the certificate is there.
#[test]
fn a_pck_that_is_only_named_is_taken_from_the_endorsements_or_named_in_the_refusal() {
    for kind in [1, 2, 3] {
        for platform in [Intel::sgx(), Intel::tdx()] {
            let named = Intel { certification_kind: kind, ..platform };
            accepted(&Intel { pck_beside: true, ..named.clone() });
            let presented = named.present();
            let refused = presented.appraise().unwrap_err();
            assert_eq!(refused.codes(), [Code::CertificationDataUnsupported]);
            let check = refused.verdict().check("genuine/certification-data").unwrap();
            let mend = check.mend.as_ref().unwrap();
            for part in ["cpusvn=05050505050505050505050505050505", "pcesvn=0b00", "pceid=0000"] {
                assert!(mend.contains(part), "{mend}");
            }
            let ppid = match kind {
                1 => format!("PPID {}", "ab".repeat(16)),
                2 => format!("encrypted_ppid={}&", "cc".repeat(256)),
                _ => format!("encrypted_ppid={}&", "cc".repeat(384)),
            };
            assert!(mend.contains(&ppid), "{mend}");
        }
    }
}

#[test]
fn s35_the_pck_of_another_platform_does_not_fit_the_name() {
    let other = Intel { certification_kind: 1, pck_beside: true, named_ppid: [0xac; 16], ..Intel::sgx() };
    assert_eq!(other.present().refusal(), [Code::ChipIdMismatch]);
    // Where the name is encrypted, the signature tells.
    let quote = Intel { certification_kind: 3, ..Intel::sgx() };
    let mut presented = quote.present();
    let elsewhere = Intel { pck_beside: true, ..Intel::sgx() }.present();
    presented.endorsements = elsewhere.endorsements.clone();
    let policy = elsewhere.policy();
    assert_eq!(presented.refusal_under(&policy), [Code::QeReportSignatureInvalid]);
}

#[test]
fn a_platform_manifest_is_refused_with_what_to_do() {
    let presented = Intel { certification_kind: 7, ..Intel::sgx() }.present();
    let refused = presented.appraise().unwrap_err();
    assert_eq!(refused.codes(), [Code::CertificationDataUnsupported]);
    assert!(refused.verdict().to_string().contains("register the platform at Intel"));
}

#[test]
fn a_builder_finds_the_named_pck_among_many() {
    for kind in [1, 3, 4] {
        let quote = Intel { certification_kind: kind, pck_beside: true, ..Intel::tdx() }.present();
        let mut own = quote.endorsements.intel.clone().unwrap();
        let mut builder = EndorsementsBuilder::new();
        for certificate in own.pck_chain.drain(..) {
            builder.add_file_bytes(&certificate.0).unwrap();
        }
        let served = |name: &str, document: &SignedDocument| {
            let body = String::from_utf8(document.body.clone()).unwrap();
            let signature: String = document.signature.iter().map(|byte| format!("{byte:02x}")).collect();
            format!(r#"{{"{name}":{body},"signature":"{signature}"}}"#).into_bytes()
        };
        builder.add_file_bytes(&served("tcbInfo", &own.tcb_info)).unwrap();
        builder.add_file_bytes(&served("enclaveIdentity", &own.qe_identity)).unwrap();
        for certificate in &own.tcb_info.issuer_chain {
            builder.add_file_bytes(&certificate.0).unwrap();
        }
        builder.add_file_bytes(&own.root_ca_crl.0).unwrap();
        builder.add_file_bytes(&own.pck_crl.0).unwrap();
        let fit = builder.fit(&quote.evidence, UnixTime(NOW));
        let built = crate::lab::Presented { endorsements: fit, ..quote };
        built.appraise().unwrap_or_else(|refused| panic!("{kind}: {}", refused.verdict()));
    }
}

/// Samples of Intel's own library and of Fortanix.
#[test]
fn recorded_names_of_pcks_are_read() {
    let data = |file: &str| match evidence(file) {
        Evidence::Sgx(quote) => quote.signature_data().certification_data().clone(),
        _ => panic!("{file}: not SGX"),
    };
    let plain = data("sgx/SGX-TDX-DCAP-QuoteVerificationLibrary-quote.dat.quote-v3-sgx-8cc428.bin");
    let CertificationData::PckName(name) = &plain else { panic!("{plain:?}") };
    assert_eq!((plain.kind(), name.pce_svn, name.pce_id), (1, 3, None));
    assert!(matches!(name.ppid, Ppid::Plain(ppid) if ppid[..2] == [0x84, 0x61]));
    let encrypted = data("sgx/dcap-ql-0.4.3-quote_raw_tcb.bin.quote-v3-sgx-2f59d4.bin");
    let CertificationData::PckName(name) = &encrypted else { panic!("{encrypted:?}") };
    assert_eq!((encrypted.kind(), name.pce_id), (3, Some([0, 0])));
    assert!(matches!(&name.ppid, Ppid::Encrypted(ppid) if ppid.len() == 384));
}

#[test]
fn certification_data_of_other_kinds_and_lengths_is_malformed() {
    let file = "sgx/dcap-ql-0.4.3-quote_raw_tcb.bin.quote-v3-sgx-2f59d4.bin";
    let good = read(file);
    let kind_at = good.len() - 404 - 6;
    for kind in [0, 6, 8, 0xffff_u16] {
        let mut bytes = good.clone();
        bytes[kind_at..kind_at + 2].copy_from_slice(&kind.to_le_bytes());
        assert_eq!(Evidence::parse(&bytes).unwrap_err().kind, MalformedKind::Unsupported, "{kind}");
    }
    // The contents of kind 3 are neither of kind 1 nor of kind 2, nor a certificate.
    for kind in [1, 2, 4, 5_u16] {
        let mut bytes = good.clone();
        bytes[kind_at..kind_at + 2].copy_from_slice(&kind.to_le_bytes());
        assert!(Evidence::parse(&bytes).is_err(), "{kind}");
    }
}

/// Trap 1: what clouds put after a quote is no part of it, and is told.
#[test]
fn trap_1_padding_is_reported() {
    let padded = [read(TD_15_EX), vec![0; 3065]].concat();
    let parsed = Evidence::parse(&padded).unwrap();
    assert_eq!(parsed.padding(), 3065);
    let bundle = dcap("bundles/quote-v5-tdx-fd88575b-20261008T0009-e20.collateral.json");
    let assessment = look(&parsed, &bundle, at("2026-10-23T00:06:48Z"));
    assert!(assessment.verdict().is_accepted());
    let check = assessment.verdict().check("genuine/padding").unwrap();
    assert!(check.outcome == Outcome::Skipped && check.text.contains("3065"), "{}", check.text);
}

/// Trap 2: Fortanix's sample has leaf, root, intermediate.
#[test]
fn trap_2_certificates_may_come_in_any_order() {
    let quote = evidence("sgx/pcs-0.8.4-quote.bin.quote-v3-sgx-e9794f.bin");
    let assessment = look(&quote, &evidence::Endorsements::default(), at("2023-01-01T00:00:00Z"));
    assert!(assessment.verdict().origin().is_some(), "{}", assessment.verdict());
}

/// Trap 3: one space more is another document.
#[test]
fn trap_3_signed_json_is_signed_as_bytes() {
    let now = at("2025-07-04T10:16:31Z");
    let quote = evidence("negatives/tdx4-ok.quote");
    let mut endorsements = dcap("negatives/tdx4-ok.collateral.json");
    assert!(look(&quote, &endorsements, now).verdict().is_accepted());
    endorsements.intel.as_mut().unwrap().qe_identity.body.push(b' ');
    let assessment = look(&quote, &endorsements, now);
    assert_eq!(assessment.verdict().codes().collect::<Vec<_>>(), [Code::CollateralSignatureInvalid]);
}

/// Trap 4: Intel renewed the certificate of its signer with the same key; each has its time.
#[test]
fn trap_4_the_signer_s_certificate_is_judged_by_the_time_of_the_appraisal() {
    let mut bundles = rows().into_iter().filter(|row| row.is_in("bundles"));
    let old = bundles.find(|row| row.at.unwrap() < at("2025-05-01T00:00:00Z")).unwrap();
    let (quote, mut endorsements) = (evidence(old.noted("for quote ")), dcap(&old.file));
    let now = old.at.unwrap();
    let code = |endorsements: &_| look(&quote, endorsements, now).verdict().codes().next();
    assert_ne!(code(&endorsements), Some(Code::CertificateNotYetValid));
    let renewed = dcap("bundles/quote-v5-tdx-fd88575b-20261008T0009-e20.collateral.json").intel.unwrap();
    endorsements.intel.as_mut().unwrap().tcb_info.issuer_chain = renewed.tcb_info.issuer_chain;
    let codes: Vec<_> = look(&quote, &endorsements, now).verdict().codes().collect();
    assert!(codes.contains(&Code::CertificateNotYetValid), "{codes:?}");
}

/// Trap 5: the first two TDX components do not count when the module has a major version; its own levels do.
#[test]
fn trap_5_a_module_with_a_major_version_is_judged_by_its_own_levels() {
    let sgx: Vec<_> = (0..16).map(|_| r#"{"svn":5}"#).collect();
    let zeros: Vec<_> = (0..13).map(|_| r#"{"svn":0}"#).collect();
    let levels = format!(
        r#"{{"tcb":{{"sgxtcbcomponents":[{}],"pcesvn":11,"tdxtcbcomponents":[{{"svn":9}},{{"svn":9}},{{"svn":4}},{}]}},"tcbDate":"2026-01-01T00:00:00Z","tcbStatus":"UpToDate"}}"#,
        sgx.join(","),
        zeros.join(",")
    );
    let mut platform = Intel { levels: Some(levels), ..Intel::tdx() };
    accepted(&platform);
    platform.tee_tcb_svn[2] = 3;
    assert_eq!(platform.present().refusal(), [Code::TcbLevelUnknown]);
    platform.tee_tcb_svn = [9, 0, 4, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
    assert_eq!(platform.present().refusal(), [Code::TcbLevelUnknown]);
    // A real one: the module of 2025 is of major version 1, whatever the platform's first components say.
    let quote = evidence(TD_15_EX);
    let bundle = dcap("bundles/quote-v5-tdx-fd88575b-20261008T0009-e20.collateral.json");
    let assessment = look(&quote, &bundle, at("2026-10-23T00:06:48Z"));
    let names: Vec<_> = assessment.verdict().tcb().parts.iter().map(|part| part.name).collect();
    assert_eq!(names, ["platform", "tdx-module", "quoting-enclave"]);
}

/// Trap 6: what a TD was launched under counts, and what it runs under now.
#[test]
fn trap_6_launch_and_current_versions_both_count() {
    let good = Intel::tdx().tee_tcb_svn;
    let mut old = good;
    old[0] = 4;
    let with = |launch, current| Intel { tee_tcb_svn: launch, current_svn: Some(current), ..Intel::tdx() };
    accepted(&with(good, good));
    for (platform, code) in [
        (with(old, good), Code::TcbTdRelaunchAdvised),
        (with(good, old), Code::TcbOutOfDate),
        (Intel { module_status: "Revoked", ..with(old, good) }, Code::TcbRevoked),
        (Intel { module_status: "Revoked", ..with(good, old) }, Code::TcbRevoked),
    ] {
        assert_eq!(platform.present().refusal(), [code]);
    }
    // A module whose current version is below all levels, or of a line that Intel does not name.
    let mut unknown = good;
    unknown[0] = 2;
    assert_eq!(with(good, unknown).present().refusal(), [Code::TcbLevelUnknown]);
    unknown[1] = 2;
    assert_eq!(with(good, unknown).present().refusal(), [Code::TdxModuleMismatch]);
}

#[test]
fn trap_7_the_two_notices_about_products_are_explained() {
    let level = |svn: u8, status: &str, advisories: &str| {
        let components: Vec<_> = (0..16).map(|_| format!(r#"{{"svn":{svn}}}"#)).collect();
        let components = components.join(",");
        format!(
            r#"{{"tcb":{{"sgxtcbcomponents":[{components}],"pcesvn":11}},"tcbDate":"2026-01-01T00:00:00Z","tcbStatus":"{status}","advisoryIDs":[{advisories}]}}"#
        )
    };
    let levels = level(5, "OutOfDate", r#""INTEL-DOC-10000","INTEL-DOC-10001""#);
    let presented = Intel { levels: Some(levels), ..Intel::sgx() }.present();
    let refused = presented.appraise().unwrap_err();
    assert_eq!(refused.codes(), [Code::TcbOutOfDate]);
    let text = refused.verdict().to_string();
    for words in ["past the end of its servicing", "past the end of its life", "another platform"] {
        assert!(text.contains(words), "{text}");
    }
}

#[test]
fn s37_a_certificate_with_an_extension_twice_is_refused() {
    let twice = Intel { pck_extension_twice: true, ..Intel::sgx() };
    assert_eq!(twice.present().refusal(), [Code::CertificateMalformed]);
}

#[test]
fn s37_an_entry_of_the_sgx_extension_twice_is_refused() {
    let oid = |tail: &[u8]| der(6, &[&[0x2a, 0x86, 0x48, 0x86, 0xf8, 0x4d, 1, 13, 1], tail].concat());
    let entry = |tail: &[u8], value: Vec<u8>| der(0x30, &[oid(tail), value].concat());
    let flag = |value: u8| entry(&[7], der(0x30, &entry(&[7, 3], der(1, &[value]))));
    for spoiled in [
        entry(&[1], der(4, &[0xcd; 16])),
        entry(&[4], der(4, &[0; 6])),
        // A platform's instance of another length, and a Boolean of another encoding than DER's.
        entry(&[6], der(4, &[0; 15])),
        flag(1),
        [flag(0), flag(0xff)].concat(),
        der(4, &[]),
    ] {
        let platform = Intel { pck_entries: spoiled, ..Intel::sgx() };
        assert_eq!(platform.present().refusal(), [Code::CertificateMalformed]);
    }
    let known = Intel { pck_entries: [flag(0xff), entry(&[6], der(4, &[9; 16]))].concat(), ..Intel::sgx() };
    let presented = known.present();
    let appraised = presented.appraise().unwrap();
    let claims = &appraised.verdict().claims().sgx.as_ref().unwrap().platform;
    assert_eq!((claims.smt_enabled, claims.cached_keys), (Some(true), None));
    assert_eq!(claims.platform_instance_id, Some([9; 16]));
}

/// Both the sizes and the times are defined: what does not fit into Endorsements is refused unread, and the rest is
/// searched once.
#[test]
fn a_revocation_list_of_100_000_entries_is_handled() {
    let platform = Intel { revoked_by_ca: (1..=100_000).collect(), ..Intel::sgx() };
    let presented = platform.present();
    let length = presented.endorsements.intel.as_ref().unwrap().pck_crl.0.len();
    assert!(length > 2_000_000, "{length}");
    let start = Instant::now();
    let outcome = presented.appraise().map(drop).map_err(|refused| refused.codes());
    assert!(start.elapsed() < Duration::from_secs(5), "{:?}", start.elapsed());
    assert_eq!(outcome, Ok(()));
    let revoked = Intel { revoked_by_ca: (1..100_000).chain([0x0080_0001]).collect(), ..Intel::sgx() };
    assert_eq!(revoked.present().refusal(), [Code::CertificateRevoked]);
    // Stapled, it is longer than all Endorsements may be.
    let bytes = presented.endorsements.to_bytes();
    assert_eq!(evidence::Endorsements::from_bytes(&bytes).unwrap_err().kind, MalformedKind::TooLong);
}

/// What is signed is read strictly: a field that this version does not know may be the one that matters.
#[test]
fn s37_every_extra_repeated_or_misshapen_field_of_a_level_is_refused() {
    let level = |components: usize, beside: &str, within: &str| {
        let list: Vec<_> = (0..components).map(|_| format!(r#"{{"svn":5{within}}}"#)).collect();
        format!(
            r#"{{"tcb":{{"sgxtcbcomponents":[{}],"pcesvn":11}},"tcbDate":"2026-01-01T00:00:00Z","tcbStatus":"UpToDate"{beside}}}"#,
            list.join(",")
        )
    };
    let with = |levels: String| Intel { levels: Some(levels), ..Intel::sgx() };
    accepted(&with(level(16, "", "")));
    accepted(&with(level(16, r#","advisoryIDs":[]"#, r#","category":"x","type":"y""#)));
    for levels in [
        level(15, "", ""),
        level(17, "", ""),
        level(16, r#","surprise":1"#, ""),
        level(16, r#","tcbStatus":"UpToDate""#, ""),
        level(16, r#","AdvisoryIDs":[]"#, ""),
        level(16, r#","advisoryIDs":[1]"#, ""),
        level(16, "", r#","svn":5"#),
        level(16, "", r#","surprise":1"#),
        level(16, "", "").replace("\"pcesvn\":11", "\"pcesvn\":65536"),
        level(16, "", "").replace("\"svn\":5", "\"svn\":256"),
        level(16, "", "").replace("UpToDate", "TDRelaunchAdvised"),
        level(16, "", "").replace("2026-01-01T00:00:00Z", "2026-13-01T00:00:00Z"),
    ] {
        assert_eq!(with(levels.clone()).present().refusal(), [Code::CollateralMalformed], "{levels}");
    }
    // No level at all fits no platform.
    assert_eq!(with(String::new()).present().refusal(), [Code::TcbLevelUnknown]);
}

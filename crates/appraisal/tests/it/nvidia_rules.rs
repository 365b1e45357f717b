//! Rules for NVIDIA's devices, one broken at a time, on hierarchies made for it.

use std::collections::BTreeMap;

use appraisal::{
    Appraised, Code, EmulatedRoot, NvidiaArchitecture, Origin, Policy, ReferenceValue, ReferenceValues,
    Refused, Rule, UnixTime, appraise, assess,
};
use aws_lc_rs::digest::{SHA384, digest};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use crypto_aws_lc::AwsLc;
use evidence::nvidia::Attestation;
use evidence::{Covered, Evidence, Platform};

use crate::lab::nvidia::{DEVICE_SERIAL, Device, NONCE, Nvidia, Ocsp, PRODUCT_CA_SERIAL, Presented};
use crate::lab::{NOW, Window};
use crate::vectors::read;

fn policy(presented: &Presented) -> Policy {
    Policy::production().trust_emulated([EmulatedRoot::new("lab", &presented.root.0).unwrap()])
}

fn reference(presented: &Presented, nonce: &[u8]) -> ReferenceValues {
    let several = presented.evidence.measured().contains_key("gpu0.driver");
    let register = if several { "gpu0.driver" } else { "driver" };
    let value = ReferenceValue {
        label: "GPU".into(),
        platform: Platform::Nvidia,
        measurement: None,
        launch_configuration: None,
        registers: BTreeMap::from([(register.into(), "580.1.02".into())]),
        minimum: BTreeMap::new(),
    };
    ReferenceValues { report_data: Covered::new(nonce), measurements: vec![value] }
}

fn appraise_under(presented: &Presented, nonce: &[u8], policy: &Policy) -> Result<Appraised, Refused> {
    appraise(
        &presented.evidence,
        &presented.endorsements,
        &reference(presented, nonce),
        policy,
        UnixTime(NOW),
        &AwsLc,
    )
}

#[track_caller]
pub fn accepted(lab: &Nvidia, change: impl FnOnce(&mut Policy)) -> Appraised {
    let presented = lab.present();
    let mut policy = policy(&presented);
    change(&mut policy);
    appraise_under(&presented, &NONCE, &policy).unwrap_or_else(|refused| panic!("{}", refused.verdict()))
}

#[track_caller]
pub fn refused(lab: &Nvidia, change: impl FnOnce(&mut Policy)) -> Vec<Code> {
    let presented = lab.present();
    let mut policy = policy(&presented);
    change(&mut policy);
    let outcome = appraise_under(&presented, &NONCE, &policy);
    outcome.map(|appraised| panic!("accepted:\n{}", appraised.verdict())).unwrap_err().codes()
}

fn with_device(change: impl FnOnce(&mut Device)) -> Nvidia {
    let mut lab = Nvidia::good();
    change(&mut lab.devices[0]);
    lab
}

fn keep(_: &mut Policy) {}

/// Everything that production asks for can be had: manifests and revocation lists, all current. What is left is
/// said: that the device may be anywhere.
#[test]
fn production_accepts_what_is_complete_and_says_that_it_is_emulated() {
    let appraised = accepted(&Nvidia::good(), keep);
    assert!(appraised.emulated());
    let verdict = appraised.verdict();
    assert_eq!(verdict.origin(), Some(&Origin::Emulated("lab".into())));
    let warnings: Vec<_> = verdict.warnings().iter().map(|warning| warning.code).collect();
    assert_eq!(warnings, [Code::DeviceNotColocated]);
    let claims = verdict.claims().nvidia.as_ref().unwrap();
    assert_eq!((claims.devices[0].compared, claims.devices[0].measurements), (3, 4));
    assert_eq!(appraised.platform_identity().unwrap().to_string(), "22");
}

#[test]
fn s11_a_policy_may_refuse_a_device_that_nothing_binds_to_a_machine() {
    let codes = refused(&Nvidia::good(), |policy| policy.nvidia.not_colocated = Rule::Refuse);
    assert_eq!(codes, [Code::DeviceNotColocated]);
}

#[test]
fn s12_a_nonce_that_is_short_or_equal_in_its_beginning_alone_is_refused() {
    let presented = Nvidia::good().present();
    let mut other = NONCE;
    other[31] ^= 1;
    for nonce in [&NONCE[..31], &NONCE[..8], &[], &other, &[&NONCE[..], &[0]].concat()] {
        let outcome = appraise_under(&presented, nonce, &policy(&presented));
        assert_eq!(outcome.unwrap_err().codes(), [Code::ReportDataMismatch], "{nonce:02x?}");
    }
    // Of 64 bytes, the first half: that is how the report data of a CPU fits.
    assert!(appraise_under(&presented, &[&NONCE[..], &[9; 32]].concat(), &policy(&presented)).is_ok());
}

#[test]
fn s12_devices_that_were_asked_with_several_nonces_are_refused() {
    let mut lab = Nvidia { devices: vec![Device::good(0), Device::good(1)], ..Nvidia::good() };
    assert_eq!(accepted(&lab, keep).verdict().claims().nvidia.as_ref().unwrap().devices.len(), 2);
    lab.devices[1].nonce = [0x5b; 32];
    assert_eq!(refused(&lab, keep), [Code::DeviceNonceMismatch, Code::ReportDataMismatch]);
}

#[test]
fn one_device_shown_twice_is_not_two() {
    let lab = Nvidia { devices: vec![Device::good(0), Device::good(0)], ..Nvidia::good() };
    assert_eq!(refused(&lab, keep), [Code::DeviceDuplicate]);
    accepted(&lab, |policy| policy.nvidia.duplicate_device = Rule::Warn);
}

#[test]
fn one_bad_device_of_several_is_enough() {
    let mut lab = Nvidia { devices: vec![Device::good(0), Device::good(1)], ..Nvidia::good() };
    lab.devices[1].measurements[3] = 0;
    assert_eq!(refused(&lab, keep), [Code::GpuMeasurementMismatch]);
}

#[test]
fn s20_expired_and_early_certificates_are_refused() {
    for (window, code) in
        [(Window(-20, -10), Code::CertificateExpired), (Window(10, 20), Code::CertificateNotYetValid)]
    {
        assert_eq!(refused(&Nvidia { leaf_window: window, ..Nvidia::good() }, keep), [code]);
        assert_eq!(refused(&Nvidia { device_window: window, ..Nvidia::good() }, keep), [code]);
    }
}

#[test]
fn s20_without_revocation_lists_the_policy_decides() {
    for crls in [None, Some(Window(-20, -10)), Some(Window(10, 20))] {
        let lab = Nvidia { crls, ..Nvidia::good() };
        assert!(refused(&lab, keep).contains(&Code::RevocationUnknown));
        accepted(&lab, |policy| policy.nvidia.missing_revocation = Rule::Warn);
    }
    let lab = Nvidia { crls: None, ..Nvidia::good() };
    let appraised = accepted(&lab, |policy| policy.nvidia.missing_revocation = Rule::Warn);
    let warned =
        appraised.verdict().warnings().iter().find(|warning| warning.code == Code::RevocationUnknown);
    assert!(warned.unwrap().text.contains("OCSP"));
    accepted(&lab, |policy| policy.nvidia.missing_revocation = Rule::Allow);
}

#[test]
fn s20_a_revoked_certificate_is_refused_always() {
    for serial in [PRODUCT_CA_SERIAL, DEVICE_SERIAL, 3, 5] {
        let lab = Nvidia { revoked: vec![serial], ..Nvidia::good() };
        let codes = refused(&lab, |policy| policy.nvidia.missing_revocation = Rule::Allow);
        assert_eq!(codes, [Code::CertificateRevoked], "{serial}");
        // An old list proves it as well as a new one.
        let lab = Nvidia { crls: Some(Window(-20, -10)), ..lab };
        let codes = refused(&lab, |policy| policy.nvidia.missing_revocation = Rule::Allow);
        assert!(codes.contains(&Code::CertificateRevoked), "{serial}");
    }
}

/// A CA that may have no CA below itself cannot vouch for a device, which is one to its own firmware.
#[test]
fn a_path_longer_than_its_ca_allows_is_refused() {
    accepted(&Nvidia { path_length: Some(1), ..Nvidia::good() }, keep);
    assert_eq!(
        refused(&Nvidia { path_length: Some(0), ..Nvidia::good() }, keep),
        [Code::CertificateMalformed]
    );
}

/// Manifests of an emulated platform say nothing about a real device, though the policy names their root.
#[test]
fn an_emulated_manifest_is_not_used_for_a_real_device() {
    let mut lab = Nvidia::good();
    let golden = lab.driver.as_mut().unwrap();
    golden.version = "535.86.09";
    golden.golden = vec![(63, false, vec![0])];
    let presented = lab.present();
    let chain = read("nvidia/attestation-sdk-sample-hopperCertChain.txt");
    let report = read("nvidia/attestation-sdk-sample-hopperAttestationReport.txt");
    let evidence = Evidence::Nvidia(Box::new(Attestation::from_parts(&report, &chain).unwrap()));
    let policy = policy(&presented);
    let assessment = assess(&evidence, &presented.endorsements, None, None, &policy, UnixTime(NOW), &AwsLc);
    assert_eq!(assessment.verdict().origin(), Some(&Origin::Vendor));
    assert_eq!(assessment.verdict().check("tcb/driver-rim").unwrap().code, Some(Code::RimMismatch));
}

#[test]
fn a_root_that_is_not_named_is_not_trusted() {
    let presented = Nvidia::good().present();
    let codes = appraise_under(&presented, &NONCE, &Policy::production()).unwrap_err().codes();
    assert_eq!(codes, [Code::RootNotTrusted]);
}

#[test]
fn firmware_other_than_that_of_the_certificate_is_refused() {
    assert_eq!(refused(&with_device(|device| device.certified_firmware = 8), keep), [Code::FwidMismatch]);
}

#[test]
fn s36_debug_recovery_and_insecure_firmware_are_refused() {
    for flags in [0x10, 0x20, 0x40] {
        assert_eq!(refused(&with_device(|device| device.flags = flags), keep), [Code::DebugEnabled]);
    }
}

#[test]
fn links_that_are_not_encrypted_are_told() {
    let lab = with_device(|device| device.feature = 2);
    assert_eq!(refused(&lab, keep), [Code::GpuLinksUnprotected]);
    accepted(&lab, |policy| policy.nvidia.unprotected_links = Rule::Warn);
    accepted(&with_device(|device| device.feature = 1), keep);
}

#[test]
fn architectures_are_those_of_the_certificate_and_of_the_policy() {
    let lab = with_device(|device| device.called = "BLACKWELL");
    assert_eq!(refused(&lab, keep), [Code::DeviceArchitectureNotExpected]);
    let only =
        |architecture| move |policy: &mut Policy| policy.nvidia.architectures = Some([architecture].into());
    assert_eq!(
        refused(&Nvidia::good(), only(NvidiaArchitecture::Blackwell)),
        [Code::DeviceArchitectureNotExpected]
    );
    accepted(&Nvidia::good(), only(NvidiaArchitecture::Hopper));
}

#[test]
fn floors_of_driver_and_vbios_are_compared_as_numbers() {
    let driver =
        |floor: &'static str| move |policy: &mut Policy| policy.nvidia.minimum_driver = Some(floor.into());
    for floor in ["580.1.02", "580.1", "579.999", "99"] {
        accepted(&Nvidia::good(), driver(floor));
    }
    for floor in ["580.1.3", "580.1.02.1", "1000", "580.x"] {
        assert_eq!(refused(&Nvidia::good(), driver(floor)), [Code::TcbBelowMinimum], "{floor}");
    }
    let vbios = |floor: &'static str| {
        move |policy: &mut Policy| _ = policy.nvidia.minimum_vbios.insert("GH100".into(), floor.into())
    };
    accepted(&Nvidia::good(), vbios("96.00.5E.00.01"));
    assert_eq!(refused(&Nvidia::good(), vbios("96.00.A0.00.00")), [Code::TcbBelowMinimum]);
}

#[test]
fn a_measurement_that_is_no_alternative_is_refused_by_its_number() {
    let presented = with_device(|device| device.measurements[0] = 8).present();
    let refusal = appraise_under(&presented, &NONCE, &policy(&presented)).unwrap_err();
    assert_eq!(refusal.codes(), [Code::GpuMeasurementMismatch]);
    let check = refusal.verdict().check("tcb/driver-rim/measurement").unwrap();
    assert!(check.text.starts_with("measurement1 "), "{}", check.text);
    assert_eq!(check.expected, Some(format!("{}, or {}", "09".repeat(48), "01".repeat(48))));
    assert_eq!(check.observed, Some("08".repeat(48)));
    // What a manifest has as inactive is not compared.
    accepted(&with_device(|device| device.measurements[1] = 99), keep);
}

#[test]
fn without_a_manifest_the_policy_decides() {
    let without = [Nvidia { driver: None, ..Nvidia::good() }, Nvidia { vbios: None, ..Nvidia::good() }];
    for lab in without {
        assert_eq!(refused(&lab, keep), [Code::RimMismatch]);
        accepted(&lab, |policy| policy.nvidia.missing_rim = Rule::Warn);
    }
    let none = Nvidia { driver: None, vbios: None, ..Nvidia::good() };
    assert_eq!(refused(&none, keep), [Code::RimMissing, Code::RimMissing]);
}

#[test]
fn the_manifest_of_another_version_or_chip_is_not_used() {
    for (product, version) in [("GH100", "580.1.03"), ("GB100", "580.1.02"), ("GH100", "580.1.0")] {
        let mut lab = Nvidia::good();
        let driver = lab.driver.as_mut().unwrap();
        (driver.product, driver.version) = (product, version);
        assert_eq!(refused(&lab, keep), [Code::RimMismatch], "{product} {version}");
    }
}

#[test]
fn s20_a_manifest_of_an_expired_signer_is_refused_or_told() {
    let mut lab = Nvidia::good();
    lab.driver.as_mut().unwrap().window = Window(-20, -10);
    assert_eq!(refused(&lab, keep), [Code::RimExpired]);
    accepted(&lab, |policy| policy.nvidia.expired_rim = Rule::Warn);
    lab.driver.as_mut().unwrap().window = Window(10, 20);
    assert_eq!(
        refused(&lab, |policy| policy.nvidia.expired_rim = Rule::Allow),
        [Code::CertificateNotYetValid]
    );
}

#[test]
fn two_manifests_of_one_measurement_are_refused() {
    let mut lab = Nvidia::good();
    lab.vbios.as_mut().unwrap().golden.push((0, true, vec![1]));
    assert_eq!(refused(&lab, keep), [Code::RimConflict]);
}

/// Manifests that were changed after they were signed, in the ways in which XML signatures are attacked.
#[test]
fn a_forged_manifest_is_refused_for_what_is_wrong_with_it() {
    type Case = (fn(String) -> String, Code);
    let cases: [Case; 11] = [
        (|text| text.replace("Hash0=\"09", "Hash0=\"08"), Code::RimDigestMismatch),
        (|text| text.replace("active=\"True\"", "active=\"False\""), Code::RimDigestMismatch),
        // A digest that fits, under a signature that does not.
        (|text| text.replacen("<ds:DigestValue>", "<ds:DigestValue>AAAA", 1), Code::RimMalformed),
        (|text| text.replacen("c14n11", "c14n12", 1), Code::RimMalformed),
        // Wrapping: the signed document inside of another, and a second signature.
        (|text| format!("<SoftwareIdentity>{text}</SoftwareIdentity>"), Code::RimMalformed),
        (
            |text| {
                let (start, signature) = text.split_once("<ds:Signature ").unwrap();
                let signature = signature.trim_end_matches("</SoftwareIdentity>");
                format!("{start}<ds:Signature {signature}<ds:Signature {signature}</SoftwareIdentity>")
            },
            Code::RimMalformed,
        ),
        (|text| text.replace("URI=\"\"", "URI=\"#a\""), Code::RimMalformed),
        (|text| text.replace("ecdsa-sha384", "hmac-sha384"), Code::RimMalformed),
        // A second Payload, where a reader might look first.
        (|text| text.replacen("<Payload>", "<Payload></Payload><Payload>", 1), Code::RimMalformed),
        (|text| format!("<!DOCTYPE x [<!ENTITY a \"{}\">]>{text}", "&a;".repeat(9)), Code::RimMalformed),
        (|text| text.replacen("</Payload>", "<!-- --></Payload>", 1), Code::RimMalformed),
    ];
    for (number, (spoil, code)) in cases.into_iter().enumerate() {
        let mut lab = Nvidia::good();
        lab.driver = lab.driver.map(|driver| driver.spoilt(spoil));
        let codes = refused(&lab, |policy| policy.nvidia.missing_rim = Rule::Allow);
        assert_eq!(codes, [code], "{number}");
    }
}

/// What canonicalisation removes may differ: a declaration, single quotes, a short form, spaces within a tag.
#[test]
fn another_writing_of_the_same_manifest_is_the_same() {
    let mut lab = Nvidia::good();
    lab.driver = lab.driver.map(|driver| {
        driver.spoilt(|text| {
            let text = text.replace("></Resource>", " />").replace("edition=\"GPU\"", " edition='GPU'\n");
            format!("<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n{text}\n")
        })
    });
    accepted(&lab, keep);
}

/// A digest that fits the changed content does not help: it is signed itself.
#[test]
fn a_manifest_with_another_digest_is_refused() {
    let mut lab = Nvidia::good();
    lab.driver = lab.driver.map(|driver| {
        driver.spoilt(|text| {
            let text = text.replace("Hash0=\"09", "Hash0=\"08");
            let (content, signature) = text.split_once("<ds:Signature ").unwrap();
            let digest = digest(&SHA384, format!("{content}</SoftwareIdentity>").as_bytes());
            let (before, rest) = signature.split_once("<ds:DigestValue>").unwrap();
            let (_, after) = rest.split_once("</ds:DigestValue>").unwrap();
            let digest = STANDARD.encode(digest);
            format!("{content}<ds:Signature {before}<ds:DigestValue>{digest}</ds:DigestValue>{after}")
        })
    });
    assert_eq!(refused(&lab, |policy| policy.nvidia.missing_rim = Rule::Allow), [Code::RimSignatureInvalid]);
}

fn with_ocsp(ocsp: Ocsp) -> Nvidia {
    Nvidia { crls: None, ocsp: Some(ocsp), ..Nvidia::good() }
}

#[test]
fn s20_ocsp_responses_do_as_well_as_lists() {
    for delegate in [None, Some(true)] {
        accepted(&with_ocsp(Ocsp { delegate, ..Ocsp::GOOD }), keep);
    }
}

/// What a list cannot tell, an answer can: that a device is on hold.
#[test]
fn s20_a_device_on_hold_or_revoked_by_ocsp_is_refused_always() {
    const WHEN: [u8; 17] = *b"\x18\x0f20260101000000Z";
    let on_hold = [&[0xa1, 22][..], &WHEN, &[0xa0, 3, 0x0a, 1, 6]].concat();
    let revoked = [&[0xa1, 17][..], &WHEN].concat();
    for status in [on_hold, revoked.clone()] {
        let status: &'static [u8] = status.leak();
        let mut lab = with_ocsp(Ocsp { status, ..Ocsp::GOOD });
        for crls in [None, Some(Window::GOOD)] {
            lab.crls = crls;
            let codes = refused(&lab, |policy| policy.nvidia.missing_revocation = Rule::Allow);
            assert!(codes.iter().all(|code| *code == Code::CertificateRevoked), "{codes:?}");
        }
    }
    // An old answer proves a revocation, and not that a hold lasts.
    let old = Window(-20, -10);
    let lab = with_ocsp(Ocsp { status: revoked.leak(), window: old, ..Ocsp::GOOD });
    assert!(refused(&lab, keep).contains(&Code::CertificateRevoked));
}

#[test]
fn s20_an_ocsp_response_that_is_old_foreign_or_of_no_authority_tells_nothing() {
    for (ocsp, code) in [
        (Ocsp { window: Window(-20, -10), ..Ocsp::GOOD }, Some(Code::OcspExpired)),
        (Ocsp { window: Window(10, 20), ..Ocsp::GOOD }, Some(Code::OcspExpired)),
        (Ocsp { delegate: Some(false), ..Ocsp::GOOD }, Some(Code::OcspSignatureInvalid)),
        (Ocsp { others: true, ..Ocsp::GOOD }, None),
        (Ocsp { status: &[0x82, 0], ..Ocsp::GOOD }, None),
    ] {
        let codes = refused(&with_ocsp(ocsp), keep);
        assert!(codes.contains(&Code::RevocationUnknown), "{codes:?}");
        assert!(code.is_none_or(|code| codes.contains(&code)), "{codes:?}");
    }
}

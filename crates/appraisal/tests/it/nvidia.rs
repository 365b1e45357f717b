//! Recorded reports of Hopper, Blackwell and LS10, and NVIDIA's manifests.

use appraisal::{
    Assessment, Code, EndorsementsBuilder, Origin, PlatformIdentity, Policy, Rule, UnixTime, assess,
};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use crypto_aws_lc::AwsLc;
use evidence::nvidia::{Attestation, MultiGpu, Rim};
use evidence::{Endorsements, Evidence, MalformedKind, NvidiaCollateral};

use crate::vectors::{at, evidence, look, read, rows};

/// A time at which the certificates of most manifests are valid.
const NOW: &str = "2025-10-01T00:00:00Z";
const HOPPER: &str = "nvidia/attestation-sdk-hopper_evidence.json";
const LS10: &str = "nvidia/attestation-sdk-switch_evidence_ls10.json";
const LS10_RIM: &str = "nvidia/attestation-sdk-switchVBIOSRim_NV_SWITCH_BIOS_5612_0002_890_9610550001.xml";
const OLD_HOPPER: (&str, &str) = (
    "nvidia/attestation-sdk-sample-hopperAttestationReport.txt",
    "nvidia/attestation-sdk-sample-hopperCertChain.txt",
);

fn builder(files: &[&str]) -> EndorsementsBuilder {
    let mut builder = EndorsementsBuilder::new();
    for file in files {
        builder.add_file_bytes(&read(file)).unwrap_or_else(|error| panic!("{file}: {error}"));
    }
    builder
}

fn look_with(report: &str, files: &[&str], now: &str) -> Assessment {
    let (evidence, now) = (evidence(report), at(now));
    look(&evidence, &builder(files).fit(&evidence, now), now)
}

fn codes(assessment: &Assessment) -> Vec<Code> {
    assessment.verdict().codes().collect()
}

fn warnings(assessment: &Assessment) -> Vec<Code> {
    assessment.verdict().warnings().iter().map(|warning| warning.code).collect()
}

#[test]
fn every_recorded_report_is_genuine() {
    let reports: [(&str, &[&str]); 12] = [
        (HOPPER, &[]),
        ("nvidia/attestation-sdk-hopper_evidence_cert_hold.json", &[]),
        ("nvidia/attestation-sdk-evidence_hopper_590_12.json", &[]),
        ("nvidia/attestation-sdk-multi_gpu_hopper.json", &[]),
        ("nvidia/attestation-sdk-multi_switch_ls10.json", &[]),
        (LS10, &[]),
        ("nvidia/services-blackwell-evidence.json", &[]),
        (
            "nvidia/attestation-sdk-hopperAttestationReport.txt",
            &["nvidia/attestation-sdk-hopperCertChain.txt"],
        ),
        (
            "nvidia/attestation-sdk-switchAttestationReport.txt",
            &["nvidia/attestation-sdk-sample-switchCertChain.txt"],
        ),
        (OLD_HOPPER.0, &[OLD_HOPPER.1]),
        (
            "nvidia/attestation-sdk-sample-hopperAttestationReportExpired.txt",
            &["nvidia/attestation-sdk-sample-hopperCertChainExpired.txt"],
        ),
        (
            "nvidia/attestation-sdk-sample-blackwellAttestationReport.txt",
            &["nvidia/attestation-sdk-sample-blackwellCertChain.txt"],
        ),
    ];
    for (report, chain) in reports {
        let assessment = look_with(report, chain, NOW);
        assert!(assessment.verdict().is_accepted(), "{report}: {}", assessment.verdict());
        assert_eq!(assessment.verdict().origin(), Some(&Origin::Vendor));
        let seen = warnings(&assessment);
        assert!(
            seen.contains(&Code::RevocationUnknown) && seen.contains(&Code::DeviceNotColocated),
            "{report}"
        );
    }
}

#[test]
fn reports_of_another_signature_are_refused() {
    for (report, chain) in [
        (
            "nvidia/attestation-sdk-sample-hopperAttestationReportInvalidSignature.txt",
            "nvidia/attestation-sdk-sample-hopperCertChain.txt",
        ),
        (
            "nvidia/attestation-sdk-sample-switchAttestationReportInvalidSignature.txt",
            "nvidia/attestation-sdk-sample-switchCertChain.txt",
        ),
    ] {
        assert!(codes(&look_with(report, &[chain], NOW)).contains(&Code::ReportSignatureInvalid), "{report}");
    }
}

/// The chains of Trustee's tests: whole, the root alone, without its middle, without its leaf.
#[test]
fn chains_with_gaps_are_refused() {
    let report = "nvidia/trustee-hopperAttestationReport.txt";
    let with = |chain: &str| look_with(report, &[chain], NOW);
    assert!(with("nvidia/trustee-hopper_cert_chain_case1.txt").verdict().is_accepted());
    for case in 2..=4 {
        let file = format!("nvidia/trustee-hopper_cert_chain_case{case}.txt");
        assert_eq!(codes(&with(&file)), [Code::ChainIncomplete], "{case}");
    }
    assert_eq!(codes(&look_with(report, &[], NOW)), [Code::EndorsementsMissing]);
    let other = "nvidia/attestation-sdk-hopperCertChain.txt";
    assert!(codes(&with(other)).contains(&Code::ReportSignatureInvalid));
}

/// Chains of many devices in one heap: the signature tells whose it is.
#[test]
fn the_chain_of_a_report_is_found_among_others() {
    let chains: Vec<_> =
        rows().into_iter().map(|row| row.file).filter(|file| file.contains("CertChain")).collect();
    let files: Vec<_> = chains.iter().map(String::as_str).collect();
    assert!(files.len() > 4);
    for (report, _) in [OLD_HOPPER, ("nvidia/attestation-sdk-hopperAttestationReport.txt", "")] {
        let assessment = look_with(report, &files, NOW);
        assert!(assessment.verdict().is_accepted(), "{report}: {}", assessment.verdict());
    }
    let forged = "nvidia/attestation-sdk-sample-hopperAttestationReportInvalidSignature.txt";
    assert!(codes(&look_with(forged, &files, NOW)).contains(&Code::ReportSignatureInvalid));
}

/// Trap 15 of our notes: a byte follows the signature.
#[test]
fn a_byte_after_the_signature_is_told_and_not_fatal() {
    let report = "nvidia/trustee-hopper_coco_report1.txt";
    assert_eq!(evidence(report).padding(), 1);
    let assessment = look_with(report, &["nvidia/trustee-hopper_coco_certs1.txt"], NOW);
    assert!(assessment.verdict().is_accepted());
    let signature = assessment.verdict().check("genuine/signature").unwrap();
    assert!(signature.text.contains("1 zero bytes follow"), "{}", signature.text);
    let mut bytes = unhex(&read(report));
    *bytes.last_mut().unwrap() = 1;
    assert_eq!(Evidence::parse(&bytes).unwrap_err().field, "padding");
}

#[test]
fn claims_are_typed() {
    let assessment = look_with(HOPPER, &[], NOW);
    let claims = serde_json::to_value(assessment.verdict().claims()).unwrap();
    let device = &claims["nvidia"]["devices"][0];
    for (name, expected) in [
        ("architecture", "hopper"),
        ("chip", "GH100"),
        ("serial", "412921CE551E4EEDA3"),
        ("ueid", "72ca27239f0e96f6535f73af84eb1542471a17b2"),
        ("driver", "590.12"),
        ("vbios", "96.00.A5.00.01"),
        ("driver_rim", "absent"),
    ] {
        assert_eq!(device[name], expected, "{name}");
    }
    assert_eq!(device["measurements"], 64);
    assert_eq!(device["switches"].as_array().unwrap().len(), 18);
    assert_eq!(device["unprotected_links"], true);
    let verdict = assessment.verdict();
    assert_eq!(verdict.platform_identity(), Some(&PlatformIdentity::Device("412921CE551E4EEDA3".into())));
    assert_eq!(verdict.product(), Some("NVIDIA GH100"));
    assert_eq!(verdict.tcb().version.as_deref(), Some("driver 590.12, VBIOS 96.00.A5.00.01"));
    assert_eq!(verdict.measurements()["driver"], "590.12");
    assert_eq!(verdict.measurements()["measurement64"].len(), 96);
    assert!(warnings(&assessment).contains(&Code::GpuLinksUnprotected));
}

#[test]
fn several_devices_are_one_attestation() {
    let file = "nvidia/attestation-sdk-multi_gpu_hopper.json";
    let Evidence::Nvidia(attestation) = evidence(file) else { panic!() };
    assert_eq!(attestation.devices().len(), 4);
    assert!(attestation.devices().iter().all(|device| device.architecture() == Some("HOPPER")));
    let opaque = attestation.devices()[0].report().opaque();
    assert_eq!(opaque.multi_gpu(), Some(MultiGpu::ProtectedPcie));
    assert_eq!(opaque.board(), Some(("G520", "0200", "885")));
    let assessment = look_with(file, &[], NOW);
    assert!(assessment.verdict().measurements().contains_key("gpu3.measurement1"));
    assert!(assessment.verdict().check("configuration/distinct").unwrap().code.is_none());
}

/// The four switches of this sample are one: the same report four times.
#[test]
fn the_same_switch_four_times_is_told() {
    let file = "nvidia/attestation-sdk-multi_switch_ls10.json";
    assert!(warnings(&look_with(file, &[], NOW)).contains(&Code::DeviceDuplicate));
    let refused = under_production(file, &[], "2026-11-21T00:00:00Z", |_| {});
    assert!(refused.contains(&Code::DeviceDuplicate));
}

fn under_production(report: &str, files: &[&str], now: &str, change: impl FnOnce(&mut Policy)) -> Vec<Code> {
    let (evidence, now) = (evidence(report), at(now));
    let mut policy = Policy::production();
    change(&mut policy);
    let endorsements = builder(files).fit(&evidence, now);
    codes(&assess(&evidence, &endorsements, None, None, &policy, now, &AwsLc))
}

/// The device of this sample was put on hold, which only NVIDIA's OCSP service tells: production does not accept what
/// it cannot know, and the other policy says that it does not.
#[test]
fn s20_a_device_on_hold_is_not_accepted_unasked() {
    let file = "nvidia/attestation-sdk-hopper_evidence_cert_hold.json";
    assert!(under_production(file, &[], NOW, |_| {}).contains(&Code::RevocationUnknown));
    let assessment = look_with(file, &[], NOW);
    let told = assessment
        .verdict()
        .warnings()
        .iter()
        .find(|warning| warning.code == Code::RevocationUnknown)
        .unwrap();
    assert!(told.text.contains("GH100 A01 GSP BROM") && told.text.contains("on hold"), "{}", told.text);
}

/// The one recorded device whose manifest is recorded too.
#[test]
fn a_switch_is_as_its_manifest_says() {
    let now = "2026-11-21T00:00:00Z";
    let assessment = look_with(LS10, &[LS10_RIM], now);
    assert!(assessment.verdict().is_accepted(), "{}", assessment.verdict());
    let check = assessment.verdict().check("tcb/vbios-rim/measurements").unwrap();
    assert!(check.text.starts_with("31 measurements"), "{}", check.text);
    let codes =
        under_production(LS10, &[LS10_RIM], now, |policy| policy.nvidia.missing_revocation = Rule::Warn);
    assert_eq!(codes, []);
    // The signer's certificate is two years old then.
    let expired = under_production(LS10, &[LS10_RIM], "2028-06-01T00:00:00Z", |policy| {
        policy.nvidia.missing_revocation = Rule::Warn;
    });
    assert_eq!(expired, [Code::RimExpired]);
    let endorsements = builder(&[LS10_RIM]).fit(&evidence(LS10), at(now));
    assert_eq!(Endorsements::from_bytes(&endorsements.to_bytes()), Ok(endorsements));
}

/// This manifest is signed well; its values are those of other firmware.
#[test]
fn a_report_that_differs_from_its_manifest_is_refused() {
    let rim = "nvidia/attestation-sdk-NV_GPU_VBIOS_1010_0200_882_96005E0001_measurement_mismatch.xml";
    let assessment = look_with(OLD_HOPPER.0, &[OLD_HOPPER.1, rim], NOW);
    assert!(!assessment.verdict().is_accepted());
    assert!(codes(&assessment).iter().all(|code| *code == Code::GpuMeasurementMismatch));
    let later = look_with(OLD_HOPPER.0, &[OLD_HOPPER.1, rim], "2026-01-01T00:00:00Z");
    assert!(warnings(&later).contains(&Code::RimExpired));
    assert!(assessment.verdict().check("tcb/vbios-rim/measurement").unwrap().observed.is_some());
}

/// Every manifest with a report that it is not for: authentic ones are named as not used, others refused.
#[test]
fn every_recorded_manifest_is_authentic_or_refused_for_its_own_reason() {
    let directory = "nvidia/attestation-sdk-";
    let negatives = [
        ("incorrect_cert_chain_driver_rim.xml", Code::ChainIncomplete),
        ("incorrect_signature_driver_rim.xml", Code::RimSignatureInvalid),
        ("NV_GPU_DRIVER_GH100_535.86.09_measurement_mismatch.xml", Code::RimDigestMismatch),
        ("NV_GPU_DRIVER_GH100_570.124.03_expired.xml", Code::RimDigestMismatch),
        ("NV_SWITCH_BIOS_5612_0002_890_9610550001_invalid_signature.xml", Code::RimDigestMismatch),
        ("NV_SWITCH_BIOS_5612_0002_890_9610550001_measurement_mismatch.xml", Code::RimDigestMismatch),
    ];
    for (file, code) in negatives {
        assert_eq!(codes(&look_with(HOPPER, &[&format!("{directory}{file}")], NOW)), [code], "{file}");
    }
    let positives = [
        format!("{directory}NV_GPU_DRIVER_GH100_550.144.03.xml"),
        format!("{directory}NV_GPU_VBIOS_1010_0200_882_96005E0001_measurement_mismatch.xml"),
        LS10_RIM.into(),
        "nvidia/trustee-test-rim.b64".into(),
    ];
    for file in positives {
        let assessment = look_with(HOPPER, &[&file], NOW);
        assert!(assessment.verdict().is_accepted(), "{file}: {}", assessment.verdict());
        assert!(warnings(&assessment).contains(&Code::RimMismatch), "{file}");
        assert!(assessment.verdict().check("tcb/rim").unwrap().text.contains("was not used"));
    }
}

#[test]
fn a_missing_manifest_is_named_as_nvidias_service_does() {
    let codes = under_production("nvidia/attestation-sdk-hopper_evidence_cert_hold.json", &[], NOW, |_| {});
    assert!(codes.contains(&Code::RimMissing));
    let assessment = look_with(OLD_HOPPER.0, &[OLD_HOPPER.1], NOW);
    let mend = |path: &str| assessment.verdict().check(path).unwrap().mend.clone().unwrap();
    assert!(mend("tcb/driver-rim").contains("NV_GPU_DRIVER_GH100_535.86.09"));
    assert!(mend("tcb/vbios-rim").contains("NV_GPU_VBIOS_1010_0200_882_96005E0001"));
}

#[test]
fn manifests_come_as_xml_base64_or_json() {
    let xml = read(LS10_RIM);
    let base64 = STANDARD.encode(&xml);
    let json = format!(r#"{{"id":"x","rim":"{base64}","sha256":"00"}}"#);
    let parsed = Rim::parse(&xml).unwrap();
    assert_eq!((parsed.product(), parsed.edition(), parsed.version()), ("LS10", "SWITCH", "96.10.55.00.01"));
    for form in [base64.into_bytes(), json.into_bytes()] {
        assert_eq!(Rim::parse(&form), Ok(parsed.clone()));
        assert_eq!(EndorsementsBuilder::new().add_file_bytes(&form), Ok(()));
    }
}

fn unhex(text: &[u8]) -> Vec<u8> {
    let text = text.trim_ascii();
    let digit = |byte: u8| char::from(byte).to_digit(16).unwrap() as u8;
    text.chunks_exact(2).map(|pair| digit(pair[0]) << 4 | digit(pair[1])).collect()
}

/// One report in all the forms in which it may come.
#[test]
fn containers_are_recognised_by_content() {
    let text = read(OLD_HOPPER.0);
    let bytes = unhex(&text);
    let chain = read(OLD_HOPPER.1);
    let whole = Attestation::from_parts(&text, &chain).unwrap();
    assert_eq!(Attestation::from_parts(&bytes, STANDARD.encode(&chain).as_bytes()), Ok(whole.clone()));
    let report = STANDARD.encode(&bytes);
    let pem = STANDARD.encode(&chain);
    let hex = String::from_utf8(text.trim_ascii().to_vec()).unwrap();
    let nonce = &hex[8..72];
    for json in [
        format!(r#"[{{"evidence":"{report}","certificate":"{pem}"}}]"#),
        format!(r#" {{"evidence":"{hex}","certificate":"{pem}","nonce":"{nonce}"}}"#),
        format!(r#"{{"nonce":"{nonce}","evidence_list":[{{"evidence":"{report}","certificate":"{pem}"}}]}}"#),
        format!(
            r#"{{"device_evidence_list":[{{"uuid":"u","evidence":"{report}","certificate":"{}"}}]}}"#,
            String::from_utf8(chain.clone()).unwrap().replace('\n', "\\n")
        ),
    ] {
        assert_eq!(
            Evidence::parse(json.as_bytes()),
            Ok(Evidence::Nvidia(Box::new(whole.clone()))),
            "{json:.60}"
        );
    }
    for (json, field) in [
        (
            format!(r#"[{{"evidence":"{report}","certificate":"{pem}","nonce":"{}"}}]"#, "00".repeat(32)),
            "nonce",
        ),
        // S-12: the beginning of the nonce is not the nonce.
        (format!(r#"[{{"evidence":"{report}","certificate":"{pem}","nonce":"{}"}}]"#, &nonce[..32]), "nonce"),
        (r#"{"evidence":1,"certificate":2}"#.into(), "JSON"),
        (r#"{"x":["evidence","certificate"]}"#.into(), "JSON"),
    ] {
        let refused = Evidence::parse(json.as_bytes()).unwrap_err();
        assert_eq!((refused.kind, refused.field), (MalformedKind::Value, field), "{json:.60}");
    }
}

#[test]
fn each_checked_field_of_a_report_is_named() {
    use MalformedKind::{Truncated, Unsupported, Value};
    let good = unhex(&read(OLD_HOPPER.0));
    let opaque = good.len() - 96 - 357;
    for (offset, byte, kind, field) in [
        (36, 1, Unsupported, "response"),
        (37, 0x12, Unsupported, "response"),
        (38, 0x61, Unsupported, "response"),
        (41, 63, Value, "measurement record length"),
        (41, 65, Truncated, "measurement index"),
        (44, 1, Truncated, "measurement record"),
        (45, 0, Value, "measurement index"),
        (46, 2, Unsupported, "measurement specification"),
        (47, 52, Value, "measurement size"),
        (50, 47, Value, "measurement size"),
        (45 + 55, 1, Value, "measurement index"),
        (opaque - 1, 0xff, Truncated, "opaque data"),
    ] {
        let mut bytes = good.clone();
        bytes[offset] = byte;
        let refused = Evidence::parse(&bytes).unwrap_err();
        assert_eq!((refused.kind, refused.field), (kind, field), "{offset}: {refused}");
    }
    for length in 0..good.len() {
        assert!(Evidence::parse(&good[..length]).is_err(), "{length}");
    }
}

/// Every byte of a report is signed.
#[test]
fn no_flip_of_a_byte_of_a_report_is_accepted() {
    let good = unhex(&read(OLD_HOPPER.0));
    let now = at(NOW);
    let builder = builder(&[OLD_HOPPER.1]);
    let accepted = |bytes: &[u8]| {
        Evidence::parse(bytes)
            .is_ok_and(|evidence| look(&evidence, &builder.fit(&evidence, now), now).verdict().is_accepted())
    };
    assert!(accepted(&good));
    for offset in 0..good.len() {
        let mut bytes = good.clone();
        bytes[offset] ^= 1 << (offset % 8);
        assert!(!accepted(&bytes), "{offset}");
    }
}

/// The flips of certificates that are accepted are those of the root's, which is not used, and of white space.
#[test]
fn no_flip_of_a_byte_of_a_chain_matters() {
    let report = unhex(&read(OLD_HOPPER.0));
    let Ok(whole) = Attestation::from_parts(&report, &read(OLD_HOPPER.1)) else { panic!() };
    let chain = whole.devices()[0].chain();
    for place in 0..4 {
        for offset in 0..chain[place].0.len() {
            let mut changed = chain.to_vec();
            changed[place].0[offset] ^= 1 << (offset % 8);
            let bytes: Vec<u8> = changed.iter().flat_map(|der| der.0.clone()).collect();
            let Ok(attestation) = Attestation::from_parts(&report, &bytes) else { continue };
            let evidence = Evidence::Nvidia(Box::new(attestation));
            assert!(
                !look(&evidence, &Endorsements::default(), at(NOW)).verdict().is_accepted(),
                "{place} {offset}"
            );
        }
    }
}

/// A flip in a manifest is refused, or changes nothing that it says: white space within tags and between the digits
/// of certificates, and the root's certificate.
#[test]
fn no_flip_of_a_byte_of_a_manifest_changes_what_it_says() {
    let good = read(LS10_RIM);
    let meaning = Rim::parse(&good).unwrap();
    let (evidence, now): (_, UnixTime) = (evidence(LS10), at("2026-11-21T00:00:00Z"));
    let mut policy = Policy::production();
    policy.nvidia.missing_revocation = Rule::Warn;
    let accepted = |bytes: &[u8]| {
        let nvidia = NvidiaCollateral { rims: vec![bytes.to_vec()], ..NvidiaCollateral::default() };
        let endorsements = Endorsements { nvidia: Some(nvidia), ..Endorsements::default() };
        assess(&evidence, &endorsements, None, None, &policy, now, &AwsLc).verdict().is_accepted()
    };
    assert!(accepted(&good));
    // Each byte of the signature, and some of the rest, which is longer.
    let signature = good.windows(15).position(|window| window == b"<ds:SignedInfo>").unwrap();
    let offsets = (signature..signature + 1000).chain((0..good.len()).step_by(31));
    for offset in offsets {
        let mut bytes = good.clone();
        bytes[offset] ^= 1 << (offset % 7);
        let Ok(parsed) = Rim::parse(&bytes) else { continue };
        if accepted(&bytes) {
            assert_eq!(parsed.canonical(), meaning.canonical(), "{offset}");
            assert_eq!(parsed.measurements(), meaning.measurements(), "{offset}");
            assert_eq!(parsed.certificates()[..3], meaning.certificates()[..3], "{offset}");
        }
    }
}

//! Confidential VMs of Azure: those recorded, and those in which one thing is wrong. Each test fails when its rule is
//! deleted.

use std::path::Path;

use appraisal::{
    Assessment, AzurePolicy, Code, Crypto as _, EndorsementsBuilder, Policy, ReferenceValue, ReferenceValues,
    Rule, TcbStatus, UnixTime, assess,
};
use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::rsa::{KeyPair, KeySize};
use aws_lc_rs::signature::{KeyPair as _, RSA_PKCS1_SHA256};
use crypto_aws_lc::AwsLc;
use evidence::{Covered, Endorsements, Evidence, Measurement, Platform};
use serde_json::{Value, json};

use crate::lab::amd::Amd;
use crate::lab::tpm::sized;
use crate::lab::{NOW, Presented};
use crate::vectors::{amd_certificates, at, evidence, look, read};

const SNP: [&str; 6] = [
    "azure/trustee-az-snp-evidence-v0.json",
    "azure/trustee-az-snp-evidence-v1.json",
    "azure/trustee-az-snp-evidence-v2.json",
    "azure/trustee-az-snp-evidence-genoa.json",
    "azure/attestation-rs-az-snp-milan-v3-empty-nonce.json",
    "azure/attestation-rs-az-snp-live-evidence.json",
];
const TDX: [&str; 3] = [
    "azure/trustee-az-tdx-evidence-v0.json",
    "azure/trustee-az-tdx-evidence-v1.json",
    "azure/attestation-rs-az-tdx-live-evidence.json",
];
const DAY: &str = "2026-01-01T00:00:00Z";

fn codes(assessment: &Assessment) -> Vec<Code> {
    assessment.verdict().codes().collect()
}

/// All of Intel's collateral that is for quotes of `prefix`.
fn bundles(prefix: &str) -> EndorsementsBuilder {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/vectors/bundles");
    let mut builder = EndorsementsBuilder::new();
    for entry in std::fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        if path.file_name().unwrap().to_str().unwrap().starts_with(prefix) {
            builder.add_file_bytes(&std::fs::read(path).unwrap()).unwrap();
        }
    }
    builder
}

#[test]
fn every_recorded_snp_vm_verifies() {
    for file in SNP {
        let vm = evidence(file);
        assert_eq!(vm.platform(), Platform::AzureSnp, "{file}");
        // With the certificate that came along, and with those of the heap.
        for endorsements in [Endorsements::default(), amd_certificates().fit(&vm, at(DAY))] {
            let assessment = look(&vm, &endorsements, at(DAY));
            let verdict = assessment.verdict();
            assert!(verdict.is_accepted(), "{file}: {}", verdict.render_all(false));
            let family = if file.contains("genoa") { "Genoa" } else { "Milan" };
            assert_eq!(verdict.product(), Some(family), "{file}");
            assert_eq!(verdict.claims().azure.as_ref().unwrap().vm.secure_boot, Some(true), "{file}");
            assert_eq!(verdict.measurements().keys().filter(|name| name.starts_with("pcr")).count(), 24);
        }
    }
}

#[test]
fn every_recorded_tdx_vm_verifies() {
    for (file, prefix, now, status) in [
        (TDX[0], "quote-v4-tdx-a187b0da", "2025-11-01T00:00:00Z", TcbStatus::OutOfDate),
        (TDX[1], "quote-v4-tdx-a187b0da", "2025-11-01T00:00:00Z", TcbStatus::OutOfDate),
        (TDX[2], "quote-v4-tdx-140cbd8c", "2026-03-20T09:46:40Z", TcbStatus::UpToDate),
    ] {
        let vm = evidence(file);
        assert_eq!(vm.platform(), Platform::AzureTdx, "{file}");
        let assessment = look(&vm, &bundles(prefix).fit(&vm, at(now)), at(now));
        let verdict = assessment.verdict();
        assert_eq!(verdict.tcb().status, Some(status), "{file}: {}", verdict.render_all(false));
        assert_eq!(verdict.is_accepted(), status == TcbStatus::UpToDate, "{file}");
        assert!(verdict.origin().is_some(), "{file}");
        let warned: Vec<_> = verdict.warnings().iter().map(|reason| reason.code).collect();
        assert!(warned.contains(&Code::AzureParavisorUnknown), "{file}: {warned:?}");
    }
}

#[test]
fn the_nonce_of_the_quote_is_what_is_covered() {
    let vm = evidence(SNP[1]);
    assert_eq!(vm.covered().as_bytes(), b"challenge");
    let expecting = |vm: &Evidence, nonce: &[u8]| {
        let (nonce, policy) = (Covered::new(nonce), Policy::genuine());
        codes(&assess(vm, &Endorsements::default(), Some(&nonce), None, &policy, at(DAY), &AwsLc))
    };
    assert_eq!(expecting(&vm, b"challenge"), []);
    assert_eq!(expecting(&vm, b"challengf"), [Code::ReportDataMismatch]);
    // A genuine sample has none: nothing that was asked for is covered, not even nothing.
    let empty = evidence(SNP[4]);
    assert!(empty.covered().as_bytes().is_empty());
    assert_eq!(expecting(&empty, b"challenge"), [Code::ReportDataMismatch]);
    assert_eq!(expecting(&empty, b""), [Code::ReportDataMismatch]);
}

/// The Evidence of version 0, in which bytes are numbers, with one part changed.
fn changed(file: &str, change: impl FnOnce(&mut Value)) -> Result<Evidence, evidence::Malformed> {
    let mut json: Value = serde_json::from_slice(&read(file)).unwrap();
    change(&mut json);
    Evidence::parse(&serde_json::to_vec(&json).unwrap())
}

fn flip(bytes: &mut Value, offset: usize) {
    let byte = bytes[offset].as_u64().unwrap() as u8;
    bytes[offset] = (byte ^ 1).into();
}

fn refusal(evidence: &Evidence) -> Vec<Code> {
    codes(&look(evidence, &Endorsements::default(), at(DAY)))
}

#[test]
fn runtime_data_that_the_hardware_does_not_cover_is_refused() {
    // A letter of the VM's identity.
    let report = |json: &Value, name: &str| -> Vec<u8> {
        json[name].as_array().unwrap().iter().map(|byte| byte.as_u64().unwrap() as u8).collect()
    };
    for (file, name) in [(SNP[0], "report"), (TDX[0], "hcl_report")] {
        let json: Value = serde_json::from_slice(&read(file)).unwrap();
        let bytes = report(&json, name);
        let label = b"\"vmUniqueId\":\"";
        let offset = bytes.windows(label.len()).position(|window| window == label).unwrap() + label.len();
        let spoiled = changed(file, |json| flip(&mut json[name], offset)).unwrap();
        assert_eq!(refusal(&spoiled), [Code::AzureAkNotBound], "{file}");
    }
}

/// The digest is of the declared length: what lies in the padding is no part of it, and must be nothing.
#[test]
fn the_padding_of_runtime_data_is_neither_covered_nor_used() {
    let padded = changed(SNP[0], |json| json["report"][2599] = 1.into()).unwrap_err();
    assert_eq!((padded.format, padded.field), ("HCL report", "padding"));
    let longer = changed(SNP[0], |json| flip(&mut json["report"], 1184 + 32 + 16)).unwrap_err();
    assert_eq!((longer.format, longer.field), ("HCL report", "runtime data size"));
    let both = changed(SNP[0], |json| {
        for offset in [1216, 1232] {
            let byte = json["report"][offset].as_u64().unwrap();
            json["report"][offset] = (byte + 1).into();
        }
    });
    assert_eq!(both.unwrap_err().field, "runtime data");
}

#[test]
fn quotes_and_values_that_were_changed_are_refused() {
    for (file, quote) in [(SNP[0], "quote"), (TDX[0], "tpm_quote")] {
        let signature = changed(file, |json| flip(&mut json[quote]["signature"], 9)).unwrap();
        assert_eq!(refusal(&signature), [Code::QuoteSignatureInvalid], "{file}");
        let nonce = changed(file, |json| flip(&mut json[quote]["message"], 46)).unwrap();
        assert_eq!(refusal(&nonce), [Code::QuoteSignatureInvalid], "{file}");
        let value = changed(file, |json| flip(&mut json[quote]["pcrs"][7], 0)).unwrap();
        assert_eq!(refusal(&value), [Code::PcrDigestMismatch], "{file}");
        let fewer = changed(file, |json| {
            json[quote]["pcrs"].as_array_mut().unwrap().pop();
        });
        assert_eq!(fewer.unwrap_err().field, "PCR values", "{file}");
        let shorter = changed(file, |json| {
            json[quote]["pcrs"][0].as_array_mut().unwrap().pop();
        });
        assert_eq!(shorter.unwrap_err().field, "PCR value", "{file}");
    }
}

#[test]
fn a_quote_of_another_td_report_is_refused() {
    // RTMR 3 of the TD report.
    let offset = 32 + 512 + 16 + 4 * 48 + 3 * 48;
    let other = changed(TDX[0], |json| flip(&mut json["hcl_report"], offset)).unwrap();
    assert_eq!(refusal(&other), [Code::TdReportMismatch]);
    let none = changed(TDX[0], |json| {
        json.as_object_mut().unwrap().remove("td_quote");
    });
    assert_eq!(none.unwrap_err().field, "td_quote");
}

#[test]
fn an_hcl_report_alone_can_be_shown_and_is_refused() {
    for file in ["azure/trustee-az-snp-hcl-report.bin", "azure/trustee-az-tdx-hcl-report.bin"] {
        let report = evidence(file);
        assert!(report.measurement().is_some() && report.covered().as_bytes().is_empty());
        assert_eq!(refusal(&report), [Code::QuoteMissing], "{file}");
    }
}

#[test]
fn the_hardware_is_judged_as_without_azure() {
    let snp = evidence(SNP[0]);
    let production = Policy::production();
    let assessment = assess(&snp, &Endorsements::default(), None, None, &production, at(DAY), &AwsLc);
    assert_eq!(codes(&assessment), [Code::CrlMissing]);
    let early = look(&snp, &Endorsements::default(), at("2020-01-01T00:00:00Z"));
    assert_eq!(codes(&early), [Code::CertificateNotYetValid]);
    let without = changed(SNP[0], |json| {
        json.as_object_mut().unwrap().remove("vcek");
    });
    assert_eq!(refusal(&without.unwrap()), [Code::EndorsementsMissing]);
    let tdx = look(&evidence(TDX[0]), &Endorsements::default(), at(DAY));
    assert_eq!(codes(&tdx), [Code::EndorsementsMissing]);
}

/// A VM of a lab under an AMD-like root: an HCL report, and a quote by a key that it covers.
struct Vm {
    amd: Amd,
    tail: u8,
    registers: usize,
}

impl Vm {
    fn good() -> Self {
        Self { amd: Amd::genoa(), tail: 0, registers: 24 }
    }

    fn present(&self) -> Presented {
        let key = KeyPair::generate(KeySize::Rsa2048).unwrap();
        let public = key.public_key();
        let (n, e) = (public.modulus(), public.exponent());
        let runtime = format!(
            r#"{{"keys":[{{"kid":"HCLAkPub","kty":"RSA","e":"{}","n":"{}"}}],"vm-configuration":{{}}}}"#,
            base64(e.big_endian_without_leading_zero()),
            base64(n.big_endian_without_leading_zero()),
        );
        let mut report_data = [self.tail; 64];
        report_data[..32].copy_from_slice(&AwsLc.sha256(&[runtime.as_bytes()]));
        let amd = Amd { report_data, ..self.amd.clone() };
        amd.present_as(|report| {
            let mut hcl = b"HCLA".to_vec();
            hcl.extend([2u32, 0, 2, 0, 0, 0, 0].iter().flat_map(|word| word.to_le_bytes()));
            hcl.extend(report);
            let length = runtime.len() as u32;
            hcl.extend([length + 20, 1, 2, 1, length].iter().flat_map(|word| word.to_le_bytes()));
            hcl.extend(runtime.as_bytes());
            let pcrs: Vec<_> = (0..self.registers).map(|register| [register as u8; 32]).collect();
            let all: Vec<u8> = pcrs.concat();
            let mut message = b"\xffTCG\x80\x18".to_vec();
            message.extend(sized(&[7; 34]));
            message.extend(sized(&crate::lab::REPORT_DATA.0[..32]));
            message.extend([0; 25]);
            let bits: u32 = (1 << self.registers) - 1;
            message.extend([&[0, 0, 0, 1, 0, 0x0b, 3][..], &bits.to_le_bytes()[..3]].concat());
            message.extend(sized(&AwsLc.sha256(&[&all])));
            let mut signature = vec![0; key.public_modulus_len()];
            key.sign(&RSA_PKCS1_SHA256, &SystemRandom::new(), &message, &mut signature).unwrap();
            let quote = json!({"message": message, "signature": signature, "pcrs": pcrs});
            serde_json::to_vec(&json!({"quote": quote, "report": hcl})).unwrap()
        })
    }
}

fn base64(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
    let digits = bytes.chunks(3).flat_map(|chunk| {
        let word =
            chunk.iter().fold(0_u32, |word, &byte| word << 8 | u32::from(byte)) << (8 * (3 - chunk.len()));
        (0..=chunk.len()).map(move |index| char::from(DIGITS[(word >> (18 - 6 * index) & 63) as usize]))
    });
    digits.collect()
}

/// Production, with the lab's root and paravisor named.
fn policy(presented: &Presented) -> Policy {
    let paravisors = [Measurement::from([0xa1; 48])].into();
    Policy { azure: AzurePolicy { paravisors, ..AzurePolicy::default() }, ..presented.policy() }
}

#[track_caller]
fn refused(vm: &Vm, expected: &[Code]) {
    let presented = vm.present();
    assert_eq!(presented.refusal_under(&policy(&presented)), expected);
}

#[test]
fn a_good_vm_is_accepted_in_production() {
    let presented = Vm::good().present();
    let appraised =
        presented.appraise_under(&policy(&presented)).unwrap_or_else(|no| panic!("{}", no.verdict()));
    assert!(appraised.emulated());
    assert_eq!(appraised.platform(), Platform::AzureSnp);
}

/// A guest can ask for reports of its own, over any data; the paravisor's have VMPL 0.
#[test]
fn a_report_that_the_guest_asked_for_is_refused() {
    let amd = Amd { vmpl: 2, ..Amd::genoa() };
    refused(&Vm { amd, ..Vm::good() }, &[Code::VmplMismatch]);
}

#[test]
fn report_data_beyond_the_digest_must_be_zero() {
    refused(&Vm { tail: 1, ..Vm::good() }, &[Code::AzureAkNotBound]);
}

/// Whoever starts another paravisor on SNP can make a virtual TPM with any registers.
#[test]
fn a_paravisor_that_the_policy_does_not_name_is_refused_or_warned_of() {
    let presented = Vm::good().present();
    assert_eq!(presented.refusal(), [Code::AzureParavisorUnknown]);
    let azure = AzurePolicy { unknown_paravisor: Rule::Warn, ..AzurePolicy::default() };
    assert!(presented.appraise_under(&Policy { azure, ..presented.policy() }).is_ok());
}

#[test]
fn registers_that_the_policy_names_must_be_quoted() {
    refused(&Vm { registers: 4, ..Vm::good() }, &[Code::PcrNotQuoted]);
}

#[test]
fn s36_debug_is_refused_under_azure_too() {
    let amd = Amd { policy: 0xb0000, ..Amd::genoa() };
    refused(&Vm { amd, ..Vm::good() }, &[Code::DebugEnabled]);
}

#[test]
fn registers_of_the_virtual_tpm_are_compared() {
    let presented = Vm::good().present();
    let compare = |register: &str, digest: String| {
        let measurement = presented.evidence.measurement().unwrap();
        let mut value = ReferenceValue::program("lab", Platform::AzureSnp, measurement);
        value.registers.insert(register.into(), digest);
        let report_data = Covered::new(&crate::lab::REPORT_DATA.0[..32]);
        let reference = ReferenceValues { report_data, measurements: vec![value] };
        let (evidence, now) = (&presented.evidence, UnixTime(NOW));
        appraisal::appraise(evidence, &presented.endorsements, &reference, &policy(&presented), now, &AwsLc)
            .map_err(|refused| refused.codes())
    };
    assert!(compare("pcr7.sha256", "07".repeat(32)).is_ok());
    assert_eq!(compare("pcr7.sha256", "08".repeat(32)).unwrap_err(), [Code::RegisterMismatch]);
    assert_eq!(compare("pcr7.sha1", "07".repeat(20)).unwrap_err(), [Code::RegisterMismatch]);
}

/// Each byte of HCL report, quote and signature is flipped once; what stays accepted says nothing.
#[test]
fn no_flip_of_a_signed_byte_of_a_vm_is_accepted() {
    let json: Value = serde_json::from_slice(&read(SNP[0])).unwrap();
    let accepted = |part: &dyn Fn(&mut Value) -> &mut Value, offset: usize| {
        let mut json = json.clone();
        flip(part(&mut json), offset);
        Evidence::parse(&serde_json::to_vec(&json).unwrap())
            .is_ok_and(|evidence| look(&evidence, &Endorsements::default(), at(DAY)).verdict().is_accepted())
    };
    let count = |pointer: &str| json.pointer(pointer).unwrap().as_array().unwrap().len();
    for pointer in ["/quote/message", "/quote/signature", "/quote/pcrs/0", "/quote/pcrs/23"] {
        for offset in 0..count(pointer) {
            assert!(!accepted(&|json| json.pointer_mut(pointer).unwrap(), offset), "{pointer} {offset}");
        }
    }
    // Of the HCL report, what nothing covers: its header, and the version of the runtime data.
    let header = 8..32;
    for offset in (0..count("/report")).step_by(3) {
        if accepted(&|json| json.pointer_mut("/report").unwrap(), offset) {
            assert!(header.contains(&offset) || (1220..1224).contains(&offset), "report {offset}");
        }
    }
}

//! Evidence in CoCo's JSON: what its own attesters sent, and raw Evidence of the corpus in the JSON they would write.

use std::path::{Path, PathBuf};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use evidence::coco::{self, Sample};
use evidence::conveyed::Conveyed;
use evidence::{Evidence, MalformedKind, Platform};
use serde_json::{Value, json};

fn path(file: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../appraisal/tests/vectors").join(file)
}

fn read(file: &str) -> Vec<u8> {
    std::fs::read(path(file)).unwrap_or_else(|error| panic!("{file}: {error}"))
}

fn files(folder: &str) -> Vec<(String, Vec<u8>)> {
    let entries = std::fs::read_dir(path(folder)).expect("a folder of vectors");
    let names = entries.map(|entry| entry.expect("an entry").file_name().into_string().expect("UTF-8"));
    let mut files: Vec<_> = names.map(|name| (name.clone(), read(&format!("{folder}/{name}")))).collect();
    files.sort();
    assert!(!files.is_empty(), "{folder}");
    files
}

fn one(platform: Platform, json: &[u8]) -> Evidence {
    let conveyed = coco::read(platform, json).unwrap_or_else(|error| panic!("{error}"));
    let [(label, evidence)] = <[_; 1]>::try_from(conveyed.evidence).expect("one piece");
    assert_eq!(label, "");
    evidence
}

/// A table of certificates as a host gives it, after the report.
fn with_table(report: &[u8], certificates: &[(&str, &[u8])]) -> Vec<u8> {
    let mut offset = (certificates.len() + 1) * 24;
    let (mut head, mut body) = (Vec::new(), Vec::new());
    for (guid, certificate) in certificates {
        head.extend(hex::decode(guid.replace('-', "")).expect("a GUID"));
        head.extend((offset as u32).to_le_bytes());
        head.extend((certificate.len() as u32).to_le_bytes());
        body.extend_from_slice(certificate);
        offset += certificate.len();
    }
    [report, &head, &[0; 24], &body].concat()
}

#[test]
fn trustees_own_snp_evidence_gives_the_signed_bytes() {
    let text = read("composite/trustee-evidence.json");
    let report = Evidence::parse(&read("snp/trustee-e2e-genoa-bergamo.report-v3.bin")).expect("a report");
    assert_eq!(one(Platform::Snp, &text), report);
    let conveyed = coco::read(Platform::Snp, &text).expect("Evidence");
    let json: Value = serde_json::from_slice(&text).expect("JSON");
    let given = json["cert_chain"].as_array().map_or(0, Vec::len);
    assert!(given > 0 && conveyed.stapled.len() == given, "{given}");
    // Without being told what it is.
    assert_eq!(Conveyed::parse(&text).expect("Evidence"), conveyed);
}

#[test]
fn every_report_of_the_corpus_survives_the_json_byte_by_byte() {
    for (name, bytes) in files("snp") {
        let json = coco::write(&bytes, &[]).unwrap_or_else(|error| panic!("{name}: {error}"));
        assert_eq!(one(Platform::Snp, json.as_bytes()), Evidence::parse(&bytes).expect(&name), "{name}");
        let Value::Object(members) = serde_json::from_str(&json).expect("JSON") else { panic!("{name}") };
        assert_eq!(members.keys().collect::<Vec<_>>(), ["attestation_report", "cert_chain"], "{name}");
    }
}

#[test]
fn reports_are_written_as_the_sev_crate_writes_them() {
    let report = read("snp/trustee-e2e-genoa-bergamo.report-v3.bin");
    let theirs: Value = serde_json::from_slice(&read("composite/trustee-evidence.json")).expect("JSON");
    let ours: Value = serde_json::from_str(&coco::write(&report, &[]).expect("JSON")).expect("JSON");
    let (theirs, ours) = (&theirs["attestation_report"], &ours["attestation_report"]);
    for (name, value) in theirs.as_object().expect("members") {
        assert_eq!(&ours[name], value, "{name}");
    }
    // A report of a chip with `fmc`, and with the members of version 5.
    let turin = coco::write(&read("snp/oak-turin_oc_evidence.report-v5-3f44a0.bin"), &[]).expect("JSON");
    let turin: Value = serde_json::from_str(&turin).expect("JSON");
    assert!(turin["attestation_report"]["current_tcb"]["fmc"].is_u64());
    assert!(turin["attestation_report"]["launch_mit_vector"].is_u64());
}

#[test]
fn the_hosts_certificates_keep_their_kind() {
    let report = read("snp/trustee-test-vlek-report.bin.report-v3-decdab.bin");
    let table = [
        ("a8074bc2-a25a-483e-aae6-39c045a0b8a1", &b"vlek"[..]),
        ("4ab7b379-bbac-4fe4-a02f-05aef327c782", b"ask"),
        ("00000000-0000-0000-0000-000000000001", b"other"),
    ];
    let text = coco::write(&with_table(&report, &table), b"ours").expect("JSON");
    let json: Value = serde_json::from_str(&text).expect("JSON");
    let kinds: Vec<_> =
        json["cert_chain"].as_array().expect("a chain").iter().map(|c| &c["cert_type"]).collect();
    let other = json!({ "OTHER": "00000000-0000-0000-0000-000000000001" });
    assert_eq!(kinds, [&json!("VLEK"), &json!("ASK"), &other]);
    let stapled = coco::read(Platform::Snp, text.as_bytes()).expect("Evidence").stapled;
    assert_eq!(stapled, [&b"vlek"[..], b"ask", b"ours"]);
}

#[test]
fn reports_that_the_json_cannot_hold_are_not_written() {
    let report = read("snp/trustee-e2e-genoa-bergamo.report-v3.bin");
    // Reserved, and in the middle of a TCB version.
    for at in [0x4c, 0x18b, 0x1ef, 0x208, 0x3a] {
        let mut report = report.clone();
        report[at] = 1;
        assert!(Evidence::parse(&report).is_ok());
        assert_eq!(
            coco::write(&report, &[]).expect_err("others").kind,
            MalformedKind::Unsupported,
            "{at:#x}"
        );
    }
    let broken_table = [&report[..], &[1; 48]].concat();
    assert!(coco::write(&broken_table, &[]).is_err());
}

#[test]
fn older_forms_of_the_report_are_read() {
    let report = read("snp/sev-report_milan.report-v2-120d77.bin");
    let expected = Evidence::parse(&report).expect("a report");
    let mut json: Value = serde_json::from_str(&coco::write(&report, &[]).expect("JSON")).expect("JSON");
    let members = json["attestation_report"].as_object_mut().expect("members");
    for (name, old) in [("current", "current"), ("committed", "committed")] {
        let version = members.remove(name).expect("a version");
        for part in ["build", "minor", "major"] {
            members.insert(format!("{old}_{part}"), version[part].clone());
        }
    }
    let key_info = members.remove("key_info").expect("flags");
    members.insert("_author_key_en".into(), key_info);
    members.insert("_reserved_0".into(), 0.into());
    for name in ["cpuid_fam_id", "cpuid_mod_id", "cpuid_step", "launch_mit_vector", "current_mit_vector"] {
        members.remove(name);
    }
    for tcb in ["current_tcb", "reported_tcb", "committed_tcb", "launch_tcb"] {
        members[tcb].as_object_mut().expect("a TCB").remove("fmc");
        members[tcb]["_reserved"] = json!([0, 0, 0, 0]);
    }
    assert_eq!(one(Platform::Snp, json.to_string().as_bytes()), expected);
    for whole in [json!(STANDARD.encode(&report)), json!(report)] {
        let json =
            json!({ "attestation_report": whole, "cert_chain": [{ "cert_type": "VCEK", "data": [1, 2] }] });
        let conveyed = coco::read(Platform::Snp, json.to_string().as_bytes()).expect("Evidence");
        assert_eq!((&conveyed.evidence[0].1, conveyed.stapled.len()), (&expected, 1));
    }
}

#[test]
fn quotes_and_tokens() {
    for (platform, folder) in [(Platform::Tdx, "tdx"), (Platform::Sgx, "sgx"), (Platform::Cca, "cca")] {
        let mut count = 0;
        for (name, bytes) in files(folder) {
            let Ok(expected) = Evidence::parse(&bytes) else { continue };
            let json = coco::write(&bytes, &[]).unwrap_or_else(|error| panic!("{name}: {error}"));
            assert_eq!(one(platform, json.as_bytes()), expected, "{name}");
            count += 1;
        }
        assert!(count > 1, "{folder}");
    }
}

#[test]
fn an_event_log_comes_with_tdx_and_with_nothing_else() {
    let tdx = read("tdx/trustee-tdx_quote_5.dat.quote-v5-tdx-586c2b.bin");
    let log = read("eventlog/trustee-CCEL_AAEL_alibabacloud");
    let json = coco::write_with_log(&tdx, b"collateral", Some(&log)).expect("JSON");
    let Evidence::Tdx(quote) = one(Platform::Tdx, json.as_bytes()) else { panic!("TDX") };
    assert!(quote.event_log().is_some_and(|log| log.events().len() > 10));
    assert_eq!(coco::read(Platform::Tdx, json.as_bytes()).expect("Evidence").stapled, [b"collateral"]);
    for log in [Value::Null, json!("")] {
        let json = json!({ "quote": STANDARD.encode(&tdx), "cc_eventlog": log });
        assert!(coco::read(Platform::Tdx, json.to_string().as_bytes()).is_ok());
    }
    let garbage = json!({ "quote": STANDARD.encode(&tdx), "cc_eventlog": STANDARD.encode([7; 99]) });
    assert!(coco::read(Platform::Tdx, garbage.to_string().as_bytes()).is_err());
    let sgx = read("sgx/trustee-occlum_quote.dat.quote-v3-sgx-77bcbd.bin");
    let wrong = json!({ "quote": STANDARD.encode(&sgx), "cc_eventlog": STANDARD.encode(&log) });
    assert!(coco::read(Platform::Sgx, wrong.to_string().as_bytes()).is_err());
}

#[test]
fn what_azure_tpm_and_nvidia_attesters_sent() {
    for (platform, file) in [
        (Platform::AzureSnp, "azure/trustee-az-snp-evidence-v0.json"),
        (Platform::AzureSnp, "azure/trustee-az-snp-evidence-v1.json"),
        (Platform::AzureSnp, "azure/trustee-az-snp-evidence-v2.json"),
        (Platform::AzureSnp, "azure/trustee-az-snp-evidence-genoa.json"),
        (Platform::AzureTdx, "azure/trustee-az-tdx-evidence-v0.json"),
        (Platform::AzureTdx, "azure/trustee-az-tdx-evidence-v1.json"),
        (Platform::Tpm, "tpm/trustee-tpm_evidence.json"),
    ] {
        let bytes = read(file);
        assert_eq!(one(platform, &bytes).platform(), platform, "{file}");
        assert_eq!(coco::write(&bytes, &[]).expect(file).into_bytes(), bytes, "{file}");
    }
    let devices: Value =
        serde_json::from_slice(&read("nvidia/attestation-sdk-multi_gpu_hopper.json")).expect("JSON");
    let json = json!({ "device_evidence_list": devices });
    assert_eq!(one(Platform::Nvidia, json.to_string().as_bytes()).platform(), Platform::Nvidia);
}

#[test]
fn evidence_of_another_platform_than_announced_is_refused() {
    let text = read("composite/trustee-evidence.json");
    let tdx = coco::write(&read("tdx/trustee-tdx_quote_5.dat.quote-v5-tdx-586c2b.bin"), &[]).expect("JSON");
    let azure = read("azure/trustee-az-tdx-evidence-v1.json");
    for platform in Platform::ALL {
        assert_eq!(coco::read(platform, &text).is_ok(), platform == Platform::Snp, "{platform}");
        assert_eq!(coco::read(platform, tdx.as_bytes()).is_ok(), platform == Platform::Tdx, "{platform}");
        assert_eq!(coco::read(platform, &azure).is_ok(), platform == Platform::AzureTdx, "{platform}");
    }
}

#[test]
fn a_report_with_a_member_short_or_long_or_twice_is_refused() {
    let text = String::from_utf8(read("composite/trustee-evidence.json")).expect("UTF-8");
    let json: Value = serde_json::from_str(&text).expect("JSON");
    for name in ["report_data", "measurement", "host_data", "chip_id"] {
        for change in [-1, 1] {
            let mut json = json.clone();
            let array = json["attestation_report"][name].as_array_mut().expect("an array");
            if change < 0 {
                array.pop();
            } else {
                array.push(0.into());
            }
            assert!(coco::read(Platform::Snp, json.to_string().as_bytes()).is_err(), "{name} {change}");
        }
    }
    let twice = text.replacen("\"vmpl\":0", "\"vmpl\":1,\"vmpl\":0", 1);
    assert_ne!(twice, text);
    assert!(coco::read(Platform::Snp, twice.as_bytes()).is_err());
    let many = json!({ "attestation_report": json["attestation_report"], "cert_chain": vec![json!({ "cert_type": "ASK", "data": [] }); 17] });
    assert!(coco::read(Platform::Snp, many.to_string().as_bytes()).is_err());
    let long = coco::read(Platform::Snp, &vec![b' '; 2 * evidence::MAX_EVIDENCE + 1]).expect_err("long");
    assert_eq!(long.kind, MalformedKind::TooLong);
}

#[test]
fn the_stand_in() {
    let sample = Sample { svn: "1".into(), report_data: vec![1, 2, 3] };
    assert_eq!(Sample::parse(sample.to_json().expect("JSON").as_bytes()), Ok(sample));
    assert!(Sample::parse(br#"{"svn":1,"report_data":"AA"}"#).is_err());
    assert!(Sample::parse(br#"{"svn":"1","report_data":"*"}"#).is_err());
}

//! From a heap of files to the Endorsements that fit: chosen by content, chip, TCB, platform and time.

use appraisal::{Code, EndorsementsBuilder, Unrecognised};
use evidence::{CertificateDer, Endorsements, pem};

use crate::vectors::{amd_certificates, at, dcap, evidence, look, read, rows};

/// The parts of a bundle as Intel serves them, one file each.
fn files(bundle: &str) -> Vec<Vec<u8>> {
    let intel = dcap(bundle).intel.unwrap();
    let served = |name: &str, document: &evidence::SignedDocument| {
        let body = String::from_utf8(document.body.clone()).unwrap();
        let signature: String = document.signature.iter().map(|byte| format!("{byte:02x}")).collect();
        format!(r#"{{"{name}":{body},"signature":"{signature}"}}"#).into_bytes()
    };
    let text = |chain: &[CertificateDer]| chain.iter().map(pem::encode).collect::<String>().into_bytes();
    vec![
        served("tcbInfo", &intel.tcb_info),
        served("enclaveIdentity", &intel.qe_identity),
        text(&intel.tcb_info.issuer_chain),
        intel.root_ca_crl.0,
        intel.pck_crl.0,
    ]
}

/// All sets of collateral in one heap, taken apart: the builder puts together the one for quote and time.
#[test]
fn collateral_is_put_together_from_single_files() {
    let bundles: Vec<_> = rows().into_iter().filter(|row| row.is_in("bundles")).collect();
    let mut builder = EndorsementsBuilder::new();
    for file in bundles.iter().flat_map(|row| files(&row.file)) {
        builder.add_file_bytes(&file).unwrap();
    }
    let quote = evidence("tdx/dcap-qvl-tdx_quote.quote-v4-tdx-f1c850.bin");
    for (now, status) in [("2025-07-04T10:16:31Z", "UpToDate"), ("2026-10-23T00:06:48Z", "OutOfDate")] {
        let endorsements = builder.fit(&quote, at(now));
        let assessment = look(&quote, &endorsements, at(now));
        let seen = assessment.verdict().tcb().status.map(|status| status.as_str());
        assert_eq!(seen, Some(status), "{now}\n{}", assessment.verdict());
    }
}

#[test]
fn whole_sets_are_chosen_by_platform_and_time() {
    let mut builder = EndorsementsBuilder::new();
    for row in rows().iter().filter(|row| row.is_in("bundles")) {
        builder.add_file_bytes(&read(&row.file)).unwrap();
    }
    for row in rows().iter().filter(|row| row.is_in("bundles") && row.expected.contains("TCB=UpToDate")) {
        let quote = evidence(row.noted("for quote "));
        let now = row.at.unwrap();
        let assessment = look(&quote, &builder.fit(&quote, now), now);
        assert!(assessment.verdict().tcb().status.is_some(), "{}: {}", row.file, assessment.verdict());
    }
}

#[test]
fn encoded_endorsements_are_files_too() {
    let report = evidence("snp/oak-turin_oc_evidence.report-v5-3f44a0.bin");
    let now = at("2025-07-18T17:04:46Z");
    let stapled = amd_certificates().fit(&report, now).to_bytes();
    let mut builder = EndorsementsBuilder::new();
    builder.add_file_bytes(&stapled).unwrap();
    assert!(look(&report, &builder.fit(&report, now), now).verdict().is_accepted());
}

/// A VCEK alone will do: AMD's issuers are known, and verified like any other.
#[test]
fn issuers_of_amds_need_not_be_given() {
    let report = evidence("snp/oak-turin_oc_evidence.report-v5-3f44a0.bin");
    let now = at("2025-07-18T17:04:46Z");
    let mut builder = EndorsementsBuilder::new();
    builder.add_file_bytes(&read("amd-collateral/oak-SEV-VCEK-SEV-Turin-14889815.der")).unwrap();
    assert!(look(&report, &builder.fit(&report, now), now).verdict().is_accepted());
}

/// The only certificate there is gets used, so that the verdict can say what is wrong with it.
#[test]
fn s35_the_certificate_of_another_chip_is_refused_as_such() {
    let report = evidence("snp/oak-turin_oc_evidence.report-v5-3f44a0.bin");
    let now = at("2025-07-18T17:04:46Z");
    let mut builder = EndorsementsBuilder::new();
    builder.add_file_bytes(&read("amd-collateral/sev-SEV-VCEK-SEV-Turin-a4a6abff.der")).unwrap();
    let assessment = look(&report, &builder.fit(&report, now), now);
    assert_eq!(assessment.verdict().codes().collect::<Vec<_>>(), [Code::ReportSignatureInvalid]);
}

#[test]
fn what_endorses_nothing_is_said_so() {
    let mut builder = EndorsementsBuilder::new();
    for bytes in
        [&b""[..], b"{}", b"hello", b"{\"tcbInfo\":{}}", &[0x30, 0], &Endorsements::default().to_bytes()[1..]]
    {
        assert_eq!(builder.add_file_bytes(bytes), Err(Unrecognised));
    }
}

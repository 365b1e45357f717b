//! What Evidence needs of its vendor, when that ends, and floors for each list (S-18).

use appraisal::{
    AmdNeeds, Code, CollateralSubject, EndorsementsBuilder, Expiry, IntelNeeds, IntelTee, Needs,
    NeedsUnknown, PckCa, Policy, UnixTime, VekNeeds, assess, needs,
};
use crypto_aws_lc::AwsLc;
use evidence::bundle::{Bundle, Contents, Numbers};
use evidence::snp::ProductFamily;
use evidence::{CrlDer, Endorsements, Evidence};

use crate::vectors::{amd_certificates, at, dcap, evidence, look, read};

const TDX: &str = "tdx/dcap-qvl-tdx_quote.quote-v4-tdx-f1c850.bin";
const COLLATERAL: &str = "bundles/quote-v4-tdx-f1c85033-20250619T1016-e17.collateral.json";
const NOW: &str = "2025-07-04T10:16:31Z";
const GENOA: &str = "snp/oak-genoa_oc_evidence.report-v5-6d1cef.bin";

#[test]
fn quotes_tell_fmspc_and_ca() {
    for (file, tee, fmspc, ca, text) in [
        (TDX, IntelTee::Tdx, [0xb0, 0xc0, 0x6f, 0, 0, 0], PckCa::Platform, "tdx-b0c06f000000-platform"),
        (
            "sgx/dcap-qvl-sgx_quote.quote-v3-sgx-f8b810.bin",
            IntelTee::Sgx,
            [0, 0xa0, 0x67, 0x11, 0, 0],
            PckCa::Processor,
            "sgx-00a067110000-processor",
        ),
    ] {
        let needs = needs(&evidence(file)).unwrap().unwrap();
        assert_eq!(needs, Needs::Intel(IntelNeeds { tee, fmspc, ca }));
        assert_eq!(needs.to_string(), text);
    }
}

#[test]
fn reports_tell_chip_and_tcb() {
    let of = |file: &str| match needs(&evidence(file)).unwrap().unwrap() {
        Needs::Amd(needs) => needs,
        Needs::Intel(_) => panic!("{file}"),
    };
    let genoa = of(GENOA);
    assert_eq!(genoa.families, [ProductFamily::Genoa]);
    assert!(matches!(genoa.vek, VekNeeds::Vcek { tcb: [0x0a, 0, 0, 0, 0, 0, 0x19, 0x54], .. }));
    // Version 2 does not tell the product.
    assert_eq!(
        of("snp/sev-report_milan.report-v2-120d77.bin").families,
        [ProductFamily::Milan, ProductFamily::Genoa]
    );
    let vlek = of("snp/trustee-test-vlek-report.bin.report-v3-decdab.bin");
    assert!(matches!(vlek.vek, VekNeeds::Vlek { .. }));
    let turin = Needs::Amd(of("snp/oak-turin_oc_evidence.report-v5-3f44a0.bin")).to_string();
    assert_eq!(turin.len(), "snp-turin-".len() + 16 + 1 + 16, "a chip id of 8 bytes: {turin}");
}

#[test]
fn evidence_that_does_not_tell_says_why() {
    let of_kind_3 = evidence("sgx/dcap-ql-0.4.3-quote_raw_tcb.bin.quote-v3-sgx-2f59d4.bin");
    assert_eq!(needs(&of_kind_3), Err(NeedsUnknown::NoPckCertificate(3)));
    let changed = |change: fn(&mut Vec<u8>)| {
        let mut bytes = read(GENOA);
        change(&mut bytes);
        needs(&Evidence::parse(&bytes).unwrap())
    };
    // Flags lie at 0x48, CPUID at 0x188, CHIP_ID at 0x1a0.
    assert_eq!(changed(|bytes| bytes[0x48] |= 2), Err(NeedsUnknown::ChipMasked));
    assert_eq!(changed(|bytes| bytes[0x1a0..0x1e0].fill(0)), Err(NeedsUnknown::ChipMasked));
    assert_eq!(changed(|bytes| bytes[0x48] |= 7 << 2), Err(NeedsUnknown::NotSigned));
    let unknown = NeedsUnknown::UnknownProduct { family: 0x1b, model: 0x11 };
    assert_eq!(changed(|bytes| bytes[0x188] = 0x1b), Err(unknown));
}

#[test]
fn needs_have_a_text_form() {
    for file in [TDX, GENOA] {
        let needs = needs(&evidence(file)).unwrap().unwrap();
        let text = serde_json::to_string(&needs).unwrap();
        assert_eq!(serde_json::from_str::<Needs>(&text).unwrap(), needs, "{text}");
    }
    let amd = AmdNeeds { families: vec![], vek: VekNeeds::Vlek { tcb: [1; 8] } };
    assert_eq!(
        serde_json::to_string(&Needs::Amd(amd)).unwrap(),
        r#"{"amd":{"families":[],"vek":{"vlek":{"tcb":"0101010101010101"}}}}"#
    );
    assert!(
        serde_json::from_str::<Needs>(r#"{"intel":{"tee":"tdx","fmspc":"b0","ca":"platform"}}"#).is_err()
    );
}

fn codes(change: impl FnOnce(&mut Policy)) -> Vec<Code> {
    let mut policy = Policy::genuine();
    change(&mut policy);
    let assessment = assess(&evidence(TDX), &dcap(COLLATERAL), None, None, &policy, at(NOW), &AwsLc);
    assessment.verdict().codes().collect()
}

#[test]
fn s18_each_list_has_floors_of_its_own() {
    let later = |text: &str| Some(UnixTime(at(text).0 + 1));
    let (root, pck) = ("2025-03-20T11:21:57Z", "2025-06-19T10:00:35Z");
    assert_eq!(
        codes(|policy| {
            policy.minimum.root_ca_crl_number = Some(1);
            policy.minimum.pck_crl_number = Some(1);
            policy.minimum.root_ca_crl_issued = Some(at(root));
            policy.minimum.pck_crl_issued = Some(at(pck));
        }),
        []
    );
    let rolled_back = [Code::CollateralRolledBack];
    assert_eq!(codes(|policy| policy.minimum.root_ca_crl_number = Some(2)), rolled_back);
    assert_eq!(codes(|policy| policy.minimum.pck_crl_number = Some(2)), rolled_back);
    assert_eq!(codes(|policy| policy.minimum.root_ca_crl_issued = later(root)), rolled_back);
    assert_eq!(codes(|policy| policy.minimum.pck_crl_issued = later(pck)), rolled_back);
}

#[test]
fn statements_are_about_a_subject() {
    let fmspc = [0xb0, 0xc0, 0x6f, 0, 0, 0];
    let intel = IntelNeeds { tee: IntelTee::Tdx, fmspc, ca: PckCa::Platform };
    let subject = CollateralSubject::of(&evidence(TDX), &dcap(COLLATERAL));
    assert_eq!(subject, Some(CollateralSubject::Intel(intel)));
    let report = evidence("snp/sev-report_milan.report-v2-120d77.bin");
    let endorsements = amd_certificates().fit(&report, at("2023-04-04T19:23:43Z"));
    let subject = CollateralSubject::of(&report, &endorsements);
    assert_eq!(subject, Some(CollateralSubject::Amd(ProductFamily::Milan)), "by the certificate");
    assert_eq!(CollateralSubject::of(&report, &Endorsements::default()), None);
}

#[test]
fn bundles_are_recognised_by_content() {
    let contents = Contents {
        subject: "tdx".into(),
        made_at: 0,
        not_before: 0,
        not_after: 0,
        numbers: Numbers::default(),
        endorsements: dcap(COLLATERAL),
    };
    let bundle = Bundle { contents, signer: [0; 32], signature: [0; 64] };
    let mut builder = EndorsementsBuilder::new();
    builder.add_file_bytes(&bundle.to_bytes()).unwrap();
    let quote = evidence(TDX);
    assert!(look(&quote, &builder.fit(&quote, at(NOW)), at(NOW)).verdict().is_accepted());
    assert!(builder.add_file_bytes(&bundle.to_bytes()[1..]).is_err());
}

#[test]
fn expiry_looks_at_every_part() {
    let mut endorsements = dcap(COLLATERAL);
    let parts = |endorsements: &Endorsements| {
        let expiry = Expiry::of(endorsements);
        (expiry.parts.len(), expiry.unreadable)
    };
    // Two documents and two lists, each with two certificates beside it, save the root's list.
    assert_eq!(parts(&endorsements), (10, vec![]));
    let intel = endorsements.intel.as_mut().unwrap();
    intel.root_ca_crl = CrlDer(vec![0x30]);
    intel.tcb_info.body.truncate(10);
    assert_eq!(parts(&endorsements), (8, vec!["TCB info", "root CA CRL"]));
}

/// Azure's Evidence needs what the hardware's report or quote inside needs.
#[test]
fn azure_evidence_needs_what_its_hardware_needs() {
    let snp = evidence("azure/trustee-az-snp-evidence-v1.json");
    let Evidence::Azure(attestation) = &snp else { panic!("Azure's") };
    let evidence::azure::Hardware::Snp(report) = attestation.hcl().hardware() else { panic!("SNP") };
    let own = needs(&snp).unwrap().unwrap();
    assert_eq!(own, appraisal::needs_of_report(report.body()).unwrap());
    assert!(own.to_string().starts_with("snp-milan-"), "{own}");
    let subject = |given: &Endorsements| CollateralSubject::of(&snp, given);
    let milan = Some(CollateralSubject::Amd(ProductFamily::Milan));
    assert_eq!(subject(&Endorsements::default()), milan, "by the certificate that came with it");
    assert_eq!(subject(&amd_certificates().fit(&snp, at(NOW))), milan);

    let tdx = evidence("azure/trustee-az-tdx-evidence-v1.json");
    let Some(Needs::Intel(own)) = needs(&tdx).unwrap() else { panic!("Intel's") };
    assert_eq!(own.tee, IntelTee::Tdx);
    assert_eq!(CollateralSubject::of(&tdx, &Endorsements::default()), Some(CollateralSubject::Intel(own)));
}

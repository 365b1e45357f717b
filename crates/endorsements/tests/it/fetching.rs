//! What is fetched for a real piece of Evidence makes the appraisal accept it, at the time when it was recorded.

use appraisal::{Outcome, UnixTime};
use endorsements::{Cause, Client, Config, IntelService, Mode, Source, Update, Warning};
use evidence::{AmdCollateral, CertificateDer, Endorsements};

use crate::vectors::recorded;
use crate::vectors::{
    GENOA, GENOA_AT, SGX, SGX_2025, SGX_2025_AT, TDX, TDX_2025, TDX_2025_AT, at, client, config, evidence,
    look, read,
};
use testkit::vendor::{Vendor, proxy};

#[tokio::test]
async fn a_tdx_quote_gets_intels_collateral() {
    let vendor = Vendor::start().await;
    vendor.load_intel(TDX_2025);
    let (quote, now) = (evidence(TDX), at(TDX_2025_AT));
    let fetched = client(&vendor).endorsements_for(&quote, now).await.unwrap();
    assert!(fetched.endorsements == recorded(TDX_2025), "byte for byte");
    assert!(look(&quote, &fetched.endorsements, now).is_accepted());
    assert_eq!(fetched.requests(), 4);
    let mut asked = vendor.requests();
    asked.sort();
    let expected = [
        "/IntelSGXRootCA.der",
        "/sgx/certification/v4/pckcrl?ca=platform&encoding=der",
        "/tdx/certification/v4/qe/identity?update=standard",
        "/tdx/certification/v4/tcb?fmspc=b0c06f000000&update=standard",
    ];
    assert_eq!(asked, expected);
}

#[tokio::test]
async fn an_sgx_quote_gets_intels_collateral_from_a_pccs() {
    let vendor = Vendor::start().await;
    vendor.load_intel(SGX_2025);
    let (quote, now) = (evidence(SGX), at(SGX_2025_AT));
    let pccs = Config { intel: IntelService::pccs(vendor.base.clone()), ..config(&vendor) };
    let fetched = Client::new(pccs, None).unwrap().endorsements_for(&quote, now).await.unwrap();
    assert!(look(&quote, &fetched.endorsements, now).is_accepted());
    assert!(vendor.requests().contains(&"/sgx/certification/v4/rootcacrl".to_owned()));
    assert!(vendor.requests().contains(&"/sgx/certification/v4/pckcrl?ca=processor&encoding=der".to_owned()));
}

#[tokio::test]
async fn one_evaluation_can_be_asked_for() {
    let vendor = Vendor::start().await;
    vendor.load_intel(TDX_2025);
    let mut config = config(&vendor);
    config.intel.update = Update::Evaluation(17);
    let client = Client::new(config, None).unwrap();
    assert!(client.endorsements_for(&evidence(TDX), at(TDX_2025_AT)).await.is_ok());
    let asked = vendor.requests();
    assert!(
        asked.contains(&"/tdx/certification/v4/qe/identity?tcbEvaluationDataNumber=17".to_owned()),
        "{asked:?}"
    );
}

#[tokio::test]
async fn intels_evaluations_can_be_looked_up() {
    let vendor = Vendor::start().await;
    vendor.load_intel(SGX_2025);
    let client = client(&vendor);
    let now = at("2025-06-05T00:00:00Z");
    let numbers = client.evaluation_numbers(appraisal::IntelTee::Sgx, now).await.unwrap();
    assert!(numbers.body.starts_with(br#"{"id":"SGX","#) && !numbers.issuer_chain.is_empty());
    let refused = client.evaluation_numbers(appraisal::IntelTee::Tdx, now).await;
    assert_eq!(refused, Err(Cause::NotFound));
}

#[tokio::test]
async fn snp_reports_of_each_family_get_their_vcek() {
    let vendor = Vendor::start().await;
    for (file, now, path) in [
        (GENOA, GENOA_AT, "/vcek/v1/Genoa/"),
        ("snp/oak-turin_oc_evidence.report-v5-3f44a0.bin", "2025-07-18T17:04:46Z", "/vcek/v1/Turin/"),
        ("snp/oak-cb_evidence.report-v3-8af4ab.bin", "2025-02-04T18:21:46Z", "/vcek/v1/Milan/"),
        // Bergamo is a Genoa. AMD certified this key twice; by then both certificates are valid.
        (
            "snp/attestation-rs-live-report-v5-genoa.bin.report-v5-8fd941.bin",
            "2026-03-01T00:00:00Z",
            "/vcek/v1/Genoa/",
        ),
        // Version 2 does not tell the product.
        ("snp/sev-report_milan.report-v2-120d77.bin", "2023-04-04T19:23:43Z", "/vcek/v1/Milan/"),
    ] {
        let (report, now) = (evidence(file), at(now));
        let fetched =
            client(&vendor).endorsements_for(&report, now).await.unwrap_or_else(|error| panic!("{error}"));
        let verdict = look(&report, &fetched.endorsements, now);
        assert!(verdict.is_accepted(), "{file}: {verdict}");
        let amd = fetched.endorsements.amd.unwrap();
        assert_eq!(amd.issuer_chain.len(), 2);
        assert!(vendor.requests().last().unwrap().starts_with(path), "{file}");
    }
    let turin = vendor.requests().into_iter().find(|path| path.contains("fmcSPL=")).unwrap();
    let chip = turin.strip_prefix("/vcek/v1/Turin/").unwrap().split('?').next().unwrap();
    assert_eq!(chip.len(), 16, "eight bytes");
}

#[tokio::test]
async fn a_current_crl_of_amds_is_fetched_and_holds() {
    let vendor = Vendor::start().await;
    let (report, now) =
        (evidence("snp/steward-milan.signed.crl.csr.report-v2-21033d.bin"), at("2022-10-01T00:00:00Z"));
    let fetched = client(&vendor).endorsements_for(&report, now).await.unwrap();
    let verdict = look(&report, &fetched.endorsements, now);
    let revocation = verdict.checks().iter().find(|check| check.name == "revocation").unwrap();
    assert_eq!(revocation.outcome, Outcome::Passed, "{verdict}");
}

/// Revocation that cannot be had is said, and the policy decides.
#[tokio::test]
async fn a_missing_crl_of_amds_is_a_warning() {
    let vendor = Vendor::start().await;
    let report = evidence("snp/oak-turin_oc_evidence.report-v5-3f44a0.bin");
    let fetched = client(&vendor).endorsements_for(&report, at("2025-07-18T17:04:46Z")).await.unwrap();
    assert_eq!(fetched.endorsements.amd.unwrap().crl, None);
    let [Warning::Missing(missing)] = fetched.warnings.as_slice() else { panic!("{:?}", fetched.warnings) };
    assert_eq!((missing.part.as_str(), &missing.cause), ("CRL of ARK-Turin", &Cause::NotFound));
}

#[tokio::test]
async fn a_vlek_comes_with_the_evidence_or_not_at_all() {
    let vendor = Vendor::start().await;
    let (report, now) =
        (evidence("snp/trustee-test-vlek-report.bin.report-v3-decdab.bin"), at("2024-12-11T22:14:21Z"));
    let refused = client(&vendor).endorsements_for(&report, now).await.unwrap_err();
    assert_eq!(refused.failures[0].cause, Cause::NotPublic);
    assert!(refused.to_string().contains("extended guest request"), "{refused}");

    let vek = CertificateDer(read("amd-collateral/trustee-SEV-VLEK-SEV-VLEK-Milan-296a7c99.der"));
    let amd = AmdCollateral { vek, issuer_chain: vec![], crl: None };
    let given = Endorsements { amd: Some(amd), ..Endorsements::default() };
    let fetched = client(&vendor).complete(&report, given, now).await.unwrap();
    let verdict = look(&report, &fetched.endorsements, now);
    assert!(verdict.is_accepted(), "{verdict}");
    assert_eq!(vendor.requests(), ["/vlek/v1/Milan/cert_chain", "/vcek/v1/Milan/crl"]);
}

#[tokio::test]
async fn a_chip_that_amd_does_not_know_is_said_so() {
    let vendor = Vendor::start().await;
    let report = evidence("snp/oak-test_dice.report-v2-c7ff0a.bin");
    let refused = client(&vendor).endorsements_for(&report, UnixTime(0)).await.unwrap_err();
    let causes: Vec<_> = refused.failures.iter().map(|failure| failure.cause.clone()).collect();
    assert_eq!(causes, [Cause::NotFound, Cause::NotFound], "as Milan and as Genoa");
}

#[tokio::test]
async fn evidence_that_does_not_tell_its_platform_asks_nobody() {
    let vendor = Vendor::start().await;
    let quote = evidence("sgx/dcap-ql-0.4.3-quote_raw_tcb.bin.quote-v3-sgx-2f59d4.bin");
    let refused = client(&vendor).endorsements_for(&quote, UnixTime(0)).await.unwrap_err();
    assert!(matches!(refused.failures[0].cause, Cause::Unknown(_)));
    assert!(refused.to_string().contains("certification data of kind 3"), "{refused}");
    assert!(vendor.requests().is_empty());
}

#[tokio::test]
async fn offline_asks_nobody() {
    let vendor = Vendor::start().await;
    vendor.load_intel(TDX_2025);
    let client = Client::new(Config { mode: Mode::Offline, ..config(&vendor) }, None).unwrap();
    let refused = client.endorsements_for(&evidence(TDX), at(TDX_2025_AT)).await.unwrap_err();
    assert_eq!(refused.failures.len(), 4);
    assert!(refused.failures.iter().all(|failure| failure.cause == Cause::Offline));
    assert!(vendor.requests().is_empty());
}

#[tokio::test]
async fn ending_parts_are_warned_of() {
    let vendor = Vendor::start().await;
    vendor.load_intel(TDX_2025);
    let quote = evidence(TDX);
    let warnings =
        async |now: &str| client(&vendor).endorsements_for(&quote, at(now)).await.unwrap().warnings;
    assert_eq!(warnings(TDX_2025_AT).await, []);
    let soon = warnings("2025-07-16T10:00:00Z").await;
    assert!(matches!(soon[0], Warning::EndsSoon { days: 3 | 2, .. }), "{soon:?}");
    let ended = warnings("2025-08-01T00:00:00Z").await;
    assert!(
        ended.iter().any(|warning| matches!(warning, Warning::Ended { part: "PCK CRL", .. })),
        "{ended:?}"
    );
    assert!(ended[0].to_string().contains("ended on 2025-07-19T"), "{}", ended[0]);
}

#[tokio::test]
async fn a_list_is_prefetched_and_each_failure_is_its_own() {
    let vendor = Vendor::start().await;
    vendor.load_intel(TDX_2025);
    let needs = |file| appraisal::needs(&evidence(file)).unwrap().unwrap();
    // As an operator writes them down.
    let list = serde_json::to_string(&[needs(TDX), needs(SGX), needs(GENOA)]).unwrap();
    let list: Vec<appraisal::Needs> = serde_json::from_str(&list).unwrap();
    let results = client(&vendor).prefetch(&list, at(TDX_2025_AT)).await;
    assert!(results[0].is_ok() && results[2].is_ok());
    let refused = results[1].as_ref().unwrap_err();
    let parts: Vec<_> = refused.failures.iter().map(|failure| failure.part.as_str()).collect();
    let expected =
        ["TCB info of SGX for FMSPC 00a067110000", "QE identity of SGX", "CRL of Intel SGX PCK Processor CA"];
    assert_eq!(parts, expected);
    let parts = &results[0].as_ref().unwrap().parts;
    assert!(parts.iter().all(|part| part.source == Source::Vendor));
}

/// A PCCS in one's own network often has a certificate that no browser knows.
#[tokio::test]
async fn a_pccs_may_have_a_root_of_its_own() {
    let vendor = Vendor::start().await;
    vendor.load_intel(TDX_2025);
    let (base, root) = vendor.start_tls().await;
    let intel = IntelService::pccs(base);
    let fetch = async |tls_roots| {
        let config = Config { intel: intel.clone(), tls_roots, ..config(&vendor) };
        Client::new(config, None).unwrap().endorsements_for(&evidence(TDX), at(TDX_2025_AT)).await
    };
    let refused = fetch(vec![]).await.unwrap_err();
    let Cause::Unreachable(why) = &refused.failures[0].cause else { panic!("{refused}") };
    assert!(why.contains("invalid peer certificate"), "{why}");
    assert!(fetch(vec![root]).await.is_ok());
}

#[tokio::test]
async fn a_proxy_is_asked_to_connect() {
    let vendor = Vendor::start().await;
    vendor.load_intel(TDX_2025);
    let (base, root) = vendor.start_tls().await;
    let (proxy, asked) = proxy().await;
    let intel = IntelService::pccs(base.clone());
    let config = Config { intel, tls_roots: vec![root], proxy: Some(proxy), ..config(&vendor) };
    let client = Client::new(config, None).unwrap();
    assert!(client.endorsements_for(&evidence(TDX), at(TDX_2025_AT)).await.is_ok());
    let asked = asked.lock().unwrap().clone();
    assert!(!asked.is_empty() && asked.iter().all(|target| base.ends_with(target.as_str())), "{asked:?}");
}

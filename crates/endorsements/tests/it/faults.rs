//! Each way in which a vendor's service, or whoever stands between, can fail.

use std::sync::Arc;
use std::time::{Duration, Instant};

use endorsements::{Cause, Client, Config, FetchError, Fetched};

use crate::vectors::{GENOA, GENOA_AT, TDX, TDX_2025, TDX_2025_AT, at, client, config, evidence};
use testkit::vendor::{Fault, Vendor};

const TCB: &str = "/tdx/certification/v4/tcb";
const OTHER_TCB: &str = "/tdx/certification/v4/tcb?fmspc=90c06f000000&update=standard";

async fn vendor() -> Vendor {
    let vendor = Vendor::start().await;
    vendor.load_intel("bundles/quote-v4-tdx-140cbd8c-20260112T1546-e18.collateral.json");
    vendor.load_intel(TDX_2025);
    vendor
}

async fn fetch(client: &Client) -> Result<Fetched, FetchError> {
    client.endorsements_for(&evidence(TDX), at(TDX_2025_AT)).await
}

/// The one part that fails, and why.
async fn failing(fault: Fault) -> (Cause, Client, Vendor) {
    let vendor = vendor().await;
    vendor.fail(TCB, fault, usize::MAX);
    let client = client(&vendor);
    let error = fetch(&client).await.unwrap_err();
    assert_eq!(error.failures.len(), 1, "{error}");
    assert_eq!(error.failures[0].part, "TCB info of TDX for FMSPC b0c06f000000");
    assert!(error.to_string().ends_with(error.failures[0].cause.remedy()), "{error}");
    (error.failures[0].cause.clone(), client, vendor)
}

/// Tried again, and then good.
#[tokio::test]
async fn passing_faults_are_tried_again() {
    for fault in [
        Fault::Status(500, ""),
        Fault::Status(503, ""),
        Fault::Status(408, ""),
        Fault::Status(429, ""),
        Fault::Status(429, "retry-after: 0\r\n"),
        Fault::Truncated,
        Fault::Reset,
    ] {
        let vendor = vendor().await;
        vendor.fail(TCB, fault, 2);
        let client = client(&vendor);
        assert!(fetch(&client).await.is_ok(), "{fault:?}");
        assert_eq!(vendor.times(TCB).len(), 3, "{fault:?}");
        assert_eq!((client.counts().requests, client.counts().retries), (6, 2), "{fault:?}");
    }
}

#[tokio::test]
async fn tries_end() {
    let (cause, client, vendor) = failing(Fault::Status(500, "")).await;
    assert_eq!(cause, Cause::Status(500));
    assert_eq!(vendor.times(TCB).len(), 3);
    assert_eq!(client.counts().failures, 1);
    let (cause, ..) = failing(Fault::Reset).await;
    assert!(matches!(cause, Cause::Unreachable(_)), "{cause:?}");
}

#[tokio::test]
async fn final_answers_are_not_tried_again() {
    for (fault, cause) in [
        (Fault::Status(400, ""), Cause::Status(400)),
        (Fault::Status(401, ""), Cause::Status(401)),
        (Fault::Status(403, ""), Cause::Status(403)),
        (Fault::Status(404, ""), Cause::NotFound),
        // Redirects are not followed: the configuration says whom to ask.
        (Fault::Status(302, "location: http://127.0.0.1:1/\r\n"), Cause::Status(302)),
        (Fault::OversizedTold, Cause::TooLarge(128 * 1024)),
        (Fault::OversizedUntold, Cause::TooLarge(128 * 1024)),
        (Fault::Compressed, Cause::Encoded("gzip".into())),
    ] {
        let (seen, _, vendor) = failing(fault).await;
        assert_eq!(seen, cause);
        assert_eq!(vendor.times(TCB).len(), 1, "{fault:?}");
    }
}

#[tokio::test]
async fn what_was_not_asked_for_is_refused() {
    for (fault, says) in [
        (Fault::WebPage, "no header TCB-Info-Issuer-Chain"),
        (Fault::AnswerTo(OTHER_TCB), "TCB info of TDX for FMSPC 90c06f000000 instead of"),
        (Fault::BodyOf("/tdx/certification/v4/qe/identity?update=standard"), "TD_QE"),
        (Fault::BodyOf("/IntelSGXRootCA.der"), "expected struct Served"),
        (Fault::AnswerTo("/IntelSGXRootCA.der"), "no header TCB-Info-Issuer-Chain"),
        (Fault::WithoutHeader("TCB-Info-Issuer-Chain"), "no header TCB-Info-Issuer-Chain"),
        (
            Fault::IssuersOf("/sgx/certification/v4/pckcrl?ca=platform&encoding=der"),
            "without Intel SGX TCB Signing",
        ),
    ] {
        let (cause, _, vendor) = failing(fault).await;
        assert!(matches!(&cause, Cause::WrongContent(text) if text.contains(says)), "{fault:?}: {cause}");
        assert_eq!(vendor.times(TCB).len(), 1, "{fault:?}");
    }
}

#[tokio::test]
async fn lists_and_certificates_of_others_are_refused() {
    let vendor = vendor().await;
    vendor.fail("/pckcrl", Fault::AnswerTo("/IntelSGXRootCA.der"), usize::MAX);
    vendor.fail("/IntelSGXRootCA.der", Fault::AnswerTo("/sgx/certification/v4/rootcacrl"), usize::MAX);
    let error = fetch(&client(&vendor)).await.unwrap_err();
    // The text of a PCCS is the same list.
    assert_eq!(error.failures.len(), 1, "{error}");

    let milan = vendor.clone();
    let other = client(&milan);
    let report = evidence("snp/oak-cb_evidence.report-v3-8af4ab.bin");
    let _ = other.endorsements_for(&report, at("2025-02-04T18:21:46Z")).await.unwrap();
    let path = vendor.requests().into_iter().find(|path| path.starts_with("/vcek/v1/Milan/")).unwrap();
    vendor.fail("SPL=", Fault::WebPage, 1);
    vendor.fail("/vcek/v1/Genoa/", Fault::AnswerTo(path.leak()), 1);
    let error = client(&vendor).endorsements_for(&evidence(GENOA), at(GENOA_AT)).await.unwrap_err();
    assert!(matches!(error.failures[0].cause, Cause::WrongContent(_)), "{error}");
    let error = client(&vendor).endorsements_for(&evidence(GENOA), at(GENOA_AT)).await.unwrap_err();
    assert!(matches!(error.failures[0].cause, Cause::WrongContent(_)), "{error}");
}

/// Of the same product and TCB.
#[tokio::test]
async fn another_chips_certificate_is_refused() {
    let vendor = vendor().await;
    let fetch = async |file: &str| {
        client(&vendor).endorsements_for(&evidence(file), at("2025-06-01T00:00:00Z")).await
    };
    fetch("snp/attestation-rs-live-evidence.report-v3-ec43da.bin").await.unwrap();
    let path = vendor.requests().into_iter().find(|path| path.contains("SPL=")).unwrap();
    vendor.fail("SPL=", Fault::AnswerTo(path.leak()), 1);
    let error = fetch("snp/attestation-rs-milan-v3-attestation.report-v3-e38238.bin").await.unwrap_err();
    assert!(matches!(error.failures[0].cause, Cause::WrongContent(_)), "{error}");
    let error = error.to_string();
    assert!(error.contains("a certificate of SEV-VCEK instead of the VCEK of Milan chip"), "{error}");
}

#[tokio::test]
async fn slow_answers_are_given_up() {
    let vendor = vendor().await;
    vendor.fail(TCB, Fault::Slow(Duration::from_secs(60)), 1);
    let mut config = config(&vendor);
    config.timing.per_try = Duration::from_millis(200);
    let client = Client::new(config.clone(), None).unwrap();
    assert!(fetch(&client).await.is_ok(), "the second try was quick");

    // The deadline is for all tries together.
    vendor.fail(TCB, Fault::Slow(Duration::from_secs(60)), usize::MAX);
    config.timing.tries = 1000;
    config.timing.total = Duration::from_millis(500);
    let begun = Instant::now();
    let error = fetch(&Client::new(config, None).unwrap()).await.unwrap_err();
    assert!(matches!(error.failures[0].cause, Cause::TimedOut(_)), "{error}");
    assert!(begun.elapsed() < Duration::from_secs(5), "{:?}", begun.elapsed());
}

#[tokio::test]
async fn a_service_that_wants_rest_gets_it() {
    let vendor = vendor().await;
    vendor.fail(TCB, Fault::Status(429, "retry-after: 1\r\n"), 1);
    let client = client(&vendor);
    assert!(fetch(&client).await.is_ok());
    let times = vendor.times(TCB);
    let rest = times[1] - times[0];
    assert!((Duration::from_millis(950)..Duration::from_secs(3)).contains(&rest), "{rest:?}");
    assert_eq!(client.counts().rate_limited, 1);
}

#[tokio::test]
async fn a_date_can_be_the_end_of_rest() {
    let vendor = vendor().await;
    let headers = "date: Sat, 21 Nov 2026 07:00:00 GMT\r\nretry-after: Sat, 21 Nov 2026 07:00:01 GMT\r\n";
    vendor.fail(TCB, Fault::Status(429, headers), 1);
    assert!(fetch(&client(&vendor)).await.is_ok());
    let times = vendor.times(TCB);
    assert!(times[1] - times[0] >= Duration::from_millis(950));
}

/// Whoever waited for nothing would be told off again, and everybody behind the same address with them.
#[tokio::test]
async fn a_rest_beyond_the_deadline_is_told_at_once_and_kept_by_all() {
    let vendor = vendor().await;
    vendor.fail("/vcek/v1/Genoa/", Fault::Status(429, "retry-after: 3600\r\n"), 1);
    let client = client(&vendor);
    let begun = Instant::now();
    let error = client.endorsements_for(&evidence(GENOA), at(GENOA_AT)).await.unwrap_err();
    assert_eq!(error.failures[0].cause, Cause::RateLimited(Some(Duration::from_secs(3600))));
    assert!(error.to_string().contains("wants 3600 s of rest"), "{error}");
    let again = client.endorsements_for(&evidence(GENOA), at(GENOA_AT)).await.unwrap_err();
    assert!(matches!(again.failures[0].cause, Cause::RateLimited(Some(_))), "{again}");
    assert_eq!(vendor.requests().len(), 1, "nobody asked again");
    assert!(begun.elapsed() < Duration::from_secs(5));
}

#[tokio::test]
async fn vceks_are_asked_for_at_amds_pace() {
    let vendor = vendor().await;
    let mut config = config(&vendor);
    config.timing.vcek_pace = Duration::from_millis(300);
    let client = Client::new(config, None).unwrap();
    let needs = |file| appraisal::needs(&evidence(file)).unwrap().unwrap();
    let list =
        [GENOA, "snp/oak-turin_oc_evidence.report-v5-3f44a0.bin", "snp/oak-cb_evidence.report-v3-8af4ab.bin"];
    let results = client.prefetch(&list.map(needs), at(GENOA_AT)).await;
    assert!(results.iter().all(Result::is_ok));
    let times = vendor.times("SPL=");
    assert_eq!(times.len(), 3);
    assert!(times.windows(2).all(|pair| pair[1] - pair[0] >= Duration::from_millis(280)), "{times:?}");
}

#[tokio::test]
async fn waits_grow_and_are_spread() {
    let waited = async |jitter: f64| {
        let vendor = vendor().await;
        vendor.fail(TCB, Fault::Status(500, ""), 3);
        let mut config = Config { jitter: Arc::new(move || jitter), ..config(&vendor) };
        config.timing.first_backoff = Duration::from_millis(100);
        config.timing.longest_backoff = Duration::from_millis(200);
        config.timing.tries = 4;
        assert!(fetch(&Client::new(config, None).unwrap()).await.is_ok());
        let times = vendor.times(TCB);
        times.windows(2).map(|pair| pair[1] - pair[0]).collect::<Vec<_>>()
    };
    let (least, most) = (waited(0.0).await, waited(1.0).await);
    for (index, (least, most)) in least.iter().zip(&most).enumerate() {
        let full = Duration::from_millis([100, 200, 200][index]);
        assert!((full / 2..full).contains(least), "{index}: {least:?}");
        assert!(*most >= full, "{index}: {most:?}");
    }
}

#[tokio::test]
async fn plain_http_to_elsewhere_is_not_asked() {
    let vendor = vendor().await;
    let elsewhere = Config { amd: "http://kds.example".into(), ..config(&vendor) };
    let error = Client::new(elsewhere, None)
        .unwrap()
        .endorsements_for(&evidence(GENOA), at(GENOA_AT))
        .await
        .unwrap_err();
    assert!(matches!(error.failures[0].cause, Cause::Address(_)), "{error}");
}

//! `bailey endorsements` and what `bailey evidence verify` does with it, against the server that plays the vendors.

use std::path::Path;
use std::process::{Command, Output};
use std::time::Duration;

use serde_json::Value;
use tempfile::TempDir;
use testkit::vectors::path;
use testkit::vendor::{Fault, Vendor};

use crate::text;

const TDX: &str = "tdx/dcap-qvl-tdx_quote.quote-v4-tdx-f1c850.bin";
const TDX_2025: &str = "bundles/quote-v4-tdx-f1c85033-20250619T1016-e17.collateral.json";
const TDX_AT: &str = "2025-07-04T10:16:31Z";
const GENOA: &str = "snp/oak-genoa_oc_evidence.report-v5-6d1cef.bin";
const GENOA_AT: &str = "2025-08-08T17:21:41Z";
/// One evaluation, and lists of 2026-02-18 and of 2026-03-16; both hold on the 17th.
const ROLLED: &str = "tdx/attestation-rs-live-evidence.quote-v4-tdx-140cbd.bin";
const FEBRUARY: &str = "bundles/quote-v4-tdx-140cbd8c-20260218T1058-e18.collateral.json";
const MARCH: &str = "bundles/quote-v4-tdx-140cbd8c-20260316T2206-e18.collateral.json";
const BOTH_HOLD: &str = "2026-03-17T00:00:00Z";

fn vector(file: &str) -> String {
    path(file).display().to_string()
}

/// Runs in a folder of its own, with a cache there, whatever the environment says of proxies.
fn bailey(folder: &TempDir, arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_bailey"))
        .args(arguments)
        .current_dir(folder.path())
        .env("XDG_CACHE_HOME", folder.path().join("cache"))
        .env_remove("HTTPS_PROXY")
        .output()
        .expect("bailey runs")
}

/// What it says on standard output, when it ends well.
fn said(folder: &TempDir, arguments: &[&str]) -> String {
    let output = bailey(folder, arguments);
    assert!(output.status.success(), "{arguments:?}: {}{}", text(&output.stdout), text(&output.stderr));
    text(&output.stdout)
}

/// What it says on standard error, when it ends with this code.
fn complained(folder: &TempDir, code: i32, arguments: &[&str]) -> String {
    let output = bailey(folder, arguments);
    let said = text(&output.stderr);
    assert_eq!(output.status.code(), Some(code), "{arguments:?}: {said}{}", text(&output.stdout));
    said
}

fn codes(output: &Output) -> Vec<String> {
    let verdict: Value = serde_json::from_slice(&output.stdout).expect("a verdict");
    let reasons = verdict["reasons"].as_array().expect("reasons");
    reasons.iter().filter_map(|reason| Some(reason["code"].as_str()?.to_owned())).collect()
}

async fn intel(collateral: &str) -> (TempDir, Vendor) {
    let vendor = Vendor::start().await;
    vendor.load_intel(collateral);
    (tempfile::tempdir().expect("a folder"), vendor)
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_fetched_is_told_and_is_enough_to_verify() {
    let (folder, vendor) = intel(TDX_2025).await;
    let quote = vector(TDX);
    let fetch = [
        "endorsements",
        "fetch",
        &quote,
        "--intel",
        &vendor.base,
        "--at",
        TDX_AT,
        "--output",
        "fetched.cbor",
    ];
    let told = said(&folder, &fetch);
    for part in [
        "tdx-b0c06f000000-platform",
        "TCB info of TDX for FMSPC b0c06f000000: from http://127.0.0.1",
        "/tdx/certification/v4/tcb?fmspc=b0c06f000000&update=standard",
        "2025-07-19T10:00:35Z",
        "written to fetched.cbor",
    ] {
        assert!(told.contains(part), "{part}: {told}");
    }
    let verify = ["evidence", "verify", &quote, "--endorsements", "fetched.cbor", "--at", TDX_AT];
    assert!(said(&folder, &verify).contains("accepted"));
    // Without them, nobody is asked, and the Evidence is refused.
    let asked = vendor.requests().len();
    assert!(complained(&folder, 1, &["evidence", "verify", &quote, "--at", TDX_AT]).contains("MISSING"));
    // A second time, from the cache.
    let told = said(&folder, &fetch);
    assert!(told.contains("from the cache, first from http://127.0.0.1"), "{told}");
    assert_eq!(vendor.requests().len(), asked);
    let offline = [&fetch[..], &["--offline", "--json"]].concat();
    let told: Value = serde_json::from_str(&said(&folder, &offline)).expect("JSON");
    assert_eq!(told[0]["parts"][0]["source"], "cache");
    assert_eq!(told[0]["endorsements"]["intel"]["tcb_info"]["evaluation"], "17");
    assert_eq!(told[0]["window"]["holds_until"], "2025-07-19T10:00:35Z");
}

#[tokio::test(flavor = "multi_thread")]
async fn amd_is_asked_for_chips() {
    let vendor = Vendor::start().await;
    let folder = tempfile::tempdir().expect("a folder");
    let report = vector(GENOA);
    let told = said(
        &folder,
        &["evidence", "verify", &report, "--fetch", "--amd", &vendor.base, "--at", GENOA_AT, "--json"],
    );
    let verdict: Value = serde_json::from_str(&told).expect("a verdict");
    assert_eq!((&verdict["verdict"], &verdict["platform"]), (&"accepted".into(), &"snp".into()));
    assert!(vendor.requests().iter().any(|path| path.starts_with("/vcek/v1/Genoa/")));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_had_is_said_with_what_would_mend_it() {
    let vendor = Vendor::start().await;
    let folder = tempfile::tempdir().expect("a folder");
    let quote = vector(TDX);
    let complaint = complained(
        &folder,
        1,
        &[
            "endorsements",
            "fetch",
            &quote,
            "--intel",
            &vendor.base,
            "--at",
            TDX_AT,
            "--output",
            "fetched.cbor",
        ],
    );
    assert!(complaint.contains("4 parts could not be fetched"), "{complaint}");
    assert!(complaint.contains("the service has none (404)"), "{complaint}");
    assert!(!folder.path().join("fetched.cbor").exists());
    // The verdict is the same as without fetching, and both are said.
    let output = bailey(
        &folder,
        &["evidence", "verify", &quote, "--fetch", "--intel", &vendor.base, "--at", TDX_AT, "--json"],
    );
    assert_eq!(output.status.code(), Some(1));
    assert!(text(&output.stderr).contains("not fetched: TCB info"), "{}", text(&output.stderr));
    assert!(codes(&output).iter().any(|code| code.contains("MISSING")));
    // Services are for fetching; to name one and not to fetch is a mistake.
    let complaint = complained(&folder, 2, &["evidence", "verify", &quote, "--intel", &vendor.base]);
    assert!(complaint.contains("without --fetch"), "{complaint}");
    let nitro = testkit::vectors::path("nitro");
    let nitro = std::fs::read_dir(nitro).expect("vectors").map(|entry| entry.expect("an entry").path());
    let nitro = nitro.map(|path| path.display().to_string()).find(|path| path.ends_with(".bin"));
    if let Some(other) = nitro {
        let told = bailey(&folder, &["endorsements", "fetch", &other, "--intel", &vendor.base]);
        assert!(text(&told.stderr).contains("carries all"), "{}", text(&told.stderr));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn long_waits_are_spoken_of() {
    let (folder, vendor) = intel(TDX_2025).await;
    vendor.fail("/tdx/certification/v4/tcb", Fault::Slow(Duration::from_millis(2500)), 1);
    let output =
        bailey(&folder, &["endorsements", "fetch", &vector(TDX), "--intel", &vendor.base, "--at", TDX_AT]);
    assert!(output.status.success());
    assert!(text(&output.stderr).contains("asking the vendor's service (tdx): 2 s so far"));
}

#[tokio::test(flavor = "multi_thread")]
async fn s18_what_was_seen_is_remembered_and_older_is_refused() {
    let (folder, vendor) = intel(MARCH).await;
    let (quote, february) = (vector(ROLLED), vector(FEBRUARY));
    let older = ["evidence", "verify", &quote, "--endorsements", &february, "--at", BOTH_HOLD, "--json"];
    said(&folder, &older);
    said(&folder, &["evidence", "verify", &quote, "--fetch", "--intel", &vendor.base, "--at", BOTH_HOLD]);
    let floors = folder.path().join("cache/bailey/floors.json");
    assert!(std::fs::read_to_string(&floors).expect("floors").contains("Intel SGX Root CA"));
    let floors = floors.display().to_string();
    let refused = bailey(&folder, &[&older[..], &["--floors", &floors]].concat());
    assert_eq!(refused.status.code(), Some(1));
    assert!(codes(&refused).iter().all(|code| code == "COLLATERAL_ROLLED_BACK"));
    // Whoever does not ask to remember is not told.
    said(&folder, &older);
    // A file that is no file of floors is not taken for "nothing was seen".
    let broken = folder.path().join("broken.json");
    std::fs::write(&broken, "{}").expect("written");
    complained(&folder, 1, &[&older[..], &["--floors", "broken.json"]].concat());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refusal_is_not_remembered() {
    let (folder, vendor) = intel(MARCH).await;
    let wrong = "00".repeat(64);
    let complaint = complained(
        &folder,
        1,
        &[
            "evidence",
            "verify",
            &vector(ROLLED),
            "--fetch",
            "--intel",
            &vendor.base,
            "--at",
            BOTH_HOLD,
            "--report-data",
            &wrong,
        ],
    );
    assert!(complaint.contains("REPORT_DATA_MISMATCH"), "{complaint}");
    assert!(!folder.path().join("cache/bailey/floors.json").exists());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bundle_is_carried_to_a_verifier_without_a_network() {
    let (folder, vendor) = intel(TDX_2025).await;
    let quote = vector(TDX);
    let told = said(
        &folder,
        &[
            "endorsements",
            "bundle",
            &quote,
            "--key",
            "maker.key",
            "--intel",
            &vendor.base,
            "--at",
            TDX_AT,
            "--output",
            "tdx.bundle",
        ],
    );
    let bytes = std::fs::read(folder.path().join("tdx.bundle")).expect("a bundle");
    let digest = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, &bytes);
    let digest: String = digest.as_ref().iter().map(|byte| format!("{byte:02x}")).collect();
    assert!(told.contains(&format!("sha256:{digest}")), "{told}");
    assert!(told.contains("maker.key.pub for whoever checks"), "{told}");

    let verify = ["evidence", "verify", &quote, "--endorsements", "tdx.bundle", "--at", TDX_AT];
    let anyone = bailey(&folder, &verify);
    assert!(anyone.status.success() && text(&anyone.stderr).contains("not checked against a known signer"));
    let named = bailey(&folder, &[&verify[..], &["--bundle-signer", "maker.key.pub"]].concat());
    assert!(named.status.success() && text(&named.stderr).is_empty(), "{}", text(&named.stderr));

    let shown = said(&folder, &["endorsements", "show", "tdx.bundle", "--at", TDX_AT, "--json"]);
    let shown: Value = serde_json::from_str(&shown).expect("JSON");
    assert_eq!(shown["kind"], "bundle");
    assert_eq!(shown["subject"], "tdx-b0c06f000000-platform");
    assert_eq!(shown["numbers"]["evaluation"], "17");
    assert_eq!(shown["intel"]["pck_crl"]["number"], "1");
    assert_eq!(shown["signature"], "not checked against a known signer");
    assert_eq!(shown["days_left"], "14");
    let shown = said(
        &folder,
        &["endorsements", "show", "tdx.bundle", "--at", TDX_AT, "--bundle-signer", "maker.key.pub"],
    );
    assert!(
        shown.lines().any(|line| line.contains("signature") && line.ends_with(" verified"))
            && shown.contains("holds_until"),
        "{shown}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_named_signer_is_demanded_of_everything() {
    let folder = tempfile::tempdir().expect("a folder");
    let (quote, collateral) = (vector(TDX), vector(TDX_2025));
    let make = |key: &str, output: &str| {
        said(
            &folder,
            &[
                "endorsements",
                "bundle",
                &quote,
                "--endorsements",
                &collateral,
                "--key",
                key,
                "--at",
                TDX_AT,
                "--output",
                output,
            ],
        )
    };
    make("maker.key", "mine.bundle");
    make("other.key", "other.bundle");
    let verify = |endorsements: &str| {
        let signer = ["--bundle-signer", "maker.key.pub", "--at", TDX_AT];
        let start = ["evidence", "verify", &quote, "--endorsements", endorsements];
        complained(&folder, 1, &[&start[..], &signer].concat())
    };
    assert!(verify("other.bundle").contains("was made by the holder of key"));
    // Altered, so that the name of the signer stays.
    let mut altered = std::fs::read(folder.path().join("mine.bundle")).expect("a bundle");
    *altered.last_mut().expect("bytes") ^= 1;
    std::fs::write(folder.path().join("altered.bundle"), &altered).expect("written");
    assert!(verify("altered.bundle").contains("signature does not verify"));
    // What nobody signed is no way around.
    assert!(verify(&collateral).contains("nobody signed it"));
    // Nor is a folder in which the good one is not.
    let beside = folder.path().join("beside");
    std::fs::create_dir(&beside).expect("made");
    std::fs::copy(folder.path().join("other.bundle"), beside.join("other.bundle")).expect("copied");
    std::fs::copy(path(TDX_2025), beside.join("collateral.json")).expect("copied");
    let complaint = verify("beside");
    assert!(complaint.contains("passed over 2 files") && complaint.contains("MISSING"), "{complaint}");
    // A key is not made over a file that is there.
    std::fs::write(folder.path().join("maker.key"), "no key").expect("written");
    let complaint = complained(
        &folder,
        2,
        &[
            "endorsements",
            "bundle",
            &quote,
            "--endorsements",
            &collateral,
            "--key",
            "maker.key",
            "--at",
            TDX_AT,
        ],
    );
    assert!(complaint.contains("no PEM private key"), "{complaint}");
}

/// Every command of the page is run, in its order; only the addresses of services and the time are the test's.
#[tokio::test(flavor = "multi_thread")]
async fn the_commands_of_the_page_work() {
    let (folder, vendor) = intel(TDX_2025).await;
    let page = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/endorsements.md");
    let page = std::fs::read_to_string(page).expect("the page");
    std::fs::copy(path(TDX), folder.path().join("quote.bin")).expect("copied");
    let mut count = 0;
    for line in page.lines().filter_map(|line| line.strip_prefix("$ bailey ")) {
        let mut words: Vec<&str> = line.split_whitespace().collect();
        words.extend(["--at", TDX_AT]);
        let asks = match words[..2] {
            ["endorsements", "bundle"] => !words.contains(&"--endorsements"),
            ["endorsements", "fetch"] => true,
            _ => words.contains(&"--fetch"),
        };
        if asks {
            words.extend(["--intel", &vendor.base]);
        }
        said(&folder, &words);
        count += 1;
    }
    assert!(count >= 7, "{count}");
}

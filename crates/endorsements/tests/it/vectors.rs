//! The recorded vectors of the crate `appraisal`, and how these tests look at them.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use appraisal::{
    Appraised, Policy, ReferenceValue, ReferenceValues, Refused, UnixTime, Verdict, appraise, assess,
};
use crypto_aws_lc::AwsLc;
use endorsements::{Cache, Client, Config, IntelService, Timing};
use evidence::{CertificateDer, Endorsements, Evidence};

use crate::vendor::Vendor;

pub const TDX: &str = "tdx/dcap-qvl-tdx_quote.quote-v4-tdx-f1c850.bin";
pub const TDX_2025: &str = "bundles/quote-v4-tdx-f1c85033-20250619T1016-e17.collateral.json";
pub const TDX_2025_AT: &str = "2025-07-04T10:16:31Z";
pub const TDX_2026: &str = "bundles/quote-v4-tdx-f1c85033-20260301T1936-e18.collateral.json";
pub const TDX_2026_AT: &str = "2026-03-11T03:08:59Z";
pub const SGX: &str = "sgx/dcap-qvl-sgx_quote.quote-v3-sgx-f8b810.bin";
pub const SGX_2025: &str = "bundles/quote-v3-sgx-f8b81014-20250619T1056-e17.collateral.json";
pub const SGX_2025_AT: &str = "2025-07-04T10:28:44Z";
pub const GENOA: &str = "snp/oak-genoa_oc_evidence.report-v5-6d1cef.bin";
pub const GENOA_AT: &str = "2025-08-08T17:21:41Z";

fn appraisal() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../appraisal")
}

pub fn read(file: &str) -> Vec<u8> {
    let path = appraisal().join("tests/vectors").join(file);
    std::fs::read(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

pub fn root(file: &str) -> CertificateDer {
    CertificateDer(std::fs::read(appraisal().join("roots").join(file)).unwrap())
}

pub fn amd_files(extension: &str) -> impl Iterator<Item = (String, Vec<u8>)> {
    let directory = std::fs::read_dir(appraisal().join("tests/vectors/amd-collateral")).unwrap();
    let names = directory.map(|entry| entry.unwrap().file_name().into_string().unwrap());
    let names: Vec<_> = names.filter(|name| name.ends_with(extension)).collect();
    names.into_iter().map(|name| (name.clone(), read(&format!("amd-collateral/{name}"))))
}

pub fn evidence(file: &str) -> Evidence {
    Evidence::parse(&read(file)).unwrap_or_else(|error| panic!("{file}: {error}"))
}

pub fn dcap(file: &str) -> Endorsements {
    Endorsements::from_dcap_json(&read(file)).unwrap_or_else(|error| panic!("{file}: {error}"))
}

pub fn at(text: &str) -> UnixTime {
    text.parse().unwrap()
}

/// A configuration that asks the local server, and does not wait long.
pub fn config(vendor: &Vendor) -> Config {
    Config {
        intel: IntelService {
            root_ca_crl: format!("{}/IntelSGXRootCA.der", vendor.base),
            ..IntelService::pccs(vendor.base.clone())
        },
        amd: vendor.base.clone(),
        timing: Timing {
            per_try: Duration::from_secs(5),
            total: Duration::from_secs(20),
            tries: 3,
            refresh: Duration::from_secs(5),
            refresh_pause: Duration::ZERO,
            first_backoff: Duration::from_millis(4),
            longest_backoff: Duration::from_millis(10),
            vcek_pace: Duration::from_millis(1),
        },
        jitter: Arc::new(|| 0.5),
        ..Config::default()
    }
}

pub fn client(vendor: &Vendor) -> Client {
    Client::new(config(vendor), None).unwrap()
}

pub fn cached_client(vendor: &Vendor, directory: &Path) -> Client {
    Client::new(config(vendor), Some(Cache::open(directory).unwrap())).unwrap()
}

/// The verdict on authenticity, validity and TCB.
pub fn look(evidence: &Evidence, endorsements: &Endorsements, now: UnixTime) -> Verdict {
    assess(evidence, endorsements, None, None, &Policy::genuine(), now, &AwsLc).verdict().clone()
}

/// An appraisal that expects of the Evidence what it says itself.
pub fn appraise_under(
    policy: &Policy,
    evidence: &Evidence,
    endorsements: &Endorsements,
    now: UnixTime,
) -> Result<Appraised, Refused> {
    let measurement = evidence.measurement().unwrap();
    let reference = ReferenceValues {
        report_data: evidence.covered(),
        measurements: vec![ReferenceValue::program("own", evidence.platform(), measurement)],
    };
    appraise(evidence, endorsements, &reference, policy, now, &AwsLc)
}

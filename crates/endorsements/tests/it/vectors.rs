//! The recorded vectors of the crate `appraisal`, and how these tests look at them.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use appraisal::{
    Appraised, Policy, ReferenceValue, ReferenceValues, Refused, UnixTime, Verdict, appraise, assess,
};
use crypto_aws_lc::AwsLc;
use endorsements::{Cache, Client, Config, IntelService, Timing};
use evidence::{Endorsements, Evidence};

use testkit::vendor::Vendor;

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

pub use testkit::vectors::{amd_files, at, dcap as recorded, evidence, read, root};

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

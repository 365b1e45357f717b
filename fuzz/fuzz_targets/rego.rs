//! A Rego policy of any text over one verdict that accepts: read, admitted, run within its limits, or refused.
#![no_main]

use std::sync::{Arc, LazyLock};

use appraisal::{Examination, UnixTime};
use crypto_aws_lc::AwsLc;
use policy_rego::{Limits, Rego};

static EXAMINATION: LazyLock<Examination> = LazyLock::new(|| {
    let mut examination =
        Examination::new(include_bytes!("../../crates/appraisal/tests/vectors/negatives/tdx4-ok.quote"))
            .expect("the vector is Evidence");
    examination
        .endorse(include_bytes!("../../crates/appraisal/tests/vectors/negatives/tdx4-ok.collateral.json"))
        .expect("the vector endorses it");
    examination
});

libfuzzer_sys::fuzz_target!(|policy: &str| {
    let limits = Limits { steps: 2000, ..Limits::default() };
    let Ok(rego) = Rego::new(format!("package bailey\n{policy}"), limits) else { return };
    let mut examination = EXAMINATION.clone();
    examination.narrow_by(Arc::new(rego));
    let _ = examination.assess(UnixTime(1_751_624_191), &AwsLc).render(false);
});

//! Reports of NVIDIA devices in all their forms, and their appraisal without Endorsements: no input can carry NVIDIA's
//! signature over something new.
#![no_main]

use appraisal::{Policy, UnixTime, assess};
use crypto_aws_lc::AwsLc;
use evidence::nvidia::Attestation;
use evidence::{Endorsements, Evidence};

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    let Ok(attestation) = Attestation::parse(bytes) else { return };
    let evidence = Evidence::Nvidia(Box::new(attestation));
    let _ = evidence.measured();
    let verdict = assess(&evidence, &Endorsements::default(), None, None, &Policy::genuine(), UnixTime(0), &AwsLc);
    assert!(!verdict.verdict().is_accepted());
});

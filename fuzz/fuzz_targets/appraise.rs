//! Appraisal whole: a length, Evidence of that length, and the rest as encoded Endorsements or collateral. No
//! input can carry a vendor's signature over something new, so none may be accepted in a time without one.
#![no_main]

use appraisal::{EndorsementsBuilder, Policy, UnixTime, assess};
use crypto_aws_lc::AwsLc;
use evidence::Evidence;

libfuzzer_sys::fuzz_target!(|input: &[u8]| {
    let Some((length, rest)) = input.split_first_chunk::<2>() else { return };
    let Some((quote, stapled)) = rest.split_at_checked(usize::from(u16::from_le_bytes(*length))) else { return };
    let Ok(evidence) = Evidence::parse(quote) else { return };
    let mut builder = EndorsementsBuilder::new();
    let _ = builder.add_file_bytes(stapled);
    let now = UnixTime(0);
    let endorsements = builder.fit(&evidence, now);
    let assessment = assess(&evidence, &endorsements, None, None, &Policy::genuine(), now, &AwsLc);
    assert!(!assessment.verdict().is_accepted());
    let _ = assessment.verdict().render_all(true);
});

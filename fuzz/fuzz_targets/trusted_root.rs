//! Trust roots of Sigstore instances.
#![no_main]

use appraisal::UnixTime;
use reference_statements::TrustRoot;

libfuzzer_sys::fuzz_target!(|text: &str| drop(TrustRoot::from_json(text, UnixTime(1_790_000_000))));

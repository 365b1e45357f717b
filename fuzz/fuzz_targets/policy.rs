//! Appraisal policies and reference values as JSON.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    let _ = serde_json::from_slice::<appraisal::Policy>(bytes);
    let _ = serde_json::from_slice::<appraisal::ReferenceValue>(bytes);
});

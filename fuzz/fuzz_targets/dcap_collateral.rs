//! Intel collateral as DCAP's JSON.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    let _ = evidence::Endorsements::from_dcap_json(bytes);
});

//! Certificate requests for SVIDs: what passes is a P-256 key that signed it.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    let _ = coordinator::authority::requested_key(bytes);
});

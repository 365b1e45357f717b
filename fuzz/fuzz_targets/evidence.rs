//! Evidence of any platform: `Evidence::parse`.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    let _ = evidence::Evidence::parse(bytes);
});

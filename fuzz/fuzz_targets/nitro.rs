//! Documents of AWS Nitro Enclaves, and certificates that carry one: `nitro::Document::parse`.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    if let Ok(document) = evidence::nitro::Document::parse(bytes) {
        let _ = (document.measured(), document.measurement(), document.is_debug(), document.sign1().signed());
    }
});

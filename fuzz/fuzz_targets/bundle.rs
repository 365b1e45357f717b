//! Bundles: what decodes encodes to the same bytes.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    if let Ok(bundle) = evidence::bundle::Bundle::from_bytes(bytes) {
        assert_eq!(bundle.to_bytes(), bytes);
    }
});

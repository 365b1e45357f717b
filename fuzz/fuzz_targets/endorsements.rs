//! Encoded Endorsements: what decodes encodes to the same bytes.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    if let Ok(endorsements) = evidence::Endorsements::from_bytes(bytes) {
        assert_eq!(endorsements.to_bytes(), bytes);
    }
});

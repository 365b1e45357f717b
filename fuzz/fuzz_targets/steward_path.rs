//! What Steward answers.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    if let Ok(certificates) = attested_tls::steward::certificates(bytes) {
        let content: usize = certificates.iter().map(|certificate| certificate.len()).sum();
        assert!(content <= bytes.len());
    }
});

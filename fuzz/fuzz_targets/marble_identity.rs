//! Certificates that may carry a Marble's identity.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    let _ = attested_tls::marble::MarbleIdentity::of_certificate(bytes);
    let _ = attested_tls::key::SpkiDigest::of_certificate(bytes);
});

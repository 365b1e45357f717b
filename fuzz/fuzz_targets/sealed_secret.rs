//! Sealed secrets, before anything of them is verified, and keys that verify them.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    if let Ok(text) = str::from_utf8(bytes) {
        let _ = sealed_secret::Sealed::parse(text);
    }
    let _ = sealed_secret::VerifyingKey::from_jwk(bytes);
});

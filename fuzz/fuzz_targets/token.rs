//! OIDC tokens of users, before anything of them is verified: `Unverified::parse`.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    if let Ok(text) = str::from_utf8(bytes) {
        let _ = coordinator::core::token::Unverified::parse(text);
    }
});

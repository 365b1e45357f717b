//! Signed attestation results, before their signature is looked at: `Token::parse`.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    if let Ok(token) = attestation_result::Token::parse(bytes) {
        let _ = token.unverified_claims();
    }
});

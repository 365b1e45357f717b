//! Tokens of Arm CCA, the two sets of claims by themselves, and files with trust anchors.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    if let Ok(token) = evidence::cca::Token::parse(bytes) {
        let _ = (token.measured(), token.measurement(), token.platform().signed(), token.realm().signed());
    }
    let _ = evidence::cca::PlatformClaims::parse(bytes);
    let _ = evidence::cca::RealmClaims::parse(bytes);
    let _ = appraisal::TrustAnchor::from_file_bytes("fuzz", bytes);
});

//! Attestation tokens before their signature is looked at, and sets of keys that they are checked by:
//! `coco::Unverified::parse`, `coco::Verifier::with_jwks`.
#![no_main]

use attestation_result::coco::{Unverified, Verifier};

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    if let Ok(token) = str::from_utf8(bytes).map_err(drop).and_then(|text| Unverified::parse(text).map_err(drop)) {
        assert_eq!(token.key_id().len(), 32);
        assert!(token.chain().len() <= 3);
    }
    let _ = Verifier::with_jwks(bytes, "issuer", "audience");
});

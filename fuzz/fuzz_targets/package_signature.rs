//! Bundles and statements about packages, and the challenges of registries: without signers, nothing is believed.
#![no_main]

use package::SignedStatement;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    reference_statements::parsers::attestation(bytes);
    if let Ok(statement) = SignedStatement::read(bytes) {
        assert_eq!(SignedStatement::read(&statement.to_json()), Ok(statement));
    }
    if let Ok(text) = std::str::from_utf8(bytes) {
        registry::parsers::challenge(text);
    }
});

//! Statements about reference values: Sigstore bundles, and values with a bundle.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| reference_statements::parsers::bundle(bytes));

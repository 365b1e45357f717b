//! Statements about reference values: DSSE envelopes.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| reference_statements::parsers::dsse(bytes));

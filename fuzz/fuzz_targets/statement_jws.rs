//! Statements about reference values: JWS, and the values in them.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| reference_statements::parsers::jws(bytes));

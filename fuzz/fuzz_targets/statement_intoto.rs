//! Statements about reference values: in-toto statements, values and provenance.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| reference_statements::parsers::intoto(bytes));

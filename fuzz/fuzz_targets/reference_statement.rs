//! Statements about reference values as they come: without signers, nothing is believed.
#![no_main]

use reference_statements::{Signers, Statement};

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    assert!(Statement::authenticate(bytes, &Signers::default()).is_err());
});

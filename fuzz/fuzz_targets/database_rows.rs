//! Rows that a module of an algorithm returns: `algorithms::read_rows`.
#![no_main]

use database::algorithms::{ModuleError, read_rows};

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    let _ = read_rows(bytes, |_| Ok::<_, ModuleError>(()));
});

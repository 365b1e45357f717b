#![no_main]
use database_manifest::import::{Approvers, Dialect, dump, edgelessdb};

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    let _ = edgelessdb(bytes, &Approvers::default());
    if let Ok(text) = std::str::from_utf8(bytes) {
        let _ = dump(text, Dialect::Postgres);
        let _ = dump(text, Dialect::MySql);
    }
});

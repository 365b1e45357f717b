#![no_main]
//! The bytes are an entry of a log.

use transparency::{Entry, History};

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    if let Ok(entry) = Entry::from_bytes(bytes) {
        assert_eq!(entry.to_bytes(), bytes);
        let _ = History::default().take(&entry);
    }
});

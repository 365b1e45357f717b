//! Receipts of a database's answers: `Receipt::parse`, and what was read is written as it was meant.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    if let Ok(receipt) = database_receipt::Receipt::parse(bytes) {
        let written = receipt.to_json().to_string();
        assert_eq!(database_receipt::Receipt::parse(written.as_bytes()).ok(), Some(receipt));
    }
});

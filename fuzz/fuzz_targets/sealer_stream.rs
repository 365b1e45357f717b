//! What PostgreSQL streams to the sealer, in two parts: messages of its protocol, and of replication within them.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    let whole = database::sealer::stream([bytes]);
    let (first, second) = bytes.split_at(bytes.len() / 2);
    assert_eq!(database::sealer::stream([first, second]), whole);
});

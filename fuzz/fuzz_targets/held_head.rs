//! The file of a head that a client holds: what parses is written and parses to the same.
#![no_main]
use bailey::heads::Held;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    if let Ok(held) = Held::parse(bytes) {
        assert_eq!(Held::parse(held.to_json().as_bytes()).ok(), Some(held));
    }
});

//! Reference integrity manifests: what could be read has a canonical form, not much longer than what was written.
#![no_main]

use evidence::nvidia::Rim;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    let Ok(rim) = Rim::parse(bytes) else { return };
    // A character becomes an entity of five or six at most, and each element may declare all namespaces again.
    assert!(rim.canonical().len() <= 16 * bytes.len());
    assert!(!rim.measurements().is_empty() && !rim.certificates().is_empty());
});

//! What is parsed of a sealed log on a host's disk: a file's header, a record's frame, and its plaintext as entries.
#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| {
    let _ = sealed_log::parse(input);
});

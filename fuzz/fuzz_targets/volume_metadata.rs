//! What is parsed of a volume on a host's disk: a log's header, and a record's plaintext as a tree.
#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| {
    let _ = volume::parse(input);
});

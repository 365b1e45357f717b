//! What a Keep and its host say of a volume's files over a stream: no frame of either side does more than fail.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    volume::remote::parsers::both(bytes);
});

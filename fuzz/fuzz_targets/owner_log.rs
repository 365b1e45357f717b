//! Text that a host says is a line of a workload's log, encrypted to its owner. No input can be one by chance.
#![no_main]

use owner_log::Reader;

libfuzzer_sys::fuzz_target!(|input: &str| {
    let mut reader = Reader::new([7; 32].into(), "marble");
    assert!(reader.open(input).is_err());
});

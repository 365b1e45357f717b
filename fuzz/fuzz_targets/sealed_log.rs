//! Files of the sealed log, and what a database's records say.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let _ = sealed_log::parse(bytes);
});

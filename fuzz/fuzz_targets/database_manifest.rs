#![no_main]
libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    let _ = database_manifest::Manifest::parse(bytes).map_err(|faults| faults.to_string());
});

//! Init-data: TOML of whoever started a guest.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    if let Ok(init_data) = rcar::InitData::parse(text) {
        assert_eq!(init_data.body(), text);
        assert!([32, 48, 64].contains(&init_data.digest().len()) && init_data.register().len() == 32);
    }
});

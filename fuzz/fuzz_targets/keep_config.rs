#![no_main]
//! What a client or a manifest says of a workload's world: read or refused, never a panic.

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    if let Ok(text) = std::str::from_utf8(data)
        && let Ok(config) = keep_config::KeepConfig::parse(text)
    {
        assert_eq!(config.environment()[0].1, config.files.len().to_string());
    }
});

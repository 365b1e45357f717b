//! Measured launch configurations.
#![no_main]
use attested_tls::launch::{CoordinatorConfiguration, DatabaseConfiguration, KeepConfiguration};

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    if let Ok(configuration) = CoordinatorConfiguration::from_json(bytes) {
        assert!(CoordinatorConfiguration::from_json(&configuration.to_json()).is_ok());
    }
    if let Ok(configuration) = DatabaseConfiguration::from_json(bytes) {
        assert!(DatabaseConfiguration::from_json(&configuration.to_json()).is_ok());
    }
    let _ = KeepConfiguration::from_json(bytes);
});

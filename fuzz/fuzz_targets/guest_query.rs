//! Queries of the guest's local API, and the guest's configuration.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    if let Ok(text) = str::from_utf8(bytes) {
        if let Ok(query) = guest::rest::query::Query::parse(text) {
            assert!(query.runtime_data().is_ok_and(|data| data.len() <= 64) || query.runtime_data().is_err());
        }
        let _ = guest::settings::Said::from_toml(text);
        let _ = text.parse::<guest::settings::BrokerUrl>();
    }
});

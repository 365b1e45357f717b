//! Evidence as it travels, with Endorsements and claims.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    if let Ok(statement) = attested_tls::statement::Statement::from_bytes(bytes) {
        let _ = statement.evidence();
    }
});

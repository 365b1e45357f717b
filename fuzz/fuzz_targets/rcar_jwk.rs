//! Keys that resources are encrypted to. What is taken can be encrypted to.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    if let Ok(key) = rcar::PublicKey::parse(bytes) {
        let _ = key.encrypt(b"secret").map(|jwe| rcar::Jwe::parse(jwe.to_json().to_string().as_bytes()));
        assert_eq!(rcar::PublicKey::from_value(key.to_json().clone()).as_ref(), Ok(&key));
    }
});

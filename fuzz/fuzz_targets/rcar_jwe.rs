//! Encrypted resources as a guest reads them: nothing that was not encrypted to its key is decrypted.
#![no_main]

use rcar::{Jwe, KeyAlgorithm, PrivateKey};

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    thread_local!(static KEYS: Vec<PrivateKey> = KeyAlgorithm::ALL.map(|kind| PrivateKey::generate(kind).unwrap()).into());
    if let Ok(jwe) = Jwe::parse(bytes) {
        assert_eq!(Jwe::parse(jwe.to_json().to_string().as_bytes()).as_ref(), Ok(&jwe));
        KEYS.with(|keys| keys.iter().for_each(|key| assert!(key.decrypt(&jwe).is_err())));
    }
});

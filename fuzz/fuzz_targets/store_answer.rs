//! What Vault and OpenBao answer: `secret_store::vault::answer`. The first byte chooses the engine.
#![no_main]

use manifest::{KvEngine, StoredEncoding};
use secret_store::vault::answer;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    let Some((choice, bytes)) = bytes.split_first() else { return };
    let engine = if choice & 1 == 0 { KvEngine::One } else { KvEngine::Two((choice & 2 == 0).then_some(1)) };
    let encoding = if choice & 4 == 0 { StoredEncoding::Text } else { StoredEncoding::Base64 };
    if let Ok(fetched) = answer::kv(bytes, engine, "a", encoding) {
        assert!(!fetched.value.is_empty());
    }
    let _ = answer::plaintext(bytes);
    let _ = answer::login(bytes);
    let _ = answer::own_token(bytes, String::from("t").into());
});

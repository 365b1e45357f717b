//! Attestations of every version of the key broker's protocol, and the Evidence in them.
#![no_main]

use rcar::{Attestation, Content, Opened, Tee, Version};

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    let Some((&choice, body)) = bytes.split_first() else { return };
    let version = Version::ALL[usize::from(choice) % Version::ALL.len()];
    let tee = Tee::ALL[usize::from(choice / 16) % Tee::ALL.len()];
    let opened = Opened { version, tee, nonce: "nonce".to_owned() };
    let Ok(attestation) = Attestation::parse(body, &opened) else { return };
    assert_eq!(attestation.runtime_data.nonce, "nonce");
    for piece in attestation.pieces() {
        if let Ok(Content::Evidence(conveyed)) = piece.read() {
            for (_, evidence) in &conveyed.evidence {
                assert!(!piece.digest().expected(evidence).as_bytes().is_empty());
            }
        }
    }
});

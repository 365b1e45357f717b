#![no_main]
//! The bytes are a file that proves an entry.

use transparency::TlogProof;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    if let Ok(proof) = TlogProof::parse(bytes) {
        assert_eq!(TlogProof::parse(proof.to_text().as_bytes()), Ok(proof));
    }
});

//! What a host may answer instead of a TPM.
#![no_main]
use tpm_anchor::wire::{Reader, Response};

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    for has_handle in [false, true] {
        if let Ok(response) = Response::parse(bytes, has_handle) {
            let mut reader = Reader::new(response.parameters);
            while reader.sized().is_ok_and(|buffer| !buffer.is_empty()) {}
        }
    }
});

//! The host's file that says where a chain in a TPM stands.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    database::tpm_anchor::names_a_place(bytes);
});

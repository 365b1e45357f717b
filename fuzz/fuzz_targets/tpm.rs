//! TPM Evidence in every container, and its structures alone.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    let _ = evidence::tpm::Attestation::parse(bytes);
    let _ = evidence::tpm::AttestationKey::parse(bytes);
    let _ = evidence::tpm::PublicKey::from_spki(bytes);
    let _ = evidence::tpm::Signature::parse(bytes);
});

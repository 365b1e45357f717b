//! Files that endorse something: certificates, CRLs, TCB info, QE identities, told apart by content.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    let _ = appraisal::EndorsementsBuilder::new().add_file_bytes(bytes);
});

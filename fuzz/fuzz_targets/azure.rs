//! Evidence of Azure's confidential VMs: `azure::Attestation::parse`, and an HCL report alone.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    let _ = evidence::azure::Attestation::parse(bytes);
    let _ = evidence::azure::HclReport::parse(bytes);
});

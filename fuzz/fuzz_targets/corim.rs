//! Reference values of others: a manifest that is accepted always names what code it expects.
#![no_main]

use appraisal::{CorimPolicy, ReadReferences, UnixTime, Unsigned};

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    let policy = CorimPolicy { signers: &[], unsigned: Unsigned::Accepted };
    let now = UnixTime(1_790_000_000);
    let Ok(read) = ReadReferences::from_file_bytes(bytes, policy, now, &crypto_aws_lc::AwsLc) else { return };
    for value in &read.reference_values {
        assert!(value.measurement.is_some() || !value.registers.is_empty());
    }
});

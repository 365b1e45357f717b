//! The host's file of shares.
#![no_main]
use database::recovery::Shares;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    if let Ok(shares) = Shares::from_json(bytes) {
        assert_eq!(Shares::from_json(&shares.to_json()), Ok(shares));
    }
});

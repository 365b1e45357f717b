//! Claims of Keeps, of a coordinator and of a database: what decodes encodes and decodes to the same.
#![no_main]
use attested_tls::claims::{Claims, CoordinatorClaims, DatabaseClaims, DirectClaims, KeepClaims};

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    if let Ok(claims) = KeepClaims::from_bytes(bytes) {
        assert_eq!(KeepClaims::from_bytes(&claims.to_bytes()).as_ref(), Ok(&claims));
    }
    if let Ok(claims) = DirectClaims::from_bytes(bytes) {
        assert_eq!(DirectClaims::from_bytes(&claims.to_bytes()).as_ref(), Ok(&claims));
    }
    if let Ok(claims) = CoordinatorClaims::from_bytes(bytes) {
        assert_eq!(CoordinatorClaims::from_bytes(&claims.to_bytes()).as_ref(), Ok(&claims));
    }
    if let Ok(claims) = DatabaseClaims::from_bytes(bytes) {
        assert_eq!(DatabaseClaims::from_bytes(&claims.to_bytes()).as_ref(), Ok(&claims));
    }
});

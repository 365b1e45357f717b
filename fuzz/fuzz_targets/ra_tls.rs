//! RA-TLS certificates, PEM and DER, and the claims in them.
#![no_main]

use evidence::ra_tls::{Certificate, Claims};

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    let _ = Certificate::recognises(bytes);
    let _ = Certificate::parse(bytes);
    let _ = Claims::parse(bytes);
});

//! What a database and its replicas say to each other.
#![no_main]
use database::reads::{Reply, Request};

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    if let Some(bytes) = bytes.first_chunk() {
        assert_eq!(&Request::from_bytes(*bytes).to_bytes(), bytes);
    }
    if let Some(bytes) = bytes.first_chunk()
        && let Ok(reply) = Reply::from_bytes(*bytes)
    {
        assert_eq!(&reply.to_bytes(), bytes);
    }
});

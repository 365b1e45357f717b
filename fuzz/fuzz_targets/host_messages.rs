//! What a client and a host agent say: what decodes has one encoding.
#![no_main]
use keep_protocol::{
    Message,
    host::{HostError, HostInfo, Keeps, Lease, NewKeep},
};

fn one<M: Message>(bytes: &[u8]) {
    if let Ok(message) = M::from_bytes(bytes) {
        assert_eq!(message.to_bytes(), bytes);
    }
}

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    one::<HostInfo>(bytes);
    one::<NewKeep>(bytes);
    one::<Lease>(bytes);
    one::<Keeps>(bytes);
    one::<HostError>(bytes);
});

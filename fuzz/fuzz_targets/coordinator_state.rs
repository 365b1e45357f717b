#![no_main]
//! The bytes are a record of the log, and a snapshot of it.

use coordinator::core::{Event, IdentityKey, State};
use zeroize::Zeroizing;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    let identity = IdentityKey::new(Zeroizing::new([7; 32]));
    let _ = Event::from_record(0, bytes).map(|event| State::begin(event, identity.clone()).map(drop));
    if let Ok(state) = State::from_snapshot(bytes, identity.clone()) {
        // Without CA keys of this TEE there is no other snapshot; with them there is, and it can be read.
        if let Ok(snapshot) = state.to_snapshot() {
            State::from_snapshot(&snapshot, identity).expect("what was written can be read");
        }
    }
});

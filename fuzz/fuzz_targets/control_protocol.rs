//! What a host asks of the emulator, and what it hears.
#![no_main]
use attester::emulated::frame;
use emulator::control::{Event, Request};

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    if let Ok(request) = Request::decode(data) {
        assert_eq!(*frame::encode(&request).expect("what was read can be written"), data);
    }
    let _ = Event::decode(data);
});

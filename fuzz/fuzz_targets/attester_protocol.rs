//! What a launched process and its emulated platform say to each other.
#![no_main]
use attester::emulated::{FrameBuffer, Request, Response, frame};

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    if let Ok(request) = Request::decode(data) {
        assert_eq!(*frame::encode(&request).expect("what was read can be written"), data);
    }
    let _ = Response::decode(data);
    let (mut buffer, mut reader) = (FrameBuffer::default(), data);
    buffer.extend(data);
    while let (Ok(Some(pushed)), Ok(Some(pulled))) = (buffer.next_frame(), frame::read(&mut reader)) {
        assert_eq!(pushed, *pulled);
    }
});

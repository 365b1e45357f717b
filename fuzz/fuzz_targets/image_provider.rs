//! A request to the key provider of container images: bytes that are one ask for something that is there.
#![no_main]

use image_keys::Request;

libfuzzer_sys::fuzz_target!(|input: &[u8]| {
    match Request::parse(input) {
        Ok(Request::Wrap { parameters, options }) => {
            assert!(!options.is_empty() && options.len() <= image_keys::MAX_OPTIONS);
            for text in parameters.values().flatten() {
                let _ = image_keys::Parameter::parse(text);
            }
        }
        Ok(Request::Unwrap { annotation }) => assert!(!annotation.is_empty()),
        Err(_) => {}
    }
});

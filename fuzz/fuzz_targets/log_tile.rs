#![no_main]
//! The text is a path of a tile, and the bytes what it has.

use transparency::{Bundle, Resource};

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    let _ = Bundle::holding(0, 7).map(|bundle| bundle.entries(bytes).map(|entries| assert_eq!(entries.len(), 7)));
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    if let Ok(resource) = Resource::parse(text) {
        assert_eq!(resource.to_string(), text);
    }
});

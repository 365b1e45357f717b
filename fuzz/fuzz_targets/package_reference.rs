//! References, digests and versions: what is read is written the same.
#![no_main]

use package::{Pinned, Reference, Version};

libfuzzer_sys::fuzz_target!(|text: &str| {
    if let Ok(reference) = text.parse::<Reference>() {
        assert_eq!(reference.to_string(), text);
    }
    if let Ok(pinned) = text.parse::<Pinned>() {
        assert_eq!(pinned.to_string().parse(), Ok(pinned));
    }
    if let Ok(version) = text.parse::<Version>() {
        assert_eq!(version.to_string(), text);
    }
});

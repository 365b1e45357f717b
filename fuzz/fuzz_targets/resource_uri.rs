//! Names of resources and sources of secrets, as people and sealed secrets write them.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    if let Ok(text) = str::from_utf8(bytes)
        && let Ok(uri) = text.parse::<rcar::ResourceUri>()
    {
        assert_eq!(uri.to_string().parse().as_ref(), Ok(&uri));
        assert!(!uri.segments().iter().any(|segment| segment.starts_with('.') || segment.contains('/')));
    }
});

//! The first messages of a key broker's clients and brokers, and names of resources.
#![no_main]

use rcar::{Challenge, ErrorBody, Request, ResourceUri};

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    if let Ok(request) = Request::parse(bytes) {
        assert_eq!(Request::parse(request.to_json().to_string().as_bytes()), Ok(request));
    }
    if let Ok(error) = ErrorBody::parse(bytes) {
        assert!(error.detail.chars().all(|character| !character.is_control()));
    }
    let _ = Challenge::parse(bytes);
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    if let Ok(uri) = text.parse::<ResourceUri>() {
        assert_eq!(uri.to_string().parse(), Ok(uri.clone()));
        let target = uri.request_target();
        let path = target.split('?').next().unwrap_or_default();
        assert!(target.is_ascii() && !path.split('/').any(|segment| matches!(segment, "." | "..")));
    }
});

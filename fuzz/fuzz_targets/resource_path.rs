//! Paths of resources and digests of init-data: what is read is written as it was, and is nothing that a file system or a
//! URL could read otherwise.
#![no_main]

use manifest::{InitDataDigest, ResourcePath};

libfuzzer_sys::fuzz_target!(|text: &str| {
    if let Ok(path) = text.parse::<ResourcePath>() {
        let written = path.to_string();
        assert_eq!(written, text.strip_prefix("kbs:///").unwrap_or(text));
        assert_eq!(written.split('/').count(), 3);
        assert!(written.split('/').all(|segment| !segment.is_empty() && !segment.starts_with('.')));
        assert!(written.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_./".contains(&byte)));
        assert_eq!(path.uri().parse(), Ok(path));
    }
    if let Ok(digest) = text.parse::<InitDataDigest>() {
        assert_eq!(digest.bytes().len(), digest.algorithm().length());
        assert!(digest.to_string().eq_ignore_ascii_case(text));
    }
});

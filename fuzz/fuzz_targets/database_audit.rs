//! An export of a database's audit log, as whoever reads it gets it: entries, events, signed heads.
#![no_main]

use std::sync::LazyLock;

use database::audit::Event;
use database_receipt::audit::{Head, Line, SignedHead, verify_lines};

static ROOT: LazyLock<Vec<u8>> = LazyLock::new(|| testkit::parties::Authority::new("Server").der);

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    if let Ok(head) = serde_json::from_slice::<SignedHead>(bytes) {
        assert!(head.verify(&ROOT.as_slice().into()).is_err());
    }
    if let Ok(lines) = serde_json::from_slice::<Vec<Line>>(bytes) {
        let _ = verify_lines(Head::NONE, &lines);
        for line in lines {
            if let Some(event) = line.read::<Event>() {
                let text = serde_json::to_string(&event).expect("JSON");
                assert_eq!(serde_json::from_str::<Event>(&text).ok(), Some(event));
            }
        }
    }
    let _ = serde_json::from_slice::<Event>(bytes);
});

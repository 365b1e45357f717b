//! A policy about releases of any text: read, admitted, compiled, asked within its limits, or refused.
#![no_main]

use policy_rego::{Claims, Limits, Release, Request};
use serde_json::json;

libfuzzer_sys::fuzz_target!(|policy: &str| {
    let limits = Limits { steps: 2000, ..Release::LIMITS };
    let Ok(release) = Release::new(format!("package policy\n{policy}"), limits) else { return };
    let claims = json!({"submods": {"cpu0": {"ear.status": "affirming", "list": [1, "a", null, true, -1.5]}}});
    let claims = Claims::new(&claims, &limits).expect("claims");
    let request = Request::resource(["default", "key", "db"]);
    // Whatever it answers, it answers the same again.
    assert_eq!(release.ask(&claims, &request), release.ask(&claims, &request));
});

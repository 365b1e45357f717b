//! What an answer of a release policy costs once it is compiled: `cargo bench -p policy-rego`. Fails where the default
//! policy, of Trustee's shape, takes longer than 50 µs.

use std::hint::black_box;
use std::time::{Duration, Instant};

use policy_rego::{Answer, Claims, Limits, Release, Request};
use serde_json::{Value, json};

/// The issue's target.
const TARGET: Duration = Duration::from_micros(50);
const ROUNDS: u32 = 20_000;

const DEFAULT: &str = r#"
package policy
import rego.v1
default allow := false
annotated := input.submods.cpu0["ear.veraison.annotated-evidence"]
allow if {
	data.plugin == "resource"
	annotated
	not annotated.sample
}
"#;

/// A token's claims, 4 KiB.
fn claims() -> Value {
    let registers: Value =
        (0..32).map(|index| (format!("register-{index}"), json!("ab".repeat(32)))).collect();
    json!({"submods": {"cpu0": {
        "ear.status": "affirming",
        "ear.trustworthiness-vector": {"hardware": 2, "executables": 3, "configuration": 2},
        "ear.veraison.annotated-evidence": {"snp": registers, "init_data": "cd".repeat(48)},
    }}})
}

fn timed(what: &str, mut work: impl FnMut()) -> Duration {
    (0..ROUNDS / 10).for_each(|_| work());
    let started = Instant::now();
    (0..ROUNDS).for_each(|_| work());
    let each = started.elapsed() / ROUNDS;
    println!("{what:<48} {each:?}");
    each
}

fn main() {
    let limits = Limits::default();
    let policy = Release::new(DEFAULT, limits).expect("a policy");
    let (json, request) = (claims(), Request::resource(["default", "key", "db"]));
    let ready = Claims::new(&json, &limits).expect("claims");
    let each = timed("the default policy, compiled, on claims made ready", || {
        assert_eq!(policy.ask(black_box(&ready), black_box(&request)), Ok(Answer::Allowed));
    });
    timed("the same, on claims as JSON", || {
        let claims = Claims::new(black_box(&json), &limits).expect("claims");
        assert_eq!(policy.ask(&claims, &request), Ok(Answer::Allowed));
    });
    if !cfg!(debug_assertions) {
        assert!(each <= TARGET, "{each:?} is more than {TARGET:?}");
    }
}

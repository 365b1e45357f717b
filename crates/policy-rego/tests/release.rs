//! Policies about releases, of the kinds that brokers of confidential containers know: what they allow, and what is not
//! run. The policies are our own; what they read is what Trustee's read.

use policy_rego::{Answer, Claims, Fault, Limits, Release, Request};
use serde_json::{Value, json};

/// Claims in the shape of Trustee's tokens.
fn claims(tee: &str, status: &str) -> Value {
    json!({
        "iss": "https://broker.example.org",
        "eat_profile": "tag:github.com,2024:confidential-containers/Trustee",
        "submods": {"cpu0": {
            "ear.status": status,
            "ear.trustworthiness-vector": {"hardware": 2, "executables": 3},
            "ear.veraison.annotated-evidence": {
                tee: {"measurement": "ab".repeat(48), "policy_debug_allowed": "0"},
                "init_data": "cd".repeat(48),
                "init_data_claims": {"aa.toml": {"url": "https://broker.example.org"}},
            },
        }},
    })
}

fn release(policy: &str) -> Release {
    Release::new(policy, Limits::default()).unwrap_or_else(|error| panic!("{error}\n{policy}"))
}

fn ask(policy: &str, claims: &Value, path: [&str; 3]) -> Result<Answer, Fault> {
    let claims = Claims::new(claims, &Limits::default()).expect("claims");
    release(policy).ask(&claims, &Request::resource(path))
}

#[track_caller]
fn allows(policy: &str, claims: &Value, path: [&str; 3]) -> bool {
    ask(policy, claims, path).unwrap_or_else(|fault| panic!("{fault}\n{policy}")) == Answer::Allowed
}

const KEY: [&str; 3] = ["default", "key", "db"];

/// The shape of Trustee's default policy.
const ALL_BUT_SAMPLE: &str = r#"
package policy
import rego.v1

default allow = false

annotated := input["submods"]["cpu0"]["ear.veraison.annotated-evidence"]

allow if {
	data.plugin == "resource"
	annotated
	not annotated["sample"]
}
"#;

#[test]
fn all_but_sample_guests() {
    assert!(allows(ALL_BUT_SAMPLE, &claims("snp", "contraindicated"), KEY));
    assert!(!allows(ALL_BUT_SAMPLE, &claims("sample", "affirming"), KEY));
    assert!(!allows(ALL_BUT_SAMPLE, &json!({}), KEY), "no claims are no reason");
}

#[test]
fn by_the_status_of_every_device() {
    let policy = r#"
package policy
import rego.v1
default allow := false
allow if {
	count(input.submods) > 0
	every _, device in input.submods { device["ear.status"] == "affirming" }
}
"#;
    let mut affirming = claims("tdx", "affirming");
    assert!(allows(policy, &affirming, KEY));
    assert!(!allows(policy, &claims("tdx", "warning"), KEY));
    affirming["submods"]["gpu0"] = json!({"ear.status": "contraindicated"});
    assert!(!allows(policy, &affirming, KEY));
    assert!(!allows(policy, &json!({"submods": {}}), KEY));
}

#[test]
fn by_what_was_measured() {
    let policy = format!(
        r#"
package policy
import rego.v1
default allow := false
snp := input.submods.cpu0["ear.veraison.annotated-evidence"].snp
allow if {{
	snp.measurement in {{"{}"}}
	snp.policy_debug_allowed == "0"
	input.submods.cpu0["ear.trustworthiness-vector"].hardware == 2
}}
"#,
        "ab".repeat(48)
    );
    let mut measured = claims("snp", "affirming");
    assert!(allows(&policy, &measured, KEY));
    assert!(!allows(&policy, &claims("tdx", "affirming"), KEY));
    measured["submods"]["cpu0"]["ear.veraison.annotated-evidence"]["snp"]["measurement"] = json!("00");
    assert!(!allows(&policy, &measured, KEY));
}

#[test]
fn by_the_path_of_the_resource() {
    let policy = r#"
package policy
import rego.v1
default allow := false
path := data["resource-path"]
allow if {
	data.plugin == "resource"
	count(path) == 3
	path[0] == "team-a"
	path[2] in data["resource-path"]
	data.query == {}
	input.submods.cpu0["ear.veraison.annotated-evidence"].init_data_claims["aa.toml"]
}
"#;
    assert!(allows(policy, &claims("snp", "none"), ["team-a", "key", "1"]));
    assert!(!allows(policy, &claims("snp", "none"), ["team-b", "key", "1"]));
}

#[test]
fn the_query_and_the_plugin_are_the_requests() {
    let policy = release("package policy\nallow if { data.plugin == \"other\"; data.query.name == \"a\" }");
    let claims = Claims::new(&json!({}), &Limits::default()).expect("claims");
    let query = |name: &str| [("name".to_owned(), name.to_owned())].into();
    let request = |name| Request { plugin: "other".into(), path: Vec::new(), query: query(name) };
    assert_eq!(policy.ask(&claims, &request("a")), Ok(Answer::Allowed));
    assert_ne!(policy.ask(&claims, &request("b")), Ok(Answer::Allowed));
    assert_ne!(policy.ask(&claims, &Request::resource(["a"])), Ok(Answer::Allowed));
}

#[test]
fn older_policies_are_read_as_they_were_written() {
    let policy = r#"
package policy
default allow = false
allow {
	input.submods.cpu0["ear.status"] == "affirming"
	not sample
}
sample { input.submods[_]["ear.veraison.annotated-evidence"].sample }
"#;
    assert!(allows(policy, &claims("snp", "affirming"), KEY));
    assert!(!allows(policy, &claims("sample", "affirming"), KEY));
    assert!(!allows(policy, &claims("snp", "none"), KEY));
}

#[test]
fn the_whole_of_input_is_the_claims() {
    let policy = "package policy\nallow if { input == {\"a\": 1, \"b\": [\"input\", \"data\"]} }";
    assert!(allows(policy, &json!({"a": 1, "b": ["input", "data"]}), KEY));
    let texts = "package policy\n# input data\nallow if { input.input == \"data.plugin input\"; `input` == \"input\" }";
    assert!(allows(texts, &json!({"input": "data.plugin input"}), KEY), "texts and comments stay");
    let members = "package policy\nallow if { some name, _ in input; name == \"data\" }";
    assert!(allows(members, &json!({"data": 1}), KEY));
    assert!(!allows("package policy\nallow if input.request", &json!({}), KEY), "and nothing else");
    assert!(!allows("package policy\nallow if input.claims", &json!({}), KEY));
}

#[test]
fn only_true_allows() {
    for answer in ["false", "\"true\"", "1", "[true]", "{\"allow\": true}", "null"] {
        assert!(!allows(&format!("package policy\nallow := {answer}"), &json!({}), KEY), "{answer}");
    }
    assert!(!allows("package policy\nallow if input.no.such.member", &json!({}), KEY));
}

#[test]
fn reasons_are_for_operators() {
    let policy = r#"
package policy
import rego.v1
default allow := false
allow if count(reasons) == 0
reasons contains sprintf("the status is %s and not affirming", [status]) if {
	status := input.submods.cpu0["ear.status"]
	status != "affirming"
}
"#;
    assert!(allows(policy, &claims("snp", "affirming"), KEY));
    let reasons = vec!["the status is warning and not affirming".to_owned()];
    assert_eq!(ask(policy, &claims("snp", "warning"), KEY), Ok(Answer::Denied { reasons }));
}

#[test]
fn the_policies_of_the_page_can_be_run() {
    let page = include_str!("../../../docs/broker-resources.md");
    let rego = page.split("```rego\n").nth(1).and_then(|rest| rest.split("```").next()).expect("a policy");
    assert!(allows(rego, &json!({}), ["team-a", "key", "1"]));
    let reasons = vec!["only for team a".to_owned()];
    assert_eq!(ask(rego, &json!({}), ["team-b", "key", "1"]), Ok(Answer::Denied { reasons }));
    let (_, block) = page.split_once("Rego: |").expect("a policy in the manifest");
    let (_, block) = block.split_once('\n').expect("lines");
    let lines = block.lines().take_while(|line| line.starts_with("        "));
    let rego = lines.map(str::trim_start).collect::<Vec<_>>().join("\n");
    assert!(allows(&rego, &claims("snp", "affirming"), KEY));
    assert!(!allows(&rego, &claims("snp", "warning"), KEY));
}

#[test]
fn one_policy_is_asked_many_times_and_remembers_nothing() {
    let policy = release(ALL_BUT_SAMPLE);
    let limits = Limits::default();
    let snp = Claims::new(&claims("snp", "none"), &limits).expect("claims");
    let sample = Claims::new(&claims("sample", "none"), &limits).expect("claims");
    let request = Request::resource(KEY);
    std::thread::scope(|scope| {
        for _ in 0..8 {
            scope.spawn(|| {
                for _ in 0..20 {
                    assert_eq!(policy.ask(&snp, &request), Ok(Answer::Allowed));
                    assert_ne!(policy.ask(&sample, &request), Ok(Answer::Allowed));
                }
            });
        }
    });
}

fn invalid(policy: &str) -> String {
    Release::new(policy, Limits::default()).expect_err(policy).to_string()
}

#[test]
fn what_is_not_known_to_be_harmless_is_not_run() {
    let policy = |line: &str| format!("package policy\nimport rego.v1\nallow := true\n{line}\n");
    for (line, expected) in [
        ("x := data", "`data` has plugin"),
        ("x := data.policy.allow", "`data` has plugin"),
        ("x := data[\"policy\"]", "`data` has plugin"),
        ("x := data[y] if y := \"plugin\"", "`data` has plugin"),
        ("x := {k | some k, _ in data}", "`data` has plugin"),
        ("x := http.send({})", "http.send is not available"),
        ("x := opa.runtime()", "opa.runtime is not available"),
        ("x := time.now_ns()", "time.now_ns is not available"),
        ("x := rand.intn(\"a\", 5)", "rand.intn is not available"),
        ("x := numbers.range(1, 1000000000)", "numbers.range is not available"),
        ("x := 2 * 3", "products are not available"),
        ("x := true if { true with input as {} }", "`with` is not available"),
        ("x if y\ny if x", "uses itself"),
        ("f(a) := f(a)", "uses itself"),
        ("input := 1", "input"),
        ("data := 1", "data"),
    ] {
        let said = invalid(&policy(line));
        assert!(said.contains(expected), "{line}: {said}");
    }
    for (text, expected) in [
        ("package bailey\nallow := true", "its package is not `policy`"),
        ("package policy.sub\nallow := true", "its package is not `policy`"),
        ("package policy\nimport data.other\nallow := true", "it imports data.other"),
        ("package policy\nimport input.submods\nallow := true", "it imports input.submods"),
        ("package policy\ndeny := true", "it has no rule `allow`"),
        ("package policy\nallow := ", ""),
        ("", ""),
        ("allow := true", ""),
    ] {
        let said = invalid(text);
        assert!(said.contains(expected), "{text}: {said}");
    }
}

#[test]
fn a_policy_has_its_limits() {
    assert!(
        invalid(&format!("package policy\nallow := true\n#{}", "x".repeat(40_000))).contains("32768 bytes")
    );
    let nested = format!("package policy\nallow := {}1{}", "[".repeat(11), "]".repeat(11));
    assert!(invalid(&nested).contains("nested deeper"));
    let many = format!("package policy\nallow := true\nx := [{}]", "1,\n".repeat(3000));
    assert!(invalid(&many).contains("2000 nodes"));
}

#[test]
fn s43_a_policy_that_loops_is_stopped() {
    let digits = "package policy\na := [0, 1, 2, 3, 4, 5, 6, 7, 8, 9]\n";
    let some: String = (0..12).map(|index| format!("some x{index} in a; ")).collect();
    for rule in [
        format!("allow if {{ {some} x0 + x11 > 100 }}"),
        format!("allow if count([1 | {some} true]) > 0"),
        format!("allow if not many\nmany if {{ {some} x0 > 100 }}"),
    ] {
        let answer = ask(&format!("{digits}{rule}"), &json!({}), KEY);
        assert!(matches!(answer, Err(Fault::Limit(_))), "{rule}: {answer:?}");
    }
    let reasons = format!("{digits}allow := false\nreasons contains \"x\" if {{ {some} x0 > 100 }}");
    assert!(matches!(ask(&reasons, &json!({}), KEY), Err(Fault::Limit(_))));
}

#[test]
fn s43_a_policy_that_fills_the_memory_is_stopped() {
    let doubling: String =
        (1..40).map(|index| format!("x{index} := sprintf(\"%s%s\", [x{0}, x{0}])\n", index - 1)).collect();
    let text = format!("package policy\nx0 := \"xxxxxxxxxxxxxxxx\"\n{doubling}allow if x39 != \"\"");
    let answer = ask(&text, &json!({}), KEY);
    assert!(matches!(&answer, Err(Fault::Invalid(text)) if text.contains("4096 bytes")), "{answer:?}");
    let concat = "package policy\nallow if concat(\"\", [input.long | some _ in input.many]) != \"\"";
    let claims = json!({"long": "x".repeat(2000), "many": [1, 2, 3, 4, 5]});
    assert!(ask(concat, &claims, KEY).is_err());
}

#[test]
fn a_function_that_fails_refuses() {
    assert!(ask("package policy\nallow if not startswith(input.a, \"x\")", &json!({"a": 1}), KEY).is_err());
    assert!(ask("package policy\nallow if 1 / 0 > 0", &json!({}), KEY).is_err());
    assert!(ask("package policy\nallow := true\nallow := false if input.a", &json!({"a": 1}), KEY).is_err());
}

#[test]
fn claims_are_bounded() {
    let limits = Limits { input: 1000, ..Limits::default() };
    assert!(Claims::new(&json!({"a": "x".repeat(900)}), &limits).is_ok());
    for claims in [
        json!({"a": "x".repeat(1000)}),
        json!({ "x".repeat(1000): 1 }),
        json!(vec![(); 300]),
        (0..64).fold(json!(1), |inner, _| json!([inner])),
    ] {
        assert!(matches!(Claims::new(&claims, &limits), Err(Fault::Limit(_))));
    }
}

//! Rego over the verdict on a recorded TDX quote, which the typed policy accepts.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use appraisal::{Code, Examination, Examined, Outcome, Policy};
use crypto_aws_lc::AwsLc;
use policy_rego::{Limits, Rego};

fn repository() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

fn vector(name: &str) -> Vec<u8> {
    fs::read(repository().join("crates/appraisal/tests/vectors/negatives").join(name)).unwrap()
}

fn examination() -> Examination {
    let mut examination = Examination::new(&vector("tdx4-ok.quote")).unwrap();
    examination.endorse(&vector("tdx4-ok.collateral.json")).unwrap();
    examination
}

fn assess(mut examination: Examination, policy: &str) -> Examined {
    let rego = Rego::new(policy, Limits::default()).unwrap_or_else(|error| panic!("{error}\n{policy}"));
    examination.narrow_by(Arc::new(rego));
    examination.assess("2025-07-04T10:16:31Z".parse().unwrap(), &AwsLc)
}

fn codes(examined: &Examined) -> Vec<Code> {
    examined.reasons().iter().map(|reason| reason.code).collect()
}

/// The codes under a policy of these lines.
#[track_caller]
fn judge(lines: &str) -> Vec<Code> {
    let examined = assess(examination(), &format!("package bailey\n{lines}\n"));
    assert_eq!(examined.is_accepted(), examined.reasons().is_empty());
    codes(&examined)
}

/// Why a policy of these lines is not run at all.
#[track_caller]
fn invalid(lines: &str) -> String {
    Rego::new(format!("package bailey\nallow := true\n{lines}\n"), Limits::default()).unwrap_err().to_string()
}

#[test]
fn what_allows_and_denies_nothing_stays_accepted() {
    assert_eq!(judge("allow := true"), []);
    assert_eq!(judge("allow if input.platform == \"tdx\"\ndeny contains \"no\" if input.emulated"), []);
}

#[test]
fn messages_are_reasons_of_the_tree() {
    let examined = assess(
        examination(),
        "package bailey\nallow := true\ndeny contains msg if msg := sprintf(\"%s at %v%%\\n\", [input.platform, 7])",
    );
    assert_eq!(codes(&examined), [Code::RegoDenied]);
    assert_eq!(examined.reasons()[0].check, "narrowing/objection");
    assert_eq!(examined.reasons()[0].text, "tdx at 7%\u{fffd}", "and cannot move the cursor");
    let text = examined.render(false);
    assert!(text.starts_with("✗ refused") && text.contains("REGO_DENIED: tdx at 7%"), "{text}");
    assert!(text.ends_with("more: docs/verdicts/REGO_DENIED.md\n"), "{text}");
}

#[test]
fn each_message_is_a_reason() {
    assert_eq!(judge("allow := true\ndeny contains \"a\"\ndeny contains \"b\""), [Code::RegoDenied; 2]);
}

#[test]
fn undefined_and_false_deny() {
    assert_eq!(judge("allow if input.platform == \"snp\""), [Code::RegoDenied]);
    assert_eq!(judge("allow if input.no.such.member"), [Code::RegoDenied]);
    assert_eq!(judge("allow := false"), [Code::RegoDenied]);
}

#[test]
fn what_is_neither_true_nor_false_is_invalid() {
    for answer in ["\"true\"", "1", "[true]", "{\"allow\": true}", "null"] {
        assert_eq!(judge(&format!("allow := {answer}")), [Code::RegoInvalid], "{answer}");
    }
}

#[test]
fn a_deny_that_is_no_set_of_texts_is_invalid() {
    for deny in [
        "deny := \"x\"",
        "deny := {\"x\": 1}",
        "deny contains 1",
        "deny contains {\"msg\": \"x\"}",
        "deny := 7",
    ] {
        assert_eq!(judge(&format!("allow := true\n{deny}")), [Code::RegoInvalid], "{deny}");
    }
    assert_eq!(judge("allow := true\ndeny := []"), []);
}

/// Otherwise a `deny` rule that stumbles would deny nothing.
#[test]
fn a_function_that_fails_refuses() {
    assert_eq!(judge("allow := true\ndeny contains \"x\" if count(1) > 0"), [Code::RegoInvalid]);
    assert_eq!(judge("allow := true\ndeny contains \"x\" if 1 / 0 > 0"), [Code::RegoInvalid]);
    let bad = "allow := true\ndeny contains sprintf(\"%s\", [{}])";
    assert_eq!(judge(bad), [Code::RegoInvalid]);
}

#[test]
fn two_answers_at_once_are_invalid() {
    assert_eq!(judge("allow := true\nallow := false if input.platform == \"tdx\""), [Code::RegoInvalid]);
}

#[test]
fn s43_a_loop_over_a_product_of_sets_is_stopped() {
    let digits = "a := [0, 1, 2, 3, 4, 5, 6, 7, 8, 9]\n";
    let some: String = (0..12).map(|index| format!("some x{index} in a; ")).collect();
    assert_eq!(judge(&format!("{digits}allow if {{ {some} x0 + x11 > 100 }}")), [Code::RegoLimit]);
    let large = format!("{digits}allow if count([1 | {some} true]) > 0");
    assert_eq!(judge(&large), [Code::RegoLimit]);
    let deny = format!("{digits}allow := true\ndeny contains \"x\" if {{ {some} x0 > 100 }}");
    assert_eq!(judge(&deny), [Code::RegoLimit]);
    let hidden = format!("{digits}allow if not many\nmany if {{ {some} x0 > 100 }}");
    assert_eq!(judge(&hidden), [Code::RegoLimit], "a limit is no `false`");
    let every = format!("{digits}allow if every x in a {{ count([1 | {some} true]) > x }}");
    assert_eq!(judge(&every), [Code::RegoLimit]);
}

#[test]
fn steps_are_counted_not_timed() {
    let policy = "package bailey\na := [0, 1, 2, 3, 4, 5, 6, 7, 8, 9]\nallow if { some x in a; some y in a; x + y == 18 }";
    let least = |steps| {
        let mut examination = examination();
        let limits = Limits { steps, ..Limits::default() };
        examination.narrow_by(Arc::new(Rego::new(policy, limits).unwrap()));
        examination.assess("2025-07-04T10:16:31Z".parse().unwrap(), &AwsLc).is_accepted()
    };
    let needed =
        (0..14).rev().map(|bit| 1 << bit).fold(0, |low, bit| if least(low + bit) { low } else { low + bit })
            + 1;
    assert!(needed > 100 && (0..3).all(|_| least(needed) && !least(needed - 1)), "{needed}");
}

#[test]
fn s43_text_that_doubles_is_stopped() {
    let doubling: String =
        (1..40).map(|index| format!("x{index} := sprintf(\"%s%s\", [x{0}, x{0}])\n", index - 1)).collect();
    assert_eq!(
        judge(&format!("allow if {{ x0 := \"abcdefgh\"; {doubling} x39 != \"\" }}")),
        [Code::RegoInvalid]
    );
    let concat: String =
        (1..40).map(|index| format!("x{index} := concat(\"\", [x{0}, x{0}])\n", index - 1)).collect();
    assert_eq!(
        judge(&format!("allow if {{ x0 := \"abcdefgh\"; {concat} x39 != \"\" }}")),
        [Code::RegoInvalid]
    );
}

#[test]
fn s43_what_is_too_large_is_refused() {
    let many: String = (0..40).map(|index| format!("deny contains \"{index}\"\n")).collect();
    assert_eq!(judge(&format!("allow := true\n{many}")), [Code::RegoLimit]);
    assert_eq!(judge(&format!("allow := true\ndeny contains \"{}\"", "x".repeat(600))), [Code::RegoLimit]);
    assert!(invalid(&"# much\n".repeat(10_000)).contains("bytes"));
    assert!(
        invalid(&(0..900).map(|index| format!("r{index} := 1 + 1\n")).collect::<String>()).contains("nodes")
    );
    let mut examination = examination();
    let limits = Limits { input: 100, ..Limits::default() };
    examination.narrow_by(Arc::new(Rego::new("package bailey\nallow := true", limits).unwrap()));
    let examined = examination.assess("2025-07-04T10:16:31Z".parse().unwrap(), &AwsLc);
    assert_eq!(codes(&examined), [Code::RegoLimit]);
}

/// Each of them overflowed the interpreter's stack, or nearly.
#[test]
fn s43_nesting_does_not_overflow_the_stack() {
    assert!(invalid("f(x) := f(x + 1)\nb if f(1)").contains("uses itself"));
    assert!(invalid("a if not b\nb if not a").contains("uses itself"));
    let chain: String = (0..600).map(|index| format!("r{index} := r{}\n", index + 1)).collect();
    assert_eq!(judge(&format!("{chain}r600 := true\nallow if r0")), []);
    let calls: String = (0..150).map(|index| format!("f{index}(x) := f{}(x)\n", index + 1)).collect();
    assert_eq!(judge(&format!("{calls}f150(x) := x\nallow if f0(true)")), []);
    let loops: String = (0..200).map(|index| format!("some x{index} in [1]\n")).collect();
    assert_eq!(judge(&format!("allow if {{ {loops} true }}")), []);
    for (open, close) in
        [("[\n", "]\n"), ("{\n", "}\n"), ("(\n", ")\n"), ("count([1 | x :=\n", "])\n"), ("-\n", "")]
    {
        let nested = format!("x := {}1{}", open.repeat(2000), close.repeat(2000));
        let error = Rego::new(format!("package bailey\nallow := true\n{nested}"), Limits::default());
        assert!(error.is_err(), "{open}");
        let hidden = format!(
            "x := \"\\\"]]]]\"\ny := `]]]]\n\"`\n# ]]]]\nz := {}1{}",
            open.repeat(40),
            close.repeat(40)
        );
        let rego = Rego::new(format!("package bailey\nallow := true\n{hidden}"), Limits::default());
        assert!(open.starts_with('-') || rego.is_err(), "{open}");
    }
    let path = format!("allow if input{}", "\n.a".repeat(10_000));
    assert!(Rego::new(format!("package bailey\n{path}"), Limits::default()).is_err());
}

#[test]
fn nothing_outside_can_be_reached() {
    for call in [
        "http.send({\"method\": \"GET\", \"url\": \"http://127.0.0.1/\"})",
        "time.now_ns()",
        "rand.intn(\"x\", 9)",
        "opa.runtime()",
        "uuid.rfc4122(\"x\")",
        "net.lookup_ip_addr(\"localhost\")",
        "io.jwt.decode(\"x\")",
        "trace(\"x\")",
        "print(\"x\")",
        "numbers.range(1, 1000000000)",
        "array.concat([1], [1])",
        "bits.lsh(1, 1000000000)",
        "product([9, 9])",
        "json.unmarshal(\"{}\")",
        "to_number(\"1e99\")",
    ] {
        let error = invalid(&format!("x := {call}"));
        assert!(error.contains("not available"), "{call}: {error}");
    }
    assert!(invalid("x := 9 * 9").contains("products"));
    assert!(invalid("x := data.bailey.allow").contains("`data`"));
    assert!(invalid("x if count(\"a\") == 1 with count as http.send").contains("with"));
    assert!(invalid("x := input.y with input as {}").contains("with"));
    let import = Rego::new("package bailey\nimport data.other\nallow := true", Limits::default());
    assert!(import.unwrap_err().to_string().contains("import"));
}

#[test]
fn what_is_no_policy_is_refused_when_it_is_read() {
    for text in
        ["", "package other\nallow := true", "package bailey\n", "package bailey\nallow = ", "\u{0}", "{}"]
    {
        assert!(Rego::new(text, Limits::default()).is_err(), "{text}");
    }
    assert!(Rego::new("package bailey\nallow[x] := true if x := 1", Limits::default()).is_err());
}

/// It is not even asked.
#[test]
fn a_refused_verdict_stays_refused() {
    let mut examination = examination();
    examination.hold_against(Policy { name: "strict".into(), ..Policy::production() });
    examination.expect_covered(&[7; 64]);
    let before = codes(&examination.assess("2025-07-04T10:16:31Z".parse().unwrap(), &AwsLc));
    assert!(before.contains(&Code::ReportDataMismatch));
    let after = assess(examination, "package bailey\nallow := true");
    assert!(!after.is_accepted());
    assert_eq!(codes(&after), before);
    assert_eq!(after.verdicts()[0].check("narrowing").unwrap().outcome, Outcome::Skipped);
}

/// The policy in the documentation is the one that works.
#[test]
fn the_example_of_the_documentation() {
    let page = fs::read_to_string(repository().join("docs/policy-rego.md")).unwrap();
    let (_, rest) = page.split_once("```rego\n").unwrap();
    let (example, _) = rest.split_once("```").unwrap();
    let examined = assess(examination(), example);
    let texts: Vec<_> = examined.reasons().iter().map(|reason| reason.text.as_str()).collect();
    assert_eq!(
        texts,
        ["the TCB level is of 2024-03-13T00:00:00Z, before 2025-01-01T00:00:00Z"],
        "{}",
        examined.render(false)
    );
    for function in page.split_once("## Functions").unwrap().1.split('`').skip(1).step_by(2) {
        let text = format!("package bailey\nallow := true\nx := {function}(1)");
        let error = Rego::new(text, Limits::default()).err().map(|error| error.to_string());
        assert!(!error.unwrap_or_default().contains("not available"), "{function}");
    }
}

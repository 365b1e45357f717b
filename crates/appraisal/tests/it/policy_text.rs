//! Policies as text: strict, and as `docs/policy.md` says, field by field.

use std::collections::BTreeSet;

use appraisal::{Code, IdBlock, Policy, Rule};
use evidence::pem;
use serde_json::{Map, Value, json};

use crate::lab::amd::Amd;

const DOCUMENT: &str = include_str!("../../../../docs/policy.md");

/// The paths of all fields with their values, two names deep.
fn fields(policy: &Policy) -> Vec<(String, Value)> {
    let Value::Object(top) = serde_json::to_value(policy).unwrap() else { panic!("an object") };
    top.into_iter()
        .flat_map(|(name, value)| match value {
            Value::Object(inner) => {
                inner.into_iter().map(|(own, value)| (format!("{name}.{own}"), value)).collect::<Vec<_>>()
            }
            value => vec![(name, value)],
        })
        .collect()
}

/// The rows of the document's tables: path, default and example.
fn rows() -> Vec<(&'static str, Value, String)> {
    let cell = |text: &'static str| text.trim().trim_matches('`');
    let read = |line: &'static str| {
        let cells: Vec<_> = line.strip_prefix("| `")?.split('|').collect();
        let [path, _, default, example, _] = cells[..] else { panic!("{line}") };
        let default = serde_json::from_str(cell(default)).unwrap_or_else(|error| panic!("{line}: {error}"));
        Some((cell(path), default, cell(example).to_owned()))
    };
    DOCUMENT.lines().filter_map(read).collect()
}

#[test]
fn every_field_is_documented_with_its_default() {
    let documented = rows();
    let paths: BTreeSet<_> = documented.iter().map(|(path, ..)| *path).collect();
    assert_eq!(paths.len(), documented.len(), "each once");
    let fields = fields(&Policy::production());
    let own: BTreeSet<_> = fields.iter().map(|(path, _)| path.as_str()).collect();
    assert_eq!(paths, own);
    for (path, default, _) in &documented {
        let (_, value) = fields.iter().find(|(own, _)| own == path).unwrap();
        assert_eq!(value, default, "{path}");
    }
}

#[test]
fn every_example_of_a_field_is_read_and_means_something() {
    let certificate = pem::encode(&Amd::genoa().present().root).replace('\n', "\\n");
    for (path, default, example) in rows() {
        let value: Value = serde_json::from_str(&example.replace('…', &certificate))
            .unwrap_or_else(|error| panic!("{path}: {error}"));
        let policy = path.rsplit('.').fold(value, |value, name| json!({ name: value })).to_string();
        let policy = Policy::from_text(&policy).unwrap_or_else(|error| panic!("{path}: {error}"));
        let (_, seen) = fields(&policy).into_iter().find(|(own, _)| own == path).unwrap();
        assert_ne!(seen, default, "{path}");
        let text = serde_json::to_string(&policy).unwrap();
        assert_eq!(Policy::from_text(&text).unwrap(), policy, "{path}: written and read again");
    }
}

#[test]
fn the_documents_example_is_a_policy() {
    let text = DOCUMENT.split("```json\n").nth(1).unwrap().split("```").next().unwrap();
    let policy = Policy::from_text(text).unwrap();
    assert_eq!(policy.name, "our machines, 2026");
    assert_eq!((policy.grace.len(), policy.waived_advisories.len()), (2, 1));
    assert_eq!(policy.collateral.max_age_days, Some(45));
    assert_eq!(policy.snp.id_block, IdBlock::Authored);
    assert_eq!(policy.alias_check, Rule::Refuse, "what it leaves out is strict");
}

#[test]
fn silence_is_strict() {
    assert_eq!(Policy::from_text("{}").unwrap(), Policy::production());
    assert_eq!(Policy::from_text(" production\n").unwrap(), Policy::production());
    assert_eq!(Policy::from_text("genuine").unwrap(), Policy::genuine());
    // Each part by itself, too.
    for (name, value) in serde_json::to_value(Policy::production()).unwrap().as_object().unwrap() {
        if value.is_object() {
            let policy = Policy::from_text(&json!({ name: {} }).to_string()).unwrap();
            assert_eq!(policy, Policy::production(), "{name}");
        }
    }
}

/// Strict means: of all that a policy has a rule for, production refuses, save what is listed here.
#[test]
fn the_default_refuses_what_it_has_a_rule_for() {
    let lenient = [
        ("compromised", "warn"),
        ("smt", "allow"),
        ("intel.dynamic_platform", "allow"),
        ("intel.cached_keys", "allow"),
        ("intel.smt", "allow"),
        ("boot.secure_boot", "warn"),
        ("nitro.missing_crl", "warn"),
        ("nvidia.not_colocated", "warn"),
    ];
    for (path, value) in fields(&Policy::production()) {
        if let Some(rule @ ("refuse" | "warn" | "allow")) = value.as_str() {
            let known = lenient.iter().find(|(own, _)| *own == path).map_or("refuse", |(_, rule)| rule);
            assert_eq!(rule, known, "{path}");
        }
    }
}

#[test]
fn what_is_not_known_is_refused_wherever_it_stands() {
    let surprise = |value: &mut Map<String, Value>| value.insert("surprise".into(), json!(1));
    let refused = |policy: &Value| {
        let error = Policy::from_text(&policy.to_string()).unwrap_err().to_string();
        assert!(error.contains("unknown field `surprise`, expected"), "{error}");
    };
    refused(&json!({ "surprise": 1 }));
    for (name, value) in serde_json::to_value(Policy::production()).unwrap().as_object().unwrap() {
        if let Value::Object(inner) = value {
            let mut inner = inner.clone();
            surprise(&mut inner);
            refused(&json!({ name: inner }));
        }
    }
}

#[test]
fn what_makes_no_sense_is_refused_with_what_was_expected() {
    let grantor = r#""until":"2026-12-31T00:00:00Z","granted_by":"a""#;
    for (text, said) in [
        (r#"{"platforms":["sev"]}"#.to_owned(), "unknown variant `sev`"),
        (r#"{"accepted_tcb":["UpToDate","Revoked"]}"#.into(), "no policy can accept Revoked"),
        (r#"{"accepted_tcb":["uptodate"]}"#.into(), "uptodate"),
        (r#"{"smt":"deny"}"#.into(), "expected one of `refuse`, `warn`, `allow`"),
        (r#"{"smt":"warn","smt":"warn"}"#.into(), "duplicate field `smt`"),
        (
            format!(r#"{{"grace":[{{"status":"OutOfDate",{grantor},"families":["Rome"]}}]}}"#),
            "\"Rome\" is no family",
        ),
        (r#"{"grace":[{"status":"OutOfDate","granted_by":"a"}]}"#.into(), "so that it ends"),
        (format!(r#"{{"grace":[{{"status":"Revoked",{grantor}}}]}}"#), "Revoked can be granted none"),
        (
            r#"{"waived_advisories":[{"id":"X","until":"2026-12-31T00:00:00Z","granted_by":" "}]}"#.into(),
            "expected a name",
        ),
        (r#"{"waived_advisories":[{"id":"X","granted_by":"a"}]}"#.into(), "missing field `until`"),
        (r#"{"accept_compromised":[{"family":"Milan","operator":""}]}"#.into(), "expected a name"),
        (r#"{"platform_identities":{"allow":[{"id":""}]}}"#.into(), "must not be empty"),
        (
            r#"{"attributes":{"snp_policy":{"required":"0x3","forbidden":"0x1"}}}"#.into(),
            "both required and forbidden",
        ),
        (r#"{"attributes":{"snp_policy":{"required":"20"}}}"#.into(), "such as \"0x20\""),
        (r#"{"denied_fmspc":["00906e"]}"#.into(), "length"),
        (r#"{"snp":{"minimum_firmware":"1"}}"#.into(), "such as \"1.55.21\""),
        (r#"{"snp":{"minimum_abi":"1"}}"#.into(), "such as 1.55"),
        (r#"{"collateral":{"grace_days":-1}}"#.into(), "invalid value"),
        (r#"{"minimum":{"intel_cpu_svn":[1,2]}}"#.into(), "array of length 16"),
        ("{".into(), "line 1"),
        ("strict".into(), "line 1"),
    ] {
        let error = Policy::from_text(&text).unwrap_err().to_string();
        assert!(error.contains(said), "{text}: {error}");
        assert!(error.contains("line 1 column"), "{error}");
    }
}

/// A warning never turns an accepted verdict into a refused one, nor an exception an accepted one.
#[test]
fn warnings_refuse_nothing() {
    let presented = Amd { crl: Some(crate::lab::Window(-24, 1)), ..Amd::milan() }.present();
    let appraised = presented.appraise().unwrap();
    let codes: Vec<_> = appraised.verdict().warnings().iter().map(|warning| warning.code).collect();
    assert_eq!(codes, [Code::CollateralExpiresSoon, Code::ProductFamilyCompromised]);
    assert!(appraised.verdict().reasons().is_empty());
}

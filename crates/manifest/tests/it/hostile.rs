//! Faults for programs, and what nobody wrote by hand.

use super::*;

#[test]
fn faults_are_data_for_programs() {
    let faults = parse(&with(keeps(), "/Marbles/tally/Pears", json!([]))).expect_err("a fault");
    assert_eq!(
        serde_json::to_value(&faults).expect("JSON"),
        json!({
            "faults": [{
                "path": "Marbles.tally.Pears",
                "code": "UNKNOWN_FIELD",
                "message": "this field is not known here",
                "hint": "did you mean `Peers`?"
            }],
            "omitted": 0
        })
    );
}

#[test]
fn the_reference_page_has_every_field_and_its_example_is_a_manifest() {
    let page = include_str!("../../../../docs/manifest.md");
    let example =
        page.split("```yaml\n").nth(1).and_then(|rest| rest.split("```").next()).expect("an example");
    let example = example.replace("<the PEM text of snp-ark.pem>", &ROOT.replace('\n', "\n        "));
    Manifest::parse(example.as_bytes()).unwrap_or_else(|faults| panic!("{faults}\n{example}"));
    for code in Code::ALL {
        assert!(page.contains(code.as_str()), "{code} is not documented");
    }
}

fn mutations() -> impl Strategy<Value = Vec<u8>> {
    let documents = [
        marblerun().to_string(),
        keeps().to_string(),
        include_str!("../golden/faulty.yaml").to_owned(),
        format!("---\n{}", serde_json::to_string_pretty(&keeps()).expect("JSON")),
    ];
    let edits =
        prop::collection::vec((any::<prop::sample::Index>(), any::<u8>(), 0..4_u8, 0..40_usize), 0..8);
    (prop::sample::select(documents.to_vec()), edits).prop_map(|(document, edits)| {
        let mut bytes = document.into_bytes();
        for (index, byte, kind, length) in edits {
            let at = index.index(bytes.len().max(1)).min(bytes.len());
            let end = (at + length).min(bytes.len());
            match kind {
                0 => bytes.insert(at, byte),
                1 => drop(bytes.drain(at..end)),
                2 => {
                    let copy = bytes[at..end].to_vec();
                    bytes.splice(at..at, copy);
                }
                _ => {
                    bytes.splice(at..end, b"{}[]\",:\\{{&*-# \n".iter().copied().take(length)).for_each(drop)
                }
            }
        }
        bytes
    })
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(400) })]

    #[test]
    fn parsing_never_panics_and_never_fails_without_a_fault(bytes in mutations()) {
        if let Err(faults) = Manifest::parse(&bytes) {
            prop_assert!(!faults.all().is_empty());
            prop_assert!(!faults.to_string().contains('\u{1b}'), "text for a terminal");
        }
    }

    #[test]
    fn templates_never_panic(data in prop::collection::vec(prop::sample::select(b"{{}}-- \n.aSecrets/*|hexpm\0\xff".to_vec()), 0..60)) {
        let data = format!("{{\"Data\":\"{}\",\"Encoding\":\"hex\"}}", data.iter().map(|b| format!("{b:02x}")).collect::<String>());
        let entry: Value = serde_json::from_str(&data).expect("JSON");
        let _ = parse(&with(marblerun(), "/Marbles/frontend/Parameters", json!({"Files": {"f": entry}})));
    }
}

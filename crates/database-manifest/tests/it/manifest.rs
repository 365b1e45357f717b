//! What a manifest means, and all that can be wrong with one.

use std::collections::BTreeSet;

use database_manifest::{AlgorithmName, Allowed, Code, Faults, Manifest, Mechanism, SqlType, TableName};
use serde_json::{Value, json};
use testkit::parties::Parties;

pub fn parse(document: &Value) -> Result<Manifest, Faults> {
    Manifest::parse(document.to_string().as_bytes())
}

fn table(name: &str) -> TableName {
    TableName::new(name).expect("a name")
}

#[test]
fn the_example_says_what_it_means() {
    let parties = Parties::new();
    let manifest =
        Manifest::parse(parties.manifest_text().as_bytes()).unwrap_or_else(|faults| panic!("{faults}"));
    assert_eq!(manifest.name, "shared");
    assert_eq!(manifest.parties.len(), 6);
    assert_eq!(manifest.statements.len(), 4);
    assert_eq!(manifest.updates.threshold, 2);
    assert_eq!(manifest.max_size, 1 << 30);
    assert!(!manifest.freshness.anchor_required);
    let volume = &manifest.algorithms[&AlgorithmName::new("volume").expect("a name")];
    assert_eq!(volume.reads, BTreeSet::from([table("payments")]));
    assert_eq!(volume.arguments[0].sql_type, SqlType::Integer);
    assert!(
        matches!(&volume.arguments[0].allowed, Allowed::Range { from, to } if from == "0" && to == "1000000")
    );
    assert_eq!(volume.output.min_contributors, 10);
    let total = &manifest.algorithms[&AlgorithmName::new("total").expect("a name")];
    assert_eq!(total.output.columns[0].noise.expect("noise").mechanism, Mechanism::Laplace);
    let anchor = &manifest.parties.values().next().expect("a party").anchors[0];
    assert_eq!(anchor.der, parties.analyst.der);
}

#[test]
fn yaml_means_the_same() {
    let parties = Parties::new();
    let json = parties.manifest_text();
    let yaml = format!("# the same\n---\n{json}");
    let manifest = Manifest::parse(yaml.as_bytes()).unwrap_or_else(|faults| panic!("{faults}"));
    assert_ne!(manifest.digest, Manifest::parse(json.as_bytes()).expect("no faults").digest, "other bytes");
}

#[test]
fn a_view_reads_what_is_behind_it() {
    let mut document = Parties::new().manifest();
    let schema = document["Schema"].as_str().expect("SQL").to_owned();
    document["Schema"] =
        json!(schema
        + "CREATE VIEW cities AS SELECT city, count(DISTINCT account) AS n FROM payments GROUP BY city;
           CREATE VIEW large AS SELECT city FROM cities WHERE n > 10;");
    document["Tables"]["large"] = json!({"Readers": ["auditor"], "Owner": "approver_d"});
    document["Algorithms"]["volume"]["Sql"] =
        json!("SELECT city, 1 AS total, $1::bigint AS contributors FROM large");
    let manifest = parse(&document).unwrap_or_else(|faults| panic!("{faults}"));
    let volume = &manifest.algorithms[&AlgorithmName::new("volume").expect("a name")];
    assert_eq!(volume.reads, BTreeSet::from([table("payments")]));
}

/// Changes the example at a JSON pointer and says which faults that has.
fn faults(pointer: &str, value: Value) -> Vec<(String, Code)> {
    let mut document = Parties::new().manifest();
    let (parent, field) = pointer.rsplit_once('/').expect("a pointer");
    let place = document.pointer_mut(parent).unwrap_or_else(|| panic!("{pointer}"));
    match (place, value) {
        (Value::Object(map), Value::Null) => drop(map.remove(field)),
        (Value::Object(map), value) => drop(map.insert(field.to_owned(), value)),
        (place, value) => place[field.parse::<usize>().expect("an index")] = value,
    }
    match parse(&document) {
        Ok(_) => Vec::new(),
        Err(faults) => faults.all().iter().map(|fault| (fault.path.clone(), fault.code)).collect(),
    }
}

#[test]
fn every_rule_has_its_fault() {
    let v1 = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n";
    let leaf = Parties::new().bank_a.issue("leaf").pem;
    let out = "Algorithms.volume.Output";
    for (pointer, value, path, code) in [
        ("/Name", json!(null), "Name", Code::Missing),
        ("/Name", json!("postgres"), "Name", Code::InvalidName),
        ("/Name", json!("my db"), "Name", Code::InvalidName),
        ("/Colour", json!(1), "Colour", Code::UnknownField),
        ("/MaxSize", json!(null), "MaxSize", Code::Missing),
        ("/MaxSize", json!("1MiB"), "MaxSize", Code::InvalidValue),
        ("/History", json!("7 days"), "History", Code::InvalidValue),
        ("/Parties/bank_a/Anchors", json!([]), "Parties.bank_a.Anchors", Code::Missing),
        ("/Parties/bank_a/Anchors/0", json!(v1), "Parties.bank_a.Anchors[0]", Code::InvalidCertificate),
        ("/Parties/bank_a/Anchors/0", json!(leaf), "Parties.bank_a.Anchors[0]", Code::InvalidCertificate),
        ("/Parties/bank_a/Revoked", json!(["00"]), "Parties.bank_a.Revoked[0]", Code::InvalidValue),
        ("/Parties/bank_a/MaxValidity", json!("1y"), "Parties.bank_a.MaxValidity", Code::InvalidValue),
        ("/Tables/notes", json!(null), "Tables", Code::Missing),
        ("/Tables/secrets", json!({}), "Tables.secrets", Code::UnknownReference),
        ("/Tables/notes/Owner", json!("bank_b"), "Tables.notes.Owner", Code::Conflict),
        ("/Tables/notes/Readers", json!(["nobody"]), "Tables.notes.Readers[0]", Code::UnknownReference),
        (
            "/Tables/notes/Readers",
            json!(["auditor", "auditor"]),
            "Tables.notes.Readers[1]",
            Code::DuplicateValue,
        ),
        ("/Tables/notes/Unit", json!("account"), "Tables.notes.Unit", Code::UnknownReference),
        ("/Tables/notes/Stamp", json!("id"), "Tables.notes.Stamp", Code::Conflict),
        ("/Algorithms/volume/Time", json!("2m"), "Algorithms.volume.Time", Code::InvalidValue),
        ("/Algorithms/volume/Time", json!("0s"), "Algorithms.volume.Time", Code::InvalidValue),
        (
            "/Algorithms/volume/Callers",
            json!(["nobody"]),
            "Algorithms.volume.Callers[0]",
            Code::UnknownReference,
        ),
        ("/Algorithms/volume/Arguments", json!([]), "Algorithms.volume.Sql", Code::InvalidSql),
        (
            "/Algorithms/volume/Arguments/0/Type",
            json!("money"),
            "Algorithms.volume.Arguments[0].Type",
            Code::InvalidValue,
        ),
        (
            "/Algorithms/volume/Arguments/0/To",
            json!(null),
            "Algorithms.volume.Arguments[0].To",
            Code::Missing,
        ),
        (
            "/Algorithms/volume/Arguments/0/From",
            json!("x"),
            "Algorithms.volume.Arguments[0].From",
            Code::InvalidValue,
        ),
        (
            "/Algorithms/volume/Arguments/0/OneOf",
            json!(["1"]),
            "Algorithms.volume.Arguments[0]",
            Code::Conflict,
        ),
        (
            "/Algorithms/volume/Output/MinContributors",
            json!(null),
            &format!("{out}.MinContributors"),
            Code::Missing,
        ),
        (
            "/Algorithms/volume/Output/MinContributors",
            json!(1),
            &format!("{out}.MinContributors"),
            Code::InvalidValue,
        ),
        (
            "/Algorithms/volume/Output/Contributors",
            json!(null),
            &format!("{out}.Contributors"),
            Code::Missing,
        ),
        (
            "/Algorithms/volume/Output/Contributors",
            json!("n"),
            &format!("{out}.Contributors"),
            Code::UnknownReference,
        ),
        (
            "/Algorithms/volume/Output/Contributors",
            json!("total"),
            &format!("{out}.Contributors"),
            Code::Conflict,
        ),
        ("/Algorithms/volume/Output/MaxRows", json!(0), &format!("{out}.MaxRows"), Code::Missing),
        (
            "/Algorithms/volume/Output/Columns/0/Name",
            json!("town"),
            &format!("{out}.Columns[0].Name"),
            Code::UnknownReference,
        ),
        (
            "/Algorithms/volume/Output/Columns/0/RoundTo",
            json!(5),
            &format!("{out}.Columns[0].RoundTo"),
            Code::NotApplicable,
        ),
        (
            "/Algorithms/volume/Output/Privacy",
            json!({"Epsilon": 1}),
            &format!("{out}.Privacy"),
            Code::NotApplicable,
        ),
        ("/Algorithms/total/Output/Privacy", json!(null), "Algorithms.total.Output.Privacy", Code::Missing),
        (
            "/Algorithms/total/Output/Privacy/Epsilon",
            json!(0.05),
            "Algorithms.total.Output.Privacy.Epsilon",
            Code::Conflict,
        ),
        ("/Updates", json!(null), "Updates", Code::Missing),
        ("/Updates/Threshold", json!(3), "Updates.Threshold", Code::InvalidValue),
        ("/Updates/Threshold", json!(0), "Updates.Threshold", Code::InvalidValue),
        (
            "/Recovery",
            json!({"Holders": {"x": "no"}, "Threshold": 1}),
            "Recovery.Threshold",
            Code::InvalidValue,
        ),
        ("/Freshness/MaxLag", json!("2m"), "Freshness.MaxLag", Code::InvalidValue),
    ] {
        let found = faults(pointer, value.clone());
        assert!(found.contains(&(path.to_owned(), code)), "{pointer} = {value}: {found:?}");
    }
}

#[test]
fn two_parties_never_share_an_anchor() {
    let mut document = Parties::new().manifest();
    document["Parties"]["bank_b"] = document["Parties"]["bank_a"].clone();
    let faults = parse(&document).expect_err("one anchor");
    assert_eq!(faults.all()[0].code, Code::DuplicateValue);
    assert_eq!(faults.all()[0].path, "Parties.bank_b.Anchors[0]");
}

#[test]
fn noise_that_one_call_cannot_pay_is_a_fault() {
    let noise = json!({"Mechanism": "gaussian", "Sensitivity": 1, "Epsilon": 0.5, "Delta": 0.00001});
    let at = "/Algorithms/total/Output/Columns/0/Noise";
    let found = faults(at, noise);
    assert_eq!(found, [("Algorithms.total.Output.Privacy.Delta".to_owned(), Code::Conflict)]);
    let found = faults(at, json!({"Mechanism": "laplace", "Sensitivity": 0, "Epsilon": 0.5}));
    assert_eq!(found[0].1, Code::InvalidValue);
}

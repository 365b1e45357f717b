//! Receipts, whole: written, read, verified, and everything that must be refused.

use database_receipt::{
    CertificateDer, Digest, Malformed, Receipt, Statement, Table, Untrusted, VERSION, verify,
};
use rcgen::{
    BasicConstraints, CertificateParams, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair, SigningKey as _,
};

const TIME: u64 = 1_800_000_000;

struct Database {
    root: CertificateDer<'static>,
    leaf: CertificateDer<'static>,
    key: KeyPair,
}

fn database(name: &str) -> Database {
    let mut parameters = CertificateParams::new(Vec::new()).unwrap();
    parameters.distinguished_name.push(rcgen::DnType::CommonName, name);
    parameters.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let root_key = KeyPair::generate().unwrap();
    let root = parameters.self_signed(&root_key).unwrap();
    let issuer = Issuer::new(parameters, root_key);
    let key = KeyPair::generate().unwrap();
    let mut parameters = CertificateParams::new(vec!["localhost".into()]).unwrap();
    parameters.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    parameters.not_before = rcgen::date_time_ymd(2027, 1, 1);
    parameters.not_after = rcgen::date_time_ymd(2027, 12, 31);
    let leaf = parameters.signed_by(&key, &issuer).unwrap();
    Database { root: root.der().clone(), leaf: leaf.der().clone(), key }
}

fn answer() -> Table {
    Table { columns: vec![("n".into(), "bigint".into())], rows: vec![vec![Some("12".into())], vec![None]] }
}

fn statement() -> Statement {
    let digest = |text: &str| Digest::of(text.as_bytes());
    Statement {
        version: VERSION,
        database: "banks".into(),
        first_manifest: digest("first"),
        manifest: digest("manifest"),
        epoch: 3,
        caller: "analyst".into(),
        certificate: digest("certificate"),
        algorithm: "rings".into(),
        query: digest("SELECT 1"),
        module: None,
        arguments: vec!["5".into()],
        answer: answer().digest(),
        data: Vec::new(),
        log_position: "0/16B3748".into(),
        epsilon: Some("0.5".into()),
        time: TIME,
    }
}

fn receipt(database: &Database, statement: Statement) -> Receipt {
    let signature = database.key.sign(&statement.signed_bytes()).unwrap();
    Receipt { statement, certificates: vec![database.leaf.clone()], signature }
}

#[test]
fn a_receipt_survives_its_file_and_is_verified() {
    let database = database("banks");
    let written = serde_json::to_vec_pretty(&receipt(&database, statement()).to_json()).unwrap();
    let read = Receipt::parse(&written).unwrap();
    let verified = verify(read, &database.root).unwrap();
    assert_eq!(verified.statement(), &statement());
    verified.is_about(&answer()).unwrap();
    verified.is_under(b"manifest").unwrap();
}

#[test]
fn every_field_of_a_statement_is_signed() {
    let database = database("banks");
    let good = receipt(&database, statement()).to_json();
    let other = |value: &serde_json::Value| match value {
        serde_json::Value::Number(n) => (n.as_u64().unwrap() + 1).into(),
        serde_json::Value::String(text) if text.len() == 64 => Digest::of(b"other").to_string().into(),
        serde_json::Value::String(text) => format!("{text}1").into(),
        serde_json::Value::Null => Digest::of(b"other").to_string().into(),
        _ => serde_json::json!([]),
    };
    for (field, value) in good["Statement"].as_object().unwrap() {
        let mut changed = good.clone();
        changed["Statement"][field] = match field.as_str() {
            "Data" => serde_json::json!([{"Table": "t", "Rows": Digest::of(b"r").to_string()}]),
            _ => other(value),
        };
        match Receipt::parse(&serde_json::to_vec(&changed).unwrap()) {
            Err(Malformed::Version(2)) => assert_eq!(field, "Version"),
            Err(error) => panic!("{field}: {error}"),
            Ok(receipt) => {
                assert_eq!(verify(receipt, &database.root).unwrap_err(), Untrusted::Signature, "{field}")
            }
        }
    }
}

#[test]
fn another_databases_root_does_not_verify_it() {
    let (ours, theirs) = (database("banks"), database("banks"));
    let refused = verify(receipt(&ours, statement()), &theirs.root).unwrap_err();
    assert_eq!(refused.code(), "RECEIPT_CHAIN");
}

#[test]
fn a_leaf_of_the_database_with_another_key_does_not_verify_it() {
    let (ours, theirs) = (database("banks"), database("banks"));
    let mut forged = receipt(&theirs, statement());
    forged.certificates = vec![ours.leaf.clone()];
    assert_eq!(verify(forged, &ours.root).unwrap_err(), Untrusted::Signature);
}

#[test]
fn a_receipt_of_a_time_when_its_certificate_did_not_count_is_refused() {
    let database = database("banks");
    for time in [1_790_000_000, 1_900_000_000] {
        let refused =
            verify(receipt(&database, Statement { time, ..statement() }), &database.root).unwrap_err();
        assert_eq!(refused.code(), "RECEIPT_CHAIN", "{time}");
    }
}

#[test]
fn another_answer_and_another_manifest_are_told_apart() {
    let database = database("banks");
    let verified = verify(receipt(&database, statement()), &database.root).unwrap();
    let mut other = answer();
    other.rows[0][0] = Some("13".into());
    assert_eq!(verified.is_about(&other).unwrap_err().code(), "RECEIPT_OTHER_ANSWER");
    assert_eq!(verified.is_under(b"another").unwrap_err().code(), "RECEIPT_OTHER_MANIFEST");
}

#[test]
fn what_is_no_receipt_is_refused_by_code() {
    let database = database("banks");
    let good = receipt(&database, statement()).to_json();
    let with = |change: &dyn Fn(&mut serde_json::Value)| {
        let mut changed = good.clone();
        change(&mut changed);
        Receipt::parse(&serde_json::to_vec(&changed).unwrap()).unwrap_err().code()
    };
    assert_eq!(with(&|it| it["Extra"] = 1.into()), "RECEIPT_MALFORMED");
    assert_eq!(with(&|it| it["Statement"]["Extra"] = 1.into()), "RECEIPT_MALFORMED");
    assert_eq!(with(&|it| it["Statement"]["Query"] = "AB".repeat(32).into()), "RECEIPT_MALFORMED");
    assert_eq!(with(&|it| it["Statement"]["Version"] = 2.into()), "RECEIPT_VERSION");
    assert_eq!(with(&|it| it["Signature"] = "?".into()), "RECEIPT_BASE64");
    assert_eq!(with(&|it| it["Certificates"] = serde_json::json!([])), "RECEIPT_CERTIFICATES");
    assert_eq!(Receipt::parse(&vec![b' '; 300 << 10]).unwrap_err().code(), "RECEIPT_TOO_LONG");
}

proptest::proptest! {
    #[test]
    fn no_bytes_make_the_parser_panic(bytes in proptest::collection::vec(proptest::num::u8::ANY, 0..400)) {
        let _ = Receipt::parse(&bytes);
    }
}

//! The document with the security versions that were raised since it was written: what is in force, as one text.

use std::collections::BTreeMap;

use serde_json::{Map, Value as Json};

use crate::fault::Faults;
use crate::tree::{Entry, Node, Value};

/// The manifest `bytes` as JSON, with the security versions of packages from `versions`; those of packages that it
/// does not have are left out. Its digest is another than that of `bytes`.
///
/// # Errors
/// Where `bytes` cannot be read at all; what they say is not looked at.
pub fn with_versions(bytes: &[u8], versions: &BTreeMap<String, u16>) -> Result<Json, Faults> {
    let mut document = json(Node::parse(bytes)?);
    let Some(Json::Object(packages)) = field(&mut document, "Packages") else { return Ok(document) };
    for (name, version) in versions {
        let Some(package) = packages.get_mut(name) else { continue };
        match field(package, "SecurityVersion") {
            Some(known) => *known = Json::from(*version),
            None => {
                if let Json::Object(package) = package {
                    package.insert("SecurityVersion".into(), Json::from(*version));
                }
            }
        }
    }
    Ok(document)
}

/// Names of fields match without regard to case.
fn field<'j>(object: &'j mut Json, name: &str) -> Option<&'j mut Json> {
    let Json::Object(entries) = object else { return None };
    entries.iter_mut().find(|(key, _)| key.eq_ignore_ascii_case(name)).map(|(_, value)| value)
}

fn json(node: Node) -> Json {
    match node.value {
        Value::Null | Value::OtherNumber(_) => Json::Null,
        Value::Bool(value) => Json::Bool(value),
        Value::Unsigned(value) => Json::from(value),
        Value::Text(text) => Json::String(text),
        Value::List(nodes) => Json::Array(nodes.into_iter().map(json).collect()),
        Value::Object(entries) => {
            let entry = |Entry { key, node, .. }| (key, json(node));
            Json::Object(entries.into_iter().map(entry).collect::<Map<_, _>>())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_merged_whatever_the_form() {
        let versions = BTreeMap::from([("a".to_owned(), 7), ("c".to_owned(), 9)]);
        let yaml = b"packages: { a: { securityversion: 3 }, b: { SecurityVersion: 1 } }\nMarbles: {}\n";
        let merged = with_versions(yaml, &versions).unwrap();
        let expected = serde_json::json!({
            "packages": { "a": { "securityversion": 7 }, "b": { "SecurityVersion": 1 } }, "Marbles": {},
        });
        assert_eq!(merged, expected);
        let merged = with_versions(br#"{"Packages": {"a": {}}}"#, &versions).unwrap();
        assert_eq!(merged, serde_json::json!({ "Packages": { "a": { "SecurityVersion": 7 } } }));
        assert!(with_versions(b"{", &versions).is_err());
    }
}

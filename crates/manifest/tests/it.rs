//! The manifest through its public API: what is accepted, what each rule refuses, and what people read.

#[path = "it/broker.rs"]
mod broker;
#[path = "it/config.rs"]
mod config;
#[path = "it/databases.rs"]
mod databases;
#[path = "it/documents.rs"]
mod documents;
#[path = "it/hostile.rs"]
mod hostile;
#[path = "it/marbles.rs"]
mod marbles;
#[path = "it/packages.rs"]
mod packages;
#[path = "it/plan.rs"]
mod plan;
#[path = "it/references.rs"]
mod references;
#[path = "it/secrets.rs"]
mod secrets;
#[path = "it/settings.rs"]
mod settings;
#[path = "it/stores.rs"]
mod stores;
#[path = "it/users.rs"]
mod users;
#[path = "it/workloads.rs"]
mod workloads;

use std::collections::BTreeMap;
use std::time::Duration;

use evidence::Platform;
use manifest::{
    AcceptedCode, Access, Action, Code, End, Faults, InstanceAction, KeyKind, KeyPart, Log, Manifest,
    ManifestDigest, PackageUpdate, Proof, Reference, SealMode, SecretKind, SecretSource, SubjectName,
    TcbStatus, Values,
};
use proptest::prelude::*;
use serde_json::{Value, json};

const ALICE: &str = include_str!("data/alice.pem");
const BOB: &str = include_str!("data/bob.pem");
const ROOT: &str = include_str!("data/root-a.pem");
const OTHER_ROOT: &str = include_str!("data/root-b.pem");
const RSA: &str = include_str!("data/recovery.pem");
const EC: &str = include_str!("data/ec.pem");

/// Values by the name that the reference has in templates.
struct Fixed(BTreeMap<&'static str, &'static [u8]>);

impl Values for Fixed {
    fn value(&self, reference: &Reference) -> Option<&[u8]> {
        self.0.get(reference.to_string().as_str()).copied()
    }
}

fn sgx() -> String {
    "1a".repeat(32)
}

fn long() -> String {
    "2b".repeat(48)
}

/// A manifest as MarbleRun's users write it.
fn marblerun() -> Value {
    json!({
        "Packages": {
            "backend": { "UniqueID": sgx(), "Debug": false, "AcceptedTCBStatuses": ["SWHardeningNeeded"] },
            "unused": { "SignerID": "", "Debug": true }
        },
        "Marbles": {
            "backend_first": {
                "Package": "backend",
                "MaxActivations": 2,
                "Parameters": {
                    "Files": {
                        "/run/key.hex": "{{ hex .Secrets.shared_key }}",
                        "/run/blob": { "Data": "AP8=", "Encoding": "Base64", "NoTemplates": true },
                        "/run/ca.pem": { "Data": "{{ pem .MarbleRun.RootCA.Cert }}", "Encoding": "string" }
                    },
                    "Env": {
                        "FIRST": "yes",
                        "API_KEY": "{{ string .Secrets.api_key }}",
                        "HEX": { "Encoding": "hex", "Data": "4869" }
                    },
                    "Argv": ["./backend", "--first", "{{ not a template }}"]
                }
            },
            "frontend": { "Package": "backend" }
        },
        "Secrets": {
            "shared_key": { "Type": "symmetric-key", "Size": 128, "Shared": true },
            "own_key": { "Type": "symmetric-key", "Size": 256 },
            "api_key": { "Type": "plain", "UserDefined": true }
        },
        "Users": {
            "alice": { "Certificate": ALICE, "Roles": ["writer", "reader"] },
            "bob": { "Certificate": BOB }
        },
        "Roles": {
            "writer": { "ResourceType": "Secrets", "ResourceNames": ["api_key"], "Actions": ["writesecret"] },
            "reader": { "ResourceType": "Secrets", "ResourceNames": ["shared_key"], "Actions": ["ReadSecret"] }
        },
        "Config": { "SealMode": "ProductKey", "UpdateThreshold": 0 }
    })
}

/// A manifest of Keeps.
fn keeps() -> Value {
    json!({
        "Packages": { "keep": { "Measurements": { "Snp": [long()], "Tdx": long() } } },
        "Platforms": {
            "Snp": {
                "MinimumTcb": { "Bootloader": 4, "Tee": 0, "Snp": 24, "Microcode": 219 },
                "DeniedFamilies": ["Milan"],
                "EmulatedRoots": [ROOT]
            },
            "Tdx": { "AcceptedTCBStatuses": ["SWHardeningNeeded"], "MinimumTcbEvaluationNumber": 17 }
        },
        "Marbles": {
            "frontend": {
                "Package": "keep",
                "Workload": { "Digest": format!("sha256:{}", "ab".repeat(32)) },
                "Access": "Public",
                "Names": ["localhost", "127.0.0.1", "vote.example.org"],
                "Log": "Host"
            },
            "tally": {
                "Package": "keep",
                "Workload": { "Digest": format!("sha256:{}", "cd".repeat(32)) },
                "Limits": {
                    "Memory": "32MiB", "CpuPerRequest": "500ms", "ConcurrentRequests": 8, "BodySize": "64KiB"
                },
                "Peers": ["frontend"]
            }
        }
    })
}

fn parse(document: &Value) -> Result<Manifest, Faults> {
    Manifest::parse(document.to_string().as_bytes())
}

/// A document with the value at a JSON pointer replaced; `Null` stands for an absent field.
fn with(mut document: Value, pointer: &str, value: Value) -> Value {
    let (parent, key) = pointer.rsplit_once('/').expect("a pointer");
    let parent = document.pointer_mut(parent).unwrap_or_else(|| panic!("{pointer}"));
    match parent {
        Value::Object(fields) => {
            fields.insert(key.replace("~1", "/"), value);
        }
        Value::Array(items) => items[key.parse::<usize>().expect("an index")] = value,
        other => panic!("{pointer}: {other}"),
    }
    document
}

/// Each fault as `path CODE`.
fn faults(document: &Value) -> Vec<String> {
    match parse(document) {
        Ok(_) => Vec::new(),
        Err(faults) => faults.all().iter().map(|fault| format!("{} {}", fault.path, fault.code)).collect(),
    }
}

#[track_caller]
fn refused(document: Value, pointer: &str, value: Value, expected: &[&str]) {
    let shown = format!("{pointer} = {value}");
    assert_eq!(faults(&with(document, pointer, value)), expected, "{shown}");
}

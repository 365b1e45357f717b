//! The manifest through its public API: what is accepted, what each rule refuses, and what people read.

use std::collections::BTreeMap;
use std::time::Duration;

use evidence::Platform;
use manifest::{
    AcceptedCode, Access, Action, Code, End, Faults, KeyKind, KeyPart, Log, Manifest, ManifestDigest,
    PackageUpdate, Proof, Reference, SealMode, SecretKind, SecretSource, SubjectName, TcbStatus, Values,
};
use proptest::prelude::*;
use serde_json::{Value, json};

const ALICE: &str = include_str!("data/alice.pem");
const BOB: &str = include_str!("data/bob.pem");
const ROOT: &str = include_str!("data/root-a.pem");
const OTHER_ROOT: &str = include_str!("data/root-b.pem");
const RSA: &str = include_str!("data/recovery.pem");
const EC: &str = include_str!("data/ec.pem");

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

#[test]
fn a_marblerun_manifest_keeps_its_meaning() {
    let manifest = parse(&marblerun()).unwrap_or_else(|faults| panic!("{faults}"));
    assert_eq!(manifest.platforms().keys().collect::<Vec<_>>(), [&Platform::Sgx]);
    assert_eq!(manifest.packages().len(), 1, "packages that no Marble names have no effect");

    let marble = manifest.marble("backend_first").expect("a Marble");
    let accepted = &marble.package.accepted[&Platform::Sgx];
    let AcceptedCode::Measurements(measurements) = &accepted.code else { panic!() };
    assert_eq!(measurements.iter().map(ToString::to_string).collect::<Vec<_>>(), [sgx()]);
    assert!(accepted.policy.accepted_tcb_statuses.contains(&TcbStatus::SwHardeningNeeded));
    assert!(accepted.policy.emulated_roots.is_empty());
    assert_eq!(marble.max_activations.map(u64::from), Some(2));
    assert_eq!(manifest.marble("frontend").expect("a Marble").max_activations, None);
    assert!(marble.workload.is_none());

    let secrets = manifest.secrets();
    assert_eq!(secrets["shared_key"].source, SecretSource::Shared);
    assert_eq!(secrets["own_key"].source, SecretSource::PerInstance);
    assert!(matches!(secrets["own_key"].kind, SecretKind::SymmetricKey { bytes } if bytes.get() == 32));
    assert_eq!(
        (secrets["api_key"].source.clone(), &secrets["api_key"].kind),
        (SecretSource::UserDefined, &SecretKind::Plain)
    );
}

#[test]
fn a_manifest_of_keeps_resolves() {
    let manifest = parse(&keeps()).unwrap_or_else(|faults| panic!("{faults}"));
    let tally = manifest.marble("tally").expect("a Marble");
    let workload = tally.workload.as_ref().expect("a workload");
    assert_eq!(workload.digest.to_string(), format!("sha256:{}", "cd".repeat(32)));
    assert_eq!(workload.limits.memory, 32 << 20);
    assert_eq!(workload.limits.cpu_per_request, Duration::from_millis(500));
    assert_eq!((workload.limits.concurrent_requests, workload.limits.body_size), (8, 64 << 10));
    assert_eq!(workload.log, Log::Discard);
    assert!(matches!(&workload.access, Access::Peers(peers) if peers.len() == 1));
    let frontend = manifest.marble("frontend").expect("a Marble");
    assert_eq!(frontend.names.len(), 3);
    assert!(matches!(frontend.names[1], SubjectName::Ip(_)));
    let reachable = |from: &str| -> Vec<_> {
        let from = from.parse().expect("a name");
        manifest.reachable_from(&from).map(|marble| marble.name.to_string()).collect()
    };
    assert_eq!(reachable("frontend"), ["frontend", "tally"]);
    assert_eq!(reachable("tally"), ["frontend"], "a Marble is not its own peer unless it says so");

    let snp = &tally.package.accepted[&Platform::Snp].policy;
    assert_eq!(snp.minimum_tcb.microcode, Some(219));
    assert_eq!(snp.minimum_tcb.fmc, None);
    assert_eq!((snp.denied_families.len(), snp.emulated_roots.len()), (1, 1));
    let tdx = &manifest.platforms()[&Platform::Tdx];
    assert_eq!(tdx.minimum_tcb_evaluation_number, Some(17));
    assert_eq!(tdx.accepted_tcb_statuses.len(), 2, "UpToDate is always accepted");
}

#[test]
fn the_digest_is_of_the_exact_bytes() {
    let text = keeps().to_string();
    let manifest = Manifest::parse(text.as_bytes()).expect("a manifest");
    let spaced = Manifest::parse(format!("{text}\n").as_bytes()).expect("a manifest");
    assert_eq!(manifest.digest(), ManifestDigest::of(text.as_bytes()));
    assert_ne!(manifest.digest(), spaced.digest());
    assert_eq!(manifest.digest().to_string().parse(), Ok(manifest.digest()));
}

/// Flow YAML is nearly JSON, so every JSON document of these tests is a YAML document too.
#[test]
fn json_and_yaml_have_one_meaning() {
    for document in [marblerun(), keeps(), with(keeps(), "/Marbles/tally/Pears", json!(["frontend"]))] {
        let text = document.to_string();
        let pretty = serde_json::to_string_pretty(&document).expect("JSON");
        let json = Manifest::parse(text.as_bytes());
        for yaml in [format!("---\n{text}\n"), format!("# comment\n{pretty}")] {
            match (&json, Manifest::parse(yaml.as_bytes())) {
                (Ok(json), Ok(yaml)) => {
                    assert_eq!((json.marbles(), json.packages()), (yaml.marbles(), yaml.packages()));
                    assert_eq!((json.users(), json.secrets()), (yaml.users(), yaml.secrets()));
                    assert_eq!((json.platforms(), json.roles()), (yaml.platforms(), yaml.roles()));
                }
                (Err(json), Err(yaml)) => {
                    let of = |faults: &Faults| -> Vec<_> {
                        faults
                            .all()
                            .iter()
                            .map(|fault| (fault.path.clone(), fault.code, fault.hint.clone()))
                            .collect()
                    };
                    assert_eq!(of(json), of(&yaml));
                }
                (json, yaml) => panic!("{json:?}\n{yaml:?}"),
            }
        }
    }
}

#[test]
fn block_yaml_is_read_with_anchors_and_lines() {
    let text = format!(
        "Packages:\n  app: &app\n    UniqueID: {0}\n  twin: *app\nMarbles:\n  web:\n    Package: twin\n    \
         Parameters:\n      Env:\n        MODE: yes\n        TEXT: |\n          two\n          lines\n",
        sgx()
    );
    let manifest = Manifest::parse(text.as_bytes()).unwrap_or_else(|faults| panic!("{faults}"));
    let parameters = &manifest.marble("web").expect("a Marble").parameters;
    let rendered = parameters.render(&Fixed(BTreeMap::new())).expect("no secrets");
    assert_eq!(rendered.env["MODE"].as_slice(), b"yes", "`yes` is text in YAML 1.2");
    assert_eq!(rendered.env["TEXT"].as_slice(), b"two\nlines\n");

    let faults =
        Manifest::parse(text.replace("Package: twin", "Package: twyn").as_bytes()).expect_err("a fault");
    assert_eq!(faults.all()[0].line, Some(7));
}

#[test]
fn golden_what_a_person_reads() {
    let text = include_str!("golden/faulty.yaml");
    let faults = Manifest::parse(text.as_bytes()).expect_err("faults").to_string();
    if std::option_env!("BLESS").is_some() {
        std::fs::write(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/golden/faulty.txt"), &faults)
            .expect("written");
    }
    assert_eq!(faults, include_str!("golden/faulty.txt"));
}

#[test]
fn names_of_fields_match_without_case_once() {
    let lower = with(marblerun(), "/Marbles/frontend/package", json!("backend"));
    assert_eq!(faults(&lower), ["Marbles.frontend.package DUPLICATE_FIELD"]);
    let text = marblerun()
        .to_string()
        .replace("\"Packages\"", "\"packages\"")
        .replace("\"UniqueID\"", "\"uniqueId\"");
    assert!(Manifest::parse(text.as_bytes()).is_ok());
    let doubled = text.replacen("\"Secrets\":{", "\"Secrets\":{\"own_key\":{\"Type\":\"plain\"},", 1);
    let refused = Manifest::parse(doubled.as_bytes()).expect_err("a doubled name");
    assert_eq!(refused.all()[0].path, "Secrets.own_key");
    assert!(refused.contains(Code::DuplicateField));
    // Names that the author chooses are compared exactly.
    assert_eq!(
        faults(&with(marblerun(), "/Secrets/OWN_KEY", json!({"Type": "symmetric-key", "Size": 8}))),
        [""; 0]
    );
}

#[test]
fn s41_unknown_fields_are_errors_everywhere_and_all_are_found() {
    let mut document = keeps();
    let places = [
        "",
        "/Packages/keep",
        "/Packages/keep/Measurements",
        "/Platforms",
        "/Platforms/Snp",
        "/Platforms/Snp/MinimumTcb",
        "/Marbles/tally",
        "/Marbles/tally/Workload",
        "/Marbles/tally/Limits",
    ];
    for place in places {
        document = with(document, &format!("{place}/Surprise"), json!(1));
    }
    assert_eq!(faults(&document).len(), places.len());
    assert!(faults(&document).iter().all(|fault| fault.ends_with("Surprise UNKNOWN_FIELD")));
    for place in ["/Users/alice", "/Roles/reader", "/Secrets/own_key", "/Config", "/Marbles/frontend"] {
        assert_eq!(faults(&with(marblerun(), &format!("{place}/Surprise"), json!({}))).len(), 1, "{place}");
    }
    let entry = "/Marbles/backend_first/Parameters/Files/~1run~1blob/Surprise".replace("~1run~1blob", "x");
    let document = with(marblerun(), "/Marbles/backend_first/Parameters/Files/x", json!({"Data": ""}));
    assert_eq!(
        faults(&with(document, &entry, json!(true))),
        ["Marbles.backend_first.Parameters.Files.x.Surprise UNKNOWN_FIELD"]
    );
}

#[test]
fn values_have_their_types() {
    for (pointer, value, expected) in [
        ("/Packages", json!([]), "Packages WRONG_TYPE"),
        ("/Packages/backend", json!("x"), "Packages.backend WRONG_TYPE"),
        ("/Packages/backend", Value::Null, "Packages.backend WRONG_TYPE"),
        ("/Packages/backend/UniqueID", json!(12), "Packages.backend.UniqueID WRONG_TYPE"),
        ("/Packages/backend/Debug", json!("true"), "Packages.backend.Debug WRONG_TYPE"),
        ("/Packages/backend/ProductID", json!(-1), "Packages.backend.ProductID WRONG_TYPE"),
        ("/Packages/backend/ProductID", json!(1.5), "Packages.backend.ProductID WRONG_TYPE"),
        ("/Marbles/frontend/MaxActivations", json!("2"), "Marbles.frontend.MaxActivations WRONG_TYPE"),
        ("/Marbles/frontend/TLS", json!(["a", 1]), "Marbles.frontend.TLS[1] WRONG_TYPE"),
        (
            "/Marbles/frontend/Parameters",
            json!({"Env": {"A": 1}}),
            "Marbles.frontend.Parameters.Env.A WRONG_TYPE",
        ),
        ("/Users/alice/Certificate", json!(false), "Users.alice.Certificate WRONG_TYPE"),
        ("/Infrastructures", json!({"a": {"CPUSVN": "?"}}), "Infrastructures.a.CPUSVN INVALID_VALUE"),
    ] {
        refused(marblerun(), pointer, value, &[expected]);
    }
    assert_eq!(
        faults(&with(marblerun(), "/Packages/backend/ProductID", Value::Null)),
        [""; 0],
        "null is absent"
    );
}

#[test]
fn documents_are_bounded_and_well_formed() {
    let code = |bytes: &[u8]| Manifest::parse(bytes).expect_err("a fault").all()[0].code;
    assert_eq!(code(&vec![b' '; 1024 * 1024 + 1]), Code::TooLarge);
    assert_eq!(code(b"{\"Packages\": \"\xff\"}"), Code::NotUtf8);
    assert_eq!(code(b"{"), Code::Syntax);
    assert_eq!(code(b""), Code::Syntax);
    assert_eq!(code(b"{} {}"), Code::Syntax);
    assert_eq!(code(b"[]"), Code::WrongType);
    assert_eq!(code(b"just text"), Code::WrongType);
    assert_eq!(code(b"null"), Code::WrongType);
    assert_eq!(code(format!("{{\"Packages\":{}", "[".repeat(1000)).as_bytes()), Code::Syntax);
    assert_eq!(code(format!("{{\"P\":{}{}}}", "[".repeat(1000), "]".repeat(1000)).as_bytes()), Code::TooDeep);
    assert_eq!(code(format!("{{\"{}\":1}}", "k".repeat(5000)).as_bytes()), Code::InvalidName);
    assert_eq!(faults(&json!({})), ["Packages MISSING", "Marbles MISSING"]);
}

#[test]
fn s43_many_faults_are_counted_not_kept() {
    let fields: Vec<_> = (0..20_000).map(|n| format!("\"field-{n}\":0")).collect();
    let faults = Manifest::parse(format!("{{{}}}", fields.join(",")).as_bytes()).expect_err("faults");
    assert_eq!(faults.all().len(), 100);
    assert_eq!(faults.omitted(), 20_002 - 100);

    let secrets: Vec<_> = (0..5_000).map(|n| format!("\"s{n:04}{}\":{{}}", "x".repeat(50))).collect();
    let files: Vec<_> =
        (0..5_000).map(|n| format!("\"f{n}\":\"{{{{ hex .Secrets.t{}}}}}\"", "x".repeat(50))).collect();
    let text = format!(
        "{{\"Packages\":{{\"p\":{{}}}},\"Secrets\":{{{}}},\"Marbles\":{{\"m\":{{\"Package\":\"p\",\"Parameters\":{{\"Files\":{{{}}}}}}}}}}}",
        secrets.join(","),
        files.join(",")
    );
    assert_eq!(Manifest::parse(text.as_bytes()).expect_err("faults").all().len(), 100);
}

#[test]
fn packages_identify_their_code_in_one_way() {
    let package = |value: Value| with(marblerun(), "/Packages/backend", value);
    assert_eq!(faults(&package(json!({}))), ["Packages.backend MISSING"]);
    assert_eq!(
        faults(&package(json!({"UniqueID": sgx(), "Measurements": {"Sgx": sgx()}}))),
        ["Packages.backend CONFLICT"]
    );
    assert_eq!(faults(&package(json!({"UniqueID": sgx(), "ProductID": 1}))), ["Packages.backend CONFLICT"]);
    assert_eq!(
        faults(&package(json!({"SignerID": sgx()}))),
        ["Packages.backend.ProductID MISSING", "Packages.backend.SecurityVersion MISSING",]
    );
    assert_eq!(
        faults(&package(json!({"SignerID": "zz", "ProductID": 1, "SecurityVersion": 0}))),
        ["Packages.backend.SignerID INVALID_MEASUREMENT"]
    );
    assert_eq!(faults(&package(json!({"Measurements": {"Sgx": [sgx(), "3c".repeat(32)]}}))), [""; 0]);
}

#[test]
fn measurements_are_neither_padded_nor_cut() {
    for text in [
        "",
        "11",
        &"11".repeat(31),
        &"11".repeat(48),
        &"xy".repeat(32),
        &"00".repeat(32),
        &format!(" {}", sgx()),
    ] {
        let package = json!({"Measurements": {"Sgx": [text]}});
        refused(
            marblerun(),
            "/Packages/backend",
            package,
            &["Packages.backend.Measurements.Sgx INVALID_MEASUREMENT"],
        );
    }
    refused(
        marblerun(),
        "/Packages/backend",
        json!({"Measurements": {"Sgx": [sgx(), sgx().to_uppercase()]}}),
        &["Packages.backend.Measurements.Sgx[1] DUPLICATE_VALUE"],
    );
}

#[test]
fn a_platform_that_is_not_listed_is_not_accepted() {
    refused(
        marblerun(),
        "/Packages/backend",
        json!({"Measurements": {"Sgx": sgx(), "Snp": long()}}),
        &["Packages.backend.Measurements.Snp PLATFORM_NOT_LISTED"],
    );
    refused(
        keeps(),
        "/Platforms",
        json!({"Snp": {}}),
        &["Packages.keep.Measurements.Tdx PLATFORM_NOT_LISTED"],
    );
    refused(
        keeps(),
        "/Platforms",
        json!({}),
        &[
            "Packages.keep.Measurements.Tdx PLATFORM_NOT_LISTED",
            "Packages.keep.Measurements.Snp PLATFORM_NOT_LISTED",
        ],
    );
    refused(
        keeps(),
        "/Packages/keep",
        json!({"UniqueID": sgx()}),
        &["Packages.keep.UniqueID PLATFORM_NOT_LISTED"],
    );
}

#[test]
fn s36_debug_packages_are_refused() {
    for platform in [marblerun(), keeps()] {
        let name = if platform["Packages"]["keep"].is_null() { "backend" } else { "keep" };
        let expected = format!("Packages.{name}.Debug DEBUG_PACKAGE");
        refused(platform, &format!("/Packages/{name}/Debug"), json!(true), &[&expected]);
    }
}

#[test]
fn s37_tcb_statuses_are_known_and_never_revoked() {
    for (status, code) in
        [("Revoked", "UNSAFE_TCB_STATUS"), ("Fine", "INVALID_VALUE"), ("uptodate", "INVALID_VALUE")]
    {
        let expected = format!("Packages.backend.AcceptedTCBStatuses[0] {code}");
        refused(marblerun(), "/Packages/backend/AcceptedTCBStatuses", json!([status]), &[&expected]);
        let expected = format!("Platforms.Tdx.AcceptedTCBStatuses[0] {code}");
        refused(keeps(), "/Platforms/Tdx/AcceptedTCBStatuses", json!([status]), &[&expected]);
    }
    let strict = with(marblerun(), "/Packages/backend/AcceptedTCBStatuses", json!([]));
    let manifest = parse(&strict).expect("a manifest");
    assert_eq!(manifest.packages()["backend"].accepted[&Platform::Sgx].policy.accepted_tcb_statuses.len(), 1);
    refused(
        keeps(),
        "/Packages/keep/AcceptedTCBStatuses",
        json!(["OutOfDate"]),
        &["Packages.keep.AcceptedTCBStatuses CONFLICT"],
    );
}

#[test]
fn platform_policies_fit_their_vendor() {
    for (pointer, value, expected) in [
        (
            "/Platforms/Snp/AcceptedTCBStatuses",
            json!(["UpToDate"]),
            "Platforms.Snp.AcceptedTCBStatuses NOT_APPLICABLE",
        ),
        (
            "/Platforms/Snp/AcceptedAdvisories",
            json!(["A-1"]),
            "Platforms.Snp.AcceptedAdvisories NOT_APPLICABLE",
        ),
        (
            "/Platforms/Snp/MinimumTcbEvaluationNumber",
            json!(1),
            "Platforms.Snp.MinimumTcbEvaluationNumber NOT_APPLICABLE",
        ),
        ("/Platforms/Tdx/MinimumTcb", json!({"Snp": 1}), "Platforms.Tdx.MinimumTcb NOT_APPLICABLE"),
        ("/Platforms/Tdx/DeniedFamilies", json!(["Milan"]), "Platforms.Tdx.DeniedFamilies NOT_APPLICABLE"),
        ("/Platforms/Snp/MinimumTcb/Snp", json!(256), "Platforms.Snp.MinimumTcb.Snp INVALID_VALUE"),
        ("/Platforms/Snp/DeniedFamilies", json!(["Rome"]), "Platforms.Snp.DeniedFamilies[0] INVALID_VALUE"),
        (
            "/Platforms/Tdx/AcceptedAdvisories",
            json!(["a b"]),
            "Platforms.Tdx.AcceptedAdvisories[0] INVALID_VALUE",
        ),
        (
            "/Platforms/Tdx/MinimumTcbEvaluationNumber",
            json!(4_294_967_296_u64),
            "Platforms.Tdx.MinimumTcbEvaluationNumber INVALID_VALUE",
        ),
        ("/Platforms/Cca", json!({}), "Platforms.Cca UNKNOWN_FIELD"),
    ] {
        refused(keeps(), pointer, value, &[expected]);
    }
}

#[test]
fn emulated_roots_are_self_signed_authorities() {
    let pointer = "/Platforms/Snp/EmulatedRoots";
    assert_eq!(faults(&with(keeps(), pointer, json!([ROOT, OTHER_ROOT]))), [""; 0]);
    for text in ["", "x", ALICE, RSA, &format!("{ROOT}{OTHER_ROOT}"), &ROOT.replace('M', "N")] {
        refused(keeps(), pointer, json!([text]), &["Platforms.Snp.EmulatedRoots[0] INVALID_CERTIFICATE"]);
    }
    refused(keeps(), pointer, json!([ROOT, ROOT]), &["Platforms.Snp.EmulatedRoots[1] DUPLICATE_VALUE"]);
}

#[test]
fn marbles_refer_to_what_exists() {
    for (pointer, value, expected) in [
        ("/Marbles/tally/Package", json!(""), "Marbles.tally.Package MISSING"),
        ("/Marbles/tally/Package", json!("kepp"), "Marbles.tally.Package UNKNOWN_REFERENCE"),
        ("/Marbles/tally/TLS", json!(["web"]), "Marbles.tally.TLS[0] UNKNOWN_REFERENCE"),
        ("/Marbles/tally/Peers", json!(["frontent"]), "Marbles.tally.Peers[0] UNKNOWN_REFERENCE"),
        ("/Marbles/frontend/Peers", json!(["tally"]), "Marbles.frontend.Peers CONFLICT"),
        ("/Marbles/tally/Access", json!("public"), "Marbles.tally.Access INVALID_VALUE"),
        ("/Marbles/tally/Log", json!("host"), "Marbles.tally.Log INVALID_VALUE"),
        ("/Marbles/tally/Names", json!(["frontend"]), "Marbles.tally.Names[0] CONFLICT"),
        ("/Marbles/tally/Names", json!(["*.example.org"]), "Marbles.tally.Names[0] INVALID_NAME"),
        ("/Marbles/tally/Names", json!(["a", "a"]), "Marbles.tally.Names[1] DUPLICATE_VALUE"),
        ("/Marbles/tally/DisableSecretBinding", json!(true), "Marbles.tally.DisableSecretBinding UNSAFE"),
        ("/Marbles/bad.name", json!({"Package": "keep"}), "Marbles[\"bad.name\"] INVALID_NAME"),
        ("/Marbles/TALLY", json!({"Package": "keep"}), "Marbles.tally DUPLICATE_VALUE"),
    ] {
        refused(keeps(), pointer, value, &[expected]);
    }
    let keep = keeps()["Marbles"]["tally"].clone();
    refused(keeps(), "/Marbles/not_a_host", keep, &["Marbles.not_a_host INVALID_NAME"]);
}

#[test]
fn s29_a_workload_is_named_by_digest() {
    let digits = "ab".repeat(32);
    for text in [
        "",
        "latest",
        &digits,
        &format!("sha256:{}", &digits[2..]),
        &format!("sha512:{digits}"),
        &format!("sha256:{}", digits.to_uppercase()),
    ] {
        let expected = ["Marbles.tally.Workload.Digest INVALID_VALUE"];
        refused(keeps(), "/Marbles/tally/Workload/Digest", json!(text), &expected);
    }
    for field in ["Limits", "Access", "Peers", "Log"] {
        let value = match field {
            "Limits" => json!({}),
            "Peers" => json!([]),
            "Access" => json!("Peers"),
            _ => json!("Host"),
        };
        let expected = format!("Marbles.frontend.{field} NOT_APPLICABLE");
        refused(marblerun(), &format!("/Marbles/frontend/{field}"), value, &[&expected]);
    }
}

#[test]
fn limits_have_units_and_ranges() {
    for (field, value) in [
        ("Memory", json!("64MB")),
        ("Memory", json!("0MiB")),
        ("CpuPerRequest", json!("1m")),
        ("ConcurrentRequests", json!(0)),
        ("ConcurrentRequests", json!(65_537)),
        ("BodySize", json!("1")),
    ] {
        let expected = format!("Marbles.tally.Limits.{field} INVALID_VALUE");
        refused(keeps(), &format!("/Marbles/tally/Limits/{field}"), value, &[&expected]);
    }
}

#[test]
fn s24_environment_that_chooses_code_is_refused() {
    let pointer = "/Marbles/frontend/Parameters";
    for name in
        ["LD_PRELOAD", "LD_LIBRARY_PATH", "PATH", "BASH_ENV", "DOCKER_HOST", "GLIBC_TUNABLES", "DYLD_X"]
    {
        let expected = format!("Marbles.frontend.Parameters.Env.{name} DANGEROUS_ENV");
        refused(marblerun(), pointer, json!({"Env": {name: "x"}}), &[&expected]);
    }
    for name in ["MARBLE_PREDEFINED_ROOT_CA", "MARBLE_TTLS_CONFIG"] {
        let expected = format!("Marbles.frontend.Parameters.Env.{name} RESERVED_ENV");
        refused(marblerun(), pointer, json!({"Env": {name: "x"}}), &[&expected]);
    }
    for name in ["", "A=B", "A B", "1A", "A\u{0}", "Ä"] {
        let found = faults(&with(marblerun(), pointer, json!({"Env": {name: "x"}})));
        assert!(found.len() == 1 && found[0].ends_with("INVALID_NAME"), "{name:?}: {found:?}");
    }
}

#[test]
fn parameters_are_decoded_and_bounded() {
    let env = |value: Value| with(marblerun(), "/Marbles/frontend/Parameters", json!({"Env": {"A": value}}));
    let at = "Marbles.frontend.Parameters.Env.A";
    for (value, expected) in [
        (json!({"Data": "aGk", "Encoding": "base64"}), format!("{at}.Data INVALID_VALUE")),
        (json!({"Data": "0", "Encoding": "hex"}), format!("{at}.Data INVALID_VALUE")),
        (json!({"Data": "x", "Encoding": "utf8"}), format!("{at}.Encoding INVALID_VALUE")),
        (json!({"Data": "00", "Encoding": "hex"}), format!("{at} INVALID_VALUE")),
        (json!({"Data": "a\u{0}b", "NoTemplates": true}), format!("{at} INVALID_VALUE")),
        (json!("{{ raw .Secrets.api_key }}"), format!("{at} TEMPLATE_FUNCTION")),
        (json!("{{ hex .Secrets.nothing }}"), format!("{at} TEMPLATE_REFERENCE")),
        (json!("{{ if true }}"), format!("{at} TEMPLATE_SYNTAX")),
        (json!({"Data": "e3sgeCB9fQ==", "Encoding": "base64"}), format!("{at} TEMPLATE_SYNTAX")),
    ] {
        assert_eq!(faults(&env(value.clone())), [expected], "{value}");
    }
    assert_eq!(faults(&env(json!({"Data": "{{ x }}", "NoTemplates": true}))), [""; 0]);
    for path in ["", "/", "/etc/", "../x", "/a/../b", "/a\nb"] {
        let found = faults(&with(marblerun(), "/Marbles/frontend/Parameters", json!({"Files": {path: "x"}})));
        assert!(found.len() == 1 && found[0].ends_with("INVALID_NAME"), "{path:?}: {found:?}");
    }
    let found = faults(&with(marblerun(), "/Marbles/frontend/Parameters", json!({"Argv": ["a", "b\u{0}"]})));
    assert_eq!(found, ["Marbles.frontend.Parameters.Argv[1] INVALID_VALUE"]);
}

/// Values by the name that the reference has in templates.
struct Fixed(BTreeMap<&'static str, &'static [u8]>);

impl Values for Fixed {
    fn value(&self, reference: &Reference) -> Option<&[u8]> {
        self.0.get(reference.to_string().as_str()).copied()
    }
}

#[test]
fn parameters_are_rendered() {
    let manifest = parse(&marblerun()).expect("a manifest");
    let parameters = &manifest.marble("backend_first").expect("a Marble").parameters;
    let values: BTreeMap<_, &[u8]> = [
        (".Secrets.shared_key", &b"\x01\xab"[..]),
        (".Secrets.api_key", &b"canary"[..]),
        (".MarbleRun.RootCA.Cert", &b"der"[..]),
    ]
    .into();
    assert_eq!(parameters.references().count(), 3);
    let rendered = parameters.render(&Fixed(values.clone())).expect("rendered");
    assert_eq!(rendered.files["/run/key.hex"].as_slice(), b"01ab");
    assert_eq!(rendered.files["/run/blob"].as_slice(), b"\x00\xff");
    assert_eq!(
        rendered.files["/run/ca.pem"].as_slice(),
        b"-----BEGIN CERTIFICATE-----\nZGVy\n-----END CERTIFICATE-----\n"
    );
    assert_eq!(rendered.env["API_KEY"].as_slice(), b"canary");
    assert_eq!(rendered.env["HEX"].as_slice(), b"Hi");
    assert_eq!(rendered.argv[2], "{{ not a template }}");
    assert!(!format!("{rendered:?}").contains("canary"), "S-44: Debug shows no value");

    let mut missing = values;
    missing.remove(".Secrets.api_key");
    let error = parameters.render(&Fixed(missing)).expect_err("not uploaded yet");
    assert_eq!((error.kind, error.name.as_str()), ("environment variable", "API_KEY"));
    assert_eq!(error.source.to_string(), "there is no value for .Secrets.api_key yet");
}

#[test]
fn references_tell_generations_and_parts_apart() {
    let text = "{{ hex .Previous.Secrets.own_key }}{{ hex .Secrets.own_key }}{{ pem .MarbleRun.MarbleCert.Private }}";
    let manifest = parse(&with(marblerun(), "/Marbles/frontend/Parameters", json!({"Env": {"A": text}})));
    let manifest = manifest.unwrap_or_else(|faults| panic!("{faults}"));
    let references: Vec<_> = manifest.marble("frontend").expect("a Marble").parameters.references().collect();
    assert_eq!(references[0].to_string(), ".Previous.Secrets.own_key");
    assert_ne!(references[0], references[1]);
    assert_eq!(references[2], &Reference::MarbleCertificate(KeyPart::Private));
}

#[test]
fn secrets_are_what_they_can_be() {
    let at = |field: &str, code: &str| format!("Secrets.new.{field} {code}");
    for (secret, expected) in [
        (json!({}), at("Type", "INVALID_VALUE")),
        (json!({"Type": "symetric-key", "Size": 8}), at("Type", "INVALID_VALUE")),
        (json!({"Type": "symmetric-key"}), at("Size", "INVALID_VALUE")),
        (json!({"Type": "symmetric-key", "Size": 129}), at("Size", "INVALID_VALUE")),
        (json!({"Type": "symmetric-key", "Size": 65_288}), at("Size", "INVALID_VALUE")),
        (json!({"Type": "symmetric-key", "Size": 128, "ValidFor": 1}), at("ValidFor", "NOT_APPLICABLE")),
        (json!({"Type": "symmetric-key", "Size": 128, "Cert": {}}), at("Cert", "NOT_APPLICABLE")),
        (json!({"Type": "symmetric-key", "Size": 128, "Private": "aGk="}), at("Private", "UNSAFE")),
        (json!({"Type": "plain", "UserDefined": true, "Size": 8}), at("Size", "NOT_APPLICABLE")),
        (json!({"Type": "cert-ed25519", "Size": 256}), at("Size", "INVALID_VALUE")),
        (json!({"Type": "cert-rsa", "Size": 1024}), at("Size", "INVALID_VALUE")),
        (json!({"Type": "cert-ecdsa", "Size": 224}), at("Size", "NOT_YET_SUPPORTED")),
        (json!({"Type": "cert-ed25519", "ValidFor": 40_000}), at("ValidFor", "INVALID_VALUE")),
        (
            json!({"Type": "cert-ed25519", "Cert": {"SerialNumber": 1}}),
            at("Cert.SerialNumber", "NOT_APPLICABLE"),
        ),
        (json!({"Type": "cert-ed25519", "Cert": {"Issuer": {}}}), at("Cert.Issuer", "NOT_APPLICABLE")),
        (json!({"Type": "cert-ed25519", "Cert": {"KeyUsage": 512}}), at("Cert.KeyUsage", "INVALID_VALUE")),
        (
            json!({"Type": "cert-ed25519", "Cert": {"ExtKeyUsage": [7]}}),
            at("Cert.ExtKeyUsage[0]", "INVALID_VALUE"),
        ),
        (
            json!({"Type": "cert-ed25519", "Cert": {"DNSNames": ["A"]}}),
            at("Cert.DNSNames[0]", "INVALID_NAME"),
        ),
        (json!({"Type": "cert-ed25519", "Cert": {"NotAfter": "soon"}}), at("Cert.NotAfter", "INVALID_VALUE")),
    ] {
        refused(marblerun(), "/Secrets/new", secret, &[&expected]);
    }
    refused(marblerun(), "/Secrets/new", json!({"Type": "plain"}), &["Secrets.new MISSING"]);
    refused(
        marblerun(),
        "/Secrets/new",
        json!({"Type": "cert-ecdsa", "Size": 255, "ValidFor": 1, "Cert": {"NotAfter": "2030-01-01T00:00:00Z"}}),
        &["Secrets.new.Size INVALID_VALUE", "Secrets.new.ValidFor CONFLICT"],
    );
}

#[test]
fn names_can_be_shown_and_told_apart() {
    let key = json!({"Type": "symmetric-key", "Size": 128});
    for (place, value) in [
        ("Packages", marblerun()["Packages"]["backend"].clone()),
        ("Secrets", key),
        ("Users", json!({"Certificate": BOB.replace('\n', "\r\n")})),
        ("Roles", json!({"ResourceType": "Secrets"})),
    ] {
        for name in ["", " x", "a\u{1b}[2J", "\u{430}dmin"] {
            let document = with(marblerun(), "/Users", json!({}));
            let found = faults(&with(document, &format!("/{place}/{name}"), value.clone()));
            assert!(found.len() == 1 && found[0].ends_with("INVALID_NAME"), "{place} {name:?}: {found:?}");
            assert!(!found[0].contains('\u{1b}'));
        }
    }
}

#[test]
fn users_are_known_by_one_leaf_certificate() {
    let pointer = "/Users/bob/Certificate";
    for text in ["x", RSA, &format!("{BOB}{ROOT}"), &BOB.replace("-----END", "----END")] {
        refused(marblerun(), pointer, json!(text), &["Users.bob.Certificate INVALID_CERTIFICATE"]);
    }
    refused(marblerun(), pointer, json!(""), &["Users.bob.Certificate MISSING"]);
    // The same certificate with other line ends is the same user.
    refused(
        marblerun(),
        pointer,
        json!(ALICE.replace('\n', "\r\n")),
        &["Users.bob.Certificate DUPLICATE_VALUE"],
    );
    refused(marblerun(), "/Users/bob/Roles", json!(["riter"]), &["Users.bob.Roles[0] UNKNOWN_REFERENCE"]);
}

#[test]
fn roles_grant_only_what_their_secrets_permit() {
    for (pointer, value, expected) in [
        (
            "/Roles/writer/ResourceNames",
            json!(["own_key"]),
            "Roles.writer.ResourceNames[0] ROLE_NOT_PERMITTED",
        ),
        (
            "/Roles/reader/ResourceNames",
            json!(["own_key"]),
            "Roles.reader.ResourceNames[0] ROLE_NOT_PERMITTED",
        ),
        ("/Roles/reader/ResourceNames", json!(["other"]), "Roles.reader.ResourceNames[0] UNKNOWN_REFERENCE"),
        ("/Roles/reader/Actions", json!(["DropSecret"]), "Roles.reader.Actions[0] INVALID_VALUE"),
        ("/Roles/reader/ResourceType", json!("secrets"), "Roles.reader.ResourceType INVALID_VALUE"),
    ] {
        refused(marblerun(), pointer, value, &[expected]);
    }
    let role = json!({"ResourceType": "Manifest", "ResourceNames": ["x"], "Actions": ["updatemanifest"]});
    refused(marblerun(), "/Roles/new", role, &["Roles.new.ResourceNames NOT_APPLICABLE"]);
    let role = json!({"ResourceType": "Packages", "ResourceNames": ["x"], "Actions": ["Update"]});
    refused(
        marblerun(),
        "/Roles/new",
        role,
        &["Roles.new.ResourceNames[0] UNKNOWN_REFERENCE", "Roles.new.Actions[0] INVALID_VALUE"],
    );
}

#[test]
fn authorisation_is_by_exact_certificate_and_needs_every_secret() {
    let manifest = parse(&marblerun()).expect("a manifest");
    let certificate = |name: &str| match &manifest.users()[name].proof {
        Proof::Certificate(certificate) => certificate.0.clone(),
        Proof::Token(_) => panic!("{name} has no certificate"),
    };
    let (alice, bob) = (certificate("alice"), certificate("bob"));
    let [api, shared] = ["api_key", "shared_key"].map(|name| manifest.secrets()[name].name.clone());
    assert_eq!(manifest.user_by_certificate(&alice).expect("a user").name.as_str(), "alice");
    assert!(manifest.user_by_certificate(&alice[1..]).is_none());
    assert!(manifest.authorised(&alice, Action::WriteSecret, [&api]));
    assert!(manifest.authorised(&alice, Action::ReadSecret, [&shared]));
    assert!(!manifest.authorised(&alice, Action::WriteSecret, [&api, &shared]));
    assert!(!manifest.authorised(&alice, Action::ReadSecret, [&api]));
    assert!(!manifest.authorised(&bob, Action::ReadSecret, [&shared]));
    assert!(!manifest.authorised(b"", Action::ReadSecret, [&shared]));
}

/// One key of each kind: P-256 of RFC 7515 (A.3), Ed25519 of RFC 8037 (A.2), and for RSA a number of the right size.
fn token_user() -> Value {
    let mut manifest = marblerun();
    manifest["Users"]["ci"] = json!({ "Oidc": {
        "Issuer": "https://issuer.example", "Audience": "bailey", "Subject": "repo:a/b",
        "Jwks": { "keys": [
            { "kty": "EC", "kid": "1", "crv": "P-256", "use": "sig", "alg": "ES256",
              "x": "f83OJ3D2xF1Bg8vub9tLe1gHMzV76e8Tus9uPHvRVEU", "y": "x_FEzRu9m36HLN_tue659LNpXW6pCyStikYjKIWI5a0" },
            { "kty": "OKP", "kid": "2", "crv": "Ed25519", "x": "11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo" },
            { "kty": "RSA", "kid": "3", "e": "AQAB", "n": format!("{}w", "v".repeat(341)) },
        ] },
    } });
    manifest
}

#[test]
fn users_may_be_known_by_tokens() {
    let manifest = parse(&token_user()).expect("a manifest");
    let Proof::Token(token) = &manifest.users()["ci"].proof else { panic!("it has a certificate") };
    assert_eq!((token.issuer.as_str(), token.audience.as_str()), ("https://issuer.example", "bailey"));
    let algorithms: Vec<_> = token.keys.iter().map(|key| (key.id.as_str(), key.kind.algorithm())).collect();
    assert_eq!(algorithms, [("1", "ES256"), ("2", "EdDSA"), ("3", "RS256")]);
}

#[test]
fn users_by_tokens_are_strict() {
    for (field, value, expected) in [
        ("Issuer", json!("http://issuer.example"), "Oidc.Issuer INVALID_VALUE"),
        ("Issuer", json!(""), "Oidc.Issuer MISSING"),
        ("Audience", json!(""), "Oidc.Audience MISSING"),
        ("Subject", json!(null), "Oidc MISSING"),
        ("Subject", json!(""), "Oidc.Subject MISSING"),
        ("Claim", json!({ "Name": "email", "Value": "a@b" }), "Oidc CONFLICT"),
        ("Jwks", json!({ "keys": [] }), "Oidc.Jwks.keys MISSING"),
        ("Jwks/keys/0/kid", json!(""), "Oidc.Jwks.keys[0].kid MISSING"),
        ("Jwks/keys/1/kid", json!("1"), "Oidc.Jwks.keys[1].kid DUPLICATE_VALUE"),
        ("Jwks/keys/0/kty", json!("oct"), "Oidc.Jwks.keys[0].kty INVALID_VALUE"),
        ("Jwks/keys/0/k", json!("c2VjcmV0"), "Oidc.Jwks.keys[0].k UNKNOWN_FIELD"),
        ("Jwks/keys/0/d", json!("c2VjcmV0"), "Oidc.Jwks.keys[0].d UNKNOWN_FIELD"),
        ("Jwks/keys/0/use", json!("enc"), "Oidc.Jwks.keys[0].use INVALID_VALUE"),
        ("Jwks/keys/0/alg", json!("HS256"), "Oidc.Jwks.keys[0].alg INVALID_VALUE"),
        ("Jwks/keys/0/alg", json!("none"), "Oidc.Jwks.keys[0].alg INVALID_VALUE"),
        ("Jwks/keys/0/crv", json!("P-384"), "Oidc.Jwks.keys[0].crv INVALID_VALUE"),
        ("Jwks/keys/0/x", json!("AAAA"), "Oidc.Jwks.keys[0].x INVALID_VALUE"),
        ("Jwks/keys/0/n", json!("AAAA"), "Oidc.Jwks.keys[0].n NOT_APPLICABLE"),
        ("Jwks/keys/1/y", json!("AAAA"), "Oidc.Jwks.keys[1].y NOT_APPLICABLE"),
        ("Jwks/keys/2/n", json!("v".repeat(168)), "Oidc.Jwks.keys[2].n INVALID_VALUE"),
        ("Jwks/keys/2/e", json!("Aw"), "Oidc.Jwks.keys[2].e INVALID_VALUE"),
    ] {
        let expected = format!("Users.ci.{expected}");
        refused(token_user(), &format!("/Users/ci/Oidc/{field}"), value, &[&expected]);
    }
    let mut claim = token_user();
    claim["Users"]["ci"]["Oidc"]["Subject"].take();
    for name in ["iss", "sub", "aud", "exp"] {
        let claim_of = json!({ "Name": name, "Value": "x" });
        let expected = ["Users.ci.Oidc.Claim.Name INVALID_VALUE"];
        refused(claim.clone(), "/Users/ci/Oidc/Claim", claim_of, &expected);
    }
    let certificate = marblerun()["Users"]["alice"]["Certificate"].clone();
    refused(token_user(), "/Users/ci/Certificate", certificate, &["Users.ci.Oidc CONFLICT"]);
    let twin = token_user()["Users"]["ci"].clone();
    refused(token_user(), "/Users/di", twin, &["Users.di.Oidc DUPLICATE_VALUE"]);
}

#[test]
fn what_would_be_ignored_is_refused() {
    for (pointer, value, expected) in [
        ("/Config/FeatureGates", json!(["AzureHSMSealing"]), "Config.FeatureGates[0] NOT_YET_SUPPORTED"),
        (
            "/TLS",
            json!({"t": {"Incoming": [{"Port": "1", "Addr": "x"}]}}),
            "TLS.t.Incoming[0].Addr NOT_APPLICABLE",
        ),
        (
            "/TLS",
            json!({"t": {"Outgoing": [{"Port": "1", "Addr": "x", "Cert": "own_key"}]}}),
            "TLS.t.Outgoing[0].Cert NOT_APPLICABLE",
        ),
    ] {
        refused(marblerun(), pointer, value, &[expected]);
    }
    refused(keeps(), "/TLS", json!({"web": {}}), &[""; 0]);
    let tagged = with(keeps(), "/TLS", json!({"web": {}}));
    refused(tagged, "/Marbles/tally/TLS", json!(["web"]), &["Marbles.tally.TLS NOT_APPLICABLE"]);
}

#[test]
fn settings_are_checked() {
    for (pointer, value, expected) in [
        ("/Infrastructures", json!({"a": {"QESVN": 65_536}}), "Infrastructures.a.QESVN INVALID_VALUE"),
        ("/Infrastructures", json!({"a": {"CPUSVN": "AAAA"}}), "Infrastructures.a.CPUSVN INVALID_VALUE"),
        ("/RecoveryKeys", json!({"a": EC}), "RecoveryKeys.a INVALID_CERTIFICATE"),
        ("/RecoveryKeys", json!({"a": ALICE}), "RecoveryKeys.a INVALID_CERTIFICATE"),
        ("/RecoveryKeys", json!({"a": RSA, "b": RSA}), "RecoveryKeys.b DUPLICATE_VALUE"),
        ("/TLS", json!({"t": {"Incoming": [{}]}}), "TLS.t.Incoming[0].Port MISSING"),
        ("/TLS", json!({"t": {"Incoming": [{"Port": "x"}]}}), "TLS.t.Incoming[0].Port INVALID_VALUE"),
        ("/TLS", json!({"t": {"Outgoing": [{"Port": "1"}]}}), "TLS.t.Outgoing[0].Addr MISSING"),
        (
            "/TLS",
            json!({"t": {"Incoming": [{"Port": "1", "DisableClientAuth": true}]}}),
            "TLS.t.Incoming[0].DisableClientAuth CONFLICT",
        ),
        (
            "/TLS",
            json!({"t": {"Incoming": [{"Port": "1", "Cert": "own_key", "DisableClientAuth": true}]}}),
            "TLS.t.Incoming[0].Cert CONFLICT",
        ),
        (
            "/TLS",
            json!({"t": {"Incoming": [{"Port": "1", "Cert": "none", "DisableClientAuth": true}]}}),
            "TLS.t.Incoming[0].Cert UNKNOWN_REFERENCE",
        ),
        ("/Config/FeatureGates", json!(["x"]), "Config.FeatureGates[0] INVALID_VALUE"),
        ("/Config/UpdateThreshold", json!(1), "Config.UpdateThreshold INVALID_VALUE"),
        ("/Config/UpdateDeadline", json!("soon"), "Config.UpdateDeadline INVALID_VALUE"),
        ("/Config/RecoveryThreshold", json!(2), "Config.RecoveryThreshold INVALID_VALUE"),
        ("/Config/SealMode", json!("productkey"), "Config.SealMode INVALID_VALUE"),
    ] {
        refused(marblerun(), pointer, value, &[expected]);
    }
    let document = with(marblerun(), "/RecoveryKeys", json!({"a": RSA}));
    refused(document, "/Config/RecoveryThreshold", json!(1), &["Config.RecoveryThreshold INVALID_VALUE"]);
}

#[test]
fn settings_are_typed() {
    let mut document = marblerun();
    for (pointer, value) in [
        ("/Infrastructures", json!({"azure": {"QESVN": 2, "CPUSVN": vec![1; 16]}})),
        ("/RecoveryKeys", json!({"holder": RSA})),
        ("/Secrets/cert", json!({"Type": "cert-ecdsa", "Size": 256, "ValidFor": 7, "Shared": true})),
        (
            "/TLS",
            json!({"web": {
                "Incoming": [{"Port": "443", "Cert": "cert", "DisableClientAuth": true}, {"Port": 8443}],
                "Outgoing": [{"Port": 80, "Addr": "db"}]
            }}),
        ),
        ("/Marbles/frontend/TLS", json!(["web"])),
        ("/Config/SealMode", json!("Disabled")),
        ("/Config/FeatureGates", json!(["monotoniccounter", "SignQuoteEndpoint"])),
        ("/Config/UpdateDeadline", json!("48h")),
        ("/Roles/admin", json!({"ResourceType": "Manifest", "Actions": ["updatemanifest"]})),
        ("/Users/alice/Roles", json!(["admin"])),
        ("/Config/UpdateThreshold", json!(1)),
        ("/Packages/backend", json!({"SignerID": sgx(), "ProductID": 3, "SecurityVersion": 2})),
        (
            "/Roles/raiser",
            json!({"ResourceType": "Packages", "ResourceNames": ["backend"], "Actions": ["UpdateSecurityVersion"]}),
        ),
        ("/Users/bob/Roles", json!(["raiser"])),
    ] {
        document = with(document, pointer, value);
    }
    let manifest = parse(&document).unwrap_or_else(|faults| panic!("{faults}"));
    let settings = manifest.settings();
    assert_eq!(settings.infrastructures["azure"].cpu_svn, Some([1; 16]));
    assert!(settings.recovery_keys["holder"].public_key.len() > 256);
    assert_eq!((settings.seal_mode, settings.gates.len()), (SealMode::Disabled, 2));
    assert_eq!(settings.update_deadline, Duration::from_secs(48 * 3600));
    assert_eq!(manifest.update_threshold(), 1);
    let (alice, bob) = (&manifest.users()["alice"], &manifest.users()["bob"]);
    assert_eq!((alice.may_update(), alice.may_raise("backend")), (true, false));
    assert_eq!((bob.may_update(), bob.may_raise("backend"), bob.may_raise("other")), (false, true, false));
    let tag = &manifest.marble("frontend").expect("a Marble").tls[0];
    assert_eq!(tag.incoming[0].certificate.as_ref().map(|name| name.as_str()), Some("cert"));
    assert_eq!((tag.incoming[1].port, &tag.incoming[1].certificate), (8443, &None));
    assert_eq!((tag.outgoing[0].address.as_str(), tag.outgoing[0].port), ("db", 80));
    let SecretKind::Certificate(certificate) = &manifest.secrets()["cert"].kind else { panic!() };
    assert_eq!((certificate.key, certificate.template.end), (KeyKind::P256, End::Days(7)));
    assert_eq!(certificate.template.dns_names, ["localhost"]);
    assert_eq!(certificate.template.key_usage, 33);

    let AcceptedCode::Signer(signer) = &manifest.packages()["backend"].accepted[&Platform::Sgx].code else {
        panic!()
    };
    assert_eq!((signer.product, signer.security_version), (3, 2));
    let update = |version: Value| {
        let text = json!({"Packages": {"backend": {"SecurityVersion": version}}}).to_string();
        assert!(PackageUpdate::is_one(text.as_bytes()));
        PackageUpdate::parse(text.as_bytes(), &manifest)
    };
    let raised = manifest.with_security_versions(&update(json!(4)).expect("an update").0);
    assert_eq!(raised.packages()["backend"].security_version(), Some(4));
    assert_eq!(raised.marble("frontend").expect("a Marble").package.security_version(), Some(4));
    assert_eq!(raised.digest(), manifest.digest());
    assert_eq!(update(json!(1)).expect_err("lower").all()[0].code, Code::Conflict);
    assert_eq!(update(Value::Null).expect_err("none").all()[0].code, Code::Missing);
    for (package, code) in [
        (json!({"other": {"SecurityVersion": 3}}), Code::UnknownReference),
        (json!({"backend": {"SecurityVersion": 3, "Debug": true}}), Code::NotApplicable),
        (json!({}), Code::Missing),
    ] {
        let text = json!({"Packages": package}).to_string();
        assert_eq!(
            PackageUpdate::parse(text.as_bytes(), &manifest).expect_err("a fault").all()[0].code,
            code
        );
    }
    assert!(!PackageUpdate::is_one(document.to_string().as_bytes()));
}

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
    let page = include_str!("../../../docs/manifest.md");
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
        include_str!("golden/faulty.yaml").to_owned(),
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

#[test]
fn witnesses_have_keys_of_their_own_and_a_quorum() {
    let (one, other) = (
        "w1+248cda26+BAEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEB",
        "w2+77d428b8+BAICAgICAgICAgICAgICAgICAgICAgICAgICAgICAgIC",
    );
    let document = with(marblerun(), "/Transparency", json!({ "Witnesses": [one, other], "Quorum": 1 }));
    let manifest = parse(&document).unwrap_or_else(|faults| panic!("{faults}"));
    let witnesses = &manifest.settings().witnesses;
    assert_eq!((witnesses.keys.len(), witnesses.quorum, witnesses.keys[0].name()), (2, 1, "w1"));
    let document = with(marblerun(), "/Transparency", json!({ "Witnesses": [one, other] }));
    assert_eq!(parse(&document).unwrap().settings().witnesses.quorum, 2, "all of them");
    assert_eq!(parse(&marblerun()).unwrap().settings().witnesses.quorum, 0);
    let many = vec![one; 16];
    for (value, expected) in [
        (
            json!({ "Witnesses": [one, "w3+351186b7+AQMDAwMDAwMDAwMDAwMDAwMDAwMDAwMDAwMDAwMDAwMD"] }),
            "Transparency.Witnesses[1] INVALID_VALUE",
        ),
        (
            json!({ "Witnesses": [one, "w4+d5f19b3a+BAEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEB"] }),
            "Transparency.Witnesses[1] INVALID_VALUE",
        ),
        (
            json!({ "Witnesses": [one, "w1+d02bb316+BAUFBQUFBQUFBQUFBQUFBQUFBQUFBQUFBQUFBQUFBQUF"] }),
            "Transparency.Witnesses[1] INVALID_VALUE",
        ),
        (json!({ "Witnesses": ["w1"] }), "Transparency.Witnesses[0] INVALID_VALUE"),
        (json!({ "Witnesses": [one], "Quorum": 2 }), "Transparency.Quorum INVALID_VALUE"),
        (json!({ "Witnesses": [one], "Quorum": 0 }), "Transparency.Quorum INVALID_VALUE"),
        (json!({ "Quorum": 1 }), "Transparency.Quorum INVALID_VALUE"),
        (json!({ "Witness": [one] }), "Transparency.Witness UNKNOWN_FIELD"),
    ] {
        refused(marblerun(), "/Transparency", value, &[expected]);
    }
    let faults = parse(&with(marblerun(), "/Transparency", json!({ "Witnesses": many }))).unwrap_err();
    assert!(faults.to_string().contains("more than 15 witnesses"), "{faults}");
}

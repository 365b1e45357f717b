//! Documents: what is accepted, how it is read, and what a person reads of it.

use super::*;

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
    assert_eq!(workload.code.to_string(), format!("sha256:{}", "cd".repeat(32)));
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
    let text = include_str!("../golden/faulty.yaml");
    let faults = Manifest::parse(text.as_bytes()).expect_err("faults").to_string();
    if std::option_env!("BLESS").is_some() {
        std::fs::write(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/golden/faulty.txt"), &faults)
            .expect("written");
    }
    assert_eq!(faults, include_str!("../golden/faulty.txt"));
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

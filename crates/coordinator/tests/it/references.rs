//! Reference values from signed statements: who may bring them, when they count, and what becomes of guests and Keeps
//! when they do not any more.

use std::collections::BTreeSet;

use appraisal::{ReferenceValue, UnixTime};
use attested_tls::claims::{Claims, KeepClaims};
use base64::{Engine, engine::general_purpose::STANDARD as BASE64};
use coordinator::core::{self, Event, Refusal, State, references};
use evidence::Platform;
use hyper::Method;
use reference_statements::{SigningKey, StatementId, Values};
use serde_bytes::ByteArray;
use serde_json::{Value, json};
use testkit::tee::{EmulatedTee, NOW};

use crate::{
    broker::{KATA, Pod, SECRET, brokered, explained, resource, session_of, under},
    running::Running,
    world::{TALLY, caller, code, founded, identity, keep_on, later, people, set, step, update},
};

const MADE_ROOT: &str = include_str!("../../../reference-statements/tests/vectors/made-trusted-root.json");
const LOGGED: &[u8] = include_bytes!("../../../reference-statements/tests/vectors/made-values.json");
const UNLOGGED: &[u8] =
    include_bytes!("../../../reference-statements/tests/vectors/made-values-unlogged.json");
const IDENTITY: &str = "https://forge.example/guest/.github/workflows/release.yml@refs/tags/v1";

/// Keys of three who sign, made for this test binary.
fn key(index: usize) -> &'static (String, String) {
    use aws_lc_rs::signature::{ECDSA_P256_SHA256_ASN1_SIGNING, EcdsaKeyPair, KeyPair};
    static KEYS: std::sync::OnceLock<Vec<(String, String)>> = std::sync::OnceLock::new();
    let keys = KEYS.get_or_init(|| {
        let one = |_| {
            let random = aws_lc_rs::rand::SystemRandom::new();
            let pkcs8 = EcdsaKeyPair::generate_pkcs8(&ECDSA_P256_SHA256_ASN1_SIGNING, &random).unwrap();
            let pair = EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_ASN1_SIGNING, pkcs8.as_ref()).unwrap();
            let head = hex::decode("3059301306072a8648ce3d020106082a8648ce3d030107034200").unwrap();
            let pem = |label: &str, der: &[u8]| {
                format!("-----BEGIN {label}-----\n{}\n-----END {label}-----\n", BASE64.encode(der))
            };
            let public = [&head, pair.public_key().as_ref()].concat();
            (pem("PRIVATE KEY", pkcs8.as_ref()), pem("PUBLIC KEY", &public))
        };
        (0..3).map(one).collect()
    });
    &keys[index]
}

fn signing(index: usize) -> SigningKey {
    SigningKey::from_pem(&key(index).0).unwrap()
}

/// What is measured of this code on SNP and TDX, as `bailey measure` would say it.
fn measured(code: &[u8]) -> Vec<ReferenceValue> {
    let on = |platform| {
        let measurement = EmulatedTee::launch(platform, code, b"").measurement().clone();
        ReferenceValue::program("kata 3.2", platform, measurement)
    };
    [Platform::Snp, Platform::Tdx].into_iter().map(on).collect()
}

fn values(serial: u64, reference_values: Vec<ReferenceValue>) -> Values {
    Values {
        series: "kata-guest".into(),
        serial,
        issued: later(-60),
        not_before: None,
        expires: later(3600),
        subjects: [format!("sha256:{}", "11".repeat(32)).parse().unwrap()].into(),
        reference_values,
    }
}

/// A manifest whose package `kata` is what so many of three signers state.
fn stated(signers: &[&str], threshold: usize) -> Value {
    let mut manifest = brokered();
    manifest["Packages"]["kata"] = json!({
        "References": { "Series": "kata-guest", "Signers": signers, "Threshold": threshold },
    });
    manifest["Broker"]["ReferenceSigners"] = json!({
        "release": { "Key": key(0).1 }, "builder": { "Key": key(1).1 }, "other": { "Key": key(2).1 },
    });
    manifest["Roles"]["statements"] = json!({ "ResourceType": "References", "Actions": ["WriteReference"] });
    manifest["Roles"]["updates"] = json!({ "ResourceType": "Manifest", "Actions": ["UpdateManifest"] });
    let roles = manifest["Users"]["writer"]["Roles"].as_array_mut().unwrap();
    roles.extend([json!("statements"), json!("updates")]);
    manifest
}

fn mesh(manifest: &Value) -> State {
    let state = founded();
    let event = set(&state, manifest).unwrap();
    step(state, event)
}

fn add(state: &State, bytes: &[u8]) -> Result<Event, Refusal> {
    let writer = caller(&people().writer);
    let prepared = references::prepare(state, &writer, bytes.to_vec(), NOW)?;
    references::add(state, &writer, &prepared, NOW)
}

fn added(state: State, bytes: &[u8]) -> State {
    let event = add(&state, bytes).unwrap();
    step(state, event)
}

fn updated(state: &State, manifest: &Value) -> Result<(Vec<Event>, core::Progress), Refusal> {
    let bytes = manifest.to_string().into_bytes();
    update(state, &caller(&people().writer), bytes, BTreeSet::new(), NOW)
}

/// The values that count for a package's code on SNP.
fn counting(state: &State, now: UnixTime) -> Result<Vec<ReferenceValue>, Refusal> {
    let mesh = state.mesh().unwrap();
    let package = &mesh.manifest().packages()["kata"];
    let manifest::AcceptedCode::References(stated) = &package.accepted[&Platform::Snp].code else { panic!() };
    mesh.known_references(now).values(&package.name, stated, Platform::Snp)
}

fn stands(state: &State, attested: UnixTime, now: UnixTime) -> bool {
    let kata = "kata".parse().unwrap();
    references::stands(state.mesh().unwrap(), &kata, Platform::Snp, attested, now)
}

async fn bring(running: &Running, bytes: &[u8]) -> crate::running::Answer {
    let body = json!({ "statement": BASE64.encode(bytes) }).to_string();
    running.post(Some(&people().writer), "/api/v3/references", body).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_measured_build_is_stated_and_let_in_and_other_code_is_not() {
    let running = under(&stated(&["release"], 1)).await;
    let statement = signing(0).dsse(&values(1, measured(KATA))).unwrap();

    // Nobody has said yet what the package is.
    let (_, answer) = Pod::on(Platform::Snp).attest(&running).await;
    assert_eq!(answer.status, 401);
    let why = explained(&running, Some(&people().writer), &session_of(&answer)).await.to_string();
    assert!(why.contains("REFERENCES_MISSING") && why.contains("bailey reference add"), "{why}");

    let answer = bring(&running, &statement).await;
    assert_eq!(answer.status, 200, "{:?}", answer.json());
    let id = answer.json()["data"]["id"].as_str().unwrap().to_owned();
    assert_eq!(id, StatementId::of(&statement).to_string());

    let pod = Pod::on(Platform::Snp);
    let (cookie, answer) = pod.attest(&running).await;
    assert_eq!(answer.status, 200, "{:?}", answer.json());
    let answer = resource(&running, &cookie, "default/key/db").await;
    assert_eq!(answer.status, 200, "{:?}", answer.json());
    let jwe = rcar::Jwe::parse(&answer.body).unwrap();
    assert_eq!(pod.key.decrypt(&jwe).unwrap().as_slice(), SECRET.as_bytes());

    let mut other = Pod::on(Platform::Snp);
    other.code = b"another guest";
    let (_, answer) = other.attest(&running).await;
    assert_eq!(answer.status, 401);
    let why = explained(&running, Some(&people().writer), &session_of(&answer)).await.to_string();
    assert!(why.contains("MEASUREMENT_MISMATCH") || why.contains("measurement"), "{why}");
    assert!(why.contains(&format!("statement {}", &id[..16])), "the verdict names the statement: {why}");

    let listed = running.get(Some(&people().writer), "/api/v3/references").await;
    let line = &listed.json()["data"]["references"][0];
    assert_eq!((line["id"].as_str(), line["holds"].as_bool()), (Some(id.as_str()), Some(true)), "{line}");
    assert_eq!((line["series"].as_str(), line["serial"].as_u64()), (Some("kata-guest"), Some(1)));
    let one = running.get(Some(&people().writer), &format!("/api/v3/references/{id}")).await;
    assert_eq!(one.json()["data"]["statement"], BASE64.encode(&statement));

    // Removed, it counts no more: not for new guests, and not for the session that it let in.
    let path = format!("/api/v3/references/{id}");
    let answer = running.request(Some(&people().writer), Method::DELETE, &path, Vec::new()).await;
    assert_eq!(answer.status, 200, "{:?}", answer.json());
    assert_ne!(resource(&running, &cookie, "default/key/db").await.status, 200);
    assert_eq!(Pod::on(Platform::Snp).attest(&running).await.1.status, 401);
    let answer = running.request(Some(&people().writer), Method::DELETE, &path, Vec::new()).await;
    assert_eq!(answer.code(), (404, "REFERENCE_UNKNOWN".to_owned()));
}

#[tokio::test(flavor = "multi_thread")]
async fn statements_are_brought_and_seen_by_those_who_may() {
    let running = under(&stated(&["release"], 1)).await;
    let body = json!({ "statement": BASE64.encode(signing(0).jws(&values(1, measured(KATA))).unwrap()) });
    for (who, expected) in [
        (Some(&people().reader), (403, "NOT_GRANTED")),
        (Some(&people().stranger), (401, "USER_UNKNOWN")),
        (None, (401, "CERTIFICATE_MISSING")),
    ] {
        let answer = running.post(who, "/api/v3/references", body.to_string()).await;
        assert_eq!(answer.status.as_u16(), expected.0, "{:?}", answer.json());
        assert_eq!(running.get(who, "/api/v3/references").await.status.as_u16(), expected.0);
    }
    let unsigned = serde_json::to_vec(&values(1, measured(KATA))).unwrap();
    assert_eq!(bring(&running, &unsigned).await.code(), (422, "STATEMENT_UNSIGNED".to_owned()));
    let strangers = signing(2);
    let manifest_signer_without_say = strangers.jws(&values(1, measured(KATA))).unwrap();
    assert_eq!(bring(&running, &manifest_signer_without_say).await.status, 200);
    // `other` is a signer of the manifest, and its word does not count for this package.
    assert_eq!(Pod::on(Platform::Snp).attest(&running).await.1.status, 401);
    assert_eq!(bring(&running, b"hello").await.code(), (422, "STATEMENT_UNRECOGNISED".to_owned()));
}

#[test]
fn a_statement_counts_until_it_ends_at_each_use() {
    let state = mesh(&stated(&["release"], 1));
    let state = added(state, &signing(0).jws(&values(1, measured(KATA))).unwrap());
    assert_eq!(counting(&state, NOW).unwrap().len(), 1);
    assert_eq!(counting(&state, later(3600)).unwrap().len(), 1);
    assert_eq!(code(counting(&state, later(3601))), "REFERENCES_MISSING");
    assert_eq!(code(counting(&state, later(-61))), "REFERENCES_MISSING");
    assert!(stands(&state, NOW, later(3600)));
    assert!(!stands(&state, NOW, later(3601)));
    let late = Values { expires: later(-1), issued: later(-9), ..values(1, measured(KATA)) };
    assert_eq!(code(add(&state, &signing(0).jws(&late).unwrap())), "STATEMENT_EXPIRED");
}

#[test]
fn an_older_statement_does_not_come_back() {
    let state = mesh(&stated(&["release", "builder"], 1));
    let old = signing(0).jws(&values(1, measured(b"old"))).unwrap();
    let state = added(state, &old);
    let newer = signing(0).jws(&values(2, measured(KATA))).unwrap();
    let state = added(state, &newer);
    // The newer one is what its signer says now; the older one is there, and counts no more.
    let now = counting(&state, NOW).unwrap();
    assert_eq!((now.len(), now[0].measurement.clone()), (1, measured(KATA)[0].measurement.clone()));
    assert!(!stands(&state, later(-1), NOW), "who attested before attests again");
    assert_eq!(code(add(&state, &newer)), "REFERENCE_KNOWN");
    let another_old = signing(0).dsse(&values(1, measured(b"old"))).unwrap();
    assert_eq!(code(add(&state, &another_old)), "REFERENCE_ROLLED_BACK");
    // Removing what is newer does not bring it back, nor does a restart.
    let id = StatementId::of(&newer);
    let removed = references::remove(&state, &caller(&people().writer), &id, NOW).unwrap();
    let state = step(state, removed);
    assert_eq!(code(counting(&state, NOW)), "REFERENCES_MISSING");
    let again = State::from_snapshot(&state.to_snapshot().unwrap(), identity().clone()).unwrap();
    assert_eq!(code(add(&again, &another_old)), "REFERENCE_ROLLED_BACK");
    assert_eq!(code(counting(&again, NOW)), "REFERENCES_MISSING");
    // Each signer counts for itself: nobody ends another's word.
    assert!(add(&again, &signing(1).jws(&values(1, measured(KATA))).unwrap()).is_ok());
}

#[test]
fn several_signers_must_say_the_same() {
    let state = mesh(&stated(&["release", "builder"], 2));
    let state = added(state, &signing(0).jws(&values(1, measured(KATA))).unwrap());
    assert_eq!(code(counting(&state, NOW)), "REFERENCES_MISSING");
    let state = added(state, &signing(2).jws(&values(1, measured(KATA))).unwrap());
    assert_eq!(code(counting(&state, NOW)), "REFERENCES_MISSING");
    let differing = added(state.clone(), &signing(1).jws(&values(1, measured(b"other"))).unwrap());
    assert_eq!(code(counting(&differing, NOW)), "REFERENCES_MISSING");
    let agreed = added(state, &signing(1).jws(&values(9, measured(KATA))).unwrap());
    let label = &counting(&agreed, NOW).unwrap()[0].label;
    assert!(label.contains("builder and release") && label.contains("kata-guest"), "{label}");
}

#[test]
fn tuples_are_met_together_or_not_at_all() {
    let state = mesh(&stated(&["release", "builder"], 2));
    let tuple = |rtmr: &str| {
        let mut value = measured(KATA).remove(1);
        value.registers.insert("rtmr1".into(), rtmr.repeat(48));
        vec![value]
    };
    // Two tuples that differ in one register are no agreement on the measurement.
    let state = added(state, &signing(0).jws(&values(1, tuple("aa"))).unwrap());
    let state = added(state, &signing(1).jws(&values(1, tuple("bb"))).unwrap());
    let known = state.mesh().unwrap().known_references(NOW);
    let package = &state.mesh().unwrap().manifest().packages()["kata"];
    let manifest::AcceptedCode::References(stated) = &package.accepted[&Platform::Tdx].code else { panic!() };
    assert_eq!(code(known.values(&package.name, stated, Platform::Tdx)), "REFERENCES_MISSING");
}

#[test]
fn provenance_endorses_the_values_of_the_artefacts_that_were_built() {
    let provenance = |digest: &str| {
        let statement = json!({
            "_type": "https://in-toto.io/Statement/v1", "subject": [{ "digest": { "sha256": digest.repeat(32) } }],
            "predicateType": "https://slsa.dev/provenance/v1",
            "predicate": {
                "buildDefinition": { "buildType": "t", "resolvedDependencies": [
                    { "uri": "git+https://forge.example/kata", "digest": { "gitCommit": "c0ffee" } },
                ] },
                "runDetails": { "builder": { "id": "https://forge.example/builder" } },
            },
        });
        signing(1).envelope(statement.to_string().as_bytes()).unwrap()
    };
    let state = mesh(&stated(&["release", "builder"], 2));
    let statement = signing(0).dsse(&values(1, measured(KATA))).unwrap();
    let state = added(state, &statement);
    let other = added(state.clone(), &provenance("22"));
    assert_eq!(code(counting(&other, NOW)), "REFERENCES_MISSING");
    let state = added(state, &provenance("11"));
    assert_eq!(counting(&state, NOW).unwrap().len(), 1);
    let lines = references::lines(&state, &caller(&people().writer), NOW).unwrap();
    let lines = serde_json::to_value(lines).unwrap().to_string();
    assert!(lines.contains("git+https://forge.example/kata") && lines.contains("c0ffee"), "{lines}");
    // Provenance alone says nothing of measurements.
    let state = added(mesh(&self::stated(&["builder"], 1)), &provenance("11"));
    assert_eq!(code(counting(&state, NOW)), "REFERENCES_MISSING");
}

#[test]
fn another_manifest_counts_by_its_own_signers() {
    let first = stated(&["release"], 1);
    let state = added(mesh(&first), &signing(0).jws(&values(1, measured(KATA))).unwrap());
    assert_eq!(counting(&state, NOW).unwrap().len(), 1);
    let mut second = first;
    second["Broker"]["ReferenceSigners"]["release"]["Key"] = json!(key(2).1);
    let (events, _) = updated(&state, &second).unwrap();
    let state = events.into_iter().fold(state, step);
    assert_eq!(state.mesh().unwrap().epoch(), 2);
    assert_eq!(code(counting(&state, NOW)), "REFERENCES_MISSING");
    let lines = references::lines(&state, &caller(&people().writer), NOW).unwrap();
    assert!(!lines[0].holds && lines[0].reason.as_ref().unwrap().contains("signers"), "{lines:?}");
}

#[test]
fn a_keep_of_such_a_package_is_what_statements_say() {
    let mut manifest = stated(&["release"], 1);
    manifest["Packages"]["keep"] = manifest["Packages"]["kata"].clone();
    let state = mesh(&manifest);
    let claims = KeepClaims {
        marble: "tally".into(),
        engine: "test".into(),
        workload: Some(ByteArray::new(TALLY)),
        package: None,
        configuration: ByteArray::new([0; 32]),
    };
    let expected = |state: &State| core::expectations(state, Platform::Snp, &claims.to_bytes(), NOW);
    assert_eq!(code(expected(&state)), "REFERENCES_MISSING");
    let mut own = measured(KATA);
    own[0].measurement = Some(keep_on(Platform::Snp).measurement().clone());
    let state = added(state, &signing(0).jws(&values(1, own)).unwrap());
    let expectations = expected(&state).unwrap();
    assert_eq!(expectations.measurements.len(), 1);
    assert!(expectations.measurements[0].label.contains("kata-guest 1, statement "));
}

#[test]
fn only_so_many_statements_are_kept() {
    let mut state = mesh(&stated(&["release"], 1));
    for serial in 0..256 {
        state = added(state, &signing(0).jws(&values(serial, measured(KATA))).unwrap());
    }
    let one_more = signing(0).jws(&values(999, measured(KATA))).unwrap();
    assert_eq!(code(add(&state, &one_more)), "REFERENCES_FULL");
}

/// A manifest whose signer is a workflow, by the trust root of `reference-statements`' vectors.
fn by_workflow(root: &str, version: u64, expires: &str) -> Value {
    let mut manifest = stated(&["release"], 1);
    manifest["Packages"]["kata"]["References"]["Series"] = json!("guest");
    manifest["Broker"]["ReferenceSigners"]["release"] = json!({ "Sigstore": {
        "Identity": IDENTITY, "Issuer": "https://token.forge.example",
        "TrustedRoot": { "Json": root, "Version": version, "Expires": expires },
    } });
    manifest
}

#[tokio::test(flavor = "multi_thread")]
async fn s62_a_release_that_is_in_no_log_is_refused() {
    let running = under(&by_workflow(MADE_ROOT, 3, "2027-06-01T00:00:00Z")).await;
    assert_eq!(bring(&running, UNLOGGED).await.code(), (422, "STATEMENT_NOT_IN_LOG".to_owned()));
    let answer = bring(&running, LOGGED).await;
    assert_eq!(answer.status, 200, "{:?}", answer.json());
    let listed = running.get(Some(&people().writer), "/api/v3/references").await;
    let line = listed.json()["data"]["references"][0].clone();
    assert_eq!(line["log"]["index"], 1);
    assert_eq!(line["certified"]["source"], "https://forge.example/guest");
    assert_eq!(line["certified"]["identity"], IDENTITY);
}

#[test]
fn s63_an_expired_trust_root_is_refused() {
    let state = mesh(&by_workflow(MADE_ROOT, 3, "2026-01-01T00:00:00Z"));
    assert_eq!(code(add(&state, LOGGED)), "TRUST_ROOT_EXPIRED");
    let expires = later(100).to_string();
    let state = added(mesh(&by_workflow(MADE_ROOT, 3, &expires)), LOGGED);
    assert_eq!(counting(&state, later(100)).unwrap().len(), 1);
    assert_eq!(code(counting(&state, later(101))), "REFERENCES_MISSING");
}

#[test]
fn s63_a_trust_root_is_not_replaced_by_an_older_one() {
    let expires = "2027-06-01T00:00:00Z";
    let state = mesh(&by_workflow(MADE_ROOT, 3, expires));
    let to = |manifest: &Value| code(updated(&state, manifest));
    assert_eq!(to(&by_workflow(MADE_ROOT, 2, expires)), "TRUST_ROOT_ROLLED_BACK");
    let other =
        MADE_ROOT.replace("rekor.test", "other.test").replace("https://log.test", "https://other.test");
    assert_eq!(to(&by_workflow(&other, 3, expires)), "TRUST_ROOT_ROLLED_BACK");
    assert!(updated(&state, &by_workflow(&other, 4, expires)).is_ok());
    assert!(updated(&state, &by_workflow(MADE_ROOT, 3, "2028-01-01T00:00:00Z")).is_ok());
}

#[test]
fn signers_that_could_verify_nothing_do_not_come_into_force() {
    let mut manifest = by_workflow("{}", 3, "2027-06-01T00:00:00Z");
    assert_eq!(code(set(&founded(), &manifest)), "REFERENCE_SIGNER_UNUSABLE");
    manifest = stated(&["release"], 1);
    let rsa = "-----BEGIN PUBLIC KEY-----\nMCowBQYDK2VuAyEAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=\n-----END PUBLIC KEY-----\n";
    manifest["Broker"]["ReferenceSigners"]["release"]["Key"] = json!(rsa);
    assert_eq!(code(set(&founded(), &manifest)), "REFERENCE_SIGNER_UNUSABLE");
}

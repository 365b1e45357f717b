//! Changes of the manifest: who may make them, what they change, and what they leave as it was.

use std::collections::BTreeSet;

use coordinator::core::{Event, Progress, Refusal, SecretValue, State, cancel, lapse};
use manifest::SecretKind;
use serde_json::{Value, json};
use testkit::tee::NOW;

use crate::world::{
    acknowledge, caller, code, founded, later, manifest, people, read_secrets, set, step, update, upload,
};

/// [`manifest`] with writer and reader who may update it, both needed, and with a certificate for both to read.
pub fn updatable() -> Value {
    let mut text = manifest();
    text["Roles"]["admin"] = json!({"ResourceType": "Manifest", "Actions": ["UpdateManifest"]});
    text["Roles"]["certificates"] =
        json!({"ResourceType": "Secrets", "ResourceNames": ["cert", "salt"], "Actions": ["ReadSecret"]});
    text["Secrets"]["cert"] = json!({"Type": "cert-ecdsa", "Size": 256, "Shared": true});
    for user in ["writer", "reader"] {
        let roles = text["Users"][user]["Roles"].as_array_mut().unwrap();
        roles.extend([json!("admin"), json!("certificates")]);
    }
    text
}

fn running_with(text: &Value) -> State {
    let state = founded();
    let event = set(&state, text).unwrap();
    step(state, event)
}

fn apply(state: State, events: Vec<Event>) -> State {
    events.into_iter().fold(state, step)
}

fn propose(state: &State, text: &Value) -> Result<(Vec<Event>, Progress), Refusal> {
    update(state, &caller(&people().writer), text.to_string().into_bytes(), BTreeSet::new(), NOW)
}

fn agree(state: &State, text: &Value) -> Result<(Vec<Event>, Progress), Refusal> {
    acknowledge(state, &caller(&people().reader), text.to_string().as_bytes(), NOW)
}

fn read(state: &State, name: &str) -> Value {
    let values = read_secrets(state, &caller(&people().reader), &[name.to_owned()], NOW).unwrap();
    serde_json::to_value(values).unwrap()[name].clone()
}

#[test]
fn every_user_who_may_update_must_agree_where_there_is_no_threshold() {
    let state = running_with(&updatable());
    let mut next = updatable();
    next["Marbles"]["tally"]["MaxActivations"] = json!(7);
    let (events, progress) = propose(&state, &next).unwrap();
    assert_eq!((progress.missing, progress.missing_users.as_slice()), (1, &["reader".to_owned()][..]));
    let state = apply(state, events);
    assert_eq!(state.mesh().unwrap().epoch(), 1, "nothing has changed yet");

    // The proposer's agreement does not count twice, and another manifest is not agreed to.
    let again = acknowledge(&state, &caller(&people().writer), next.to_string().as_bytes(), NOW).unwrap();
    assert_eq!((again.0.len(), again.1.missing), (0, 1));
    assert_eq!(code(agree(&state, &updatable())), "UPDATE_MISMATCH");
    assert_eq!(code(propose(&state, &next)), "UPDATE_PENDING");

    let (events, progress) = agree(&state, &next).unwrap();
    assert_eq!(progress.missing, 0);
    let state = apply(state, events);
    let mesh = state.mesh().unwrap();
    assert_eq!((mesh.epoch(), mesh.pending(NOW).is_none()), (2, true));
    assert_eq!(mesh.manifest_bytes(), next.to_string().as_bytes());
    assert_eq!(code(agree(&state, &next)), "UPDATE_ABSENT");
    let words: Vec<_> = mesh.history().map(|entry| serde_json::to_value(entry).unwrap()).collect();
    let words: Vec<_> = words.iter().map(|entry| entry["update"].as_str().unwrap()).collect();
    assert_eq!(
        words,
        [
            "Initial manifest set",
            "Complete Manifest update initiated by user",
            "Complete Manifest update acknowledged by user",
            "Complete Manifest updated"
        ]
    );
}

#[test]
fn a_threshold_needs_so_many_and_no_more() {
    let mut text = updatable();
    text["Config"] = json!({"UpdateThreshold": 1});
    let state = running_with(&text);
    let (events, progress) = propose(&state, &updatable()).unwrap();
    assert_eq!((events.len(), progress.missing), (2, 0));
    assert_eq!(apply(state, events).mesh().unwrap().epoch(), 2);
}

#[test]
fn strangers_and_users_without_the_role_update_nothing() {
    let plain = running_with(&manifest());
    assert_eq!(code(propose(&plain, &updatable())), "NOT_GRANTED");
    let state = running_with(&updatable());
    let bytes = || updatable().to_string().into_bytes();
    let stranger = caller(&people().stranger);
    assert_eq!(code(update(&state, &stranger, bytes(), BTreeSet::new(), NOW)), "USER_UNKNOWN");
    assert_eq!(code(acknowledge(&state, &stranger, &bytes(), NOW)), "USER_UNKNOWN");
    assert_eq!(code(cancel(&state, &stranger, NOW)), "USER_UNKNOWN");
    assert_eq!(code(cancel(&state, &caller(&people().writer), NOW)), "UPDATE_ABSENT");
    assert_eq!(code(propose(&founded(), &updatable())), "MANIFEST_NOT_SET");
}

#[test]
fn an_update_can_be_cancelled_and_lapses_at_its_deadline() {
    let state = running_with(&updatable());
    let (events, _) = propose(&state, &manifest()).unwrap();
    let state = apply(state, events);
    let cancelled = step(state.clone(), cancel(&state, &caller(&people().reader), NOW).unwrap());
    assert!(cancelled.mesh().unwrap().pending(NOW).is_none());

    assert!(lapse(&state, later(7 * 24 * 3600)).is_none());
    let late = later(7 * 24 * 3600 + 1);
    assert_eq!(
        code(acknowledge(&state, &caller(&people().reader), manifest().to_string().as_bytes(), late)),
        "UPDATE_ABSENT"
    );
    let lapsed = step(state.clone(), lapse(&state, late).unwrap());
    assert!(lapse(&lapsed, late).is_none());
    // A new one may be proposed without waiting for the cancellation.
    let proposed = update(
        &state,
        &caller(&people().writer),
        updatable().to_string().into_bytes(),
        BTreeSet::new(),
        late,
    );
    assert_eq!(proposed.unwrap().0.len(), 2);
}

pub fn updated(state: State, text: &Value) -> State {
    let (events, _) = propose(&state, text).unwrap();
    let state = apply(state, events);
    let (events, _) = agree(&state, text).unwrap();
    apply(state, events)
}

#[test]
fn what_did_not_change_stays_and_certificates_are_issued_anew() {
    let state = running_with(&updatable());
    let written = upload("question", "AAAA");
    let event = coordinator::core::write_secrets(&state, &caller(&people().writer), written, NOW).unwrap();
    let state = step(state, event);
    let (salt, cert) = (read(&state, "salt"), read(&state, "cert"));
    let state = updated(state, &updatable());
    assert_eq!(read(&state, "salt"), salt);
    assert_ne!(read(&state, "cert")["Cert"], cert["Cert"], "its CA is another");

    let mut larger = updatable();
    larger["Secrets"]["salt"]["Size"] = json!(512);
    let state = updated(state, &larger);
    assert_eq!(read(&state, "salt")["Size"], 512);
    assert_ne!(read(&state, "salt")["Private"], salt["Private"]);

    let mut rotating = larger.clone();
    rotating["Config"] = json!({"RotateRootSecret": true});
    let before = read(&state, "salt");
    let state = updated(state, &rotating);
    assert_ne!(read(&state, "salt"), before, "all are rotated");
    let mut shorter = rotating.clone();
    shorter["Secrets"]["question"] = json!({"Type": "symmetric-key", "Size": 128, "UserDefined": true});
    let (events, _) = propose(&state, &shorter).unwrap();
    let state = apply(state, events);
    assert_eq!(code(agree(&state, &shorter)), "SECRET_REFUSED", "an uploaded value would not fit");
}

fn signed(version: u16) -> Value {
    let mut text = updatable();
    text["Packages"]["native"] =
        json!({"SignerID": "5a".repeat(32), "ProductID": 1, "SecurityVersion": version});
    text["Platforms"]["Sgx"] = json!({});
    text["Marbles"]["native"]["Package"] = json!("native");
    text["Roles"]["raise"] = json!({
        "ResourceType": "Packages", "ResourceNames": ["native"], "Actions": ["UpdateSecurityVersion"]
    });
    text["Users"]["writer"]["Roles"].as_array_mut().unwrap().push(json!("raise"));
    text
}

#[test]
fn s45_security_versions_rise_by_one_user_and_fall_only_when_it_is_said() {
    let state = running_with(&signed(3));
    let raise = |state: &State, version: u64, who| {
        let text = json!({"Packages": {"native": {"SecurityVersion": version}}}).to_string();
        update(state, &caller(who), text.into_bytes(), BTreeSet::new(), NOW)
    };
    assert_eq!(code(raise(&state, 2, &people().writer)), "MANIFEST_REFUSED", "it never falls");
    assert_eq!(code(raise(&state, 5, &people().reader)), "NOT_GRANTED");
    let (events, progress) = raise(&state, 5, &people().writer).unwrap();
    assert_eq!(progress.missing, 0);
    let digest = state.mesh().unwrap().manifest_digest();
    let state = apply(state, events);
    let mesh = state.mesh().unwrap();
    assert_eq!((mesh.epoch(), mesh.manifest().packages()["native"].security_version()), (2, Some(5)));
    assert_eq!(mesh.manifest_digest(), digest, "the document is the same");

    // A whole manifest that was written before would take it back.
    assert_eq!(code(propose(&state, &signed(3))), "SECURITY_VERSION_DOWNGRADE");
    let said = BTreeSet::from(["native".to_owned()]);
    let bytes = signed(3).to_string().into_bytes();
    let (events, _) = update(&state, &caller(&people().writer), bytes, said, NOW).unwrap();
    let state = apply(state, events);
    assert!(state.mesh().unwrap().pending(NOW).unwrap().downgrades.contains("native"), "for all to see");
    let (events, _) = agree(&state, &signed(3)).unwrap();
    let state = apply(state, events);
    assert_eq!(state.mesh().unwrap().manifest().packages()["native"].security_version(), Some(3));
}

#[test]
fn secrets_that_nothing_refers_to_are_not_made() {
    let mut text = manifest();
    text["Secrets"]["unused"] = json!({"Type": "symmetric-key", "Size": 128, "Shared": true});
    let Event::ManifestSet { generated, .. } = set(&founded(), &text).unwrap() else { panic!() };
    assert_eq!(generated.keys().collect::<Vec<_>>(), ["salt"]);
}

#[test]
fn certificates_of_every_kind_are_issued_as_asked() {
    let mut text = updatable();
    let kinds = [
        ("rsa", json!({"Type": "cert-rsa", "Size": 2048})),
        ("p384", json!({"Type": "cert-ecdsa", "Size": 384})),
        ("p521", json!({"Type": "cert-ecdsa", "Size": 521, "ValidFor": 2})),
        (
            "ed25519",
            json!({"Type": "cert-ed25519", "Cert": {
                "Subject": {"CommonName": "db", "Organization": ["us"]}, "DNSNames": ["db", "db.example.org"],
                "IPAddresses": ["10.0.0.1"], "IsCA": true, "NotAfter": "2030-01-01T00:00:00Z"
            }}),
        ),
    ];
    for (name, secret) in &kinds {
        text["Secrets"][name] = secret.clone();
        text["Secrets"][name]["Shared"] = json!(true);
        text["Roles"]["certificates"]["ResourceNames"].as_array_mut().unwrap().push(json!(name));
    }
    let state = running_with(&text);
    let mesh = state.mesh().unwrap();
    for (name, _) in &kinds {
        use base64::Engine;
        let given = read(&state, name);
        let der = base64::engine::general_purpose::STANDARD.decode(given["Cert"].as_str().unwrap()).unwrap();
        let (_, certificate) = x509_parser::parse_x509_certificate(&der).unwrap();
        let (_, root) = x509_parser::parse_x509_certificate(mesh.marble_root()).unwrap();
        assert_eq!(certificate.issuer(), root.subject(), "{name}");
        let SecretKind::Certificate(kind) = &mesh.manifest().secrets()[*name].kind else { panic!() };
        let names = certificate.subject_alternative_name().unwrap().unwrap().value.general_names.len();
        assert_eq!(names, kind.template.dns_names.len() + kind.template.addresses.len(), "{name}");
        match *name {
            "ed25519" => {
                assert!(certificate.is_ca());
                assert_eq!(certificate.validity().not_after.timestamp(), 1_893_456_000);
                assert!(certificate.subject().to_string().contains("CN=db"));
            }
            "p521" => {
                let days = (certificate.validity().not_after.timestamp() - NOW.0) / 86_400;
                assert_eq!(days, 2);
            }
            _ => assert!(!certificate.is_ca()),
        }
    }
    assert_eq!(format!("{:?}", SecretValue::Bytes(b"x".to_vec().into())), "SecretValue(…)");
}

#[test]
fn s45_a_version_does_not_fall_by_a_package_that_goes_or_is_known_otherwise() {
    let state = running_with(&signed(3));
    let mut gone = updatable();
    gone["Platforms"]["Sgx"] = json!({});
    gone["Marbles"]["native"]["Package"] = json!("keep");
    let mut pinned = signed(3);
    pinned["Packages"]["native"] = json!({"UniqueID": "6b".repeat(32)});
    for text in [gone, pinned] {
        assert_eq!(code(propose(&state, &text)), "SECURITY_VERSION_DOWNGRADE");
        let said = BTreeSet::from(["native".to_owned()]);
        let bytes = text.to_string().into_bytes();
        assert_eq!(code(update(&state, &caller(&people().writer), bytes, said, NOW)), "accepted");
    }
}

//! Versions of secrets: rotated on demand and never losing the one before, expired and wiped, and kept apart by what
//! the Evidence proves.

use std::{
    collections::BTreeSet,
    sync::{Arc, OnceLock},
};

use appraisal::UnixTime;
use coordinator::core::{Refusal, State, expire, found, prepare_rotation, secret_lines, write_secrets};
use serde_json::{Value, json};
use testkit::tee::NOW;

use crate::world::{
    activated, caller, code, identity, later, manifest, peer, people, read_secrets, set, step,
};

/// A second machine, of which [`rotatable`] knows too.
pub fn other_machine() -> Arc<emulator::vendor::Platform> {
    static MACHINE: OnceLock<Arc<emulator::vendor::Platform>> = OnceLock::new();
    let made = || {
        let directory = tempfile::tempdir().unwrap();
        let now = time::OffsetDateTime::from_unix_timestamp(NOW.0).unwrap();
        Arc::new(emulator::vendor::Platform::open(directory.path(), now).unwrap())
    };
    MACHINE.get_or_init(made).clone()
}

/// [`manifest`], in which the reader may rotate, and a Marble has every kind of secret.
pub fn rotatable() -> Value {
    let mut text = manifest();
    for (platform, root) in
        [("Snp", &other_machine().roots().amd.0), ("Tdx", &other_machine().roots().intel.0)]
    {
        let root = evidence::pem::encode(&evidence::CertificateDer(root.to_vec()));
        text["Platforms"][platform]["EmulatedRoots"].as_array_mut().unwrap().push(json!(root));
    }
    text["Secrets"]["cert"] = json!({ "Type": "cert-ecdsa", "Size": 256, "Shared": true });
    text["Secrets"]["mine"] = json!({ "Type": "cert-ecdsa", "Size": 256 });
    text["Secrets"]["disk"] = json!({ "Type": "symmetric-key", "Size": 256, "Scope": "Platform" });
    text["Secrets"]["unused"] = json!({ "Type": "symmetric-key", "Size": 256, "Shared": true });
    text["Secrets"]["question"]["MaxAge"] = json!("30d");
    text["Marbles"]["asker"]["Parameters"] = json!({ "Files": {
        "/question": "{{ raw .Secrets.question }}",
        "/salt": "{{ hex .Secrets.salt }}",
        "/before": "{{ hex .Previous.Secrets.salt }}",
        "/key.pem": "{{ pem .Secrets.cert.Private }}",
        "/mine.pem": "{{ pem .Secrets.mine.Private }}",
        "/disk": "{{ hex .Secrets.disk }}",
        "/disk-before": "{{ hex .Previous.Secrets.disk }}",
        "/own": "{{ hex .Secrets.own }}",
    } });
    text["Marbles"]["tally"]["Parameters"]["Files"] = json!({ "/cert.pem": "{{ pem .Secrets.cert.Cert }}" });
    text["Roles"]["rotate"] = json!({
        "ResourceType": "Secrets", "ResourceNames": ["salt", "cert", "unused"],
        "Actions": ["RotateSecret", "ReadSecret"],
    });
    text["Roles"]["operate"] = json!({
        "ResourceType": "Marbles", "ResourceNames": ["tally", "frontend", "asker", "native"],
        "Actions": ["ReadInstances", "EvictInstance"],
    });
    let roles = text["Users"]["reader"]["Roles"].as_array_mut().unwrap();
    roles.extend([json!("rotate"), json!("operate")]);
    text
}

pub fn running_with(text: &Value) -> State {
    let state = State::begin(found(true, identity(), NOW).unwrap(), identity().clone()).unwrap();
    let event = set(&state, text).unwrap();
    step(state, event)
}

/// [`rotatable`] with its question uploaded.
pub fn ready() -> State {
    let state = running_with(&rotatable());
    ask(state, json!({ "Key": "d2h5Pw==" }), NOW).unwrap()
}

pub fn ask(state: State, question: Value, now: UnixTime) -> Result<State, Refusal> {
    let uploads = serde_json::from_value(json!({ "question": question })).unwrap();
    let event = write_secrets(&state, &caller(&people().writer), uploads, now)?;
    Ok(step(state, event))
}

fn names(names: &[&str]) -> BTreeSet<String> {
    names.iter().map(ToString::to_string).collect()
}

fn rotated(state: State, wanted: &[&str], now: UnixTime) -> Result<State, Refusal> {
    let reader = caller(&people().reader);
    let rotation = prepare_rotation(&state, &reader, &names(wanted), now)?;
    let (event, _) = rotation.admit(&state, &reader, now)?;
    Ok(step(state, event))
}

pub fn files(state: &State) -> std::collections::BTreeMap<String, String> {
    let peer = peer(state, "asker", crate::world::ASKER);
    let (_, activation) = activated(state.clone(), &peer);
    let text = |(name, value): (String, Vec<u8>)| (name, String::from_utf8_lossy(&value).into_owned());
    activation.parameters.files.into_iter().map(text).collect()
}

fn line(state: &State, who: &attested_tls::key::TeeKey, name: &str, now: UnixTime) -> Value {
    let lines = serde_json::to_value(secret_lines(state, &caller(who), now).unwrap()).unwrap();
    lines.as_array().unwrap().iter().find(|line| line["name"] == name).cloned().unwrap_or_default()
}

#[test]
fn a_rotation_keeps_the_version_before_it() {
    let state = ready();
    let before = files(&state);
    assert_eq!(before["/salt"], before["/before"], "there was no rotation yet");
    let reader = &people().reader;
    assert_eq!(line(&state, reader, "salt", NOW)["version"], 1);
    let state = rotated(state, &["salt", "cert"], later(5)).unwrap();
    let after = files(&state);
    assert_eq!(after["/before"], before["/salt"]);
    assert_ne!(after["/salt"], before["/salt"]);
    assert_ne!(after["/key.pem"], before["/key.pem"]);
    assert_eq!(state.mesh().unwrap().epoch(), 1, "no epoch is needed");
    let salt = line(&state, reader, "salt", NOW);
    assert_eq!((&salt["version"], &salt["state"]), (&json!(2), &json!("set")));
    assert_eq!(salt["madeAt"], later(5).to_string());
    let third = files(&rotated(state, &["salt"], NOW).unwrap());
    assert_eq!(third["/before"], after["/salt"], "what was before that is gone");
}

#[test]
fn versions_survive_snapshots_and_replay() {
    let state = rotated(ready(), &["salt"], NOW).unwrap();
    let again = State::from_snapshot(&state.to_snapshot().unwrap(), identity().clone()).unwrap();
    assert_eq!(line(&again, &people().reader, "salt", NOW)["version"], 2);
    let (one, other) = (files(&state), files(&again));
    assert_eq!((&one["/salt"], &one["/before"]), (&other["/salt"], &other["/before"]));
}

#[test]
fn rotation_needs_its_grant() {
    let state = ready();
    let of =
        |who, wanted: &[&str]| code(prepare_rotation(&state, &caller(who), &names(wanted), NOW).map(|_| ()));
    let people = people();
    assert_eq!(of(&people.reader, &["salt", "cert"]), "accepted");
    assert_eq!(of(&people.writer, &["salt"]), "NOT_GRANTED");
    assert_eq!(of(&people.reader, &["salt", "question"]), "NOT_GRANTED");
    assert_eq!(of(&people.reader, &["absent"]), "NOT_GRANTED");
    assert_eq!(of(&people.stranger, &["salt"]), "USER_UNKNOWN");
    assert_eq!(of(&people.reader, &[]), "SECRETS_MISSING");
}

/// Two who rotate at once: one of them would have made the other's value the one before the last.
#[test]
fn a_rotation_that_another_came_before_is_refused() {
    let state = ready();
    let reader = caller(&people().reader);
    let slow = prepare_rotation(&state, &reader, &names(&["salt"]), NOW).unwrap();
    let state = rotated(state, &["salt"], NOW).unwrap();
    assert_eq!(code(slow.admit(&state, &reader, NOW)), "OVERTAKEN");
    // And what was decided on the state of before is not given out after.
    let state = ready();
    let peer = peer(&state, "asker", crate::world::ASKER);
    let activation = crate::world::activate(&state, &peer, 1, NOW).unwrap();
    let state = rotated(state, &["salt"], NOW).unwrap();
    assert_eq!(code(activation.admit(&state, NOW)), "OVERTAKEN");
}

#[test]
fn an_expired_secret_is_not_delivered_and_is_wiped() {
    let state = running_with(&rotatable());
    let until = later(100).to_string();
    let state = ask(state, json!({ "Key": "d2h5Pw==", "Expires": until }), NOW).unwrap();
    let writer = caller(&people().writer);
    let read = |state: &State, now| code(read_secrets(state, &writer, &["question".into()], now));
    let peer = peer(&state, "asker", crate::world::ASKER);
    let join = |state: &State, now| code(crate::world::activate(state, &peer, 1, now));
    assert_eq!(line(&state, &people().writer, "question", NOW)["expires"], until);
    assert_eq!((read(&state, later(99)), join(&state, later(99))), ("accepted", "accepted"));
    assert!(expire(&state, later(99)).is_none());
    assert_eq!((read(&state, later(100)), join(&state, later(100))), ("SECRET_EXPIRED", "SECRET_EXPIRED"));
    assert_eq!(line(&state, &people().writer, "question", later(100))["state"], "expired");
    let gone = step(state.clone(), expire(&state, later(100)).unwrap());
    assert!(expire(&gone, later(101)).is_none(), "once");
    assert_eq!((read(&gone, later(101)), join(&gone, later(101))), ("SECRET_EXPIRED", "SECRET_EXPIRED"));
    let snapshot = gone.to_snapshot().unwrap();
    assert!(!snapshot.windows(4).any(|window| window == b"why?"), "the value is not there any more");
    assert!(state.to_snapshot().unwrap().windows(4).any(|window| window == b"why?"));
    let again = ask(gone, json!({ "Key": "bm93Pw==" }), later(200)).unwrap();
    assert_eq!((read(&again, later(201)), join(&again, later(201))), ("accepted", "accepted"));
    assert_eq!(line(&again, &people().writer, "question", later(201))["version"], 2);
}

#[test]
fn the_manifest_bounds_the_age_of_an_upload() {
    let day = 24 * 3600;
    let state = ready();
    let writer = caller(&people().writer);
    let read = |now| code(read_secrets(&state, &writer, &["question".into()], now));
    assert_eq!((read(later(30 * day - 1)), read(later(30 * day))), ("accepted", "SECRET_EXPIRED"));
    let longer = json!({ "Key": "d2h5Pw==", "Expires": later(60 * day).to_string() });
    let state = ask(running_with(&rotatable()), longer, NOW).unwrap();
    assert_eq!(line(&state, &people().writer, "question", NOW)["expires"], later(30 * day).to_string());
}

#[test]
fn an_expiry_is_a_time_that_has_not_passed() {
    for expires in ["", "tomorrow", "2020-01-01T00:00:00Z", "2027-01-01", &NOW.to_string()] {
        let refused = ask(ready(), json!({ "Key": "YQ==", "Expires": expires }), NOW);
        assert_eq!(code(refused), "SECRET_REFUSED", "{expires}");
    }
}

//! The log is the state: replaying what was decided gives the same again, whatever was asked and refused.

use std::{collections::BTreeMap, sync::OnceLock};

use attested_tls::channel::AttestedPeer;
use coordinator::core::{Event, Refusal, State, found, renew, write_secrets};
use proptest::prelude::*;
use serde_json::{Value, json};
use testkit::tee::NOW;
use zeroize::Zeroizing;

use crate::world::{
    ASKER, FRONTEND, TALLY, activate, caller, founded, identity, later, manifest, peer, people, read_secrets,
    running, set_manifest, step, upload,
};

#[derive(Debug, Clone)]
enum Command {
    SetManifest { owner: bool, good: bool },
    WriteSecret { writer: bool, name: usize, good: bool },
    Activate { peer: usize, epoch: u64 },
    Renew { peer: usize },
    Wait { seconds: i64 },
}

fn command() -> impl Strategy<Value = Command> {
    prop_oneof![
        2 => (prop::bool::weighted(0.8), prop::bool::weighted(0.8))
            .prop_map(|(owner, good)| Command::SetManifest { owner, good }),
        2 => (prop::bool::weighted(0.8), 0..4usize, prop::bool::weighted(0.8))
            .prop_map(|(writer, name, good)| Command::WriteSecret { writer, name, good }),
        4 => (0..5usize, prop_oneof![9 => Just(1), 1 => Just(0)])
            .prop_map(|(peer, epoch)| Command::Activate { peer, epoch }),
        3 => (0..5usize).prop_map(|peer| Command::Renew { peer }),
        1 => (0..30_000i64).prop_map(|seconds| Command::Wait { seconds }),
    ]
}

const NAMES: [&str; 4] = ["question", "key", "salt", "absent"];

/// Keeps that were appraised once; the proofs are good for every state under the same manifest.
fn peers() -> &'static [AttestedPeer] {
    static PEERS: OnceLock<Vec<AttestedPeer>> = OnceLock::new();
    PEERS.get_or_init(|| {
        let state = running();
        let marbles = [
            ("tally", TALLY),
            ("frontend", FRONTEND),
            ("frontend", FRONTEND),
            ("asker", ASKER),
            ("tally", FRONTEND),
        ];
        marbles.iter().map(|(marble, workload)| peer(&state, marble, *workload)).collect()
    })
}

fn decide(state: &State, command: &Command, now: i64) -> Result<Event, Refusal> {
    let (people, now) = (people(), later(now));
    match command {
        Command::SetManifest { owner, good } => {
            let person = if *owner { &people.owner } else { &people.stranger };
            let bytes =
                if *good { manifest().to_string().into_bytes() } else { b"{\"Marbles\": 1}".to_vec() };
            set_manifest(state, people.owner.digest(), &caller(person), bytes, now).map(|(event, _)| event)
        }
        Command::WriteSecret { writer, name, good } => {
            let person = if *writer { &people.writer } else { &people.stranger };
            let value = if *good { "AAAAAAAAAAAAAAAAAAAAAA==" } else { "%" };
            write_secrets(state, &caller(person), upload(NAMES[*name], value), now)
        }
        Command::Activate { peer, epoch } => activate(state, &peers()[*peer], *epoch, now)?.admit(state, now),
        Command::Renew { peer } => renew(state, &peers()[*peer], 1, now).map(|(event, _)| event),
        Command::Wait { .. } => Err(Refusal::NoSecrets),
    }
}

/// Everything that anyone outside can learn from a state.
fn observables(state: &State, now: i64) -> Value {
    let people = people();
    let read = |person, names: &[&str]| {
        let names: Vec<_> = names.iter().map(ToString::to_string).collect();
        match read_secrets(state, &caller(person), &names, later(now)) {
            Ok(values) => serde_json::to_value(values).unwrap(),
            Err(refusal) => json!(refusal.to_string()),
        }
    };
    let of_peer = |peer: &AttestedPeer| {
        let given = activate(state, peer, 1, later(now)).map(|activation| {
            let admitted = activation.admit(state, later(now)).map(|_| ());
            let env: BTreeMap<_, _> = activation.parameters.env.iter().collect();
            let files: BTreeMap<_, _> = activation.parameters.files.iter().collect();
            (format!("{env:?} {files:?}"), admitted.map_err(|refusal| refusal.to_string()))
        });
        let renewed = renew(state, peer, 1, later(now)).map(|_| ()).map_err(|refusal| refusal.to_string());
        format!("{:?} {renewed:?}", given.map_err(|refusal| refusal.to_string()))
    };
    let mesh = state.mesh().map(|mesh| {
        let activations = ["tally", "frontend", "asker"].map(|marble| mesh.activations(marble));
        json!({
            "epoch": mesh.epoch(),
            "manifest": mesh.manifest_bytes(),
            "digest": mesh.manifest_digest(),
            "intermediate": mesh.intermediate().certificate().as_ref(),
            "key": mesh.intermediate().key().unwrap().as_slice(),
            "activations": activations,
        })
    });
    json!({
        "root": state.root().certificate().as_ref(),
        "key": state.root().key().unwrap().as_slice(),
        "emulated": state.emulated(),
        "mesh": mesh,
        "writer": read(&people.writer, &["question", "key"]),
        "reader": read(&people.reader, &["salt"]),
        "peers": peers().iter().map(of_peer).collect::<Vec<_>>(),
    })
}

/// All that a snapshot has, but for CA keys, which are sealed anew each time and are among the observables.
fn parts(state: &State) -> ciborium::Value {
    fn blank(value: &mut ciborium::Value) {
        match value {
            ciborium::Value::Map(entries) => {
                entries.iter_mut().for_each(|(name, value)| match name.as_text() {
                    Some("key") => *value = ciborium::Value::Null,
                    _ => blank(value),
                })
            }
            ciborium::Value::Array(values) => values.iter_mut().for_each(blank),
            _ => {}
        }
    }
    let mut parts = ciborium::from_reader(state.to_snapshot().unwrap().as_slice()).unwrap();
    blank(&mut parts);
    parts
}

#[test]
fn snapshots_of_another_making_are_errors() {
    let snapshot = running().to_snapshot().unwrap();
    let resume = |bytes: &[u8]| State::resume(Some(bytes), 2, &[], identity()).map(|_| ());
    assert!(resume(&snapshot).is_ok());
    assert!(resume(&[&snapshot[..], &[0]].concat()).is_err(), "bytes follow it");
    assert!(resume(&snapshot[..snapshot.len() - 1]).is_err() && resume(b"").is_err(), "truncated");
    let version = snapshot.windows(8).position(|window| window == b"version\x01").unwrap();
    let mut other = snapshot.to_vec();
    other[version + 7] = 2;
    assert!(resume(&other).unwrap_err().to_string().contains("version 2"));
    // Another TEE has the data and not the CA keys.
    let elsewhere = coordinator::core::IdentityKey::generate().unwrap();
    let state = State::resume(Some(&snapshot), 2, &[], &elsewhere).unwrap().unwrap();
    assert!(!state.can_issue() && running().can_issue());
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn replay_gives_the_same_state(commands in prop::collection::vec(command(), 0..14)) {
        let founding = found(true, identity(), NOW).unwrap();
        let mut log = vec![founding.to_record()];
        let mut state = State::begin(founding, identity().clone()).unwrap();
        let mut now = 0;
        for command in &commands {
            if let Command::Wait { seconds } = command {
                now += seconds;
            }
            if let Ok(event) = decide(&state, command, now) {
                log.push(event.to_record());
                state = step(state, event);
            }
        }
        let replayed = State::replay(&log, identity()).unwrap().unwrap();
        prop_assert_eq!(observables(&state, now), observables(&replayed, now));
        // Every earlier length of the log is a state too, and going on from its snapshot gives the same.
        for length in 1..=log.len() {
            let earlier = State::replay(&log[..length], identity()).unwrap().unwrap();
            let snapshot = earlier.to_snapshot().unwrap();
            let resumed = State::resume(Some(&snapshot), length as u64, &log[length..], identity());
            let resumed = resumed.unwrap().unwrap();
            prop_assert_eq!(observables(&state, now), observables(&resumed, now));
            prop_assert_eq!(parts(&state), parts(&resumed));
        }
    }
}

#[test]
fn logs_of_another_making_are_errors() {
    let founding = found(true, identity(), NOW).unwrap();
    let record = founding.to_record();
    assert!(State::replay(&[], identity()).unwrap().is_none());
    assert!(State::replay(&[record.clone(), record.clone()], identity()).is_err(), "founded twice");
    assert!(State::replay(&[Zeroizing::new(b"nonsense".to_vec())], identity()).is_err());
    let manifest = crate::world::set(&founded(), &manifest()).unwrap().to_record();
    assert!(
        State::replay(&[manifest.clone(), record.clone()], identity()).is_err(),
        "does not begin with a founding"
    );
    assert!(State::replay(&[record.clone(), manifest.clone(), manifest], identity()).is_err(), "set twice");
    let mut trailing = record;
    trailing.push(0);
    assert!(State::replay(&[trailing], identity()).is_err(), "bytes follow the event");
}

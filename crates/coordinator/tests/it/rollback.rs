//! Roll-out windows and roll-back: what the state keeps, what it goes back to, and when it does not.

use std::collections::BTreeSet;

use attested_tls::marble::{MarbleIdentity, Rollout};
use coordinator::core::{self, Event, NewKeys, Refusal, State, Undecided, roll_back, roll_back_due};
use serde_json::{Value, json};
use testkit::tee::NOW;

use crate::{
    update::updatable,
    world::{
        FRONTEND, TALLY, acknowledge, caller, code, founded, identity, later, peer, people, set, step,
        update, upload,
    },
};

fn cautious() -> Value {
    let mut text = updatable();
    text["Config"] = json!({"RollBackAfter": "10m", "UpdateThreshold": 1});
    text
}

fn running_with(text: &Value) -> State {
    let state = founded();
    let event = set(&state, text).unwrap();
    step(state, event)
}

fn activated(state: State, marble: &str, workload: [u8; 32]) -> (State, MarbleIdentity) {
    let epoch = state.mesh().unwrap().epoch();
    let activation = crate::world::activate(&state, &peer(&state, marble, workload), epoch, NOW).unwrap();
    let identity = MarbleIdentity::of_certificate(&activation.certified.chain[0]).unwrap();
    let event = activation.admit(&state, NOW).unwrap();
    (step(state, event), identity)
}

fn updated(state: State, text: &Value) -> State {
    let bytes = text.to_string().into_bytes();
    let (events, progress) = update(&state, &caller(&people().writer), bytes, BTreeSet::new(), NOW).unwrap();
    let state = events.into_iter().fold(state, step);
    if progress.missing == 0 {
        return state;
    }
    let (events, _) =
        acknowledge(&state, &caller(&people().reader), text.to_string().as_bytes(), NOW).unwrap();
    events.into_iter().fold(state, step)
}

fn decided(state: &State, at: i64) -> Option<Event> {
    let decide = |keys: Option<&NewKeys>| roll_back(state, later(at), keys);
    match decide(None) {
        Ok(event) => event,
        Err(Undecided::Needs(need)) => match decide(Some(&need.make(NOW).unwrap())) {
            Ok(event) => event,
            Err(_) => panic!("what was made is what is needed"),
        },
        Err(Undecided::Refused(refusal)) => panic!("{refusal}"),
    }
}

fn read(state: &State, name: &str) -> Value {
    let values =
        crate::world::read_secrets(state, &caller(&people().reader), &[name.to_owned()], NOW).unwrap();
    let values = serde_json::to_value(values).unwrap();
    // Whatever came with them.
    let value = values.get(name).cloned().unwrap_or_else(|| values[1][name].clone());
    assert!(!value.is_null(), "{values}");
    value
}

#[test]
fn what_was_in_force_comes_back_as_a_new_epoch() {
    let state = running_with(&cautious());
    let (state, _) = activated(state, "tally", TALLY);
    let (state, _) = activated(state, "frontend", FRONTEND);
    let (salt, cert) = (read(&state, "salt"), read(&state, "cert"));
    let mut next = cautious();
    next["Config"]["RotateRootSecret"] = json!(true);
    next["Marbles"]["asker"]["MaxActivations"] = json!(7);
    let state = updated(state, &next);
    assert_ne!(read(&state, "salt"), salt);
    let written = upload("question", "AAAA");
    let event = core::write_secrets(&state, &caller(&people().writer), written, NOW).unwrap();
    let state = step(state, event);
    // One of two is back: that is not enough.
    let (state, _) = activated(state, "tally", TALLY);
    assert!(!roll_back_due(&state, later(600)) && decided(&state, 600).is_none(), "there is time");
    assert!(roll_back_due(&state, later(601)));

    // A snapshot and the log give the way back alike.
    let again = State::from_snapshot(&state.to_snapshot().unwrap(), identity().clone()).unwrap();
    for state in [state, again] {
        let event = decided(&state, 601).unwrap();
        let Event::RolledBack { missing, .. } = &event else { panic!() };
        assert_eq!(missing.iter().collect::<Vec<_>>(), ["frontend"]);
        let record = event.to_record();
        let state = step(state, Event::from_record(0, &record).unwrap());
        let mesh = state.mesh().unwrap();
        assert_eq!((mesh.epoch(), mesh.manifest_bytes()), (3, cautious().to_string().as_bytes()));
        assert_eq!(read(&state, "salt"), salt, "the old value is in force again");
        assert_ne!(read(&state, "cert")["Cert"], cert["Cert"], "its CA is another");
        let line = serde_json::to_value(mesh.history().last().unwrap()).unwrap();
        assert!(line["update"].as_str().unwrap().contains("rolled back"), "{line}");
        assert_eq!((&line["missingMarbles"], &line["epoch"]), (&json!(["frontend"]), &json!(3)));
        // What a user uploaded meanwhile is not lost, and secrets of instances are those of before.
        let asker = crate::world::activate(&state, &peer(&state, "asker", crate::world::ASKER), 3, NOW);
        assert_eq!(code(asker), "accepted");
        assert!(decided(&state, 100_000).is_none(), "once");
    }
}

#[test]
fn an_update_that_works_is_not_rolled_back() {
    let mut plain = cautious();
    plain["Config"].as_object_mut().unwrap().remove("RollBackAfter");
    let state = running_with(&plain);
    let (state, _) = activated(state, "tally", TALLY);
    assert!(decided(&updated(state.clone(), &plain), 100_000).is_none(), "nothing asks for it");
    let state = updated(state, &cautious());
    assert!(decided(&state, 601).is_some());
    let (back, _) = activated(state.clone(), "tally", TALLY);
    assert!(decided(&back, 100_000).is_none(), "all that ran runs again");
    // Nothing ran, or it is no Marble any more: nothing is awaited.
    assert!(decided(&updated(running_with(&plain), &cautious()), 100_000).is_none());
    // Another update is the newer word.
    let twice = updated(state, &plain);
    assert!(decided(&twice, 100_000).is_none());
}

#[test]
fn s45_versions_that_were_raised_are_never_rolled_back() {
    let signed = || {
        let mut text = cautious();
        text["Packages"]["native"] =
            json!({"SignerID": "5a".repeat(32), "ProductID": 1, "SecurityVersion": 3});
        text["Platforms"]["Sgx"] = json!({});
        text["Marbles"]["native"]["Package"] = json!("native");
        text["Roles"]["raise"] = json!({
            "ResourceType": "Packages", "ResourceNames": ["native"], "Actions": ["UpdateSecurityVersion"]
        });
        text["Users"]["writer"]["Roles"].as_array_mut().unwrap().push(json!("raise"));
        text
    };
    let (state, _) = activated(running_with(&signed()), "tally", TALLY);
    let state = updated(state, &signed());
    assert!(roll_back_due(&state, later(601)));
    let raise = json!({"Packages": {"native": {"SecurityVersion": 5}}});
    let state = updated(state, &raise);
    assert!(!roll_back_due(&state, later(100_000)), "the way back would let the version fall");
    assert_eq!(state.mesh().unwrap().manifest().packages()["native"].security_version(), Some(5));
}

#[test]
fn recovery_keys_do_not_change_where_it_could_not_be_taken_back() {
    let state = running_with(&updatable());
    let mut next = cautious();
    next["RecoveryKeys"] = json!({"holder": include_str!("../../../manifest/tests/data/recovery.pem")});
    let bytes = next.to_string().into_bytes();
    let refused: Result<_, Refusal> = update(&state, &caller(&people().writer), bytes, BTreeSet::new(), NOW);
    assert_eq!(code(refused), "ROLL_BACK_IMPOSSIBLE");
}

/// The window that certificates tell of.
#[test]
fn certificates_tell_of_the_epoch_before_while_the_window_is_open() {
    let mut text = cautious();
    text["Config"]["RolloutWindow"] = json!("2h");
    let (state, first) = activated(running_with(&text), "tally", TALLY);
    assert_eq!(first.rollout, None, "there is no epoch before the first");
    let before = state.mesh().unwrap().manifest_digest();
    let mut next = text.clone();
    next["Marbles"]["asker"]["MaxActivations"] = json!(7);
    let state = updated(state, &next);
    let window = |epoch, manifest, from| Some(Rollout { epoch, manifest, until: NOW.0 + from + 7200 });
    assert_eq!(activated(state.clone(), "tally", TALLY).1.rollout, window(1, before, 0));
    let kept = State::from_snapshot(&state.to_snapshot().unwrap(), identity().clone()).unwrap();
    assert_eq!(activated(kept, "tally", TALLY).1.rollout, window(1, before, 0));
    let late = crate::world::activate(&state, &peer(&state, "tally", TALLY), 2, later(7201)).unwrap();
    let late = MarbleIdentity::of_certificate(&late.certified.chain[0]).unwrap();
    assert_eq!(late.rollout, None, "it is over");

    // After a roll-back those may speak who never left what is in force again; the failed epoch may not.
    let back = decided(&state, 601).unwrap();
    let back = step(state.clone(), back);
    assert_eq!(activated(back, "tally", TALLY).1.rollout, window(1, before, 601));
    // Without the field, epochs do not mix.
    let none = updated(state, &cautious());
    assert_eq!(activated(none, "tally", TALLY).1.rollout, None);
}

//! Sending nodes away: what they could have read is named, exactly that is made anew, and they do not come back.

use std::{collections::BTreeMap, sync::Arc};

use attested_tls::{channel::AttestedPeer, key::TeeKey};
use coordinator::core::{
    Event, Eviction, Exposed, Fate, Found, Refusal, State, Target, exposed, instances, prepare_eviction,
    prepare_rotation, recovered, renew,
};
use evidence::Platform;
use serde_json::{Value, json};
use testkit::tee::{EmulatedTee, NOW};

use crate::{
    rotation::{ask, files, other_machine, ready, rotatable, running_with},
    world::{
        ASKER, TALLY, acknowledge, activated, attest, caller, code, identity, keep_on, later, peer, people,
        step, update,
    },
};

fn elsewhere() -> Arc<EmulatedTee> {
    EmulatedTee::launch_on(other_machine(), Platform::Snp, b"bailey-keep", b"the Keep's configuration")
}

fn joins(state: State, tee: &EmulatedTee, marble: &str, workload: [u8; 32]) -> (State, AttestedPeer) {
    let peer = attest(&state, tee, &TeeKey::generate().unwrap(), marble, workload).unwrap();
    (activated(state, &peer).0, peer)
}

fn instance(peer: &AttestedPeer) -> Target {
    Target::Instance(peer.key.0)
}

fn machine_of(state: &State, peer: &AttestedPeer) -> String {
    let lines = instances(state, &caller(&people().reader), NOW).unwrap();
    let line = lines.into_iter().find(|line| line.instance == hex::encode(peer.key.0));
    line.unwrap().machine.unwrap()
}

fn prepared(state: &State, target: &Target, withhold: bool) -> Result<Eviction, Refusal> {
    prepare_eviction(state, &caller(&people().reader), target, withhold, NOW)
}

fn evicted(state: State, target: &Target, withhold: bool) -> (State, Found) {
    let reader = caller(&people().reader);
    let eviction = prepared(&state, target, withhold).unwrap();
    let (event, found) = eviction.admit(&state, &reader, NOW).unwrap();
    (step(state, event), found)
}

fn fates(found: &Found) -> BTreeMap<&str, Fate> {
    found.secrets.iter().map(|Exposed { name, fate, .. }| (name.as_str(), fate.clone())).collect()
}

fn refusals(state: &State, peer: &AttestedPeer) -> (&'static str, &'static str) {
    let epoch = state.mesh().unwrap().epoch();
    (code(crate::world::activate(state, peer, epoch, NOW)), code(renew(state, peer, epoch, NOW)))
}

fn updated(state: State, text: &Value) -> State {
    let bytes = text.to_string().into_bytes();
    let (writer, reader) = (caller(&people().writer), caller(&people().reader));
    let (events, _) = update(&state, &writer, bytes.clone(), Default::default(), NOW).unwrap();
    let state = events.into_iter().fold(state, step);
    let (events, _) = acknowledge(&state, &reader, &bytes, NOW).unwrap();
    events.into_iter().fold(state, step)
}

/// [`rotatable`], which writer and reader may update.
fn updatable() -> Value {
    let mut text = rotatable();
    text["Roles"]["admin"] = json!({ "ResourceType": "Manifest", "Actions": ["UpdateManifest"] });
    for user in ["writer", "reader"] {
        text["Users"][user]["Roles"].as_array_mut().unwrap().push(json!("admin"));
    }
    text
}

#[test]
fn an_eviction_names_what_was_read_and_rotates_exactly_that() {
    let (state, tally) = joins(ready(), &keep_on(Platform::Snp), "tally", TALLY);
    let (state, _) = joins(state, &elsewhere(), "asker", ASKER);
    let before = files(&state);
    let named = exposed(&state, &caller(&people().reader), &instance(&tally), NOW).unwrap();
    let (state, found) = evicted(state, &instance(&tally), false);
    assert_eq!(named.secrets, found.secrets, "as it was named before");
    let expected = [("salt", Fate::Rotated { to: 2 }), ("own", Fate::Own), ("other", Fate::Own)];
    assert_eq!(fates(&found), expected.into(), "of the certificate it had what is public");
    assert_eq!((found.instances.len(), found.certificates), (1, 1));
    let after = files(&state);
    assert_ne!(after["/salt"], before["/salt"]);
    assert_eq!(after["/before"], before["/salt"], "whoever has data under the old value can still read it");
    for kept in ["/question", "/key.pem"] {
        assert_eq!(after[kept], before[kept], "{kept}");
    }
}

#[test]
fn what_users_must_replace_is_named_and_withheld_if_wanted() {
    for withhold in [false, true] {
        let (state, asker) = joins(ready(), &keep_on(Platform::Snp), "asker", ASKER);
        let (state, found) = evicted(state, &instance(&asker), withhold);
        let fates = fates(&found);
        assert_eq!(fates["question"], Fate::MustBeReplaced);
        assert_eq!((&fates["cert"], &fates["salt"]), (&Fate::Rotated { to: 2 }, &Fate::Rotated { to: 2 }));
        assert_eq!([&fates["mine"], &fates["disk"], &fates["own"]], [&Fate::Own; 3]);
        assert_eq!(fates.len(), 6);
        // Its own certificate, the one that was made for it, and the shared one whose key it had.
        assert_eq!(found.certificates, 3);
        let again = peer(&state, "asker", ASKER);
        let expected = if withhold { "SECRET_WITHHELD" } else { "accepted" };
        assert_eq!(code(crate::world::activate(&state, &again, 1, NOW)), expected);
        let names = ["question".to_owned()];
        let read =
            |state: &State| code(crate::world::read_secrets(state, &caller(&people().writer), &names, NOW));
        assert_eq!(read(&state), expected);
        let state = ask(state, json!({ "Key": "bm93Pw==" }), NOW).unwrap();
        assert_eq!(
            (code(crate::world::activate(&state, &again, 1, NOW)), read(&state)),
            ("accepted", "accepted")
        );
    }
}

#[test]
fn what_was_rotated_since_is_not_rotated_again() {
    let (state, tally) = joins(ready(), &keep_on(Platform::Snp), "tally", TALLY);
    let reader = caller(&people().reader);
    let rotation = prepare_rotation(&state, &reader, &["salt".to_owned()].into(), NOW).unwrap();
    let state = step(state.clone(), rotation.admit(&state, &reader, NOW).unwrap().0);
    let before = files(&state);
    let (state, found) = evicted(state, &instance(&tally), false);
    assert_eq!(fates(&found)["salt"], Fate::Superseded { by: 2 });
    assert_eq!(files(&state)["/salt"], before["/salt"]);
}

/// In this epoch, in the next ones, after a restart and after a recovery.
#[test]
fn s39_an_evicted_instance_never_comes_back_by_itself() {
    let (state, tally) = joins(running_with(&updatable()), &keep_on(Platform::Snp), "tally", TALLY);
    let (state, other) = joins(state, &keep_on(Platform::Snp), "tally", TALLY);
    let waiting = crate::world::activate(&state, &tally, 1, NOW).unwrap();
    let (state, _) = evicted(state, &instance(&tally), false);
    assert_eq!(refusals(&state, &tally), ("EVICTED", "EVICTED"));
    assert_eq!(code(waiting.admit(&state, NOW)), "EVICTED", "what was under way is not let through");
    assert_eq!(refusals(&state, &other), ("accepted", "accepted"), "another on the same machine stays");
    assert_eq!(code(prepared(&state, &instance(&tally), false).map(|_| ())), "EVICTED");
    let restarted = State::from_snapshot(&state.to_snapshot().unwrap(), identity().clone()).unwrap();
    assert_eq!(refusals(&restarted, &tally).0, "EVICTED");
    let recovered = step(state.clone(), recovered(&state, vec!["holder".into()], true, NOW).unwrap());
    assert_eq!(refusals(&recovered, &tally).0, "EVICTED");
    let mut next = updatable();
    next["Marbles"]["tally"]["MaxActivations"] = json!(9);
    let state = updated(state, &next);
    assert_eq!(refusals(&state, &tally).0, "EVICTED");

    // An update that names it lets it back, once: evicted again, it stays away though the manifest still names it.
    next["Config"] = json!({ "Reinstated": [hex::encode(tally.key.0)] });
    let state = updated(state, &next);
    assert_eq!(refusals(&state, &tally).0, "accepted");
    let activation = crate::world::activate(&state, &tally, 3, NOW).unwrap();
    let state = step(state.clone(), activation.admit(&state, NOW).unwrap());
    let (state, _) = evicted(state, &instance(&tally), false);
    next["Marbles"]["tally"]["MaxActivations"] = json!(10);
    let state = updated(state, &next);
    assert_eq!(refusals(&state, &tally).0, "EVICTED");
}

#[test]
fn an_evicted_machine_takes_all_that_ran_there_with_it() {
    let (state, here) = joins(ready(), &keep_on(Platform::Snp), "tally", TALLY);
    let (state, also_here) = joins(state, &keep_on(Platform::Snp), "asker", ASKER);
    let (state, there) = joins(state, &elsewhere(), "tally", TALLY);
    let machine = Target::Machine(machine_of(&state, &here));
    assert_ne!(machine, Target::Machine(machine_of(&state, &there)));
    let (state, found) = evicted(state, &machine, false);
    assert_eq!((found.instances.len(), found.marbles.len()), (2, 2));
    assert_eq!(fates(&found)["question"], Fate::MustBeReplaced);
    for gone in [&here, &also_here, &peer(&state, "tally", TALLY)] {
        assert_eq!(refusals(&state, gone).0, "EVICTED", "also a new key on that machine");
    }
    assert_eq!(refusals(&state, &there), ("accepted", "accepted"));
    assert_eq!(code(prepared(&state, &machine, false).map(|_| ())), "EVICTED");
    let unknown = Target::Machine("snp:00".into());
    assert_eq!(code(prepared(&state, &unknown, false).map(|_| ())), "MACHINE_UNKNOWN");
    let nobody = Target::Instance([9; 32]);
    assert_eq!(code(prepared(&state, &nobody, false).map(|_| ())), "INSTANCE_UNKNOWN");
}

/// A node that was lost some days ago has read what it has read.
#[test]
fn what_a_machine_read_is_known_after_its_instances_are_gone() {
    let (state, tally) = joins(running_with(&updatable()), &keep_on(Platform::Snp), "tally", TALLY);
    let machine = Target::Machine(machine_of(&state, &tally));
    let mut next = updatable();
    next["Marbles"]["tally"]["MaxActivations"] = json!(9);
    let state = updated(state, &next);
    assert_eq!(code(prepared(&state, &instance(&tally), false).map(|_| ())), "INSTANCE_UNKNOWN");
    let again = State::from_snapshot(&state.to_snapshot().unwrap(), identity().clone()).unwrap();
    let (_, found) = evicted(again, &machine, false);
    assert_eq!((found.instances.len(), &fates(&found)["salt"]), (0, &Fate::Rotated { to: 2 }));
}

#[test]
fn eviction_needs_its_grant() {
    let (state, tally) = joins(ready(), &keep_on(Platform::Snp), "tally", TALLY);
    let machine = Target::Machine(machine_of(&state, &tally));
    let of =
        |state: &State, who, target: &Target| code(exposed(state, &caller(who), target, NOW).map(|_| ()));
    let people = people();
    assert_eq!(of(&state, &people.writer, &instance(&tally)), "NOT_GRANTED");
    assert_eq!(of(&state, &people.stranger, &instance(&tally)), "USER_UNKNOWN");
    assert_eq!(code(instances(&state, &caller(&people.writer), NOW).map(|_| ())), "NOT_GRANTED");
    // A machine is gone for all Marbles, so all of them must be granted.
    let mut text = rotatable();
    text["Roles"]["operate"]["ResourceNames"] = json!(["tally"]);
    let (state, tally) = joins(running_with(&text), &keep_on(Platform::Snp), "tally", TALLY);
    assert_eq!(of(&state, &people.reader, &instance(&tally)), "accepted");
    assert_eq!(of(&state, &people.reader, &machine), "NOT_GRANTED");
    let (state, frontend) = joins(state, &keep_on(Platform::Snp), "frontend", crate::world::FRONTEND);
    assert_eq!(of(&state, &people.reader, &instance(&frontend)), "NOT_GRANTED");
    let lines = instances(&state, &caller(&people.reader), NOW).unwrap();
    assert_eq!(lines.iter().map(|line| line.marble.as_str()).collect::<Vec<_>>(), ["tally"]);
}

/// Between naming and deciding, the node read something more.
#[test]
fn an_eviction_is_decided_on_what_was_read_by_then() {
    let (state, tally) = joins(ready(), &keep_on(Platform::Snp), "tally", TALLY);
    let machine = Target::Machine(machine_of(&state, &tally));
    let eviction = prepared(&state, &machine, false).unwrap();
    let (state, _) = joins(state, &keep_on(Platform::Snp), "asker", ASKER);
    let reader = caller(&people().reader);
    assert_eq!(code(eviction.admit(&state, &reader, NOW).map(|_| ())), "OVERTAKEN");
    let (_, found) = evicted(state, &machine, false);
    assert_eq!(fates(&found)["cert"], Fate::Rotated { to: 2 });
}

#[test]
fn s46_a_value_of_a_platform_follows_the_machine_and_not_the_key() {
    let disk = |state: &State, tee: &EmulatedTee| {
        let peer = attest(state, tee, &TeeKey::generate().unwrap(), "asker", ASKER).unwrap();
        let mut files = activated(state.clone(), &peer).1.parameters.files;
        (files.remove("/disk").unwrap(), files.remove("/disk-before").unwrap(), files.remove("/own").unwrap())
    };
    let state = ready();
    let (here, there) = (keep_on(Platform::Snp), elsewhere());
    let (one, _, own) = disk(&state, &here);
    let (again, _, other_own) = disk(&state, &here);
    assert_eq!(one, again, "another start on the same machine");
    assert_ne!(own, other_own, "which is another instance");
    let (moved, ..) = disk(&state, &there);
    assert_ne!(one, moved, "another machine");

    // The other instances on the machine get another value when one that had it is evicted, and can read the old one.
    let (state, lost) = joins(state, &here, "asker", ASKER);
    let (state, _) = evicted(state, &instance(&lost), false);
    let (new, before, _) = disk(&state, &here);
    assert_ne!(new, one);
    assert_eq!(before, one);
    assert_eq!(disk(&state, &there).0, moved, "elsewhere nothing was lost");
    let again = State::from_snapshot(&state.to_snapshot().unwrap(), identity().clone()).unwrap();
    assert_eq!(disk(&again, &here).0, new);
}

/// S-46: keys of one instance are not to be had by whoever comes with the same key in another mesh, nor by the same key
/// after it was evicted and reinstated.
#[test]
fn s46_a_reinstated_instance_gets_other_secrets() {
    let key = TeeKey::generate().unwrap();
    let state = running_with(&updatable());
    let peer = attest(&state, &keep_on(Platform::Snp), &key, "tally", TALLY).unwrap();
    let (state, before) = activated(state, &peer);
    let (state, _) = evicted(state, &instance(&peer), false);
    let mut next = updatable();
    next["Config"] = json!({ "Reinstated": [hex::encode(peer.key.0)] });
    let state = updated(state, &next);
    let after = crate::world::activate(&state, &peer, 2, NOW).unwrap();
    assert_ne!(after.parameters.env["OWN"], before.parameters.env["OWN"]);
}

#[test]
fn revoked_certificates_are_listed_until_they_end() {
    let state = ready();
    let tally = peer(&state, "tally", TALLY);
    let (state, activation) = activated(state, &tally);
    let (event, renewed) = renew(&state, &tally, 1, later(60)).unwrap();
    let state = step(state, event);
    let (state, _) = evicted(state, &instance(&tally), false);
    let serials = |now| -> Vec<Vec<u8>> {
        let listed = state.mesh().unwrap().revocations().certificates(now);
        listed.map(|(serial, ..)| serial.to_vec()).collect()
    };
    let listed = serials(NOW.0);
    for certified in [&activation.certified, &renewed] {
        let leaf = x509_parser::parse_x509_certificate(&certified.chain[0]).unwrap().1;
        assert!(listed.contains(&leaf.raw_serial().to_vec()));
    }
    assert_eq!(listed.len(), 2);
    assert!(serials(renewed.not_after.0).is_empty(), "by then they have ended anyway");
}

/// The event has all that was decided, and nothing of a value in what people read of it.
#[test]
fn s44_the_update_log_names_secrets_and_has_none() {
    let (state, tally) = joins(ready(), &keep_on(Platform::Snp), "tally", TALLY);
    let before = files(&state)["/salt"].clone();
    let eviction = prepared(&state, &instance(&tally), false).unwrap();
    let (event, _) = eviction.admit(&state, &caller(&people().reader), NOW).unwrap();
    assert!(matches!(&event, Event::Evicted { generated, .. } if generated.len() == 1));
    let state = step(state, event);
    let log: Vec<_> =
        state.mesh().unwrap().history().map(|line| serde_json::to_value(line).unwrap()).collect();
    let last = log.last().unwrap();
    assert_eq!(last["update"], "Instances evicted");
    assert_eq!(last["rotated"], json!(["salt"]));
    let text = json!(log).to_string();
    assert!(!text.contains(&before) && !text.contains(&files(&state)["/salt"]));
}

//! Each refusal of the core, and what comes just before it.

use attested_tls::{channel::AttestedPeer, key::TeeKey};
use coordinator::{
    authority::MARBLE_LIFETIME,
    core::{Caller, Refusal, expectations, renew, write_secrets},
};
use evidence::Platform;
use serde_json::json;
use testkit::tee::{EmulatedTee, NOW};

use crate::world::{
    ASKER, FRONTEND, TALLY, activate, activated, attest, caller, code, founded, keep_on, later, manifest,
    peer, people, read_secrets, running, set, set_manifest, step, upload,
};

fn set_as(person: Option<&TeeKey>) -> &'static str {
    let caller = person.map_or_else(Caller::default, caller);
    let bytes = manifest().to_string().into_bytes();
    code(set_manifest(&founded(), people().owner.digest(), &caller, bytes, NOW))
}

#[test]
fn only_the_owner_sets_the_first_manifest() {
    assert_eq!(set_as(Some(&people().owner)), "accepted");
    assert_eq!(set_as(Some(&people().stranger)), "OWNER_REQUIRED");
    assert_eq!(set_as(Some(&people().writer)), "OWNER_REQUIRED");
    assert_eq!(set_as(None), "CLIENT_CERTIFICATE_REQUIRED");
}

#[test]
fn the_owner_must_show_a_certificate_that_parses() {
    let caller = Caller::by_certificate(b"nonsense".to_vec());
    let bytes = manifest().to_string().into_bytes();
    let refused = set_manifest(&founded(), people().owner.digest(), &caller, bytes, NOW);
    assert_eq!(code(refused), "USER_UNKNOWN");
}

#[test]
fn the_first_manifest_is_set_once() {
    assert_eq!(code(set(&running(), &manifest())), "MANIFEST_ALREADY_SET");
    let refused =
        set_manifest(&running(), people().owner.digest(), &caller(&people().stranger), Vec::new(), NOW);
    assert_eq!(code(refused), "OWNER_REQUIRED", "who may not set it learns nothing about the one in force");
}

#[test]
fn faults_of_the_manifest_are_all_told_with_their_paths() {
    let mut faulty = manifest();
    faulty["Marbles"]["tally"]["Peers"] = json!(["nobody"]);
    faulty["Marbles"]["frontend"]["Pakage"] = json!("keep");
    let Err(refusal) = set(&founded(), &faulty) else { panic!("accepted") };
    assert_eq!(refusal.code(), "MANIFEST_REFUSED");
    let details = refusal.details();
    let mut paths: Vec<_> = details.as_array().unwrap().iter().map(|fault| &fault["path"]).collect();
    paths.sort_by_key(ToString::to_string);
    assert_eq!(paths, [&json!("Marbles.frontend.Pakage"), &json!("Marbles.tally.Peers[0]")]);
}

#[test]
fn nothing_happens_without_a_manifest() {
    let (state, with) = (founded(), running());
    let caller = caller(&people().writer);
    assert_eq!(code(write_secrets(&state, &caller, upload("question", "YQ=="), NOW)), "MANIFEST_NOT_SET");
    assert_eq!(code(read_secrets(&state, &caller, &["question".into()], NOW)), "MANIFEST_NOT_SET");
    let peer = peer(&with, "tally", TALLY);
    assert_eq!(code(expectations(&state, Platform::Snp, &peer.claims, NOW)), "MANIFEST_NOT_SET");
    assert_eq!(code(activate(&state, &peer, 0, NOW)), "MANIFEST_NOT_SET");
    assert_eq!(code(renew(&state, &peer, 0, NOW)), "MANIFEST_NOT_SET");
}

fn claims(peer: &AttestedPeer) -> &[u8] {
    &peer.claims
}

#[test]
fn claims_must_parse_and_name_a_marble() {
    let state = running();
    assert_eq!(code(expectations(&state, Platform::Snp, b"nonsense", NOW)), "CLAIMS_MALFORMED");
    let mut peer = peer(&state, "tally", TALLY);
    let refused = attest(&state, &keep_on(Platform::Snp), &people().stranger, "nobody", TALLY);
    assert_eq!(code(refused), "MARBLE_UNKNOWN");
    // Case matters: `Tally` is not `tally`.
    let refused = attest(&state, &keep_on(Platform::Snp), &people().stranger, "Tally", TALLY);
    assert_eq!(code(refused), "MARBLE_UNKNOWN");
    peer.claims.push(0);
    assert_eq!(code(expectations(&state, Platform::Snp, claims(&peer), NOW)), "CLAIMS_MALFORMED");
    assert_eq!(code(activate(&state, &peer, 1, NOW)), "CLAIMS_MALFORMED");
}

#[test]
fn platform_must_be_one_that_the_manifest_lists() {
    let state = running();
    let sgx = EmulatedTee::launch(Platform::Sgx, b"bailey-keep", b"");
    let refused = attest(&state, &sgx, &people().stranger, "tally", TALLY);
    let Err(Refusal::Platform { accepted, .. }) = refused else { panic!("{:?}", code(refused)) };
    assert_eq!(accepted.len(), 2);
    let tdx = attest(&state, &keep_on(Platform::Tdx), &people().stranger, "tally", TALLY).unwrap();
    assert_eq!(code(activate(&state, &tdx, 1, NOW)), "accepted");
}

#[test]
fn expectations_are_the_manifests() {
    let state = running();
    let peer = peer(&state, "tally", TALLY);
    let expected = expectations(&state, Platform::Snp, &peer.claims, NOW).unwrap();
    assert_eq!(expected.measurements.len(), 1);
    assert_eq!(expected.measurements[0].measurement.as_ref(), Some(keep_on(Platform::Snp).measurement()));
    assert_eq!(expected.policy.emulated_roots.len(), 1, "of this platform only");
    // S-40: where the manifest names no root, none is accepted.
    let mut strict = manifest();
    strict["Platforms"]["Snp"] = json!({});
    let state = founded();
    let event = set(&state, &strict).unwrap();
    let expected = expectations(&step(state, event), Platform::Snp, &peer.claims, NOW).unwrap();
    assert!(expected.policy.emulated_roots.is_empty());
}

#[test]
fn workload_must_be_the_marbles() {
    let state = running();
    let refused = activate(&state, &peer(&state, "tally", FRONTEND), 1, NOW);
    let Err(refusal @ Refusal::Workload { .. }) = refused else { panic!("{:?}", code(refused)) };
    assert_eq!(refusal.details()["expected"], hex::encode(TALLY));
    assert_eq!(refusal.details()["seen"], hex::encode(FRONTEND));
}

#[test]
fn marble_without_workload_runs_in_no_keep() {
    let state = running();
    assert_eq!(code(activate(&state, &peer(&state, "native", TALLY), 1, NOW)), "PARAMETERS_INCOMPLETE");
}

#[test]
fn appraisal_of_another_epoch_is_stale() {
    let state = running();
    let peer = peer(&state, "tally", TALLY);
    for epoch in [0, 2] {
        assert_eq!(code(activate(&state, &peer, epoch, NOW)), "APPRAISAL_STALE");
        assert_eq!(code(renew(&state, &peer, epoch, NOW)), "APPRAISAL_STALE");
    }
}

#[test]
fn activations_are_counted_and_end() {
    let mut state = running();
    let held = activate(&state, &peer(&state, "frontend", FRONTEND), 1, NOW).unwrap();
    for _ in 0..2 {
        let next = peer(&state, "frontend", FRONTEND);
        state = activated(state, &next).0;
    }
    assert_eq!(state.mesh().unwrap().activations("frontend"), 2);
    let third = activate(&state, &peer(&state, "frontend", FRONTEND), 1, NOW).unwrap();
    assert_eq!(code(third.admit(&state, NOW)), "ACTIVATIONS_EXHAUSTED");
    // One that was prepared while there was room.
    assert_eq!(code(held.admit(&state, NOW)), "ACTIVATIONS_EXHAUSTED");
    assert_eq!(state.mesh().unwrap().activations("tally"), 0);
}

#[test]
fn renewal_needs_an_activation_of_this_key_as_this_marble() {
    let state = running();
    let admitted = peer(&state, "tally", TALLY);
    assert_eq!(code(renew(&state, &admitted, 1, NOW)), "NOT_ACTIVATED");
    let (state, _) = activated(state, &admitted);
    assert_eq!(code(renew(&state, &admitted, 1, NOW)), "accepted");
    assert_eq!(code(renew(&state, &peer(&state, "tally", TALLY), 1, NOW)), "NOT_ACTIVATED", "another key");
    let key = TeeKey::generate().unwrap();
    let tally = attest(&state, &keep_on(Platform::Snp), &key, "tally", TALLY).unwrap();
    let frontend = attest(&state, &keep_on(Platform::Snp), &key, "frontend", FRONTEND).unwrap();
    let (state, _) = activated(state, &tally);
    assert_eq!(code(renew(&state, &frontend, 1, NOW)), "NOT_ACTIVATED", "another Marble");
}

/// Whoever let the certificate lapse must activate again; whoever renewed in time need not. Neither counts.
#[test]
fn renewal_ends_with_the_certificate() {
    let state = running();
    let peer = peer(&state, "tally", TALLY);
    let (state, _) = activated(state, &peer);
    let life = MARBLE_LIFETIME.whole_seconds();
    assert_eq!(code(renew(&state, &peer, 1, later(life))), "NOT_ACTIVATED");
    let (event, certified) = renew(&state, &peer, 1, later(life - 1)).unwrap();
    assert_eq!(certified.not_after, later(2 * life - 1));
    let state = step(state, event);
    assert_eq!(code(renew(&state, &peer, 1, later(2 * life - 2))), "accepted");
    assert_eq!(state.mesh().unwrap().activations("tally"), 1);
}

#[test]
fn parameters_wait_for_secrets_of_users() {
    let state = running();
    let asker = peer(&state, "asker", ASKER);
    assert_eq!(code(activate(&state, &asker, 1, NOW)), "PARAMETERS_INCOMPLETE");
    let event =
        write_secrets(&state, &caller(&people().writer), upload("question", "d2h5Pw=="), NOW).unwrap();
    let (_, activation) = activated(step(state, event), &asker);
    assert_eq!(activation.parameters.files["/question"], b"why?");
}

#[test]
fn activation_says_what_the_manifest_says() {
    let state = running();
    let (_, tally) = activated(state.clone(), &peer(&state, "tally", TALLY));
    let tally = tally.workload.unwrap();
    assert!(!tally.access.public && !tally.log_to_host);
    assert_eq!(tally.access.peers, ["frontend"]);
    assert_eq!(tally.digest, TALLY);
    assert_eq!(tally.destinations, ["tally"]);
    let (_, frontend) = activated(state.clone(), &peer(&state, "frontend", FRONTEND));
    let frontend = frontend.workload.unwrap();
    assert!(frontend.access.public && frontend.access.peers.is_empty());
}

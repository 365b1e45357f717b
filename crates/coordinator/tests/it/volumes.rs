//! Keys and heads of volumes: who is given them, who may move them, and what they outlive.

use attested_tls::channel::AttestedPeer;
use coordinator::core::{
    OpenedVolume, Refusal, State, VolumeHead, advance_volume, new_volume_key, open_volume,
};
use evidence::Platform;
use mesh_api::{ActivateRequest, AdvanceVolumeRequest, OpenVolumeRequest, VolumeHead as VolumeHeadWire};
use serde_json::{Value, json};
use testkit::tee::NOW;

use crate::{
    running::Running,
    service::join,
    world::{
        FRONTEND, TALLY, activated, code, founded, identity, keep_on, manifest, peer, people, set, step,
    },
};

const CONFIG: &str = r#"
    [[volumes]]
    name = "data"
    path = "/data"
    size = "1MiB"
    [[volumes]]
    name = "seed"
    path = "/seed"
    size = "1MiB"
    read-only = true
"#;

fn with_volumes() -> Value {
    let mut text = manifest();
    text["Marbles"]["tally"]["Workload"]["Config"] = json!(CONFIG);
    text
}

fn running() -> State {
    let state = founded();
    let event = set(&state, &with_volumes()).unwrap();
    step(state, event)
}

fn open(state: State, peer: &AttestedPeer, name: &str) -> (State, OpenedVolume) {
    let fresh = new_volume_key().unwrap();
    let (event, opened) = open_volume(&state, peer, 1, (name, false), &fresh, NOW).unwrap();
    (event.into_iter().fold(state, step), opened)
}

fn opening(state: &State, peer: &AttestedPeer, name: &str, read_only: bool) -> &'static str {
    let fresh = new_volume_key().unwrap();
    code(open_volume(state, peer, 1, (name, read_only), &fresh, NOW))
}

fn head(sequence: u64) -> VolumeHead {
    VolumeHead { sequence, hash: [u8::try_from(sequence).unwrap(); 32] }
}

fn advance(state: State, peer: &AttestedPeer, from: Option<u64>, to: u64) -> Result<State, Refusal> {
    let event = advance_volume(&state, peer, 1, "data", (from.map(head), head(to)), NOW)?;
    Ok(event.into_iter().fold(state, step))
}

#[test]
fn an_instance_gets_the_key_and_another_one_the_same() {
    let first = peer(&running(), "tally", TALLY);
    let (state, _) = activated(running(), &first);
    let (state, opened) = open(state, &first, "data");
    assert!(opened.head.is_none());
    let state = advance(state, &first, None, 1).unwrap_or_else(|refusal| panic!("{refusal}"));
    let second = peer(&state, "tally", TALLY);
    let (state, _) = activated(state, &second);
    let (_, again) = open(state.clone(), &second, "data");
    assert_eq!(again.key, opened.key);
    assert_eq!(again.head, Some(head(1)));
    // And so it is after the state was written and read.
    let state = State::from_snapshot(&state.to_snapshot().unwrap(), identity().clone()).unwrap();
    assert_eq!(open(state, &second, "data").1.key, opened.key);
}

#[test]
fn s46_each_volume_of_each_marble_has_a_key_of_its_own() {
    let mut text = with_volumes();
    text["Marbles"]["frontend"]["Workload"]["Config"] = json!(CONFIG);
    let state = founded();
    let event = set(&state, &text).unwrap();
    let state = step(state, event);
    let (tally, frontend) = (peer(&state, "tally", TALLY), peer(&state, "frontend", FRONTEND));
    let (state, _) = activated(state, &tally);
    let (state, _) = activated(state, &frontend);
    let (state, one) = open(state, &tally, "data");
    let (_, other) = open(state, &frontend, "data");
    assert_ne!(one.key, other.key);
}

#[test]
fn who_is_no_instance_gets_no_key() {
    let state = running();
    let keep = peer(&state, "tally", TALLY);
    assert_eq!(opening(&state, &keep, "data", false), "NOT_ACTIVATED");
    let (state, _) = activated(state, &keep);
    assert_eq!(opening(&state, &keep, "other", false), "VOLUME_UNKNOWN");
    assert_eq!(opening(&state, &keep, "seed", false), "VOLUME_READ_ONLY");
    assert_eq!(opening(&state, &keep, "seed", true), "accepted");
    let stranger = peer(&state, "frontend", FRONTEND);
    let (state, _) = activated(state, &stranger);
    assert_eq!(opening(&state, &stranger, "data", false), "VOLUME_UNKNOWN");
}

/// S-16: a head moves from commit to commit, by the instance that opened the volume last.
#[test]
fn s16_a_head_moves_one_step_at_a_time_and_never_back() {
    let first = peer(&running(), "tally", TALLY);
    let (state, _) = activated(running(), &first);
    let not_open = advance_volume(&state, &first, 1, "data", (None, head(1)), NOW);
    assert_eq!(code(not_open), "VOLUME_TAKEN");
    let (state, _) = open(state, &first, "data");
    let state = advance(state, &first, None, 1).unwrap_or_else(|refusal| panic!("{refusal}"));
    let state = advance(state, &first, Some(1), 2).unwrap_or_else(|refusal| panic!("{refusal}"));
    for (from, to) in [(None, 1), (Some(1), 2), (Some(2), 4), (Some(2), 2), (Some(3), 4)] {
        let refused = advance_volume(&state, &first, 1, "data", (from.map(head), head(to)), NOW);
        // The newest head again is an answer that was lost, and nothing is changed.
        let expected = if to == 2 { "accepted" } else { "VOLUME_MOVED" };
        assert_eq!(code(refused), expected, "{from:?} to {to}");
    }
    let second = peer(&state, "tally", TALLY);
    let (state, _) = activated(state, &second);
    let (state, _) = open(state, &second, "data");
    let late = advance_volume(&state, &first, 1, "data", (Some(head(2)), head(3)), NOW);
    assert_eq!(code(late), "VOLUME_TAKEN");
    assert!(advance(state, &second, Some(2), 3).is_ok());
}

/// Who only reads takes a volume from nobody.
#[test]
fn a_reader_takes_nothing_over() {
    let first = peer(&running(), "tally", TALLY);
    let (state, _) = activated(running(), &first);
    let (state, _) = open(state, &first, "data");
    let state = advance(state, &first, None, 1).unwrap_or_else(|refusal| panic!("{refusal}"));
    let reader = peer(&state, "tally", TALLY);
    let (state, _) = activated(state, &reader);
    let fresh = new_volume_key().unwrap();
    let (event, _) = open_volume(&state, &reader, 1, ("data", true), &fresh, NOW).unwrap();
    assert!(event.is_none());
    assert!(advance(state, &first, Some(1), 2).is_ok());
}

/// The whole way: over gRPC on attested connections, into the log, and out of it again.
#[tokio::test(flavor = "multi_thread")]
async fn a_keep_is_given_keys_and_moves_heads_over_its_attested_connection_only() {
    let running = Running::start().await;
    let set = running.set_manifest(Some(&people().owner), &with_volumes().to_string()).await;
    assert!(set.status.is_success(), "{}", set.status);
    let keep = keep_on(Platform::Snp);
    let mut tally = join(&running, keep.clone(), "tally", TALLY).await.unwrap();
    let asked = || OpenVolumeRequest { name: "data".into(), read_only: false };
    assert_eq!(tally.open_volume(asked()).await.unwrap_err().details(), b"NOT_ACTIVATED");
    let activated = tally.activate(ActivateRequest {}).await.unwrap().into_inner();
    assert_eq!(activated.config, CONFIG);
    let opened = tally.open_volume(asked()).await.unwrap().into_inner();
    assert_eq!((opened.key.len(), opened.head), (32, None));
    let to = |sequence: u64| Some(VolumeHeadWire { sequence, hash: vec![1; 32] });
    let step = |from, to| AdvanceVolumeRequest { name: "data".into(), from, to };
    tally.advance_volume(step(None, to(1))).await.unwrap();
    let refused = tally.advance_volume(step(None, to(2))).await.unwrap_err();
    assert_eq!(refused.details(), b"VOLUME_MOVED");
    let short = VolumeHeadWire { sequence: 2, hash: vec![1; 31] };
    assert_eq!(
        tally.advance_volume(step(to(1), Some(short))).await.unwrap_err().code(),
        tonic::Code::InvalidArgument
    );
    let mut other = join(&running, keep, "tally", TALLY).await.unwrap();
    other.activate(ActivateRequest {}).await.unwrap();
    let again = other.open_volume(asked()).await.unwrap().into_inner();
    assert_eq!((again.key, again.head), (opened.key, to(1)));
    let refused = tally.advance_volume(step(to(1), to(2))).await.unwrap_err();
    assert_eq!(refused.details(), b"VOLUME_TAKEN");
    other.advance_volume(step(to(1), to(2))).await.unwrap();
}

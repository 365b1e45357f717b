//! Databases as Marbles: who is admitted as one, and who may write its log.

use std::sync::Arc;

use appraisal::binding::Role;
use attested_tls::{
    channel::AttestedPeer,
    claims::{Claims, DatabaseMarbleClaims},
    key::TeeKey,
};
use coordinator::core::{
    self, State, VolumeHead, advance_volume, native_expectations, new_volume_key, open_volume, volume_head,
};
use evidence::Platform;
use mesh_api::{
    ActivateRequest, AdvanceVolumeRequest, DATABASE_VOLUME, OpenVolumeRequest, ReadVolumeHeadRequest,
    VolumeHead as VolumeHeadWire, mesh_client::MeshClient,
};
use serde_bytes::ByteArray;
use serde_json::{Value, json};
use testkit::tee::{EmulatedTee, NOW};

use crate::{
    running::Running,
    service::attest,
    world::{
        TALLY, activated, attest_as, claims_of, code, founded, keep_on, manifest, peer, people, set, step,
    },
};

const FIRST: [u8; 32] = [0x0a; 32];

fn program() -> Arc<EmulatedTee> {
    EmulatedTee::launch(Platform::Tdx, b"bailey-database", b"the database's configuration")
}

fn with_database() -> Value {
    let mut text = manifest();
    text["Packages"]["database"] = json!({ "Measurements": { "Tdx": program().measurement().to_string() } });
    text["Marbles"]["ledger"] = json!({
        "Package": "database", "Database": { "Manifest": format!("sha256:{}", hex::encode(FIRST)) },
    });
    text
}

fn running() -> State {
    let state = founded();
    let event = set(&state, &with_database()).unwrap();
    step(state, event)
}

fn claims(marble: &str, first: [u8; 32]) -> Vec<u8> {
    let claims = DatabaseMarbleClaims {
        marble: marble.into(),
        first: ByteArray::new(first),
        engine: "PostgreSQL of the test".into(),
        engine_digest: ByteArray::new([1; 32]),
        configuration: ByteArray::new([0; 32]),
    };
    claims.to_bytes()
}

fn database(state: &State) -> AttestedPeer {
    let key = TeeKey::generate().unwrap();
    attest_as(Role::Database, state, &program(), &key, claims("ledger", FIRST)).unwrap()
}

fn activation(state: &State, peer: &AttestedPeer) -> &'static str {
    code(crate::world::activate(state, peer, 1, NOW))
}

#[test]
fn a_database_is_the_marble_that_names_its_first_manifest() {
    let state = running();
    let (_, activation) = activated(state.clone(), &database(&state));
    assert_eq!(activation.marble, "ledger");
    assert!(activation.workload.is_none());
    assert!(activation.parameters.env.is_empty() && activation.parameters.files.is_empty());

    let claiming = |claims| {
        let key = TeeKey::generate().unwrap();
        attest_as(Role::Database, &state, &program(), &key, claims)
    };
    let other = claiming(claims("ledger", [0x0b; 32])).unwrap();
    assert_eq!(self::activation(&state, &other), "DATABASE_MISMATCH");
    assert_eq!(code(claiming(claims("nobody", FIRST))), "MARBLE_UNKNOWN");
    // A Keep is no database, nor the other way round, where they are of one package.
    let mut mixed = with_database();
    mixed["Marbles"]["ledger"]["Package"] = json!("keep");
    let state = founded();
    let event = set(&state, &mixed).unwrap();
    let state = step(state, event);
    assert_eq!(self::activation(&state, &peer(&state, "ledger", TALLY)), "PARAMETERS_INCOMPLETE");
    let key = TeeKey::generate().unwrap();
    let claims = claims("tally", FIRST);
    let posing = attest_as(Role::Database, &state, &keep_on(Platform::Snp), &key, claims).unwrap();
    assert_eq!(self::activation(&state, &posing), "DATABASE_MISMATCH");
    let native = native_expectations(&state, Platform::Snp, "ledger", NOW);
    assert_eq!(code(native), "PARAMETERS_INCOMPLETE");
    // It has nothing to fetch.
    assert_eq!(code(core::locate(&state, &posing, 1)), "CLAIMS_MALFORMED");
}

fn head(sequence: u64) -> VolumeHead {
    VolumeHead { sequence, hash: [u8::try_from(sequence).unwrap(); 32] }
}

fn open(state: State, peer: &AttestedPeer, read_only: bool) -> State {
    let fresh = new_volume_key().unwrap();
    let asked = (DATABASE_VOLUME, read_only);
    let (event, _) = open_volume(&state, peer, 1, asked, &fresh, NOW).unwrap();
    event.into_iter().fold(state, step)
}

/// S-16: records may be remembered in groups, and the head never goes back, nor to where another one could be.
#[test]
fn s16_the_head_of_a_log_passes_over_records_and_never_goes_back() {
    let one = database(&running());
    let (state, _) = activated(running(), &one);
    let mut state = open(state, &one, false);
    for (from, to) in [(None, 3), (Some(3), 4), (Some(4), 90)] {
        let steps = (from.map(head), head(to));
        let event = advance_volume(&state, &one, 1, DATABASE_VOLUME, steps, NOW).unwrap();
        state = event.into_iter().fold(state, step);
    }
    for (from, to) in [(None, 91), (Some(4), 91), (Some(90), 89), (Some(90), 3), (Some(91), 92)] {
        let steps = (from.map(head), head(to));
        let refused = advance_volume(&state, &one, 1, DATABASE_VOLUME, steps, NOW);
        assert_eq!(code(refused), "VOLUME_MOVED", "{from:?} to {to}");
    }
    let same = VolumeHead { hash: [0xff; 32], ..head(90) };
    let refused = advance_volume(&state, &one, 1, DATABASE_VOLUME, (Some(head(90)), same), NOW);
    assert_eq!(code(refused), "VOLUME_MOVED", "another record in the place of the newest");
    let refused = advance_volume(&state, &one, 1, "other", (None, head(1)), NOW);
    assert_eq!(code(refused), "VOLUME_UNKNOWN");
}

#[test]
fn s16_the_instance_that_opened_a_log_last_writes_it_and_readers_take_nothing() {
    let (one, other) = (database(&running()), database(&running()));
    let (state, _) = activated(running(), &one);
    let state = open(state, &one, false);
    let (state, _) = activated(state, &other);
    let state = open(state, &other, true);
    let steps = |from: Option<u64>, to| (from.map(head), head(to));
    let event = advance_volume(&state, &one, 1, DATABASE_VOLUME, steps(None, 2), NOW).unwrap();
    let state = event.into_iter().fold(state, step);
    assert_eq!(volume_head(&state, &other, 1, DATABASE_VOLUME).ok(), Some(Some(head(2))));
    assert_eq!(code(volume_head(&state, &other, 1, "other")), "VOLUME_UNKNOWN");
    assert_eq!(code(volume_head(&state, &other, 2, DATABASE_VOLUME)), "APPRAISAL_STALE");
    let refused = advance_volume(&state, &other, 1, DATABASE_VOLUME, steps(Some(2), 3), NOW);
    assert_eq!(code(refused), "VOLUME_TAKEN", "a reader moves nothing");

    let state = open(state, &other, false);
    for to in [2, 3] {
        let refused = advance_volume(&state, &one, 1, DATABASE_VOLUME, steps(Some(2), to), NOW);
        assert_eq!(code(refused), "VOLUME_TAKEN", "also where it only asks: {to}");
    }
    assert!(advance_volume(&state, &other, 1, DATABASE_VOLUME, steps(Some(2), 5), NOW).is_ok());
}

/// Over gRPC on attested connections; S-04: what a peer is taken for is what its Evidence is of.
#[tokio::test(flavor = "multi_thread")]
async fn s04_a_database_attests_as_one_and_is_told_no_more_than_it_needs() {
    let running = Running::start().await;
    let set = running.set_manifest(Some(&people().owner), &with_database().to_string()).await;
    assert!(set.status.is_success(), "{}", set.status);
    let keep = claims_of("ledger", Some(TALLY)).to_bytes();
    for (role, claims) in [(Role::Keep, claims("ledger", FIRST)), (Role::Database, keep)] {
        let refused = attest(&running, program(), role, claims).await.map(drop).unwrap_err();
        assert_eq!(refused.codes(), ["CHANNEL_WRONG_ROLE"], "{role}");
    }
    let changed = EmulatedTee::launch(Platform::Tdx, b"another program", b"");
    let refused = attest(&running, changed, Role::Database, claims("ledger", FIRST)).await.map(drop);
    assert_eq!(refused.unwrap_err().codes(), ["MEASUREMENT_MISMATCH"]);

    let join = async || {
        let channel = attest(&running, program(), Role::Database, claims("ledger", FIRST)).await.unwrap();
        MeshClient::new(channel)
    };
    let mut one = join().await;
    let asked = |read_only| OpenVolumeRequest { name: DATABASE_VOLUME.into(), read_only };
    assert_eq!(one.open_volume(asked(false)).await.unwrap_err().details(), b"NOT_ACTIVATED");
    let given = one.activate(ActivateRequest {}).await.unwrap().into_inner();
    assert!(given.certificate.is_some() && given.limits.is_none() && given.access.is_none());
    assert!(given.workload_digest.is_empty() && given.config.is_empty());
    let opened = one.open_volume(asked(false)).await.unwrap().into_inner();
    assert_eq!((opened.key.len(), opened.head), (32, None));
    let to = |sequence: u64| Some(VolumeHeadWire { sequence, hash: vec![1; 32] });
    let step = |from, to| AdvanceVolumeRequest { name: DATABASE_VOLUME.into(), from, to };
    one.advance_volume(step(None, to(7))).await.unwrap();

    let mut reader = join().await;
    reader.activate(ActivateRequest {}).await.unwrap();
    let again = reader.open_volume(asked(true)).await.unwrap().into_inner();
    assert_eq!((again.key, again.head), (opened.key, to(7)));
    one.advance_volume(step(to(7), to(9))).await.unwrap();
    let name = DATABASE_VOLUME.to_owned();
    let read = reader.read_volume_head(ReadVolumeHeadRequest { name }).await.unwrap().into_inner();
    assert_eq!(read.head, to(9));
}

//! A mesh for tests: its people, its manifest, and Keeps that attest to it.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Arc, OnceLock},
};

use appraisal::{UnixTime, binding::Role};
use attested_tls::{
    channel::AttestedPeer,
    claims::{Claims, KeepClaims},
    key::{SpkiDigest, TeeKey},
    statement::{Expected, Statement},
};
use coordinator::core::{
    self, Activation, Caller, Event, IdentityKey, NewKeys, Progress, Readable, Refusal, State, Stored,
    Undecided, recovery::Shares,
};
use evidence::{CertificateDer, Platform};
use serde_bytes::ByteArray;
use serde_json::{Value, json};
use testkit::tee::{EmulatedTee, NOW, machine};

pub const TALLY: [u8; 32] = [0x11; 32];
pub const FRONTEND: [u8; 32] = [0x22; 32];
pub const ASKER: [u8; 32] = [0x33; 32];

/// Those whom the manifest or the launch configuration names.
pub struct People {
    pub owner: TeeKey,
    pub writer: TeeKey,
    pub reader: TeeKey,
    pub stranger: TeeKey,
}

pub fn people() -> &'static People {
    static PEOPLE: OnceLock<People> = OnceLock::new();
    PEOPLE.get_or_init(|| {
        let person = || TeeKey::generate().unwrap();
        People { owner: person(), writer: person(), reader: person(), stranger: person() }
    })
}

pub fn caller(person: &TeeKey) -> Caller {
    Caller::by_certificate(person.certificate().to_vec())
}

pub fn keep_on(platform: Platform) -> Arc<EmulatedTee> {
    EmulatedTee::launch(platform, b"bailey-keep", b"the Keep's configuration")
}

fn pem(der: &[u8]) -> String {
    evidence::pem::encode(&CertificateDer(der.to_vec()))
}

pub fn manifest() -> Value {
    let roots = machine().roots();
    let people = people();
    json!({
        "Packages": { "keep": { "Measurements": {
            "Snp": keep_on(Platform::Snp).measurement().to_string(),
            "Tdx": keep_on(Platform::Tdx).measurement().to_string(),
        } } },
        "Platforms": {
            "Snp": { "EmulatedRoots": [pem(&roots.amd.0)] },
            "Tdx": { "EmulatedRoots": [pem(&roots.intel.0)] },
        },
        "Marbles": {
            "tally": {
                "Package": "keep",
                "Workload": { "Digest": format!("sha256:{}", hex::encode(TALLY)) },
                "Peers": ["frontend"],
                "Parameters": { "Env": {
                    "SALT": "{{ hex .Secrets.salt }}",
                    "OWN": "{{ hex .Secrets.own }}",
                    "OTHER": "{{ hex .Secrets.other }}",
                } },
            },
            "frontend": {
                "Package": "keep",
                "Workload": { "Digest": format!("sha256:{}", hex::encode(FRONTEND)) },
                "Access": "Public",
                "MaxActivations": 2,
                "Names": ["localhost", "127.0.0.1", "poll.example.org"],
                "Parameters": { "Env": { "OWN": "{{ hex .Secrets.own }}" } },
            },
            "asker": {
                "Package": "keep",
                "Workload": { "Digest": format!("sha256:{}", hex::encode(ASKER)) },
                "Parameters": { "Files": { "/question": "{{ raw .Secrets.question }}" } },
            },
            "native": { "Package": "keep" },
        },
        "Secrets": {
            "salt": { "Type": "symmetric-key", "Size": 256, "Shared": true },
            "own": { "Type": "symmetric-key", "Size": 256 },
            "other": { "Type": "symmetric-key", "Size": 256 },
            "question": { "Type": "plain", "UserDefined": true },
            "key": { "Type": "symmetric-key", "Size": 128, "UserDefined": true },
        },
        "Users": {
            "writer": { "Certificate": pem(people.writer.certificate()), "Roles": ["write", "read-own"] },
            "reader": { "Certificate": pem(people.reader.certificate()), "Roles": ["read"] },
        },
        "Roles": {
            "write": {
                "ResourceType": "Secrets", "ResourceNames": ["question", "key"], "Actions": ["WriteSecret"]
            },
            "read-own": {
                "ResourceType": "Secrets", "ResourceNames": ["question", "key"], "Actions": ["ReadSecret"]
            },
            "read": { "ResourceType": "Secrets", "ResourceNames": ["salt"], "Actions": ["ReadSecret"] },
        },
    })
}

pub fn step(state: State, event: Event) -> State {
    state.step(event).unwrap()
}

pub fn founded() -> State {
    State::begin(core::found(true, identity(), NOW).unwrap(), identity().clone()).unwrap()
}

/// Of the TEE that all tests run in.
pub fn identity() -> &'static IdentityKey {
    static KEY: OnceLock<IdentityKey> = OnceLock::new();
    KEY.get_or_init(|| IdentityKey::generate().unwrap())
}

pub fn set(state: &State, manifest: &Value) -> Result<Event, Refusal> {
    let people = people();
    let bytes = manifest.to_string().into_bytes();
    set_manifest(state, people.owner.digest(), &caller(&people.owner), bytes, NOW).map(|(event, _)| event)
}

/// A mesh under [`manifest`].
pub fn running() -> State {
    let state = founded();
    let event = set(&state, &manifest()).unwrap();
    step(state, event)
}

/// A Keep that attests to the coordinator, as the manifest requires of the Marble that it claims to be.
pub fn attest(
    state: &State,
    tee: &EmulatedTee,
    key: &TeeKey,
    marble: &str,
    workload: [u8; 32],
) -> Result<AttestedPeer, Refusal> {
    attest_with(state, tee, key, &claims_of(marble, Some(workload)))
}

/// What a Keep claims.
pub fn claims_of(marble: &str, workload: Option<[u8; 32]>) -> KeepClaims {
    KeepClaims {
        marble: marble.into(),
        engine: "test".into(),
        workload: workload.map(ByteArray::new),
        package: None,
        configuration: ByteArray::new([0; 32]),
    }
}

/// As [`attest`], with these claims.
pub fn attest_with(
    state: &State,
    tee: &EmulatedTee,
    key: &TeeKey,
    claims: &KeepClaims,
) -> Result<AttestedPeer, Refusal> {
    attest_as(Role::Keep, state, tee, key, claims.to_bytes())
}

/// Whoever attests in a role, with these claims.
pub fn attest_as(
    role: Role,
    state: &State,
    tee: &EmulatedTee,
    key: &TeeKey,
    claims: Vec<u8>,
) -> Result<AttestedPeer, Refusal> {
    let expectations = core::expectations(state, attester::Tee::platform(tee), &claims, NOW)?;
    let nonce = [5; 32];
    let statement = Statement::issue(tee, role, key.digest(), &nonce, claims).unwrap();
    let appraised = statement
        .appraise(
            &Expected {
                role,
                key: *key.digest(),
                nonce: &nonce,
                measurements: &expectations.measurements,
                policy: &expectations.policy,
                now: NOW,
            },
            &attested_tls::statement::verifier(),
        )
        .unwrap();
    let (presented, claims) = statement.kept(role, key.digest(), &nonce);
    Ok(AttestedPeer { appraised, claims, key: *key.digest(), public_key: key.public_key_info(), presented })
}

/// A fresh Keep on SNP.
pub fn peer(state: &State, marble: &str, workload: [u8; 32]) -> AttestedPeer {
    attest(state, &keep_on(Platform::Snp), &TeeKey::generate().unwrap(), marble, workload).unwrap()
}

/// Activates and gives the new state with what the Keep got.
pub fn activated(state: State, peer: &AttestedPeer) -> (State, core::Activation) {
    let activation = activate(&state, peer, 1, NOW).unwrap();
    let event = activation.admit(&state, NOW).unwrap();
    (step(state, event), activation)
}

pub fn upload(name: &str, value: &str) -> std::collections::BTreeMap<String, core::NewSecret> {
    serde_json::from_value(json!({ name: { "Key": value } })).unwrap()
}

pub fn later(seconds: i64) -> UnixTime {
    UnixTime(NOW.0 + seconds)
}

/// The code of a refusal.
pub fn code<T>(result: Result<T, Refusal>) -> &'static str {
    match result {
        Ok(_) => "accepted",
        Err(refusal) => refusal.code(),
    }
}

/// Decides, and makes the keys that are needed: the service makes them while others are decided.
pub fn in_one_go<T>(decide: impl Fn(Option<&NewKeys>) -> Result<T, Undecided>) -> Result<T, Refusal> {
    let need = match decide(None) {
        Ok(decided) => return Ok(decided),
        Err(Undecided::Refused(refusal)) => return Err(refusal),
        Err(Undecided::Needs(need)) => need,
    };
    match decide(Some(&need.make(NOW)?)) {
        Ok(decided) => Ok(decided),
        Err(Undecided::Refused(refusal)) => Err(refusal),
        Err(Undecided::Needs(_)) => panic!("what was made is what is needed"),
    }
}

pub fn set_manifest(
    state: &State,
    owner: &SpkiDigest,
    caller: &Caller,
    bytes: Vec<u8>,
    now: UnixTime,
) -> Result<(Event, Option<Shares>), Refusal> {
    in_one_go(|keys| core::set_manifest(state, owner, caller, &bytes, now, keys))
}

pub fn update(
    state: &State,
    caller: &Caller,
    bytes: Vec<u8>,
    downgrades: BTreeSet<String>,
    now: UnixTime,
) -> Result<(Vec<Event>, Progress), Refusal> {
    in_one_go(|keys| core::update(state, caller, &bytes, &downgrades, now, keys))
}

pub fn acknowledge(
    state: &State,
    caller: &Caller,
    bytes: &[u8],
    now: UnixTime,
) -> Result<(Vec<Event>, Progress), Refusal> {
    in_one_go(|keys| core::acknowledge(state, caller, bytes, now, keys))
}

/// Of a Marble that needs nothing from stores outside.
pub fn activate(
    state: &State,
    peer: &AttestedPeer,
    appraised_in: u64,
    now: UnixTime,
) -> Result<Activation, Refusal> {
    core::activate(state, peer, appraised_in, &Stored::default(), now)
}

pub fn read_secrets(
    state: &State,
    caller: &Caller,
    names: &[String],
    now: UnixTime,
) -> Result<BTreeMap<String, Readable>, Refusal> {
    core::download_secrets(state, caller, names, &Stored::default(), now).map(|(_, values)| values)
}

//! Who may write and read which secret, what fits, and how values of single instances differ.

use attested_tls::key::TeeKey;
use coordinator::core::{Caller, Refusal, write_secrets};
use evidence::Platform;
use testkit::tee::NOW;

use crate::world::{
    FRONTEND, TALLY, activated, attest, caller, code, founded, keep_on, manifest, peer, people, read_secrets,
    running, set, step, upload,
};

fn write(person: &TeeKey, name: &str, value: &str) -> Result<(), Refusal> {
    write_secrets(&running(), &caller(person), upload(name, value), NOW).map(|_| ())
}

fn read(person: &TeeKey, name: &str) -> Result<(), Refusal> {
    read_secrets(&running(), &caller(person), &[name.into()], NOW).map(|_| ())
}

#[test]
fn written_secrets_are_read_back_by_those_who_may() {
    let state = running();
    let writer = caller(&people().writer);
    let event = write_secrets(&state, &writer, upload("question", "d2h5Pw=="), NOW).unwrap();
    let before = read_secrets(&state, &writer, &["question".into()], NOW).unwrap();
    assert!(serde_json::to_value(before).unwrap()["question"]["Private"].is_null());
    let state = step(state, event);
    let after = read_secrets(&state, &writer, &["question".into()], NOW).unwrap();
    assert_eq!(serde_json::to_value(after).unwrap()["question"]["Private"], "d2h5Pw==");
}

#[test]
fn strangers_and_nobody_are_refused() {
    assert_eq!(code(write(&people().stranger, "question", "YQ==")), "USER_UNKNOWN");
    assert_eq!(code(read(&people().stranger, "salt")), "USER_UNKNOWN");
    assert_eq!(code(read(&people().owner, "salt")), "USER_UNKNOWN", "the owner is no user");
    let (state, nobody) = (running(), Caller::default());
    let refused = write_secrets(&state, &nobody, upload("question", "YQ=="), NOW);
    assert_eq!(code(refused), "CLIENT_CERTIFICATE_REQUIRED");
    assert_eq!(code(read_secrets(&state, &nobody, &["salt".into()], NOW)), "CLIENT_CERTIFICATE_REQUIRED");
}

/// Whoever may not, learns the same of secrets that exist and of those that do not.
#[test]
fn s58_denied_and_absent_are_told_alike() {
    let told = |name: &str| {
        let refusals =
            [write(&people().reader, name, "YQ==").unwrap_err(), read(&people().writer, name).unwrap_err()];
        refusals.map(|refusal| (refusal.code(), refusal.details(), refusal.to_string().replace(name, "NAME")))
    };
    let existing = told("salt");
    assert_eq!(existing[0].0, "NOT_GRANTED");
    assert_eq!(existing[1].0, "NOT_GRANTED");
    assert_eq!(existing, told("absent"));
    assert_eq!(existing, told(&"x".repeat(200)));
}

#[test]
fn reading_is_not_writing() {
    assert_eq!(code(write(&people().reader, "salt", "YQ==")), "NOT_GRANTED");
    assert_eq!(code(read(&people().reader, "salt")), "accepted");
}

/// One name without a grant spoils the whole request.
#[test]
fn all_names_must_be_granted() {
    let mut uploads = upload("question", "YQ==");
    uploads.extend(upload("salt", "YQ=="));
    let writer = caller(&people().writer);
    assert_eq!(code(write_secrets(&running(), &writer, uploads, NOW)), "NOT_GRANTED");
    let names = ["question".to_owned(), "salt".to_owned()];
    assert_eq!(code(read_secrets(&running(), &writer, &names, NOW)), "NOT_GRANTED");
}

#[test]
fn values_must_fit_their_declaration() {
    let writer = &people().writer;
    assert_eq!(code(write(writer, "key", "AAAAAAAAAAAAAAAAAAAAAA==")), "accepted", "16 bytes");
    for value in ["AAAA", "AAAAAAAAAAAAAAAAAAAAAAA=", "", "no base64!", "AAAAAAAAAAAAAAAAAAAAAA"] {
        assert_eq!(code(write(writer, "key", value)), "SECRET_REFUSED", "{value}");
    }
    assert_eq!(code(write(writer, "question", "")), "SECRET_REFUSED");
}

#[test]
fn requests_without_names_are_refused() {
    let (state, writer) = (running(), caller(&people().writer));
    assert_eq!(code(write_secrets(&state, &writer, Default::default(), NOW)), "SECRETS_MISSING");
    assert_eq!(code(read_secrets(&state, &writer, &[], NOW)), "SECRETS_MISSING");
}

#[test]
fn s46_instance_secrets_differ_by_secret_marble_and_instance() {
    let state = running();
    let (one, other) = (TeeKey::generate().unwrap(), TeeKey::generate().unwrap());
    let env = |marble: &str, workload, key: &TeeKey| {
        let peer = attest(&state, &keep_on(Platform::Snp), key, marble, workload).unwrap();
        activated(state.clone(), &peer).1.parameters.env
    };
    let tally = env("tally", TALLY, &one);
    assert_eq!(tally, env("tally", TALLY, &one), "the same instance gets the same again");
    let again = env("tally", TALLY, &other);
    let frontend = env("frontend", FRONTEND, &one);
    let values =
        [&tally["OWN"], &tally["OTHER"], &again["OWN"], &again["OTHER"], &frontend["OWN"], &tally["SALT"]];
    let distinct: std::collections::BTreeSet<_> = values.iter().collect();
    assert_eq!(distinct.len(), values.len(), "{values:?}");
    assert!(values.iter().all(|value| value.len() == 64));
    assert_eq!(tally["SALT"], again["SALT"], "a shared secret is shared");
}

/// Two meshes under one manifest share no secret.
#[test]
fn s46_meshes_share_no_secret() {
    let key = TeeKey::generate().unwrap();
    let env = || {
        let state = founded();
        let event = set(&state, &manifest()).unwrap();
        let state = step(state, event);
        let peer = attest(&state, &keep_on(Platform::Snp), &key, "tally", TALLY).unwrap();
        activated(state, &peer).1.parameters.env
    };
    let (one, other) = (env(), env());
    assert!(["SALT", "OWN", "OTHER"].iter().all(|name| one[*name] != other[*name]));
}

/// No Keep is given the private key of anyone.
#[test]
fn s09_parameters_hold_no_private_key() {
    let mut wanting = manifest();
    let wish = "{{ pem .MarbleRun.MarbleCert.Private }}";
    wanting["Marbles"]["tally"]["Parameters"]["Files"] = serde_json::json!({ "/key": wish });
    let state = founded();
    let Ok(event) = set(&state, &wanting) else { return };
    let state = step(state, event);
    let peer = peer(&state, "tally", TALLY);
    assert_eq!(code(crate::world::activate(&state, &peer, 1, NOW)), "PARAMETERS_INCOMPLETE");
}

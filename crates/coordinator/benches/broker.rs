//! `cargo bench -p coordinator --bench broker`: what a handshake of a guest costs beside its cryptography, how many
//! resources are read a second, and what sessions weigh. Prints a table; ratios are to yardsticks of the same run.

#![allow(
    missing_docs,
    clippy::unwrap_used,
    clippy::panic,
    clippy::print_stdout,
    reason = "a benchmark prints, and ends where anything fails"
)]

#[path = "../tests/it/broker.rs"]
#[allow(dead_code, unused_imports, reason = "of the tests' guests only a part is measured")]
mod broker;
#[path = "../tests/it/running.rs"]
#[allow(dead_code, reason = "of the tests' coordinator only a part is measured")]
mod running;
#[path = "../tests/it/world.rs"]
#[allow(dead_code, reason = "of the tests' world only a part is measured")]
mod world;

use std::{
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};

use appraisal::Verifier;
use aws_lc_rs::{
    agreement::{ECDH_P256, EphemeralPrivateKey, UnparsedPublicKey, agree_ephemeral},
    rand::SystemRandom,
    signature::{self, ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair},
};
use base64::{Engine, engine::general_purpose::STANDARD};
use broker::{Pod, SECRET, ask, brokered, brokering, connect};
use coordinator::core::{
    State, Stored,
    broker::{
        admission::Piece,
        attested::{Shown, attested},
        guest::{Guest, SessionId},
        release::release,
        session::{LIFETIME, Nonces, SessionKeys, Sessions, Ticket},
        token,
    },
};
use evidence::{Evidence, Platform};
use hyper::Method;
use manifest::{ResourcePath, Use};
use rcar::{Attestation, Content, Opened, Version};
use testkit::tee::{NOW, machine};
use world::{caller, founded, later, people, set, step, upload};

const CONNECTIONS: usize = 64;
const FOR: Duration = Duration::from_secs(5);

fn main() {
    handshake();
    memory();
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    runtime.block_on(reads());
}

/// The median of many, in microseconds.
fn median(mut work: impl FnMut()) -> f64 {
    let mut times: Vec<_> = (0..400)
        .map(|_| {
            let began = Instant::now();
            work();
            began.elapsed()
        })
        .collect();
    times.sort_unstable();
    times[times.len() / 2].as_secs_f64() * 1e6
}

fn brokering_state() -> State {
    let state = founded();
    let event = set(&state, &brokered()).unwrap();
    let state = step(state, event);
    let uploads = upload("db", &STANDARD.encode(SECRET));
    let event = coordinator::core::write_secrets(&state, &caller(&people().writer), uploads, NOW).unwrap();
    step(state, event)
}

/// Everything that the broker does for one guest but TLS and HTTP: ticket, Evidence, token, session, resource. The guest's
/// Evidence and key are made beforehand.
fn handshake() {
    let state = brokering_state();
    let verifier = attested_tls::statement::verifier();
    let pod = Pod::on(Platform::Snp);
    let path: ResourcePath = "default/key/db".parse().unwrap();
    let keys = SessionKeys::of(&state).unwrap();
    let endorsements = machine().endorsements(Platform::Snp);
    let prepared: Vec<_> = (0..400)
        .map(|_| {
            let ticket = Ticket::issue("snp".into(), "0.4.0".into(), NOW).unwrap();
            let body = pod.attestation(&ticket.nonce_text()).to_string();
            (ticket, body)
        })
        .collect();
    let (mut nonces, mut sessions) = (Nonces::new(1 << 20), Sessions::new(1 << 20, 1 << 30));
    let mut next = prepared.iter().cycle();
    let whole = median(|| {
        let (ticket, body) = next.next().unwrap();
        drop(Ticket::issue("snp".into(), "0.4.0".into(), NOW).unwrap());
        let cookie = ticket.to_cookie(&keys).unwrap();
        let ticket = Ticket::from_cookie(&cookie, &keys, NOW).unwrap();
        let guest = guest(&state, &verifier, &ticket, body, &endorsements);
        nonces.claim(ticket.session(), ticket.expires, NOW).unwrap();
        drop(token::issue(&state, &guest, NOW).unwrap());
        sessions.keep(ticket.session(), guest.expires(), &guest.to_bytes().unwrap(), NOW);
        let known = Guest::from_bytes(sessions.attested(&ticket.session(), NOW).unwrap()).unwrap();
        let released = release(&state, &known, &path, Use::Read, NOW).unwrap();
        let value = released.value(state.mesh().unwrap(), &Stored::default()).unwrap();
        drop(known.key().encrypt(&value).unwrap().to_json().to_string());
    });
    let crypto = crypto(&prepared[0].1, &prepared[0].0);
    println!("handshake with SNP Evidence      {whole:8.0} µs");
    println!(
        "  its cryptography alone         {crypto:8.0} µs   (report's signature, token's, key agreement)"
    );
    println!("  ratio                          {:8.2}      (expected: at most 1.5)", whole / crypto);
}

fn guest(
    state: &State,
    verifier: &Verifier,
    ticket: &Ticket,
    body: &str,
    endorsements: &evidence::Endorsements,
) -> Guest {
    let opened = Opened { version: Version::NEWEST, tee: rcar::Tee::Snp, nonce: ticket.nonce_text() };
    let attestation = Attestation::parse(body.as_bytes(), &opened).unwrap();
    let piece = &attestation.pieces()[0];
    let Content::Evidence(conveyed) = piece.read().unwrap() else { panic!("no Evidence") };
    let primary = Piece {
        tee: rcar::Tee::Snp,
        evidence: conveyed.evidence[0].1.clone(),
        endorsements: endorsements.clone(),
        digest: piece.digest().clone(),
    };
    let shown = Shown::Evidence { primary: Box::new(primary), devices: Vec::new() };
    attested(state, verifier, ticket.session(), &attestation, &shown, NOW)
        .unwrap_or_else(|why| panic!("{}", why.reason))
        .0
}

/// The operations that no broker can leave out: the signature of the report (its chain was seen before), that of the
/// token, and a key agreement with a fresh key.
fn crypto(body: &str, ticket: &Ticket) -> f64 {
    let opened = Opened { version: Version::NEWEST, tee: rcar::Tee::Snp, nonce: ticket.nonce_text() };
    let attestation = Attestation::parse(body.as_bytes(), &opened).unwrap();
    let Content::Evidence(conveyed) = attestation.pieces()[0].read().unwrap() else { panic!("no Evidence") };
    let Evidence::Snp(_) = &conveyed.evidence[0].1 else { panic!("no report") };
    let random = SystemRandom::new();
    let report = EcdsaKeyPair::generate(&signature::ECDSA_P384_SHA384_FIXED_SIGNING).unwrap();
    let message = [7; 672];
    let signed = report.sign(&random, &message).unwrap();
    let public = signature::UnparsedPublicKey::new(
        &signature::ECDSA_P384_SHA384_FIXED,
        report.public_key().as_ref().to_vec(),
    );
    let token = EcdsaKeyPair::generate(&ECDSA_P256_SHA256_FIXED_SIGNING).unwrap();
    let guest = EphemeralPrivateKey::generate(&ECDH_P256, &random).unwrap();
    let guest = UnparsedPublicKey::new(&ECDH_P256, guest.compute_public_key().unwrap().as_ref().to_vec());
    median(|| {
        public.verify(&message, signed.as_ref()).unwrap();
        token.sign(&random, &message).unwrap();
        let ours = EphemeralPrivateKey::generate(&ECDH_P256, &random).unwrap();
        ours.compute_public_key().unwrap();
        agree_ephemeral(ours, guest.clone(), (), |_| Ok(())).unwrap();
    })
}

/// What a hundred thousand sessions weigh.
fn memory() {
    let state = brokering_state();
    let verifier = attested_tls::statement::verifier();
    let pod = Pod::on(Platform::Snp);
    let ticket = Ticket::issue("snp".into(), "0.4.0".into(), NOW).unwrap();
    let body = pod.attestation(&ticket.nonce_text()).to_string();
    let guest = guest(&state, &verifier, &ticket, &body, &machine().endorsements(Platform::Snp));
    let bytes = guest.to_bytes().unwrap();
    let (mut nonces, mut sessions) = (Nonces::new(262_144), Sessions::new(131_072, 384 << 20));
    let before = resident();
    for number in 0..100_000u32 {
        let mut nonce = [0; 32];
        nonce[..4].copy_from_slice(&number.to_be_bytes());
        let session = SessionId::of(&nonce);
        nonces.claim(session, later(LIFETIME), NOW).unwrap();
        sessions.keep(session, later(LIFETIME), &bytes, NOW);
    }
    let grown = resident().saturating_sub(before) >> 20;
    println!(
        "100 000 sessions of {} bytes    {:8} MiB counted, {grown} MiB resident",
        bytes.len(),
        sessions.bytes() >> 20
    );
}

/// Bytes of this process that are in memory (`/proc/self/statm`, second field, in pages).
fn resident() -> usize {
    let statm = std::fs::read_to_string("/proc/self/statm").unwrap();
    let pages: usize = statm.split(' ').nth(1).unwrap().parse().unwrap();
    pages * 4096
}

/// Resources over kept TLS connections; the clients run beside the coordinator, on the same cores.
async fn reads() {
    let running = Arc::new(brokering().await);
    let pod = Pod::on(Platform::Snp);
    let (cookie, answer) = pod.attest(&running).await;
    assert_eq!(answer.status, 200);
    let times = Arc::new(Mutex::new(Vec::new()));
    let began = Instant::now();
    let clients = (0..CONNECTIONS).map(|_| {
        let (running, cookie, times) = (running.clone(), cookie.clone(), times.clone());
        tokio::spawn(async move {
            let mut mine = Vec::new();
            let mut sender = connect(&running).await;
            while began.elapsed() < FOR {
                let asked = Instant::now();
                let headers = [("cookie", cookie.as_str())];
                let path = "/kbs/v0/resource/default/key/db";
                let answer = ask(&mut sender, Method::GET, path, &headers, "").await.unwrap();
                assert_eq!(answer.status, 200);
                mine.push(asked.elapsed());
            }
            times.lock().unwrap().extend(mine);
        })
    });
    for client in clients.collect::<Vec<_>>() {
        client.await.unwrap();
    }
    let took = began.elapsed().as_secs_f64();
    let mut times = std::mem::take(&mut *times.lock().unwrap());
    times.sort_unstable();
    let at = |part: usize| times[times.len() * part / 1000].as_secs_f64() * 1e3;
    #[allow(clippy::cast_precision_loss, reason = "a rate")]
    let rate = times.len() as f64 / took;
    println!(
        "resource reads, {CONNECTIONS} TLS connections {rate:8.0} a second   (expected: at least 2 000)"
    );
    println!(
        "  p50, p99                       {:5.1} ms, {:.1} ms   (expected: p99 at most 10 ms)",
        at(500),
        at(990)
    );
    // One connection after the other, as a pod that starts: handshake of TLS, auth, attest, one resource.
    let mut whole = Vec::new();
    for _ in 0..20 {
        let began = Instant::now();
        let (_, answer) = pod.attest(&running).await;
        assert_eq!(answer.status, 200);
        whole.push(began.elapsed());
    }
    whole.sort_unstable();
    println!("auth and attest, a connection each {:6.1} ms", whole[10].as_secs_f64() * 1e3);
}

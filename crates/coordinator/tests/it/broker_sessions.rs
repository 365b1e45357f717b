//! Sessions without a network: tickets, nonces, what is kept, and what admits a guest.

use appraisal::UnixTime;
use coordinator::core::{
    State,
    broker::{
        admission::{NotAdmitted, Piece},
        attested::{Shown, attested},
        guest::{Guest, SessionId},
        session::{BadTicket, ENTRY, Full, LIFETIME, Nonces, SessionKeys, Sessions, Ticket},
    },
};
use evidence::Platform;
use rcar::{Attestation, Content, Opened, Tee, Version};
use serde_json::{Value, json};
use testkit::tee::{NOW, machine};

use crate::{
    broker::{KATA, Pod, brokered},
    world::{founded, later, running, set, step},
};

pub fn state(manifest: &Value) -> State {
    let state = founded();
    let event = set(&state, manifest).unwrap();
    step(state, event)
}

/// What the service does with an attestation, without its network.
pub fn admitted(state: &State, pod: &Pod, nonce: &[u8; 32]) -> Result<Guest, NotAdmitted> {
    let nonce_text = rcar::Challenge::new(nonce).nonce().to_owned();
    let opened = Opened { version: Version::NEWEST, tee: pod.tee(), nonce: nonce_text.clone() };
    let attestation =
        Attestation::parse(pod.attestation(&nonce_text).to_string().as_bytes(), &opened).unwrap();
    let piece = &attestation.pieces()[0];
    let Content::Evidence(conveyed) = piece.read().unwrap() else { panic!("no Evidence") };
    let primary = Piece {
        tee: pod.tee(),
        evidence: conveyed.evidence[0].1.clone(),
        endorsements: machine().endorsements(pod.platform),
        digest: piece.digest().clone(),
    };
    let shown = Shown::Evidence { primary: Box::new(primary), devices: Vec::new() };
    let verifier = attested_tls::statement::verifier();
    attested(state, &verifier, SessionId::of(nonce), &attestation, &shown, NOW).map(|(guest, _)| guest)
}

fn codes(found: Result<Guest, NotAdmitted>) -> Vec<String> {
    found.map_or_else(|why| why.codes, |guest| panic!("{:?} was admitted", guest.session()))
}

#[test]
fn s14_tickets_are_ours_for_five_minutes_and_for_one_nonce() {
    let state = running();
    let keys = SessionKeys::of(&state).unwrap();
    let ticket = Ticket::issue("snp".into(), "0.4.0".into(), NOW).unwrap();
    let cookie = ticket.to_cookie(&keys).unwrap();
    assert!(cookie.len() < 300, "{}", cookie.len());
    assert_eq!(Ticket::from_cookie(&cookie, &keys, later(LIFETIME - 1)), Ok(ticket.clone()));
    assert_eq!(Ticket::from_cookie(&cookie, &keys, later(LIFETIME)), Err(BadTicket::Expired));
    // Each byte counts.
    for at in 0..cookie.len() {
        let mut other = cookie.clone().into_bytes();
        other[at] = if other[at] == b'A' { b'B' } else { b'A' };
        let other = String::from_utf8(other).unwrap();
        assert!(Ticket::from_cookie(&other, &keys, NOW).is_err(), "{at}");
    }
    // Another mesh has other keys.
    let other = SessionKeys::of(&founded()).unwrap();
    assert_eq!(Ticket::from_cookie(&cookie, &other, NOW), Err(BadTicket::Forged));
    let more = Ticket::issue("snp".into(), "0.4.0".into(), NOW).unwrap();
    assert!(more.nonce != ticket.nonce && more.session() != ticket.session());
}

#[test]
fn s14_a_nonce_that_was_forgotten_is_still_refused_also_when_the_clock_goes_back() {
    let session = |number: u8| SessionId::of(&[number; 32]);
    let mut nonces = Nonces::new(2);
    assert_eq!(nonces.claim(session(1), later(LIFETIME), NOW), Ok(true));
    assert_eq!(nonces.claim(session(1), later(LIFETIME), NOW), Ok(false));
    assert_eq!(nonces.claim(session(2), later(LIFETIME), NOW), Ok(true));
    assert_eq!(nonces.claim(session(3), later(LIFETIME), NOW), Err(Full), "nothing is forgotten for it");
    // Their time is over: there is room again.
    assert_eq!(nonces.claim(session(3), later(3 * LIFETIME), later(2 * LIFETIME)), Ok(true));
    assert_eq!(nonces.held(), 1);
    // The host sets the clock back to when the first ticket was good.
    assert_eq!(nonces.claim(session(1), later(LIFETIME), NOW), Ok(false));
}

#[test]
fn s39_what_is_sealed_for_one_session_opens_for_no_other() {
    let keys = SessionKeys::of(&running()).unwrap();
    let (one, other) = (SessionId::of(&[1; 32]), SessionId::of(&[2; 32]));
    let sealed = keys.seal(&one, b"who it is").unwrap();
    assert_eq!(keys.open(&one, &sealed).unwrap().as_slice(), b"who it is");
    assert!(keys.open(&other, &sealed).is_none());
    for at in 0..sealed.len() {
        let mut changed = sealed.clone();
        changed[at] ^= 1;
        assert!(keys.open(&one, &changed).is_none(), "{at}");
    }
    assert!(keys.open(&one, &[]).is_none());
}

#[test]
fn a_guest_is_kept_as_it_is() {
    let state = state(&brokered());
    let guest =
        admitted(&state, &Pod::on(Platform::Snp), &[7; 32]).unwrap_or_else(|why| panic!("{}", why.reason));
    let kept = Guest::from_bytes(&guest.to_bytes().unwrap()).unwrap();
    assert_eq!(format!("{kept:?}"), format!("{guest:?}"));
    assert_eq!(kept.session(), SessionId::of(&[7; 32]));
    assert_eq!((kept.tee(), kept.platform()), (Tee::Snp, Some(Platform::Snp)));
    assert!(kept.emulated() && kept.init_data().is_none());
    assert_eq!((kept.epoch(), kept.expires()), (1, later(LIFETIME)));
    assert_eq!(kept.claims()["submods"]["cpu0"]["ear.status"], "warning");
    assert!(Guest::from_bytes(b"{}").is_err());
}

#[test]
fn a_guest_is_every_package_that_its_evidence_meets() {
    let mut manifest = brokered();
    let kata = manifest["Packages"]["kata"].clone();
    manifest["Packages"]["twin"] = kata.clone();
    manifest["Packages"]["unnamed"] = kata;
    manifest["Broker"]["Policies"]["all"] = json!({ "Packages": ["twin", "keep"] });
    let pod = Pod::on(Platform::Tdx);
    let guest = admitted(&state(&manifest), &pod, &[7; 32]).unwrap_or_else(|why| panic!("{}", why.reason));
    let packages: Vec<_> = guest.packages().iter().map(ToString::to_string).collect();
    assert_eq!(packages, ["kata", "twin"], "what no policy names is nobody's");
    assert_eq!(guest.claims()["bailey"]["packages"], json!(["kata", "twin"]));
}

#[test]
fn s40_emulated_evidence_needs_roots_that_the_manifest_names() {
    let mut manifest = brokered();
    manifest["Platforms"]["Snp"] = json!({});
    let refused = codes(admitted(&state(&manifest), &Pod::on(Platform::Snp), &[7; 32]));
    assert!(refused.iter().any(|code| code.contains("ROOT")), "{refused:?}");
}

#[test]
fn platforms_that_no_package_runs_on_are_refused_before_anything_is_verified() {
    let mut manifest = brokered();
    manifest["Packages"]["kata"]["Measurements"].as_object_mut().unwrap().remove("Sgx");
    let refused = codes(admitted(&state(&manifest), &Pod::on(Platform::Sgx), &[7; 32]));
    assert_eq!(refused, ["PLATFORM_NOT_ACCEPTED"]);
    // And without a broker nobody is a guest.
    manifest.as_object_mut().unwrap().remove("Broker");
    manifest["Roles"].as_object_mut().unwrap().remove("explain");
    manifest["Users"]["writer"]["Roles"] = json!(["write"]);
    let refused = codes(admitted(&state(&manifest), &Pod::on(Platform::Snp), &[7; 32]));
    assert_eq!(refused, ["BROKER_NOT_CONFIGURED"]);
    assert!(!KATA.is_empty());
}

/// As the service bounds them.
const MOST: usize = 131_072;
const BYTES: usize = 384 * 1024 * 1024;

#[test]
fn a_hundred_thousand_sessions_are_kept_in_bounded_memory() {
    const GUESTS: u32 = 100_000;
    let state = state(&brokered());
    let keys = SessionKeys::of(&state).unwrap();
    let guest =
        admitted(&state, &Pod::on(Platform::Snp), &[7; 32]).unwrap_or_else(|why| panic!("{}", why.reason));
    let attested = guest.to_bytes().unwrap();
    let (mut nonces, mut sessions) = (Nonces::new(262_144), Sessions::new(MOST, BYTES));
    let before = resident();
    for number in 0..GUESTS {
        let mut nonce = [0; 32];
        nonce[..4].copy_from_slice(&number.to_be_bytes());
        let ticket = Ticket { nonce, tee: "snp".into(), version: "0.4.0".into(), expires: later(LIFETIME) };
        if number % 1000 == 0 {
            let cookie = ticket.to_cookie(&keys).unwrap();
            assert_eq!(Ticket::from_cookie(&cookie, &keys, NOW).unwrap().session(), ticket.session());
        }
        assert_eq!(nonces.claim(ticket.session(), ticket.expires, NOW), Ok(true));
        sessions.keep(ticket.session(), later(LIFETIME), &attested, NOW);
    }
    let (held, bytes) = (sessions.held(), sessions.bytes());
    let grown = resident().saturating_sub(before);
    println!(
        "100000 sessions of {} bytes: {held} kept, {} MiB counted, {} MiB resident",
        attested.len(),
        bytes >> 20,
        grown >> 20
    );
    assert_eq!((held, nonces.held()), (100_000, 100_000));
    assert_eq!(bytes, 100_000 * (ENTRY + attested.len()));
    assert!(bytes <= BYTES && grown <= bytes + bytes / 2, "what is counted is what it takes: {grown}");
    let mut first = [0; 32];
    first[..4].copy_from_slice(&0u32.to_be_bytes());
    assert!(sessions.attested(&SessionId::of(&first), NOW).is_some());
}

#[test]
fn newer_sessions_take_the_room_of_the_oldest() {
    let session = |number: u32| {
        let mut nonce = [0; 32];
        nonce[..4].copy_from_slice(&number.to_be_bytes());
        SessionId::of(&nonce)
    };
    let mut by_count = Sessions::new(10, BYTES);
    let mut by_bytes = Sessions::new(MOST, 10 * (ENTRY + 100));
    for number in 0..1000 {
        for sessions in [&mut by_count, &mut by_bytes] {
            sessions.keep(session(number), later(LIFETIME), &[7; 100], NOW);
            assert!(sessions.held() <= 10 && sessions.bytes() <= 10 * (ENTRY + 100));
        }
    }
    for sessions in [&by_count, &by_bytes] {
        assert!(sessions.attested(&session(989), NOW).is_none());
        assert!(sessions.attested(&session(990), NOW).is_some());
        assert!(sessions.attested(&session(999), later(LIFETIME)).is_none(), "its time is over");
    }
    // What is over goes first, and what is larger than all the room is not kept.
    let after = UnixTime(NOW.0 + 2 * LIFETIME);
    by_bytes.keep(session(2000), UnixTime(after.0 + LIFETIME), &[7; 100], after);
    assert_eq!(by_bytes.held(), 1);
    by_bytes.keep(session(2001), UnixTime(after.0 + LIFETIME), &[7; 4096], after);
    assert_eq!(by_bytes.held(), 1);
}

/// Bytes of this process that are in memory (`/proc/self/statm`, second field, in pages).
fn resident() -> usize {
    let statm = std::fs::read_to_string("/proc/self/statm").unwrap();
    let pages: usize = statm.split(' ').nth(1).unwrap().parse().unwrap();
    pages * 4096
}

//! What encrypting a resource costs beside its raw cryptography, for each kind of key, and what reading an attestation
//! with SNP Evidence costs: `cargo bench -p rcar`. Yardstick and protocol take turns in one process; prints medians, and
//! their ratio.

#![allow(
    missing_docs,
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "a benchmark prints, and ends where anything fails"
)]

use std::hint::black_box;
use std::time::{Duration, Instant};

use aws_lc_rs::aead::{AES_256_GCM, Aad, LessSafeKey, Nonce, UnboundKey};
use aws_lc_rs::agreement::{self, Algorithm, ECDH_P256, ECDH_P384, ECDH_P521, UnparsedPublicKey};
use aws_lc_rs::digest::{SHA256, digest};
use aws_lc_rs::kem::{DecapsulationKey, ML_KEM_768};
use aws_lc_rs::key_wrap::{AES_256, AesKek, KeyWrap as _};
use aws_lc_rs::rand;
use aws_lc_rs::rsa::{KeySize, OAEP_SHA256_MGF1SHA256, OaepPublicEncryptingKey, PrivateDecryptingKey};
use rcar::{Attestation, Jwe, KeyAlgorithm, Opened, PrivateKey, Tee, Version};
use serde_json::{Value, json};

const ROUNDS: usize = 500;
const RESOURCE: [u8; 1024] = [7; 1024];
const EVIDENCE: &str = include_str!("../../appraisal/tests/vectors/composite/trustee-evidence.json");

fn main() {
    println!("{:<22} {:>10} {:>10} {:>6} {:>10}", "encrypt 1 KiB", "raw µs", "JWE µs", "ratio", "decrypt µs");
    for algorithm in KeyAlgorithm::ALL {
        let (raw, key) = (raw(algorithm), PrivateKey::generate(algorithm).unwrap());
        let encrypted = key.public().encrypt(&RESOURCE).unwrap().to_json().to_string();
        let [raw, jwe, decrypt] = medians([
            &*raw,
            &|| drop(black_box(key.public().encrypt(&RESOURCE).unwrap().to_json().to_string())),
            &|| drop(black_box(key.decrypt(&Jwe::parse(encrypted.as_bytes()).unwrap()).unwrap())),
        ]);
        let ratio = jwe / raw;
        println!("{:<22} {raw:>10.1} {jwe:>10.1} {ratio:>6.2} {decrypt:>10.1}", algorithm.as_str());
    }
    let (body, opened) = attestation();
    let read = || {
        let attestation = Attestation::parse(body.as_bytes(), &opened).unwrap();
        drop(black_box(attestation.pieces()[0].read().unwrap()));
    };
    let [read] = medians([&read]);
    println!("{:<22} {read:>10.1} µs, {} bytes", "read an attestation", body.len());
}

/// The medians of some works that take turns, in microseconds.
fn medians<const N: usize>(works: [&dyn Fn(); N]) -> [f64; N] {
    let mut times = [const { Vec::new() }; N];
    for _ in 0..ROUNDS {
        for (work, times) in works.iter().zip(&mut times) {
            let start = Instant::now();
            work();
            times.push(start.elapsed());
        }
    }
    times.map(|mut times: Vec<Duration>| {
        times.sort();
        times[times.len() / 2].as_secs_f64() * 1e6
    })
}

fn attestation() -> (String, Opened) {
    let key = PrivateKey::generate(KeyAlgorithm::EcdhP256).unwrap();
    let nonce = "pu0/rK3bKTz1hHRHTVYfwcVsGdJqPdXc9y0yFHVkvhw=";
    let evidence: Value = serde_json::from_str(EVIDENCE).unwrap();
    let body = json!({
        "init-data": null,
        "runtime-data": { "nonce": nonce, "tee-pubkey": key.public().to_json() },
        "tee-evidence": { "primary_evidence": evidence, "additional_evidence": "" },
    });
    (body.to_string(), Opened { version: Version::V0_4_0, tee: Tee::Snp, nonce: nonce.into() })
}

/// The cryptography of one JWE and nothing else: no header, no base64, no JSON.
fn raw(algorithm: KeyAlgorithm) -> Box<dyn Fn()> {
    let ecdh = |algorithm: &'static Algorithm| -> Box<dyn Fn()> {
        let theirs = agreement::PrivateKey::generate(algorithm).unwrap().compute_public_key().unwrap();
        Box::new(move || {
            let ephemeral = agreement::PrivateKey::generate(algorithm).unwrap();
            black_box(ephemeral.compute_public_key().unwrap());
            let public = UnparsedPublicKey::new(algorithm, theirs.as_ref());
            let derive = |secret: &[u8]| Ok(digest(&SHA256, secret));
            let key = agreement::agree(&ephemeral, public, (), derive).unwrap();
            let mut wrapped = [0; 40];
            let kek = AesKek::new(&AES_256, key.as_ref()).unwrap();
            black_box(kek.wrap(&seal(), &mut wrapped).unwrap());
        })
    };
    match algorithm {
        KeyAlgorithm::EcdhP256 => ecdh(&ECDH_P256),
        KeyAlgorithm::EcdhP384 => ecdh(&ECDH_P384),
        KeyAlgorithm::EcdhP521 => ecdh(&ECDH_P521),
        KeyAlgorithm::RsaOaep256 => {
            let key = PrivateDecryptingKey::generate(KeySize::Rsa2048).unwrap().public_key();
            let key = OaepPublicEncryptingKey::new(key).unwrap();
            Box::new(move || {
                let mut encrypted = [0; 256];
                black_box(key.encrypt(&OAEP_SHA256_MGF1SHA256, &seal(), &mut encrypted, None).unwrap());
            })
        }
        KeyAlgorithm::MlKem768 => {
            let key = DecapsulationKey::generate(&ML_KEM_768).unwrap().encapsulation_key().unwrap();
            Box::new(move || {
                let (_, secret) = key.encapsulate().unwrap();
                let mut wrapped = [0; 40];
                let kek = AesKek::new(&AES_256, secret.as_ref()).unwrap();
                black_box(kek.wrap(&seal(), &mut wrapped).unwrap());
            })
        }
    }
}

/// Encrypts the resource, and gives the content key.
fn seal() -> [u8; 32] {
    let (mut key, mut iv, mut content) = ([0; 32], [0; 12], RESOURCE.to_vec());
    rand::fill(&mut key).unwrap();
    rand::fill(&mut iv).unwrap();
    let cipher = LessSafeKey::new(UnboundKey::new(&AES_256_GCM, &key).unwrap());
    let nonce = Nonce::assume_unique_for_key(iv);
    let _ = black_box(cipher.seal_in_place_separate_tag(nonce, Aad::empty(), &mut content).unwrap());
    key
}

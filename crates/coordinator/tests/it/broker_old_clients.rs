//! Clients of protocol version 0.1.x, as confidential containers had them until 2024: an RSA key in the attestation,
//! Evidence as text over nonce, modulus and exponent in a row, and a JWE that is not that of RFC 7516.

use aws_lc_rs::{
    aead::{AES_256_GCM, Aad, LessSafeKey, Nonce, UnboundKey},
    encoding::AsDer,
    rsa::{KeySize, Pkcs1PrivateDecryptingKey, PrivateDecryptingKey},
};
use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD as BASE64URL};
use evidence::Platform;
use rcar::HashAlgorithm;
use serde_json::{Value, json};

use crate::{
    broker::{Pod, SECRET, auth, brokering, explained, resource, send, session_of},
    world::people,
};

/// A key pair and its JWK, with the names that the version gives the members.
fn key(names: [&str; 2]) -> (PrivateDecryptingKey, Value) {
    let key = PrivateDecryptingKey::generate(KeySize::Rsa2048).unwrap();
    // SubjectPublicKeyInfo ends with the modulus and the exponent 65537.
    let public = key.public_key().as_der().unwrap();
    let (rest, exponent) = public.as_ref().split_at(public.as_ref().len() - 5);
    assert_eq!(exponent, [2, 3, 1, 0, 1]);
    let modulus = BASE64URL.encode(&rest[rest.len() - 256..]);
    let [n, e] = names;
    (key, json!({ "kty": "RSA", "alg": "RSA1_5", n: modulus, e: "AQAB" }))
}

fn bytes(jwe: &Value, name: &str) -> Vec<u8> {
    BASE64URL.decode(jwe[name].as_str().unwrap()).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn the_first_clients_attest_and_read_what_they_get() {
    let running = brokering().await;
    for (version, names) in [("0.1.0", ["k-mod", "k-exp"]), ("0.1.0", ["n", "e"]), ("0.1.1", ["n", "e"])] {
        let pod = Pod::on(Platform::Snp);
        let (private, jwk) = key(names);
        let challenge = auth(&running, version, pod.tee()).await;
        assert_eq!(challenge.status, 200, "{:?}", challenge.json());
        let (cookie, challenge) = (challenge.cookie(), challenge.json());
        let nonce = challenge["nonce"].as_str().unwrap();
        let row = format!("{nonce}{}AQAB", jwk[names[0]].as_str().unwrap());
        let evidence = pod.evidence(&HashAlgorithm::Sha384.digest(row.as_bytes()));
        // Text at first, JSON since 0.1.1.
        let evidence = if version == "0.1.0" { json!(evidence.to_string()) } else { evidence };
        let body = json!({ "tee-pubkey": jwk, "tee-evidence": evidence });
        let answer = send(&running, &cookie, &body).await;
        assert_eq!(answer.status, 200, "{version}: {:?}", answer.json());

        let answer = resource(&running, &cookie, "default/key/db").await;
        assert_eq!(answer.status, 200, "{version}: {:?}", answer.json());
        let jwe = answer.json();
        assert_eq!(
            (&jwe["protected"], &jwe["tag"]),
            (&json!(r#"{"alg":"RSA1_5","enc":"A256GCM"}"#), &json!(""))
        );
        let mut content_key = [0; 256];
        let private = Pkcs1PrivateDecryptingKey::new(private).unwrap();
        let content_key = private.decrypt(&bytes(&jwe, "encrypted_key"), &mut content_key).unwrap();
        let cipher = LessSafeKey::new(UnboundKey::new(&AES_256_GCM, content_key).unwrap());
        let nonce = Nonce::try_assume_unique_for_key(&bytes(&jwe, "iv")).unwrap();
        let mut content = bytes(&jwe, "ciphertext");
        let content = cipher.open_in_place(nonce, Aad::empty(), &mut content).unwrap();
        assert_eq!(content, SECRET.as_bytes());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn s39_old_clients_evidence_must_cover_their_key_too() {
    let running = brokering().await;
    let pod = Pod::on(Platform::Snp);
    let challenge = auth(&running, "0.1.0", pod.tee()).await;
    let (cookie, challenge) = (challenge.cookie(), challenge.json());
    let nonce = challenge["nonce"].as_str().unwrap();
    let ((_, theirs), (_, ours)) = (key(["n", "e"]), key(["n", "e"]));
    let row = format!("{nonce}{}AQAB", theirs["n"].as_str().unwrap());
    let evidence = pod.evidence(&HashAlgorithm::Sha384.digest(row.as_bytes())).to_string();
    let refused = send(&running, &cookie, &json!({ "tee-pubkey": ours, "tee-evidence": evidence })).await;
    let known = explained(&running, Some(&people().writer), &session_of(&refused)).await;
    assert_eq!(known["codes"], json!(["REPORT_DATA_MISMATCH"]));
}

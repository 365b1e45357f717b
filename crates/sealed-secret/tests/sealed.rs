//! Sealed secrets that others wrote, and what attackers make of them.

use base64::{
    Engine,
    engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD},
};
use rcar::ResourceUri;
use sealed_secret::{
    EnvelopeError, KeyId, KeyIdError, MAX_SEALED, Sealed, SealedError, Secret, SigningKey, VerifyingKey,
};
use serde_json::{Value, json};

/// Made with another library, see its member `made by`.
fn vectors() -> Value {
    serde_json::from_str(include_str!("vectors/sealed.json")).expect("JSON")
}

fn uri(text: &str) -> ResourceUri {
    text.parse().expect("a resource")
}

/// A sealed secret of any header and payload, signed.
fn signed(header: &Value, payload: &[u8], key: &SigningKey) -> String {
    // The crate signs only what it makes itself, so an attacker's signer is another library's.
    let pair = aws_lc_rs::signature::EcdsaKeyPair::from_pkcs8(
        &aws_lc_rs::signature::ECDSA_P256_SHA256_FIXED_SIGNING,
        &key.to_pkcs8().expect("PKCS #8"),
    )
    .expect("a key");
    let text = [header.to_string().as_bytes(), payload].map(|part| URL_SAFE_NO_PAD.encode(part)).join(".");
    let signature = pair.sign(&aws_lc_rs::rand::SystemRandom::new(), text.as_bytes()).expect("a signature");
    format!("sealed.{text}.{}", URL_SAFE_NO_PAD.encode(signature))
}

fn header() -> Value {
    json!({ "alg": "ES256", "kid": "kbs:///default/key/sealing" })
}

fn vault_payload() -> Value {
    json!({ "version": "0.1.0", "type": "vault", "name": "kbs:///one/2/trois", "provider": "kbs",
            "provider_settings": {}, "annotations": {} })
}

#[test]
fn what_another_library_sealed_is_opened() {
    let vectors = vectors();
    let key = VerifyingKey::from_jwk(vectors["jwk"].to_string().as_bytes()).expect("a key");

    let vault = Sealed::parse(vectors["vault"].as_str().expect("text")).expect("a sealed secret");
    assert_eq!(vault.key_id(), &KeyId::Resource(uri("kbs:///default/key/sealing")));
    assert_eq!(vault.verify(&key).expect("verified"), Secret::Vault(uri("kbs:///one/2/trois")));

    let text = format!("{}\n", vectors["envelope"].as_str().expect("text"));
    let envelope = Sealed::parse(&text).expect("a sealed secret");
    assert_eq!(envelope.key_id(), &KeyId::File("sealing.jwk".into()));
    let Secret::Envelope(envelope) = envelope.verify(&key).expect("verified") else { panic!("an envelope") };
    assert_eq!(envelope.key(), &uri("kbs:///one/kek/1"));
    assert_eq!(envelope.open(&[7; 32]).expect("opened").as_slice(), b"open sesame");
    assert_eq!(envelope.open(&[8; 32]), Err(EnvelopeError::Decrypt { what: "key" }));
    assert_eq!(envelope.open(&[7; 16]), Err(EnvelopeError::KeyLength { length: 16 }));
}

#[test]
fn what_we_seal_we_open() {
    let key = SigningKey::generate().expect("a key");
    let kid: KeyId = "sealing.jwk".parse().expect("a name");
    let text = sealed_secret::envelope(b"open sesame", &uri("kbs:///a/kek/1"), &[7; 32], &kid, &key)
        .expect("sealed");
    assert!(!text.contains("sesame"));
    let opened = Sealed::parse(&text).and_then(|sealed| sealed.verify(&key.verifying_key())).expect("opened");
    let Secret::Envelope(envelope) = opened else { panic!("an envelope") };
    assert_eq!(envelope.open(&[7; 32]).expect("opened").as_slice(), b"open sesame");

    let long = vec![0; MAX_SEALED];
    assert!(sealed_secret::envelope(&long, &uri("kbs:///a/kek/1"), &[7; 32], &kid, &key).is_err());
}

#[test]
fn s38_a_change_anywhere_is_refused() {
    let key = SigningKey::generate().expect("a key");
    let text =
        sealed_secret::vault(&uri("kbs:///a/b/c"), &"k".parse().expect("a name"), &key).expect("sealed");
    for index in 0..text.len() {
        let mut bytes = text.clone().into_bytes();
        bytes[index] = if bytes[index] == b'A' { b'B' } else { b'A' };
        let changed = String::from_utf8(bytes).expect("ASCII");
        let opened = Sealed::parse(&changed).and_then(|sealed| sealed.verify(&key.verifying_key()));
        assert!(opened.is_err(), "byte {index}");
    }
    let other = SigningKey::generate().expect("a key");
    let opened = Sealed::parse(&text).and_then(|sealed| sealed.verify(&other.verifying_key()));
    assert!(matches!(opened, Err(SealedError::Signature)));
}

#[test]
fn s38_unsigned_secrets_of_old_releases_are_refused_and_told_why() {
    let payload = URL_SAFE_NO_PAD.encode(vault_payload().to_string());
    let refused =
        Sealed::parse(&format!("sealed.fakejwsheader.{payload}.fakesignature")).expect_err("no signature");
    assert!(matches!(refused, SealedError::Unsigned));
    assert!(refused.to_string().contains("bailey secret seal"));
}

#[test]
fn s38_nothing_in_a_header_decides_about_the_verification() {
    let key = SigningKey::generate().expect("a key");
    let jwk: Value = serde_json::from_str(&key.verifying_key().to_jwk()).expect("JSON");
    let with = |member: &str, value: Value| {
        let mut header = header();
        header[member] = value;
        Sealed::parse(&signed(&header, vault_payload().to_string().as_bytes(), &key))
    };
    for algorithm in ["none", "HS256", "ES384", "es256", ""] {
        assert!(matches!(with("alg", algorithm.into()), Err(SealedError::Algorithm)), "{algorithm}");
    }
    for (member, value) in [
        ("jwk", jwk),
        ("jku", "https://evil.example/jwks".into()),
        ("x5c", json!(["MII"])),
        ("x5u", "https://evil.example/".into()),
        ("crit", json!(["b64"])),
        ("b64", false.into()),
    ] {
        assert!(matches!(with(member, value), Err(SealedError::Member { .. })), "{member}");
    }
    assert!(with("b64", true.into()).is_ok(), "which says what is so anyway");
    assert!(with("typ", "vault".into()).is_ok(), "unknown members are to be ignored");
    assert!(matches!(with("kid", Value::Null), Err(SealedError::NoKeyId)));
    let twice = r#"{"alg":"ES256","kid":"a","kid":"b"}"#;
    let text = format!("sealed.{}.e30.AAAA", URL_SAFE_NO_PAD.encode(twice));
    assert!(matches!(Sealed::parse(&text), Err(SealedError::Header(_))));
}

#[test]
fn s43_a_key_outside_of_its_folder_is_refused() {
    for name in ["../key", "/etc/passwd", "a/b", ".hidden", "", "a\0b", "a b"] {
        assert_eq!(name.parse::<KeyId>(), Err(KeyIdError::File), "{name:?}");
    }
    assert!(matches!("kbs:///../a/b".parse::<KeyId>(), Err(KeyIdError::Resource(_))));
}

#[test]
fn what_was_signed_must_be_a_secret_all_the_same() {
    let key = SigningKey::generate().expect("a key");
    let open = |payload: &str| {
        Sealed::parse(&signed(&header(), payload.as_bytes(), &key))
            .and_then(|sealed| sealed.verify(&key.verifying_key()))
            .expect_err("no secret")
    };
    let changed = |member: &str, value: Value| {
        let mut payload = vault_payload();
        payload[member] = value;
        open(&payload.to_string())
    };
    assert!(matches!(changed("version", "0.2.0".into()), SealedError::Version));
    assert!(matches!(changed("provider", "aliyun".into()), SealedError::Provider));
    assert!(matches!(changed("name", "https://evil.example/".into()), SealedError::Resource(_)));
    assert!(matches!(changed("type", "surprise".into()), SealedError::Payload(_)));
    assert!(matches!(open("no JSON"), SealedError::Payload(_)));

    let envelope = |member: &str, value: Value| {
        let nonce = STANDARD.encode([0; 12]);
        let mut payload = json!({ "version": "0.1.0", "type": "envelope", "provider": "kbs",
            "key_id": "kbs:///a/b/c", "encrypted_key": "", "encrypted_data": "", "wrap_type": "A256GCM", "iv": nonce,
            "provider_settings": {}, "annotations": { "iv": nonce } });
        payload[member] = value;
        open(&payload.to_string())
    };
    let of_envelope = |error| matches!(error, SealedError::Envelope(_));
    assert!(of_envelope(envelope("wrap_type", "A256CTR".into())), "which authenticates nothing");
    assert!(of_envelope(envelope("iv", "AAAA".into())));
    assert!(of_envelope(envelope("annotations", json!({}))));
    assert!(of_envelope(envelope("key_id", "file:///a".into())));
    assert!(of_envelope(envelope("encrypted_data", "%".into())));
}

#[test]
fn texts_that_are_none_are_refused() {
    assert!(matches!(Sealed::parse("a.b.c"), Err(SealedError::NotSealed)));
    assert!(matches!(Sealed::parse("sealed.a.b"), Err(SealedError::Sections { count: 3 })));
    assert!(matches!(Sealed::parse("sealed.a.b.c.d"), Err(SealedError::Sections { count: 5 })));
    assert!(matches!(
        Sealed::parse("sealed.e30=.e30.AAAA"),
        Err(SealedError::Encoding { section: "header" })
    ));
    assert!(matches!(Sealed::parse("sealed.e30.e30.AAAA"), Err(SealedError::Header(_))));
    let long = format!("sealed.{}", "a".repeat(MAX_SEALED));
    assert!(matches!(Sealed::parse(&long), Err(SealedError::TooLong { .. })));
}

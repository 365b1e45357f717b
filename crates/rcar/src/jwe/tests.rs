//! Vectors of RFC 7516 and of another implementation, and everything that must not decrypt.

use aws_lc_rs::encoding::AsDer as _;
use aws_lc_rs::kem::DecapsulationKey;
use aws_lc_rs::rsa::{Pkcs1PrivateDecryptingKey, PrivateDecryptingKey};
use proptest::prelude::*;

use super::*;
use crate::KeyAlgorithm;

const PLAIN: &[u8] = b"Live long and prosper.";

fn made(algorithm: KeyAlgorithm) -> PrivateKey {
    PrivateKey::generate(algorithm).expect("a key")
}

fn sent(key: &PublicKey) -> Value {
    key.encrypt(PLAIN).expect("a JWE").to_json()
}

fn received(key: &PrivateKey, jwe: &Value) -> Result<Vec<u8>, Invalid> {
    Ok(key.decrypt(&Jwe::parse(jwe.to_string().as_bytes())?)?.to_vec())
}

fn header_of(jwe: &Value) -> Value {
    let text = jwe["protected"].as_str().and_then(decode).expect("a header");
    serde_json::from_slice(&text).expect("JSON")
}

/// The message with another header, under which nothing was authenticated.
fn with_header(jwe: &Value, header: &Value) -> Value {
    let mut changed = jwe.clone();
    changed["protected"] = encode(header.to_string()).into();
    changed
}

/// The message encrypted under another header, by someone who knows the content key: what a receiver refuses because
/// of the header alone.
fn honest_with_header(key: &PublicKey, change: impl Fn(&mut serde_json::Map<String, Value>)) -> Value {
    let content_key = [7; CONTENT_KEY];
    let (header, encrypted_key) = wrap_to(&key.kind, &content_key).expect("wrapped");
    let mut header: Value = serde_json::from_str(&header).expect("JSON");
    change(header.as_object_mut().expect("an object"));
    let protected = encode(header.to_string());
    let mut ciphertext = PLAIN.to_vec();
    let nonce = Nonce::assume_unique_for_key([9; IV]);
    let tag = cipher(&content_key)
        .expect("a key")
        .seal_in_place_separate_tag(nonce, Aad::from(protected.as_bytes()), &mut ciphertext)
        .expect("sealed");
    let (encrypted_key, iv) = (encode(encrypted_key), encode([9; IV]));
    let (ciphertext, tag) = (encode(ciphertext), encode(tag));
    json!({ "protected": protected, "encrypted_key": encrypted_key, "iv": iv, "ciphertext": ciphertext, "tag": tag })
}

#[test]
fn the_content_of_rfc_7516_appendix_a_1() {
    let content_key = [
        177, 161, 244, 128, 84, 143, 225, 115, 63, 180, 3, 255, 107, 154, 212, 246, 138, 7, 110, 91, 112, 46,
        34, 105, 47, 130, 203, 46, 122, 234, 64, 252,
    ];
    let ciphertext = "5eym8TW_c8SuK0ltJ3rpYIzOeDQz7TALvtu6UG9oMo4vpzs9tX_EFShS8iB7j6jiSdiwkIr3ajwQzaBtQD_A";
    let iv = decode("48V1_ALb6US04U3b").and_then(|iv| iv.try_into().ok()).expect("an IV");
    let tag = decode("XFBoMYUZodetZdvTiFvSkQ").and_then(|tag| tag.try_into().ok()).expect("a tag");
    let aad = b"eyJhbGciOiJSU0EtT0FFUCIsImVuYyI6IkEyNTZHQ00ifQ";
    let plain =
        open(&content_key, aad, iv, &decode(ciphertext).expect("base64url"), &tag).expect("authentic");
    assert_eq!(plain.as_slice(), b"The true sign of intelligence is not knowledge but imagination.");
}

#[test]
fn messages_of_another_implementation_are_read() {
    // tests/vectors/make.py says whose.
    let vectors: Value = serde_json::from_str(include_str!("../../tests/vectors/jwe.json")).expect("JSON");
    let messages = vectors["messages"].as_array().expect("messages");
    assert_eq!(messages.len(), 5);
    for message in messages {
        let private = message["private"].as_str().and_then(decode).expect("base64url");
        let name = message["alg"].as_str().expect("a name");
        let key = match name {
            "RSA-OAEP-256" => PrivateKey::from_pkcs8(&private),
            "P-256" => PrivateKey::from_scalar(Curve::P256, &private),
            "P-384" => PrivateKey::from_scalar(Curve::P384, &private),
            "P-521" => PrivateKey::from_scalar(Curve::P521, &private),
            "ML-KEM-768+A192KW" => PrivateKey::from_decapsulation_key(&private),
            other => panic!("{other}"),
        };
        assert_eq!(received(&key.expect(name), &message["jwe"]).expect(name), PLAIN, "{name}");
    }
    let bytes =
        |name: &str| hex::decode(vectors["a192kw"][name].as_str().expect("text")).expect("hexadecimal");
    let key = bytes("key").try_into().expect("32 bytes");
    assert_eq!(wrap(&bytes("kek"), &key).expect("wrapped"), bytes("wrapped"));
}

#[test]
fn old_clients_get_the_old_form() {
    // RSA with PKCS #1 v1.5, a header in plain JSON that is not authenticated, the tag at the end of the ciphertext.
    let key = PrivateDecryptingKey::generate(aws_lc_rs::rsa::KeySize::Rsa2048).expect("a key");
    let der = key.as_der().expect("DER");
    let guest = PrivateKey::from_pkcs8(der.as_ref()).expect("a key");
    let mut jwk = guest.public().to_json().clone();
    jwk["alg"] = "RSA1_5".into();
    let public = PublicKey::from_value(jwk).expect("a key");
    let decrypted = |encrypted_key: &Value| {
        let mut output = vec![0; key.key_size_bytes()];
        let encrypted = encrypted_key.as_str().and_then(decode).expect("base64url");
        let key = Pkcs1PrivateDecryptingKey::new(key.clone()).expect("a key");
        key.decrypt(&encrypted, &mut output).expect("decrypted").to_vec()
    };
    let iv =
        |jwe: &Value| jwe["iv"].as_str().and_then(decode).and_then(|iv| iv.try_into().ok()).expect("an IV");

    let old = public.encrypt_for(Version::V0_1_0, PLAIN).expect("a JWE").to_json();
    assert_eq!(old["protected"], r#"{"alg":"RSA1_5","enc":"A256GCM"}"#);
    assert_eq!(old["tag"], "");
    let both = old["ciphertext"].as_str().and_then(decode).expect("base64url");
    let (ciphertext, tag) = both.split_last_chunk::<TAG>().expect("a tag");
    let plain = open(&decrypted(&old["encrypted_key"]), b"", iv(&old), ciphertext, tag).expect("authentic");
    assert_eq!(plain.as_slice(), PLAIN);

    let new = public.encrypt_for(Version::V0_2_0, PLAIN).expect("a JWE").to_json();
    assert_eq!(header_of(&new), json!({ "alg": "RSA1_5", "enc": "A256GCM" }));
    let bytes = |name: &str| new[name].as_str().and_then(decode).expect("base64url");
    let aad = new["protected"].as_str().expect("text").as_bytes();
    let tag = bytes("tag").try_into().expect("a tag");
    let plain = open(&decrypted(&new["encrypted_key"]), aad, iv(&new), &bytes("ciphertext"), &tag);
    assert_eq!(plain.expect("authentic").as_slice(), PLAIN);
    // Our own guests take neither: they never ask for it.
    assert!(received(&guest, &old).is_err());
    assert!(received(&guest, &new).is_err());
}

#[test]
fn headers_are_in_the_order_that_clients_write_them_anew() {
    for (algorithm, start) in [
        (KeyAlgorithm::RsaOaep256, r#"{"alg":"RSA-OAEP-256","enc":"A256GCM"}"#),
        (
            KeyAlgorithm::EcdhP256,
            r#"{"alg":"ECDH-ES+A256KW","enc":"A256GCM","epk":{"crv":"P-256","kty":"EC","x":""#,
        ),
        (KeyAlgorithm::MlKem768, r#"{"alg":"ML-KEM-768+A192KW","enc":"A256GCM","ek":""#),
    ] {
        let jwe = sent(made(algorithm).public());
        let header = jwe["protected"].as_str().and_then(decode).expect("a header");
        assert!(header.starts_with(start.as_bytes()), "{}", String::from_utf8_lossy(&header));
        assert_eq!(jwe.as_object().expect("an object").len(), 5);
    }
}

#[test]
fn s38_a_header_with_other_algorithms_is_refused() {
    for algorithm in KeyAlgorithm::ALL {
        let key = made(algorithm);
        assert_eq!(received(&key, &honest_with_header(key.public(), |_| {})).expect("unchanged"), PLAIN);
        for (name, value) in [
            ("alg", "none"),
            ("alg", "dir"),
            ("alg", "RSA1_5"),
            ("alg", "RSA-OAEP"),
            ("alg", "A256KW"),
            ("alg", "ECDH-ES"),
            ("alg", "ECDH-ES+A128KW"),
            ("alg", "PBES2-HS256+A128KW"),
            ("alg", "ML-KEM-768"),
            ("alg", ""),
            ("enc", "none"),
            ("enc", "A128GCM"),
            ("enc", "A256CBC-HS512"),
            ("enc", "a256gcm"),
        ] {
            let jwe = honest_with_header(key.public(), |header| {
                header.insert(name.into(), value.into());
            });
            assert!(received(&key, &jwe).is_err(), "{algorithm}: {name} {value}");
        }
        for name in ["alg", "enc"] {
            let jwe = honest_with_header(key.public(), |header| {
                header.remove(name);
            });
            assert!(received(&key, &jwe).is_err(), "{algorithm}: no {name}");
        }
    }
}

#[test]
fn s38_a_header_that_says_more_is_refused() {
    let key = made(KeyAlgorithm::EcdhP256);
    for (name, value) in [
        ("zip", json!("DEF")),
        ("crit", json!(["exp"])),
        ("crit", json!([])),
        ("b64", json!(false)),
        ("apu", json!("QWxpY2U")),
        ("apv", json!("Qm9i")),
        ("jwk", key.public().to_json().clone()),
        ("jku", json!("https://attacker.example/")),
        ("x5c", json!([])),
        ("kid", json!("../../key")),
        ("p2c", json!(1)),
        ("ek", json!("AA")),
    ] {
        let jwe = honest_with_header(key.public(), |header| {
            header.insert(name.into(), value.clone());
        });
        assert!(received(&key, &jwe).is_err(), "{name}");
    }
    // Twice the same member: which one counts is anyone's guess.
    let jwe = sent(key.public());
    let text = jwe["protected"].as_str().and_then(decode).and_then(|text| String::from_utf8(text).ok());
    let twice = text.expect("a header").replacen('{', r#"{"alg":"ECDH-ES+A256KW","#, 1);
    let mut changed = jwe.clone();
    changed["protected"] = encode(twice).into();
    assert!(received(&key, &changed).is_err());
}

#[test]
fn s38_an_ephemeral_key_of_another_curve_or_of_none_is_refused() {
    let key = made(KeyAlgorithm::EcdhP256);
    let jwe = sent(key.public());
    let header = header_of(&jwe);
    let other = header_of(&sent(made(KeyAlgorithm::EcdhP384).public()))["epk"].clone();
    let zeros = encode([0; 32]);
    let long =
        encode([&[0][..], &decode(header["epk"]["x"].as_str().expect("x")).expect("base64url")].concat());
    for (what, change) in [
        ("curve P-384", other.clone()),
        ("named P-256", json!({ "kty": "EC", "crv": "P-256", "x": other["x"], "y": other["y"] })),
        ("not on the curve", json!({ "kty": "EC", "crv": "P-256", "x": header["epk"]["x"], "y": zeros })),
        ("zero", json!({ "kty": "EC", "crv": "P-256", "x": zeros, "y": zeros })),
        ("leading zero", json!({ "kty": "EC", "crv": "P-256", "x": long, "y": header["epk"]["y"] })),
        ("no kty", json!({ "crv": "P-256", "x": header["epk"]["x"], "y": header["epk"]["y"] })),
        (
            "a private key",
            json!({ "kty": "EC", "crv": "P-256", "x": header["epk"]["x"], "y": header["epk"]["y"], "d": zeros }),
        ),
        ("text", json!("epk")),
        ("nothing", Value::Null),
    ] {
        let jwe = honest_with_header(key.public(), |header| {
            header.insert("epk".into(), change.clone());
        });
        assert!(received(&key, &jwe).is_err(), "{what}");
    }
}

#[test]
fn s38_a_message_for_another_key_is_refused() {
    for algorithm in KeyAlgorithm::ALL {
        let jwe = sent(made(algorithm).public());
        for other in KeyAlgorithm::ALL {
            assert!(received(&made(other), &jwe).is_err(), "{algorithm} for {other}");
        }
    }
}

#[test]
fn s38_any_change_on_the_way_is_found() {
    for algorithm in KeyAlgorithm::ALL {
        let key = made(algorithm);
        let jwe = sent(key.public());
        assert_eq!(received(&key, &jwe).expect("unchanged"), PLAIN);
        for name in ["encrypted_key", "iv", "ciphertext", "tag"] {
            let bytes = jwe[name].as_str().and_then(decode).expect("base64url");
            for at in [0, bytes.len() / 2, bytes.len() - 1] {
                let mut changed = bytes.clone();
                changed[at] ^= 1;
                let mut jwe = jwe.clone();
                jwe[name] = encode(changed).into();
                assert!(received(&key, &jwe).is_err(), "{algorithm}: {name} at {at}");
            }
            let mut jwe = jwe.clone();
            jwe[name] = encode(&bytes[1..]).into();
            assert!(received(&key, &jwe).is_err(), "{algorithm}: {name} cut");
        }
        // The same header in other words: it is the text that is authenticated.
        let mut header = header_of(&jwe).to_string();
        header.push(' ');
        let mut changed = jwe.clone();
        changed["protected"] = encode(&header).into();
        assert!(received(&key, &changed).is_err(), "{algorithm}");
    }
}

#[test]
fn s38_what_is_not_protected_is_refused() {
    let key = made(KeyAlgorithm::EcdhP256);
    let jwe = sent(key.public());
    for (name, value) in [
        ("header", json!({ "alg": "none" })),
        ("unprotected", json!({ "zip": "DEF" })),
        ("aad", json!("AA")),
        ("recipients", json!([])),
        ("further", Value::Null),
    ] {
        let mut changed = jwe.clone();
        changed[name] = value;
        assert!(received(&key, &changed).is_err(), "{name}");
    }
    for name in ["protected", "encrypted_key", "iv", "ciphertext", "tag"] {
        let mut changed = jwe.clone();
        changed[name] = format!("{}=", changed[name].as_str().expect("text")).into();
        assert!(received(&key, &changed).is_err(), "{name} with padding");
        changed.as_object_mut().expect("an object").remove(name);
        assert!(received(&key, &changed).is_err(), "no {name}");
    }
    assert!(received(&key, &with_header(&jwe, &json!("text"))).is_err());
    assert!(received(&key, &with_header(&jwe, &json!([]))).is_err());
    assert!(Jwe::parse(&vec![b' '; MAX_JWE + 1]).expect_err("long").is_too_long());
}

#[test]
fn a_decapsulation_key_of_another_pair_gives_no_hint() {
    // ML-KEM decapsulates whatever it gets to something (FIPS 203, implicit rejection); key unwrapping fails after.
    let other = DecapsulationKey::generate(&ML_KEM_768).expect("a key");
    let key = PrivateKey { kind: PrivateKind::MlKem(Box::new(other)), ..made(KeyAlgorithm::MlKem768) };
    let jwe = sent(key.public());
    let expected = Invalid::Jwe("it is not encrypted to this key, or was changed on the way");
    assert_eq!(received(&key, &jwe), Err(expected));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(16))]

    #[test]
    fn what_is_encrypted_is_decrypted(plain: Vec<u8>, at in 1usize..KeyAlgorithm::ALL.len()) {
        let key = made(KeyAlgorithm::ALL[at]);
        let jwk = key.public().to_json().to_string();
        let jwe = PublicKey::parse(jwk.as_bytes()).and_then(|key| key.encrypt(&plain)).expect("a JWE").to_json();
        prop_assert_eq!(received(&key, &jwe).expect("decrypted"), plain);
    }

    #[test]
    fn with_rsa_too(plain: Vec<u8>) {
        thread_local!(static KEY: PrivateKey = made(KeyAlgorithm::RsaOaep256));
        KEY.with(|key| {
            let jwe = key.public().encrypt(&plain).expect("a JWE").to_json();
            assert_eq!(received(key, &jwe).expect("decrypted"), plain);
        });
    }
}

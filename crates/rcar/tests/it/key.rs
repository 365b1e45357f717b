//! Keys that are taken and keys that are refused.

use rcar::{KeyAlgorithm, PrivateKey, PublicKey};
use serde_json::{Value, json};

fn jwk(algorithm: KeyAlgorithm) -> Value {
    PrivateKey::generate(algorithm).expect("a key").public().to_json().clone()
}

fn is_taken(jwk: &Value) -> bool {
    PublicKey::parse(jwk.to_string().as_bytes()).is_ok()
}

fn with(jwk: &Value, changes: &[(&str, Value)]) -> Value {
    let mut jwk = jwk.clone();
    for (name, value) in changes {
        jwk[*name] = value.clone();
    }
    jwk
}

#[test]
fn every_kind_is_read_as_written() {
    for algorithm in KeyAlgorithm::ALL {
        let jwk = jwk(algorithm);
        let key = PublicKey::parse(jwk.to_string().as_bytes()).expect("a key");
        assert_eq!(key.to_json(), &jwk);
        assert_eq!(algorithm.as_str().parse(), Ok(algorithm));
    }
    assert!("RSA1_5".parse::<KeyAlgorithm>().is_err(), "only read, never made");
}

#[test]
fn members_that_are_not_known_are_kept_and_private_ones_refused() {
    let jwk = jwk(KeyAlgorithm::EcdhP256);
    let more = with(&jwk, &[("kid", json!("1")), ("use", json!("enc"))]);
    let key = PublicKey::parse(more.to_string().as_bytes()).expect("a key");
    assert_eq!(key.to_json(), &more, "all of it is hashed");
    for name in ["d", "p", "q", "dp", "dq", "qi", "oth", "k", "priv"] {
        assert!(!is_taken(&with(&jwk, &[(name, json!("AA"))])), "{name}");
    }
}

#[test]
fn s38_alg_must_fit_the_key() {
    let kinds = KeyAlgorithm::ALL.map(jwk);
    for own in &kinds {
        for other in &kinds {
            let same = own["alg"] == other["alg"];
            assert_eq!(
                is_taken(&with(own, &[("alg", other["alg"].clone())])),
                same,
                "{} {}",
                own["kty"],
                other["alg"]
            );
            let same = own["kty"] == other["kty"];
            assert_eq!(
                is_taken(&with(own, &[("kty", other["kty"].clone())])),
                same,
                "{} {}",
                own["kty"],
                other["kty"]
            );
        }
        for alg in
            ["none", "dir", "RSA-OAEP", "A256KW", "ECDH-ES", "HS256", "ES256", "ML-KEM-768", "rsa-oaep-256"]
        {
            assert!(!is_taken(&with(own, &[("alg", json!(alg))])), "{alg}");
        }
        for name in ["alg", "kty"] {
            assert!(!is_taken(&with(own, &[(name, Value::Null)])), "{name}");
        }
    }
    assert!(is_taken(&with(&kinds[0], &[("alg", json!("RSA1_5"))])), "old clients ask for it");
}

#[test]
fn s38_points_must_be_on_the_curve_that_is_named() {
    let key = jwk(KeyAlgorithm::EcdhP256);
    for curve in ["P-384", "P-521", "secp256k1", "X25519", "p-256", ""] {
        assert!(!is_taken(&with(&key, &[("crv", json!(curve))])), "{curve}");
    }
    let x = key["x"].as_str().expect("text");
    for (name, value) in [
        ("y", json!(x)),
        ("x", json!(format!("{x}="))),
        ("x", json!(format!("AA{x}"))),
        ("x", json!(&x[4..])),
        ("x", json!("")),
        ("x", json!(1)),
        ("x", json!(format!("+{}", &x[1..]))),
    ] {
        assert!(!is_taken(&with(&key, &[(name, value.clone())])), "{name} {value}");
    }
    let zero = json!("A".repeat(43));
    assert!(!is_taken(&with(&key, &[("x", zero.clone()), ("y", zero)])));
}

#[test]
fn rsa_keys_have_2048_to_8192_bits_and_the_exponent_of_all() {
    let key = jwk(KeyAlgorithm::RsaOaep256);
    let odd = |bytes: usize, first: u8| {
        let mut modulus = vec![0x5b; bytes];
        modulus[0] = first;
        json!(base64(&modulus))
    };
    for (modulus, taken) in [
        (odd(256, 0x80), true),
        (odd(256, 0x7f), false),
        (odd(128, 0xff), false),
        (odd(257, 0), false),
        (odd(1024, 0xff), true),
        (odd(1025, 1), false),
        (odd(2048, 0xff), false),
        (json!(""), false),
        (json!("AA"), false),
    ] {
        assert_eq!(is_taken(&with(&key, &[("n", modulus.clone())])), taken, "{modulus}");
    }
    // 1, 3, 4, 65537 with a leading zero, 65539.
    for exponent in ["AQ", "Aw", "BA", "AAEAAQ", "AQAD", ""] {
        assert!(!is_taken(&with(&key, &[("e", json!(exponent))])), "{exponent}");
    }
}

#[test]
fn the_names_of_the_first_clients_are_taken_but_not_both() {
    let key = jwk(KeyAlgorithm::RsaOaep256);
    let old = json!({ "kty": "RSA", "alg": "RSA1_5", "k-mod": key["n"], "k-exp": key["e"] });
    assert!(is_taken(&old));
    assert!(!is_taken(&with(&old, &[("n", key["n"].clone())])));
}

#[test]
fn encapsulation_keys_are_checked() {
    let key = jwk(KeyAlgorithm::MlKem768);
    let text = key["pub"].as_str().expect("text");
    assert!(!is_taken(&with(&key, &[("pub", json!(&text[4..]))])));
    assert!(!is_taken(&with(&key, &[("pub", json!(format!("{text}AAAA")))])));
    assert!(!is_taken(&with(&key, &[("pub", json!("AA"))])));
}

#[test]
fn what_is_no_key_is_refused() {
    for text in
        ["", "{}", "[]", "null", "\"\"", "{\"kty\":\"oct\",\"k\":\"AA\"}", "{\"kty\":\"EC\",\"kty\":\"RSA\"}"]
    {
        assert!(PublicKey::parse(text.as_bytes()).is_err(), "{text}");
    }
    let long = with(&jwk(KeyAlgorithm::EcdhP256), &[("x-more", json!("a".repeat(rcar::MAX_JWK)))]);
    assert!(PublicKey::parse(long.to_string().as_bytes()).expect_err("long").is_too_long());
}

pub(crate) fn base64(bytes: &[u8]) -> String {
    use base64::Engine as _;
    base64::engine::general_purpose::URL_SAFE_NO_PAD.encode(bytes)
}

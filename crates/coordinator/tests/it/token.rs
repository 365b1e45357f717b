//! Users by OIDC token: what a token must be, rule by rule, and that the client API takes it.

use aws_lc_rs::{
    rand::SystemRandom,
    rsa::KeySize,
    signature::{
        ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, Ed25519KeyPair, KeyPair, RSA_PKCS1_SHA256, RsaKeyPair,
    },
};
use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD as BASE64URL};
use coordinator::core::{Caller, State, write_secrets};
use hyper::{Method, StatusCode};
use serde_json::{Value, json};
use testkit::tee::NOW;

use crate::{
    running::{Running, user},
    world::{code, founded, later, manifest, people, read_secrets, set, step, upload},
};

const ISSUER: &str = "https://issuer.example";
const AUDIENCE: &str = "https://coordinator.example";

/// An OpenID provider.
struct Provider {
    ec: EcdsaKeyPair,
    ed: Ed25519KeyPair,
    rsa: RsaKeyPair,
}

fn encode(bytes: impl AsRef<[u8]>) -> String {
    BASE64URL.encode(bytes)
}

impl Provider {
    fn new() -> Self {
        Self {
            ec: EcdsaKeyPair::generate(&ECDSA_P256_SHA256_FIXED_SIGNING).unwrap(),
            ed: Ed25519KeyPair::generate().unwrap(),
            rsa: RsaKeyPair::generate(KeySize::Rsa2048).unwrap(),
        }
    }

    fn jwks(&self) -> Value {
        let point = self.ec.public_key().as_ref();
        let rsa = self.rsa.public_key();
        let modulus = rsa.modulus().big_endian_without_leading_zero();
        json!({ "keys": [
            { "kty": "EC", "kid": "ec", "crv": "P-256", "x": encode(&point[1..33]), "y": encode(&point[33..]) },
            { "kty": "OKP", "kid": "ed", "crv": "Ed25519", "x": encode(self.ed.public_key()) },
            { "kty": "RSA", "kid": "rsa", "n": encode(modulus), "e": "AQAB" },
        ] })
    }

    fn sign(&self, header: &Value, claims: &Value) -> String {
        let signed = format!("{}.{}", encode(header.to_string()), encode(claims.to_string()));
        let random = SystemRandom::new();
        let signature = match header["kid"].as_str() {
            Some("ed") => self.ed.sign(signed.as_bytes()).as_ref().to_vec(),
            Some("rsa") => {
                let mut signature = vec![0; 256];
                self.rsa.sign(&RSA_PKCS1_SHA256, &random, signed.as_bytes(), &mut signature).unwrap();
                signature
            }
            _ => self.ec.sign(&random, signed.as_bytes()).unwrap().as_ref().to_vec(),
        };
        format!("{signed}.{}", encode(signature))
    }

    fn token(&self, change: impl FnOnce(&mut Value, &mut Value)) -> String {
        let (mut header, mut claims) = (header(), claims());
        change(&mut header, &mut claims);
        self.sign(&header, &claims)
    }

    /// A mesh whose `writer` is known by this provider's tokens.
    fn manifest(&self) -> Value {
        let mut manifest = manifest();
        manifest["Users"]["writer"] = json!({ "Roles": ["write", "read-own"], "Oidc": {
            "Issuer": ISSUER, "Audience": AUDIENCE, "Subject": "repo:team/app", "Jwks": self.jwks(),
        } });
        manifest["Users"]["mail"] = json!({ "Roles": ["write"], "Oidc": {
            "Issuer": ISSUER, "Audience": AUDIENCE, "Jwks": self.jwks(),
            "Claim": { "Name": "email", "Value": "ann@example.com" },
        } });
        manifest
    }

    fn mesh(&self) -> State {
        let state = founded();
        let event = set(&state, &self.manifest()).unwrap();
        step(state, event)
    }
}

fn header() -> Value {
    json!({ "alg": "ES256", "kid": "ec", "typ": "JWT" })
}

fn claims() -> Value {
    json!({
        "iss": ISSUER, "aud": AUDIENCE, "sub": "repo:team/app", "iat": NOW.0, "exp": NOW.0 + 600, "jti": "1",
    })
}

/// What becomes of an upload with this token.
fn outcome(state: &State, token: &str) -> &'static str {
    let caller = match Caller::by_token(state, token, NOW) {
        Ok(caller) => caller,
        Err(refusal) => return refusal.code(),
    };
    code(write_secrets(state, &caller, upload("question", "d2h5Pw=="), NOW))
}

#[test]
fn a_token_is_its_users_proof_with_each_kind_of_key() {
    let provider = Provider::new();
    let state = provider.mesh();
    for (kid, alg) in [("ec", "ES256"), ("ed", "EdDSA"), ("rsa", "RS256")] {
        let token = provider.token(|header, _| {
            header["kid"] = json!(kid);
            header["alg"] = json!(alg);
        });
        assert_eq!(outcome(&state, &token), "accepted", "{alg}");
    }
    let one = provider.token(|_, claims| claims["aud"] = json!([AUDIENCE]));
    assert_eq!(outcome(&state, &one), "accepted");
    // By a claim; and roles are the user's own.
    let mail = provider.token(|_, claims| {
        claims["sub"] = json!("1");
        claims["email"] = json!("ann@example.com");
    });
    assert_eq!(outcome(&state, &mail), "accepted");
    let caller = Caller::by_token(&state, &mail, NOW).unwrap();
    assert_eq!(code(read_secrets(&state, &caller, &["question".into()], NOW)), "NOT_GRANTED");
}

#[test]
fn each_rule_of_tokens_refuses() {
    let provider = Provider::new();
    let state = provider.mesh();
    let at = |seconds: i64| json!(NOW.0 + seconds);
    type Change = Box<dyn FnOnce(&mut Value, &mut Value)>;
    let claim =
        |name: &'static str, value: Value| -> Change { Box::new(move |_, claims| claims[name] = value) };
    let head =
        |name: &'static str, value: Value| -> Change { Box::new(move |header, _| header[name] = value) };
    let times = |iat: i64, exp: i64| -> Change {
        Box::new(move |_, claims| {
            claims["iat"] = json!(NOW.0 + iat);
            claims["exp"] = json!(NOW.0 + exp);
        })
    };
    let cases: Vec<(&str, Change, &str)> = vec![
        ("as it is", Box::new(|_, _| {}), "accepted"),
        ("another issuer", claim("iss", json!("https://issuer.example/")), "TOKEN_ISSUER_UNKNOWN"),
        ("no issuer", claim("iss", Value::Null), "TOKEN_MALFORMED"),
        (
            "another audience",
            claim("aud", json!("https://coordinator.example.org")),
            "TOKEN_AUDIENCE_MISMATCH",
        ),
        ("more audiences", claim("aud", json!([AUDIENCE, "other"])), "TOKEN_AUDIENCE_MISMATCH"),
        ("no audience", claim("aud", json!([])), "TOKEN_AUDIENCE_MISMATCH"),
        ("another subject", claim("sub", json!("repo:team/other")), "USER_UNKNOWN"),
        ("no subject", claim("sub", Value::Null), "USER_UNKNOWN"),
        ("a subject that is a list", claim("sub", json!(["repo:team/app"])), "USER_UNKNOWN"),
        ("two users at once", claim("email", json!("ann@example.com")), "TOKEN_AMBIGUOUS"),
        ("just not expired", times(-900, -299), "accepted"),
        ("expired", times(-900, -300), "TOKEN_EXPIRED"),
        ("just not from the future", times(300, 600), "accepted"),
        ("from the future", times(301, 600), "TOKEN_NOT_YET_VALID"),
        ("not yet", claim("nbf", at(301)), "TOKEN_NOT_YET_VALID"),
        ("an hour", times(0, 3600), "accepted"),
        ("more than an hour", times(0, 3601), "TOKEN_LIFETIME_TOO_LONG"),
        ("no lifetime", times(0, 0), "TOKEN_LIFETIME_TOO_LONG"),
        ("a lifetime beyond numbers", claim("iat", json!(i64::MIN)), "TOKEN_MALFORMED"),
        ("no exp", claim("exp", Value::Null), "TOKEN_MALFORMED"),
        ("no iat", claim("iat", Value::Null), "TOKEN_MALFORMED"),
        ("exp as text", claim("exp", json!((NOW.0 + 60).to_string())), "TOKEN_MALFORMED"),
        ("exp as a fraction", claim("exp", json!(1.9e9)), "TOKEN_MALFORMED"),
        ("another key's name", head("kid", json!("other")), "TOKEN_KEY_UNKNOWN"),
        ("no key's name", head("kid", Value::Null), "TOKEN_MALFORMED"),
        ("another type of token", head("typ", json!("logout+jwt")), "TOKEN_MALFORMED"),
        ("critical extensions", head("crit", json!(["exp"])), "TOKEN_MALFORMED"),
    ];
    for (what, change, expected) in cases {
        assert_eq!(outcome(&state, &provider.token(change)), expected, "{what}");
    }
}

/// The key decides: not `none`, not HMAC with the public key as its secret, not another key's algorithm, and not a key
/// that the token brings along (RFC 8725 §2.1, §3.1).
#[test]
fn algorithm_confusion() {
    let provider = Provider::new();
    let state = provider.mesh();
    for alg in ["none", "None", "HS256", "RS256", "ES384", "EdDSA", "PS256", "es256", ""] {
        let token = provider.token(|header, _| header["alg"] = json!(alg));
        assert_eq!(outcome(&state, &token), "TOKEN_ALGORITHM_MISMATCH", "{alg}");
        let (signed, _) = token.rsplit_once('.').unwrap();
        assert_eq!(outcome(&state, &format!("{signed}.")), "TOKEN_MALFORMED", "{alg} without signature");
    }
    let unsigned = provider.token(|header, _| header["alg"] = json!("HS256"));
    let (signed, _) = unsigned.rsplit_once('.').unwrap();
    for secret in [provider.ec.public_key().as_ref(), provider.rsa.public_key().as_ref()] {
        let key = aws_lc_rs::hmac::Key::new(aws_lc_rs::hmac::HMAC_SHA256, secret);
        let token = format!("{signed}.{}", encode(aws_lc_rs::hmac::sign(&key, signed.as_bytes())));
        assert_eq!(outcome(&state, &token), "TOKEN_ALGORITHM_MISMATCH");
    }
    // Another provider's key, under a name that is known, with the key itself in the header.
    let other = Provider::new();
    let token = other.token(|header, _| header["jwk"] = other.jwks()["keys"][0].clone());
    assert_eq!(outcome(&state, &token), "TOKEN_SIGNATURE_INVALID");
    // The right provider's signature, by another of its keys than the one named.
    let token = provider.token(|header, _| {
        header["kid"] = json!("ed");
        header["alg"] = json!("EdDSA");
    });
    let (signed, signature) = token.rsplit_once('.').unwrap();
    let header_of_ec = encode(header().to_string());
    let renamed = format!("{header_of_ec}.{}.{signature}", signed.split_once('.').unwrap().1);
    assert_eq!(outcome(&state, &renamed), "TOKEN_SIGNATURE_INVALID");
}

#[test]
fn changed_or_mangled_tokens_are_refused() {
    let provider = Provider::new();
    let state = provider.mesh();
    let token = provider.token(|_, _| {});
    let parts: Vec<&str> = token.split('.').collect();
    let later = encode(
        json!({ "iss": ISSUER, "aud": AUDIENCE, "sub": "x", "iat": NOW.0, "exp": NOW.0 + 60 }).to_string(),
    );
    let swapped = format!("{}.{later}.{}", parts[0], parts[2]);
    assert_eq!(outcome(&state, &swapped), "TOKEN_SIGNATURE_INVALID");
    for mangled in [
        String::new(),
        "...".into(),
        "a.b.c".into(),
        parts[..2].join("."),
        format!("{token}.x"),
        format!("{token}="),
        format!(" {token}"),
        format!("{token}{}", "A".repeat(9000)),
        token.replace('.', ".."),
    ] {
        assert_eq!(outcome(&state, &mangled), "TOKEN_MALFORMED", "{mangled:.60}");
    }
}

/// A token that was verified under a manifest is nobody's under one that has its key no more.
#[test]
fn a_key_that_left_the_manifest_proves_nothing() {
    let (provider, other) = (Provider::new(), Provider::new());
    let caller = Caller::by_token(&provider.mesh(), &provider.token(|_, _| {}), NOW).unwrap();
    let refused = write_secrets(&other.mesh(), &caller, upload("question", "d2h5Pw=="), NOW);
    assert_eq!(code(refused), "USER_UNKNOWN");
    assert!(Caller::by_token(&provider.mesh(), &provider.token(|_, _| {}), later(901)).is_err());
}

#[tokio::test(flavor = "multi_thread")]
async fn the_client_api_takes_tokens_and_one_proof_only() {
    let provider = Provider::new();
    let running = Running::start().await;
    let text = provider.manifest().to_string();
    let good = provider.token(|_, _| {});
    let ask = async |who, fields: &[String], path: &str| {
        let answer = running.request_as(who, Method::GET, path, fields).await;
        (answer.status, answer.code().1)
    };
    let bearer = |token: &str| format!("Bearer {token}");
    let secrets = "/api/v2/secrets?s=question";
    // Nobody is the owner by a token, and before the manifest there are no users.
    let (status, word) = ask(None, &[bearer(&good)], secrets).await;
    assert_eq!((status, word.as_str()), (StatusCode::NOT_FOUND, "MANIFEST_NOT_SET"));
    assert_eq!(running.set_manifest(Some(&people().owner), &text).await.status, 200);

    assert_eq!(ask(None, &[bearer(&good)], secrets).await.0, StatusCode::OK);
    assert_eq!(ask(None, &[bearer(&good).replace("Bearer", "bearer")], secrets).await.0, StatusCode::OK);
    let expired = provider.token(|_, claims| {
        claims["iat"] = json!(NOW.0 - 900);
        claims["exp"] = json!(NOW.0 - 600);
    });
    let with_certificate = user(&people().writer);
    for (who, fields, path, expected) in [
        (None, vec![], secrets, "CLIENT_CERTIFICATE_REQUIRED"),
        (None, vec![bearer(&expired)], secrets, "TOKEN_EXPIRED"),
        (None, vec![bearer(&expired)], "/api/v2/status", "TOKEN_EXPIRED"),
        (None, vec![format!("Basic {good}")], secrets, "TOKEN_MALFORMED"),
        (None, vec![good.clone()], secrets, "TOKEN_MALFORMED"),
        (None, vec![bearer(&good), bearer(&good)], secrets, "TOKEN_MALFORMED"),
        (Some(&with_certificate), vec![bearer(&good)], secrets, "PROOFS_CONFLICT"),
    ] {
        let (status, word) = ask(who, &fields, path).await;
        assert_eq!((status, word.as_str()), (StatusCode::UNAUTHORIZED, expected));
    }
    // S-44: a token is as good as a password.
    let logs = String::from_utf8(crate::running::logs().lock().unwrap().clone()).unwrap();
    for token in [&good, &expired] {
        let signature = token.rsplit_once('.').unwrap().1;
        assert!(!logs.contains(signature), "a token is in the log");
    }
}

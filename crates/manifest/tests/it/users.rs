//! Users and roles.

use super::*;

#[test]
fn users_are_known_by_one_leaf_certificate() {
    let pointer = "/Users/bob/Certificate";
    for text in ["x", RSA, &format!("{BOB}{ROOT}"), &BOB.replace("-----END", "----END")] {
        refused(marblerun(), pointer, json!(text), &["Users.bob.Certificate INVALID_CERTIFICATE"]);
    }
    refused(marblerun(), pointer, json!(""), &["Users.bob.Certificate MISSING"]);
    // The same certificate with other line ends is the same user.
    refused(
        marblerun(),
        pointer,
        json!(ALICE.replace('\n', "\r\n")),
        &["Users.bob.Certificate DUPLICATE_VALUE"],
    );
    refused(marblerun(), "/Users/bob/Roles", json!(["riter"]), &["Users.bob.Roles[0] UNKNOWN_REFERENCE"]);
}

#[test]
fn roles_grant_only_what_their_secrets_permit() {
    for (pointer, value, expected) in [
        (
            "/Roles/writer/ResourceNames",
            json!(["own_key"]),
            "Roles.writer.ResourceNames[0] ROLE_NOT_PERMITTED",
        ),
        (
            "/Roles/reader/ResourceNames",
            json!(["own_key"]),
            "Roles.reader.ResourceNames[0] ROLE_NOT_PERMITTED",
        ),
        ("/Roles/reader/ResourceNames", json!(["other"]), "Roles.reader.ResourceNames[0] UNKNOWN_REFERENCE"),
        ("/Roles/reader/Actions", json!(["DropSecret"]), "Roles.reader.Actions[0] INVALID_VALUE"),
        ("/Roles/reader/ResourceType", json!("secrets"), "Roles.reader.ResourceType INVALID_VALUE"),
    ] {
        refused(marblerun(), pointer, value, &[expected]);
    }
    let role = json!({"ResourceType": "Manifest", "ResourceNames": ["x"], "Actions": ["updatemanifest"]});
    refused(marblerun(), "/Roles/new", role, &["Roles.new.ResourceNames NOT_APPLICABLE"]);
    let role = json!({"ResourceType": "Packages", "ResourceNames": ["x"], "Actions": ["Update"]});
    refused(
        marblerun(),
        "/Roles/new",
        role,
        &["Roles.new.ResourceNames[0] UNKNOWN_REFERENCE", "Roles.new.Actions[0] INVALID_VALUE"],
    );
}

#[test]
fn authorisation_is_by_exact_certificate_and_needs_every_secret() {
    let manifest = parse(&marblerun()).expect("a manifest");
    let certificate = |name: &str| match &manifest.users()[name].proof {
        Proof::Certificate(certificate) => certificate.0.clone(),
        Proof::Token(_) => panic!("{name} has no certificate"),
    };
    let (alice, bob) = (certificate("alice"), certificate("bob"));
    let [api, shared] = ["api_key", "shared_key"].map(|name| manifest.secrets()[name].name.clone());
    assert_eq!(manifest.user_by_certificate(&alice).expect("a user").name.as_str(), "alice");
    assert!(manifest.user_by_certificate(&alice[1..]).is_none());
    assert!(manifest.authorised(&alice, Action::WriteSecret, [&api]));
    assert!(manifest.authorised(&alice, Action::ReadSecret, [&shared]));
    assert!(!manifest.authorised(&alice, Action::WriteSecret, [&api, &shared]));
    assert!(!manifest.authorised(&alice, Action::ReadSecret, [&api]));
    assert!(!manifest.authorised(&bob, Action::ReadSecret, [&shared]));
    assert!(!manifest.authorised(b"", Action::ReadSecret, [&shared]));
}

/// One key of each kind: P-256 of RFC 7515 (A.3), Ed25519 of RFC 8037 (A.2), and for RSA a number of the right size.
fn token_user() -> Value {
    let mut manifest = marblerun();
    manifest["Users"]["ci"] = json!({ "Oidc": {
        "Issuer": "https://issuer.example", "Audience": "bailey", "Subject": "repo:a/b",
        "Jwks": { "keys": [
            { "kty": "EC", "kid": "1", "crv": "P-256", "use": "sig", "alg": "ES256",
              "x": "f83OJ3D2xF1Bg8vub9tLe1gHMzV76e8Tus9uPHvRVEU", "y": "x_FEzRu9m36HLN_tue659LNpXW6pCyStikYjKIWI5a0" },
            { "kty": "OKP", "kid": "2", "crv": "Ed25519", "x": "11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo" },
            { "kty": "RSA", "kid": "3", "e": "AQAB", "n": format!("{}w", "v".repeat(341)) },
        ] },
    } });
    manifest
}

#[test]
fn users_may_be_known_by_tokens() {
    let manifest = parse(&token_user()).expect("a manifest");
    let Proof::Token(token) = &manifest.users()["ci"].proof else { panic!("it has a certificate") };
    assert_eq!((token.issuer.as_str(), token.audience.as_str()), ("https://issuer.example", "bailey"));
    let algorithms: Vec<_> = token.keys.iter().map(|key| (key.id.as_str(), key.kind.algorithm())).collect();
    assert_eq!(algorithms, [("1", "ES256"), ("2", "EdDSA"), ("3", "RS256")]);
}

#[test]
fn users_by_tokens_are_strict() {
    for (field, value, expected) in [
        ("Issuer", json!("http://issuer.example"), "Oidc.Issuer INVALID_VALUE"),
        ("Issuer", json!(""), "Oidc.Issuer MISSING"),
        ("Audience", json!(""), "Oidc.Audience MISSING"),
        ("Subject", json!(null), "Oidc MISSING"),
        ("Subject", json!(""), "Oidc.Subject MISSING"),
        ("Claim", json!({ "Name": "email", "Value": "a@b" }), "Oidc CONFLICT"),
        ("Jwks", json!({ "keys": [] }), "Oidc.Jwks.keys MISSING"),
        ("Jwks/keys/0/kid", json!(""), "Oidc.Jwks.keys[0].kid MISSING"),
        ("Jwks/keys/1/kid", json!("1"), "Oidc.Jwks.keys[1].kid DUPLICATE_VALUE"),
        ("Jwks/keys/0/kty", json!("oct"), "Oidc.Jwks.keys[0].kty INVALID_VALUE"),
        ("Jwks/keys/0/k", json!("c2VjcmV0"), "Oidc.Jwks.keys[0].k UNKNOWN_FIELD"),
        ("Jwks/keys/0/d", json!("c2VjcmV0"), "Oidc.Jwks.keys[0].d UNKNOWN_FIELD"),
        ("Jwks/keys/0/use", json!("enc"), "Oidc.Jwks.keys[0].use INVALID_VALUE"),
        ("Jwks/keys/0/alg", json!("HS256"), "Oidc.Jwks.keys[0].alg INVALID_VALUE"),
        ("Jwks/keys/0/alg", json!("none"), "Oidc.Jwks.keys[0].alg INVALID_VALUE"),
        ("Jwks/keys/0/crv", json!("P-384"), "Oidc.Jwks.keys[0].crv INVALID_VALUE"),
        ("Jwks/keys/0/x", json!("AAAA"), "Oidc.Jwks.keys[0].x INVALID_VALUE"),
        ("Jwks/keys/0/n", json!("AAAA"), "Oidc.Jwks.keys[0].n NOT_APPLICABLE"),
        ("Jwks/keys/1/y", json!("AAAA"), "Oidc.Jwks.keys[1].y NOT_APPLICABLE"),
        ("Jwks/keys/2/n", json!("v".repeat(168)), "Oidc.Jwks.keys[2].n INVALID_VALUE"),
        ("Jwks/keys/2/e", json!("Aw"), "Oidc.Jwks.keys[2].e INVALID_VALUE"),
    ] {
        let expected = format!("Users.ci.{expected}");
        refused(token_user(), &format!("/Users/ci/Oidc/{field}"), value, &[&expected]);
    }
    let mut claim = token_user();
    claim["Users"]["ci"]["Oidc"]["Subject"].take();
    for name in ["iss", "sub", "aud", "exp"] {
        let claim_of = json!({ "Name": name, "Value": "x" });
        let expected = ["Users.ci.Oidc.Claim.Name INVALID_VALUE"];
        refused(claim.clone(), "/Users/ci/Oidc/Claim", claim_of, &expected);
    }
    let certificate = marblerun()["Users"]["alice"]["Certificate"].clone();
    refused(token_user(), "/Users/ci/Certificate", certificate, &["Users.ci.Oidc CONFLICT"]);
    let twin = token_user()["Users"]["ci"].clone();
    refused(token_user(), "/Users/di", twin, &["Users.di.Oidc DUPLICATE_VALUE"]);
}

//! Attestation tokens: each rule by which one is refused (S-38), and who may sign them (S-07).

use appraisal::UnixTime;
use attestation_result::coco::{
    About, Emulation, Expected, Issue, MAX_TOKEN, PROFILE, PublishedKey, SIGNER_OID, Untrusted, Unverified,
    Verified, Verifier, issuer_of, jwks, sign,
};
use attestation_result::{SigningKey, Tier, TokenError};
use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair};
use base64::Engine;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use evidence::Platform;
use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose,
};
use serde_json::{Value, json};

const NOW: i64 = 1_800_000_000;
const AUDIENCE: &str = "https://db.example";

/// A mesh's root and intermediate, and a token signer below.
struct Mesh {
    root: Vec<u8>,
    intermediate: (Vec<u8>, KeyPair),
    pair: KeyPair,
    leaf: Vec<u8>,
}

fn params(name: &str) -> CertificateParams {
    let mut params = CertificateParams::default();
    params.not_before = time::OffsetDateTime::from_unix_timestamp(NOW - 1000).unwrap();
    params.not_after = time::OffsetDateTime::from_unix_timestamp(NOW + 100_000).unwrap();
    params.distinguished_name.push(DnType::CommonName, name);
    params
}

fn authority(name: &str, below: u8) -> CertificateParams {
    let mut params = params(name);
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(below));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign];
    params
}

fn signer(purposes: Vec<ExtendedKeyUsagePurpose>) -> CertificateParams {
    let mut params = params("signer");
    params.is_ca = IsCa::ExplicitNoCa;
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.extended_key_usages = purposes;
    params
}

fn role() -> Vec<ExtendedKeyUsagePurpose> {
    vec![ExtendedKeyUsagePurpose::Other(SIGNER_OID.to_vec())]
}

impl Mesh {
    fn new() -> Self {
        let (root_key, key, pair) =
            (KeyPair::generate().unwrap(), KeyPair::generate().unwrap(), KeyPair::generate().unwrap());
        let root = authority("root", 1).self_signed(&root_key).unwrap().der().to_vec();
        let by_root = Issuer::from_ca_cert_der(&root.clone().into(), root_key).unwrap();
        let intermediate = authority("epoch 1", 0).signed_by(&key, &by_root).unwrap().der().to_vec();
        let mut mesh = Self { root, intermediate: (intermediate, key), pair, leaf: Vec::new() };
        mesh.leaf = mesh.certify(signer(role()));
        mesh
    }

    fn certify(&self, params: CertificateParams) -> Vec<u8> {
        let (certificate, key) = &self.intermediate;
        let issuer = Issuer::from_ca_cert_der(&certificate.clone().into(), key).unwrap();
        params.signed_by(&self.pair, &issuer).unwrap().der().to_vec()
    }

    fn key(&self) -> SigningKey {
        SigningKey::from_pkcs8(&self.pair.serialize_der()).unwrap()
    }

    fn chain(&self) -> Vec<Vec<u8>> {
        vec![self.leaf.clone(), self.intermediate.0.clone()]
    }

    fn issuer(&self) -> String {
        issuer_of(&self.root)
    }

    fn issue(&self) -> Issue {
        Issue {
            issuer: self.issuer(),
            audiences: vec![self.issuer(), AUDIENCE.into()],
            subject: "urn:bailey:session:1".into(),
            id: "2".into(),
            issued: UnixTime(NOW),
            expires: UnixTime(NOW + 300),
            about: About {
                tee: "snp".into(),
                platform: Some(Platform::Snp),
                init_data: None,
                emulated: false,
                attested: UnixTime(NOW),
            },
        }
    }

    fn token(&self) -> String {
        sign(&claims(), &self.issue(), &self.key(), &self.chain()).unwrap()
    }

    fn header(&self) -> Value {
        let chain: Vec<_> = self.chain().iter().map(|it| STANDARD.encode(it)).collect();
        json!({ "alg": "ES256", "typ": "JWT", "kid": self.key().id(), "x5c": chain })
    }

    fn verifier(&self) -> Verifier {
        Verifier::with_root(self.root.clone(), AUDIENCE).unwrap()
    }

    /// The text of header and claims as they stand, signed.
    fn signed(&self, header: &str, claims: &str) -> String {
        let signed = format!("{}.{}", URL_SAFE_NO_PAD.encode(header), URL_SAFE_NO_PAD.encode(claims));
        let pair =
            EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, &self.pair.serialize_der()).unwrap();
        let signature = pair.sign(&SystemRandom::new(), signed.as_bytes()).unwrap();
        format!("{signed}.{}", URL_SAFE_NO_PAD.encode(signature.as_ref()))
    }

    /// A token of ours whose header and claims were changed before it was signed.
    fn changed(&self, change: impl FnOnce(&mut Value, &mut Value)) -> String {
        let (mut header, mut claims) = (self.header(), claims_of(&self.token()));
        change(&mut header, &mut claims);
        self.signed(&header.to_string(), &claims.to_string())
    }

    fn verify(&self, token: &str) -> Result<Verified, Untrusted> {
        self.verifier().verify(token, UnixTime(NOW + 1))
    }

    /// As the mesh itself reads it: by a key that it has.
    fn verify_own(&self, token: &str) -> Result<Verified, Untrusted> {
        let (issuer, now) = (self.issuer(), UnixTime(NOW + 1));
        let expected = Expected { issuer: &issuer, audience: &issuer, now };
        Unverified::parse(token)?.verify(&self.key().verifying_key(), &expected)
    }
}

fn claims_of(token: &str) -> Value {
    serde_json::from_slice(&URL_SAFE_NO_PAD.decode(token.split('.').nth(1).unwrap()).unwrap()).unwrap()
}

fn tee_pubkey() -> Value {
    json!({ "kty": "EC", "crv": "P-256", "alg": "ECDH-ES+A256KW", "x": "eA", "y": "eQ" })
}

fn claims() -> Value {
    json!({
        "eat_profile": PROFILE,
        "ear.verifier-id": { "developer": "Example Ltd.", "build": "bailey 0.1.0" },
        "submods": { "cpu0": {
            "ear.status": "affirming",
            "ear.veraison.annotated-evidence": {
                "snp": { "policy_debug_allowed": false },
                "runtime_data_claims": { "nonce": "bg==", "tee-pubkey": tee_pubkey() },
            },
        } },
        "bailey": { "mesh": "aa", "epoch": 1, "manifest": "bb", "packages": ["kata"], "emulated": false },
    })
}

#[test]
fn a_relying_party_needs_the_root_and_nothing_else() {
    let mesh = Mesh::new();
    let token = mesh.token();
    let verified = mesh.verify(&token).unwrap();
    assert_eq!(verified.mesh().packages, ["kata"]);
    assert_eq!(verified.status(), Tier::Affirming);
    assert_eq!(Value::Object(verified.key().clone()), tee_pubkey());
    assert_eq!(verified.issue(), &mesh.issue());
    assert_eq!(verified.claims(), &claims(), "what was signed, without what says who signed it");
    assert!(mesh.verify_own(&token).is_ok());

    let header: Value =
        serde_json::from_slice(&URL_SAFE_NO_PAD.decode(token.split('.').next().unwrap()).unwrap()).unwrap();
    assert_eq!(header, mesh.header());
    assert_eq!(claims_of(&token)["cnf"]["jwk"], tee_pubkey());
    for name in ["iss", "aud", "sub", "jti", "iat", "nbf", "exp"] {
        assert!(claims_of(&token).get(name).is_some(), "{name}");
    }
}

#[test]
fn pinned_keys_do_as_well_as_the_root() {
    let (mesh, stranger) = (Mesh::new(), Mesh::new());
    let published = |mesh: &Mesh| PublishedKey { key: mesh.key().verifying_key(), chain: mesh.chain() };
    let set = jwks([published(&stranger), published(&mesh)]);
    let with = |set: &Value| Verifier::with_jwks(set.to_string().as_bytes(), mesh.issuer(), AUDIENCE);
    let now = UnixTime(NOW + 1);
    assert!(with(&set).unwrap().verify(&mesh.token(), now).is_ok());
    let without = jwks([published(&stranger)]);
    assert_eq!(with(&without).unwrap().verify(&mesh.token(), now), Err(Untrusted::Key));

    let mut renamed = set.clone();
    renamed["keys"][0]["kid"] = renamed["keys"][1]["kid"].clone();
    assert!(with(&renamed).is_err(), "a key under another key's id");
    assert!(with(&json!({ "keys": [] })).is_err());
    assert!(with(&json!({ "keys": [{ "kty": "RSA", "n": "AQAB", "e": "AQAB", "kid": "k" }] })).is_err());
    let twice = set.to_string().replacen('{', r#"{"keys":[],"#, 1);
    assert!(Verifier::with_jwks(twice.as_bytes(), mesh.issuer(), AUDIENCE).is_err());
}

/// As Trustee's key broker does with its `trusted_jwk_sets`, by the library that it uses.
#[test]
fn another_implementation_takes_the_published_keys() {
    let mesh = Mesh::new();
    let set = jwks([PublishedKey { key: mesh.key().verifying_key(), chain: mesh.chain() }]);
    let set: jsonwebtoken::jwk::JwkSet = serde_json::from_value(set).unwrap();
    let token = mesh.token();
    let header = jsonwebtoken::decode_header(&token).unwrap();
    let key = set.find(header.kid.as_deref().unwrap()).unwrap();
    let mut validation = jsonwebtoken::Validation::new(header.alg);
    // Its clock is not ours.
    (validation.validate_exp, validation.validate_aud) = (false, false);
    let key = jsonwebtoken::DecodingKey::from_jwk(key).unwrap();
    let found = jsonwebtoken::decode::<Value>(&token, &key, &validation).unwrap();
    assert_eq!(found.claims, claims_of(&token));
}

#[test]
fn s38_no_algorithm_but_that_of_the_key() {
    let mesh = Mesh::new();
    let parts = |alg: &str| mesh.changed(|header, _| header["alg"] = json!(alg));
    for alg in ["none", "None", "HS256", "RS256", "ES384", "ES256K", "EdDSA", ""] {
        let token = parts(alg);
        assert_eq!(mesh.verify(&token), Err(Untrusted::Algorithm(alg.into())));
        assert!(mesh.verify_own(&token).is_err());
    }
    // Without a signature, and with the public key as the secret of an HMAC.
    let token = parts("none");
    let unsigned = format!("{}.", token.rsplit_once('.').unwrap().0);
    assert!(mesh.verify(&unsigned).is_err());
    let hs = parts("HS256");
    let signed = hs.rsplit_once('.').unwrap().0;
    let secret = aws_lc_rs::hmac::Key::new(aws_lc_rs::hmac::HMAC_SHA256, mesh.key().verifying_key().point());
    let tag = aws_lc_rs::hmac::sign(&secret, signed.as_bytes());
    assert!(mesh.verify_own(&format!("{signed}.{}", URL_SAFE_NO_PAD.encode(tag))).is_err());
}

#[test]
fn s38_keys_and_places_in_the_header_are_refused_whether_they_differ_or_not() {
    let (mesh, stranger) = (Mesh::new(), Mesh::new());
    let own = jwks([PublishedKey { key: mesh.key().verifying_key(), chain: vec![] }])["keys"][0].clone();
    let theirs =
        jwks([PublishedKey { key: stranger.key().verifying_key(), chain: vec![] }])["keys"][0].clone();
    for (member, value) in [
        ("jwk", own),
        ("jwk", theirs),
        ("jku", json!("https://evil.example/jwks.json")),
        ("x5u", json!("https://evil.example/chain.pem")),
        ("x5t#S256", json!("AAAA")),
        ("crit", json!(["exp"])),
        ("b64", json!(false)),
        ("zip", json!("DEF")),
        ("cty", json!("JWT")),
    ] {
        let token = mesh.changed(|header, _| header[member] = value);
        for found in [mesh.verify(&token), mesh.verify_own(&token)] {
            assert!(matches!(found, Err(Untrusted::Header(_))), "{member}: {found:?}");
        }
    }
    let token = mesh.changed(|header, _| header["typ"] = json!("at+jwt"));
    assert!(matches!(mesh.verify_own(&token), Err(Untrusted::Header(_))));
}

#[test]
fn s38_certificates_in_the_header_must_be_those_of_the_key() {
    let (mesh, stranger) = (Mesh::new(), Mesh::new());
    // A stranger signs with a chain of its own: whole, correct, and not below the root.
    let claims = claims_of(&mesh.token()).to_string();
    let forged = stranger.signed(&stranger.header().to_string(), &claims);
    assert!(matches!(mesh.verify(&forged), Err(Untrusted::Chain(_))));
    assert_eq!(mesh.verify_own(&forged), Err(Untrusted::Key));
    // The same under the mesh's key id.
    let mut header = stranger.header();
    header["kid"] = json!(mesh.key().id());
    let forged = stranger.signed(&header.to_string(), &claims);
    assert!(matches!(mesh.verify_own(&forged), Err(Untrusted::Chain(_))));
    // The mesh's chain over a stranger's signature.
    let forged = stranger.signed(&mesh.header().to_string(), &claims);
    assert_eq!(mesh.verify(&forged), Err(Untrusted::Signature));
    assert_eq!(mesh.verify_own(&forged), Err(Untrusted::Signature));
    // The mesh's key with a certificate of another.
    let theirs = mesh.changed(|header, _| header["x5c"] = stranger.header()["x5c"].clone());
    assert!(matches!(mesh.verify_own(&theirs), Err(Untrusted::Chain(_))));
    // No chain: the mesh itself has the key, who has the root only has nothing to go by.
    let none = mesh.changed(|header, _| header["x5c"] = json!([]));
    assert!(mesh.verify_own(&none).is_ok());
    assert!(matches!(mesh.verify(&none), Err(Untrusted::Chain(_))));
    let many = mesh.changed(|header, _| header["x5c"] = json!(["AA==", "AA==", "AA==", "AA=="]));
    assert!(matches!(mesh.verify_own(&many), Err(Untrusted::Header(_))));
}

#[test]
fn s07_no_other_certificate_of_the_mesh_signs_tokens() {
    let mesh = Mesh::new();
    let with = |params: CertificateParams| {
        let leaf = STANDARD.encode(mesh.certify(params));
        let token = mesh.changed(|header, _| header["x5c"][0] = json!(leaf));
        mesh.verify(&token)
    };
    assert!(with(signer(role())).is_ok());
    // A service, a Marble, a secret that the manifest lets be for anything or for nothing.
    let mut both = role();
    both.push(ExtendedKeyUsagePurpose::ServerAuth);
    for purposes in [
        vec![ExtendedKeyUsagePurpose::ServerAuth],
        vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth],
        vec![ExtendedKeyUsagePurpose::Any],
        vec![],
        both,
    ] {
        let found = with(signer(purposes.clone()));
        assert!(matches!(found, Err(Untrusted::Chain(_))), "{purposes:?}: {found:?}");
    }
    // A CA is no signer, and neither is one whose time is over.
    let mut ca = authority("no leaf", 0);
    ca.extended_key_usages = role();
    assert!(matches!(with(ca), Err(Untrusted::Chain(_))));
    let mut over = signer(role());
    over.not_after = time::OffsetDateTime::from_unix_timestamp(NOW).unwrap();
    assert!(matches!(with(over), Err(Untrusted::Chain(_))));
}

#[test]
fn s38_key_ids_are_no_paths() {
    let mesh = Mesh::new();
    let good = mesh.key().id().to_owned();
    for kid in [
        "../../../../dev/null".to_owned(),
        "/etc/ssl/key.pem".into(),
        "0' OR '1'='1".into(),
        "00112233445566778899aabbccddeeff".into(),
        good.to_uppercase(),
        format!("{good}\0"),
        String::new(),
        good[1..].into(),
        "a".repeat(40_000),
    ] {
        let token = mesh.changed(|header, _| header["kid"] = json!(kid));
        for found in [mesh.verify(&token), mesh.verify_own(&token)] {
            assert!(matches!(found, Err(Untrusted::Key | Untrusted::TooLong { .. })), "{kid}: {found:?}");
        }
    }
    for value in [json!(null), json!(7), json!([good])] {
        let token = mesh.changed(|header, _| header["kid"] = value);
        assert!(mesh.verify_own(&token).is_err());
    }
    let token = mesh.changed(|header, _| drop(header.as_object_mut().unwrap().remove("kid")));
    assert!(mesh.verify_own(&token).is_err());
}

#[test]
fn s38_nothing_is_said_twice() {
    let mesh = Mesh::new();
    let (header, claims) = (mesh.header().to_string(), claims_of(&mesh.token()).to_string());
    let twice = |text: &str, member: &str| text.replacen('{', &format!("{{{member},"), 1);
    assert!(mesh.verify_own(&mesh.signed(&header, &claims)).is_ok());
    for (header, claims) in [
        (twice(&header, r#""alg":"none""#), claims.clone()),
        (twice(&header, r#""kid":"00112233445566778899aabbccddeeff""#), claims.clone()),
        (header.clone(), twice(&claims, r#""exp":9999999999"#)),
        (header.clone(), twice(&claims, r#""iss":"urn:other""#)),
        (header.clone(), twice(&claims, r#""other":1,"other":2"#)),
        (header.clone(), claims.replacen(r#""ear.status""#, r#""ear.status":"affirming","ear.status""#, 1)),
        (header.clone(), format!("{claims}{{}}")),
    ] {
        let found = mesh.verify_own(&mesh.signed(&header, &claims));
        assert!(matches!(found, Err(Untrusted::Malformed(_))), "{header} {claims}: {found:?}");
    }
}

#[test]
fn s38_time_is_that_of_who_reads() {
    let mesh = Mesh::new();
    let token = mesh.token();
    let at = |now| mesh.verifier().verify(&token, UnixTime(now));
    assert!(at(NOW - 60).is_ok(), "clocks differ a little");
    assert!(matches!(at(NOW - 61), Err(Untrusted::NotYet { .. })));
    assert!(at(NOW + 299).is_ok());
    assert!(matches!(at(NOW + 300), Err(Untrusted::Expired { .. })), "and nothing is added to the end");
    assert!(at(i64::MAX).is_err() && at(i64::MIN).is_err());

    let claim = |name: &str, value: Value| mesh.verify_own(&mesh.changed(|_, claims| claims[name] = value));
    assert!(matches!(claim("nbf", json!(NOW + 100)), Err(Untrusted::NotYet { .. })));
    assert!(matches!(claim("iat", json!(NOW + 100)), Err(Untrusted::NotYet { .. })));
    assert!(matches!(claim("exp", json!(NOW)), Err(Untrusted::Lifetime { .. })));
    // S-13: for no longer than a day, whoever signed it.
    assert!(matches!(claim("exp", json!(NOW + 24 * 60 * 60 + 1)), Err(Untrusted::Lifetime { .. })));
    assert!(matches!(claim("iat", json!(i64::MIN)), Err(Untrusted::Lifetime { .. })));
    for name in ["exp", "nbf", "iat", "iss", "aud", "sub", "jti"] {
        let without = mesh.changed(|_, claims| drop(claims.as_object_mut().unwrap().remove(name)));
        assert!(matches!(mesh.verify_own(&without), Err(Untrusted::Malformed(_))), "{name}");
        for value in [json!(null), json!(1.5), json!({})] {
            assert!(claim(name, value).is_err(), "{name}");
        }
    }
}

#[test]
fn s38_who_issued_it_and_for_whom() {
    let (mesh, stranger) = (Mesh::new(), Mesh::new());
    let claim = |name: &str, value: Value| mesh.verify(&mesh.changed(|_, claims| claims[name] = value));
    assert!(matches!(claim("iss", json!(stranger.issuer())), Err(Untrusted::Issuer { .. })));
    assert!(matches!(claim("iss", json!("")), Err(Untrusted::Issuer { .. })));
    for audience in [json!("https://other.example"), json!([]), json!(["https://db.example/"]), json!("")] {
        assert!(matches!(claim("aud", audience), Err(Untrusted::Audience { .. })));
    }
    assert!(claim("aud", json!(AUDIENCE)).is_ok());
    // Another mesh's, as it is.
    assert!(mesh.verify(&stranger.token()).is_err());
    assert!(claim("eat_profile", json!("tag:ietf.org,2026:rats/ear#04")).is_err());
}

#[test]
fn s38_a_token_is_bound_to_the_key_that_the_evidence_covers() {
    let mesh = Mesh::new();
    let other = json!({ "kty": "EC", "crv": "P-256", "alg": "ECDH-ES+A256KW", "x": "eA", "y": "eg" });
    let changed = |change: &dyn Fn(&mut Value)| mesh.verify(&mesh.changed(|_, claims| change(claims)));
    let found = changed(&|claims| claims["cnf"]["jwk"] = other.clone());
    assert_eq!(found, Err(Untrusted::Unbound));
    let found = changed(&|claims| {
        claims["submods"]["cpu0"]["ear.veraison.annotated-evidence"]["runtime_data_claims"] = json!({});
    });
    assert_eq!(found, Err(Untrusted::Unbound));
    assert!(changed(&|claims| drop(claims.as_object_mut().unwrap().remove("cnf"))).is_err());
    assert!(changed(&|claims| claims["cnf"] = json!({})).is_err());
    assert!(changed(&|claims| claims["cnf"] = json!({ "kid": "k" })).is_err());
    let mut unbound = claims();
    unbound["submods"] = json!({});
    assert_eq!(sign(&unbound, &mesh.issue(), &mesh.key(), &mesh.chain()), Err(TokenError::Claims));
}

#[test]
fn s38_nothing_too_long_is_read_and_nothing_too_long_is_made() {
    let mesh = Mesh::new();
    let long = mesh.changed(|_, claims| claims["more"] = json!("x".repeat(MAX_TOKEN)));
    assert_eq!(mesh.verify_own(&long), Err(Untrusted::TooLong { length: long.len() }));
    let mut claims = claims();
    claims["more"] = json!("x".repeat(MAX_TOKEN));
    assert_eq!(sign(&claims, &mesh.issue(), &mesh.key(), &mesh.chain()), Err(TokenError::TooLong));
    for seconds in [0, -1, 24 * 60 * 60 + 1] {
        let issue = Issue { expires: UnixTime(NOW + seconds), ..mesh.issue() };
        assert_eq!(sign(&self::claims(), &issue, &mesh.key(), &mesh.chain()), Err(TokenError::Lifetime));
    }
}

#[test]
fn s38_what_is_altered_is_not_signed() {
    let mesh = Mesh::new();
    let token = mesh.token();
    for at in (0..token.len()).step_by(7) {
        let mut altered = token.clone().into_bytes();
        altered[at] = if altered[at] == b'A' { b'B' } else { b'A' };
        let altered = String::from_utf8(altered).unwrap();
        assert!(mesh.verify_own(&altered).is_err(), "{at}");
    }
    for cut in (0..token.len()).step_by(13) {
        assert!(mesh.verify_own(&token[..cut]).is_err());
    }
    // Another encoding of the same bytes, and more parts.
    for other in [
        format!("{token}="),
        format!("{token}."),
        format!(".{token}"),
        format!("{token}.AA"),
        token.replace('.', ".."),
    ] {
        assert!(mesh.verify_own(&other).is_err());
    }
    assert!(mesh.verify(&format!("{token}\n")).is_ok(), "a file ends with a line's end");
}

#[test]
fn emulated_and_contraindicated_are_not_believed_unasked() {
    let mesh = Mesh::new();
    let emulated = mesh.changed(|_, claims| claims["bailey"]["emulated"] = json!(true));
    assert_eq!(mesh.verify(&emulated), Err(Untrusted::Emulated));
    let accepting = mesh.verifier().emulation(Emulation::Accepted);
    assert!(accepting.verify(&emulated, UnixTime(NOW + 1)).is_ok());
    let refused =
        mesh.changed(|_, claims| claims["submods"]["gpu0"] = json!({ "ear.status": "contraindicated" }));
    assert_eq!(accepting.verify(&refused, UnixTime(NOW + 1)), Err(Untrusted::Contraindicated));
    for root in [vec![], vec![0x30, 0], mesh.root[..100].to_vec()] {
        assert!(Verifier::with_root(root, AUDIENCE).is_err());
    }
}

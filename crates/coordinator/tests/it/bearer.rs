//! Attestation tokens: what guests get for their Evidence, who may sign them and for how long, what they are worth here,
//! and what they are worth to relying parties that have the mesh's root and nothing else.

use attestation_result::{
    SigningKey,
    coco::{self, Emulation, Issue, Untrusted, Verified, Verifier},
};
use coordinator::core::{
    Event, IdentityKey, State,
    broker::{
        guest::Guest,
        token::{NotBelieved, bearer, issue, issuer},
    },
    recovered,
};
use evidence::Platform;
use hyper::Method;
use rcar::{KeyAlgorithm, PrivateKey};
use serde_json::{Value, json};
use testkit::tee::NOW;

use crate::{
    broker::{Answer, Pod, SECRET, brokered, brokering, call, under},
    broker_sessions::{admitted, state},
    running::Running,
    update::{updatable, updated},
    world::{founded, identity, later, running, set, step},
};

const NONCE: [u8; 32] = [7; 32];
const DATABASE: &str = "https://db.example";

fn guest(state: &State) -> (Pod, Guest) {
    let pod = Pod::on(Platform::Snp);
    let guest = admitted(state, &pod, &NONCE).unwrap_or_else(|why| panic!("{}", why.reason));
    (pod, guest)
}

/// [`updatable`] with the broker of [`brokered`].
fn updatable_broker() -> Value {
    let (mut text, brokered) = (updatable(), brokered());
    for section in ["Packages", "Platforms", "Broker"] {
        text[section] = brokered[section].clone();
    }
    text["Secrets"]["db"] = brokered["Secrets"]["db"].clone();
    text
}

/// A relying party that trusts a mesh by its root, and takes emulated TEEs as these tests' are.
fn relying_party(root: &[u8], audience: &str) -> Verifier {
    Verifier::with_root(root, audience).unwrap().emulation(Emulation::Accepted)
}

fn believed(state: &State, token: &str) -> Result<Verified, Untrusted> {
    relying_party(state.root().certificate(), &issuer(state)).verify(token, NOW)
}

#[test]
fn a_token_makes_the_same_guest_of_whoever_shows_it() {
    let state = state(&brokered());
    let (pod, guest) = guest(&state);
    let token = issue(&state, &guest, NOW).unwrap();
    let bearer = bearer(&state, &token, later(1)).unwrap();
    assert_eq!(bearer.session(), guest.session());
    assert_eq!((bearer.tee(), bearer.platform()), (guest.tee(), guest.platform()));
    assert_eq!((bearer.packages(), bearer.emulated()), (guest.packages(), guest.emulated()));
    assert_eq!((bearer.epoch(), bearer.manifest()), (guest.epoch(), guest.manifest()));
    assert_eq!((bearer.claims(), bearer.init_data()), (guest.claims(), guest.init_data()));
    assert_eq!(bearer.attested_at(), guest.attested_at());
    assert_eq!(bearer.key().to_json(), pod.key.public().to_json());
    assert_eq!(bearer.expires(), later(300), "five minutes, unless the manifest says otherwise");
    assert_ne!(issue(&state, &guest, NOW).unwrap(), token, "each has an id of its own");
}

#[test]
fn s38_tokens_are_bound_to_the_key_of_their_guest() {
    let state = state(&brokered());
    let (pod, guest) = guest(&state);
    let token = issue(&state, &guest, NOW).unwrap();
    let bearer = bearer(&state, &token, NOW).unwrap();
    let jwe = bearer.key().encrypt(b"secret").unwrap();
    assert_eq!(&*pod.key.decrypt(&jwe).unwrap(), b"secret");
    let thief = PrivateKey::generate(KeyAlgorithm::EcdhP256).unwrap();
    assert!(thief.decrypt(&jwe).is_err());
}

#[test]
fn s38_only_keys_of_the_own_state_count() {
    let (own, other) = (state(&brokered()), state(&brokered()));
    let (_, stranger) = guest(&other);
    let token = issue(&other, &stranger, NOW).unwrap();
    assert!(bearer(&other, &token, NOW).is_ok());
    assert_eq!(bearer(&own, &token, NOW).unwrap_err(), NotBelieved::Untrusted(Untrusted::Key));
    // A mesh without a broker has no key, and a coordinator without a mesh nothing at all.
    for state in [running(), founded()] {
        let found = bearer(&state, &token, NOW).unwrap_err();
        assert!(matches!(found, NotBelieved::Untrusted(Untrusted::Key) | NotBelieved::Refused(_)));
    }
    assert!(running().mesh().unwrap().signers().current().is_none());
    let text = "x".repeat(100_000);
    for (token, code) in [
        ("", "ATTESTATION_TOKEN_MALFORMED"),
        ("a.b.c", "ATTESTATION_TOKEN_MALFORMED"),
        (text.as_str(), "ATTESTATION_TOKEN_TOO_LONG"),
    ] {
        assert_eq!(bearer(&own, token, NOW).unwrap_err().code(), code);
    }
}

/// A token that the epoch's own key signed, whatever it says.
fn signed(state: &State, guest: &Guest, change: impl FnOnce(&mut Value, &mut Issue)) -> String {
    let token = issue(state, guest, NOW).unwrap();
    let mut issue = believed(state, &token).unwrap().issue().clone();
    let mut claims = Value::clone(guest.claims());
    change(&mut claims, &mut issue);
    let signer = state.mesh().unwrap().signers().current().unwrap();
    coco::sign(&claims, &issue, signer.key().unwrap(), signer.chain()).unwrap()
}

#[test]
fn s38_the_own_key_is_not_enough() {
    let state = state(&brokered());
    let (_, guest) = guest(&state);
    let found =
        |change: &dyn Fn(&mut Value, &mut Issue)| bearer(&state, &signed(&state, &guest, change), NOW);
    assert!(found(&|_, _| {}).is_ok());
    // For somebody else, by somebody else, of another manifest or epoch, and of what is no session or package.
    let code = |change: &dyn Fn(&mut Value, &mut Issue)| found(change).unwrap_err().code();
    assert_eq!(code(&|_, issue| issue.audiences = vec![DATABASE.into()]), "ATTESTATION_TOKEN_AUDIENCE");
    assert_eq!(code(&|_, issue| issue.issuer = "urn:bailey:mesh:00".into()), "ATTESTATION_TOKEN_ISSUER");
    assert_eq!(code(&|claims, _| claims["bailey"]["epoch"] = json!(2)), "ATTESTATION_TOKEN_EPOCH");
    let other = json!("00".repeat(32));
    assert_eq!(code(&|claims, _| claims["bailey"]["manifest"] = other.clone()), "ATTESTATION_TOKEN_EPOCH");
    assert_eq!(code(&|_, issue| issue.subject = "somebody".into()), "ATTESTATION_TOKEN_MALFORMED");
    assert_eq!(code(&|_, issue| issue.about.tee = "toaster".into()), "ATTESTATION_TOKEN_MALFORMED");
    let later = |issue: &mut Issue, by: i64| {
        issue.issued.0 += by;
        issue.expires.0 += by;
    };
    assert_eq!(code(&|_, issue| later(issue, 3600)), "ATTESTATION_TOKEN_NOT_YET_VALID");
    assert_eq!(code(&|_, issue| later(issue, -3600)), "ATTESTATION_TOKEN_EXPIRED");
}

#[test]
fn s38_tokens_of_an_epoch_that_is_over_open_nothing_here() {
    let first = state(&updatable_broker());
    let (_, guest) = guest(&first);
    let token = issue(&first, &guest, NOW).unwrap();
    let second = updated(first.clone(), &updatable_broker());
    assert_eq!(bearer(&second, &token, NOW).unwrap_err(), NotBelieved::Epoch { seen: 1, current: 2 });
    // And who attested in it gets no other.
    assert_eq!(issue(&second, &guest, NOW).unwrap_err().code(), "OVERTAKEN");

    // Relying parties elsewhere have the key until the last token of it has expired, and not longer.
    let keys = |state: &State, now: i64| state.mesh().unwrap().signers().published(later(now)).len();
    assert_eq!((keys(&first, 0), keys(&second, 0), keys(&second, 299), keys(&second, 300)), (1, 2, 2, 1));
    let jwks = coco::jwks(second.mesh().unwrap().signers().published(NOW)).to_string();
    let pinned = Verifier::with_jwks(jwks.as_bytes(), issuer(&second), issuer(&second)).unwrap();
    assert!(pinned.emulation(Emulation::Accepted).verify(&token, NOW).is_ok());
    assert!(believed(&second, &token).is_ok(), "the root is the same");
    // A manifest that has no broker any more has no key of its own.
    let without = updated(second, &updatable());
    assert_eq!((keys(&without, 0), keys(&without, 300)), (2, 0));
    assert!(without.mesh().unwrap().signers().current().is_none());
}

#[test]
fn the_manifest_says_for_whom_and_how_long() {
    let mut text = brokered();
    text["Broker"]["Tokens"] = json!({ "Lifetime": "2h", "Audiences": [DATABASE] });
    let state = state(&text);
    let (_, guest) = guest(&state);
    let token = issue(&state, &guest, NOW).unwrap();
    assert!(bearer(&state, &token, later(7199)).is_ok());
    assert!(bearer(&state, &token, later(7200)).is_err());
    let database = relying_party(state.root().certificate(), DATABASE);
    let verified = database.verify(&token, NOW).unwrap();
    assert_eq!(verified.issue().audiences, [issuer(&state), DATABASE.to_owned()]);
    let other = relying_party(state.root().certificate(), "https://other.example");
    assert!(matches!(other.verify(&token, NOW), Err(Untrusted::Audience { .. })));
    let strict = Verifier::with_root(&**state.root().certificate(), DATABASE).unwrap();
    assert_eq!(strict.verify(&token, NOW), Err(Untrusted::Emulated), "unless it is asked for");
}

#[test]
fn s42_a_guest_knows_by_its_token_which_broker_answered_and_what() {
    let (own, hostile) = (state(&brokered()), state(&brokered()));
    let (pod, guest_here) = guest(&own);
    let verified = believed(&own, &issue(&own, &guest_here, NOW).unwrap()).unwrap();
    // Who asked, the nonce that it was asked with, and by whose rules it was answered.
    assert_eq!(&Value::Object(verified.key().clone()), pod.key.public().to_json());
    let found = &verified.claims()["submods"]["cpu0"]["ear.veraison.annotated-evidence"];
    assert_eq!(found["runtime_data_claims"]["nonce"], rcar::Challenge::new(&NONCE).nonce());
    assert_eq!(verified.mesh().manifest, own.mesh().unwrap().manifest().digest().to_string());
    assert_eq!(verified.mesh().mesh, hex::encode(own.root().fingerprint()));
    // A broker that stands in between has another root than the one that the guest was measured with.
    let (_, guest_there) = guest(&hostile);
    let token = issue(&hostile, &guest_there, NOW).unwrap();
    assert!(matches!(believed(&own, &token), Err(Untrusted::Chain(_))));
}

#[test]
fn s46_the_signing_key_is_sealed_to_the_tee_that_made_it() {
    let state = state(&brokered());
    let (_, guest) = guest(&state);
    let token = issue(&state, &guest, NOW).unwrap();
    let old = state.mesh().unwrap().signers().current().unwrap().chain().to_vec();

    // Another TEE that gets the log has the public key and can sign nothing.
    let snapshot = state.to_snapshot().unwrap();
    let elsewhere = State::from_snapshot(&snapshot, IdentityKey::generate().unwrap()).unwrap();
    let signer = elsewhere.mesh().unwrap().signers().current().unwrap();
    assert!(signer.key().is_none());
    assert_eq!(signer.chain(), old);
    assert!(issue(&elsewhere, &guest, NOW).is_err());
    assert!(bearer(&elsewhere, &token, NOW).is_ok(), "it can still read");

    // After a recovery the key is another, below another root, and tokens of before are another mesh's.
    let event = recovered(&elsewhere, vec!["holder".into()], true, NOW).unwrap();
    let recovered = step(elsewhere, event);
    let signers = recovered.mesh().unwrap().signers();
    assert!(signers.current().unwrap().key().is_some());
    assert_ne!(signers.current().unwrap().chain(), old);
    assert_eq!(signers.published(NOW).len(), 1);
    assert_eq!(bearer(&recovered, &token, NOW).unwrap_err(), NotBelieved::Untrusted(Untrusted::Key));
    assert!(believed(&recovered, &token).is_err());
}

#[test]
fn snapshots_keep_the_keys_of_tokens() {
    let state = updated(state(&updatable_broker()), &updatable_broker());
    let again = State::from_snapshot(&state.to_snapshot().unwrap(), identity().clone()).unwrap();
    let published = |state: &State| state.mesh().unwrap().signers().published(NOW);
    assert_eq!(published(&again), published(&state));
    assert_eq!(published(&again).len(), 2);
    let (_, guest) = guest(&state);
    let token = issue(&again, &guest, NOW).unwrap();
    assert!(bearer(&state, &token, NOW).is_ok());
    // The key as such is nowhere in what is written.
    let signer = again.mesh().unwrap().signers().current().unwrap();
    let _: &SigningKey = signer.key().unwrap();
    let set = set(&founded(), &brokered()).unwrap();
    let Event::ManifestSet { epoch, .. } = &set else { panic!() };
    let sealed = epoch.signer.as_ref().unwrap();
    assert!(SigningKey::from_pkcs8(&sealed.key).is_err());
    assert!(!sealed.key.windows(8).any(|window| window == [0x30, 0x13, 0x06, 0x07, 0x2a, 0x86, 0x48, 0xce]));
}

#[test]
fn s07_the_signers_certificate_is_nobodys_else() {
    use x509_parser::prelude::{FromDer, X509Certificate};
    let state = state(&brokered());
    let leaf = &state.mesh().unwrap().signers().current().unwrap().chain()[0];
    let (_, parsed) = X509Certificate::from_der(leaf).unwrap();
    let purposes = parsed.extended_key_usage().unwrap().unwrap().value;
    assert!(!purposes.any && !purposes.server_auth && !purposes.client_auth);
    assert_eq!(purposes.other.len(), 1);
    assert!(parsed.subject_alternative_name().unwrap().is_none(), "it is reached at no name");
    assert!(!parsed.is_ca());
    assert!(attested_tls::marble::MarbleIdentity::of_certificate(leaf).is_err(), "and is no Marble");
    assert!(parsed.subject().to_string().contains("(emulated TEE)"));
    // And no certificate of the mesh signs tokens in its place.
    let (_, guest) = guest(&state);
    let token = issue(&state, &guest, NOW).unwrap();
    assert!(believed(&state, &token).is_ok());
    let intermediate = state.mesh().unwrap().intermediate();
    let pair = rcgen::KeyPair::generate().unwrap();
    let service = intermediate
        .certify_client_api(
            &rcgen::PublicKeyData::subject_public_key_info(&pair),
            &["localhost".into()],
            true,
            NOW,
        )
        .unwrap();
    let key = SigningKey::from_pkcs8(&pair.serialize_der()).unwrap();
    let issue = believed(&state, &token).unwrap().issue().clone();
    let chain = [service.certificate.to_vec(), intermediate.certificate().to_vec()];
    let forged = coco::sign(guest.claims(), &issue, &key, &chain).unwrap();
    assert!(matches!(believed(&state, &forged), Err(Untrusted::Chain(_))));
}

/// A verifier alone: no Marbles, no repositories, no secrets.
fn passport() -> Value {
    let mut text = brokered();
    text["Broker"] = json!({ "Tokens": { "Audiences": [DATABASE] } });
    for section in ["Marbles", "Secrets", "Users", "Roles"] {
        text.as_object_mut().unwrap().remove(section);
    }
    text
}

fn token_of(answer: &Answer) -> String {
    assert_eq!(answer.status, 200, "{:?}", answer.json());
    answer.json()["token"].as_str().unwrap().to_owned()
}

async fn root(running: &Running) -> Vec<u8> {
    running.verify([1; 32]).await.unwrap().root.into_vec()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_verifier_alone_is_believed_by_who_has_its_root_and_nothing_else() {
    let running = Running::start().await;
    let owner = &crate::world::people().owner;
    let answer = running.set_manifest(Some(owner), &passport().to_string()).await;
    assert_eq!(answer.status, 200, "{:?}", answer.json());
    for platform in [Platform::Tdx, Platform::Sgx] {
        let pod = Pod::on(platform);
        let token = token_of(&pod.attest(&running).await.1);
        let verified = relying_party(&root(&running).await, DATABASE).verify(&token, later(1)).unwrap();
        assert_eq!(verified.mesh().packages, ["kata"]);
        assert!(verified.mesh().emulated);
        assert_eq!(verified.issue().about.platform, Some(platform));
        assert_eq!(&Value::Object(verified.key().clone()), pod.key.public().to_json());
        // Where Trustee's relying parties look for the key.
        let key = verified.claims().pointer(coco::TEE_PUBKEY);
        assert_eq!(key, Some(pod.key.public().to_json()));
        let found = &verified.claims()["submods"]["cpu0"]["ear.veraison.annotated-evidence"];
        assert!(found[pod.tee().as_str()].is_object(), "{found}");
        assert_eq!(verified.claims()["submods"]["cpu0"]["ear.status"], "warning", "emulated");
    }
    // A guest that is no package gets none.
    let (_, answer) = Pod { code: b"other code", ..Pod::on(Platform::Tdx) }.attest(&running).await;
    assert_eq!(answer.error(), (401, "AttestationError".into()));
    assert!(answer.json()["token"].is_null());
}

async fn by_token(running: &Running, token: &str) -> Answer {
    let authorization = format!("Bearer {token}");
    let path = "/kbs/v0/resource/default/key/db";
    call(running, Method::GET, path, &[("authorization", &authorization)], "").await
}

#[tokio::test(flavor = "multi_thread")]
async fn s38_who_shows_a_token_gets_what_only_its_guest_can_read() {
    let running = brokering().await;
    let pod = Pod::on(Platform::Tdx);
    let token = token_of(&pod.attest(&running).await.1);
    let answer = by_token(&running, &token).await;
    assert_eq!(answer.status, 200, "{:?}", answer.json());
    let jwe = rcar::Jwe::parse(&answer.body).unwrap();
    assert_eq!(&*pod.key.decrypt(&jwe).unwrap(), SECRET.as_bytes());
    assert!(PrivateKey::generate(KeyAlgorithm::EcdhP256).unwrap().decrypt(&jwe).is_err());
    // The token names no resource and no secret.
    use base64::Engine;
    let claims =
        base64::engine::general_purpose::URL_SAFE_NO_PAD.decode(token.split('.').nth(1).unwrap()).unwrap();
    let claims = String::from_utf8(claims).unwrap();
    for canary in ["key/db", "\"db\"", "default", SECRET] {
        assert!(!claims.contains(canary), "{canary}: {claims}");
    }
    // A token of another mesh, altered, or in other words: one answer for all.
    let other = brokering().await;
    let foreign = token_of(&pod.attest(&other).await.1);
    let other_end = if token.ends_with('A') { 'Q' } else { 'A' };
    let altered = format!("{}{other_end}", &token[..token.len() - 1]);
    for token in [foreign, altered, "nonsense".into(), "a".repeat(70_000)] {
        let answer = by_token(&running, &token).await;
        assert_eq!(answer.error(), (401, "TokenVerifierError".into()));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn keys_are_published_where_openid_says() {
    let running = under(&brokered()).await;
    let configuration = call(&running, Method::GET, "/.well-known/openid-configuration", &[], "").await;
    assert_eq!(configuration.status, 200);
    let configuration = configuration.json();
    assert_eq!(configuration["jwks_uri"], "https://localhost/.well-known/jwks.json");
    assert_eq!(configuration["id_token_signing_alg_values_supported"], json!(["ES256"]));
    let jwks = call(&running, Method::GET, "/.well-known/jwks.json", &[], "").await;
    assert_eq!(jwks.headers["content-type"], "application/json");
    let issuer = configuration["issuer"].as_str().unwrap();
    assert_eq!(issuer, coco::issuer_of(&root(&running).await));

    let token = token_of(&Pod::on(Platform::Tdx).attest(&running).await.1);
    let verifier = Verifier::with_jwks(&jwks.body, issuer, issuer).unwrap().emulation(Emulation::Accepted);
    assert!(verifier.verify(&token, later(1)).is_ok());
    // The private half is not among them.
    let key = &jwks.json()["keys"][0];
    assert!(key["d"].is_null() && key["kid"].is_string() && key["x5c"][1].is_string(), "{key}");

    let without = Running::with_manifest().await;
    for path in ["/.well-known/jwks.json", "/.well-known/openid-configuration"] {
        assert_eq!(
            call(&without, Method::GET, path, &[], "").await.error(),
            (503, "BrokerNotConfigured".into())
        );
    }
}

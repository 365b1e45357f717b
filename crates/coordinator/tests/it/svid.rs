//! SPIFFE identities of Marbles: what is issued, to whom, and for what it can never be taken.

use appraisal::UnixTime;
use attested_tls::{
    key::TeeKey,
    marble::{IDENTITY_OID, MarbleIdentity},
};
use base64::{Engine, engine::general_purpose::STANDARD as BASE64};
use coordinator::{
    authority::SVID_OID,
    core::{
        Caller, State, Target, prepare_eviction,
        svid::{self, Holder},
    },
};
use evidence::Platform;
use rcgen::{
    BasicConstraints, CertificateParams, CustomExtension, ExtendedKeyUsagePurpose, IsCa, KeyPair,
    KeyUsagePurpose, PKCS_ECDSA_P256_SHA256, PKCS_ECDSA_P384_SHA384, PublicKeyData, SanType,
};
use rustls::{
    RootCertStore,
    pki_types::{CertificateDer, UnixTime as TlsTime},
    server::WebPkiClientVerifier,
};
use serde_json::{Value, json};
use spiffe::WorkloadApiClient;
use spiffe_workload::{
    Listener, MarbleSource, Peers, SvidSource, clock,
    jwt::{JwtFault, JwtKeys, Unverified},
    serve,
    wire::{X509Answer, X509Request},
};
use testkit::tee::NOW;
use x509_parser::prelude::{FromDer, GeneralName, X509Certificate};

use crate::{
    marblerun,
    rotation::{rotatable, running_with},
    running::Running,
    update::updatable,
    world::{
        TALLY, acknowledge, activated, attest, caller, code, identity, keep_on, later, people, step, update,
    },
};

/// A state in which `tally` runs, and who it is on the client API.
fn tally(state: State) -> (State, Caller, [u8; 32]) {
    let key = TeeKey::generate().unwrap();
    let peer = attest(&state, &keep_on(Platform::Snp), &key, "tally", TALLY).unwrap();
    let (state, activation) = activated(state, &peer);
    (state, Caller::by_certificate(activation.certified.chain[0].to_vec()), peer.key.0)
}

pub fn csr(params: CertificateParams) -> (Vec<u8>, Vec<u8>) {
    let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).unwrap();
    (params.serialize_request(&key).unwrap().der().to_vec(), key.subject_public_key_info())
}

fn issued(state: &State, caller: &Caller) -> X509Answer {
    let holder = Holder::marble(state, caller, NOW).unwrap();
    svid::x509(state, &holder, &csr(CertificateParams::default()).0, NOW).unwrap()
}

fn chain(answer: &X509Answer) -> Vec<CertificateDer<'static>> {
    answer.svids[0].chain.iter().map(|text| BASE64.decode(text).unwrap().into()).collect()
}

/// Whether a client with this chain is let in by who trusts `root` and nothing else, as MarbleRun's Marbles do.
pub fn admitted(chain: &[CertificateDer<'_>], root: &[u8], now: UnixTime) -> bool {
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from(root.to_vec())).unwrap();
    let provider = rustls::crypto::aws_lc_rs::default_provider().into();
    let verifier =
        WebPkiClientVerifier::builder_with_provider(std::sync::Arc::new(roots), provider).build().unwrap();
    let now = TlsTime::since_unix_epoch(std::time::Duration::from_secs(now.0.try_into().unwrap()));
    verifier.verify_client_cert(&chain[0], &chain[1..], now).is_ok()
}

#[test]
fn a_marble_has_an_x509_svid_that_ends_within_the_hour() {
    let (state, caller, _) = tally(running_with(&rotatable()));
    let domain = state.trust_domain();
    let answer = issued(&state, &caller);
    assert_eq!(answer.svids.len(), 1);
    assert_eq!(answer.svids[0].id, format!("spiffe://{domain}/marble/tally"));
    assert_eq!(answer.bundle.trust_domain, domain);
    let root = BASE64.decode(&answer.bundle.x509[0]).unwrap();
    assert_eq!(root, state.root().certificate().to_vec());
    let chain = chain(&answer);
    assert!(admitted(&chain, &root, NOW));
    assert!(!admitted(&chain, &root, later(3601)), "an hour later it has ended");
    let (_, leaf) = X509Certificate::from_der(&chain[0]).unwrap();
    let names = leaf.subject_alternative_name().unwrap().unwrap();
    assert!(matches!(names.value.general_names[..], [GeneralName::URI(uri)] if uri == answer.svids[0].id));
    let usage = leaf.key_usage().unwrap().unwrap();
    assert!(usage.critical && usage.value.digital_signature());
    assert!(!usage.value.key_cert_sign() && !usage.value.crl_sign() && !leaf.is_ca());
    assert!(leaf.subject().to_string().contains("(emulated TEE)"), "promise 3");
}

/// Its own certificate is the proof: what is derived from it does not outlive it.
#[test]
fn an_svid_ends_with_what_proved_its_holder() {
    let (state, caller, _) = tally(running_with(&rotatable()));
    let nearly = later(12 * 3600 - 60);
    let holder = Holder::marble(&state, &caller, nearly).unwrap();
    let answer = svid::x509(&state, &holder, &csr(CertificateParams::default()).0, nearly).unwrap();
    let leaf = BASE64.decode(&answer.svids[0].chain[0]).unwrap();
    let (_, leaf) = X509Certificate::from_der(&leaf).unwrap();
    assert_eq!(leaf.validity().not_after.timestamp(), NOW.0 + 12 * 3600);
    assert_eq!(code(Holder::marble(&state, &caller, later(12 * 3600 + 1))), "MARBLE_CERTIFICATE_REQUIRED");
}

/// dstack#1255: requested names and usages stood in the leaf.
#[test]
fn s07_nothing_of_a_request_but_its_key_is_certified() {
    let (state, caller, _) = tally(running_with(&rotatable()));
    let mut params = CertificateParams::new(vec!["localhost".to_owned()]).unwrap();
    let coordinator = format!("spiffe://{}/marble/frontend", state.trust_domain());
    params.subject_alt_names.push(SanType::URI(coordinator.try_into().unwrap()));
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign];
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::CodeSigning];
    let own = MarbleIdentity {
        marble: "frontend".into(),
        epoch: 1,
        manifest: state.mesh().unwrap().manifest_digest(),
        emulated: true,
        rollout: None,
    };
    params.custom_extensions.push(CustomExtension::from_oid_content(&IDENTITY_OID, own.to_extension()));
    params.distinguished_name.push(rcgen::DnType::CommonName, "Bailey Coordinator");
    let (csr, key) = csr(params);
    let holder = Holder::marble(&state, &caller, NOW).unwrap();
    let chain = chain(&svid::x509(&state, &holder, &csr, NOW).unwrap());
    let (_, leaf) = X509Certificate::from_der(&chain[0]).unwrap();
    assert_eq!(leaf.public_key().raw, key);
    let text = format!("{leaf:?}");
    for wanted in ["localhost", "frontend", "Bailey Coordinator"] {
        assert!(!text.contains(wanted), "{wanted}");
    }
    assert!(!leaf.is_ca());
    let usage = leaf.extended_key_usage().unwrap().unwrap().value.clone();
    assert!(usage.client_auth && usage.server_auth && !usage.code_signing && !usage.any);
    assert!(MarbleIdentity::of_certificate(&chain[0]).is_err());
}

/// MarbleRun's Marbles let in whoever has a certificate of theirs, and the coordinator knows Marbles by theirs.
#[test]
fn s07_an_svid_is_never_taken_for_a_marbles_own_certificate() {
    let (state, marble, _) = tally(running_with(&rotatable()));
    let chain = chain(&issued(&state, &marble));
    let mesh = state.mesh().unwrap();
    assert!(!admitted(&chain, mesh.marble_root(), NOW), "the Marbles' root is not above it");
    let with_intermediate = [chain[0].clone(), mesh.intermediate().certificate().clone()];
    assert!(!admitted(&with_intermediate, mesh.marble_root(), NOW));
    assert_eq!(mesh.intermediate().marble_of(&chain[0], NOW), None);
    let as_marble = Caller::by_certificate(chain[0].to_vec());
    assert_eq!(code(Holder::marble(&state, &as_marble, NOW)), "MARBLE_CERTIFICATE_REQUIRED");
    let (_, leaf) = X509Certificate::from_der(&chain[0]).unwrap();
    let oid = x509_parser::der_parser::oid::Oid::from(&SVID_OID).unwrap();
    assert!(leaf.get_extension_unique(&oid).unwrap().is_some(), "it says what it is");
}

#[test]
fn requests_that_prove_no_key_are_refused() {
    let (state, caller, _) = tally(running_with(&rotatable()));
    let holder = Holder::marble(&state, &caller, NOW).unwrap();
    let (good, _) = csr(CertificateParams::default());
    let p384 = KeyPair::generate_for(&PKCS_ECDSA_P384_SHA384).unwrap();
    let p384 = CertificateParams::default().serialize_request(&p384).unwrap().der().to_vec();
    for (csr, expected) in [
        (Vec::new(), "CSR_MALFORMED"),
        ([good.clone(), vec![0]].concat(), "CSR_MALFORMED"),
        (vec![0x30; 5000], "CSR_MALFORMED"),
        (p384, "CSR_KEY_REFUSED"),
    ] {
        assert_eq!(code(svid::x509(&state, &holder, &csr, NOW)), expected);
    }
    // Another key than the one that signed: after the BIT STRING's header begins the point.
    let mut other = good;
    let point = other.windows(4).position(|window| window == [3, 0x42, 0, 4]).unwrap() + 4;
    other[point] ^= 1;
    assert_eq!(code(svid::x509(&state, &holder, &other, NOW)), "CSR_SIGNATURE_INVALID");
}

fn verify(state: &State, token: &str, audience: &str, now: UnixTime) -> Result<String, JwtFault> {
    let bundle = svid::bundle(state).unwrap();
    let keys = JwtKeys::from_jwks(&bundle.jwks).unwrap();
    let verified =
        Unverified::parse(token)?.verify(&keys, &bundle.trust_domain.parse().unwrap(), audience, now.0)?;
    Ok(verified.id().to_string())
}

#[test]
fn a_marble_has_jwt_svids_for_audiences_that_it_names() {
    let (state, caller, _) = tally(running_with(&rotatable()));
    let holder = Holder::marble(&state, &caller, NOW).unwrap();
    let audiences = ["db".to_owned(), "https://queue".to_owned()];
    let answer = svid::jwt(&state, &holder, &audiences, NOW).unwrap();
    let token = &answer.svids[0].token;
    let id = format!("spiffe://{}/marble/tally", state.trust_domain());
    assert_eq!(answer.svids[0].id, id);
    for audience in &audiences {
        assert_eq!(verify(&state, token, audience, later(299)), Ok(id.clone()));
    }
    assert_eq!(verify(&state, token, "other", NOW), Err(JwtFault::Audience));
    assert_eq!(verify(&state, token, "db", later(300)), Err(JwtFault::Expired));
    for audiences in [vec![], vec![String::new()], vec!["a".repeat(513)], vec!["a".to_owned(); 17]] {
        assert_eq!(code(svid::jwt(&state, &holder, &audiences, NOW)), "AUDIENCES_REFUSED");
    }
}

#[test]
fn s46_the_key_of_jwt_svids_is_no_other_key_and_one_of_its_epoch() {
    let (state, caller, _) = tally(running_with(&updatable()));
    let point = |state: &State| {
        let keys = JwtKeys::from_jwks(&svid::bundle(state).unwrap().jwks).unwrap();
        keys.iter().next().unwrap().point.to_vec()
    };
    let first = point(&state);
    let chain = chain(&issued(&state, &caller));
    let mesh = state.mesh().unwrap();
    for certificate in [&chain[1], state.root().certificate(), mesh.intermediate().certificate()] {
        let (_, certificate) = X509Certificate::from_der(certificate).unwrap();
        assert_ne!(certificate.public_key().subject_public_key.data.as_ref(), first);
    }
    let holder = Holder::marble(&state, &caller, NOW).unwrap();
    let token = svid::jwt(&state, &holder, &["db".into()], NOW).unwrap().svids.remove(0).token;

    // It is in the snapshot, as a CA key is; whoever recovers the state in another TEE cannot mint.
    let snapshot = state.to_snapshot().unwrap();
    let again = State::from_snapshot(&snapshot, identity().clone()).unwrap();
    assert_eq!(point(&again), first);
    let other = coordinator::core::IdentityKey::generate().unwrap();
    let elsewhere = State::from_snapshot(&snapshot, other).unwrap();
    assert!(svid::bundle(&elsewhere).is_err());
    assert!(svid::jwt(&elsewhere, &holder, &["db".into()], NOW).is_err());

    let state = next_epoch(state);
    assert_ne!(point(&state), first);
    assert_eq!(verify(&state, &token, "db", NOW), Err(JwtFault::Key), "an epoch ends its JWT-SVIDs");
}

fn next_epoch(state: State) -> State {
    let mut text: Value = serde_json::from_slice(state.mesh().unwrap().manifest_bytes()).unwrap();
    text["Marbles"]["tally"]["MaxActivations"] = json!(7);
    let bytes = text.to_string().into_bytes();
    let (writer, reader) = (caller(&people().writer), caller(&people().reader));
    let (events, _) = update(&state, &writer, bytes.clone(), Default::default(), NOW).unwrap();
    let state = events.into_iter().fold(state, step);
    let (events, _) = acknowledge(&state, &reader, &bytes, NOW).unwrap();
    events.into_iter().fold(state, step)
}

#[test]
fn evicted_instances_and_old_epochs_have_no_identity() {
    let (state, marble, instance) = tally(running_with(&rotatable()));
    let reader = caller(&people().reader);
    let eviction = prepare_eviction(&state, &reader, &Target::Instance(instance), false, NOW).unwrap();
    let (event, _) = eviction.admit(&state, &reader, NOW).unwrap();
    let state = step(state, event);
    assert_eq!(code(Holder::marble(&state, &marble, NOW)), "MARBLE_CERTIFICATE_REQUIRED");

    let (state, marble, _) = tally(running_with(&updatable()));
    Holder::marble(&state, &marble, NOW).unwrap();
    assert_eq!(code(Holder::marble(&next_epoch(state), &marble, NOW)), "MARBLE_CERTIFICATE_REQUIRED");
}

#[test]
fn whoever_is_no_marble_has_no_identity() {
    let state = running_with(&rotatable());
    let person = &people().owner;
    assert_eq!(code(Holder::marble(&state, &caller(person), NOW)), "MARBLE_CERTIFICATE_REQUIRED");
    assert_eq!(code(Holder::marble(&state, &Caller::default(), NOW)), "CLIENT_CERTIFICATE_REQUIRED");
}

/// From MarbleRun's environment to a public client library, over TLS and a Unix socket.
#[tokio::test(flavor = "multi_thread")]
async fn a_native_program_serves_its_identity_to_a_public_spiffe_client() {
    let running = Running::start().await;
    let answer = running.set_manifest(Some(&people().owner), &marblerun::text().to_string()).await;
    assert_eq!(answer.status, 200, "{}", answer.json());
    let key = TeeKey::generate().unwrap();
    let given = marblerun::activate(&running, &key, marblerun::request(&key)).await.unwrap();
    let env = given.parameters.unwrap().env;
    let source = || {
        MarbleSource::new(
            &format!("localhost:{}", running.api.port()),
            &env["MARBLE_PREDEFINED_MARBLE_CERTIFICATE_CHAIN"],
            &env["MARBLE_PREDEFINED_PRIVATE_KEY"],
            &env["MARBLE_PREDEFINED_COORDINATOR_ROOT_CA"],
            clock::fixed(NOW.0),
        )
        .unwrap()
    };
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("api.sock");
    let listener = Listener::unix(&path, Peers::SameUser).unwrap();
    tokio::spawn(serve(source(), listener, clock::fixed(NOW.0), std::future::pending()));

    let domain = source().bundle().await.unwrap().trust_domain;
    let id = format!("spiffe://{domain}/marble/native");
    let client = WorkloadApiClient::connect_to(format!("unix://{}", path.display())).await.unwrap();
    let context = client.fetch_x509_context().await.unwrap();
    let svid = context.default_svid().unwrap();
    assert_eq!(svid.spiffe_id().to_string(), id);
    let chain: Vec<_> = svid
        .cert_chain()
        .iter()
        .map(|certificate| CertificateDer::from(certificate.as_bytes().to_vec()))
        .collect();
    let bundle = context.bundle_set().get(&domain.parse().unwrap()).unwrap();
    assert!(admitted(&chain, bundle.authorities()[0].as_bytes(), NOW));
    let token = client.fetch_jwt_svid(["db"], None).await.unwrap();
    assert_eq!(token.spiffe_id().to_string(), id);
    assert_eq!(client.validate_jwt_token("db", token.token()).await.unwrap().spiffe_id().to_string(), id);
    client.validate_jwt_token("other", token.token()).await.unwrap_err();
    let jwt = client.fetch_jwt_bundles().await.unwrap();
    assert!(jwt.get(&domain.parse().unwrap()).unwrap().find_jwt_authority(token.key_id()).is_some());
}

#[tokio::test(flavor = "multi_thread")]
async fn the_routes_for_svids_are_strict() {
    let running = Running::with_manifest().await;
    let body = |csr: &[u8]| serde_json::to_vec(&X509Request { csr: BASE64.encode(csr) }).unwrap();
    let (csr, _) = csr(CertificateParams::default());
    for who in [None, Some(&people().owner), Some(&people().stranger)] {
        for (path, body) in
            [("/api/v3/svid/x509", body(&csr)), ("/api/v3/svid/jwt", br#"{"audiences":["db"]}"#.to_vec())]
        {
            assert_eq!(running.post(who, path, body).await.status, 401, "{path}");
        }
    }
    for body in [r#"{"csr":"%"}"#, r#"{"csr":"","id":"spiffe://td/marble/tally"}"#, "{}"] {
        let answer = running.post(Some(&people().owner), "/api/v3/svid/x509", body).await;
        assert_eq!(answer.code(), (400, "BODY_MALFORMED".into()), "{body}");
    }
    let bundle = running.get(None, "/api/v3/svid/bundle").await.json()["data"].clone();
    assert_eq!(bundle["jwks"]["keys"].as_array().unwrap().len(), 1);
    assert!(bundle.to_string().find("\"d\"").is_none(), "no private part");
    let empty = Running::start().await;
    assert_eq!(empty.get(None, "/api/v3/svid/bundle").await.code(), (404, "MANIFEST_NOT_SET".into()));
}

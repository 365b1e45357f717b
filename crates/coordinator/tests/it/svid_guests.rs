//! SPIFFE identities of guests that attested to the broker: which they are, and for whom they are of use.

use base64::{Engine, engine::general_purpose::STANDARD as BASE64};
use coordinator::core::svid::{self, Holder};
use evidence::Platform;
use hyper::Method;
use rcar::{Jwe, PrivateKey, Tee};
use rcgen::CertificateParams;
use rustls::pki_types::CertificateDer;
use serde_json::{Value, json};
use spiffe::WorkloadApiClient;
use spiffe_workload::{
    Listener, Peers, SourceError, SvidSource, clock, serve,
    wire::{BundleWire, JwtAnswer, JwtRequest, X509Answer, X509Request},
};
use testkit::tee::NOW;
use x509_parser::prelude::{FromDer, X509Certificate};

use crate::{
    broker::{Answer, Pod, auth, brokered, brokering, call, send, under},
    broker_sessions::{admitted as attested, state},
    running::Running,
    svid::{admitted, csr},
    update::{updatable, updated},
    world::{code, later},
};

const NONCE: [u8; 32] = [8; 32];

fn request() -> String {
    let csr = BASE64.encode(csr(CertificateParams::default()).0);
    serde_json::to_string(&X509Request { csr }).unwrap()
}

fn audiences() -> String {
    serde_json::to_string(&JwtRequest { audiences: vec!["db".into()] }).unwrap()
}

async fn ask(running: &Running, headers: &[(&str, &str)], what: &str, body: String) -> Answer {
    call(running, Method::POST, &format!("/kbs/v0/svid/{what}"), headers, body).await
}

/// What an answer holds for who has this key.
fn opened(answer: &Answer, key: &PrivateKey) -> Option<Value> {
    assert_eq!(answer.status, 200, "{:?}", answer.json());
    let clear = key.decrypt(&Jwe::parse(&answer.body).unwrap()).ok()?;
    Some(serde_json::from_slice(&clear).unwrap())
}

/// A guest as a source of its own SVIDs.
struct Attested {
    running: Running,
    pod: Pod,
    cookie: String,
}

impl Attested {
    async fn asked(&self, what: &str, body: String) -> Result<Value, SourceError> {
        let answer = ask(&self.running, &[("cookie", &self.cookie)], what, body).await;
        Ok(opened(&answer, &self.pod.key).unwrap())
    }
}

impl SvidSource for Attested {
    async fn x509(&self, csr: &[u8]) -> Result<X509Answer, SourceError> {
        let body = serde_json::to_string(&X509Request { csr: BASE64.encode(csr) }).unwrap();
        Ok(serde_json::from_value(self.asked("x509", body).await?).unwrap())
    }

    async fn jwt(&self, audiences: &[String]) -> Result<JwtAnswer, SourceError> {
        let body = serde_json::to_string(&JwtRequest { audiences: audiences.to_vec() }).unwrap();
        Ok(serde_json::from_value(self.asked("jwt", body).await?).unwrap())
    }

    async fn bundle(&self) -> Result<BundleWire, SourceError> {
        let answer = call(&self.running, Method::GET, "/kbs/v0/svid/bundle", &[], "").await;
        Ok(serde_json::from_slice(&answer.body).unwrap())
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_attested_guest_serves_its_identity_to_a_public_spiffe_client() {
    let running = brokering().await;
    let pod = Pod::on(Platform::Snp);
    let (cookie, answer) = pod.attest(&running).await;
    assert_eq!(answer.status, 200);
    let source = Attested { running, pod, cookie };
    let domain = source.bundle().await.unwrap().trust_domain;
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("api.sock");
    let listener = Listener::unix(&path, Peers::SameUser).unwrap();
    tokio::spawn(serve(source, listener, clock::fixed(NOW.0), std::future::pending()));

    let client = WorkloadApiClient::connect_to(format!("unix://{}", path.display())).await.unwrap();
    let context = client.fetch_x509_context().await.unwrap();
    let id = format!("spiffe://{domain}/guest/kata");
    let svid = context.default_svid().unwrap();
    assert_eq!(svid.spiffe_id().to_string(), id);
    let chain: Vec<_> =
        svid.cert_chain().iter().map(|it| CertificateDer::from(it.as_bytes().to_vec())).collect();
    let bundle = context.bundle_set().get(&domain.parse().unwrap()).unwrap();
    assert!(admitted(&chain, bundle.authorities()[0].as_bytes(), NOW));
    let token = client.fetch_jwt_svid(["db"], None).await.unwrap();
    let verified = client.validate_jwt_token("db", token.token()).await.unwrap();
    assert_eq!(verified.spiffe_id().to_string(), id);
}

/// A certificate for the thief's key, or a token that is its own proof, must not come of a cookie.
#[tokio::test(flavor = "multi_thread")]
async fn a_stolen_session_gives_no_identity() {
    let running = brokering().await;
    let pod = Pod::on(Platform::Snp);
    let (cookie, answer) = pod.attest(&running).await;
    let token = format!("Bearer {}", answer.json()["token"].as_str().unwrap());
    let thief = Pod::on(Platform::Snp).key;
    for proof in [("cookie", cookie.as_str()), ("authorization", &token)] {
        for (what, body) in [("x509", request()), ("jwt", audiences())] {
            let answer = ask(&running, &[proof], what, body).await;
            assert!(opened(&answer, &thief).is_none());
            let text = String::from_utf8(answer.body.clone()).unwrap();
            assert!(!text.contains("spiffe") && !text.contains("eyJhbGciOiJFUzI1NiI"), "{text}");
            let svids = opened(&answer, &pod.key).unwrap()["svids"].clone();
            assert!(svids[0]["id"].as_str().unwrap().ends_with("/guest/kata"), "{svids}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn who_did_not_attest_has_no_identity() {
    let running = brokering().await;
    let challenge = auth(&running, "0.4.0", Tee::Snp).await;
    let cookie = challenge.cookie();
    let (attested, _) = Pod::on(Platform::Snp).attest(&running).await;
    for (what, body) in [("x509", request()), ("jwt", audiences())] {
        let ask = async |headers: &[(&str, &str)]| ask(&running, headers, what, body.clone()).await.error();
        assert_eq!(ask(&[]).await, (401, "TokenNotFound".into()));
        assert_eq!(ask(&[("cookie", &cookie)]).await, (401, "AttestationError".into()), "a session alone");
        assert_eq!(ask(&[("cookie", "kbs-session-id=forged")]).await, (401, "AttestationError".into()));
        let both = [("cookie", attested.as_str()), ("authorization", "Bearer a.b.c")];
        assert_eq!(ask(&both).await, (400, "AttestationError".into()));
    }
    for (what, body) in [
        ("x509", r#"{"csr":"AAAA"}"#),
        ("x509", r#"{"csr":"%"}"#),
        ("x509", r#"{"csr":"","id":"spiffe://td/guest/other"}"#),
        ("jwt", r#"{"audiences":[]}"#),
        ("jwt", r#"{"audiences":["db"],"sub":"spiffe://td/guest/other"}"#),
        ("jwt", "[]"),
    ] {
        let refused = ask(&running, &[("cookie", &attested)], what, body.to_owned()).await;
        assert_eq!(refused.error(), (400, "SerdeError".into()), "{body}");
    }
    let long = ask(&running, &[("cookie", &attested)], "jwt", " ".repeat(20_000)).await;
    assert_eq!(long.error().0, 400);
    let without = Running::with_manifest().await;
    assert_eq!(call(&without, Method::GET, "/kbs/v0/svid/bundle", &[], "").await.status, 503);
}

/// A sample is every package that a policy lets it pass as; that is a wish, and no proof.
#[tokio::test(flavor = "multi_thread")]
async fn s40_a_sample_proves_no_package() {
    let mut manifest = brokered();
    manifest["Broker"]["Sample"] = json!(true);
    let running = under(&manifest).await;
    let pod = Pod::on(Platform::Snp);
    let challenge = auth(&running, "0.4.0", Tee::Sample).await;
    let (cookie, nonce) = (challenge.cookie(), challenge.json()["nonce"].as_str().unwrap().to_owned());
    let evidence = json!({ "svn": "1", "report_data": BASE64.encode(pod.digest(&nonce)) });
    let answer = send(&running, &cookie, &pod.attestation_with(&nonce, evidence)).await;
    assert_eq!(answer.status, 200, "{:?}", answer.json());
    for (what, body) in [("x509", request()), ("jwt", audiences())] {
        let refused = ask(&running, &[("cookie", &cookie)], what, body).await;
        assert_eq!(refused.error(), (403, "PolicyDeny".into()));
    }
}

#[test]
fn what_a_guest_is_issued_ends_within_an_hour_of_its_appraisal() {
    let state = state(&brokered());
    let guest = attested(&state, &Pod::on(Platform::Tdx), &NONCE).ok().unwrap();
    let late = later(290);
    let holder = Holder::guest(&state, &guest, late).unwrap();
    let answer = svid::x509(&state, &holder, &csr(CertificateParams::default()).0, late).unwrap();
    let leaf = BASE64.decode(&answer.svids[0].chain[0]).unwrap();
    let (_, leaf) = X509Certificate::from_der(&leaf).unwrap();
    assert_eq!(leaf.validity().not_after.timestamp(), NOW.0 + 3600);
    assert!(leaf.subject().to_string().contains("(emulated TEE)"));
    assert_eq!(code(Holder::guest(&state, &guest, guest.expires())), "ATTESTATION_OVER");
}

#[test]
fn a_guest_of_an_older_epoch_has_no_identity() {
    let (mut text, broker) = (updatable(), brokered());
    for section in ["Packages", "Platforms", "Broker"] {
        text[section] = broker[section].clone();
    }
    text["Secrets"]["db"] = broker["Secrets"]["db"].clone();
    let state = state(&text);
    let guest = attested(&state, &Pod::on(Platform::Snp), &NONCE).ok().unwrap();
    Holder::guest(&state, &guest, NOW).unwrap();
    text["Marbles"]["tally"]["MaxActivations"] = json!(7);
    assert_eq!(code(Holder::guest(&updated(state, &text), &guest, NOW)), "ATTESTATION_OVER");
}

/// Package names have spaces and slashes; two that differ in case are two.
#[test]
fn names_of_packages_become_ids_that_are_theirs_alone() {
    let mut text = brokered();
    let kata = text["Packages"]["kata"].clone();
    let names = ["kata", "Kata", "my pods/1", "my_pods_2f1", ".."];
    for name in names {
        text["Packages"][name] = kata.clone();
    }
    let state = state(&text);
    let guest = attested(&state, &Pod::on(Platform::Snp), &NONCE).ok().unwrap();
    let holder = Holder::guest(&state, &guest, NOW).unwrap();
    let ids: std::collections::BTreeSet<_> = holder.ids().iter().map(ToString::to_string).collect();
    assert_eq!(ids.len(), names.len());
    let domain = state.trust_domain();
    for id in ["kata", "Kata", "my_20pods_2f1", "my_5fpods_5f2f1", "_2e_2e"] {
        assert!(ids.contains(&format!("spiffe://{domain}/guest/{id}")), "{ids:?}");
    }
}

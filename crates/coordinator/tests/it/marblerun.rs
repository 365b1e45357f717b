//! What MarbleRun's clients and Marbles see: the same paths, the same envelopes, the same protocol.

use attested_tls::{
    key::{TeeKey, sha256},
    service::unverified_client,
};
use attester::Tee;
use base64::{
    Engine,
    engine::general_purpose::{STANDARD as BASE64, URL_SAFE},
};
use evidence::{CertificateDer, Evidence, Platform, ReportData};
use hyper::Method;
use mesh_api::marble::{ActivationReq, ActivationResp, marble_client::MarbleClient};
use serde_json::{Value, json};
use testkit::tee::{EmulatedTee, NOW, machine};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};
use tonic::{Code, Status, transport::Endpoint};

use crate::{
    running::{Running, user},
    update::updatable,
    world::people,
};

const UUID: &str = "6f2e1c9a-0000-4000-8000-0123456789ab";

fn program() -> std::sync::Arc<EmulatedTee> {
    EmulatedTee::launch(Platform::Sgx, b"an EGo program", b"")
}

/// A manifest as MarbleRun's users write it, with the emulated platform named.
pub fn text() -> Value {
    let mut text = updatable();
    let root = evidence::pem::encode(&CertificateDer(machine().roots().intel.0.to_vec()));
    text["Platforms"]["Sgx"] = json!({ "EmulatedRoots": [root] });
    text["Packages"]["native"] = json!({ "UniqueID": program().measurement().to_string() });
    text["Secrets"]["served"] = json!({ "Type": "cert-ecdsa", "Size": 256 });
    text["TLS"] = json!({ "web": {
        "Incoming": [{ "Port": 8443 }, { "Port": "443", "Cert": "served", "DisableClientAuth": true }],
        "Outgoing": [{ "Addr": "db", "Port": 5432 }],
    }});
    text["Marbles"]["native"] = json!({
        "Package": "native",
        "MaxActivations": 3,
        "Names": ["native.example.org"],
        "TLS": ["web"],
        "Parameters": {
            "Files": {
                "/own.pem": "{{ pem .MarbleRun.MarbleCert.Cert }}{{ pem .MarbleRun.MarbleCert.Private }}",
                "/key": "{{ raw .Secrets.own }}",
                "/before": "{{ raw .Previous.Secrets.own }}",
                "/plain": { "Data": "AAEC", "Encoding": "base64", "NoTemplates": true },
            },
            "Env": { "ROOT": "{{ pem .MarbleRun.CoordinatorRoot.Cert }}", "SALT": "{{ hex .Secrets.salt }}" },
            "Argv": ["./native", "--serve"],
        },
    });
    text["Config"] = json!({ "FeatureGates": ["MonotonicCounter", "SignQuoteEndpoint"] });
    text
}

async fn started() -> Running {
    let running = Running::start().await;
    let answer = running.set_manifest(Some(&people().owner), &text().to_string()).await;
    assert_eq!(answer.status, 200, "{}", answer.json());
    running
}

/// Open Enclave's header and a quote over a client's certificate.
fn quote(tee: &EmulatedTee, certificate: &[u8]) -> Vec<u8> {
    let mut report_data = [0; 64];
    report_data[..32].copy_from_slice(&sha256(certificate));
    let quote = tee.evidence(&ReportData(report_data)).unwrap().evidence;
    [&[1, 0, 0, 0, 2, 0, 0, 0][..], &(quote.len() as u64).to_le_bytes(), &quote].concat()
}

pub async fn activate(
    running: &Running,
    key: &TeeKey,
    request: ActivationReq,
) -> Result<ActivationResp, Status> {
    let identity = user(key);
    let mut config =
        unverified_client(Some(&identity), attested_tls::clock::fixed(NOW)).unwrap().as_ref().clone();
    config.alpn_protocols = vec![b"h2".to_vec()];
    let address = running.marbles;
    let connector = tower::service_fn(move |_| {
        let connector = tokio_rustls::TlsConnector::from(std::sync::Arc::new(config.clone()));
        async move {
            let stream = TcpStream::connect(address).await?;
            let stream = connector.connect("localhost".try_into().unwrap(), stream).await?;
            Ok::<_, std::io::Error>(hyper_util::rt::TokioIo::new(stream))
        }
    });
    let channel =
        Endpoint::from_static("http://coordinator").connect_with_connector(connector).await.unwrap();
    MarbleClient::new(channel).activate(request).await.map(tonic::Response::into_inner)
}

pub fn request(key: &TeeKey) -> ActivationReq {
    ActivationReq {
        quote: quote(&program(), key.certificate()),
        csr: Vec::new(),
        marble_type: "native".into(),
        uuid: UUID.into(),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_native_program_joins_by_marbleruns_protocol() {
    let running = started().await;
    let key = TeeKey::generate().unwrap();
    let given = activate(&running, &key, request(&key)).await.unwrap().parameters.unwrap();
    assert_eq!(given.argv, ["./native", "--serve"]);
    assert_eq!(given.files["/plain"], [0, 1, 2]);
    assert_eq!(given.files["/key"].len(), 32);
    assert_eq!(given.files["/before"], given.files["/key"], "nothing was rotated yet");
    let text = |name: &str| String::from_utf8(given.env[name].clone()).unwrap();
    let chain =
        evidence::pem::certificates(text("MARBLE_PREDEFINED_MARBLE_CERTIFICATE_CHAIN").as_bytes()).unwrap();
    let roots = evidence::pem::certificates(text("MARBLE_PREDEFINED_ROOT_CA").as_bytes()).unwrap();
    assert_eq!((chain.len(), roots.len()), (2, 1));
    let (_, leaf) = x509_parser::parse_x509_certificate(&chain[0].0).unwrap();
    let (_, intermediate) = x509_parser::parse_x509_certificate(&chain[1].0).unwrap();
    let (_, root) = x509_parser::parse_x509_certificate(&roots[0].0).unwrap();
    for issuer in [&intermediate, &root] {
        assert_eq!(leaf.issuer(), issuer.subject(), "the leaf verifies under either");
        assert_eq!(issuer.public_key().raw, intermediate.public_key().raw);
    }
    assert_eq!(root.issuer(), root.subject());
    assert!(leaf.subject().to_string().contains(UUID));
    let kind =
        leaf.extensions().iter().find(|extension| extension.oid.to_id_string() == "1.3.9903.2.1").unwrap();
    assert_eq!(kind.value, b"native");
    let names = format!("{:?}", leaf.subject_alternative_name().unwrap().unwrap().value);
    assert!(names.contains("native.example.org") && names.contains("spiffe://"), "{names}");
    assert!(text("MARBLE_PREDEFINED_PRIVATE_KEY").starts_with("-----BEGIN PRIVATE KEY-----"));
    assert_eq!(text("ROOT"), text("MARBLE_PREDEFINED_COORDINATOR_ROOT_CA"));

    let tls: Value = serde_json::from_slice(&given.env["MARBLE_TTLS_CONFIG"]).unwrap();
    assert_eq!(tls["tls"]["Incoming"]["*:8443"]["clientAuth"], true);
    assert_eq!(tls["tls"]["Incoming"]["*:443"]["clientAuth"], false);
    assert_ne!(tls["tls"]["Incoming"]["*:443"]["clicrt"], tls["tls"]["Incoming"]["*:8443"]["clicrt"]);
    assert_eq!(tls["tls"]["Outgoing"]["db:5432"]["cacrt"], text("MARBLE_PREDEFINED_ROOT_CA"));

    // The same instance restarts: its key is the same, its certificate is new; another has another key.
    let again = TeeKey::generate().unwrap();
    let second = activate(&running, &again, request(&again)).await.unwrap().parameters.unwrap();
    assert_eq!(second.files["/key"], given.files["/key"]);
    assert_ne!(second.files["/own.pem"], given.files["/own.pem"]);
    let other = ActivationReq { uuid: UUID.replace('6', "7"), ..request(&again) };
    let third = activate(&running, &again, other).await.unwrap().parameters.unwrap();
    assert_ne!(third.files["/key"], given.files["/key"]);
    let exhausted = activate(&running, &again, request(&again)).await.unwrap_err();
    assert_eq!(exhausted.code(), Code::PermissionDenied);
    assert!(exhausted.message().contains("reached max activations count"), "{exhausted}");
}

#[tokio::test(flavor = "multi_thread")]
async fn native_programs_are_refused_with_marbleruns_codes() {
    let fresh = Running::start().await;
    let key = TeeKey::generate().unwrap();
    let early = activate(&fresh, &key, request(&key)).await.unwrap_err();
    assert_eq!(early.code(), Code::FailedPrecondition);

    let running = started().await;
    let of = |change: fn(&mut ActivationReq)| {
        let mut request = request(&key);
        change(&mut request);
        activate(&running, &key, request)
    };
    let refused = of(|request| request.marble_type = "nobody".into()).await.unwrap_err();
    assert_eq!(
        (refused.code(), refused.message()),
        (Code::PermissionDenied, "marble verification failed: unknown marble type requested")
    );
    let keep = of(|request| request.marble_type = "tally".into()).await.unwrap_err();
    assert!(keep.message().contains("a Keep runs it"), "{keep}");
    let garbage = of(|request| request.quote = b"nonsense".to_vec()).await.unwrap_err();
    assert!(garbage.message().contains("invalid quote"), "{garbage}");
    let uuid = of(|request| request.uuid = "1".into()).await.unwrap_err();
    assert_eq!(uuid.code(), Code::InvalidArgument);
    let other = EmulatedTee::launch(Platform::Sgx, b"another program", b"");
    let mut wrong = request(&key);
    wrong.quote = quote(&other, key.certificate());
    let wrong = activate(&running, &key, wrong).await.unwrap_err();
    assert!(wrong.message().contains("MEASUREMENT_MISMATCH"), "{wrong}");
    // S-01: a quote over the certificate of another connection.
    let thief = TeeKey::generate().unwrap();
    let stolen = activate(&running, &thief, request(&key)).await.unwrap_err();
    assert!(stolen.message().contains("REPORT_DATA_MISMATCH"), "{stolen}");
}

#[tokio::test(flavor = "multi_thread")]
async fn s38_infrastructures_are_enforced() {
    for (infrastructure, accepted) in [
        (json!({ "QESVN": 0, "PCESVN": 1 }), true),
        (json!({ "PCESVN": 65_535 }), false),
        (json!({ "CPUSVN": vec![255; 16] }), false),
        (json!({ "RootCA": [3, 3, 3] }), false),
    ] {
        let running = Running::start().await;
        let mut text = text();
        text["Infrastructures"] = json!({ "here": infrastructure });
        assert_eq!(running.set_manifest(Some(&people().owner), &text.to_string()).await.status, 200);
        let key = TeeKey::generate().unwrap();
        let answer = activate(&running, &key, request(&key)).await;
        assert_eq!(answer.is_ok(), accepted, "{infrastructure}: {:?}", answer.err());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn counters_only_rise_and_belong_to_one_instance() {
    let running = started().await;
    let key = TeeKey::generate().unwrap();
    let given = activate(&running, &key, request(&key)).await.unwrap().parameters.unwrap();
    let pem = &given.env["MARBLE_PREDEFINED_MARBLE_CERTIFICATE_CHAIN"];
    let chain = evidence::pem::certificates(pem).unwrap().into_iter().map(|der| der.0.into()).collect();
    let private = x509_parser::pem::Pem::iter_from_buffer(&given.env["MARBLE_PREDEFINED_PRIVATE_KEY"])
        .next()
        .unwrap()
        .unwrap()
        .contents;
    let identity = attested_tls::service::UserIdentity { chain, key: private.try_into().unwrap() };
    let config = unverified_client(Some(&identity), attested_tls::clock::fixed(NOW)).unwrap();
    let raise = async |value: u64| {
        let body = json!({ "name": "epoch", "value": value }).to_string().into_bytes();
        let path = "/api/v2/monotonic-counter";
        running.request_with(config.clone(), Method::POST, path, body).await.unwrap().json()["data"]["value"]
            .clone()
    };
    assert_eq!(raise(5).await, 0);
    assert_eq!(raise(3).await, 5, "it does not fall");
    assert_eq!(raise(9).await, 5);
    assert_eq!(raise(9).await, 9);
    let stranger = Some(&people().stranger);
    let body = json!({ "name": "epoch", "value": 1 }).to_string();
    let answer = running.post(stranger, "/api/v2/monotonic-counter", body.clone()).await;
    assert_eq!(answer.code(), (401, "MARBLE_CERTIFICATE_REQUIRED".into()));
    assert_eq!(running.post(None, "/api/v2/monotonic-counter", body.clone()).await.code().0, 401);
    let closed = Running::with_manifest().await;
    let answer = closed.post(None, "/api/v2/monotonic-counter", body).await;
    assert_eq!(answer.code(), (403, "FEATURE_GATE_CLOSED".into()));
}

#[tokio::test(flavor = "multi_thread")]
async fn quotes_are_signed_with_their_status() {
    let running = started().await;
    let quote = BASE64.encode(quote(&program(), b"anything"));
    let post = async |quote: &str| {
        running.post(None, "/api/v2/sign-quote", json!({ "sgxQuote": quote }).to_string()).await
    };
    let answer = post(&quote).await.json()["data"].clone();
    assert_eq!(answer["tcbStatus"], "UpToDate", "{answer}");
    let root = running.verify([1; 32]).await.unwrap().root.into_vec();
    let (_, root) = x509_parser::parse_x509_certificate(&root).unwrap();
    let key = aws_lc_rs::signature::UnparsedPublicKey::new(
        &aws_lc_rs::signature::ECDSA_P256_SHA256_ASN1,
        &root.public_key().subject_public_key.data,
    );
    let signature = BASE64.decode(answer["verificationSignature"].as_str().unwrap()).unwrap();
    key.verify(format!("{quote}UpToDate").as_bytes(), &signature).unwrap();
    assert_eq!(post(&BASE64.encode("nonsense")).await.code(), (422, "QUOTE_REFUSED".into()));
    assert_eq!(post("%").await.code(), (400, "BODY_MALFORMED".into()));
    let closed = Running::with_manifest().await;
    let answer = closed.post(None, "/api/v2/sign-quote", json!({ "sgxQuote": quote }).to_string()).await;
    assert_eq!(answer.code(), (403, "FEATURE_GATE_CLOSED".into()));
}

#[tokio::test(flavor = "multi_thread")]
async fn the_client_api_has_marbleruns_paths_and_envelopes() {
    let running = started().await;
    let data = async |path: &str| running.get(Some(&people().reader), path).await.json()["data"].clone();
    assert_eq!(data("/api/v2/status").await["code"], 3);
    assert_eq!(data("/status").await["StatusCode"], 3);
    let manifest = data("/api/v2/manifest").await;
    assert_eq!(data("/manifest").await["ManifestSignature"], manifest["manifestFingerprint"]);
    assert_eq!(
        BASE64.decode(manifest["manifest"].as_str().unwrap()).unwrap(),
        text().to_string().into_bytes()
    );
    let log = data("/api/v2/update").await["updateLog"].clone();
    assert!(log[0].as_str().unwrap().contains("\"update\":\"Initial manifest set\""), "{log}");
    assert_eq!(data("/update").await, format!("{}\n", log[0].as_str().unwrap()));
    let secret = data("/api/v2/secrets?s=salt&s=cert").await["secrets"].clone();
    assert_eq!((&secret["salt"]["Type"], &secret["salt"]["Size"]), (&json!("symmetric-key"), &json!(256)));
    assert_eq!(secret["salt"]["Private"], secret["salt"]["Public"]);
    assert_eq!(data("/secrets?s=salt").await["salt"], secret["salt"]);
    assert_eq!(running.get(None, "/api/v2/update-manifest").await.code(), (404, "UPDATE_ABSENT".into()));
    assert_eq!(running.post(None, "/recover", "x").await.status, 410);

    // A quote over the root and a nonce; the chain ends in that root.
    let nonce = URL_SAFE.encode([9; 5]);
    let quote = data(&format!("/api/v2/quote?nonce={nonce}")).await;
    let chain = evidence::pem::certificates(quote["cert"].as_str().unwrap().as_bytes()).unwrap();
    let bytes = BASE64.decode(quote["quote"].as_str().unwrap()).unwrap();
    let evidence = Evidence::parse(&bytes).unwrap();
    let expected = sha256(&[&chain[1].0[..], &[9; 5]].concat());
    assert_eq!(evidence.covered().as_bytes()[..32], expected);
    assert_eq!(running.get(None, "/api/v2/quote?nonce=%21").await.code(), (400, "NONCE_MALFORMED".into()));

    let update = json!({ "manifest": BASE64.encode(text().to_string()) }).to_string();
    let answer =
        running.post(Some(&people().writer), "/api/v2/update", update.clone()).await.json()["data"].clone();
    assert_eq!((&answer["missingAcknowledgments"], &answer["missingUsers"]), (&json!(1), &json!(["reader"])));
    assert_eq!(data("/api/v2/update-manifest").await["missingUsers"], json!(["reader"]));
    let answer = running.post(Some(&people().reader), "/api/v2/update-manifest", update.clone()).await;
    assert_eq!(answer.json()["data"]["missingAcknowledgments"], 0);
    let answer = running.post(Some(&people().writer), "/api/v2/update", update).await;
    assert_eq!(answer.status, 200);
    let answer = running.post(Some(&people().reader), "/api/v2/update-cancel", "").await;
    assert_eq!(answer.json()["status"], "success");
    assert_eq!(running.get(None, "/readyz").await.status, 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn s44_metrics_have_the_manifests_names_and_nothing_of_requests() {
    let running = started().await;
    let key = TeeKey::generate().unwrap();
    let mut chosen = request(&key);
    chosen.marble_type = "CANARY-label".into();
    activate(&running, &key, chosen).await.unwrap_err();
    activate(&running, &key, request(&key)).await.unwrap();
    running.get(None, "/CANARY-path").await;
    let mut stream = TcpStream::connect(running.metrics).await.unwrap();
    stream.write_all(b"GET /metrics HTTP/1.0\r\n\r\n").await.unwrap();
    let mut text = String::new();
    stream.read_to_string(&mut text).await.unwrap();
    for line in [
        "coordinator_state 3",
        "coordinator_marble_activations_success_total{marble=\"native\"} 1",
        "coordinator_marble_instances{marble=\"native\"} 1",
        "coordinator_activations_total{decision=\"refused\"} 1",
        "coordinator_client_api_requests_total{code=\"4xx\"} 1",
    ] {
        assert!(text.contains(line), "{line}\n{text}");
    }
    assert!(!text.contains("CANARY") && !text.contains(UUID), "{text}");
}

//! Enarx' Steward, played by an HTTPS server with a CA of its own that reads the request as Steward does.

use std::{net::SocketAddr, sync::Arc};

use attested_tls::clock;
use attester::Tee;
use aws_lc_rs::digest::{SHA256, SHA384, digest};
use evidence::{Evidence, Platform, ReportData};
use keep::{net::Identity, steward};
use keep_config::KeepConfig;
use testkit::tee::EmulatedTee;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpListener,
};
use tokio_rustls::TlsAcceptor;
use x509_parser::{
    asn1_rs::{Any, FromDer as _},
    certification_request::X509CertificationRequest,
    prelude::ParsedExtension,
};

use crate::{client::handshake, net::within, pki::Root};

/// What the double does with a good request.
#[derive(Clone, Copy, PartialEq)]
enum Mood {
    Certify,
    Refuse,
    AnotherKey,
    Nonsense,
    TooMuch,
}

/// Listens as `localhost`, below `root`.
async fn steward(root: Arc<Root>, mood: Mood) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let acceptor = TlsAcceptor::from(root.server());
    tokio::spawn(async move {
        loop {
            let (tcp, _) = listener.accept().await.unwrap();
            let Ok(mut stream) = acceptor.accept(tcp).await else { continue };
            let (head, csr) = request(&mut stream).await;
            let answer = answer(&head, &csr, &root, mood);
            let _ = stream.write_all(&answer).await;
            let _ = stream.shutdown().await;
        }
    });
    address
}

async fn request(stream: &mut (impl AsyncReadExt + Unpin)) -> (String, Vec<u8>) {
    let mut bytes = Vec::new();
    loop {
        stream.read_buf(&mut bytes).await.unwrap();
        let Some(end) = bytes.windows(4).position(|window| window == b"\r\n\r\n") else { continue };
        let head = String::from_utf8(bytes[..end].to_vec()).unwrap().to_lowercase();
        let length = head.lines().find_map(|line| line.strip_prefix("content-length: ")).unwrap();
        if bytes.len() >= end + 4 + length.parse::<usize>().unwrap() {
            return (head, bytes[end + 4..].to_vec());
        }
    }
}

fn answer(head: &str, csr: &[u8], root: &Root, mood: Mood) -> Vec<u8> {
    let reply = |status: &str, body: &[u8]| {
        let head =
            format!("HTTP/1.1 {status}\r\ncontent-length: {}\r\nconnection: close\r\n\r\n", body.len());
        [head.as_bytes(), body].concat()
    };
    let good = head.starts_with("post /issue http/1.1") && head.contains("content-type: application/pkcs10");
    let Some(public_key) = checked(csr).filter(|_| good) else { return reply("400 Bad Request", b"no") };
    match mood {
        Mood::Certify => reply("200 OK", &root.certify(&public_key)),
        Mood::Refuse => reply("401 Unauthorized", b"not\x1b[31m this code"),
        Mood::AnotherKey => {
            use rcgen::PublicKeyData;
            reply("200 OK", &root.certify(&rcgen::KeyPair::generate().unwrap().subject_public_key_info()))
        }
        Mood::Nonsense => reply("200 OK", b"-----BEGIN CERTIFICATE-----"),
        Mood::TooMuch => reply("200 OK", &vec![0x30; 100_000]),
    }
}

/// The public key of a request that holds: signed by its key, without a subject, with Evidence that covers the key.
fn checked(csr: &[u8]) -> Option<Vec<u8>> {
    let (rest, request) = X509CertificationRequest::from_der(csr).ok()?;
    request.verify_signature().ok()?;
    let info = &request.certification_request_info;
    let extensions: Vec<_> = request.requested_extensions()?.collect();
    let [ParsedExtension::UnsupportedExtension { oid }] = extensions.as_slice() else { return None };
    let raw = info.attributes().first()?.value;
    let (platform, algorithm) = match oid.to_id_string().as_str() {
        "1.3.6.1.4.1.58270.1.2" => (Platform::Sgx, &SHA256),
        "1.3.6.1.4.1.58270.1.3" => (Platform::Snp, &SHA384),
        _ => return None,
    };
    let evidence = evidence_in(raw)?;
    let evidence = Evidence::parse(&evidence).ok()?;
    let covered = digest(algorithm, info.subject_pki.raw);
    let mut expected = [0; 64];
    expected[..covered.as_ref().len()].copy_from_slice(covered.as_ref());
    let bound = evidence.platform() == platform && evidence.covered() == ReportData(expected).into();
    (rest.is_empty() && info.subject.iter().next().is_none() && bound).then(|| info.subject_pki.raw.to_vec())
}

/// The report or quote: the one OCTET STRING, however deep, that is Evidence.
fn evidence_in(der: &[u8]) -> Option<Vec<u8>> {
    let mut rest = der;
    while let Ok((after, any)) = Any::from_der(rest) {
        if any.tag().0 == 4 && Evidence::parse(any.data).is_ok() {
            return Some(any.data.to_vec());
        }
        if let Some(found) = evidence_in(any.data) {
            return Some(found);
        }
        rest = after;
    }
    None
}

fn config(address: SocketAddr, root: &Root) -> KeepConfig {
    let port = address.port();
    let text = format!(
        "steward = \"https://localhost:{port}/issue\"\n[roots]\nsteward = \"\"\"{}\"\"\"",
        root.pem()
    );
    KeepConfig::parse(&text).unwrap()
}

async fn ask(platform: Platform, config: &KeepConfig) -> Result<Identity, steward::IdentityError> {
    let tee: Arc<dyn Tee> = EmulatedTee::launch(platform, b"keep", b"{}");
    within(steward::identity(config, &tee, clock::system())).await
}

#[tokio::test]
async fn steward_certifies_the_key_that_the_evidence_covers() {
    let root = Arc::new(Root::new());
    let address = steward(Arc::clone(&root), Mood::Certify).await;
    for platform in [Platform::Snp, Platform::Sgx] {
        let identity = ask(platform, &config(address, &root)).await.unwrap();
        // And the Keep shows it: a client that trusts Steward's root only comes in by that name.
        let network = crate::net::network_of("", identity, &[]).unwrap();
        let listener = crate::net::listen(&network, crate::net::TLS);
        let tcp = tokio::net::TcpStream::connect(listener.local_addr()).await.unwrap();
        let name = rustls::pki_types::ServerName::try_from("localhost").unwrap();
        let connector = tokio_rustls::TlsConnector::from(root.client(&root, &[]));
        within(connector.connect(name, tcp)).await.unwrap();
    }
}

#[tokio::test]
async fn each_way_in_which_steward_gives_none_has_its_code() {
    let root = Arc::new(Root::new());
    for (mood, code) in [
        (Mood::Refuse, "STEWARD_REFUSED"),
        (Mood::AnotherKey, "STEWARD_ANSWER_UNUSABLE"),
        (Mood::Nonsense, "STEWARD_ANSWER_UNUSABLE"),
        (Mood::TooMuch, "STEWARD_UNREACHABLE"),
    ] {
        let address = steward(Arc::clone(&root), mood).await;
        let error = ask(Platform::Sgx, &config(address, &root)).await.unwrap_err();
        assert_eq!(error.code(), code, "{error}");
        assert!(!error.to_string().contains('\u{1b}'), "Steward drives the reader's terminal");
    }
    let address = steward(Arc::clone(&root), Mood::Certify).await;
    // Below other roots than Steward's, below the web's, and where nobody listens.
    let other = ask(Platform::Sgx, &config(address, &Root::new())).await.unwrap_err();
    assert_eq!(other.code(), "STEWARD_UNREACHABLE");
    let web = KeepConfig { roots: Default::default(), ..config(address, &root) };
    assert_eq!(ask(Platform::Sgx, &web).await.unwrap_err().code(), "STEWARD_UNREACHABLE");
    let tdx = ask(Platform::Tdx, &config(address, &root)).await.unwrap_err();
    assert_eq!(tdx.code(), "STEWARD_PLATFORM_UNKNOWN");
}

#[tokio::test]
async fn without_steward_the_key_signs_itself() {
    let identity = ask(Platform::Tdx, &KeepConfig::default()).await.unwrap();
    let network = crate::net::network_of("", identity, &[]).unwrap();
    let listener = crate::net::listen(&network, crate::net::TLS);
    let root = Root::new();
    let error = handshake(listener.local_addr(), root.client(&root, &[])).await.unwrap_err();
    assert!(error.to_string().contains("certificate"), "{error}");
}

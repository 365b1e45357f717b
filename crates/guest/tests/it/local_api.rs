//! The local API, over a real socket.

use std::{net::SocketAddr, sync::Arc};

use evidence::{Platform, coco};
use guest::rest::{self, Offer};
use serde_json::Value;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
};

use crate::fake::{Fake, Fault};

struct Local {
    fake: Fake,
    address: SocketAddr,
}

impl Local {
    async fn serve(offer: Offer) -> Self {
        let fake = Fake::start().await;
        fake.put("default/key/1", b"\0first\xff");
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = listener.local_addr().expect("an address");
        tokio::spawn(rest::serve(listener, Arc::new(fake.guest()), offer));
        Self { fake, address }
    }

    /// What is answered to these bytes: the status, and the body.
    async fn raw(&self, request: &str) -> (u16, Vec<u8>) {
        let mut stream = TcpStream::connect(self.address).await.expect("connected");
        stream.write_all(request.as_bytes()).await.expect("sent");
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer).await.expect("answered");
        let end = answer.windows(4).position(|four| four == b"\r\n\r\n").expect("a head") + 4;
        let head = String::from_utf8(answer[..end].to_vec()).expect("text");
        assert!(head.to_lowercase().contains("cache-control: no-store") || head.contains(" 4"), "{head}");
        (
            head.split(' ').nth(1).and_then(|status| status.parse().ok()).expect("a status"),
            answer[end..].to_vec(),
        )
    }

    async fn ask(&self, method: &str, target: &str, body: &str) -> (u16, Vec<u8>) {
        let length = body.len();
        self.raw(&format!(
            "{method} {target} HTTP/1.1\r\nHost: 127.0.0.1:8006\r\nConnection: close\r\nContent-Length: \
             {length}\r\n\r\n{body}"
        ))
        .await
    }

    async fn get(&self, target: &str) -> (u16, Vec<u8>) {
        self.ask("GET", target, "").await
    }

    async fn status(&self, target: &str) -> u16 {
        self.get(target).await.0
    }
}

#[tokio::test]
async fn resources_are_served_as_confidential_containers_do() {
    let local = Local::serve(Offer::Resource).await;
    assert_eq!(local.get("/cdh/resource/default/key/1").await, (200, b"\0first\xff".to_vec()));
    let (status, body) = local.get("/cdh/resource/default/secret-name/none").await;
    assert_eq!(status, 404, "denied, or not there");
    assert!(!String::from_utf8_lossy(&body).contains("secret-name"));
    let (status, info) = local.get("/info").await;
    let info: Value = serde_json::from_slice(&info).expect("JSON");
    assert_eq!((status, &info["tee"], &info["feature"]), (200, &"snp".into(), &"resource".into()));
    assert_eq!(info["additional_tees"], serde_json::json!([]));
    assert!(info["version"].is_string());
}

#[tokio::test]
async fn evidence_covers_what_a_workload_asks_for() {
    let local = Local::serve(Offer::Attestation).await;
    for (query, covered) in [
        ("runtime_data=hello", &b"hello"[..]),
        ("runtime_data=aGVsbG8&encoding=base64", b"hello"),
        ("runtime_data=%2B%2f8%3d&encoding=base64", &[0xfb, 0xff]),
    ] {
        let (status, body) = local.get(&format!("/aa/evidence?{query}")).await;
        assert_eq!(status, 200, "{}", String::from_utf8_lossy(&body));
        let conveyed = coco::read(Platform::Snp, &body).expect("Evidence");
        let bytes = conveyed.evidence[0].1.covered().as_bytes().to_vec();
        assert_eq!(
            (&bytes[..covered.len()], &bytes[covered.len()..]),
            (covered, &vec![0; 64 - covered.len()][..])
        );
    }
    assert_eq!(local.get("/aa/additional-evidence?runtime_data=hello").await, (200, b"{}".to_vec()));
}

#[tokio::test]
async fn tokens_of_the_broker_are_served_with_their_key() {
    let local = Local::serve(Offer::All).await;
    let (status, body) = local.get("/aa/token?token_type=kbs").await;
    let token: Value = serde_json::from_slice(&body).expect("JSON");
    assert_eq!(status, 200);
    assert!(token["token"].as_str().expect("a token").starts_with("head."));
    assert!(token["tee_keypair"].as_str().expect("a key").starts_with("-----BEGIN PRIVATE KEY-----\n"));
    assert_eq!(local.status("/aa/token?token_type=coco_as").await, 400);
    assert_eq!(local.status("/aa/token").await, 400);
}

#[tokio::test]
async fn what_is_not_offered_is_not_there() {
    let resource = Local::serve(Offer::Resource).await;
    for target in
        ["/aa/token?token_type=kbs", "/aa/evidence?runtime_data=a", "/aa/aael", "/", "/cdh", "/metrics"]
    {
        assert_eq!(resource.status(target).await, 404, "{target}");
    }
    let attestation = Local::serve(Offer::Attestation).await;
    assert_eq!(attestation.status("/cdh/resource/default/key/1").await, 404);
    assert_eq!(attestation.fake.asked("/"), 0);
}

#[tokio::test]
async fn runtime_measurements_that_there_are_none_of_are_not_pretended() {
    let local = Local::serve(Offer::All).await;
    let event = r#"{"domain":"example.com","operation":"Pull","content":"{}"}"#;
    let (status, body) = local.ask("POST", "/aa/aael", event).await;
    assert_eq!(status, 501);
    assert!(String::from_utf8_lossy(&body).starts_with("NOT_SUPPORTED"));
    for (bad, expected) in [
        ("{}".to_owned(), 400),
        (event.replace("Pull", "Pull it"), 400),
        (event.replace("{}\"", "a\\nb\""), 400),
        (event.replace("\"content\"", "\"x\":1,\"content\""), 400),
        (format!("{event}{}", " ".repeat(70_000)), 413),
    ] {
        assert_eq!(local.ask("POST", "/aa/aael", &bad).await.0, expected, "{}", &bad[..bad.len().min(100)]);
    }
    assert_eq!(local.status("/aa/aael").await, 405);
}

#[tokio::test]
async fn names_that_were_rebound_and_web_pages_get_nothing() {
    let local = Local::serve(Offer::All).await;
    for headers in [
        "Host: evil.example:8006",
        "Host: localhost.evil.example",
        "Host: localhost\r\nHost: evil.example",
        "Host: localhost\r\nOrigin: http://evil.example",
        "X: y",
    ] {
        let request =
            format!("GET /cdh/resource/default/key/1 HTTP/1.1\r\n{headers}\r\nConnection: close\r\n\r\n");
        let (status, body) = local.raw(&request).await;
        assert!(matches!(status, 400 | 403), "{headers}: {status}");
        assert!(!body.windows(5).any(|five| five == b"first"));
    }
    assert_eq!(local.fake.asked("/"), 0);
}

#[tokio::test]
async fn s43_paths_that_climb_or_are_encoded_are_refused() {
    let local = Local::serve(Offer::All).await;
    let long = format!("/cdh/resource/a/b/{}", "c".repeat(9000));
    for (target, expected) in [
        ("/cdh/resource/a/../c", 400),
        ("/cdh/resource/a/%2e%2e/c", 400),
        ("/cdh/resource/a/b", 400),
        ("/cdh/resource/a/b/c/d", 400),
        ("/cdh/resource//b/c", 400),
        ("/cdh/resource/kbs+pkcs11:///a", 400),
        ("/cdh/resource/a/b/.c", 400),
        ("/cdh/resource/", 400),
        ("/cdh/resource/a/b/c?x=%zz", 404),
        ("/aa/evidence?runtime_data=%zz", 400),
        ("/aa/evidence?runtime_data=a&runtime_data=b", 400),
        ("/aa/evidence", 400),
        (&long, 414),
    ] {
        assert_eq!(local.status(target).await, expected, "{}", &target[..target.len().min(60)]);
    }
    assert_eq!(local.ask("POST", "/cdh/resource/default/key/1", "x").await.0, 405);
    assert_eq!(local.ask("DELETE", "/cdh/resource/default/key/1", "").await.0, 405);
}

#[tokio::test]
async fn a_broker_that_fails_is_not_a_secret_that_is_missing() {
    let local = Local::serve(Offer::All).await;
    local.fake.faults("resource", [Fault::ForAnotherKey, Fault::Status(403, "PolicyDeny")]);
    assert_eq!(local.status("/cdh/resource/default/key/1").await, 502);
    assert_eq!(local.status("/cdh/resource/default/key/1").await, 404);
    assert_eq!(local.status("/cdh/resource/default/key/1").await, 200);
}

//! `wasi:http` 0.3: handlers are served as those of 0.2 are, and reach other Marbles by name.

use http::{Method, StatusCode};
use keep::admission::{Admission, Limits};

use crate::{
    client::{Client, request},
    net::within,
    pki::Root,
    poll,
    running::Running,
    workloads,
};

async fn service(root: &Root, peers: &[(&str, String)]) -> Running {
    let limits = Limits { max_body_bytes: 1000, ..Limits::default() };
    let mut admission = Admission { marble: "frontend".into(), limits, ..Admission::default() };
    admission.peers.extend(peers.iter().map(|(name, address)| ((*name).to_owned(), address.clone())));
    Running::start(workloads::service03(), admission, root.public("frontend")).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_handler_of_wasi_0_3_is_served() {
    let root = Root::new();
    let keep = service(&root, &[]).await;
    for alpn in [b"http/1.1".as_slice(), b"h2"] {
        let tls = root.client(&root, &[alpn]);
        let mut client = Client::connect(keep.address, tls).await.unwrap();
        assert_eq!(within(client.get("/")).await.text, "hello");
        let expected: String = (0..100).map(|part| format!("part {part};")).collect();
        assert_eq!(within(client.get("/parts")).await.text, expected);
        let seen = within(client.get("/seen")).await.text;
        assert!(seen.contains("Https") && seen.contains("keep.test"), "{seen}");
    }
    keep.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_handler_of_wasi_0_3_fails_at_has_a_code_and_tells_no_secret() {
    let root = Root::new();
    let keep = service(&root, &[]).await;
    for (path, code) in [("/fail", "WORKLOAD_ERROR"), ("/trap", "WORKLOAD_TRAPPED")] {
        let mut client = Client::to(&keep, &root).await;
        let answer = within(client.get(path)).await;
        assert_eq!(answer.status, StatusCode::INTERNAL_SERVER_ERROR);
        assert_eq!(answer.code(), Some(code), "{}", answer.text);
        assert!(!answer.text.contains("secret"), "{}", answer.text);
    }
    let mut client = Client::to(&keep, &root).await;
    let long = within(client.send(request(Method::POST, "/", vec![b'x'; 1001]))).await.unwrap();
    assert_eq!(long.code(), Some("BODY_TOO_LARGE"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_handler_of_wasi_0_3_calls_named_peers_and_nobody_else() {
    let root = Root::new();
    let tally = Running::start(workloads::tally(), poll::tally(None), root.mutual("tally", &root)).await;
    let keep = service(&root, &[("tally", tally.address.to_string())]).await;
    let mut client = Client::to(&keep, &root).await;
    let votes = within(client.get("/fetch?to=tally")).await;
    assert!(votes.text.contains("\"total\":0"), "{}", votes.text);
    for destination in [tally.address.to_string(), "example.com".into()] {
        let denied = within(client.get(&format!("/fetch?to={destination}"))).await;
        assert_eq!(denied.code(), Some("WORKLOAD_ERROR"), "{}", denied.text);
    }
}

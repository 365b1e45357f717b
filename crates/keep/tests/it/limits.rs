//! A workload that exceeds a limit, or fails, ends its own request with a stable code; the Keep lives on.

use std::time::{Duration, Instant};

use http::{Method, StatusCode};
use http_body_util::{BodyExt, StreamBody};
use hyper::body::Frame;
use keep::admission::{Admission, Limits};

use crate::{
    client::{Body, Client, request},
    pki::Root,
    running::Running,
    workloads,
};

async fn keep(limits: Limits) -> (Running, Client, Root) {
    let root = Root::new();
    let admission = Admission { marble: "probe".into(), limits, ..Admission::default() };
    let keep = Running::start(workloads::probe(), admission, root.public("probe")).await;
    let client = Client::to(&keep, &root).await;
    (keep, client, root)
}

async fn refused(limits: Limits, path: &str, status: StatusCode, code: &str) {
    let (_keep, mut client, _root) = keep(limits).await;
    let answer = client.get(path).await;
    assert_eq!((answer.status, answer.code()), (status, Some(code)), "{path}: {answer:?}");
    let told: serde_json::Value = serde_json::from_str(&answer.text).unwrap();
    assert_eq!(told["code"], code);
    assert_eq!(client.get("/").await.text, "hello", "the Keep did not live on");
}

#[tokio::test(flavor = "multi_thread")]
async fn processor_time_is_limited() {
    let limits = Limits { cpu_ms_per_request: 100, ..Limits::default() };
    refused(limits, "/spin", StatusCode::SERVICE_UNAVAILABLE, "CPU_LIMIT").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn waiting_costs_no_processor_time_but_has_an_end() {
    let limits = Limits { cpu_ms_per_request: 100, wall_ms_per_request: 1_000, ..Limits::default() };
    let (_keep, mut client, _root) = keep(limits).await;
    assert_eq!(client.get("/sleep?ms=400").await.text, "slept");
    refused(limits, "/sleep?ms=60000", StatusCode::SERVICE_UNAVAILABLE, "TIME_LIMIT").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn memory_is_limited() {
    let limits = Limits { memory_bytes: 16 << 20, ..Limits::default() };
    refused(limits, "/hog", StatusCode::SERVICE_UNAVAILABLE, "MEMORY_LIMIT").await;
    // Also where the limit is the engine's own slot size.
    refused(Limits::default(), "/hog", StatusCode::SERVICE_UNAVAILABLE, "MEMORY_LIMIT").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn failures_stay_in_their_request() {
    for path in ["/recurse", "/panic?p=secret", "/exit"] {
        refused(Limits::default(), path, StatusCode::INTERNAL_SERVER_ERROR, "WORKLOAD_TRAPPED").await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_answer_that_breaks_off_is_seen_to_break_off() {
    let (_keep, mut client, root) = keep(Limits::default()).await;
    let broken = client.send(request(Method::GET, "/half", "")).await;
    assert!(broken.is_err(), "a failed answer looked complete: {broken:?}");
    let mut client = Client::to(&_keep, &root).await;
    assert_eq!(client.get("/").await.text, "hello");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_body_is_limited_whether_announced_or_not() {
    let limits = Limits { max_body_bytes: 100_000, ..Limits::default() };
    let (keep, mut client, root) = keep(limits).await;
    assert_eq!(client.post("/body", vec![0; 100_000]).await.text, "100000");
    let announced = client.post("/body", vec![0; 100_001]).await;
    assert_eq!(announced.code(), Some("BODY_TOO_LARGE"));
    assert_eq!(announced.status, StatusCode::PAYLOAD_TOO_LARGE);

    let mut client = Client::connect(keep.address, root.client(&root, &[b"h2"])).await.unwrap();
    let chunks = (0..11).map(|_| Ok::<_, std::io::Error>(Frame::data(bytes::Bytes::from(vec![0; 10_000]))));
    let body: Body = BodyExt::boxed(StreamBody::new(futures_util::stream::iter(chunks)));
    let chunked = client.send(request(Method::POST, "/body", "").map(|_| body)).await.unwrap();
    assert_eq!(chunked.code(), Some("BODY_TOO_LARGE"), "{chunked:?}");
    assert_eq!(client.get("/").await.text, "hello");
}

#[tokio::test(flavor = "multi_thread")]
async fn busy_instances_are_waited_for_and_then_refused() {
    let limits = Limits {
        max_concurrent_requests: 1,
        cpu_ms_per_request: 60_000,
        wall_ms_per_request: 8_000,
        ..Limits::default()
    };
    let (keep, mut first, root) = keep(limits).await;
    let mut second = Client::to(&keep, &root).await;
    let mut third = Client::to(&keep, &root).await;
    let long = tokio::spawn(async move { first.get("/sleep?ms=60000").await });
    tokio::time::sleep(Duration::from_millis(200)).await;
    let begun = Instant::now();
    let answer = second.get("/").await;
    assert_eq!((answer.status, answer.code()), (StatusCode::SERVICE_UNAVAILABLE, Some("KEEP_BUSY")));
    assert!(begun.elapsed() > Duration::from_secs(4));
    assert_eq!(third.get("/").await.text, "hello", "the place was not given back");
    assert_eq!(long.await.unwrap().code(), Some("TIME_LIMIT"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_spinning_workload_does_not_keep_others_waiting() {
    let limits = Limits { cpu_ms_per_request: 1_000, ..Limits::default() };
    let (keep, _, root) = keep(limits).await;
    let mut spinning = Vec::new();
    for _ in 0..8 {
        let mut client = Client::to(&keep, &root).await;
        spinning.push(tokio::spawn(async move { client.get("/spin").await }));
    }
    tokio::time::sleep(Duration::from_millis(100)).await;
    let mut client = Client::to(&keep, &root).await;
    assert_eq!(client.get("/").await.text, "hello");
    // Not all: where this process gets a processor seldom, one may have used its time up by now.
    assert!(spinning.iter().any(|it| !it.is_finished()), "it was answered after those that spin");
    for spun in spinning {
        assert_eq!(spun.await.unwrap().code(), Some("CPU_LIMIT"));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_workload_cannot_speak_as_the_keep() {
    let (_keep, mut client, _root) = keep(Limits::default()).await;
    let answer = client.get("/code").await;
    assert_eq!((answer.text.as_str(), answer.code()), ("mine", None));
}

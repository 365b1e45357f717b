//! Programs in several languages do their work in a Keep.

use keep::admission::{Admission, Limits};
use serde_json::{Value, json};

use crate::{
    client::{Answer, Client, request},
    examples::example,
    pki::Root,
    running::Running,
};

const LIMITS: Limits = Limits {
    memory_bytes: 256 << 20,
    cpu_ms_per_request: 60_000,
    wall_ms_per_request: 120_000,
    max_concurrent_requests: 2,
    max_connections: 8,
    max_body_bytes: 1 << 20,
    keyvalue_bytes: 0,
};

/// A Keep that serves the example, and who can verify it.
async fn serving(name: &str, env: &[(&str, &str)]) -> Option<(Running, Root)> {
    let workload = example(name)?;
    let root = Root::new();
    let env = env.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
    let admission = Admission { marble: name.into(), env, limits: LIMITS, ..Admission::default() };
    let keep = Running::start(workload, admission, root.public("probe")).await;
    Some((keep, root))
}

fn value(answer: &Answer) -> Value {
    serde_json::from_str(&answer.text).unwrap_or_else(|_| panic!("no JSON: {answer:?}"))
}

#[tokio::test(flavor = "multi_thread")]
async fn rust_receives_webhooks_and_believes_only_signed_ones() {
    let Some((keep, root)) = serving("rust-hook", &[("HOOK_SECRET", "It's a Secret to Everybody")]).await
    else {
        return;
    };
    let mut client = Client::to(&keep, &root).await;
    // Secret, body and signature are GitHub's own example (docs: "Validating webhook deliveries").
    let signature = "sha256=757107ea0eb2509fc211221cce984b8a37570b6d7586c22c46f4379c8b043e17";
    let mut signed = request(http::Method::POST, "/", "Hello, World!");
    signed.headers_mut().insert("x-hub-signature-256", signature.parse().unwrap());
    let answer = client.send(signed).await.unwrap();
    assert_eq!((answer.status.as_u16(), value(&answer)), (400, json!({ "error": "the event is no JSON" })));

    let mut altered = request(http::Method::POST, "/", "Hello, World?");
    altered.headers_mut().insert("x-hub-signature-256", signature.parse().unwrap());
    assert_eq!(client.send(altered).await.unwrap().status.as_u16(), 401);
    assert_eq!(client.post("/", "{}").await.status.as_u16(), 401);
    keep.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn python_adds_up_invoices_exactly() {
    let Some((keep, root)) = serving("python-invoice", &[]).await else { return };
    let mut client = Client::to(&keep, &root).await;
    let items: Vec<Value> = (0..10).map(|_| json!({ "price": "0.10", "quantity": 1 })).collect();
    let answer = client.post("/", json!({ "tax": "19", "items": items }).to_string()).await;
    assert_eq!(answer.status.as_u16(), 200, "{answer:?}");
    assert_eq!(value(&answer), json!({ "net": "1.00", "tax": "0.19", "gross": "1.19" }));
    let answer = client.post("/", "{}").await;
    assert_eq!(answer.status.as_u16(), 400, "{answer:?}");
    assert_eq!(client.get("/").await.status.as_u16(), 405);
    keep.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn javascript_says_how_documents_differ() {
    let Some((keep, root)) = serving("javascript-patch", &[]).await else { return };
    let mut client = Client::to(&keep, &root).await;
    let from = json!({ "title": "Keep", "tags": ["a", "b"], "gone": 1 });
    let to = json!({ "title": "Bailey", "tags": ["a"], "new/one": true });
    let answer = client.post("/", json!({ "from": from, "to": to }).to_string()).await;
    assert_eq!(answer.status.as_u16(), 200, "{answer:?}");
    let expected = json!([
        { "op": "remove", "path": "/gone" },
        { "op": "add", "path": "/new~1one", "value": true },
        { "op": "remove", "path": "/tags/1" },
        { "op": "replace", "path": "/title", "value": "Bailey" },
    ]);
    assert_eq!(value(&answer), expected);
    assert_eq!(client.post("/", "no JSON").await.status.as_u16(), 400);
    keep.stop().await;
}

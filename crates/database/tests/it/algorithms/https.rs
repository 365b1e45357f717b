//! Calls over HTTPS.

use axum::{Extension, body::Body, http::Request};
use database::algorithms::api;
use http_body_util::BodyExt as _;
use tower::ServiceExt as _;

use super::*;

async fn send(
    database: &Database,
    party: Option<&str>,
    method: &str,
    path: &str,
    body: &str,
) -> (u16, Value) {
    let caller: Option<Caller> = party.map(|party| database.caller(party));
    let router = api::routes(database.algorithms.clone()).layer(Extension(caller));
    let request = Request::builder().method(method).uri(path).body(Body::from(body.to_owned())).unwrap();
    let response = router.oneshot(request).await.unwrap();
    let status = response.status().as_u16();
    let body = response.into_body().collect().await.unwrap().to_bytes();
    (status, serde_json::from_slice(&body).unwrap_or(Value::Null))
}

#[tokio::test]
async fn a_call_over_https_has_the_same_answer_and_a_receipt() {
    let Some(database) = database(|_| {}).await else { return };
    let post = |body: &'static str| send(&database, Some("analyst"), "POST", "/v1/algorithms/volume", body);
    let (status, answer) = post(r#"{"Arguments": {"least": 0}, "Receipt": true}"#).await;
    assert_eq!(status, 200, "{answer}");
    assert_eq!(answer["Columns"], json!([["city", "text"], ["total", "numeric"]]));
    assert_eq!(answer["Rows"], json!([["ten", "550"]]));
    let receipt = database_receipt::Receipt::parse(answer["Receipt"].to_string().as_bytes()).unwrap();
    database_receipt::verify(receipt, &database.root).unwrap();
    let (_, answer) = post(r#"{"Arguments": {"least": "0"}}"#).await;
    assert_eq!(answer.get("Receipt"), None);
}

#[tokio::test]
async fn refusals_over_https_have_codes_and_statuses() {
    let Some(database) = database(|_| {}).await else { return };
    for (party, path, body, expected) in [
        (None, "volume", "{}", (401, "NOT_A_PARTY")),
        (Some("bank_a"), "volume", r#"{"Arguments": {"least": 0}}"#, (403, "NOT_A_CALLER")),
        (Some("analyst"), "nothing", "{}", (403, "NOT_A_CALLER")),
        (Some("analyst"), "Not%20a%20name", "{}", (403, "NOT_A_CALLER")),
        (Some("analyst"), "volume", "{}", (400, "ARGUMENT_COUNT")),
        (Some("analyst"), "volume", r#"{"Arguments": {"least": -1}}"#, (400, "ARGUMENT")),
        (Some("analyst"), "volume", r#"{"Arguments": {"most": 1}}"#, (400, "ARGUMENT")),
        (Some("analyst"), "volume", r#"{"Arguments": {"least": null}}"#, (400, "MALFORMED_REQUEST")),
        (Some("analyst"), "volume", r#"{"Extra": 1}"#, (400, "MALFORMED_REQUEST")),
        (Some("analyst"), "volume", "", (400, "MALFORMED_REQUEST")),
    ] {
        let (status, body) = send(&database, party, "POST", &format!("/v1/algorithms/{path}"), body).await;
        assert_eq!((status, body["Code"].as_str().unwrap()), expected, "{path}: {body}");
    }
    let (status, _) =
        send(&database, Some("analyst"), "POST", "/v1/algorithms/volume", &" ".repeat(300 << 10)).await;
    assert_eq!(status, 413);
}

#[tokio::test]
async fn a_party_sees_what_it_may_call_and_nothing_else() {
    let Some(database) = database(|_| {}).await else { return };
    let (_, listed) = send(&database, Some("analyst"), "GET", "/v1/algorithms", "").await;
    assert_eq!(listed["volume"]["Arguments"], json!([["least", "bigint"]]));
    assert_eq!(
        (&listed["volume"]["MinContributors"], &listed["total"]["Epsilon"]),
        (&json!(10), &json!(1.0))
    );
    let (_, listed) = send(&database, Some("bank_a"), "GET", "/v1/algorithms", "").await;
    assert_eq!(listed, json!({}));
    assert_eq!(send(&database, None, "GET", "/v1/algorithms", "").await.0, 401);
}

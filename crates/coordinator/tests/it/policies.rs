//! Dry runs of release policies: in force and given ones, on sessions, on recorded Evidence, and on guests that are only
//! said; what comes out is what a real release would say.

use evidence::Platform;
use serde_json::{Value, json};

use crate::{
    broker::{Pod, brokered, under},
    running::Running,
    world::people,
};

const CHECK: &str = "/api/v3/broker/policies/check";

async fn check(running: &Running, policy: Value, guest: Value) -> Value {
    let body = json!({ "resource": "default/key/db", "policy": policy, "guest": guest });
    let answer = running.post(Some(&people().writer), CHECK, body.to_string()).await;
    assert_eq!(answer.status, 200, "{:?}", answer.json());
    answer.json()["data"].clone()
}

fn codes(found: &Value) -> Vec<&str> {
    found["checks"].as_array().unwrap().iter().filter_map(|check| check["code"].as_str()).collect()
}

/// What a guest of this code would send.
fn recorded(pod: &Pod) -> Value {
    let nonce = "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=";
    json!({ "recorded": { "version": "0.4.0", "tee": "snp", "attestation": pod.attestation(nonce) } })
}

fn said(emulated: bool) -> Value {
    json!({ "said": {
        "platform": "snp", "packages": ["kata"], "emulated": emulated,
        "claims": { "submods": { "cpu0": { "ear.status": "affirming" } } },
    } })
}

#[tokio::test(flavor = "multi_thread")]
async fn a_policy_in_force_or_given_on_a_guest_recorded_or_said() {
    let running = under(&brokered()).await;
    let pod = Pod::on(Platform::Snp);
    let given = json!({ "given": { "Packages": ["kata"], "Platforms": ["tdx"], "Emulated": true } });

    let found = check(&running, json!({ "inForce": {} }), said(true)).await;
    assert_eq!((&found["released"], &found["policy"]), (&json!(true), &json!("pods")));
    let found = check(&running, json!({ "named": "pods" }), recorded(&pod)).await;
    assert_eq!(found["released"], true, "{found:#}");
    assert_eq!(found["guest"]["packages"], json!(["kata"]));
    assert_eq!(found["guest"]["emulated"], true);
    assert!(found["guest"]["claims"]["submods"]["cpu0"].is_object());

    let found = check(&running, given.clone(), said(true)).await;
    assert_eq!((&found["released"], codes(&found)), (&json!(false), vec!["PLATFORM_NOT_GRANTED"]));
    let found = check(&running, given, recorded(&pod)).await;
    assert_eq!(codes(&found), ["PLATFORM_NOT_GRANTED"]);

    let rego = "package policy\nallow if input.submods.cpu0[\"ear.status\"] == \"affirming\"";
    let found = check(&running, json!({ "rego": rego }), said(false)).await;
    assert_eq!(found["released"], true, "{found:#}");
    // An emulated platform is never affirmed.
    let found = check(&running, json!({ "rego": rego }), recorded(&pod)).await;
    assert_eq!(codes(&found), ["REGO_DENIED"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_policy_on_a_session_that_is_remembered() {
    let running = under(&brokered()).await;
    let (_, answer) = Pod::on(Platform::Snp).attest(&running).await;
    assert_eq!(answer.status, 200, "{:?}", answer.json());
    let sessions = running.get(Some(&people().writer), "/api/v3/broker/sessions").await.json();
    let session = json!({ "session": sessions["data"]["sessions"][0]["session"] });
    let found = check(&running, json!({ "inForce": {} }), session.clone()).await;
    assert_eq!(found["released"], true, "{found:#}");
    let stricter =
        json!({ "given": { "Packages": ["kata"], "InitData": [format!("sha384:{}", "ab".repeat(48))] } });
    let found = check(&running, stricter, session).await;
    assert_eq!(codes(&found), ["EMULATED_NOT_GRANTED", "INIT_DATA_NOT_GRANTED"]);
    let table = found["checks"].as_array().unwrap();
    let emulated = table.iter().find(|check| check["check"] == "emulated").unwrap();
    assert_eq!((&emulated["expected"], &emulated["seen"]), (&json!("hardware"), &json!("emulated")));
}

#[tokio::test(flavor = "multi_thread")]
async fn evidence_of_other_code_says_why_it_is_nobodys() {
    let running = under(&brokered()).await;
    let pod = Pod { code: b"other code", ..Pod::on(Platform::Snp) };
    let found = check(&running, json!({ "inForce": {} }), recorded(&pod)).await;
    assert_eq!(found["released"], false);
    assert_eq!(found["attested"]["codes"], json!(["MEASUREMENT_MISMATCH"]));
    assert_eq!(found["attested"]["verdicts"][0]["verdict"]["verdict"], "refused");
    // It attested nobody: there is no session.
    let sessions = running.get(Some(&people().writer), "/api/v3/broker/sessions").await.json();
    assert_eq!(sessions["data"]["sessions"], json!([]));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_tried_is_refused() {
    let running = under(&brokered()).await;
    let try_it = async |who, policy: Value, guest: Value, resource: &str| {
        let body = json!({ "resource": resource, "policy": policy, "guest": guest });
        running.post(who, CHECK, body.to_string()).await.code()
    };
    let (writer, in_force) = (Some(&people().writer), || json!({ "inForce": {} }));
    let at = "default/key/db";
    let bad_given = json!({ "given": { "Packages": ["none"] } });
    let bad_rego =
        json!({ "given": { "Packages": ["kata"], "Rego": "package policy\nallow if http.send({})" } });
    let session = json!({ "session": "0".repeat(32) });
    let no_tee = json!({ "recorded": { "version": "0.4.0", "tee": "snp", "attestation": {} } });
    for (who, policy, guest, resource, expected) in [
        (Some(&people().reader), in_force(), said(true), at, (403, "NOT_GRANTED")),
        (None, in_force(), said(true), at, (401, "CLIENT_CERTIFICATE_REQUIRED")),
        (writer, in_force(), said(true), "other/key/db", (403, "NOT_GRANTED")),
        (writer, in_force(), said(true), "default/key/none", (404, "RESOURCE_UNKNOWN")),
        (writer, in_force(), said(true), "default/../none", (400, "BODY_MALFORMED")),
        (writer, json!({ "named": "none" }), said(true), at, (404, "POLICY_UNKNOWN")),
        (writer, bad_given, said(true), at, (422, "MANIFEST_REFUSED")),
        (writer, bad_rego, said(true), at, (422, "MANIFEST_REFUSED")),
        (writer, json!({ "other": 1 }), said(true), at, (400, "BODY_MALFORMED")),
        (writer, in_force(), session, at, (404, "SESSION_UNKNOWN")),
        (writer, in_force(), json!({ "session": "../" }), at, (404, "SESSION_UNKNOWN")),
        (writer, in_force(), no_tee, at, (400, "RECORD_MALFORMED")),
    ] {
        let seen = try_it(who, policy.clone(), guest, resource).await;
        assert_eq!(seen, (expected.0, expected.1.to_owned()), "{policy} {resource}");
    }
    // Of a Rego rule that cannot be run the table says so.
    let found = check(&running, json!({ "rego": "package policy\nallow if {" }), said(true)).await;
    assert_eq!(codes(&found), ["REGO_INVALID"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn policies_are_listed_with_what_they_govern() {
    let mut manifest = brokered();
    manifest["Broker"]["Repositories"]["default"]["Policy"] = json!("pods");
    let running = under(&manifest).await;
    let listed = running.get(Some(&people().reader), "/api/v3/broker/policies").await.json();
    let pods = &listed["data"]["policies"][0];
    assert_eq!((&pods["name"], &pods["packages"]), (&json!("pods"), &json!(["kata"])));
    assert_eq!(pods["resources"], json!(["default/*", "default/key/db"]));
    assert_eq!(running.get(None, "/api/v3/broker/policies").await.code().0, 401);
}

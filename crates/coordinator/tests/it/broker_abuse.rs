//! Guests and others that want what they should not have.

use std::time::{Duration, Instant};

use axum::body::Bytes;
use base64::{Engine, engine::general_purpose::STANDARD as BASE64};
use evidence::Platform;
use hyper::Method;
use rcar::{KeyAlgorithm, Tee};
use serde_json::{Value, json};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};

use crate::{
    broker::{
        Pod, SECRET, ask, auth, brokered, brokering, call, connect, explained, resource, send, session_of,
        under,
    },
    observability::metrics,
    running::{Running, logs},
    world::people,
};

/// A challenge: cookie and nonce.
async fn challenged(running: &Running, pod: &Pod) -> (String, String) {
    let challenge = auth(running, pod.version, pod.tee()).await;
    (challenge.cookie(), challenge.json()["nonce"].as_str().unwrap().to_owned())
}

#[tokio::test(flavor = "multi_thread")]
async fn s14_a_nonce_is_good_once_whatever_became_of_it() {
    let running = brokering().await;
    // Accepted, and again.
    let pod = Pod::on(Platform::Snp);
    let (cookie, nonce) = challenged(&running, &pod).await;
    let attestation = pod.attestation(&nonce);
    assert_eq!(send(&running, &cookie, &attestation).await.status, 200);
    let again = send(&running, &cookie, &attestation).await;
    assert_eq!(again.error(), (409, "NonceUsed".into()));
    // Refused, and then right: also with Evidence that would be accepted.
    let (cookie, nonce) = challenged(&running, &pod).await;
    let wrong = Pod { code: b"other code", ..Pod::on(Platform::Snp) };
    let refused = send(&running, &cookie, &wrong.attestation(&nonce)).await;
    assert_eq!(refused.error(), (401, "AttestationError".into()));
    let again = send(&running, &cookie, &pod.attestation(&nonce)).await;
    assert_eq!(again.error(), (409, "NonceUsed".into()));
    assert_eq!(resource(&running, &cookie, "default/key/db").await.error().0, 401);
}

#[tokio::test(flavor = "multi_thread")]
async fn s14_of_many_that_show_a_nonce_at_once_one_attests() {
    let running = brokering().await;
    let pod = Pod::on(Platform::Tdx);
    let (cookie, nonce) = challenged(&running, &pod).await;
    let attestation = pod.attestation(&nonce);
    let all = (0..12).map(|_| send(&running, &cookie, &attestation));
    let mut statuses = Vec::new();
    for answer in futures(all).await {
        statuses.push(answer.status.as_u16());
    }
    statuses.sort_unstable();
    assert_eq!((statuses[0], &statuses[1..]), (200, vec![409; 11].as_slice()));
}

async fn futures<F: Future>(all: impl Iterator<Item = F>) -> Vec<F::Output> {
    let mut all: Vec<_> = all.map(Box::pin).collect();
    let mut done: Vec<Option<F::Output>> = all.iter().map(|_| None).collect();
    std::future::poll_fn(|context| {
        for (future, done) in all.iter_mut().zip(&mut done) {
            if done.is_none()
                && let std::task::Poll::Ready(output) = future.as_mut().poll(context)
            {
                *done = Some(output);
            }
        }
        if done.iter().all(Option::is_some) { std::task::Poll::Ready(()) } else { std::task::Poll::Pending }
    })
    .await;
    done.into_iter().flatten().collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn s14_the_nonce_of_another_session_is_refused_and_stays_good_there() {
    let running = brokering().await;
    let pod = Pod::on(Platform::Snp);
    let (mine, _) = challenged(&running, &pod).await;
    let (theirs, nonce) = challenged(&running, &pod).await;
    let attestation = pod.attestation(&nonce);
    assert_eq!(send(&running, &mine, &attestation).await.error(), (401, "AttestationError".into()));
    assert_eq!(send(&running, &theirs, &attestation).await.status, 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn s13_evidence_that_was_made_earlier_is_refused() {
    let running = brokering().await;
    let pod = Pod::on(Platform::Snp);
    // It covers another nonce than the one that is said.
    let (cookie, nonce) = challenged(&running, &pod).await;
    let old = pod.evidence(&pod.digest("another nonce"));
    let refused = send(&running, &cookie, &pod.attestation_with(&nonce, old)).await;
    assert_eq!(refused.error(), (401, "AttestationError".into()));
    let known = explained(&running, Some(&people().writer), &session_of(&refused)).await;
    assert_eq!(known["codes"], json!(["REPORT_DATA_MISMATCH"]));
}

#[tokio::test(flavor = "multi_thread")]
async fn s39_evidence_for_another_key_is_refused() {
    let running = brokering().await;
    let (pod, thief) = (Pod::on(Platform::Snp), Pod::on(Platform::Snp));
    let (cookie, nonce) = challenged(&running, &pod).await;
    let stolen = pod.evidence(&pod.digest(&nonce));
    let refused = send(&running, &cookie, &thief.attestation_with(&nonce, stolen)).await;
    let known = explained(&running, Some(&people().writer), &session_of(&refused)).await;
    assert_eq!(known["codes"], json!(["REPORT_DATA_MISMATCH"]));
}

#[tokio::test(flavor = "multi_thread")]
async fn cookies_that_are_not_ours_open_nothing() {
    let running = brokering().await;
    let pod = Pod::on(Platform::Snp);
    let (cookie, nonce) = challenged(&running, &pod).await;
    let attestation = pod.attestation(&nonce);
    let value = cookie.strip_prefix("kbs-session-id=").unwrap();
    let flipped: String = value
        .char_indices()
        .map(|(at, it)| if at == 20 { if it == 'A' { 'B' } else { 'A' } } else { it })
        .collect();
    let wrong = ["", "0", &"A".repeat(4000), "../../etc/passwd", &flipped, &value[..value.len() - 1], "\"\""];
    for wrong in wrong {
        let wrong = format!("kbs-session-id={wrong}");
        assert_eq!(
            send(&running, &wrong, &attestation).await.error(),
            (401, "AttestationError".into()),
            "{wrong}"
        );
        assert_eq!(resource(&running, &wrong, "default/key/db").await.error().0, 401, "{wrong}");
    }
    assert_eq!(send(&running, "other=1", &attestation).await.error(), (401, "TokenNotFound".into()));
    // Two at once: it is not clear who asks.
    let two = format!("{cookie}; kbs-session-id=other");
    assert_eq!(send(&running, &two, &attestation).await.error(), (400, "AttestationError".into()));
    assert_eq!(resource(&running, &two, "default/key/db").await.error(), (400, "AttestationError".into()));
    // A session that was never attested.
    assert_eq!(resource(&running, &cookie, "default/key/db").await.error(), (401, "AttestationError".into()));
    assert_eq!(send(&running, &cookie, &attestation).await.status, 200, "none of it used the nonce");
}

#[tokio::test(flavor = "multi_thread")]
async fn s40_sample_evidence_is_for_tests_alone() {
    let sample = |broker: &str, emulated: bool| {
        let mut manifest = brokered();
        manifest["Broker"]["Sample"] = json!(broker == "yes");
        if !emulated {
            manifest["Broker"]["Policies"]["pods"]["Emulated"] = json!(false);
            for platform in manifest["Platforms"].as_object_mut().unwrap().values_mut() {
                *platform = json!({});
            }
        }
        manifest
    };
    for (manifest, accepted) in
        [(sample("no", true), false), (sample("yes", false), false), (sample("yes", true), true)]
    {
        let running = under(&manifest).await;
        let pod = Pod::on(Platform::Snp);
        let challenge = auth(&running, "0.4.0", Tee::Sample).await;
        let (cookie, nonce) = (challenge.cookie(), challenge.json()["nonce"].as_str().unwrap().to_owned());
        let covered = BASE64.encode(pod.digest(&nonce));
        let evidence = json!({ "svn": "1", "report_data": covered });
        let answer = send(&running, &cookie, &pod.attestation_with(&nonce, evidence)).await;
        if accepted {
            assert_eq!(answer.status, 200, "{:?}", answer.json());
            continue;
        }
        assert_eq!(answer.error(), (401, "AttestationError".into()));
        let known = explained(&running, Some(&people().writer), &session_of(&answer)).await;
        assert_eq!(known["codes"], json!(["SAMPLE_NOT_ACCEPTED"]));
        let why = if manifest["Broker"]["Sample"] == true { "root of an emulated" } else { "Broker.Sample" };
        assert!(known["reason"].as_str().unwrap().contains(why), "{known}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn s40_samples_cover_key_and_nonce_too_and_pass_for_no_device() {
    let mut manifest = brokered();
    manifest["Broker"]["Sample"] = json!(true);
    let running = under(&manifest).await;
    let pod = Pod::on(Platform::Snp);
    let challenge = auth(&running, "0.4.0", Tee::Sample).await;
    let (cookie, nonce) = (challenge.cookie(), challenge.json()["nonce"].as_str().unwrap().to_owned());
    let evidence = json!({ "svn": "1", "report_data": "AAAA" });
    let refused = send(&running, &cookie, &pod.attestation_with(&nonce, evidence.clone())).await;
    let known = explained(&running, Some(&people().writer), &session_of(&refused)).await;
    assert_eq!(known["codes"], json!(["REPORT_DATA_MISMATCH"]));
    let (cookie, nonce) = challenged(&running, &pod).await;
    let mut attestation = pod.attestation(&nonce);
    attestation["tee-evidence"]["additional_evidence"] =
        json!(json!({ "sampledevice": evidence }).to_string());
    let refused = send(&running, &cookie, &attestation).await;
    assert_eq!(refused.error().0, 400);
}

#[tokio::test(flavor = "multi_thread")]
async fn s43_paths_that_are_no_resources_are_nothing() {
    let running = brokering().await;
    let (cookie, answer) = Pod::on(Platform::Snp).attest(&running).await;
    assert_eq!(answer.status, 200);
    for path in [
        "default/key",
        "default/key/db/",
        "default/key/db/more",
        "default//db",
        "/default/key/db",
        "../key/db",
        "default/../default/key/db",
        "default/%2e%2e/db",
        "default/key/%64b",
        "default/key%2fdb",
        "default/key/d%00b",
        "default/key/.hidden",
        "default/key/d\u{e4}b".replace('\u{e4}', "%c3%a4").as_str(),
        &format!("default/key/{}", "a".repeat(65)),
        &"a/".repeat(2000),
    ] {
        let answer = resource(&running, &cookie, path).await;
        assert_eq!(answer.error(), (404, "InvalidRequestPath".into()), "{path}");
    }
    for path in
        ["/", "/kbs", "/kbs/v0", "/kbs/v0/resource", "/kbs/v1/auth", "/kbs/v0/pkcs11/x", "/api/v2/status"]
    {
        let answer = call(&running, Method::GET, path, &[("cookie", &cookie)], "").await;
        assert_eq!(answer.error(), (404, "InvalidRequestPath".into()), "{path}");
    }
    for (method, path) in [
        (Method::GET, "/kbs/v0/auth"),
        (Method::PUT, "/kbs/v0/attest"),
        (Method::POST, "/kbs/v0/resource/default/key/db"),
        (Method::DELETE, "/kbs/v0/resource/default/key/db"),
    ] {
        let answer = call(&running, method, path, &[("cookie", &cookie)], "").await;
        assert_eq!(answer.error(), (405, "MethodNotAllowed".into()), "{path}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn bodies_that_are_none_are_told_so() {
    let running = brokering().await;
    let pod = Pod::on(Platform::Snp);
    let auth = |body: String| call(&running, Method::POST, "/kbs/v0/auth", &[], body);
    for body in ["", "{}", "[]", "nonsense", "{\"version\":\"0.4.0\"}", &"[".repeat(100_000)] {
        let answer = auth(body.to_owned()).await;
        assert!(matches!(answer.error().0, 400 | 413), "{:?}", answer.error());
    }
    let unknown = json!({ "version": "0.4.0", "tee": "abacus", "extra-params": "" }).to_string();
    assert_eq!(auth(unknown).await.error(), (400, "SerdeError".into()));
    let (cookie, nonce) = challenged(&running, &pod).await;
    let good = pod.attestation(&nonce);
    let without = |member: &str| {
        let mut less = good.clone();
        less.as_object_mut().unwrap().remove(member);
        less
    };
    let mut key = good.clone();
    key["runtime-data"]["tee-pubkey"] =
        json!({ "kty": "EC", "crv": "P-256", "alg": "none", "x": "", "y": "" });
    let mut private = good.clone();
    private["runtime-data"]["tee-pubkey"]["d"] = json!("AAAA");
    for wrong in [Value::Null, json!({}), without("tee-evidence"), without("runtime-data"), key, private] {
        let answer = send(&running, &cookie, &wrong).await;
        assert_eq!(answer.error(), (400, "SerdeError".into()), "{wrong}");
    }
    assert_eq!(send(&running, &cookie, &good).await.status, 200, "none of it used the nonce");
    // Evidence that cannot be read is told apart from Evidence that is refused: the client is at fault.
    let (cookie, nonce) = challenged(&running, &pod).await;
    let broken = pod.attestation_with(&nonce, json!({ "attestation_report": "AAAA" }));
    let answer = send(&running, &cookie, &broken).await;
    assert_eq!(answer.error(), (400, "SerdeError".into()));
}

#[tokio::test(flavor = "multi_thread")]
async fn s43_what_is_too_long_is_not_read() {
    let running = brokering().await;
    let pod = Pod::on(Platform::Snp);
    let (cookie, nonce) = challenged(&running, &pod).await;
    let body = Bytes::from(vec![b' '; 2 * 1024 * 1024 + 1]);
    let answer = call(&running, Method::POST, "/kbs/v0/attest", &[("cookie", &cookie)], body).await;
    assert_eq!(answer.error(), (413, "PayloadTooLarge".into()));
    // Whoever has no ticket is told before a body is waited for.
    let answer = call(&running, Method::POST, "/kbs/v0/attest", &[("cookie", "kbs-session-id=x")], "").await;
    assert_eq!(answer.error().0, 401);
    // A head as long as a token of many devices passes, and a longer one does not.
    let long = "x".repeat(100 * 1024);
    let headers = [("cookie", cookie.as_str()), ("x-other", long.as_str())];
    let answer =
        call(&running, Method::POST, "/kbs/v0/attest", &headers, pod.attestation(&nonce).to_string()).await;
    assert_eq!(answer.status, 200);
    let longer = "x".repeat(256 * 1024);
    let headers = [("x-other", longer.as_str())];
    let answer = ask(&mut connect(&running).await, Method::POST, "/kbs/v0/auth", &headers, "{}").await;
    // The connection ends, and the answer may be lost with it.
    assert!(answer.is_err() || answer.is_ok_and(|answer| answer.status == 431));
}

#[tokio::test(flavor = "multi_thread")]
async fn s43_a_thousand_sessions_half_open_cost_nothing_and_end_nothing() {
    let running = brokering().await;
    let pod = Pod::on(Platform::Snp);
    let mut sender = connect(&running).await;
    let request = json!({ "version": "0.4.0", "tee": "snp", "extra-params": "" }).to_string();
    for _ in 0..1000 {
        let answer = ask(&mut sender, Method::POST, "/kbs/v0/auth", &[], request.clone()).await.unwrap();
        assert_eq!(answer.status, 200);
    }
    let told = metrics(&running).await;
    assert!(told.contains("coordinator_broker_sessions 0"), "{told}");
    let (_, answer) = pod.attest(&running).await;
    assert_eq!(answer.status, 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn s43_whoever_connects_and_says_nothing_keeps_nobody_waiting() {
    let running = brokering().await;
    let mut silent = Vec::new();
    for _ in 0..300 {
        silent.push(TcpStream::connect(running.broker).await.unwrap());
    }
    let (_, answer) = Pod::on(Platform::Tdx).attest(&running).await;
    assert_eq!(answer.status, 200);
    // They are not waited for without end either: no handshake, no connection.
    let began = Instant::now();
    let mut first = silent.remove(0);
    first.write_all(b"\x16").await.unwrap();
    let read = tokio::time::timeout(Duration::from_secs(30), first.read(&mut [0; 16])).await;
    assert!(matches!(read, Ok(Ok(0) | Err(_))), "after {:?}: {read:?}", began.elapsed());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_session_of_an_older_manifest_is_over() {
    let mut first = brokered();
    first["Users"]["writer"]["Roles"] = json!(["write", "read-own", "explain", "update"]);
    first["Roles"]["update"] = json!({ "ResourceType": "Manifest", "Actions": ["UpdateManifest"] });
    let running = under(&first).await;
    let (cookie, answer) = Pod::on(Platform::Snp).attest(&running).await;
    assert_eq!(answer.status, 200);
    assert_eq!(resource(&running, &cookie, "default/key/db").await.status, 200);
    first["Broker"]["Policies"]["pods"]["Platforms"] = json!(["tdx"]);
    let update = json!({ "manifest": BASE64.encode(first.to_string()) }).to_string();
    let answer = running.post(Some(&people().writer), "/api/v2/update", update).await;
    assert_eq!(answer.status, 200, "{:?}", answer.json());
    assert_eq!(resource(&running, &cookie, "default/key/db").await.error(), (401, "AttestationError".into()));
}

#[tokio::test(flavor = "multi_thread")]
async fn s39_a_stolen_cookie_yields_what_the_thief_cannot_read() {
    let running = brokering().await;
    for algorithm in [
        KeyAlgorithm::EcdhP256,
        KeyAlgorithm::EcdhP384,
        KeyAlgorithm::EcdhP521,
        KeyAlgorithm::RsaOaep256,
        KeyAlgorithm::MlKem768,
    ] {
        let (pod, thief) = (Pod::with(Platform::Snp, algorithm), Pod::with(Platform::Snp, algorithm));
        let (cookie, answer) = pod.attest(&running).await;
        assert_eq!(answer.status, 200, "{algorithm}: {:?}", answer.json());
        let answer = resource(&running, &cookie, "default/key/db").await;
        assert_eq!(answer.status, 200, "{algorithm}: {:?}", answer.json());
        let jwe = rcar::Jwe::parse(&answer.body).unwrap();
        assert_eq!(pod.key.decrypt(&jwe).unwrap().as_slice(), SECRET.as_bytes(), "{algorithm}");
        assert!(thief.key.decrypt(&jwe).is_err(), "{algorithm}");
        // Never the same text twice.
        assert_ne!(resource(&running, &cookie, "default/key/db").await.body, answer.body);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn s39_a_stolen_token_yields_what_the_thief_cannot_read() {
    let running = brokering().await;
    let (pod, thief) = (Pod::on(Platform::Tdx), Pod::on(Platform::Tdx));
    let (cookie, answer) = pod.attest(&running).await;
    let bearer = format!("Bearer {}", answer.json()["token"].as_str().unwrap());
    let path = "/kbs/v0/resource/default/key/db";
    let answer = call(&running, Method::GET, path, &[("authorization", &bearer)], "").await;
    assert_eq!(answer.status, 200, "{:?}", answer.json());
    let jwe = rcar::Jwe::parse(&answer.body).unwrap();
    assert_eq!(pod.key.decrypt(&jwe).unwrap().as_slice(), SECRET.as_bytes());
    assert!(thief.key.decrypt(&jwe).is_err());
    // Two proofs at once, of whatever kind.
    let two = [("authorization", bearer.as_str()), ("cookie", cookie.as_str())];
    let twice = [("authorization", bearer.as_str()), ("authorization", bearer.as_str())];
    for headers in [two, twice] {
        let answer = call(&running, Method::GET, path, &headers, "").await;
        assert_eq!(answer.error(), (400, "AttestationError".into()));
    }
    let basic = bearer.replace("Bearer", "Basic");
    for wrong in ["", "Bearer", "Bearer ", "Bearer x", "Bearer a.b.c", &basic] {
        let answer = call(&running, Method::GET, path, &[("authorization", wrong)], "").await;
        assert_eq!(answer.error(), (401, "TokenVerifierError".into()), "{wrong}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn s58_what_is_denied_and_what_is_absent_look_the_same() {
    let mut manifest = brokered();
    manifest["Broker"]["Policies"]["others"] = json!({ "Packages": ["keep"], "Emulated": true });
    manifest["Broker"]["Repositories"]["default"]["Resources"]["key/no"] =
        json!({ "Secret": "db", "Policy": "others" });
    let running = under(&manifest).await;
    let (cookie, _) = Pod::on(Platform::Snp).attest(&running).await;
    let denied = resource(&running, &cookie, "default/key/no").await;
    let absent = resource(&running, &cookie, "default/key/of").await;
    let nowhere = resource(&running, &cookie, "nothing/is/here").await;
    assert_eq!(denied.error(), (403, "PolicyDeny".into()));
    for other in [&absent, &nowhere] {
        assert_eq!((&denied.body, denied.status), (&other.body, other.status));
        assert_eq!(denied.headers.keys().collect::<Vec<_>>(), other.headers.keys().collect::<Vec<_>>());
    }
    // The operator sees the difference.
    let known = explained(&running, Some(&people().writer), &session_of(&denied)).await;
    let releases = known["releases"].as_array().unwrap();
    assert_eq!(releases.len(), 2, "{known}");
    assert_eq!(releases[0]["resource"], "default/key/no");
}

/// Names of secrets and resources, values, cookies and nonces are nowhere that the host or a guest can read.
#[tokio::test(flavor = "multi_thread")]
async fn s44_no_name_and_no_value_leaves_but_in_a_jwe() {
    const CANARY: &str = "canary-of-the-broker";
    let mut manifest = brokered();
    manifest["Secrets"][CANARY] = json!({ "Type": "plain", "UserDefined": true });
    manifest["Roles"]["write"]["ResourceNames"] = json!(["question", "key", "db", CANARY]);
    manifest["Broker"]["Repositories"]["default"]["Resources"][format!("{CANARY}/{CANARY}")] =
        json!({ "Secret": CANARY, "Policy": "pods" });
    let running = under(&manifest).await;
    let (cookie, answer) = Pod::on(Platform::Snp).attest(&running).await;
    assert_eq!(answer.status, 200);
    // Declared and without a value, declared and had, absent, and no path at all.
    let mut answers = vec![resource(&running, &cookie, &format!("default/{CANARY}/{CANARY}")).await];
    let value = format!("value-{CANARY}");
    assert_eq!(running.write(Some(&people().writer), CANARY, &value).await.status, 200);
    for path in [format!("default/{CANARY}/{CANARY}"), format!("{CANARY}/{CANARY}/x"), format!("{CANARY}//")]
    {
        answers.push(resource(&running, &cookie, &path).await);
    }
    let told = metrics(&running).await;
    let mut seen: Vec<_> = answers.iter().map(|it| String::from_utf8_lossy(&it.body).into_owned()).collect();
    seen.push(told);
    for text in seen {
        assert!(!text.contains(CANARY), "{text}");
    }
    let logged = logs();
    let logged = String::from_utf8_lossy(&logged.lock().unwrap()).into_owned();
    for line in logged.lines().filter(|line| line.contains(CANARY)) {
        panic!("logged: {line}");
    }
    let cookie = cookie.strip_prefix("kbs-session-id=").unwrap();
    assert!(!logged.contains(cookie), "a session's cookie is logged");
}

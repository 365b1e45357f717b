//! Plans over real TLS: what they say, tried on the Evidence of the Marbles that run, and that nothing comes of them.

use attested_tls::key::TeeKey;
use base64::{Engine, engine::general_purpose::STANDARD as BASE64};
use evidence::Platform;
use mesh_api::{ActivateRequest, RenewRequest};
use serde_json::{Value, json};

use crate::{
    running::{Answer, Running},
    service::join,
    update::updatable,
    world::{ASKER, FRONTEND, TALLY, keep_on, people},
};

async fn plan(running: &Running, who: Option<&TeeKey>, text: &Value) -> Answer {
    let body = json!({ "manifest": BASE64.encode(text.to_string()) }).to_string();
    running.post(who, "/api/v3/plan", body).await
}

async fn started() -> Running {
    let running = Running::start().await;
    let set = running.set_manifest(Some(&people().owner), &updatable().to_string()).await;
    assert_eq!(set.status, 200, "{:?}", set.json());
    running
}

/// Two on SNP and one on TDX.
async fn with_a_fleet() -> Running {
    let running = started().await;
    for (platform, marble, workload) in [
        (Platform::Snp, "tally", TALLY),
        (Platform::Snp, "frontend", FRONTEND),
        (Platform::Tdx, "tally", TALLY),
    ] {
        let mut keep = join(&running, keep_on(platform), marble, workload).await.unwrap();
        keep.activate(ActivateRequest {}).await.unwrap();
        keep.renew(RenewRequest {}).await.unwrap();
    }
    running
}

#[tokio::test(flavor = "multi_thread")]
async fn a_plan_says_which_running_marbles_would_be_refused() {
    let running = with_a_fleet().await;
    let same = plan(&running, Some(&people().owner), &updatable()).await.json();
    let nobody = json!({ "running": 3, "refused": [], "unrecorded": {} });
    assert_eq!((&same["data"]["fleet"], &same["data"]["epoch"]), (&nobody, &json!(1)));

    // Firmware that none of the emulated machines has, a platform that goes, other code, and a Marble that goes.
    let mut next = updatable();
    next["Platforms"]["Snp"]["MinimumTcb"] = json!({ "Microcode": 255 });
    next["Marbles"]["frontend"]["Workload"]["Digest"] = json!(format!("sha256:{}", hex::encode(ASKER)));
    let refused = |answer: &Value| {
        let refused = answer["data"]["fleet"]["refused"].as_array().unwrap().clone();
        let of =
            |it: &Value| format!("{} {} {}", it["instances"], it["marble"], it["codes"]).replace('"', "");
        refused.iter().map(of).collect::<Vec<_>>()
    };
    let answer = plan(&running, Some(&people().writer), &next).await.json();
    assert_eq!(refused(&answer), ["1 frontend [TCB_BELOW_MINIMUM]", "1 tally [TCB_BELOW_MINIMUM]"]);
    next["Platforms"]["Snp"]["MinimumTcb"] = json!({});
    next["Platforms"].as_object_mut().unwrap().remove("Tdx");
    next["Packages"]["keep"]["Measurements"].as_object_mut().unwrap().remove("Tdx");
    let answer = plan(&running, Some(&people().writer), &next).await.json();
    assert_eq!(refused(&answer), ["1 frontend [WORKLOAD_MISMATCH]", "1 tally [PLATFORM_NOT_ACCEPTED]"]);
    let words = answer["data"]["plan"].to_string();
    assert!(words.contains("frontend runs other code"), "{words}");
    next["Packages"]["keep"]["Measurements"]["Snp"] = json!("ab".repeat(48));
    next["Marbles"].as_object_mut().unwrap().remove("frontend");
    next["Marbles"]["tally"]["Peers"] = json!([]);
    let answer = plan(&running, Some(&people().writer), &next).await.json();
    assert_eq!(
        refused(&answer),
        ["1 frontend [MARBLE_UNKNOWN]", "1 tally [MEASUREMENT_MISMATCH]", "1 tally [PLATFORM_NOT_ACCEPTED]"]
    );
    // Nothing came of it.
    let claims = running.verify([9; 32]).await.unwrap();
    assert_eq!((claims.epoch, claims.log_length), (1, 8));
    assert_eq!(running.get(None, "/api/v2/update-manifest").await.status, 404);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_coordinator_that_started_again_says_of_whom_it_knows_nothing() {
    let running = with_a_fleet().await;
    let again = Running::start_in(running.left()).await;
    let answer = plan(&again, Some(&people().owner), &updatable()).await.json();
    let expected = json!({ "running": 3, "refused": [], "unrecorded": { "frontend": 1, "tally": 2 } });
    assert_eq!(answer["data"]["fleet"], expected);
}

#[tokio::test(flavor = "multi_thread")]
async fn only_those_may_plan_who_may_propose() {
    let running = started().await;
    let refused = plan(&running, None, &updatable()).await;
    assert_eq!(refused.code(), (401, "CLIENT_CERTIFICATE_REQUIRED".into()));
    assert_eq!(
        plan(&running, Some(&people().stranger), &updatable()).await.code(),
        (401, "USER_UNKNOWN".into())
    );
    assert_eq!(plan(&running, Some(&people().reader), &updatable()).await.status, 200);
    let faulty = plan(&running, Some(&people().owner), &json!({ "Marbles": {} })).await;
    assert_eq!(faulty.code(), (422, "MANIFEST_REFUSED".into()));
    let plain = Running::with_manifest().await;
    assert_eq!(plan(&plain, Some(&people().writer), &updatable()).await.code(), (403, "NOT_GRANTED".into()));
}

//! When a holder of a share leaves, the key is exchanged: the shares of before open nothing, and nothing else changes.

use database::{
    audit::{Event, Line},
    keys::{Found, Keys},
};
use serde_json::{Value, json};
use testkit::{
    parties::Authority,
    tee::{EmulatedTee, machine},
};

use super::{
    CODE, Served, World,
    recovering::{Holders, elsewhere, give},
};

async fn described(served: &Served, recovering: bool) -> Value {
    loop {
        let (_, described) = served.json(None, "GET /v1/recovery", "").await;
        if described["Recovering"] == json!(recovering) {
            return described;
        }
    }
}

/// Proposes a manifest and has it approved.
async fn agreed(served: &Served, world: &World, manifest: &Value) {
    let (_, now) = served.json(None, "GET /v1/manifest", "").await;
    let body = json!({ "Base": now["Digest"], "Manifest": manifest.to_string() }).to_string();
    let word = async |party: &Authority, path: &str, body: &str| -> Value {
        let (status, answer) = served.json(Some(&party.issue("person")), path, body).await;
        assert_eq!(status, 200, "{answer}");
        answer
    };
    let proposal = word(&world.parties.approver_c, "POST /v1/proposals", &body).await;
    let path = format!("POST /v1/proposals/{}/approve", proposal["Proposal"].as_str().unwrap());
    word(&world.parties.approver_c, &path, "").await;
    assert_eq!(word(&world.parties.approver_d, &path, "").await["State"], json!("active"));
}

async fn exchanged(served: &Served, world: &World) -> usize {
    let person = world.parties.auditor.issue("person");
    let (_, export) = served.json(Some(&person), "GET /v1/audit", "").await;
    let lines: Vec<Line> = serde_json::from_value(export["Lines"].clone()).unwrap();
    lines.iter().filter_map(Line::read).filter(|event| matches!(event, Event::Rekeyed { .. })).count()
}

async fn note(served: &Served, world: &World) -> String {
    let auditor = served.session(&world.parties.auditor).await;
    auditor.query_one("SELECT body FROM notes", &[]).await.unwrap().get(0)
}

#[tokio::test(flavor = "multi_thread")]
async fn s46_shares_of_who_left_open_nothing_that_is_sealed_since() {
    let holders = Holders::new();
    let Some(world) = World::with(|manifest| holders.named(manifest)) else { return };
    let served = world.start().await;
    let claims = served.serving().await;
    let before = described(&served, false).await;
    let old = [0, 2].map(|index| holders.share(&before, index));
    let state = world.hints().state;
    std::fs::copy(state.join("shares.json"), world.state.path().join("shares.old")).unwrap();

    let mut manifest: Value = serde_json::from_slice(&world.manifest).unwrap();
    manifest["Recovery"]["Holders"].as_object_mut().unwrap().remove("holder_2");
    agreed(&served, &world, &manifest).await;
    let waiting = async {
        while exchanged(&served, &world).await == 0 {
            tokio::time::sleep(std::time::Duration::from_millis(50)).await;
        }
    };
    tokio::time::timeout(std::time::Duration::from_secs(60), waiting).await.expect("the key is exchanged");
    let bank = served.session(&world.parties.bank_b).await;
    bank.batch_execute("INSERT INTO notes VALUES (1, 'since')").await.unwrap();
    assert_eq!(served.claims().await.root, claims.root);
    let now = described(&served, false).await;
    assert_eq!(now["Holders"].as_object().unwrap().len(), 2);
    served.stopped().await;

    let served = world.start().await;
    assert_eq!(served.serving().await.root, claims.root, "the root that clients pinned");
    assert_eq!((note(&served, &world).await, exchanged(&served, &world).await), ("since".to_owned(), 1));
    let now = described(&served, false).await;
    served.stopped().await;

    // The host brings the old shares back, and enough of their holders come.
    std::fs::rename(state.join("shares.json"), world.state.path().join("shares.new")).unwrap();
    std::fs::copy(world.state.path().join("shares.old"), state.join("shares.json")).unwrap();
    let served = world.start_on(elsewhere()).await;
    described(&served, true).await;
    assert_eq!(give(&served, &old[0]).await.0, 200);
    let (status, refusal) = give(&served, &old[1]).await;
    assert_eq!((status, &refusal["Code"]), (400, &json!("RECOVERY_REFUSED")), "{refusal}");
    served.stopped().await;

    std::fs::rename(world.state.path().join("shares.new"), state.join("shares.json")).unwrap();
    let served = world.start_on(elsewhere()).await;
    described(&served, true).await;
    for index in [0, 1] {
        assert_eq!(give(&served, &holders.share(&now, index)).await.0, 200);
    }
    served.opened().await;
    assert_eq!(note(&served, &world).await, "since");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_exchange_that_was_cut_off_is_ended_at_the_next_start_here_and_elsewhere() {
    let holders = Holders::new();
    let Some(world) = World::with(|manifest| holders.named(manifest)) else { return };
    let served = world.start().await;
    let claims = served.serving().await;
    let bank = served.session(&world.parties.bank_b).await;
    bank.batch_execute("INSERT INTO notes VALUES (1, 'kept')").await.unwrap();
    served.stopped().await;

    // As if power was lost right after the new key was sealed: nothing else of it is there.
    let state = world.hints().state;
    let configuration = world.configuration().to_json();
    let tee = EmulatedTee::launch_on(machine(), evidence::Platform::Tdx, CODE, &configuration);
    let keys = Keys::new(tee.as_ref(), &state);
    let Found::Key(master) = keys.master().unwrap() else { panic!("it is sealed here") };
    keys.keep_master(&master.successor().unwrap()).unwrap();
    let served = world.start().await;
    assert_eq!(served.serving().await.root, claims.root);
    assert_eq!((note(&served, &world).await, exchanged(&served, &world).await), ("kept".to_owned(), 1));
    served.stopped().await;

    // As if it was lost when shares of the new key were dealt and the log was not yet sealed with it.
    let Found::Key(master) = keys.master().unwrap() else { panic!("it is sealed here") };
    let manifest = database_manifest::Manifest::parse(&world.manifest).unwrap();
    let shares = database::recovery::Shares::deal(&manifest.recovery.unwrap(), &master.successor().unwrap());
    std::fs::write(state.join("shares.json"), shares.unwrap().to_json()).unwrap();
    let served = world.start_on(elsewhere()).await;
    let waiting = described(&served, true).await;
    for index in [1, 2] {
        assert_eq!(give(&served, &holders.share(&waiting, index)).await.0, 200);
    }
    served.opened().await;
    assert_eq!(note(&served, &world).await, "kept");
    assert!(exchanged(&served, &world).await > 1, "the one that was cut off was ended");
}

//! A database whose newest record a TPM remembers, one of software.

use std::{path::Path, process::Command};

use attested_tls::{claims::DatabaseAnchor, launch::KeepConfiguration};
use testkit::swtpm::Swtpm;

use super::World;

fn copy(from: &Path, to: &Path) {
    assert!(Command::new("cp").arg("-a").args([from, to]).status().unwrap().success());
}

#[tokio::test(flavor = "multi_thread")]
async fn s16_a_whole_old_copy_of_the_state_is_not_served_where_a_tpm_remembers_the_newest() {
    let Some(tpm) = Swtpm::start() else { return };
    let anchored = |manifest: &mut serde_json::Value| manifest["Freshness"]["AnchorRequired"] = true.into();
    let Some(mut world) = World::with(anchored) else { return };
    world.tpm = Some(tpm.address().parse().unwrap());
    let served = world.start().await;
    let claims = served.serving().await;
    assert_eq!(claims.anchor, DatabaseAnchor::TpmNv { key: None });
    served.stopped().await;
    let (state, old) = (world.hints().state, world.state.path().join("old"));
    copy(&state, &old);
    let served = world.start().await;
    served.serving().await;
    let bank = served.session(&world.parties.bank_b).await;
    bank.batch_execute("INSERT INTO notes VALUES (1, 'spent')").await.unwrap();
    served.stopped().await;

    let aside = world.state.path().join("aside");
    std::fs::rename(&state, &aside).unwrap();
    copy(&old, &state);
    assert_eq!(world.refused().await.code(), "ANCHOR_ELSEWHERE");
    // The anchor's own files of now beside the old log.
    for file in ["anchor-pin", "anchor-head"] {
        std::fs::copy(aside.join(file), state.join(file)).unwrap();
    }
    assert_eq!(world.refused().await.code(), "LOG_ROLLED_BACK");
    std::fs::remove_file(state.join("anchor-pin")).unwrap();
    assert_eq!(world.refused().await.code(), "LOG_UNANCHORED");
    std::fs::remove_dir_all(&state).unwrap();
    std::fs::rename(&aside, &state).unwrap();
    let served = world.start().await;
    served.serving().await;
    let auditor = served.session(&world.parties.auditor).await;
    let body: String = auditor.query_one("SELECT body FROM notes", &[]).await.unwrap().get(0);
    assert_eq!(body, "spent");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_anchor_that_is_measured_is_never_left_out() {
    let Some(mut world) = World::new() else { return };
    world.tpm = Some("unix:/nonexistent".parse().unwrap());
    assert_eq!(world.refused().await.code(), "TPM_UNREACHABLE");
    let mut configuration = world.configuration();
    let coordinator = attested_tls::launch::CoordinatorRequirements {
        policy: appraisal::Policy::production(),
        measurements: Vec::new(),
    };
    configuration.tpm = None;
    configuration.marble = Some(KeepConfiguration { marble: "db".into(), coordinator });
    let refused = world.start_with(configuration).await.ended().await.expect_err("a Marble needs its mesh");
    assert_eq!(refused.code(), "COORDINATOR_MISSING");
}

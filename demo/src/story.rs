//! The story in its order: the mesh comes up, a person uses it, what must fail fails, and a crash loses
//! nothing.

use std::path::Path;

use anyhow::Context;
use bailey::{
    failure::Outcome,
    up::{Deployment, Programs, Up},
};

use crate::{
    checks::{Checks, attacks, browser, database, direct, guests, outside, trust},
    web,
};

/// A mesh that is up, and what was checked.
pub struct Told {
    /// The mesh.
    pub up: Up,
    /// The count.
    pub checks: Checks,
}

/// Tells the whole story of the poll.
pub async fn tell(
    deployment: &Deployment,
    folder: &Path,
    programs: Programs,
    screenshot: &Path,
) -> Outcome<Told> {
    let mut checks = Checks::new();
    bailey::say!("The mesh comes up");
    let built = programs.clone();
    let up = Up::start(deployment, folder, programs, &mut checks).await?;
    let root = folder.join("coordinator-root.pem");
    let pem = evidence::pem::encode(&evidence::CertificateDer(up.mesh.root().to_vec()));
    std::fs::write(&root, pem).context("the coordinator's root cannot be written")?;

    bailey::say!("\nAnyone can check it");
    checks.tell("verdict", trust::verdict(&up).await);
    checks.tell("manifest", trust::manifest(&up).await);
    checks.tell("tls", trust::marble_certificate(&up).await);

    bailey::say!("\nA person uses it");
    checks.tell("page", web::vote(&up).await);
    if browser::available() {
        checks.tell("browser", browser::vote(&up, &root, screenshot).await);
    } else {
        checks.not_made("browser", "no browser here: apt-get install chromium chromium-driver libnss3-tools");
    }

    bailey::say!("\nA confidential container gets its secret, and no other one does");
    checks.tell("guest", guests::attested(&up, deployment).await);
    checks.tell("impostor", guests::changed(&up).await);

    bailey::say!("\nA program runs once on a host that nobody trusts, without a mesh");
    let host = direct::host(&up).await;
    checks.tell("deploy", direct::works(&host).await);
    checks.tell("unsent", direct::refused(&host).await);
    drop(host);

    bailey::say!("\nParties that do not trust each other compute together, in a database of its own");
    match database::Here::find().await {
        Ok(here) => checks.tell("banks", here.banks(&built).await),
        Err(missing) => checks.not_made("banks", &missing.to_string()),
    }

    bailey::say!("\nWhat must fail, does");
    checks.tell("owner", attacks::manifest_without_the_owners_key(&up, deployment).await);
    checks.tell("workload", attacks::changed_workload(&up, deployment).await);
    checks.tell("keep", attacks::changed_keep(&up, deployment).await);
    checks.tell("tcb", attacks::tcb_floor_above_the_platform(&up, deployment).await);
    checks.tell("root", attacks::root_not_named(&up, deployment).await);
    checks.tell("production", trust::emulated_is_no_production(&up).await);
    checks.tell("replay", attacks::evidence_under_another_key(&up).await);
    checks.tell("stranger", attacks::client_without_certificate(&up).await);
    checks.tell("peer", attacks::marble_that_is_no_peer(&up, deployment).await);
    checks.tell("user", attacks::unknown_user(&up).await);
    checks.tell("outside", outside::process_outside_a_tee(&up));

    bailey::say!("\nThe host learns and loses nothing");
    checks.tell("host", outside::host_agent_has_no_secret(&up, deployment));
    checks.tell("crash", outside::coordinator_killed(&up).await);
    Ok(Told { up, checks })
}

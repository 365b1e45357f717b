//! Guests that are no Marbles, at the key broker: an attested one gets what the manifest grants it, and one with other
//! code gets nothing; the operator learns why, and the guest does not.

use std::{
    fs,
    path::PathBuf,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, ensure};
use aws_lc_rs::digest::{SHA256, digest};
use bailey::up::{Deployment, Up};
use evidence::{CertificateDer, Platform, pem};
use host::Restart;
use serde_json::Value;

use super::attacks::{executable, write};

const ENDS_WITHIN: Duration = Duration::from_secs(60);
const RESOURCE: &str = "kbs:///poll/text/question";

/// The guest gives the secret to its command, which prints a digest: that is all that the host's log has of it.
pub async fn attested(up: &Up, deployment: &Deployment) -> Result<String> {
    let program = up.machine.programs().path("bailey-guest")?;
    let question = deployment.users.values().find_map(|user| user.secrets.get("question"));
    let question = question.context("the deployment uploads no question")?;
    let told = run(up, "guest", program).await?;
    let expected = hex::encode(digest(&SHA256, question.as_bytes()));
    ensure!(told.contains(&expected), "the guest's command did not get the secret:\n{told}");
    ensure!(!told.contains(question.as_str()), "the guest's log has the secret");
    Ok(format!("a guest on emulated SNP attested to the broker, and its command has {RESOURCE}"))
}

/// One byte more behind the program: it runs as before, and is another one.
pub async fn changed(up: &Up) -> Result<String> {
    let mut program = fs::read(up.machine.programs().path("bailey-guest")?)?;
    program.push(0);
    let path = write(up, "changed-guest", &program)?;
    executable(&path)?;
    let told = run(up, "guest-changed", path).await?;
    ensure!(!told.contains("MEASUREMENT_MISMATCH"), "the broker tells a guest why:\n{told}");
    let operator = up.users.values().next().context("the deployment has no user")?;
    let client = up.mesh.client(Some(operator))?;
    let listed = client.get("/api/v3/broker/sessions").await?;
    let sessions = listed["sessions"].as_array().context("no sessions are listed")?;
    let refused = |session: &&Value| session["outcome"] == "refused";
    let session = sessions.iter().rev().find(refused).context("no session was refused")?;
    let session = session["session"].as_str().context("a session without a name")?;
    let explained = client.get(&format!("/api/v3/broker/sessions/{session}")).await?;
    ensure!(explained.to_string().contains("MEASUREMENT_MISMATCH"), "explained otherwise: {explained}");
    Ok(format!(
        "one byte added to the guest's program: refused; `bailey broker explain {session}` says MEASUREMENT_MISMATCH"
    ))
}

/// Has the host launch a guest that fetches the resource, and gives its log.
async fn run(up: &Up, name: &str, program: PathBuf) -> Result<String> {
    let broker = up.broker.context("the manifest has no broker")?;
    let root = pem::encode(&CertificateDer(up.mesh.root().to_vec()));
    let init_data = format!(
        "version = \"0.1.0\"\nalgorithm = \"sha256\"\n[data]\n\"cdh.toml\" = '''\n[kbc]\nname = \"cc_kbc\"\n\
         url = \"https://localhost:{}\"\nkbs_cert = \"\"\"\n{root}\"\"\"\n'''\n",
        broker.port()
    );
    let file = format!("question={RESOURCE}");
    let command = "sha256sum < \"$BAILEY_SECRETS/question\"";
    let arguments = ["run", "--file", &file, "--", "/bin/sh", "-c", command].map(str::to_owned).to_vec();
    up.machine.launch(name, Platform::Snp, &program, init_data.into_bytes(), arguments, Restart::Never)?;
    let deadline = Instant::now() + ENDS_WITHIN;
    while up.machine.status()?.iter().any(|status| status.name.as_str() == name && status.last_exit.is_none())
    {
        ensure!(Instant::now() < deadline, "the guest did not end: {}", up.machine.log_path(name).display());
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    fs::read_to_string(up.machine.log_path(name)).context("the guest's log cannot be read")
}

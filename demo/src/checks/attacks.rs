//! What must fail, done for real: each attempt goes to the running services, and each check looks for the
//! cause that they name.

use std::{collections::BTreeMap, fs, path::PathBuf, time::Duration};

use anyhow::{Context, Result, anyhow, bail, ensure};
use attested_tls::{clock, service};
use bailey::{
    client::{Declined, VerifyError, verify},
    commands::manifest,
    identity,
    up::{CoordinatorPlan, Deployment, Keep, KeepOutcome, KeepPlan, Log, Mesh, Up},
};
use host::Restart;
use hyper::StatusCode;
use rustls::pki_types::ServerName;
use tokio::{io::AsyncReadExt, net::TcpStream};
use tokio_rustls::TlsConnector;

use super::relay::Relay;
use crate::web::keep;

/// Another key than the owner's cannot set a manifest, even where none is set yet.
pub async fn manifest_without_the_owners_key(up: &Up, deployment: &Deployment) -> Result<String> {
    let mesh = second_coordinator(up, deployment, "coordinator-unset").await?;
    let user = up.users.values().next().context("the deployment has no user")?;
    let refused =
        declined(mesh.client(Some(user))?.post("/api/v2/manifest", &manifest::request(&up.manifest)).await)?;
    let anonymous =
        declined(mesh.client(None)?.post("/api/v2/manifest", &manifest::request(&up.manifest)).await)?;
    up.machine.stop(mesh.name())?;
    ensure!(refused.code == "OWNER_REQUIRED", "refused with {}", refused.code);
    ensure!(anonymous.code == "CLIENT_CERTIFICATE_REQUIRED", "refused with {}", anonymous.code);
    Ok("only the owner's key, named in the measured launch configuration, sets a manifest: OWNER_REQUIRED"
        .into())
}

/// One byte of the component changed.
pub async fn changed_workload(up: &Up, deployment: &Deployment) -> Result<String> {
    let mut plan = plan(deployment, "tally")?;
    let mut component = fs::read(&plan.workload)?;
    *component.last_mut().context("the component is empty")? ^= 1;
    plan.workload = write(up, "changed.wasm", &component)?;
    refused(up, &up.mesh, "tally-changed", "tally", plan, None, "WORKLOAD_MISMATCH").await?;
    Ok("one byte of the component changed: WORKLOAD_MISMATCH, with the digest expected and seen".into())
}

/// The Keep's own program changed.
pub async fn changed_keep(up: &Up, deployment: &Deployment) -> Result<String> {
    let mut program = fs::read(up.machine.programs().path("bailey-keep")?)?;
    // Behind the ELF image: it runs as before, and is not what was measured before.
    program.push(0);
    let path = write(up, "changed-keep", &program)?;
    executable(&path)?;
    let plan = plan(deployment, "frontend")?;
    refused(up, &up.mesh, "frontend-changed", "frontend", plan, Some(path), "MEASUREMENT_MISMATCH").await?;
    Ok("one byte added to the Keep's program: MEASUREMENT_MISMATCH".into())
}

/// A manifest whose TCB floor is above the platform.
pub async fn tcb_floor_above_the_platform(up: &Up, deployment: &Deployment) -> Result<String> {
    let manifest = replaced(&up.manifest, "Microcode: 1 ", "Microcode: 255 ")?;
    let mesh = mesh_with(up, deployment, "coordinator-floor", &manifest).await?;
    let plan = plan(deployment, "frontend")?;
    let reason = refused(up, &mesh, "frontend-floor", "frontend", plan, None, "TCB_BELOW_MINIMUM").await;
    up.machine.stop(mesh.name())?;
    reason?;
    Ok("a manifest that asks for microcode 255 of a platform that has less: TCB_BELOW_MINIMUM".into())
}

/// A manifest that does not name the emulated platform's root.
pub async fn root_not_named(up: &Up, deployment: &Deployment) -> Result<String> {
    // A policy that takes guests of emulated platforms is a fault where there is no such platform.
    let text = String::from_utf8(replaced(&up.manifest, ", Emulated: true", "")?)?;
    let without: Vec<_> =
        text.lines().filter(|line| !line.trim_start().starts_with("EmulatedRoots:")).collect();
    ensure!(without.len() < text.lines().count(), "the manifest names no emulated root");
    let mesh = mesh_with(up, deployment, "coordinator-roots", without.join("\n").as_bytes()).await?;
    let plan = plan(deployment, "frontend")?;
    let reason = refused(up, &mesh, "frontend-roots", "frontend", plan, None, "ROOT_NOT_TRUSTED").await;
    up.machine.stop(mesh.name())?;
    reason?;
    Ok("a manifest that does not name the emulated platform's root: ROOT_NOT_TRUSTED".into())
}

/// S-01: a relay under its own TLS key hands on the coordinator's Evidence, nonce and all.
pub async fn evidence_under_another_key(up: &Up) -> Result<String> {
    let relay = Relay::start(up).await?;
    let clock = clock::system();
    match verify(relay.endpoint(), up.mesh.requirements(), &clock).await {
        Err(VerifyError::Refused(refused))
            if refused.codes().contains(&appraisal::Code::ReportDataMismatch) =>
        {
            Ok("fresh Evidence relayed under another TLS key: REPORT_DATA_MISMATCH".into())
        }
        Err(error) => bail!("refused for another reason: {error}"),
        Ok(_) => bail!("relayed Evidence was accepted"),
    }
}

/// A TLS client without a Marble certificate at the tally.
pub async fn client_without_certificate(up: &Up) -> Result<String> {
    let log = Log::of(&up.machine, "tally");
    let config = service::unverified_client(None, clock::system())?;
    let stream = TcpStream::connect(keep(up, "tally")?.serving.address).await?;
    // In TLS 1.3 a client learns of its refusal when it first reads.
    let connected = TlsConnector::from(config).connect(ServerName::try_from("localhost")?, stream).await;
    if let Ok(mut stream) = connected {
        let read = tokio::time::timeout(Duration::from_secs(5), stream.read_u8()).await?;
        ensure!(read.is_err(), "the tally spoke to a client without a certificate");
    }
    log.until(|line| line["code"] == "PEER_WITHOUT_CERTIFICATE").await.context("the tally named no cause")?;
    Ok("a TLS client without a certificate at the tally: PEER_WITHOUT_CERTIFICATE".into())
}

/// A Marble of this mesh, admitted and certified, that is no peer of the tally.
pub async fn marble_that_is_no_peer(up: &Up, deployment: &Deployment) -> Result<String> {
    let log = Log::of(&up.machine, "tally");
    let tally = keep(up, "tally")?.serving.address;
    let stranger = Keep {
        name: "stranger".into(),
        plan: KeepPlan { listen: None, ..plan(deployment, "frontend")? },
        program: None,
        peers: BTreeMap::from([("tally".to_owned(), tally)]),
        restart: Restart::Never,
    };
    let serving = match up.mesh.launch(&up.machine, &stranger).await? {
        KeepOutcome::Serving(serving) => serving,
        KeepOutcome::Refused { reason, .. } => {
            bail!("the stranger, a Marble of the manifest, was not admitted: {reason}")
        }
    };
    // Its manifest entry names no host, so its certificate does not either: reach it without looking at names.
    let answer = stranger_page(serving.address).await;
    let line = log.until(|line| line["code"] == "PEER_NOT_NAMED").await.context("the tally named no cause");
    up.machine.stop("stranger")?;
    ensure!(answer? == StatusCode::BAD_GATEWAY, "the stranger's page got through to the tally");
    line?;
    Ok("Marble stranger, admitted and certified, at the tally whose peers are [frontend]: PEER_NOT_NAMED"
        .into())
}

async fn stranger_page(address: std::net::SocketAddr) -> Result<StatusCode> {
    use http_body_util::Empty;
    use hyper::{Request, body::Bytes, client::conn::http1};
    let config = service::unverified_client(None, clock::system())?;
    let stream = TcpStream::connect(address).await?;
    let stream = TlsConnector::from(config).connect(ServerName::try_from("localhost")?, stream).await?;
    let (mut sender, connection) = http1::handshake(hyper_util::rt::TokioIo::new(stream)).await?;
    tokio::spawn(connection);
    let request = Request::get("/").header("host", "localhost").body(Empty::<Bytes>::new())?;
    Ok(sender.send_request(request).await?.status())
}

/// A user certificate that the manifest does not know.
pub async fn unknown_user(up: &Up) -> Result<String> {
    let folder = up.machine.folder().join("unknown");
    let stranger = identity::create(&folder, "stranger")?;
    let refused = declined(up.mesh.client(Some(&stranger))?.get("/api/v2/secrets?s=question").await)?;
    ensure!(
        refused.code == "USER_UNKNOWN" && refused.status == StatusCode::UNAUTHORIZED,
        "refused with {refused}"
    );
    let known = up.users.values().next().context("the deployment has no user")?;
    let denied = declined(up.mesh.client(Some(known))?.get("/api/v2/secrets?s=salt").await)?;
    ensure!(denied.code == "NOT_GRANTED" && denied.status == StatusCode::FORBIDDEN, "refused with {denied}");
    Ok("a user certificate that the manifest does not know: USER_UNKNOWN; a known user without the right: NOT_GRANTED".into())
}

/// Launches a Keep that must be refused with `code`.
async fn refused(
    up: &Up,
    mesh: &Mesh,
    name: &str,
    marble: &str,
    plan: KeepPlan,
    program: Option<PathBuf>,
    code: &str,
) -> Result<String> {
    let plan = KeepPlan { listen: None, marble: Some(marble.to_owned()), ..plan };
    let keep = Keep { name: name.to_owned(), plan, program, peers: BTreeMap::new(), restart: Restart::Never };
    let outcome = mesh.launch(&up.machine, &keep).await?;
    match outcome {
        KeepOutcome::Refused { codes, reason } => {
            ensure!(
                codes.iter().any(|seen| seen == code),
                "refused with {codes:?} instead of {code}: {reason}"
            );
            Ok(reason)
        }
        KeepOutcome::Serving(_) => {
            up.machine.stop(name)?;
            Err(anyhow!("the Keep was admitted"))
        }
    }
}

async fn second_coordinator(up: &Up, deployment: &Deployment, name: &str) -> Result<Mesh> {
    let plan = CoordinatorPlan { listen: None, ..deployment.coordinator.clone() };
    let owner = identity::key_digest(&up.owner)?;
    Ok(Mesh::found(&up.machine, name, &plan, owner).await?.0)
}

async fn mesh_with(up: &Up, deployment: &Deployment, name: &str, manifest: &[u8]) -> Result<Mesh> {
    let mesh = second_coordinator(up, deployment, name).await?;
    manifest::set(&mesh.client(Some(&up.owner))?, manifest).await.map_err(|failure| failure.error)?;
    Ok(mesh)
}

fn replaced(manifest: &[u8], from: &str, to: &str) -> Result<Vec<u8>> {
    let text = String::from_utf8(manifest.to_vec())?;
    ensure!(text.contains(from), "the manifest has no {from:?}");
    Ok(text.replace(from, to).into_bytes())
}

fn plan(deployment: &Deployment, name: &str) -> Result<KeepPlan> {
    let plan = deployment.keeps.iter().find(|(keep, _)| keep == name).map(|(_, plan)| plan.clone());
    plan.with_context(|| format!("the deployment has no Keep {name}"))
}

fn declined(result: Result<serde_json::Value>) -> Result<Declined> {
    match result {
        Ok(_) => bail!("the request was not refused"),
        Err(error) => error.downcast::<Declined>(),
    }
}

pub(super) fn write(up: &Up, name: &str, bytes: &[u8]) -> Result<PathBuf> {
    let path = up.machine.folder().join(name);
    fs::write(&path, bytes).with_context(|| format!("{} cannot be written", path.display()))?;
    Ok(path)
}

pub(super) fn executable(path: &std::path::Path) -> Result<()> {
    use std::os::unix::fs::PermissionsExt;
    Ok(fs::set_permissions(path, fs::Permissions::from_mode(0o755))?)
}

//! The client of direct deployments (design.md §5): it asks a host agent for a Keep, verifies the Keep's Evidence over a
//! connection with a one-use key, sends workload and inputs over that connection, and passes on what comes back.
//!
//! The host is not believed in anything. What it says is used to choose; what the Keep proves decides. A host can
//! refuse, delay and break off, and that is all.
//!
//! ```text
//!  1 ask the host what it has     6 its Evidence, over our nonce, both keys and this connection
//!  2 lease a Keep                 7 appraise it by our policy and reference values
//!  3 it is launched, or warm      8 the Keep is ours: nobody else gets it
//!  4 a channel through the host   9 the Keep gets the workload, or fetches it; checks and loads it
//!  5 TLS, both keys used once    10 it runs; output comes back; the Keep ends
//! ```
//!
//! ```no_run
//! # async fn example(wanted: deploy::Wanted, deployment: deploy::Deployment) -> Result<(), deploy::DeployError> {
//! let host = deploy::Host::new("https://localhost:7443".parse()?, deploy::Access::Anyone, deploy::clock());
//! let (mut out, mut err) = (Vec::new(), Vec::new());
//! let streams = deploy::Streams { stdin: Box::new(tokio::io::empty()), stdout: &mut out, stderr: &mut err };
//! let ran = deploy::deploy(&host, &wanted, &deployment, streams, &mut deploy::Silent, std::future::pending()).await?;
//! println!("{:?}", ran.outcome);
//! # Ok(()) }
//! ```

mod body;
mod deployment;
mod endpoint;
mod error;
mod host;
mod run;
mod wanted;
mod watch;

use std::{sync::Arc, time::Duration};

use attested_tls::{
    channel::Attested,
    clock::Clock,
    direct::{self, Client},
};
use keep_protocol::host::{HostErrorCode, Lease, NewKeep};
use tokio::io::{AsyncRead, AsyncWrite};

pub use crate::{
    deployment::{Deployment, DeploymentError, Workload},
    endpoint::{Endpoint, EndpointError},
    error::DeployError,
    host::{Access, Host, HostFailure},
    run::{Ran, Streams, run},
    wanted::Wanted,
    watch::{Silent, Step, Watcher},
};

/// This machine's clock: of the client, who trusts it.
pub fn clock() -> Clock {
    attested_tls::clock::system()
}

/// How long a host has for each answer; it may have to launch a virtual machine.
const HOST_PATIENCE: Duration = Duration::from_secs(60);

/// All ten steps. `cancel` ends the workload.
///
/// # Errors
/// When the host gives no Keep, the Keep is refused by us or refuses the deployment, or the connection breaks off.
pub async fn deploy(
    host: &Host,
    wanted: &Wanted,
    deployment: &Deployment,
    streams: Streams<'_>,
    watcher: &mut dyn Watcher,
    cancel: impl Future<Output = ()> + Send,
) -> Result<Ran, DeployError> {
    let lease = lease(host, wanted, !deployment.volumes.is_empty(), watcher).await?;
    let keep = host.channel(&lease.id).await?;
    watcher.step(Step::Connected, "");
    let keep = match verify(keep, host.clock(), wanted, watcher).await {
        Ok(keep) => keep,
        Err(error) => {
            // It would wait for nobody. A host that does not listen ends it by itself.
            let _ = host.release(&lease.id).await;
            return Err(error);
        }
    };
    run(keep, deployment, streams, watcher, cancel).await
}

/// Steps 1 to 3.
async fn lease(
    host: &Host,
    wanted: &Wanted,
    volumes: bool,
    watcher: &mut dyn Watcher,
) -> Result<Lease, DeployError> {
    let info = host.info().await?;
    watcher.step(Step::Asked, &info.agent);
    let tees = wanted.tees();
    watcher.step(Step::Chosen, &error::names(&tees));
    let new = NewKeep { tees, label: String::new(), memory: 0, volumes };
    let lease = host.lease(&new).await.map_err(|error| match error {
        HostFailure::Refused(refused) if refused.code == HostErrorCode::NoSuchTee => {
            let offered = info.backends.iter().map(|backend| backend.tee).collect();
            DeployError::NoSuchTee { offered, wanted: new.tees.clone() }
        }
        other => other.into(),
    })?;
    let state = if lease.warm { "warm" } else { "launched" };
    watcher.step(Step::Leased, &format!("{} on {}, {state}", lease.kind, lease.tee.platform));
    Ok(lease)
}

/// Steps 5 to 8, over any stream that leads to a Keep.
///
/// # Errors
/// When what is at the other end is not a Keep as `wanted`, or does not serve us.
pub async fn verify<S>(
    stream: S,
    clock: Clock,
    wanted: &Wanted,
    watcher: &mut dyn Watcher,
) -> Result<Attested<S>, DeployError>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let client = Client { clock, verifier: Arc::new(attested_tls::statement::verifier()) };
    let tell = |step| watcher.step(Step::from(step), "");
    Ok(direct::connect_telling(stream, &client, wanted, tell).await?)
}

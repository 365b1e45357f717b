//! `bailey deploy`: one workload, in a Keep of a host that nobody here trusts.

mod teller;
mod wanted;
mod workload;

pub use teller::Teller;
pub use wanted::launch_configuration;
pub use workload::WorkloadArgs;

use std::path::{Path, PathBuf};
use std::sync::Arc;

use ::deploy::{Access, DeployError, Deployment, Endpoint, Host, HostFailure, Streams, Wanted};
use clap::Args;
use keep_protocol::{
    host::HostErrorCode,
    keep::{Outcome as Fate, RefusedCode},
};
use rustls::{RootCertStore, pki_types::CertificateDer};
use zeroize::Zeroizing;

use self::wanted::WantedArgs;
use crate::{
    commands::{evidence::read, host::Deploy as Another},
    failure::{Failure, Input, Kind, Outcome},
};

/// Verify a Keep of a host that is not trusted, run a workload in it once, and pass its output and exit code on.
#[derive(Args)]
pub struct Deploy {
    /// The host agent, such as https://localhost:7443
    #[arg(long, value_name = "URL", required_unless_present = "process")]
    host: Option<String>,
    /// Into a mesh instead: the process of this machine's host agent whose Keep is to run this package from now on, as far
    /// as the manifest allows it
    #[arg(long, value_name = "NAME", requires = "directory", conflicts_with = "host")]
    process: Option<String>,
    /// The folder of that agent
    #[arg(long, value_name = "DIR", requires = "process")]
    directory: Option<PathBuf>,
    #[command(flatten)]
    access: AccessArgs,
    #[command(flatten)]
    wanted: WantedArgs,
    #[command(flatten)]
    workload: WorkloadArgs,
}

/// How the host is known, and how it knows us.
#[derive(Args)]
pub struct AccessArgs {
    /// Require the host's certificate to be below these roots, or to be this one (PEM). Nothing that matters depends on it
    #[arg(long, value_name = "FILE")]
    host_ca: Option<PathBuf>,
    /// The file with the token by which the host lets this client in; it goes to no host without --host-ca
    #[arg(long, value_name = "FILE", requires = "host_ca")]
    token: Option<PathBuf>,
}

impl Deploy {
    /// Runs the command.
    pub async fn run(self) -> Outcome {
        if let (Some(process), Some(directory)) = (&self.process, &self.directory) {
            let package = self.workload.workload.to_str().unwrap_or_default().parse();
            let package = package.malformed("into a mesh go packages: REGISTRY/REPOSITORY@sha256:…")?;
            let another = Another::new(process.clone(), package, directory.clone(), self.workload.json);
            return another.run().await;
        }
        let host = self.host.as_deref().unwrap_or_default();
        let endpoint: Endpoint = host.parse().malformed("the host's URL is none")?;
        let host = Host::new(endpoint, self.access.load()?, ::deploy::clock());
        let wanted = self.wanted.load()?;
        if wanted.tees().is_empty() {
            return Err(Failure::malformed(
                "no Keep could be accepted: policy and reference values exclude each other",
            )
            .hint(
                "--reference names the releases of bailey-keep that you accept, on the policy's platforms",
            ));
        }
        let deployment = self.workload.load().await?;
        deploy(&host, &wanted, &self.workload, deployment).await
    }
}

impl AccessArgs {
    /// Reads them.
    pub fn load(&self) -> Outcome<Access> {
        let Some(path) = &self.host_ca else { return Ok(Access::Anyone) };
        let roots = Arc::new(roots(path)?);
        let Some(path) = &self.token else { return Ok(Access::Roots(roots)) };
        let token = String::from_utf8(read(path)?).malformed(format!("{} is no text", path.display()))?;
        let token = Zeroizing::new(token);
        let token = Zeroizing::new(token.trim().to_owned());
        if token.is_empty() || !token.bytes().all(|byte| byte.is_ascii_graphic()) {
            return Err(Failure::malformed(format!("{} holds no token", path.display())));
        }
        Ok(Access::Token(roots, token))
    }
}

fn roots(path: &Path) -> Outcome<RootCertStore> {
    let certificates =
        evidence::pem::certificates(&read(path)?).malformed(format!("{} is no PEM", path.display()))?;
    let mut roots = RootCertStore::empty();
    for certificate in certificates {
        roots
            .add(CertificateDer::from(certificate.0))
            .malformed(format!("{} has a certificate that cannot be used", path.display()))?;
    }
    Ok(roots)
}

/// Deploys to a host what was loaded, and ends as the workload does.
pub async fn deploy(
    host: &Host,
    wanted: &Wanted,
    workload: &WorkloadArgs,
    mut deployment: Deployment,
) -> Outcome {
    let stdin = workload.input().await?;
    let held = workload.volumes.open()?;
    deployment.volumes = held.keys();
    let opener = workload.opener()?;
    let mut teller = Teller::new(
        host.endpoint(),
        (workload.verbose, workload.json),
        held,
        opener,
        deployment.config.as_deref(),
    );
    let (mut stdout, mut stderr) = teller.streams();
    let streams = Streams { stdin, stdout: &mut stdout, stderr: &mut stderr };
    let mut asked_to_end = false;
    let cancel = async {
        interrupted().await;
        asked_to_end = true;
    };
    let ran = ::deploy::deploy(host, wanted, &deployment, streams, &mut teller, cancel).await;
    match ran {
        // Ctrl-C ends a Keep on this machine, too, which then does not say that it was cancelled.
        Err(DeployError::Lost(_)) if asked_to_end => fate(&Fate::Cancelled {}),
        Ok(ran) => {
            teller.ended(&ran);
            fate(&ran.outcome)
        }
        Err(error) => {
            teller.refused(&error);
            Err(failure(error))
        }
    }
}

/// Ctrl-C, or the end that a supervisor asks for.
async fn interrupted() {
    use tokio::signal::unix::{SignalKind, signal};
    let Ok(mut terminate) = signal(SignalKind::terminate()) else { return std::future::pending().await };
    tokio::select! {
        _ = terminate.recv() => {}
        _ = tokio::signal::ctrl_c() => {}
    }
}

/// The exit code of a workload that trapped: that of a process that aborted.
const TRAPPED: u8 = 134;
/// Of one that exceeded a limit: that of a process that was killed.
const LIMITED: u8 = 137;
/// Of one that was cancelled: that of a process that Ctrl-C ended.
const CANCELLED: u8 = 130;

fn fate(outcome: &Fate) -> Outcome {
    let workload = |code, sentence: String| {
        Err(Failure { kind: Kind::Workload(code), error: anyhow::anyhow!(sentence), hint: None })
    };
    match outcome {
        Fate::Exit { code: 0 } => Ok(()),
        Fate::Exit { code } => workload(*code, String::new()),
        Fate::Trap { code, message } => {
            workload(TRAPPED, format!("the workload trapped: {message} [{code}]"))
        }
        Fate::Limit { which, message } => workload(LIMITED, format!("{message} [{}]", which.code())),
        Fate::Cancelled {} => workload(CANCELLED, String::new()),
        Fate::Failed { code, message } => {
            Err(Failure::refused(format!("the workload did not start: {message} [{code}]")))
        }
    }
}

fn failure(error: DeployError) -> Failure {
    let hint = match &error {
        DeployError::Keep(channel) if channel.refused().is_some() => Some(
            "--policy says which platforms are accepted, --reference which code; nothing was sent".to_owned(),
        ),
        DeployError::Refused(refused) if refused.detail.as_deref() == Some("SECRET_MISSING") => {
            Some("give it with --secret NAME=FILE".to_owned())
        }
        DeployError::Refused(refused) if refused.code == RefusedCode::PackageRefused => {
            refused.detail.as_deref().and_then(package_hint).map(str::to_owned)
        }
        DeployError::Refused(refused) => refused.detail.as_deref().and_then(volume_hint).map(str::to_owned),
        DeployError::Lost(_) => Some("what the workload had done until then, it had done".to_owned()),
        DeployError::Host(failure) => host_hint(failure),
        DeployError::NoSuchTee { .. } => Some(
            "--policy says which platforms you accept; --emulated-root FILE accepts an emulated one, which protects nothing"
                .to_owned(),
        ),
        _ => None,
    };
    let kind = match &error {
        DeployError::Deployment(_) | DeployError::Endpoint(_) => Kind::Malformed,
        _ => Kind::Refused,
    };
    Failure { kind, error: told(error), hint }
}

/// With what the Keep found wrong as causes.
fn told(error: DeployError) -> anyhow::Error {
    let DeployError::Refused(refused) = &error else { return Coded(error).into() };
    let faults = refused.faults.iter().filter(|fault| **fault != refused.message);
    let causes = faults.rev().fold(None, |below: Option<anyhow::Error>, fault| {
        let fault = printable(fault);
        Some(below.map_or_else(|| anyhow::anyhow!("{fault}"), |below| below.context(fault.clone())))
    });
    let coded = Coded(error);
    causes.map_or_else(|| anyhow::anyhow!("{coded}"), |causes| causes.context(coded.to_string()))
}

/// What would help where a host gives nothing.
pub fn host_hint(failure: &HostFailure) -> Option<String> {
    let HostFailure::Refused(refused) = failure else {
        return match failure {
            HostFailure::Untrusted { .. } => Some(
                "--host-ca is the CA of the host's certificate, or the certificate itself: `api.crt` in the agent's folder"
                    .to_owned(),
            ),
            HostFailure::Malformed { .. } => Some("is the URL that of a host agent's API?".to_owned()),
            _ => None,
        };
    };
    let words = match refused.code {
        HostErrorCode::Unauthorised => {
            "--token FILE shows what the host's operator gave you; --host-ca FILE says to which host it may go"
        }
        HostErrorCode::Draining => "its operator is taking it out of service: try another host",
        HostErrorCode::NoStorage => "this host gives Keeps no storage: ask its operator, or try another",
        HostErrorCode::LaunchFailed => "`bailey host list` on that machine says why",
        _ if refused.retry_after_ms > 0 => {
            return Some(format!("it may succeed in {} s", refused.retry_after_ms.div_ceil(1000)));
        }
        _ => return None,
    };
    Some(words.to_owned())
}

/// What would help where a Keep does not take a package.
fn package_hint(detail: &str) -> Option<&'static str> {
    Some(match detail {
        "REGISTRY_UNREACHABLE" => {
            "the Keep fetches the package over its host's network; --fetch-here has this machine fetch and send it"
        }
        "REGISTRY_UNAUTHORISED" | "REGISTRY_DENIED" => "--username and --password-file say who you are",
        "REGISTRY_UNTRUSTED" => "--root-ca FILE names the CA of a registry of your own",
        "WORKLOAD_UNSIGNED" => "`bailey package sign` signs it",
        "WORKLOAD_KEY_NOT_OPENED" => "--key-file FILE is the key by which it was encrypted; it stays here",
        _ => return None,
    })
}

/// What would help where a volume cannot be opened.
fn volume_hint(detail: &str) -> Option<&'static str> {
    Some(match detail {
        "VOLUMES_NOWHERE" => "this host gave the Keep no storage: ask its operator, or try another",
        "VOLUME_UNANCHORED" => {
            "nothing is remembered of this volume here, and the host has files of it: deploy from where it was deployed \
             before, or bring its state from there (--volume-heads)"
        }
        "VOLUME_MISSING" => "the host lost the volume's files, or this is another host: have them put back",
        "VOLUME_ROLLED_BACK" | "VOLUME_FORKED" => {
            "the host brought an older copy back: have the newest one put back"
        }
        "VOLUME_AHEAD_OF_ANCHOR" => {
            "what is remembered here is not the newest: somebody put an old file in its place"
        }
        "VOLUME_TAMPERED" | "VOLUME_TRUNCATED" | "VOLUME_SWAPPED" | "VOLUME_RENAMED" => {
            "the host's files were altered: have the newest copy of them put back"
        }
        "VOLUME_IN_USE" => "another Keep on that host has it open: one at a time",
        _ => return None,
    })
}

/// The sentence with its codes, and the causes below it.
#[derive(Debug)]
struct Coded(DeployError);

impl std::fmt::Display for Coded {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} [{}]", printable(&self.0.to_string()), self.0.codes().join(", "))
    }
}

impl std::error::Error for Coded {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        std::error::Error::source(&self.0)
    }
}

/// The words of others, without what drives a terminal.
pub(crate) fn printable(text: &str) -> String {
    text.chars().map(|char| if char.is_control() { '\u{fffd}' } else { char }).collect()
}

#[cfg(test)]
mod tests {
    use keep_protocol::{
        host::{HostError, Platform, Tee},
        keep::{Limit, Refused},
    };

    use super::*;

    fn rendered(error: DeployError) -> String {
        failure(error).render()
    }

    #[test]
    fn what_the_keep_found_wrong_are_causes() {
        let refused = Refused {
            code: RefusedCode::WorkloadInvalid,
            detail: None,
            faults: vec!["failed to parse".to_owned(), "unexpected end\u{7}".to_owned()],
            message: "the workload is invalid WebAssembly".to_owned(),
            versions: Vec::new(),
        };
        assert_eq!(
            rendered(DeployError::Refused(Box::new(refused.clone()))),
            "error: the Keep refused the deployment: the workload is invalid WebAssembly [WORKLOAD_INVALID]\n  \
             cause: failed to parse\n  cause: unexpected end\u{fffd}\n"
        );
        let once = Refused { faults: vec![refused.message.clone()], ..refused };
        let text = rendered(DeployError::Refused(Box::new(once)));
        assert_eq!(text.matches("invalid WebAssembly").count(), 1, "{text}");
    }

    #[test]
    fn a_host_that_gives_nothing_is_told_with_what_would_help() {
        let says = |code, retry_after_ms| {
            let error = HostError { retry_after_ms, ..HostError::new(code, "the host's words") };
            rendered(DeployError::Host(HostFailure::Refused(error)))
        };
        let text = says(HostErrorCode::Unauthorised, 0);
        assert!(text.starts_with(
            "error: the host gave no Keep [UNAUTHORISED]\n  cause: the host says: the host's words\n"
        ));
        assert!(text.contains("hint:  --token FILE"), "{text}");
        assert!(says(HostErrorCode::NoRoom, 4_001).contains("hint:  it may succeed in 5 s"));
        assert!(!says(HostErrorCode::QuotaExceeded, 0).contains("hint"));
        let tee = |emulated| Tee { emulated, platform: Platform::Snp };
        let text = rendered(DeployError::NoSuchTee { offered: vec![tee(true)], wanted: vec![tee(false)] });
        assert!(text.contains("it says that it has snp (emulated); you accept snp [NO_SUCH_TEE]"), "{text}");
        let endpoint: Endpoint = "https://localhost:7443".parse().unwrap();
        let source = rustls::Error::InvalidCertificate(rustls::CertificateError::UnknownIssuer);
        let text = rendered(DeployError::Host(HostFailure::Untrusted { endpoint, source }));
        assert!(text.contains("[HOST_UNTRUSTED]") && text.contains("api.crt"), "{text}");
    }

    #[test]
    fn how_a_workload_ended_has_the_code_of_the_documentation() {
        let limit = Fate::Limit { which: Limit::Wall, message: "too long".to_owned() };
        let failure = fate(&limit).unwrap_err();
        assert_eq!((failure.exit_code(), failure.render().as_str()), (137, "error: too long [TIME_LIMIT]\n"));
    }
}

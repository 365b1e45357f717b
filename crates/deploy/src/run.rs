//! The deployment on a verified connection: HTTP/2, one request, both bodies at the same time.

use std::{collections::BTreeMap, pin::pin, time::Duration};

use attested_tls::{channel::Attested, key::sha256};
use bytes::Bytes;
use http::{Request, header};
use http_body_util::BodyExt;
use hyper::{body::Incoming, client::conn::http2};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use keep_protocol::{
    Message, Sensitive, Sequence, VERSION,
    keep::{self, Accepted, FromKeep, Head, Outcome, Preface, ToKeep, VolumeHead},
    package::{FetchedPackage, PackageOrder},
};
use serde_bytes::ByteBuf;
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt},
    sync::{mpsc, watch},
    time::timeout,
};

use crate::{
    body::{Said, said},
    deployment::{Deployment, Workload},
    error::DeployError,
    watch::{Step, Watcher},
};

/// A Keep that does not answer a ping within as long again is lost.
const PING: Duration = Duration::from_secs(20);
/// How long a Keep has to say that it ended the workload. After that the connection is closed, which ends it too.
const FAREWELL: Duration = Duration::from_secs(3);
const PIECE: usize = 64 << 10;
const WINDOW: u32 = 1 << 20;

/// Where the workload's standard streams lead.
pub struct Streams<'a> {
    /// Its input.
    pub stdin: Box<dyn AsyncRead + Send + Unpin>,
    /// Its output.
    pub stdout: &'a mut (dyn AsyncWrite + Send + Unpin),
    /// Its other output.
    pub stderr: &'a mut (dyn AsyncWrite + Send + Unpin),
}

/// A workload that ran.
#[derive(Debug, Clone)]
pub struct Ran {
    /// What the Keep took.
    pub accepted: Accepted,
    /// How it ended.
    pub outcome: Outcome,
    /// How long it ran, by the Keep's clock.
    pub wall: Duration,
    /// The newest states of volumes, for the next deployment.
    pub volumes: Vec<VolumeHead>,
}

/// Sends the deployment to a Keep that was verified, and passes on what comes back until the workload has ended.
/// `cancel` ends it.
///
/// # Errors
/// When the Keep refuses the deployment, breaks the protocol, or is lost.
pub async fn run<S>(
    keep: Attested<S>,
    deployment: &Deployment,
    mut streams: Streams<'_>,
    watcher: &mut dyn Watcher,
    cancel: impl Future<Output = ()> + Send,
) -> Result<Ran, DeployError>
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    deployment.check()?;
    watcher.verified(keep.peer());
    let (sender, body) = said();
    let response = request(keep, body);
    let stdin = std::mem::replace(&mut streams.stdin, Box::new(tokio::io::empty()));
    let (wanted, input) = watch::channel(0);
    let saying = say(sender.clone(), deployment, stdin, input);
    let hearing = async {
        let mut heard = Heard::open(response.await?, wanted, sender.clone()).await?;
        heard.until_ended(deployment, &mut streams, watcher).await
    };
    let (mut saying, mut hearing, mut cancel) = (pin!(saying), pin!(hearing), pin!(cancel));
    let mut said_all = false;
    loop {
        tokio::select! {
            biased;
            ran = &mut hearing => return ran,
            () = &mut cancel => break,
            () = &mut saying, if !said_all => said_all = true,
        }
    }
    let telling = async {
        let _ = sender.send(ToKeep::Cancel {}.to_bytes().into()).await;
        hearing.await
    };
    timeout(FAREWELL, telling).await.unwrap_or(Err(DeployError::Lost(None)))
}

async fn request<S>(keep: Attested<S>, body: Said) -> Result<Incoming, DeployError>
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let mut http2 = http2::Builder::new(TokioExecutor::new());
    http2
        .timer(TokioTimer::new())
        .initial_stream_window_size(WINDOW)
        .initial_connection_window_size(WINDOW)
        .keep_alive_interval(PING)
        .keep_alive_timeout(PING);
    let (mut sender, connection) = http2.handshake(TokioIo::new(keep)).await.map_err(lost)?;
    tokio::spawn(connection);
    let request = Request::post(format!("https://keep{}", keep::RUN_PATH))
        .header(header::CONTENT_TYPE, keep::CONTENT_TYPE)
        .body(body)
        .expect("a constant request");
    Ok(sender.send_request(request).await.map_err(lost)?.into_body())
}

fn lost(error: hyper::Error) -> DeployError {
    DeployError::Lost(Some(error.into()))
}

/// Says it all, in order, and then the input, as it is wanted. Ends early when nobody listens any more.
async fn say(
    keep: mpsc::Sender<Bytes>,
    deployment: &Deployment,
    mut stdin: Box<dyn AsyncRead + Send + Unpin>,
    mut wanted: watch::Receiver<u64>,
) {
    for message in deployment.messages() {
        if keep.send(message).await.is_err() {
            return;
        }
    }
    let (mut buffer, mut said) = (vec![0; PIECE], 0);
    loop {
        let Ok(room) = wanted.wait_for(|wanted| *wanted > said).await.map(|wanted| *wanted - said) else {
            return;
        };
        let room = usize::try_from(room).unwrap_or(PIECE).min(PIECE);
        // Input that cannot be read is input that ends.
        let read = match stdin.read(&mut buffer[..room]).await {
            Ok(read) if read > 0 => read,
            _ => break,
        };
        let message = ToKeep::Stdin(ByteBuf::from(&buffer[..read]));
        if keep.send(message.to_bytes().into()).await.is_err() {
            return;
        }
        said += read as u64;
    }
    let _ = keep.send(ToKeep::StdinEnd {}.to_bytes().into()).await;
}

/// The response, message by message.
struct Heard {
    body: Incoming,
    sequence: Sequence<FromKeep>,
    /// How much input the Keep wants, in sum.
    wanted: watch::Sender<u64>,
    keep: mpsc::Sender<Bytes>,
}

impl Heard {
    async fn open(
        mut body: Incoming,
        wanted: watch::Sender<u64>,
        keep: mpsc::Sender<Bytes>,
    ) -> Result<Self, DeployError> {
        let mut preface = Sequence::<Preface>::new();
        match next(&mut body, &mut preface).await?.map(|preface| preface.version()) {
            Some(VERSION) => {}
            Some(version) => return Err(DeployError::Version(version)),
            None => return Err(DeployError::Lost(None)),
        }
        let mut sequence = Sequence::new();
        sequence.push(&preface.rest());
        Ok(Self { body, sequence, wanted, keep })
    }

    async fn next(&mut self) -> Result<FromKeep, DeployError> {
        next(&mut self.body, &mut self.sequence).await?.ok_or(DeployError::Lost(None))
    }

    async fn until_ended(
        &mut self,
        deployment: &Deployment,
        streams: &mut Streams<'_>,
        watcher: &mut dyn Watcher,
    ) -> Result<Ran, DeployError> {
        let mut held = Held::of(deployment);
        let accepted = loop {
            match self.next().await? {
                FromKeep::VolumeHead(head) => self.hold(&mut held, head, watcher).await?,
                FromKeep::PacketWanted(packet) => self.unwrap(&packet, deployment, watcher).await?,
                FromKeep::Accepted(accepted) => break accepted,
                FromKeep::Refused(refused) => return Err(DeployError::Refused(Box::new(refused))),
                _ => return Err(DeployError::OutOfOrder("it neither accepted nor refused the deployment")),
            }
        };
        taken(deployment, &accepted)?;
        watcher.step(Step::Loaded, "");
        watcher.accepted(&accepted);
        loop {
            match self.next().await? {
                FromKeep::Stdout(bytes) => write(streams.stdout, &bytes).await?,
                FromKeep::Stderr(bytes) => write(streams.stderr, &bytes).await?,
                FromKeep::Exposed(exposed) => watcher.exposed(&exposed),
                FromKeep::StdinWanted(bytes) => {
                    self.wanted.send_modify(|wanted| *wanted = wanted.saturating_add(bytes.into()));
                }
                FromKeep::VolumeHead(head) => self.hold(&mut held, head, watcher).await?,
                FromKeep::Ended(ended) => {
                    if next(&mut self.body, &mut self.sequence).await?.is_some() {
                        return Err(DeployError::OutOfOrder("it says more after the end"));
                    }
                    watcher.step(Step::Ended, "");
                    let wall = Duration::from_micros(ended.wall_us);
                    return Ok(Ran { accepted, outcome: ended.outcome, wall, volumes: held.changed() });
                }
                FromKeep::Accepted(_) | FromKeep::Refused(_) | FromKeep::PacketWanted(_) => {
                    return Err(DeployError::OutOfOrder("it accepts or refuses what it accepted"));
                }
            }
        }
    }
}

/// Whether the Keep took what it was to take, by its own word.
fn taken(deployment: &Deployment, accepted: &Accepted) -> Result<(), DeployError> {
    let swapped = |what| Err(DeployError::Swapped(what));
    match (&deployment.workload, &accepted.package) {
        (Workload::Sent(bytes), None) if *accepted.workload == sha256(bytes) => {}
        (Workload::Package(order), Some(package)) if ordered(order, package) => {}
        (Workload::Sent(_), _) => return swapped("workload"),
        (Workload::Package(_), _) => return swapped("package"),
    }
    match deployment.configuration() {
        Some(text) if *accepted.configuration != sha256(text.as_bytes()) => swapped("configuration"),
        _ => Ok(()),
    }
}

/// Whether it is the package that was ordered, signed by one of those who may. What makes a signature good the Keep has
/// checked.
fn ordered(order: &PackageOrder, package: &FetchedPackage) -> bool {
    let digest = order.reference.rsplit_once("@sha256:").map(|(_, digits)| digits);
    let signed = match (&order.signed, &package.release) {
        (None, None) => true,
        (Some(signed), Some(release)) => {
            signed.name == release.name && signed.signers.iter().any(|signer| signer.name == release.signer)
        }
        _ => false,
    };
    signed && digest == Some(hex::encode(*package.digest).as_str())
}

impl Heard {
    /// Opens a packet of the package, where we have what opens it, and says so.
    async fn unwrap(
        &self,
        packet: &[u8],
        deployment: &Deployment,
        watcher: &mut dyn Watcher,
    ) -> Result<(), DeployError> {
        if matches!(deployment.workload, Workload::Sent(_)) {
            return Err(DeployError::OutOfOrder("it asks for the key of a package that nobody ordered"));
        }
        let opened = watcher.open(packet).map(|options| Sensitive::new(options.to_vec()));
        let _ = self.keep.send(ToKeep::PacketOpened(opened).to_bytes().into()).await;
        Ok(())
    }

    /// Holds the new state of a volume, and says so.
    async fn hold(
        &self,
        held: &mut Held,
        head: VolumeHead,
        watcher: &mut dyn Watcher,
    ) -> Result<(), DeployError> {
        held.follow(&head)?;
        watcher.hold(&head).map_err(DeployError::Held)?;
        // A Keep that is gone is heard of elsewhere.
        let _ = self.keep.send(ToKeep::VolumeKept(head).to_bytes().into()).await;
        Ok(())
    }
}

/// The states of the deployment's volumes, as far as they are known.
struct Held(BTreeMap<String, (Option<Head>, Option<Head>)>);

impl Held {
    fn of(deployment: &Deployment) -> Self {
        Self(deployment.volumes.iter().map(|volume| (volume.name.clone(), (volume.head, None))).collect())
    }

    /// A state follows the one before it, or is that one, told again. Others are not believed of any Keep.
    fn follow(&mut self, told: &VolumeHead) -> Result<(), DeployError> {
        let wrong =
            DeployError::OutOfOrder("it tells a state of a volume that does not follow the one before");
        let Some((given, new)) = self.0.get_mut(&told.name) else { return Err(wrong) };
        let before = (*new).or(*given);
        let follows = before.is_none_or(|before| {
            told.head == before || Some(told.head.sequence) == before.sequence.checked_add(1)
        });
        if !follows {
            return Err(wrong);
        }
        *new = Some(told.head);
        Ok(())
    }

    fn changed(self) -> Vec<VolumeHead> {
        self.0.into_iter().filter_map(|(name, (_, new))| Some(VolumeHead { head: new?, name })).collect()
    }
}

async fn next<M: Message>(body: &mut Incoming, sequence: &mut Sequence<M>) -> Result<Option<M>, DeployError> {
    loop {
        if let Some(message) = sequence.next()? {
            return Ok(Some(message));
        }
        match body.frame().await {
            None => {
                std::mem::take(sequence).end()?;
                return Ok(None);
            }
            // Trailers say nothing here.
            Some(Ok(frame)) => frame.into_data().ok().iter().for_each(|bytes| sequence.push(bytes)),
            Some(Err(error)) => return Err(lost(error)),
        }
    }
}

async fn write(stream: &mut (dyn AsyncWrite + Send + Unpin), bytes: &[u8]) -> Result<(), DeployError> {
    let written = async {
        stream.write_all(bytes).await?;
        stream.flush().await
    };
    written.await.map_err(DeployError::Output)
}

#[cfg(test)]
mod tests {
    use keep_protocol::{
        keep::WorkloadKind,
        package::{FetchedRelease, Proof, RegistryAccess, Signed, Signer},
    };
    use serde_bytes::ByteArray;

    use super::*;

    fn order(signed: bool) -> PackageOrder {
        let signers = vec![Signer { name: "release".into(), proof: Proof::Key(ByteBuf::from(*b"key")) }];
        let signed = signed.then(|| Signed { name: "a/b".into(), minimum: "1.0.0".into(), signers });
        let access = RegistryAccess { plain: false, roots: Vec::new(), credentials: None };
        PackageOrder { now: 0, access, signed, reference: format!("a/b@sha256:{}", "07".repeat(32)) }
    }

    fn fetched(digest: u8, by: Option<(&str, &str)>) -> Option<FetchedPackage> {
        let release = by.map(|(name, signer)| FetchedRelease {
            name: name.into(),
            signer: signer.into(),
            version: "1.0.0".into(),
        });
        Some(FetchedPackage { digest: ByteArray::new([digest; 32]), release })
    }

    fn takes(workload: Workload, package: Option<FetchedPackage>) -> bool {
        let deployment = Deployment { workload, ..Deployment::default() };
        let kind = WorkloadKind::Command;
        let workload = ByteArray::new(sha256(b"x"));
        let configuration = ByteArray::new(sha256(keep_config::WITHOUT_A_FILE.as_bytes()));
        taken(&deployment, &Accepted { kind, load_us: 0, package, workload, configuration }).is_ok()
    }

    #[test]
    fn a_package_that_was_not_ordered_is_not_taken() {
        let sent = || Workload::from(b"x".to_vec());
        assert!(takes(sent(), None) && !takes(sent(), fetched(7, None)));
        assert!(!takes(Workload::from(b"y".to_vec()), None));
        let ordered = |signed, package| takes(Workload::Package(order(signed)), package);
        assert!(ordered(false, fetched(7, None)) && ordered(true, fetched(7, Some(("a/b", "release")))));
        for (signed, package) in [
            (false, None),
            (false, fetched(8, None)),
            (true, fetched(7, None)),
            (false, fetched(7, Some(("a/b", "release")))),
            (true, fetched(7, Some(("a/c", "release")))),
            (true, fetched(7, Some(("a/b", "other")))),
        ] {
            assert!(!ordered(signed, package.clone()), "{package:?}");
        }
    }
}

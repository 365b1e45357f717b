//! The deployment on a verified connection: HTTP/2, one request, both bodies at the same time.

use std::{pin::pin, time::Duration};

use attested_tls::channel::Attested;
use bytes::Bytes;
use http::{Request, header};
use http_body_util::BodyExt;
use hyper::{body::Incoming, client::conn::http2};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use keep_protocol::{
    Message, Sequence, VERSION,
    keep::{self, Accepted, FromKeep, Outcome, Preface, ToKeep, VolumeHead},
};
use serde_bytes::ByteBuf;
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt},
    sync::mpsc,
    time::timeout,
};

use crate::{
    body::{Said, said},
    deployment::Deployment,
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
    let saying = say(sender.clone(), deployment, stdin);
    let hearing = async {
        let mut heard = Heard::open(response.await?).await?;
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
    // Behind input that the workload does not read, this does not arrive; the end of the connection does.
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

/// Says it all, in order, and then the input. Ends early when nobody listens any more.
async fn say(
    keep: mpsc::Sender<Bytes>,
    deployment: &Deployment,
    mut stdin: Box<dyn AsyncRead + Send + Unpin>,
) {
    for message in deployment.messages() {
        if keep.send(message).await.is_err() {
            return;
        }
    }
    let mut buffer = vec![0; PIECE];
    // Input that cannot be read is input that ends.
    while let Ok(read) = stdin.read(&mut buffer).await {
        let message = match read {
            0 => break,
            read => ToKeep::Stdin(ByteBuf::from(&buffer[..read])),
        };
        if keep.send(message.to_bytes().into()).await.is_err() {
            return;
        }
    }
    let _ = keep.send(ToKeep::StdinEnd {}.to_bytes().into()).await;
}

/// The response, message by message.
struct Heard {
    body: Incoming,
    sequence: Sequence<FromKeep>,
}

impl Heard {
    async fn open(mut body: Incoming) -> Result<Self, DeployError> {
        let mut preface = Sequence::<Preface>::new();
        match next(&mut body, &mut preface).await?.map(|preface| preface.version()) {
            Some(VERSION) => {}
            Some(version) => return Err(DeployError::Version(version)),
            None => return Err(DeployError::Lost(None)),
        }
        let mut sequence = Sequence::new();
        sequence.push(&preface.rest());
        Ok(Self { body, sequence })
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
        let accepted = match self.next().await? {
            FromKeep::Accepted(accepted) => accepted,
            FromKeep::Refused(refused) => return Err(DeployError::Refused(Box::new(refused))),
            _ => return Err(DeployError::OutOfOrder("it neither accepted nor refused the deployment")),
        };
        if *accepted.workload != deployment.digest() {
            return Err(DeployError::Swapped("workload"));
        }
        if *accepted.configuration != attested_tls::key::sha256(deployment.config.as_bytes()) {
            return Err(DeployError::Swapped("configuration"));
        }
        watcher.step(Step::Loaded, "");
        watcher.accepted(&accepted);
        let mut volumes: Vec<VolumeHead> = Vec::new();
        loop {
            match self.next().await? {
                FromKeep::Stdout(bytes) => write(streams.stdout, &bytes).await?,
                FromKeep::Stderr(bytes) => write(streams.stderr, &bytes).await?,
                FromKeep::Exposed(exposed) => watcher.exposed(&exposed),
                FromKeep::VolumeHead(head) => {
                    volumes.retain(|known| known.name != head.name);
                    volumes.push(head);
                }
                FromKeep::Ended(ended) => {
                    if next(&mut self.body, &mut self.sequence).await?.is_some() {
                        return Err(DeployError::OutOfOrder("it says more after the end"));
                    }
                    watcher.step(Step::Ended, "");
                    let wall = Duration::from_micros(ended.wall_us);
                    return Ok(Ran { accepted, outcome: ended.outcome, wall, volumes });
                }
                FromKeep::Accepted(_) | FromKeep::Refused(_) => {
                    return Err(DeployError::OutOfOrder("it accepts or refuses what it accepted"));
                }
            }
        }
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

//! A Keep in this process, and a client of it.

use std::{
    collections::BTreeMap,
    net::SocketAddr,
    path::PathBuf,
    sync::{Arc, LazyLock},
};

use appraisal::UnixTime;
use attested_tls::{clock, launch::DirectConfiguration};
use attester::Tee as _;
use deploy::{DeployError, Deployment, Ran, Silent, Streams, Wanted};
use evidence::Platform;
use keep::{
    cache::Cache,
    direct::{Door, Waiting},
    runtime::{Pool, Runtime},
    storage::Storage,
};
use testkit::tee::{EmulatedTee, NOW};
use tokio::{
    net::{TcpListener, TcpStream},
    task::JoinHandle,
};
use zeroize::Zeroizing;

static RUNTIME: LazyLock<Runtime> = LazyLock::new(|| Runtime::new(Pool::default()).unwrap());

pub const CODE: &[u8] = b"the Keep's code";

pub fn tee() -> Arc<EmulatedTee> {
    EmulatedTee::launch(Platform::Snp, CODE, &DirectConfiguration { version: 1 }.to_json())
}

pub fn wanted() -> Wanted {
    Wanted { policy: testkit::tee::policy(), measurements: vec![tee().reference()] }
}

/// A Keep that waits on a port of this machine.
pub struct Keep {
    pub address: SocketAddr,
    pub served: JoinHandle<()>,
}

impl Keep {
    pub async fn start() -> Self {
        Self::start_as(tee(), NOW, None).await
    }

    /// With a folder of the host for volumes.
    pub async fn start_with(storage: &std::path::Path) -> Self {
        Self::launch(tee(), NOW, None, Some(Storage::Folder(storage.to_owned()))).await
    }

    /// With a port behind which the host answers for the files of volumes.
    pub async fn start_at(storage: SocketAddr) -> Self {
        Self::launch(tee(), NOW, None, Some(Storage::Port(storage))).await
    }

    pub async fn start_as(tee: Arc<EmulatedTee>, now: UnixTime, cache: Option<PathBuf>) -> Self {
        Self::launch(tee, now, cache, None).await
    }

    async fn launch(
        tee: Arc<EmulatedTee>,
        now: UnixTime,
        cache: Option<PathBuf>,
        storage: Option<Storage>,
    ) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let cache = cache.map(|folder| {
            Cache::new(folder, Zeroizing::new(*tee.sealing_key("test/cache").unwrap().as_bytes()))
        });
        let waiting = Waiting::new(tee, RUNTIME.clone(), cache, clock::fixed(now)).with_storage(storage);
        let served = tokio::spawn(waiting.serve(Door::Tcp(listener), std::future::pending()));
        Self { address, served }
    }
}

/// What came of a deployment.
#[derive(Debug)]
pub struct Came {
    pub ran: Result<Ran, DeployError>,
    pub stdout: String,
    pub stderr: String,
}

impl Came {
    pub fn codes(&self) -> Vec<String> {
        match &self.ran {
            Ok(ran) => panic!("not refused: {ran:?}"),
            Err(error) => error.codes(),
        }
    }
}

pub fn deployment(workload: Vec<u8>) -> Deployment {
    Deployment { workload: workload.into(), ..Deployment::default() }
}

pub fn secrets(given: &[(&str, &str)]) -> BTreeMap<String, Zeroizing<Vec<u8>>> {
    given.iter().map(|(name, value)| ((*name).into(), Zeroizing::new(value.as_bytes().to_vec()))).collect()
}

/// Deploys to whatever listens at `address`, with this input.
pub async fn deploy_to(address: SocketAddr, deployment: &Deployment, input: &'static [u8]) -> Came {
    let stream = TcpStream::connect(address).await.unwrap();
    let keep = deploy::verify(stream, clock::fixed(NOW), &wanted(), &mut Silent).await;
    let (mut stdout, mut stderr) = (Vec::new(), Vec::new());
    let streams = Streams { stdin: Box::new(input), stdout: &mut stdout, stderr: &mut stderr };
    let ran = match keep {
        Ok(keep) => deploy::run(keep, deployment, streams, &mut Silent, std::future::pending()).await,
        Err(error) => Err(error),
    };
    let text = |bytes| String::from_utf8(bytes).unwrap();
    Came { ran, stdout: text(stdout), stderr: text(stderr) }
}

/// Deploys to a Keep of its own.
pub async fn run(deployment: &Deployment, input: &'static [u8]) -> Came {
    let keep = Keep::start().await;
    let came = deploy_to(keep.address, deployment, input).await;
    // A Keep ends with its deployment, however that went.
    keep.served.await.unwrap();
    came
}

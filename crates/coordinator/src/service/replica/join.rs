//! Asking other replicas: for the keys, while the state is locked here; and telling them of shares.

use std::{io, sync::Arc, time::Duration};

use appraisal::binding::Role;
use attested_tls::channel::{self, ChannelError, Party};
use hyper_util::rt::TokioIo;
use mesh_api::{HandOverRequest, ShareRequest, replicas_client::ReplicasClient};
use tokio::net::TcpStream;
use tokio_util::sync::CancellationToken;
use tonic::{
    Status,
    transport::{Channel, Endpoint},
};
use zeroize::Zeroizing;

use super::{BETWEEN, ReplicaPolicy};
use crate::{
    service::Coordinator,
    store::{Keys, Place},
};

/// For one replica to connect and answer.
const PATIENCE: Duration = Duration::from_secs(5);

#[derive(Debug, thiserror::Error)]
enum PeerError {
    #[error("no connection: {0}")]
    Connection(#[from] io::Error),
    #[error(transparent)]
    Channel(#[from] ChannelError),
    #[error("{0}")]
    Transport(#[from] tonic::transport::Error),
    #[error("it says: {}", .0.message())]
    Refused(Box<Status>),
    #[error("its answer is not keys")]
    Malformed,
    #[error("no answer came in time")]
    Timeout,
    #[error("{0}")]
    NotOpened(String),
}

impl From<Status> for PeerError {
    fn from(status: Status) -> Self {
        Self::Refused(Box::new(status))
    }
}

impl Coordinator {
    /// For as long as the state is locked: asks every replica there is for the keys.
    pub(super) async fn join_others(self: Arc<Self>, shutdown: CancellationToken) {
        let Some(replicas) = &self.replicas else { return };
        while !shutdown.is_cancelled() {
            if self.is_locked() {
                for address in replicas.others().await.unwrap_or_default() {
                    match within_time(self.ask_for_keys(&address)).await {
                        Ok(()) => {
                            tracing::info!(code = "REPLICA_OPENED", "another replica gave this one the keys");
                            break;
                        }
                        Err(error) => {
                            tracing::warn!(code = "REPLICA_NOT_OPENED", address, reason = %error, "no keys came from there");
                        }
                    }
                }
            }
            let _ = tokio::time::timeout(BETWEEN, shutdown.cancelled()).await;
        }
    }

    async fn ask_for_keys(self: &Arc<Self>, address: &str) -> Result<(), PeerError> {
        let answer = self.client_of(address).await?.hand_over(HandOverRequest {}).await?.into_inner();
        let key = |bytes: Vec<u8>| {
            let bytes = Zeroizing::new(bytes);
            bytes.as_slice().try_into().map(Zeroizing::new).map_err(|_| PeerError::Malformed)
        };
        let head = answer.head.as_slice().try_into().map_err(|_| PeerError::Malformed)?;
        let at = Place { length: answer.length, head };
        let keys = Keys { data_key: key(answer.data_key)?, identity: key(answer.identity_key)?, at };
        let coordinator = self.clone();
        let opened = tokio::task::spawn_blocking(move || coordinator.open_with(&keys)).await;
        let opened = opened.map_err(|error| PeerError::NotOpened(error.to_string()))?;
        opened.map_err(|refusal| PeerError::NotOpened(refusal.to_string()))
    }

    /// Tells every other replica of a share that was uploaded here; those that are locked count it.
    pub(in crate::service) async fn spread_share(
        self: &Arc<Self>,
        share: &Zeroizing<Vec<u8>>,
        signature: &[u8],
    ) {
        let Some(replicas) = &self.replicas else { return };
        for address in replicas.others().await.unwrap_or_default() {
            let tell = async {
                let request = ShareRequest { share: share.to_vec(), signature: signature.to_vec() };
                self.client_of(&address).await?.share(request).await?;
                Ok(())
            };
            if let Err(error) = within_time(tell).await {
                tracing::warn!(code = "SHARE_NOT_TOLD", address, reason = %error, "a replica was not told of a share");
            }
        }
    }

    /// A connection to another replica, which both sides attested.
    async fn client_of(self: &Arc<Self>, address: &str) -> Result<ReplicasClient<Channel>, PeerError> {
        let party = Party {
            role: Role::Replica,
            key: self.mesh_key.clone(),
            tee: self.tee.clone(),
            clock: self.clock.clone(),
            verifier: self.verifier.clone(),
        };
        let state = self.snapshot().ok().map(|snapshot| snapshot.state);
        let policy = ReplicaPolicy { coordinator: self.clone(), state, role: Role::Coordinator };
        let stream = TcpStream::connect(address).await?;
        stream.set_nodelay(true)?;
        let attested = channel::connect(stream, &party, Vec::new(), &policy).await?;
        let mut once = Some(TokioIo::new(attested));
        let connector = tower::service_fn(move |_| {
            let stream = once.take().ok_or_else(|| io::Error::other("the connection was attested once"));
            async move { stream }
        });
        let channel = Endpoint::from_static("http://replica").connect_with_connector(connector).await?;
        Ok(ReplicasClient::new(channel))
    }
}

async fn within_time<T>(work: impl Future<Output = Result<T, PeerError>>) -> Result<T, PeerError> {
    tokio::time::timeout(PATIENCE, work).await.unwrap_or(Err(PeerError::Timeout))
}

//! How a Keep becomes a Marble: it attests to the coordinator and the coordinator to it, on one connection,
//! and then receives a certificate for its own key and everything its workload needs. Before the certificate
//! ends it does the first half again, for a new one.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use appraisal::{UnixTime, binding::Role};
use attested_tls::{
    channel::{self, AttestedPeer, ChannelError, ClaimsRefused, Expectations, Party, PeerPolicy},
    claims::{Claims, CoordinatorClaims, KeepClaims, PackageClaim},
    clock::Clock,
    key::{TeeKey, sha256},
    launch::{CoordinatorRequirements, KeepConfiguration},
    marble::{Access, Credential, MarbleIdentity, PeerRefusal, Revoked},
};
use attester::Tee;
use evidence::Platform;
use hyper_util::rt::TokioIo;
use keep_config::{ConfigError, KeepConfig};
use mesh_api::{
    ActivateRequest, ActivateResponse, Certificate, LocateRequest, LocateResponse, RenewRequest,
    UnwrapWorkloadKeyRequest, WatchRevocationsRequest, mesh_client::MeshClient,
};
use rustls::pki_types::CertificateDer;
use serde_bytes::ByteArray;
use tokio::net::TcpStream;
use tonic::transport::{Channel, Endpoint};
use tower::service_fn;
use zeroize::Zeroizing;

use crate::{
    admission::{Admission, Limits, LogPolicy},
    runtime::ENGINE_VERSION,
    volumes::Volumes,
};

/// The coordinator tells its list every 20 s.
pub const SILENCE: Duration = Duration::from_secs(45);

const RPC_TIMEOUT: Duration = Duration::from_secs(20);

/// A Keep on its way to become a Marble.
pub struct Candidate {
    party: Party,
    requirements: Requirements,
    claims: KeepClaims,
    coordinator: String,
}

/// What an admitted Keep has.
pub struct Activated {
    /// Its workload's world.
    pub admission: Admission,
    /// Its certificate and key.
    pub credential: Arc<Credential>,
    /// Who may connect to it.
    pub access: Access,
    /// When its certificate ends, seconds.
    pub not_after: i64,
}

impl Candidate {
    /// A candidate with a fresh key, whose claims name no workload yet. `coordinator` is the host's hint where to connect.
    pub fn new(
        tee: Arc<dyn Tee>,
        configuration: &KeepConfiguration,
        coordinator: String,
        clock: Clock,
    ) -> Result<Self, ActivationError> {
        let claims = KeepClaims {
            marble: configuration.marble.clone(),
            engine: ENGINE_VERSION.to_owned(),
            workload: None,
            package: None,
            configuration: ByteArray::new(sha256(tee.launch_configuration())),
        };
        let key = Arc::new(TeeKey::generate().map_err(|error| ActivationError::Internal(error.to_string()))?);
        let requirements = Requirements(configuration.coordinator.clone());
        let verifier = Arc::new(attested_tls::statement::verifier());
        let party = Party { role: Role::Keep, key, tee, clock, verifier };
        Ok(Self { party, requirements, claims, coordinator })
    }

    /// The same with a workload: its digest, and the package that it came in, are in all claims from now on.
    #[must_use]
    pub fn with(mut self, workload: [u8; 32], package: Option<PackageClaim>) -> Self {
        self.claims.workload = Some(ByteArray::new(workload));
        self.claims.package = package;
        self
    }

    /// Attests, and is told where the workload is.
    pub async fn locate(&self) -> Result<LocateResponse, ActivationError> {
        let (mut client, _) = self.connect().await?;
        Ok(client.locate(LocateRequest {}).await.map_err(refused)?.into_inner())
    }

    /// Attests, and has a packet of the package unwrapped.
    pub async fn unwrap_workload_key(&self, packet: &[u8]) -> Result<Zeroizing<Vec<u8>>, ActivationError> {
        let (mut client, _) = self.connect().await?;
        let request = UnwrapWorkloadKeyRequest { packet: packet.to_vec() };
        let response = client.unwrap_workload_key(request).await.map_err(refused)?.into_inner();
        Ok(Zeroizing::new(response.options))
    }

    /// Its clock.
    pub(crate) fn clock(&self) -> Clock {
        self.party.clock.clone()
    }

    /// The time by it.
    pub(crate) fn now(&self) -> UnixTime {
        (self.party.clock)()
    }

    /// Attests, is admitted, and takes what the manifest grants. `addresses` are the host's hints where
    /// Marbles listen; only those that the manifest grants as destinations are used.
    pub async fn activate(&self, addresses: &BTreeMap<String, String>) -> Result<Activated, ActivationError> {
        let (mut client, peer) = self.connect().await?;
        let response = client.activate(ActivateRequest {}).await.map_err(refused)?.into_inner();
        let certificate = response.certificate.clone().ok_or(ActivationError::Incomplete("certificate"))?;
        let not_after = certificate.not_after;
        let credential = Arc::new(self.credential(certificate, &peer)?);
        if self.claims.workload.is_none_or(|own| response.workload_digest != own.as_slice()) {
            return Err(ActivationError::Workload);
        }
        let access = access(&response)?;
        let admission = self.admission(response, addresses)?;
        Ok(Activated { admission, credential, access, not_after })
    }

    /// Attests again for a new certificate of the same key.
    pub async fn renew(&self) -> Result<(Arc<Credential>, i64), ActivationError> {
        let (mut client, peer) = self.connect().await?;
        let response = client.renew(RenewRequest {}).await.map_err(refused)?.into_inner();
        let certificate = response.certificate.ok_or(ActivationError::Incomplete("certificate"))?;
        let not_after = certificate.not_after;
        Ok((Arc::new(self.credential(certificate, &peer)?), not_after))
    }

    /// Attests for the list of certificates that count no more, and hears it again whenever it changes.
    pub async fn watch_revocations(&self) -> Result<Revocations, ActivationError> {
        let (mut client, _) = self.connect().await?;
        let request = tonic::Request::new(WatchRevocationsRequest {});
        let lists = client.watch_revocations(request).await.map_err(refused)?.into_inner();
        Ok(Revocations { lists, _client: client })
    }

    pub(crate) async fn connect(&self) -> Result<(MeshClient<Channel>, Arc<AttestedPeer>), ActivationError> {
        let unreachable = |source| ActivationError::Unreachable { address: self.coordinator.clone(), source };
        let stream = TcpStream::connect(&self.coordinator).await.map_err(unreachable)?;
        stream.set_nodelay(true).map_err(unreachable)?;
        let attested =
            channel::connect(stream, &self.party, self.claims.to_bytes(), &self.requirements).await?;
        let peer = attested.peer().clone();
        // One connection, one use: if it breaks, the peer of a new one would have to attest first (S-08).
        let mut once = Some(TokioIo::new(attested));
        let connector = service_fn(move |_| {
            let stream =
                once.take().ok_or_else(|| std::io::Error::other("the attested connection is used up"));
            async move { stream }
        });
        let channel = Endpoint::from_static("http://coordinator")
            .timeout(RPC_TIMEOUT)
            .connect_with_connector(connector)
            .await
            .map_err(|error| ActivationError::Internal(error.to_string()))?;
        Ok((MeshClient::new(channel), peer))
    }

    /// The certificate must be for our key and name our Marble, and its root must be the one that the
    /// coordinator's Evidence covers.
    fn credential(
        &self,
        certificate: Certificate,
        peer: &AttestedPeer,
    ) -> Result<Credential, ActivationError> {
        let claims = CoordinatorClaims::from_bytes(&peer.claims)
            .map_err(|error| ActivationError::Certificate(error.to_string()))?;
        if certificate.root != claims.root.as_slice() {
            return Err(ActivationError::Certificate(
                "its root is not the coordinator's attested root".into(),
            ));
        }
        let leaf = certificate.chain.first().ok_or(ActivationError::Incomplete("certificate chain"))?;
        let identity = MarbleIdentity::of_certificate(leaf)?;
        if identity.marble != self.claims.marble {
            return Err(ActivationError::Certificate(format!("it names Marble {:?}", identity.marble)));
        }
        let key = attested_tls::key::SpkiDigest::of_certificate(leaf)
            .map_err(|error| ActivationError::Certificate(error.to_string()))?;
        if key != *self.party.key.digest() {
            return Err(ActivationError::Certificate("it is for another key".into()));
        }
        Ok(Credential {
            chain: certificate.chain.into_iter().map(CertificateDer::from).collect(),
            key: self.party.key.private_key(),
            root: CertificateDer::from(certificate.root),
            identity,
            revoked: Revoked::default(),
        })
    }

    fn admission(
        &self,
        response: ActivateResponse,
        addresses: &BTreeMap<String, String>,
    ) -> Result<Admission, ActivationError> {
        let parameters = response.parameters.ok_or(ActivationError::Incomplete("parameters"))?;
        let config = match response.config.as_str() {
            "" => None,
            text => Some(KeepConfig::parse(text).map_err(ActivationError::Config)?),
        };
        let mut limits = limits(response.limits.ok_or(ActivationError::Incomplete("limits"))?);
        if let Some(config) = &config {
            limits.take(&config.limits);
        }
        let log = match config.as_ref().map(|config| LogPolicy::of(&config.log)) {
            Some(LogPolicy::Discard) | None if response.log_to_host => LogPolicy::Host,
            other => other.unwrap_or_default(),
        };
        let peers = response
            .destinations
            .into_iter()
            .filter_map(|marble| addresses.get(&marble).map(|address| (marble.clone(), address.clone())))
            .collect();
        Ok(Admission {
            marble: self.claims.marble.clone(),
            args: parameters.argv,
            env: parameters.env.into_iter().collect(),
            files: parameters
                .files
                .into_iter()
                .map(|(path, content)| (path, Zeroizing::new(content)))
                .collect(),
            peers,
            limits,
            log,
            config: config.map(Arc::new),
            volumes: Volumes::new(),
        })
    }
}

/// The coordinator's word about certificates, for as long as the connection holds.
pub struct Revocations {
    lists: tonic::Streaming<mesh_api::Revocations>,
    /// The connection lives as long as its client.
    _client: MeshClient<Channel>,
}

impl Revocations {
    /// The next list, the first of them at once. An error after [`SILENCE`] without any: then connect anew.
    pub async fn next(&mut self) -> Result<Revoked, ActivationError> {
        let silent = |_| ActivationError::Internal("the coordinator has been silent for too long".into());
        let list = tokio::time::timeout(SILENCE, self.lists.message()).await.map_err(silent)?;
        let list = list.map_err(refused)?.ok_or(ActivationError::Incomplete("list of revocations"))?;
        Ok(Revoked::new(list.certificates))
    }
}

fn limits(wire: mesh_api::Limits) -> Limits {
    Limits {
        memory_bytes: wire.memory_bytes,
        cpu_ms_per_request: wire.cpu_per_request_ms,
        max_concurrent_requests: u32::try_from(wire.concurrent_requests).unwrap_or(u32::MAX),
        max_body_bytes: wire.body_bytes,
        ..Limits::default()
    }
}

fn access(response: &ActivateResponse) -> Result<Access, ActivationError> {
    let access = response.access.as_ref().ok_or(ActivationError::Incomplete("access"))?;
    Ok(if access.public { Access::Public } else { Access::Peers(access.peers.iter().cloned().collect()) })
}

struct Requirements(CoordinatorRequirements);

impl PeerPolicy for Requirements {
    fn role(&self) -> Role {
        Role::Coordinator
    }

    fn expectations(&self, _platform: Platform, _claims: &[u8]) -> Result<Expectations, ClaimsRefused> {
        Ok(Expectations { policy: self.0.policy.clone(), measurements: self.0.measurements.clone() })
    }
}

pub(crate) fn refused(status: tonic::Status) -> ActivationError {
    let code = std::str::from_utf8(status.details()).ok().filter(|code| !code.is_empty());
    ActivationError::Refused {
        code: code.map_or_else(|| format!("{:?}", status.code()), str::to_owned),
        reason: status.message().to_owned(),
    }
}

/// Why a Keep did not become a Marble.
#[derive(Debug, thiserror::Error)]
pub enum ActivationError {
    /// No connection.
    #[error("the coordinator at {address} cannot be reached")]
    Unreachable {
        /// The host's hint.
        address: String,
        /// Why.
        source: std::io::Error,
    },
    /// One side's Evidence was refused, or the exchange failed.
    #[error("attestation with the coordinator failed")]
    Channel(#[from] ChannelError),
    /// The coordinator said no.
    #[error("the coordinator refused: {reason}")]
    Refused {
        /// Stable code.
        code: String,
        /// Its sentence.
        reason: String,
    },
    /// The coordinator wants another workload run.
    #[error("the workload is not the one that the manifest names")]
    Workload,
    /// An answer without a needed part.
    #[error("the coordinator's answer has no {0}")]
    Incomplete(&'static str),
    /// A configuration that this Keep does not understand: the coordinator's is newer.
    #[error("the workload's configuration cannot be used")]
    Config(#[source] ConfigError),
    /// A certificate that is not ours.
    #[error("the coordinator's certificate cannot be used: {0}")]
    Certificate(String),
    /// A certificate without identity.
    #[error("the coordinator's certificate cannot be used")]
    Identity(#[from] PeerRefusal),
    /// Our own fault.
    #[error("the Keep failed: {0}")]
    Internal(String),
}

impl ActivationError {
    /// Whether the coordinator sent this instance away for good.
    pub fn is_evicted(&self) -> bool {
        matches!(self, Self::Refused { code, .. } if code == "EVICTED")
    }

    /// Stable codes of the cause.
    pub fn codes(&self) -> Vec<String> {
        match self {
            Self::Unreachable { .. } => vec!["COORDINATOR_UNREACHABLE".into()],
            Self::Channel(error) => error.codes(),
            Self::Refused { code, .. } => vec![code.clone()],
            Self::Workload => vec!["WORKLOAD_MISMATCH".into()],
            Self::Config(_) => vec!["CONFIG_INVALID".into()],
            Self::Incomplete(_) | Self::Certificate(_) | Self::Identity(_) => vec!["ANSWER_UNUSABLE".into()],
            Self::Internal(_) => vec!["INTERNAL".into()],
        }
    }
}

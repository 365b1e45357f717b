//! One instance of a Marble: its key, its claims, and what it asks of the coordinator.

use std::{sync::Arc, time::Duration};

use appraisal::binding::Role;
use attested_tls::{
    channel::{self, AttestedPeer, ClaimsRefused, Expectations, Party, PeerPolicy},
    claims::{Claims, CoordinatorClaims},
    clock::Clock,
    key::{SpkiDigest, TeeKey, sha256},
    launch::{CoordinatorRequirements, KeepConfiguration},
    marble::{Credential, MarbleIdentity, Revoked},
};
use attester::Tee;
use evidence::Platform;
use hyper_util::rt::TokioIo;
use mesh_api::{
    ActivateRequest, ActivateResponse, Certificate, RenewRequest, WatchRevocationsRequest,
    mesh_client::MeshClient,
};
use rustls::pki_types::CertificateDer;
use tokio::{net::TcpStream, sync::watch};
use tonic::transport::{Channel, Endpoint};
use tower::service_fn;

use crate::{
    error::{MeshError, refused},
    revocations::Revocations,
};

const RPC_TIMEOUT: Duration = Duration::from_secs(20);
/// The attested handshake has its own limit, of the same length.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

/// One instance of a Marble, admitted or on its way to be. Its key is made here and never leaves it; each question to
/// the coordinator goes over a connection on which both have attested.
#[derive(Clone)]
pub struct Member {
    party: Arc<Party>,
    requirements: Arc<Requirements>,
    marble: String,
    claims: Vec<u8>,
    coordinator: String,
    /// SHA-256 of the root of the one mesh that it goes into, where that is fixed.
    mesh: Option<[u8; 32]>,
    /// The epoch that the coordinator's Evidence named when it was last connected to; of all copies.
    epoch: Arc<watch::Sender<u64>>,
}

/// What an admitted instance has.
pub struct Admitted {
    /// All that the coordinator gave, but for the certificate.
    pub given: ActivateResponse,
    /// Its certificate and key.
    pub credential: Credential,
    /// When its certificate ends, seconds.
    pub not_after: i64,
}

impl Member {
    /// An instance with a fresh key that is to be the Marble that its measured launch configuration names.
    /// `coordinator` is the host's hint where to connect.
    ///
    /// # Errors
    /// No key can be made.
    pub fn new(
        role: Role,
        tee: Arc<dyn Tee>,
        configuration: &KeepConfiguration,
        coordinator: String,
        clock: Clock,
    ) -> Result<Self, MeshError> {
        let key = Arc::new(TeeKey::generate().map_err(|error| MeshError::Internal(error.to_string()))?);
        let verifier = Arc::new(attested_tls::statement::verifier());
        Ok(Self {
            party: Arc::new(Party { role, key, tee, clock, verifier }),
            requirements: Arc::new(Requirements(configuration.coordinator.clone())),
            marble: configuration.marble.clone(),
            claims: Vec::new(),
            coordinator,
            mesh: None,
            epoch: Arc::new(watch::Sender::new(0)),
        })
    }

    /// The same with these claims, which all Evidence covers from now on.
    #[must_use]
    pub fn claiming(self, claims: Vec<u8>) -> Self {
        Self { claims, ..self }
    }

    /// The same, in the mesh whose root has this SHA-256 and in no other: whatever it asks a coordinator, it asks one of that
    /// mesh, wherever the host leads it.
    #[must_use]
    pub fn within(self, root: [u8; 32]) -> Self {
        Self { mesh: Some(root), ..self }
    }

    /// The Marble that it is to be.
    pub fn marble(&self) -> &str {
        &self.marble
    }

    /// Its clock.
    pub fn clock(&self) -> &Clock {
        &self.party.clock
    }

    /// Attests and is admitted. Counts as an activation.
    ///
    /// # Errors
    /// See [`MeshError`].
    pub async fn activate(&self) -> Result<Admitted, MeshError> {
        let (mut client, peer) = self.connect().await?;
        let mut given = client.activate(ActivateRequest {}).await.map_err(refused)?.into_inner();
        let certificate = given.certificate.take().ok_or(MeshError::Incomplete("certificate"))?;
        let not_after = certificate.not_after;
        Ok(Admitted { given, credential: self.credential(certificate, &peer)?, not_after })
    }

    /// Attests again for a new certificate of the same key; gives when it ends, too.
    ///
    /// # Errors
    /// See [`MeshError`].
    pub async fn renew(&self) -> Result<(Credential, i64), MeshError> {
        let (mut client, peer) = self.connect().await?;
        let response = client.renew(RenewRequest {}).await.map_err(refused)?.into_inner();
        let certificate = response.certificate.ok_or(MeshError::Incomplete("certificate"))?;
        let not_after = certificate.not_after;
        Ok((self.credential(certificate, &peer)?, not_after))
    }

    /// Attests again for a new certificate, and is admitted again where the coordinator does not know this instance any
    /// more: its manifest was updated since, or the certificate has ended. That counts as an activation. For Marbles that
    /// are given nothing else when they are admitted, and are [`within`](Self::within) one mesh.
    ///
    /// # Errors
    /// See [`MeshError`].
    pub async fn stay(&self) -> Result<(Credential, i64), MeshError> {
        let (mut client, peer) = self.connect().await?;
        let renewed = client.renew(RenewRequest {}).await.map_err(refused);
        let certificate = match renewed {
            Err(MeshError::Refused { code, .. }) if code == "NOT_ACTIVATED" => {
                client.activate(ActivateRequest {}).await.map_err(refused)?.into_inner().certificate
            }
            renewed => renewed?.into_inner().certificate,
        };
        let certificate = certificate.ok_or(MeshError::Incomplete("certificate"))?;
        let not_after = certificate.not_after;
        Ok((self.credential(certificate, &peer)?, not_after))
    }

    /// Returns when the coordinator was connected to, by whatever asked it, and names another epoch than this one: its
    /// manifest was updated.
    pub async fn epoch_ended(&self, epoch: u64) {
        let mut seen = self.epoch.subscribe();
        if seen.wait_for(|seen| *seen != epoch).await.is_err() {
            std::future::pending().await
        }
    }

    /// Attests for the list of certificates that count no more, and hears it again whenever it changes.
    ///
    /// # Errors
    /// See [`MeshError`].
    pub async fn watch_revocations(&self) -> Result<Revocations, MeshError> {
        let (mut client, _) = self.connect().await?;
        let request = tonic::Request::new(WatchRevocationsRequest {});
        let lists = client.watch_revocations(request).await.map_err(refused)?.into_inner();
        Ok(Revocations::new(lists, client))
    }

    /// A connection on which both have attested, and who is at its other end.
    ///
    /// # Errors
    /// See [`MeshError`].
    pub async fn connect(&self) -> Result<(MeshClient<Channel>, Arc<AttestedPeer>), MeshError> {
        let unreachable = |source| MeshError::Unreachable { address: self.coordinator.clone(), source };
        let connecting = tokio::time::timeout(CONNECT_TIMEOUT, TcpStream::connect(&self.coordinator));
        let late = |_| Err(std::io::ErrorKind::TimedOut.into());
        let stream = connecting.await.unwrap_or_else(late).map_err(unreachable)?;
        stream.set_nodelay(true).map_err(unreachable)?;
        let attested =
            channel::connect(stream, &self.party, self.claims.clone(), &*self.requirements).await?;
        let peer = attested.peer().clone();
        let CoordinatorClaims { epoch, root, .. } = coordinator_claims(&peer)?;
        let seen = sha256(&root);
        if let Some(expected) = self.mesh.filter(|expected| *expected != seen) {
            return Err(MeshError::OtherMesh { expected, seen });
        }
        self.epoch.send_if_modified(|seen| std::mem::replace(seen, epoch) != epoch);
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
            .map_err(|error| MeshError::Internal(error.to_string()))?;
        Ok((MeshClient::new(channel), peer))
    }

    /// The certificate must be for our key and name our Marble, and its root must be the one that the
    /// coordinator's Evidence covers.
    fn credential(&self, certificate: Certificate, peer: &AttestedPeer) -> Result<Credential, MeshError> {
        let claims = coordinator_claims(peer)?;
        if certificate.root != claims.root.as_slice() {
            return Err(MeshError::Certificate("its root is not the coordinator's attested root".into()));
        }
        let leaf = certificate.chain.first().ok_or(MeshError::Incomplete("certificate chain"))?;
        let identity = MarbleIdentity::of_certificate(leaf)?;
        if identity.marble != self.marble {
            return Err(MeshError::Certificate(format!("it names Marble {:?}", identity.marble)));
        }
        let key =
            SpkiDigest::of_certificate(leaf).map_err(|error| MeshError::Certificate(error.to_string()))?;
        if key != *self.party.key.digest() {
            return Err(MeshError::Certificate("it is for another key".into()));
        }
        Ok(Credential {
            chain: certificate.chain.into_iter().map(CertificateDer::from).collect(),
            key: self.party.key.private_key(),
            root: CertificateDer::from(certificate.root),
            identity,
            revoked: Revoked::default(),
        })
    }
}

fn coordinator_claims(peer: &AttestedPeer) -> Result<CoordinatorClaims, MeshError> {
    CoordinatorClaims::from_bytes(&peer.claims).map_err(|error| MeshError::Certificate(error.to_string()))
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

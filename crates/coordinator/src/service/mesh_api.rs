//! The mesh API: gRPC for Keeps and databases, over attested connections only. The Evidence of a connection is appraised
//! before its first gRPC byte, and each request carries the proof of it.

use std::{
    sync::{Arc, OnceLock},
    time::Duration,
};

use appraisal::{UnixTime, binding::Role};
use attested_tls::{
    channel::{self, Attested, AttestedPeer, ChannelError, ClaimsRefused, Expectations, Party, PeerPolicy},
    claims::Claims,
};
use evidence::Platform;
use hyper::server::conn::http2;
use hyper_util::{
    rt::{TokioExecutor, TokioIo, TokioTimer},
    service::TowerToHyperService,
};
use mesh_api::{
    ActivateRequest, ActivateResponse, AdvanceVolumeRequest, AdvanceVolumeResponse, Certificate,
    LocateRequest, LocateResponse, OpenVolumeRequest, OpenVolumeResponse, ReadVolumeHeadRequest,
    ReadVolumeHeadResponse, RenewRequest, RenewResponse, UnwrapWorkloadKeyRequest, UnwrapWorkloadKeyResponse,
    VolumeHead, WatchRevocationsRequest,
    mesh_server::{Mesh, MeshServer},
    replicas_server::ReplicasServer,
};
use tokio::{
    net::{TcpListener, TcpStream},
    sync::{OwnedSemaphorePermit, Semaphore},
};
use tokio_util::sync::CancellationToken;
use tonic::{Code, Request, Response, Status, service::Routes};
use tower::Service;

use super::{
    Coordinator, Decided, StartError, connections,
    decision::{Decision, Kind, Subject, UNAVAILABLE},
    replica::{ReplicaPolicy, ReplicasService},
    revocation,
    telemetry::Traced,
};
use crate::core::{self, Activation, Certified, Claimed, Refusal, State};

/// So many attested connections at a time.
static KEEPS: Semaphore = Semaphore::const_new(65_536);

/// The proof that a connection carries, and the epoch whose policy it was appraised by.
#[derive(Clone)]
struct Admitted {
    peer: Arc<AttestedPeer>,
    epoch: u64,
}

pub(super) async fn serve(
    coordinator: Arc<Coordinator>,
    listener: TcpListener,
    shutdown: CancellationToken,
) -> Result<(), StartError> {
    let serve = |stream, place| connection(coordinator.clone(), stream, place, shutdown.clone());
    connections::each(listener, shutdown.clone(), serve).await;
    Ok(())
}

async fn connection(
    coordinator: Arc<Coordinator>,
    stream: TcpStream,
    place: OwnedSemaphorePermit,
    shutdown: CancellationToken,
) {
    let party = Party {
        role: Role::Coordinator,
        key: coordinator.mesh_key.clone(),
        tee: coordinator.tee.clone(),
        clock: coordinator.clock.clone(),
        verifier: coordinator.verifier.clone(),
    };
    let traced = Traced::start(coordinator.telemetry.as_ref(), "attestation");
    let open = match coordinator.confirmed().await.and_then(|()| coordinator.snapshot()) {
        Ok(snapshot) => Some(snapshot.state),
        // Replicas also speak to one that is locked.
        Err(Refusal::Recovering { .. } | Refusal::Unrecoverable) if coordinator.replicas.is_some() => None,
        Err(refusal) => {
            let decision = Decision::refused(Kind::Activation, Subject::Unknown, refusal.code());
            return coordinator.decided(&decision, traced);
        }
    };
    let epoch = open.as_ref().and_then(|state| state.mesh()).map_or(0, core::Mesh::epoch);
    let now = (coordinator.clock)();
    let policy = |role| open.clone().map(|state| Policy { role, state, claimed: OnceLock::new(), now });
    let (keeps, databases) = (policy(Role::Keep), policy(Role::Database));
    let replicas = coordinator.replicas.is_some().then(|| ReplicaPolicy {
        coordinator: coordinator.clone(),
        state: open,
        role: Role::Replica,
    });
    let marbles = || keeps.iter().chain(&databases);
    let policies: Vec<&dyn PeerPolicy> = (marbles().map(|marbles| marbles as &dyn PeerPolicy))
        .chain(replicas.iter().map(|replicas| replicas as &dyn PeerPolicy))
        .collect();
    match channel::accept_any(stream, &party, coordinator.claims().to_bytes(), &policies).await {
        Ok((attested, role)) => {
            drop(traced);
            let peer = attested.peer().clone();
            let routes = if role == Role::Replica {
                Routes::new(ReplicasServer::new(ReplicasService { coordinator, peer }))
            } else {
                Routes::new(MeshServer::new(MeshService { coordinator }))
            };
            // Keeps stay, to hear of revocations: they take no place of those who come.
            let Ok(_place) = KEEPS.try_acquire() else { return };
            drop(place);
            serve_attested(routes, attested, epoch, shutdown).await;
        }
        Err(error @ (ChannelError::Tls(_) | ChannelError::Transport(_) | ChannelError::Timeout)) => {
            let codes = error.codes().join(",");
            tracing::info!(codes, reason = %error, "a connection to the mesh API ended before it was attested");
        }
        Err(error) => {
            let claimed = marbles().find_map(|marbles| marbles.claimed.get());
            let subject = claimed.map_or(Subject::Unknown, |name| coordinator.marble(name));
            coordinator.decided(&Decision::not_admitted(subject, &error), traced);
        }
    }
}

/// The manifest in force as a peer policy.
struct Policy {
    /// A Keep's or a database's.
    role: Role,
    state: Arc<State>,
    /// The Marble that the peer says it is, before anything of it is verified.
    claimed: OnceLock<String>,
    now: UnixTime,
}

impl PeerPolicy for Policy {
    fn role(&self) -> Role {
        self.role
    }

    fn expectations(&self, platform: Platform, claims: &[u8]) -> Result<Expectations, ClaimsRefused> {
        if let Ok(claims) = Claimed::read(claims) {
            let _ = self.claimed.set(claims.marble().to_owned());
            // What it is taken for follows from its claims, so its Evidence must be of that role (S-04).
            if claims.role() != self.role {
                let reason =
                    format!("these are the claims of a {}, and it attests as a {}", claims.role(), self.role);
                return Err(ClaimsRefused { code: "CHANNEL_WRONG_ROLE", reason });
            }
        }
        core::expectations(&self.state, platform, claims, self.now)
            .map_err(|refusal| ClaimsRefused { code: refusal.code(), reason: refusal.to_string() })
    }
}

async fn serve_attested(
    routes: Routes,
    attested: Attested<TcpStream>,
    epoch: u64,
    shutdown: CancellationToken,
) {
    let admitted = Admitted { peer: attested.peer().clone(), epoch };
    let service = tower::service_fn(move |mut request: hyper::Request<hyper::body::Incoming>| {
        request.extensions_mut().insert(admitted.clone());
        let mut routes = routes.clone();
        async move { routes.call(request).await }
    });
    let mut builder = http2::Builder::new(TokioExecutor::new());
    builder.timer(TokioTimer::new()).keep_alive_interval(Duration::from_secs(20)).max_concurrent_streams(16);
    let connection = builder.serve_connection(TokioIo::new(attested), TowerToHyperService::new(service));
    tokio::pin!(connection);
    let finished = tokio::select! {
        finished = connection.as_mut() => finished,
        () = shutdown.cancelled() => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    };
    if let Err(error) = finished {
        tracing::debug!(error = %error, "a mesh connection ended with an error");
    }
}

struct MeshService {
    coordinator: Arc<Coordinator>,
}

#[tonic::async_trait]
impl Mesh for MeshService {
    async fn activate(
        &self,
        request: Request<ActivateRequest>,
    ) -> Result<Response<ActivateResponse>, Status> {
        let admitted = admitted(&request)?;
        let (coordinator, peer) = (self.coordinator.clone(), admitted.peer.clone());
        let work = async move {
            coordinator.confirmed().await?;
            let state = coordinator.snapshot()?.state;
            let stored = core::stored_for(&state, &admitted.peer, admitted.epoch)?;
            let stored = coordinator.fetch(&state, stored).await?;
            blocking(move || {
                let now = (coordinator.clock)();
                // Rendering and signing happen on a snapshot, without a lock; the commit repeats the cheap part.
                Coordinator::unless_overtaken(|| {
                    let state = coordinator.snapshot()?.state;
                    let (peer, epoch) = (&admitted.peer, admitted.epoch);
                    let activation = core::activate(&state, peer, epoch, &stored, now)?;
                    coordinator.commit(|state| Ok(Decided::one(activation.admit(state, now)?, ())))?;
                    coordinator.recorded.record(peer.key.0, recorded(peer), now.0);
                    Ok(activation_response(activation))
                })
            })
            .await
        };
        self.decide(Kind::Activation, &peer, work).await
    }

    async fn locate(&self, request: Request<LocateRequest>) -> Result<Response<LocateResponse>, Status> {
        let admitted = admitted(&request)?;
        let (coordinator, peer) = (self.coordinator.clone(), admitted.peer.clone());
        let work = async move {
            coordinator.confirmed().await?;
            let state = coordinator.snapshot()?.state;
            core::locate(&state, &admitted.peer, admitted.epoch)
        };
        self.decide(Kind::Location, &peer, work).await
    }

    async fn unwrap_workload_key(
        &self,
        request: Request<UnwrapWorkloadKeyRequest>,
    ) -> Result<Response<UnwrapWorkloadKeyResponse>, Status> {
        let admitted = admitted(&request)?;
        let (coordinator, peer) = (self.coordinator.clone(), admitted.peer.clone());
        let work = async move {
            let packet = core::workload_packet(&admitted.peer, &request.get_ref().packet)?;
            coordinator.confirmed().await?;
            let state = coordinator.snapshot()?.state;
            let stored = core::stored_for_workload(&state, &admitted.peer, admitted.epoch, &packet)?;
            let stored = coordinator.fetch(&state, stored).await?;
            let (who, now) = ((&*admitted.peer, admitted.epoch), (coordinator.clock)());
            let options = core::unwrap_workload_key(&state, who, &packet, &stored, now)?;
            Ok(UnwrapWorkloadKeyResponse { options: options.to_vec() })
        };
        self.decide(Kind::Location, &peer, work).await
    }

    type WatchRevocationsStream = revocation::Lists;

    async fn watch_revocations(
        &self,
        request: Request<WatchRevocationsRequest>,
    ) -> Result<Response<Self::WatchRevocationsStream>, Status> {
        let peer = admitted(&request)?.peer;
        Ok(Response::new(revocation::lists(self.coordinator.clone(), peer)))
    }

    async fn renew(&self, request: Request<RenewRequest>) -> Result<Response<RenewResponse>, Status> {
        let admitted = admitted(&request)?;
        let (coordinator, peer) = (self.coordinator.clone(), admitted.peer.clone());
        let work = blocking(move || {
            coordinator.serving()?;
            let now = (coordinator.clock)();
            let certified = coordinator.commit(|state| {
                let (event, certified) = core::renew(state, &admitted.peer, admitted.epoch, now)?;
                Ok(Decided::one(event, certified))
            })?;
            coordinator.recorded.record(admitted.peer.key.0, recorded(&admitted.peer), now.0);
            Ok(RenewResponse { certificate: Some(certificate(certified)) })
        });
        self.decide(Kind::Renewal, &peer, work).await
    }

    async fn open_volume(
        &self,
        request: Request<OpenVolumeRequest>,
    ) -> Result<Response<OpenVolumeResponse>, Status> {
        let Admitted { peer, epoch } = admitted(&request)?;
        let OpenVolumeRequest { name, read_only } = request.into_inner();
        let (coordinator, asking) = (self.coordinator.clone(), peer.clone());
        let work = blocking(move || {
            coordinator.serving()?;
            let now = (coordinator.clock)();
            let fresh = core::new_volume_key()?;
            let opened = coordinator.commit(|state| {
                let asked = (name.as_str(), read_only);
                let (event, opened) = core::open_volume(state, &asking, epoch, asked, &fresh, now)?;
                Ok(match event {
                    Some(event) => Decided::one(event, opened),
                    None => Decided::none(opened),
                })
            })?;
            Ok(OpenVolumeResponse { key: opened.key.to_vec(), head: opened.head.map(wire) })
        });
        self.decide(Kind::Volume, &peer, work).await
    }

    async fn advance_volume(
        &self,
        request: Request<AdvanceVolumeRequest>,
    ) -> Result<Response<AdvanceVolumeResponse>, Status> {
        let Admitted { peer, epoch } = admitted(&request)?;
        let AdvanceVolumeRequest { name, from, to } = request.into_inner();
        let from = from.map(head).transpose()?;
        let to = head(to.ok_or_else(|| Status::invalid_argument("no head to advance to"))?)?;
        let coordinator = self.coordinator.clone();
        let done = blocking(move || {
            coordinator.serving()?;
            let now = (coordinator.clock)();
            coordinator.commit(|state| {
                let event = core::advance_volume(state, &peer, epoch, &name, (from, to), now)?;
                Ok(match event {
                    Some(event) => Decided::one(event, ()),
                    None => Decided::none(()),
                })
            })
        });
        // Each commit of each volume: too many to be told of one by one.
        done.await.map(|()| Response::new(AdvanceVolumeResponse {})).map_err(|refusal| status(&refusal))
    }

    async fn read_volume_head(
        &self,
        request: Request<ReadVolumeHeadRequest>,
    ) -> Result<Response<ReadVolumeHeadResponse>, Status> {
        let Admitted { peer, epoch } = admitted(&request)?;
        let name = request.into_inner().name;
        let coordinator = self.coordinator.clone();
        let asked = async move {
            coordinator.confirmed().await?;
            core::volume_head(&coordinator.snapshot()?.state, &peer, epoch, &name)
        };
        // Whoever follows asks all the time.
        let head = asked.await.map_err(|refusal| status(&refusal))?;
        Ok(Response::new(ReadVolumeHeadResponse { head: head.map(wire) }))
    }
}

fn wire(head: core::VolumeHead) -> VolumeHead {
    VolumeHead { sequence: head.sequence, hash: head.hash.to_vec() }
}

fn head(wire: VolumeHead) -> Result<core::VolumeHead, Status> {
    let hash = wire.hash.try_into().map_err(|_| Status::invalid_argument("a head has 32 bytes"))?;
    Ok(core::VolumeHead { sequence: wire.sequence, hash })
}

impl MeshService {
    /// Does the work, and tells what was decided.
    async fn decide<T>(
        &self,
        kind: Kind,
        peer: &AttestedPeer,
        work: impl Future<Output = Result<T, Refusal>>,
    ) -> Result<Response<T>, Status> {
        let name = match kind {
            Kind::Renewal => "renewal",
            Kind::Location => "location",
            Kind::Volume => "volume",
            _ => "activation",
        };
        let traced = Traced::start(self.coordinator.telemetry.as_ref(), name);
        let result = work.await.and_then(|answer| self.coordinator.serving().map(|()| answer));
        let claims = Claimed::read(&peer.claims);
        let subject = claims.map_or(Subject::Unknown, |claims| self.coordinator.marble(claims.marble()));
        let decision = match &result {
            Ok(_) => Decision::granted(kind, subject),
            Err(refusal) => Decision::because(kind, subject, refusal),
        };
        self.coordinator.decided(&decision.on(peer.appraised.verdict()), traced);
        result.map(Response::new).map_err(|refusal| status(&refusal))
    }
}

/// What is kept of an instance, to try other manifests on it.
fn recorded(peer: &AttestedPeer) -> core::Recorded {
    core::Recorded { presented: peer.presented.clone(), claims: Some(peer.claims.clone()) }
}

async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, Refusal> + Send + 'static,
) -> Result<T, Refusal> {
    tokio::task::spawn_blocking(work)
        .await
        .unwrap_or_else(|_| Err(Refusal::Internal("the request was cancelled".into())))
}

fn admitted<T>(request: &Request<T>) -> Result<Admitted, Status> {
    request
        .extensions()
        .get::<Admitted>()
        .cloned()
        .ok_or_else(|| Status::unauthenticated("not an attested connection"))
}

/// The sentence as message, the stable code as details. How stores outside are is the operator's business, and no
/// guest's.
pub(super) fn status(refusal: &Refusal) -> Status {
    if let Refusal::SecretStore { .. } = refusal {
        return Status::with_details(
            Code::Unavailable,
            UNAVAILABLE.1,
            UNAVAILABLE.0.as_bytes().to_vec().into(),
        );
    }
    let code = match refusal {
        Refusal::NoManifest
        | Refusal::StaleAppraisal { .. }
        | Refusal::Parameters { .. }
        | Refusal::SecretExpired { .. }
        | Refusal::SecretWithheld { .. } => Code::FailedPrecondition,
        Refusal::Overtaken { .. } => Code::Unavailable,
        Refusal::Internal(_) => Code::Internal,
        Refusal::CutOff(_) | Refusal::Unfit(_) => Code::Unavailable,
        _ => Code::PermissionDenied,
    };
    Status::with_details(code, refusal.to_string(), refusal.code().as_bytes().to_vec().into())
}

fn certificate(certified: Certified) -> Certificate {
    Certificate {
        chain: certified.chain.iter().map(|certificate| certificate.to_vec()).collect(),
        root: certified.root.to_vec(),
        not_after: certified.not_after.0,
    }
}

fn activation_response(activation: Activation) -> ActivateResponse {
    let response = ActivateResponse {
        certificate: Some(certificate(activation.certified)),
        parameters: Some(activation.parameters),
        ..ActivateResponse::default()
    };
    let Some(workload) = activation.workload else { return response };
    ActivateResponse {
        workload_digest: workload.digest.to_vec(),
        limits: Some(workload.limits),
        access: Some(workload.access),
        destinations: workload.destinations,
        log_to_host: workload.log_to_host,
        config: workload.config,
        ..response
    }
}

//! What one replica does for another, over attested connections on which both have proven to be the same.

use std::sync::Arc;

use appraisal::binding::Role;
use attested_tls::channel::{AttestedPeer, ClaimsRefused, Expectations, PeerPolicy};
use evidence::Platform;
use mesh_api::{HandOverRequest, HandOverResponse, ShareRequest, ShareResponse, replicas_server::Replicas};
use tonic::{Request, Response, Status};
use zeroize::Zeroizing;

use crate::{
    core::{Refusal, State, replica},
    service::{Coordinator, Decided, mesh_api::status},
};

/// This very coordinator as a policy for others.
pub(in crate::service) struct ReplicaPolicy {
    pub(in crate::service) coordinator: Arc<Coordinator>,
    /// Where it is open.
    pub(in crate::service) state: Option<Arc<State>>,
    pub(in crate::service) role: Role,
}

impl PeerPolicy for ReplicaPolicy {
    fn role(&self) -> Role {
        self.role
    }

    fn expectations(&self, platform: Platform, _claims: &[u8]) -> Result<Expectations, ClaimsRefused> {
        let own = self.coordinator.own();
        own.and_then(|own| replica::expectations(self.state.as_deref(), own, platform))
            .map_err(|refusal| ClaimsRefused { code: refusal.code(), reason: refusal.to_string() })
    }
}

/// Answers one replica, on its own connection.
pub(in crate::service) struct ReplicasService {
    pub(in crate::service) coordinator: Arc<Coordinator>,
    pub(in crate::service) peer: Arc<AttestedPeer>,
}

impl ReplicasService {
    async fn answer<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Coordinator, &AttestedPeer) -> Result<T, Refusal> + Send + 'static,
    ) -> Result<Response<T>, Status> {
        let (coordinator, peer) = (self.coordinator.clone(), self.peer.clone());
        let work = tokio::task::spawn_blocking(move || work(&coordinator, &peer));
        let result =
            work.await.unwrap_or_else(|_| Err(Refusal::Internal("the request was cancelled".into())));
        result.map(Response::new).map_err(|refusal| status(&refusal))
    }
}

#[tonic::async_trait]
impl Replicas for ReplicasService {
    async fn hand_over(&self, _: Request<HandOverRequest>) -> Result<Response<HandOverResponse>, Status> {
        self.answer(|coordinator, peer| {
            coordinator.serving()?;
            let now = (coordinator.clock)();
            // In the log first: nobody gets the keys without a trace.
            coordinator.commit(|_| Ok(Decided::one(replica::joined(peer, now), ())))?;
            let identity = coordinator.snapshot()?.state.identity().clone();
            let keys = coordinator.of_store(|store| Ok(store.keys(&identity)))?.ok_or(Refusal::NoReplicas)?;
            tracing::info!(code = "REPLICA_JOINED", replica = %peer.key, "another replica was given the keys of the state");
            Ok(HandOverResponse {
                data_key: keys.data_key.to_vec(),
                identity_key: keys.identity.to_vec(),
                length: keys.at.length,
                head: keys.at.head.to_vec(),
            })
        })
        .await
    }

    async fn share(&self, request: Request<ShareRequest>) -> Result<Response<ShareResponse>, Status> {
        let ShareRequest { share, signature } = request.into_inner();
        let share = Zeroizing::new(share);
        self.answer(move |coordinator, _| {
            let remaining = coordinator.recover(&share, &signature, None)?.remaining;
            Ok(ShareResponse { remaining: u32::try_from(remaining).unwrap_or(u32::MAX) })
        })
        .await
    }
}

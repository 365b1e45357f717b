//! How a Keep becomes a Marble: it attests to the coordinator and the coordinator to it, on one connection,
//! and then receives a certificate for its own key and everything its workload needs. Before the certificate
//! ends it does the first half again, for a new one.

use std::{collections::BTreeMap, sync::Arc};

use appraisal::binding::Role;
use attested_tls::{
    claims::{Claims, KeepClaims, PackageClaim},
    clock::Clock,
    key::sha256,
    launch::KeepConfiguration,
    marble::{Access, Credential},
};
use attester::Tee;
use keep_config::{ConfigError, KeepConfig};
use marble::{Admitted, Member, MeshError, Revocations, refused};
use mesh_api::{ActivateResponse, LocateRequest, LocateResponse, UnwrapWorkloadKeyRequest};
use serde_bytes::ByteArray;
use zeroize::Zeroizing;

use crate::{
    admission::{Admission, Limits, LogPolicy},
    runtime::ENGINE_VERSION,
    volumes::Volumes,
};

/// A Keep on its way to become a Marble.
pub struct Candidate {
    member: Member,
    claims: KeepClaims,
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
        let member = Member::new(Role::Keep, tee, configuration, coordinator, clock)?;
        Ok(Self { member: member.claiming(claims.to_bytes()), claims })
    }

    /// The same with a workload: its digest, and the package that it came in, are in all claims from now on.
    #[must_use]
    pub fn with(self, workload: [u8; 32], package: Option<PackageClaim>) -> Self {
        let claims = KeepClaims { workload: Some(ByteArray::new(workload)), package, ..self.claims };
        Self { member: self.member.claiming(claims.to_bytes()), claims }
    }

    /// Attests, and is told where the workload is.
    pub async fn locate(&self) -> Result<LocateResponse, ActivationError> {
        let (mut client, _) = self.member.connect().await?;
        Ok(client.locate(LocateRequest {}).await.map_err(refused)?.into_inner())
    }

    /// Attests, and has a packet of the package unwrapped.
    pub async fn unwrap_workload_key(&self, packet: &[u8]) -> Result<Zeroizing<Vec<u8>>, ActivationError> {
        let (mut client, _) = self.member.connect().await?;
        let request = UnwrapWorkloadKeyRequest { packet: packet.to_vec() };
        let response = client.unwrap_workload_key(request).await.map_err(refused)?.into_inner();
        Ok(Zeroizing::new(response.options))
    }

    /// Itself, as the coordinator knows it.
    pub(crate) fn member(&self) -> &Member {
        &self.member
    }

    /// Its clock.
    pub(crate) fn clock(&self) -> Clock {
        self.member.clock().clone()
    }

    /// Attests, is admitted, and takes what the manifest grants. `addresses` are the host's hints where
    /// Marbles listen; only those that the manifest grants as destinations are used.
    pub async fn activate(&self, addresses: &BTreeMap<String, String>) -> Result<Activated, ActivationError> {
        let Admitted { given, credential, not_after } = self.member.activate().await?;
        if self.claims.workload.is_none_or(|own| given.workload_digest != own.as_slice()) {
            return Err(ActivationError::Workload);
        }
        let access = access(&given)?;
        let admission = self.admission(given, addresses)?;
        Ok(Activated { admission, credential: Arc::new(credential), access, not_after })
    }

    /// Attests again for a new certificate of the same key.
    pub async fn renew(&self) -> Result<(Arc<Credential>, i64), ActivationError> {
        let (credential, not_after) = self.member.renew().await?;
        Ok((Arc::new(credential), not_after))
    }

    /// Attests for the list of certificates that count no more, and hears it again whenever it changes.
    pub async fn watch_revocations(&self) -> Result<Revocations, MeshError> {
        self.member.watch_revocations().await
    }

    fn admission(
        &self,
        response: ActivateResponse,
        addresses: &BTreeMap<String, String>,
    ) -> Result<Admission, ActivationError> {
        let parameters = response.parameters.ok_or(MeshError::Incomplete("parameters"))?;
        let config = match response.config.as_str() {
            "" => None,
            text => Some(KeepConfig::parse(text).map_err(ActivationError::Config)?),
        };
        let mut limits = limits(response.limits.ok_or(MeshError::Incomplete("limits"))?);
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
    let access = response.access.as_ref().ok_or(MeshError::Incomplete("access"))?;
    Ok(if access.public { Access::Public } else { Access::Peers(access.peers.iter().cloned().collect()) })
}

/// Why a Keep did not become a Marble.
#[derive(Debug, thiserror::Error)]
pub enum ActivationError {
    /// The coordinator does not have it, or is not the one that it must be.
    #[error(transparent)]
    Mesh(#[from] MeshError),
    /// The coordinator wants another workload run.
    #[error("the workload is not the one that the manifest names")]
    Workload,
    /// A configuration that this Keep does not understand: the coordinator's is newer.
    #[error("the workload's configuration cannot be used")]
    Config(#[source] ConfigError),
}

impl ActivationError {
    /// Stable codes of the cause.
    pub fn codes(&self) -> Vec<String> {
        match self {
            Self::Mesh(error) => error.codes(),
            Self::Workload => vec!["WORKLOAD_MISMATCH".into()],
            Self::Config(_) => vec!["CONFIG_INVALID".into()],
        }
    }
}

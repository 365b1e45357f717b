//! The place of a database in a mesh, where its measured launch configuration makes it a Marble.

use std::sync::Arc;

use attested_tls::{claims::DatabaseAnchor, clock::Clock, launch::DatabaseConfiguration};
use attester::Tee;
use marble::{Use, Volume};
use volume::Head;

use super::{HostHints, ServiceError};
use crate::{
    attestation::Version,
    keys::MasterKey,
    mesh::{Mesh, Opened},
    reads::Credentials,
};

/// What it has of its mesh.
pub struct Membership {
    mesh: Mesh,
    /// From which the log's key follows. It is kept nowhere but with the coordinator.
    pub master: MasterKey,
    /// The log's anchor.
    pub volume: Volume,
}

impl Membership {
    /// Joins the mesh and opens the log to read it; `None`: this database is no Marble.
    ///
    /// # Errors
    /// Why the coordinator does not have it.
    pub async fn join(
        tee: &Arc<dyn Tee>,
        configuration: &DatabaseConfiguration,
        hints: &HostHints,
        version: &Version,
        clock: &Clock,
    ) -> Result<Option<Self>, ServiceError> {
        let Some(marble) = &configuration.marble else { return Ok(None) };
        let coordinator = hints.coordinator.clone().ok_or(ServiceError::NoCoordinator)?;
        let (tee, first) = (Arc::clone(tee), configuration.manifest);
        let mesh = Mesh::join(tee, marble, first, version, coordinator, Arc::clone(clock)).await?;
        let Opened { master, head, volume } = mesh.open(Use::Read).await?;
        let record = head.map(|head| head.sequence);
        tracing::info!(code = "LOG_OPENED", record, "the coordinator has given the log's key");
        Ok(Some(Self { mesh, master, volume }))
    }

    /// Opens the log to write it: nobody else may from now on. Gives its newest record.
    ///
    /// # Errors
    /// Why the coordinator does not let it.
    pub async fn take(&self) -> Result<Option<Head>, ServiceError> {
        let volume = self.volume.clone();
        let taken = tokio::task::spawn_blocking(move || volume.take()).await;
        let head = taken.map_err(|_| ServiceError::Panicked)??;
        let record = head.map(|head| head.sequence);
        tracing::info!(code = "LOG_TAKEN", record, "this instance alone writes the log from now on");
        Ok(head)
    }

    /// What its Evidence says.
    pub fn anchor(&self) -> DatabaseAnchor {
        self.mesh.anchor()
    }

    /// By which instances of this Marble know each other.
    pub fn credentials(&self) -> Credentials {
        self.mesh.credentials()
    }

    /// Until the coordinator has sent it away, or another instance took the log.
    pub async fn dismissed(&self) -> ServiceError {
        ServiceError::Dismissed(self.mesh.dismissed(&self.volume).await)
    }

    /// The coordinator's word, where that is what is behind an error.
    pub fn name(&self, error: ServiceError) -> ServiceError {
        self.volume.refusal().map_or(error, |refused| ServiceError::Dismissed(refused.clone()))
    }
}

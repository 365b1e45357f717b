//! The place of a database in a mesh, where its measured launch configuration makes it a Marble.

use std::sync::Arc;

use attested_tls::{claims::DatabaseAnchor, clock::Clock, launch::DatabaseConfiguration};
use attester::Tee;
use marble::{Use, Volume};

use super::{HostHints, ServiceError};
use crate::{
    attestation::Version,
    keys::MasterKey,
    mesh::{Mesh, Opened},
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
    /// Joins the mesh and opens the log to write it; `None`: this database is no Marble.
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
        let Opened { master, head, volume } = mesh.open(Use::Write).await?;
        tracing::info!(
            code = "LOG_OPENED",
            record = head.map(|head| head.sequence),
            "this instance alone writes the log from now on"
        );
        Ok(Some(Self { mesh, master, volume }))
    }

    /// What its Evidence says.
    pub fn anchor(&self) -> DatabaseAnchor {
        self.mesh.anchor()
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

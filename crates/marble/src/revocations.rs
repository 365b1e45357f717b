//! The coordinator's word about certificates that count no more.

use std::time::Duration;

use attested_tls::marble::Revoked;
use mesh_api::mesh_client::MeshClient;
use tonic::transport::Channel;

use crate::error::{MeshError, refused};

/// The coordinator tells its list every 20 s.
pub const SILENCE: Duration = Duration::from_secs(45);

/// The coordinator's word about certificates, for as long as the connection holds.
pub struct Revocations {
    lists: tonic::Streaming<mesh_api::Revocations>,
    /// The connection lives as long as its client.
    _client: MeshClient<Channel>,
}

impl Revocations {
    pub(crate) fn new(lists: tonic::Streaming<mesh_api::Revocations>, client: MeshClient<Channel>) -> Self {
        Self { lists, _client: client }
    }

    /// The next list, the first of them at once.
    ///
    /// # Errors
    /// After [`SILENCE`] without any: then connect anew.
    pub async fn next(&mut self) -> Result<Revoked, MeshError> {
        let silent = |_| MeshError::Internal("the coordinator has been silent for too long".into());
        let list = tokio::time::timeout(SILENCE, self.lists.message()).await.map_err(silent)?;
        let list = list.map_err(refused)?.ok_or(MeshError::Incomplete("list of revocations"))?;
        Ok(Revoked::new(list.certificates))
    }
}

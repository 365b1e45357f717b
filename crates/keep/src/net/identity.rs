//! What a Keep shows to those who connect to it, and to those it connects to.

use std::{fmt, sync::Arc};

use attested_tls::{
    clock::Clock,
    key::TeeKey,
    marble::{self, Access, Credential},
    unattested,
};
use rustls::{
    ClientConfig, ServerConfig,
    pki_types::{CertificateDer, PrivateKeyDer},
};

use super::{NetError, Store};

/// The certificate chain and key of a Keep, and who it is in its mesh. Never changed, but replaced, in a
/// [`watch`](tokio::sync::watch).
pub struct Identity {
    chain: Vec<CertificateDer<'static>>,
    key: PrivateKeyDer<'static>,
    mesh: Option<Mesh>,
}

/// Membership in a mesh.
struct Mesh {
    credential: Arc<Credential>,
    access: Access,
}

impl Identity {
    /// A certificate chain (leaf first) and its key, of no mesh.
    pub fn of_chain(chain: Vec<CertificateDer<'static>>, key: PrivateKeyDer<'static>) -> Self {
        Self { chain, key, mesh: None }
    }

    /// A certificate that the key signs itself: nobody vouches for it but whoever attests this Keep.
    pub fn self_signed(key: &TeeKey) -> Self {
        Self::of_chain(vec![key.certificate().clone()], key.private_key())
    }

    /// The certificate of its own key, DER.
    pub fn certificate(&self) -> Option<&CertificateDer<'static>> {
        self.chain.first()
    }

    /// A Marble. `access`: who may call it, as the manifest says.
    pub fn marble(credential: Arc<Credential>, access: Access) -> Self {
        let (chain, key) = (credential.chain.clone(), credential.key.clone_key());
        Self { chain, key, mesh: Some(Mesh { credential, access }) }
    }

    pub(super) fn server(&self, clients: Option<Store>, clock: &Clock) -> Result<ServerConfig, NetError> {
        unattested::server_config(self.chain.clone(), self.key.clone_key(), clients, clock.clone())
            .map_err(NetError::Identity)
    }

    pub(super) fn server_for_marbles(&self, clock: &Clock) -> Result<ServerConfig, NetError> {
        let mesh = self.mesh.as_ref().ok_or(NetError::NoMesh)?;
        if mesh.access == Access::Public {
            return Err(NetError::NoMarbleNamed);
        }
        let config = marble::server_config(&mesh.credential, mesh.access.clone(), clock.clone());
        config.map(|config| ServerConfig::clone(&config)).map_err(NetError::Identity)
    }

    /// `shown`: whose certificate is shown to servers that ask for one.
    pub(super) fn client(
        roots: Store,
        shown: Option<&Self>,
        clock: &Clock,
    ) -> Result<ClientConfig, NetError> {
        let shown = shown.map(|identity| (identity.chain.clone(), identity.key.clone_key()));
        unattested::client_config(roots, shown, clock.clone()).map_err(NetError::Identity)
    }

    pub(super) fn client_of_marble(&self, marble: &str, clock: &Clock) -> Result<ClientConfig, NetError> {
        let mesh = self.mesh.as_ref().ok_or(NetError::NoMesh)?;
        let config = marble::client_config(&mesh.credential, marble, clock.clone());
        config.map(|config| ClientConfig::clone(&config)).map_err(NetError::Identity)
    }

    /// Whether only Marbles that the manifest names may call this Keep.
    pub(super) fn is_closed(&self) -> bool {
        self.mesh.as_ref().is_some_and(|mesh| mesh.access != Access::Public)
    }

    /// Whether Marbles that counted for the one count for the other.
    pub(super) fn same_mesh(&self, other: &Self) -> bool {
        match (&self.mesh, &other.mesh) {
            (None, None) => true,
            (Some(a), Some(b)) => {
                let (a, b, same_access) = (&a.credential, &b.credential, a.access == b.access);
                a.identity == b.identity && a.revoked == b.revoked && a.root == b.root && same_access
            }
            _ => false,
        }
    }
}

/// The key is not shown.
impl fmt::Debug for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let marble = self.mesh.as_ref().map(|mesh| &mesh.credential.identity.marble);
        f.debug_struct("Identity").field("certificates", &self.chain.len()).field("marble", &marble).finish()
    }
}

//! TLS between people (or their programs) and a service of ours, such as the coordinator's client API.
//!
//! The server shows a certificate below its own root. A client that knows nothing yet connects with
//! [`unverified_client`], asks for Evidence over a fresh nonce, appraises it against the key that the
//! handshake proved, and pins the root from the claims; from then on it uses [`pinned_client`]. Users are
//! known by their exact leaf certificate, so the server asks for one and takes it as it is.

use std::sync::Arc;

use rustls::{
    ClientConfig, ConfigBuilder, Error, RootCertStore, ServerConfig,
    client::WantsClientCert,
    server::ResolvesServerCert,
    sign::{CertifiedKey, SingleCertAndKey},
};
use rustls_pki_types::{CertificateDer, PrivateKeyDer};

use crate::{
    clock::Clock,
    config,
    key_only::{ClientCertificate, KeyOnly},
};

/// A user's certificate chain (leaf first) and key.
pub struct UserIdentity {
    /// DER.
    pub chain: Vec<CertificateDer<'static>>,
    /// The leaf's key.
    pub key: PrivateKeyDer<'static>,
}

/// The listening side: a client certificate is asked for and need not be given.
pub fn server(
    chain: Vec<CertificateDer<'static>>,
    key: PrivateKeyDer<'static>,
    clock: Clock,
) -> Result<Arc<ServerConfig>, Error> {
    let mut config = config::server(clock)?
        .with_client_cert_verifier(KeyOnly::new(ClientCertificate::Optional))
        .with_single_cert(chain, key)?;
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    config::harden_server(&mut config);
    Ok(Arc::new(config))
}

/// As [`server`], with a certificate that may be renewed. `protocols` are the ALPN names that it takes; a client may name
/// none.
pub fn renewable_server(
    certificate: Arc<dyn ResolvesServerCert>,
    protocols: &[&[u8]],
    clock: Clock,
) -> Result<ServerConfig, Error> {
    let mut config = config::server(clock)?
        .with_client_cert_verifier(KeyOnly::new(ClientCertificate::Optional))
        .with_cert_resolver(certificate);
    config.alpn_protocols = protocols.iter().map(|name| name.to_vec()).collect();
    config::harden_server(&mut config);
    Ok(config)
}

/// The listening side of a gRPC interface: a client certificate is required, and only its key is proven.
pub fn grpc_server(
    chain: Vec<CertificateDer<'static>>,
    key: PrivateKeyDer<'static>,
    clock: Clock,
) -> Result<Arc<ServerConfig>, Error> {
    let mut config = config::server(clock)?
        .with_client_cert_verifier(KeyOnly::new(ClientCertificate::Required))
        .with_single_cert(chain, key)?;
    config.alpn_protocols = vec![b"h2".to_vec()];
    config::harden_server(&mut config);
    Ok(Arc::new(config))
}

/// For the first contact: the server proves its key and nothing else. Send nothing that matters before
/// the Evidence over that key is appraised.
pub fn unverified_client(identity: Option<&UserIdentity>, clock: Clock) -> Result<Arc<ClientConfig>, Error> {
    let builder = config::client(clock)?
        .dangerous()
        .with_custom_certificate_verifier(KeyOnly::new(ClientCertificate::Optional));
    finish(builder, identity)
}

/// For every later contact: the server's certificate must chain to `root`.
pub fn pinned_client(
    root: &CertificateDer<'static>,
    identity: Option<&UserIdentity>,
    clock: Clock,
) -> Result<Arc<ClientConfig>, Error> {
    rooted_client([root.clone()], identity, clock)
}

/// For servers outside: the certificate must chain to one of these roots, and be for the name that is dialled.
pub fn rooted_client(
    roots: impl IntoIterator<Item = CertificateDer<'static>>,
    identity: Option<&UserIdentity>,
    clock: Clock,
) -> Result<Arc<ClientConfig>, Error> {
    let mut store = RootCertStore::empty();
    for root in roots {
        store.add(root)?;
    }
    finish(config::client(clock)?.with_root_certificates(store), identity)
}

/// For servers of the Web, over HTTP/1.1: the certificate must chain to one of these roots, and be for the name that is
/// dialled.
pub fn web_client(roots: RootCertStore, clock: Clock) -> Result<Arc<ClientConfig>, Error> {
    Ok(finished(config::client(clock)?.with_root_certificates(roots).with_no_client_auth()))
}

/// As [`unverified_client`], with a key that is elsewhere: in a token, say.
pub fn unverified_client_with(key: CertifiedKey, clock: Clock) -> Result<Arc<ClientConfig>, Error> {
    let builder = config::client(clock)?
        .dangerous()
        .with_custom_certificate_verifier(KeyOnly::new(ClientCertificate::Optional));
    Ok(finished(builder.with_client_cert_resolver(Arc::new(SingleCertAndKey::from(key)))))
}

/// As [`pinned_client`], with a key that is elsewhere: in a token, say.
pub fn pinned_client_with(
    root: &CertificateDer<'static>,
    key: CertifiedKey,
    clock: Clock,
) -> Result<Arc<ClientConfig>, Error> {
    let mut roots = RootCertStore::empty();
    roots.add(root.clone())?;
    let builder = config::client(clock)?.with_root_certificates(roots);
    Ok(finished(builder.with_client_cert_resolver(Arc::new(SingleCertAndKey::from(key)))))
}

fn finish(
    builder: ConfigBuilder<ClientConfig, WantsClientCert>,
    identity: Option<&UserIdentity>,
) -> Result<Arc<ClientConfig>, Error> {
    Ok(finished(match identity {
        Some(identity) => builder.with_client_auth_cert(identity.chain.clone(), identity.key.clone_key())?,
        None => builder.with_no_client_auth(),
    }))
}

fn finished(mut config: ClientConfig) -> Arc<ClientConfig> {
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    config::harden_client(&mut config);
    Arc::new(config)
}

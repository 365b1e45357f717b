//! TLS for the attested connection: certificates are only containers of keys here. Trust comes from the
//! attestation that follows.

use std::sync::Arc;

use rustls::{ClientConfig, Error, ServerConfig};
use rustls_pki_types::ServerName;

use crate::{
    clock::Clock,
    config,
    key::TeeKey,
    key_only::{ClientCertificate, KeyOnly},
};

pub(crate) fn server_name() -> ServerName<'static> {
    ServerName::IpAddress(std::net::IpAddr::V4(std::net::Ipv4Addr::LOCALHOST).into())
}

pub(crate) fn client_config(key: &TeeKey, clock: Clock, alpn: &[u8]) -> Result<Arc<ClientConfig>, Error> {
    let mut config = config::client(clock)?
        .dangerous()
        .with_custom_certificate_verifier(KeyOnly::new(ClientCertificate::Required))
        .with_client_auth_cert(vec![key.certificate().clone()], key.private_key())?;
    config.alpn_protocols = vec![alpn.to_vec()];
    config.enable_sni = false;
    config::harden_client(&mut config);
    Ok(Arc::new(config))
}

pub(crate) fn server_config(key: &TeeKey, clock: Clock, alpn: &[u8]) -> Result<Arc<ServerConfig>, Error> {
    let mut config = config::server(clock)?
        .with_client_cert_verifier(KeyOnly::new(ClientCertificate::Required))
        .with_single_cert(vec![key.certificate().clone()], key.private_key())?;
    config.alpn_protocols = vec![alpn.to_vec()];
    config::harden_server(&mut config);
    Ok(Arc::new(config))
}

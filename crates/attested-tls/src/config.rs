//! TLS settings that every connection of ours shares: version 1.3 only, hybrid post-quantum key exchange
//! first, no resumption, no early data (S-05).

use std::sync::Arc;

use rustls::{
    ClientConfig, ConfigBuilder, ServerConfig, WantsVerifier, crypto::CryptoProvider,
    server::NoServerSessionStorage,
};

use crate::clock::{Clock, TlsTime};

pub(crate) fn provider() -> Arc<CryptoProvider> {
    Arc::new(rustls::crypto::aws_lc_rs::default_provider())
}

pub(crate) fn server(clock: Clock) -> Result<ConfigBuilder<ServerConfig, WantsVerifier>, rustls::Error> {
    ServerConfig::builder_with_details(provider(), Arc::new(TlsTime(clock)))
        .with_protocol_versions(&[&rustls::version::TLS13])
}

pub(crate) fn client(clock: Clock) -> Result<ConfigBuilder<ClientConfig, WantsVerifier>, rustls::Error> {
    ClientConfig::builder_with_details(provider(), Arc::new(TlsTime(clock)))
        .with_protocol_versions(&[&rustls::version::TLS13])
}

pub(crate) fn harden_server(config: &mut ServerConfig) {
    config.session_storage = Arc::new(NoServerSessionStorage {});
    config.send_tls13_tickets = 0;
    config.max_early_data_size = 0;
}

pub(crate) fn harden_client(config: &mut ClientConfig) {
    config.resumption = rustls::client::Resumption::disabled();
    config.enable_early_data = false;
}

//! TLS with those who are no Marbles: browsers, servers of the web, whoever has a certificate below roots that the
//! owner named. The settings are those of every connection of ours (1.3 only, hybrid key exchange first, no resumption, no early data); who counts is the caller's word.

use std::sync::Arc;

use rustls::{ClientConfig, Error, RootCertStore, ServerConfig, server::WebPkiClientVerifier};
use rustls_pki_types::{CertificateDer, PrivateKeyDer};

use crate::{
    clock::Clock,
    config,
    key_only::{ClientCertificate, KeyOnly},
};

/// The listening side with this certificate chain (leaf first). With `clients`, only who shows a certificate below
/// these roots is let in; without, nobody is asked for one. No ALPN.
///
/// # Errors
/// When chain and key are no pair, or no root can be used.
pub fn server_config(
    chain: Vec<CertificateDer<'static>>,
    key: PrivateKeyDer<'static>,
    clients: Option<Arc<RootCertStore>>,
    clock: Clock,
) -> Result<ServerConfig, Error> {
    let builder = config::server(clock)?;
    let builder = match clients {
        None => builder.with_no_client_auth(),
        Some(roots) => {
            let verifier = WebPkiClientVerifier::builder_with_provider(roots, config::provider())
                .build()
                .map_err(|error| Error::General(error.to_string()))?;
            builder.with_client_cert_verifier(verifier)
        }
    };
    let mut config = builder.with_single_cert(chain, key)?;
    config::harden_server(&mut config);
    Ok(config)
}

/// The connecting side: servers count whose certificate for the name that was asked for is below `roots`. `shown` is
/// the certificate chain for servers that ask for one. No ALPN.
///
/// # Errors
/// When chain and key are no pair.
pub fn client_config(
    roots: Arc<RootCertStore>,
    shown: Option<(Vec<CertificateDer<'static>>, PrivateKeyDer<'static>)>,
    clock: Clock,
) -> Result<ClientConfig, Error> {
    let builder = config::client(clock)?.with_root_certificates(roots);
    let mut config = match shown {
        None => builder.with_no_client_auth(),
        Some((chain, key)) => builder.with_client_auth_cert(chain, key)?,
    };
    config::harden_client(&mut config);
    Ok(config)
}

/// The connecting side towards a host that need not be anybody: its certificate is only a container of its key. What
/// is said there must be worth nothing, or be protected by a connection of its own inside. No ALPN.
///
/// # Errors
/// When rustls refuses our settings.
pub fn client_config_for_anyone(clock: Clock) -> Result<ClientConfig, Error> {
    let mut config = config::client(clock)?
        .dangerous()
        .with_custom_certificate_verifier(KeyOnly::new(ClientCertificate::Optional))
        .with_no_client_auth();
    config::harden_client(&mut config);
    Ok(config)
}

//! The certificate of the client API and of MarbleRun's Marble API: issued by our own root for our own key, renewed at
//! half its life while connections go on, and when the root is another one.

use std::{sync::Arc, time::Duration};

use rustls::ServerConfig;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use super::{Coordinator, StartError};
use crate::authority::CLIENT_API_LIFETIME;

/// TLS settings of the interfaces that show the certificate.
#[derive(Clone)]
pub(super) struct Tls {
    pub(super) client_api: Arc<ServerConfig>,
    pub(super) marble_api: Arc<ServerConfig>,
}

/// Settings with a fresh certificate.
pub(super) fn issue(coordinator: &Coordinator) -> Result<Tls, StartError> {
    let root = coordinator.root();
    let key = &coordinator.client_key;
    let leaf = root.certify_client_api(
        &key.public_key_info(),
        &coordinator.configuration.names,
        coordinator.tee.emulated(),
        (coordinator.clock)(),
    )?;
    let chain = vec![leaf.certificate, root.certificate().clone()];
    let clock = &coordinator.clock;
    Ok(Tls {
        client_api: attested_tls::service::server(chain.clone(), key.private_key(), clock.clone())?,
        marble_api: attested_tls::service::grpc_server(chain, key.private_key(), clock.clone())?,
    })
}

/// Replaces the certificate for as long as anyone listens.
pub(super) async fn keep_fresh(
    coordinator: Arc<Coordinator>,
    current: watch::Sender<Tls>,
    shutdown: CancellationToken,
) -> Result<(), StartError> {
    let half = Duration::from_secs(CLIENT_API_LIFETIME.whole_seconds().unsigned_abs() / 2);
    loop {
        tokio::select! {
            () = shutdown.cancelled() => return Ok(()),
            () = coordinator.root_changed.notified() => {}
            () = tokio::time::sleep(half) => {}
        }
        match issue(&coordinator) {
            Ok(fresh) => drop(current.send_replace(fresh)),
            Err(error) => {
                tracing::error!(code = "CERTIFICATE_NOT_RENEWED", %error, "the client API's certificate was not renewed");
            }
        }
    }
}

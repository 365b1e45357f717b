//! The client API's certificate: issued by our own root for our own key, renewed at half its life while
//! connections go on.

use std::{sync::Arc, time::Duration};

use rustls::ServerConfig;
use tokio::sync::watch;

use super::{Coordinator, StartError};
use crate::authority::CLIENT_API_LIFETIME;

/// TLS settings with a fresh certificate.
pub(super) fn issue(coordinator: &Coordinator) -> Result<Arc<ServerConfig>, StartError> {
    let root = coordinator.root();
    let key = &coordinator.client_key;
    let leaf = root.certify_client_api(
        &key.public_key_info(),
        &coordinator.configuration.names,
        coordinator.tee.emulated(),
        (coordinator.clock)(),
    )?;
    let chain = vec![leaf.certificate, root.certificate().clone()];
    Ok(attested_tls::service::server(chain, key.private_key(), coordinator.clock.clone())?)
}

/// Replaces the certificate for as long as anyone listens.
pub(super) async fn keep_fresh(coordinator: Arc<Coordinator>, current: watch::Sender<Arc<ServerConfig>>) {
    let half = Duration::from_secs(CLIENT_API_LIFETIME.whole_seconds().unsigned_abs() / 2);
    loop {
        // At half its life, or when the root it is below is another one.
        let _ = tokio::time::timeout(half, coordinator.root_changed.notified()).await;
        match issue(&coordinator) {
            Ok(fresh) => current.send_replace(fresh),
            Err(error) => {
                tracing::error!(code = "CERTIFICATE_NOT_RENEWED", %error, "the client API's certificate was not renewed");
                continue;
            }
        };
    }
}

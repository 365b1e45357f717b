//! A Keep that serves, in this process.

use std::{
    net::{Ipv4Addr, SocketAddr},
    sync::Arc,
    time::Duration,
};

use keep::{
    admission::Admission,
    http::{PeerTls, PeerTlsError},
    runtime::Workload,
};
use rustls::ServerConfig;
use tokio::{
    net::TcpListener,
    sync::{oneshot, watch},
    task::JoinHandle,
    time::timeout,
};

pub struct Running {
    pub address: SocketAddr,
    pub tls: watch::Sender<Arc<ServerConfig>>,
    stop: oneshot::Sender<()>,
    served: JoinHandle<()>,
}

/// TLS for Keeps that have no peers.
pub fn no_peers() -> Arc<dyn PeerTls> {
    Arc::new(|peer: &str| Err(PeerTlsError::from(format!("no peer {peer} in this test"))))
}

impl Running {
    pub async fn start(
        workload: Workload,
        admission: Admission,
        tls: Arc<ServerConfig>,
        peers: Arc<dyn PeerTls>,
    ) -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let address = listener.local_addr().unwrap();
        let (tls, receiver) = watch::channel(tls);
        let (stop, stopped) = oneshot::channel();
        let served = tokio::spawn(async move {
            let shutdown = async { stopped.await.unwrap_or(()) };
            keep::serve(workload, admission, listener, receiver, peers, shutdown).await.unwrap();
        });
        Self { address, tls, stop, served }
    }

    /// Stops the Keep, and waits for its end.
    pub async fn stop(self) {
        self.stop.send(()).unwrap();
        timeout(Duration::from_secs(20), self.served).await.unwrap().unwrap();
    }
}

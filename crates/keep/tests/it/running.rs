//! A Keep that serves, in this process.

use std::{net::SocketAddr, sync::Arc, time::Duration};

use attested_tls::clock;
use keep::{
    admission::Admission,
    net::{HTTP, Identity, Net},
    runtime::Workload,
};
use keep_config::KeepConfig;
use tokio::{
    sync::{oneshot, watch},
    task::JoinHandle,
    time::timeout,
};

pub struct Running {
    pub address: SocketAddr,
    pub identity: watch::Sender<Arc<Identity>>,
    stop: oneshot::Sender<()>,
    served: JoinHandle<()>,
}

impl Running {
    pub async fn start(workload: Workload, admission: Admission, identity: Identity) -> Self {
        Self::configured("", workload, admission, identity)
    }

    /// With a configuration beside what the manifest gives.
    pub fn configured(config: &str, workload: Workload, admission: Admission, identity: Identity) -> Self {
        let config =
            KeepConfig::parse(&format!("{config}\n[http]\nprot = \"tls\"\naddr = \"127.0.0.1\"\nport = 0"));
        Self::begin(config.unwrap(), workload, admission, identity)
    }

    /// As the configuration says.
    pub fn begin(
        mut config: KeepConfig,
        workload: Workload,
        admission: Admission,
        identity: Identity,
    ) -> Self {
        config.limits.connections = admission.limits.max_connections;
        let (identity, current) = watch::channel(Arc::new(identity));
        let net = Net::new(&config, admission.peers.clone(), current, clock::system()).unwrap();
        let listener = net.listen(&config.http.listen, HTTP).unwrap();
        let address = listener.local_addr();
        let (stop, stopped) = oneshot::channel();
        let served = tokio::spawn(async move {
            let shutdown = async { stopped.await.unwrap_or(()) };
            keep::serve(workload, admission, net, listener, shutdown).await.unwrap();
        });
        Self { address, identity, stop, served }
    }

    /// Stops the Keep, and waits for its end.
    pub async fn stop(self) {
        self.stop.send(()).unwrap();
        timeout(Duration::from_secs(20), self.served).await.unwrap().unwrap();
    }
}

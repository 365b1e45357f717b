//! The network of a direct deployment: what its configuration lists, under a certificate that is made here, by Steward
//! if the configuration names one.

use std::{collections::BTreeMap, error::Error, sync::Arc};

use keep_config::{File, KeepConfig, Listen, Protection};
use keep_protocol::keep::{self, Exposed, Refused, RefusedCode};
use serde_bytes::ByteBuf;
use tokio::sync::watch;

use super::{Waiting, deployment::sentences};
use crate::{net::Net, steward};

/// A network, and the certificate that it shows, DER.
pub(super) struct Network {
    pub(super) net: Net,
    pub(super) certificate: Vec<u8>,
}

impl Network {
    pub(super) async fn new(config: &KeepConfig, keep: &Waiting) -> Result<Self, Refused> {
        let refused = |code: &str, error: &(dyn Error + 'static)| Refused {
            detail: Some(code.to_owned()),
            faults: sentences(error),
            ..Refused::new(
                RefusedCode::ConfigInvalid,
                "the network that the configuration asks for cannot be had",
            )
        };
        let identity = steward::identity(config, &keep.server.tee, keep.clock.clone()).await;
        let identity = identity.map_err(|error| refused(error.code(), &error))?;
        let certificate = identity.certificate().map(|leaf| leaf.to_vec()).unwrap_or_default();
        // It lasts as long as the deployment: nothing replaces it.
        let (_, identity) = watch::channel(Arc::new(identity));
        let net = Net::new(config, BTreeMap::new(), identity, keep.clock.clone());
        let net = net.map_err(|error| refused(error.code(), &error))?;
        Ok(Self { net, certificate })
    }
    /// Where the configuration says that the workload will listen.
    pub(super) fn exposed(&self, config: &KeepConfig) -> Vec<Exposed> {
        let of_files = config.files.iter().filter_map(|file| match file {
            File::Listen { name, listen } => Some((name.clone(), listen)),
            _ => None,
        });
        let of_sockets = config.listen.iter().map(|listen| (format!("port {}", listen.port), listen));
        of_files.chain(of_sockets).map(|(name, listen)| self.expose(name, listen)).collect()
    }

    fn expose(&self, name: String, listen: &Listen) -> Exposed {
        let (protection, certificate) = match listen.protection {
            Protection::Tcp => (keep::Protection::Tcp, None),
            Protection::Tls(_) => (keep::Protection::Tls, Some(ByteBuf::from(self.certificate.clone()))),
        };
        Exposed { name, port: listen.port, protection, certificate }
    }
}

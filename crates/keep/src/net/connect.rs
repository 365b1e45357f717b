//! Connections that the workload opens.

use std::{collections::BTreeMap, io, net::SocketAddr, sync::Arc, time::Duration};

use attested_tls::marble;
use keep_config::{Connect, Protection, Roots};
use rustls::pki_types::ServerName;
use tokio::{net::TcpStream, sync::OwnedSemaphorePermit, time::timeout};
use tokio_rustls::TlsConnector;

use super::{Alpn, Connection, Inner, Net, NetError, STREAM};

const CONNECT: Duration = Duration::from_secs(10);

impl Net {
    /// Connects, TLS included. Whether the workload may is the caller's question: `to` is an entry of the
    /// configuration, or what [`destination`](Self::destination) answers.
    ///
    /// # Errors
    /// When there is no address, no answer, no TLS with whom was asked for, or no room for a connection.
    pub async fn connect(&self, to: &Connect, alpn: Alpn<'_>) -> Result<Connection, NetError> {
        let place = Arc::clone(&self.0.places).try_acquire_owned();
        let place = place.map_err(|_| NetError::TooMany(self.0.limit))?;
        let timed_out = |_| NetError::TimedOut { host: to.host.clone(), port: to.port };
        timeout(CONNECT, self.0.connect(to, alpn, place)).await.map_err(timed_out)?
    }
}

impl Inner {
    async fn connect(
        &self,
        to: &Connect,
        alpn: Alpn<'_>,
        place: OwnedSemaphorePermit,
    ) -> Result<Connection, NetError> {
        let (host, port) = (to.host.clone(), to.port);
        let unreachable = |source| NetError::Unreachable { host: host.clone(), port, source };
        let Protection::Tls(roots) = &to.protection else {
            let io = reach(&addresses(to).await.map_err(unreachable)?).await.map_err(unreachable)?;
            return Connection::new(io, None, place).map_err(unreachable);
        };
        let config = self.client(roots, &to.host, alpn)?;
        let (addresses, name) = match roots {
            Roots::Marbles => (marble_addresses(&self.marbles, to).await?, marble::server_name()),
            _ => {
                let name = ServerName::try_from(to.host.clone());
                let name =
                    name.map_err(|error| unreachable(io::Error::new(io::ErrorKind::InvalidInput, error)))?;
                (addresses(to).await.map_err(unreachable)?, name)
            }
        };
        let io = reach(&addresses).await.map_err(unreachable)?;
        let secured = TlsConnector::from(config).connect(name, io).await;
        let failed = |source| NetError::Handshake { host: host.clone(), port, source };
        let (io, tls) = secured.map_err(failed)?.into_inner();
        let connection = Connection::new(io, Some(tls.into()), place).map_err(unreachable)?;
        if *roots == Roots::Marbles && alpn == STREAM {
            self.remember_marble(connection.shared());
        }
        Ok(connection)
    }
}

/// `localhost` is this Keep, whatever the host says.
async fn addresses(to: &Connect) -> io::Result<Vec<SocketAddr>> {
    if to.host.eq_ignore_ascii_case("localhost") {
        return Ok(vec![SocketAddr::from(([127, 0, 0, 1], to.port))]);
    }
    Ok(tokio::net::lookup_host((to.host.as_str(), to.port)).await?.collect())
}

async fn marble_addresses(
    marbles: &BTreeMap<String, String>,
    to: &Connect,
) -> Result<Vec<SocketAddr>, NetError> {
    let hint = marbles.get(&to.host).ok_or_else(|| NetError::UnknownMarble(to.host.clone()))?;
    let unreachable = |source| NetError::Unreachable { host: to.host.clone(), port: to.port, source };
    Ok(tokio::net::lookup_host(hint.as_str()).await.map_err(unreachable)?.collect())
}

async fn reach(addresses: &[SocketAddr]) -> io::Result<TcpStream> {
    TcpStream::connect(addresses).await
}

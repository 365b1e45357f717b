//! Members, and asking them in turn.

use std::{
    fmt,
    str::FromStr,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::Relaxed},
    },
    time::Duration,
};

use hyper_util::rt::TokioIo;
use rustls::{
    ClientConfig, RootCertStore,
    pki_types::{CertificateDer, PrivateKeyDer, ServerName, pem::PemObject},
};
use tokio::{net::TcpStream, runtime::Handle};
use tokio_rustls::TlsConnector;
use tokio_util::sync::CancellationToken;
use tonic::transport::{Channel, Endpoint, Uri};

use crate::EtcdError;

/// A member is given so long, then another one is asked. An election of etcd's defaults takes 1 to 2 s.
const PATIENCE: Duration = Duration::from_secs(1);
const BETWEEN_ROUNDS: Duration = Duration::from_millis(50);
const CONNECT: Duration = Duration::from_millis(500);
/// etcd's requests have 1.5 MiB at most, and its answers what was asked for; a page of them is far below this.
const LARGEST_ANSWER: usize = 64 << 20;

/// Where a member of etcd listens for clients.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Member(Uri);

/// Not the URL of a member.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("expected http://HOST:PORT or https://HOST:PORT, and nothing behind it")]
pub struct NotAMember;

impl FromStr for Member {
    type Err = NotAMember;

    fn from_str(text: &str) -> Result<Self, NotAMember> {
        let uri: Uri = text.parse().map_err(|_| NotAMember)?;
        let plain = matches!(uri.path(), "" | "/") && uri.query().is_none();
        let user = uri.authority().is_none_or(|authority| authority.as_str().contains('@'));
        let scheme = matches!(uri.scheme_str(), Some("http" | "https"));
        if plain && !user && scheme && uri.port_u16().is_some() { Ok(Self(uri)) } else { Err(NotAMember) }
    }
}

impl fmt::Display for Member {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// By what etcd is known, and how it knows us.
#[derive(Clone)]
pub struct Tls(Arc<ClientConfig>);

impl Tls {
    /// From PEM: the roots of etcd's certificates, and our own certificates and key, if it asks for any.
    pub fn from_pem(roots: &[u8], own: Option<(&[u8], &[u8])>) -> Result<Self, EtcdError> {
        let failed = |error: &dyn fmt::Display| EtcdError::Tls(error.to_string());
        let mut store = RootCertStore::empty();
        for root in CertificateDer::pem_slice_iter(roots) {
            store.add(root.map_err(|error| failed(&error))?).map_err(|error| failed(&error))?;
        }
        if store.is_empty() {
            return Err(failed(&"there is no certificate of a root in the file"));
        }
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let builder = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .map_err(|error| failed(&error))?
            .with_root_certificates(store);
        let mut config = match own {
            None => builder.with_no_client_auth(),
            Some((chain, key)) => {
                let chain: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(chain).collect();
                let key = PrivateKeyDer::from_pem_slice(key).map_err(|error| failed(&error))?;
                let chain = chain.map_err(|error| failed(&error))?;
                builder.with_client_auth_cert(chain, key).map_err(|error| failed(&error))?
            }
        };
        config.alpn_protocols = vec![b"h2".to_vec()];
        Ok(Self(Arc::new(config)))
    }
}

impl fmt::Debug for Tls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Tls")
    }
}

/// A client of all members.
#[derive(Clone)]
pub struct Client(Arc<Inner>);

struct Inner {
    channels: Vec<Channel>,
    /// The member that answered last.
    preferred: AtomicUsize,
    runtime: Handle,
    stop: CancellationToken,
}

impl Drop for Inner {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

impl Client {
    /// Knows the members; connects to one when something is asked.
    pub fn new(members: &[Member], tls: Option<&Tls>) -> Result<Self, EtcdError> {
        if tls.is_none() && members.iter().any(|member| member.0.scheme_str() == Some("https")) {
            return Err(EtcdError::Tls("a URL with https needs the roots of etcd's certificates".into()));
        }
        if members.is_empty() {
            return Err(EtcdError::Unreachable("no member is named".into()));
        }
        let stop = CancellationToken::new();
        let runtime = thread(stop.clone())?;
        let entered = runtime.enter();
        let channels = members.iter().map(|member| channel(member, tls)).collect();
        drop(entered);
        Ok(Self(Arc::new(Inner { channels, preferred: AtomicUsize::new(0), runtime, stop })))
    }

    /// How many members it knows.
    pub fn members(&self) -> usize {
        self.0.channels.len()
    }

    /// Runs `future` on the client's own thread.
    pub fn spawn<T: Send + 'static>(&self, future: impl Future<Output = T> + Send + 'static) {
        self.0.runtime.spawn(future);
    }

    /// Waits for `future`, which runs on the client's own thread. Blocks; not to be called on that thread.
    pub fn wait<T: Send + 'static>(
        &self,
        future: impl Future<Output = Result<T, EtcdError>> + Send + 'static,
    ) -> Result<T, EtcdError> {
        let (sender, receiver) = std::sync::mpsc::sync_channel(1);
        self.0.runtime.spawn(async move {
            let _ = sender.send(future.await);
        });
        receiver.recv().unwrap_or_else(|_| Err(EtcdError::Unreachable("the client has ended".into())))
    }

    /// Asks one member after the other, the one that answered last first, until one answers or `patience` is over.
    pub(crate) async fn ask<T, F>(
        &self,
        patience: Duration,
        ask: impl Fn(Channel) -> F,
    ) -> Result<T, EtcdError>
    where
        F: Future<Output = Result<T, EtcdError>>,
    {
        let deadline = tokio::time::Instant::now() + patience;
        loop {
            let first = self.0.preferred.load(Relaxed);
            for turn in 0..self.members() {
                let member = (first + turn) % self.members();
                let until = deadline.min(tokio::time::Instant::now() + PATIENCE);
                let answer = tokio::time::timeout_at(until, ask(self.0.channels[member].clone())).await;
                let late = || EtcdError::Unreachable("no answer came in time".into());
                let failed = match answer {
                    Ok(Err(error)) if error.is_passing() => error,
                    Ok(answer) => {
                        self.0.preferred.store(member, Relaxed);
                        return answer;
                    }
                    Err(_) => late(),
                };
                if tokio::time::Instant::now() >= deadline {
                    return Err(failed);
                }
            }
            tokio::time::sleep(BETWEEN_ROUNDS).await;
        }
    }

    pub(crate) const LARGEST_ANSWER: usize = LARGEST_ANSWER;
}

/// A runtime on a thread of its own, until it is told to stop.
fn thread(stop: CancellationToken) -> Result<Handle, EtcdError> {
    let failed = |error: std::io::Error| EtcdError::Unreachable(error.to_string());
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(failed)?;
    let handle = runtime.handle().clone();
    std::thread::Builder::new()
        .name("etcd".into())
        .spawn(move || runtime.block_on(stop.cancelled()))
        .map_err(failed)?;
    Ok(handle)
}

fn channel(member: &Member, tls: Option<&Tls>) -> Channel {
    let endpoint = Endpoint::from(member.0.clone())
        .connect_timeout(CONNECT)
        .http2_keep_alive_interval(Duration::from_secs(2))
        .keep_alive_timeout(Duration::from_secs(2))
        .tcp_nodelay(true);
    let tls = tls.filter(|_| member.0.scheme_str() == Some("https")).cloned();
    endpoint.connect_with_connector_lazy(tower::service_fn(move |uri: Uri| connect(uri, tls.clone())))
}

trait Transport: tokio::io::AsyncRead + tokio::io::AsyncWrite + Send + Unpin {}
impl<T: tokio::io::AsyncRead + tokio::io::AsyncWrite + Send + Unpin> Transport for T {}

async fn connect(uri: Uri, tls: Option<Tls>) -> std::io::Result<TokioIo<Box<dyn Transport>>> {
    let host = uri.host().unwrap_or_default().trim_matches(['[', ']']).to_owned();
    let connecting = TcpStream::connect((host.as_str(), uri.port_u16().unwrap_or_default()));
    let stream = tokio::time::timeout(CONNECT, connecting).await??;
    stream.set_nodelay(true)?;
    let Some(Tls(config)) = tls else { return Ok(TokioIo::new(Box::new(stream))) };
    let name = ServerName::try_from(host).map_err(std::io::Error::other)?;
    Ok(TokioIo::new(Box::new(TlsConnector::from(config).connect(name, stream).await?)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn members_are_addresses_and_nothing_else() {
        assert!("https://etcd-1:2379".parse::<Member>().is_ok());
        for wrong in [
            "",
            "etcd:2379",
            "http://etcd",
            "ftp://a:1",
            "http://user:word@a:1",
            "http://a:1/path",
            "http://a:1?b",
        ] {
            assert_eq!(wrong.parse::<Member>(), Err(NotAMember), "{wrong}");
        }
    }

    #[test]
    fn https_without_roots_is_refused() {
        let members = ["https://127.0.0.1:2379".parse().unwrap()];
        assert!(matches!(Client::new(&members, None), Err(EtcdError::Tls(_))));
        assert!(matches!(Tls::from_pem(b"", None), Err(EtcdError::Tls(_))));
    }

    #[test]
    fn nobody_there_is_told_in_time() {
        let client = Client::new(&["http://127.0.0.1:1".parse().unwrap()], None).unwrap();
        let asked = client.clone();
        let range = crate::Range::key(b"head".to_vec());
        let answer = client.wait(async move { asked.range(range, Duration::from_millis(200)).await });
        assert!(matches!(answer, Err(EtcdError::Unreachable(_))));
    }
}

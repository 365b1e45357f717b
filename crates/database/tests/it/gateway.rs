//! The gateway with a PostgreSQL of this machine and clients of several kinds.

#[path = "gateway/attacks.rs"]
mod attacks;
#[path = "gateway/calls.rs"]
mod calls;
#[path = "gateway/clients.rs"]
mod clients;
#[path = "gateway/protocol.rs"]
mod protocol;
#[path = "gateway/sessions.rs"]
mod sessions;

use std::{
    net::SocketAddr,
    sync::{Arc, Mutex},
};

use appraisal::UnixTime;
use async_trait::async_trait;
use attested_tls::clock;
use database::{
    Rules,
    algorithms::{Answer, Denied, Reason},
    audit::{self, Audit, Event},
    engine::SUPERUSER,
    gateway::{Answers, Gateway, Limits},
    identity::Caller,
    installation,
    lsn::Lsn,
};
use database_manifest::{AlgorithmName, Manifest, SqlType};
use rustls::{
    ClientConfig, RootCertStore, pki_types::PrivateKeyDer, pki_types::pem::PemObject,
    server::ResolvesServerCert, sign::CertifiedKey,
};
use testkit::parties::{Authority, Holder, Parties};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    sync::watch,
    task::JoinHandle,
};
use tokio_postgres::{Client, Config, NoTls, error::SqlState};
use tokio_rustls::{TlsConnector, client::TlsStream};

use crate::postgres::{Running, postgres};

/// The time of these tests, which no certificate of theirs depends on.
const NOW: UnixTime = UnixTime(1_800_000_000);
/// Asks for TLS.
const SSL_REQUEST: [u8; 8] = [0, 0, 0, 8, 4, 0xd2, 0x16, 0x2f];

/// A gateway that serves, and all that is behind it.
struct Served {
    running: Running,
    parties: Parties,
    server: Authority,
    address: SocketAddr,
    rules: watch::Sender<Arc<Rules>>,
    _sealed: watch::Sender<Lsn>,
    algorithms: Arc<Told>,
    serving: JoinHandle<()>,
}

impl Drop for Served {
    fn drop(&mut self) {
        self.serving.abort();
    }
}

/// Answers what a test tells it to, and remembers what it was asked.
#[derive(Default)]
struct Told {
    asked: Mutex<Vec<(String, Vec<String>)>>,
    busy: std::sync::atomic::AtomicBool,
}

#[async_trait]
impl Answers for Told {
    async fn answer(
        &self,
        _: &Caller,
        name: &AlgorithmName,
        arguments: Vec<String>,
    ) -> Result<Answer, Denied> {
        if self.busy.load(std::sync::atomic::Ordering::SeqCst) {
            return Err(Reason::Busy.into());
        }
        self.asked.lock().unwrap().push((name.to_string(), arguments));
        Ok(match name.as_str() {
            "volume" => Answer {
                columns: vec![("city".into(), SqlType::Text), ("total".into(), SqlType::Numeric)],
                rows: vec![
                    vec![Some("O'Hara \\ \"x\"".into()), Some("12.50".into())],
                    vec![None, Some("-3".into())],
                ],
                receipt: None,
            },
            _ => Answer {
                columns: vec![("payments".into(), SqlType::Integer)],
                rows: vec![vec![Some("42".into())]],
                receipt: None,
            },
        })
    }
}

#[derive(Debug)]
struct One(Arc<CertifiedKey>);

impl ResolvesServerCert for One {
    fn resolve(&self, _: rustls::server::ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(Arc::clone(&self.0))
    }
}

/// The server's certificate, for `localhost`.
fn certificate(server: &Authority) -> Arc<dyn ResolvesServerCert> {
    let holder = server.serve("localhost");
    let key = PrivateKeyDer::from_pem_slice(holder.key.as_bytes()).unwrap();
    let key = rustls::crypto::aws_lc_rs::sign::any_supported_type(&key).unwrap();
    Arc::new(One(Arc::new(CertifiedKey::new(vec![holder.der.into()], key))))
}

/// A gateway; `None` where there is no PostgreSQL.
async fn served() -> Option<Served> {
    served_with(Limits::default(), |_| {}).await
}

async fn served_with(limits: Limits, change: impl FnOnce(&mut serde_json::Value)) -> Option<Served> {
    let running = postgres().await?;
    let parties = Parties::new();
    let mut tree = parties.manifest();
    tree["Name"] = "test".into();
    change(&mut tree);
    let manifest = Manifest::parse(tree.to_string().as_bytes()).expect("a manifest");
    let mut client = running.session(SUPERUSER).await.unwrap();
    installation::install(&mut client, &manifest, NOW).await.expect("it is installed");
    audit::install(&client).await.unwrap();
    let audit = Audit::open(&running, clock::fixed(NOW)).await.unwrap();
    let (rules, watched) = watch::channel(Arc::new(Rules::first(manifest)));
    let (sealed, position) = watch::channel(Lsn(0));
    let server = Authority::new("Server");
    let algorithms = Arc::new(Told::default());
    let gateway = Gateway {
        rules: watched,
        socket: running.socket().to_owned(),
        audit,
        algorithms: Arc::clone(&algorithms) as Arc<dyn Answers>,
        sealed: position,
        certificate: certificate(&server),
        clock: clock::fixed(NOW),
        limits,
    };
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let serving = tokio::spawn(async move { gateway.serve(listener).await.unwrap() });
    Some(Served { running, parties, server, address, rules, _sealed: sealed, algorithms, serving })
}

type Tls = TlsStream<TcpStream>;

impl Served {
    fn tls(&self, holder: Option<&Holder>) -> TlsConnector {
        let mut roots = RootCertStore::empty();
        roots.add(self.server.der.clone().into()).unwrap();
        let config =
            ClientConfig::builder_with_provider(Arc::new(rustls::crypto::aws_lc_rs::default_provider()))
                .with_safe_default_protocol_versions()
                .unwrap()
                .with_root_certificates(roots);
        let config = match holder {
            Some(holder) => {
                let key = PrivateKeyDer::from_pem_slice(holder.key.as_bytes()).unwrap();
                config.with_client_auth_cert(vec![holder.der.clone().into()], key).unwrap()
            }
            None => config.with_no_client_auth(),
        };
        TlsConnector::from(Arc::new(config))
    }

    /// TLS, and nothing yet in it.
    async fn opened(&self, holder: Option<&Holder>) -> Tls {
        let mut stream = TcpStream::connect(self.address).await.unwrap();
        stream.write_all(&SSL_REQUEST).await.unwrap();
        assert_eq!(stream.read_u8().await.unwrap(), b'S');
        self.tls(holder).connect("localhost".try_into().unwrap(), stream).await.unwrap()
    }

    async fn attempt(&self, holder: Option<&Holder>) -> Result<Client, tokio_postgres::Error> {
        let stream = self.opened(holder).await;
        let mut config = Config::new();
        config.user("whoever").dbname("test");
        let (client, connection) = config.connect_raw(stream, NoTls).await?;
        tokio::spawn(connection);
        Ok(client)
    }

    /// A session of that party's.
    async fn session(&self, party: &Authority) -> Client {
        self.attempt(Some(&party.issue("client"))).await.expect("a session")
    }

    /// A session of ours, beside the gateway.
    async fn superuser(&self) -> Client {
        self.running.session(SUPERUSER).await.unwrap()
    }

    /// What the audit log has.
    async fn audited(&self) -> Vec<Event> {
        let (lines, _) = audit::read(&self.superuser().await, 1).await.unwrap();
        lines.iter().filter_map(audit::Line::read).collect()
    }
}

/// SQLSTATE of an error of the database's.
fn state(error: &tokio_postgres::Error) -> &SqlState {
    error.code().unwrap_or_else(|| panic!("not the database's: {error:?}"))
}

/// What the database said.
fn said(error: &tokio_postgres::Error) -> String {
    error.as_db_error().map_or_else(|| format!("{error:?}"), |it| it.message().to_owned())
}

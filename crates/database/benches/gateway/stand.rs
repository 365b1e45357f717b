//! One PostgreSQL that is reached through the gateway and, for comparison, over TLS of its own; what it writes is kept in
//! memory, on the disk, or in a sealed log on the disk.

use std::{net::SocketAddr, path::Path, sync::Arc};

use appraisal::UnixTime;
use async_trait::async_trait;
use attested_tls::clock;
use database::{
    Rules,
    algorithms::{Answer, Denied, Reason},
    audit::{self, Audit},
    engine::{Engine, SUPERUSER, Settings, binaries},
    gateway::{Answers, Gateway, Limits},
    identity::Caller,
    installation,
    lsn::Lsn,
    restore::{Until, restore},
    sealer::{Log, Options, Sealer, Source},
};
use database_manifest::{AlgorithmName, Manifest};
use rustls::{
    ClientConfig, RootCertStore,
    pki_types::{PrivateKeyDer, pem::PemObject},
    server::ResolvesServerCert,
    sign::CertifiedKey,
};
use sealed_log::{Ahead, Anchored, LogKey};
use testkit::parties::{Authority, Parties};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    sync::watch,
};
use tokio_postgres::{Client, Config, NoTls};
use tokio_rustls::TlsConnector;
use volume::{Folder, MemoryAnchor};

/// PostgreSQL's own port: the gateway's is another one.
const PORT: u16 = 5432;

/// Which way a client comes.
#[derive(Clone, Copy)]
pub enum Way {
    /// PostgreSQL's own TLS.
    Direct,
    /// The gateway.
    Gateway,
}

/// Where a commit is when it is acknowledged.
#[derive(Clone, Copy, PartialEq, Eq)]
#[allow(dead_code, reason = "each bench has its own")]
pub enum Commits {
    /// Nowhere else.
    InMemory,
    /// By PostgreSQL's own `fsync`.
    OnDisk,
    /// Sealed, and the log synced.
    Sealed,
}

impl Commits {
    /// PostgreSQL's own address.
    fn own(self) -> &'static str {
        match self {
            Self::InMemory => "127.0.0.77",
            Self::OnDisk => "127.0.0.78",
            Self::Sealed => "127.0.0.79",
        }
    }
}

/// Both.
pub struct Stand {
    engine: Engine,
    _sealer: Option<Sealer>,
    own: SocketAddr,
    gateway: SocketAddr,
    tls: TlsConnector,
    _rules: watch::Sender<Arc<Rules>>,
    _sealed: watch::Sender<Lsn>,
    _folders: [tempfile::TempDir; 2],
}

struct Nobody;

#[async_trait]
impl Answers for Nobody {
    async fn answer(&self, _: &Caller, _: &AlgorithmName, _: Vec<String>) -> Result<Answer, Denied> {
        Err(Reason::Busy.into())
    }
}

#[derive(Debug)]
struct One(Arc<CertifiedKey>);

impl ResolvesServerCert for One {
    fn resolve(&self, _: rustls::server::ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(Arc::clone(&self.0))
    }
}

impl Stand {
    /// With room for so many sessions. `None` where there is no PostgreSQL.
    pub async fn new(sessions: usize, commits: Commits) -> Option<Self> {
        let Ok(binaries) = binaries() else {
            println!("NOT RUN: there is no PostgreSQL of version 15 or later; mend: cargo xtask tools");
            return None;
        };
        let disk = tempfile::tempdir().expect("a folder");
        let memory =
            tempfile::Builder::new().prefix("bailey-bench-").tempdir_in("/dev/shm").expect("a folder");
        let (parties, server) = (Parties::new(), Authority::new("Server"));
        let mut tree = parties.manifest();
        tree["Name"] = "bench".into();
        tree["Schema"] = "CREATE TABLE many (id bigint PRIMARY KEY, body text NOT NULL); \
                          CREATE TABLE rows (id bigint, body text NOT NULL);"
            .into();
        tree["Tables"] = serde_json::json!({
            "many": {"Owner": "approver_c", "Readers": ["bank_a"]},
            "rows": {"Owner": "approver_c", "Writers": ["bank_a"]}
        });
        tree["Algorithms"] = serde_json::json!({});
        let manifest = Manifest::parse(tree.to_string().as_bytes()).expect("a manifest");

        let holder = server.serve("localhost");
        let folder = if commits == Commits::OnDisk { &disk } else { &memory };
        let mut settings = Settings::within(binaries, folder.path(), "bench");
        settings.synchronous = commits == Commits::Sealed;
        Engine::initialise(&settings).expect("initdb");
        let file = |name: &str| settings.data.join(name).display().to_string();
        settings.parameters = [
            ("listen_addresses", commits.own().to_owned()),
            ("ssl", "on".to_owned()),
            ("ssl_cert_file", file("server.crt")),
            ("ssl_key_file", file("server.key")),
        ]
        .map(|(name, value)| (name.to_owned(), value))
        .to_vec();
        if commits == Commits::OnDisk {
            let durable = [("fsync", "on"), ("full_page_writes", "on"), ("max_wal_size", "2GB")];
            settings.parameters.extend(durable.map(|(name, value)| (name.to_owned(), value.to_owned())));
        }
        settings.connections = u32::try_from(sessions + 40).expect("few");
        for (name, text) in [("server.crt", &holder.pem), ("server.key", &holder.key)] {
            std::fs::write(settings.data.join(name), text).expect("it is written");
        }
        // They belong to whoever owns the data.
        let data = settings.data.display().to_string();
        let own = format!("chown --reference={data} {data}/server.* && chmod 600 {data}/server.*");
        assert!(std::process::Command::new("sh").args(["-c", &own]).status().is_ok_and(|it| it.success()));
        let engine = Engine::start(&settings).await.expect("PostgreSQL");
        let sealer = match commits {
            Commits::Sealed => Some(sealed(&engine, disk.path()).await),
            Commits::InMemory | Commits::OnDisk => None,
        };
        let access = "local all all trust\nhostssl all all 127.0.0.1/8 trust\n";
        std::fs::write(settings.data.join("pg_hba.conf"), access).expect("it is written");

        let mut client = engine.session(SUPERUSER).await.expect("a session");
        client.batch_execute("SELECT pg_reload_conf()").await.expect("it reads it");
        let now = UnixTime(1_800_000_000);
        installation::install(&mut client, &manifest, now).await.expect("it is installed");
        audit::install(&client).await.expect("an audit log");
        let (rules, watched) = watch::channel(Arc::new(Rules::first(manifest)));
        let (sealed, unsealed) = watch::channel(Lsn(0));
        let position = sealer.as_ref().map_or(unsealed, Sealer::position);
        let key = PrivateKeyDer::from_pem_slice(holder.key.as_bytes()).expect("a key");
        let key = rustls::crypto::aws_lc_rs::sign::any_supported_type(&key).expect("a key");
        let serving = Gateway {
            rules: watched,
            socket: engine.socket().to_owned(),
            audit: Audit::open(&engine, clock::fixed(now)).await.expect("an audit log"),
            algorithms: Arc::new(Nobody),
            sealed: position,
            certificate: Arc::new(One(Arc::new(CertifiedKey::new(vec![holder.der.into()], key)))),
            clock: clock::fixed(now),
            limits: Limits { sessions_per_party: sessions, connections: sessions, ..Limits::default() },
        };
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let gateway = listener.local_addr().expect("an address");
        tokio::spawn(serving.serve(listener));

        let mut roots = RootCertStore::empty();
        roots.add(server.der.clone().into()).expect("a root");
        let own = parties.bank_a.issue("client");
        let key = PrivateKeyDer::from_pem_slice(own.key.as_bytes()).expect("a key");
        let config =
            ClientConfig::builder_with_provider(Arc::new(rustls::crypto::aws_lc_rs::default_provider()))
                .with_safe_default_protocol_versions()
                .expect("TLS")
                .with_root_certificates(roots)
                .with_client_auth_cert(vec![own.der.into()], key)
                .expect("a certificate");
        let tls = TlsConnector::from(Arc::new(config));
        let own = SocketAddr::new(commits.own().parse().expect("an address"), PORT);
        let _folders = [disk, memory];
        Some(Self { engine, _sealer: sealer, own, gateway, tls, _rules: rules, _sealed: sealed, _folders })
    }

    /// So many rows in `many`.
    #[allow(dead_code, reason = "each bench has its own")]
    pub async fn fill(&self, rows: i64) {
        let client = self.engine.session(SUPERUSER).await.expect("a session");
        let fill = format!("INSERT INTO many SELECT n, 'row ' || n FROM generate_series(1, {rows}) n");
        client.batch_execute(&fill).await.expect("rows");
        client.batch_execute("VACUUM ANALYZE many").await.expect("statistics");
    }

    /// A session of the same party's, one way or the other.
    pub async fn client(&self, way: Way) -> Client {
        let address = match way {
            Way::Gateway => self.gateway,
            Way::Direct => self.own,
        };
        let mut stream = TcpStream::connect(address).await.expect("a connection");
        stream.set_nodelay(true).expect("an option");
        stream.write_all(&[0, 0, 0, 8, 4, 0xd2, 0x16, 0x2f]).await.expect("a request");
        assert_eq!(stream.read_u8().await.expect("an answer"), b'S');
        let stream = self.tls.connect("localhost".try_into().expect("a name"), stream).await.expect("TLS");
        let mut config = Config::new();
        config.user("party_bank_a").dbname("bench");
        let (client, connection) = config.connect_raw(stream, NoTls).await.expect("a session");
        tokio::spawn(connection);
        client
    }
}

/// Seals into a log on the disk.
async fn sealed(engine: &Engine, disk: &Path) -> Sealer {
    let (host, key) = (|| Box::new(Folder::new(disk)), LogKey::new([1; 32]));
    let unpacked = disk.join("none");
    let found = restore(&*host(), &key, Anchored::Never, Ahead::One, &unpacked, Until::End).expect("nothing");
    let source = Source {
        socket: engine.socket().to_owned(),
        user: SUPERUSER.into(),
        database: engine.database().into(),
    };
    let anchor = Box::new(MemoryAnchor::default());
    let log = Log { host: host(), key, contents: found.contents, anchor, restored: None };
    let options = Options { checkpoint_after: u64::MAX, ..Options::default() };
    let killer = engine.killer();
    let sealer = Sealer::start(source, log, options, move |_| killer.kill()).expect("a sealer");
    sealer.checkpoint().await.expect("a base backup");
    sealer
}

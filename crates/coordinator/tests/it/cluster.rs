//! etcd for tests: real members on loopback, and ways to lose them. Where there is no `etcd` on the machine, tests that need
//! it say so and end.

use std::{
    net::SocketAddr,
    path::PathBuf,
    process::{Child, Command, Stdio},
    sync::Arc,
    time::{Duration, Instant},
};

use coordinator::service::EtcdHints;
use tempfile::TempDir;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    sync::watch,
};

/// One member.
pub struct Member {
    name: String,
    pub client: SocketAddr,
    peer: SocketAddr,
    data: PathBuf,
    process: Option<Child>,
    /// What it needs to speak TLS to clients.
    tls: Vec<String>,
}

/// Some members.
pub struct Etcd {
    pub members: Vec<Member>,
    pub directory: TempDir,
}

impl Drop for Etcd {
    fn drop(&mut self) {
        self.members.iter_mut().for_each(Member::kill);
    }
}

fn free() -> SocketAddr {
    (std::net::Ipv4Addr::LOCALHOST, testkit::port::free()).into()
}

impl Member {
    pub fn kill(&mut self) {
        if let Some(mut process) = self.process.take() {
            let _ = process.kill();
            let _ = process.wait();
        }
    }

    pub fn signal(&self, signal: &str) {
        let id = self.process.as_ref().unwrap().id().to_string();
        assert!(Command::new("kill").args([signal, &id]).status().unwrap().success());
    }
}

impl Etcd {
    /// Starts them, and waits until they have a leader. `None`, loudly, where there is no etcd.
    pub async fn start(count: usize) -> Option<Self> {
        if Command::new("etcd").arg("--version").stdout(Stdio::null()).status().is_err() {
            eprintln!("NOT RUN: there is no `etcd` on this machine (apt-get install etcd-server)");
            assert!(std::env::var_os("BAILEY_REQUIRE_ETCD").is_none(), "etcd is required here");
            return None;
        }
        let directory = tempfile::tempdir().unwrap();
        let member = |index: usize| Member {
            name: format!("m{index}"),
            client: free(),
            peer: free(),
            data: directory.path().join(format!("m{index}")),
            process: None,
            tls: Vec::new(),
        };
        let members = (0..count).map(member).collect();
        let mut etcd = Self { members, directory };
        (0..count).for_each(|index| etcd.run(index));
        etcd.leader().await;
        Some(etcd)
    }

    /// Starts a member with what lies on its disk.
    pub fn run(&mut self, index: usize) {
        let all: Vec<_> = self.members.iter().map(|it| format!("{}=http://{}", it.name, it.peer)).collect();
        let member = &mut self.members[index];
        let scheme = if member.tls.is_empty() { "http" } else { "https" };
        let (client, peer) = (format!("{scheme}://{}", member.client), format!("http://{}", member.peer));
        let mut command = Command::new("etcd");
        command
            .args(["--name", &member.name, "--initial-cluster", &all.join(",")])
            .args(["--listen-client-urls", &client, "--advertise-client-urls", &client])
            .args(["--listen-peer-urls", &peer, "--initial-advertise-peer-urls", &peer])
            .args(["--initial-cluster-state", "new", "--log-level", "fatal"])
            .args(&member.tls)
            .arg("--data-dir")
            .arg(&member.data)
            .stdout(Stdio::null())
            .stderr(Stdio::null());
        member.process = Some(command.spawn().unwrap());
    }

    /// The data of a member that is not running, and where a copy of it may lie.
    pub fn data(&self, index: usize) -> (PathBuf, PathBuf) {
        let member = &self.members[index];
        assert!(member.process.is_none(), "a copy of what is being written is none");
        (member.data.clone(), self.directory.path().join(format!("{}-before", member.name)))
    }

    /// Which member leads, as soon as a majority says so.
    pub async fn leader(&self) -> usize {
        let until = Instant::now() + Duration::from_secs(30);
        while Instant::now() < until {
            let mut statuses = Vec::new();
            for member in &self.members {
                statuses.push(status(member.client).await.unwrap_or_default());
            }
            let number = |text: &str, name: &str| {
                let rest = text.split_once(&format!("\"{name}\":\""))?.1;
                rest.split_once('"').map(|(number, _)| number.to_owned())
            };
            let led_by: Vec<_> = statuses.iter().filter_map(|it| number(it, "leader")).collect();
            for (index, status) in statuses.iter().enumerate() {
                let Some(id) = number(status, "member_id") else { continue };
                if 2 * led_by.iter().filter(|leader| **leader == id).count() > self.members.len() {
                    return index;
                }
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        panic!("etcd has no leader after 30 s");
    }

    /// What a replica is told of it.
    pub fn hints(&self) -> EtcdHints {
        hints(self.members.iter().map(|member| member.client))
    }

    /// The same through wires that can be cut.
    pub async fn wired(&self) -> (EtcdHints, Wires) {
        let (cut, is_cut) = watch::channel(false);
        let mut ends = Vec::new();
        for member in &self.members {
            let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
            ends.push(listener.local_addr().unwrap());
            tokio::spawn(wire(listener, member.client, is_cut.clone()));
        }
        (hints(ends.into_iter()), Wires(Arc::new(cut)))
    }
}

/// PEM files for one member that speaks TLS, and for those whom it knows.
pub struct Authority {
    pub root: String,
    issuer: rcgen::Issuer<'static, rcgen::KeyPair>,
}

impl Authority {
    pub fn new() -> Self {
        let key = rcgen::KeyPair::generate().unwrap();
        let mut params = rcgen::CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
        let root = params.self_signed(&key).unwrap().pem();
        Self { root, issuer: rcgen::Issuer::new(params, key) }
    }

    /// Certificate and key.
    pub fn issue(&self) -> (String, String) {
        let key = rcgen::KeyPair::generate().unwrap();
        let mut params = rcgen::CertificateParams::new(vec!["127.0.0.1".to_owned()]).unwrap();
        params.extended_key_usages =
            vec![rcgen::ExtendedKeyUsagePurpose::ServerAuth, rcgen::ExtendedKeyUsagePurpose::ClientAuth];
        (params.signed_by(&key, &self.issuer).unwrap().pem(), key.serialize_pem())
    }
}

impl Etcd {
    /// One member, started again: it speaks TLS, to those with a certificate of this authority.
    pub fn with_tls(mut self, authority: &Authority) -> Self {
        self.members[0].kill();
        let (certificate, key) = authority.issue();
        let file = |name: &str, text: &str| {
            let path = self.directory.path().join(name);
            std::fs::write(&path, text).unwrap();
            path.display().to_string()
        };
        let (root, certificate) = (file("root.pem", &authority.root), file("etcd.pem", &certificate));
        let key = file("etcd.key", &key);
        let arguments = ["--trusted-ca-file", &root, "--cert-file", &certificate, "--key-file", &key];
        self.members[0].tls = arguments.map(str::to_owned).to_vec();
        self.members[0].tls.push("--client-cert-auth".into());
        self.run(0);
        self
    }

    /// What a replica is told of a member that speaks TLS.
    pub fn hints_with(&self, tls: etcd::Tls) -> EtcdHints {
        let members = vec![format!("https://{}", self.members[0].client).parse().unwrap()];
        EtcdHints { members, tls: Some(tls), address: None }
    }
}

fn hints(members: impl Iterator<Item = SocketAddr>) -> EtcdHints {
    let members = members.map(|member| format!("http://{member}").parse().unwrap()).collect();
    EtcdHints { members, tls: None, address: None }
}

async fn status(member: SocketAddr) -> Option<String> {
    let ask = async {
        let mut stream = TcpStream::connect(member).await.ok()?;
        let request = "POST /v3/maintenance/status HTTP/1.0\r\nContent-Length: 2\r\n\r\n{}";
        stream.write_all(request.as_bytes()).await.ok()?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.ok()?;
        Some(answer)
    };
    tokio::time::timeout(Duration::from_millis(500), ask).await.ok().flatten()
}

/// Connections that stay open and carry nothing while they are cut.
pub struct Wires(Arc<watch::Sender<bool>>);

impl Wires {
    pub fn cut(&self) {
        self.0.send_replace(true);
    }

    pub fn mend(&self) {
        self.0.send_replace(false);
    }
}

async fn wire(listener: TcpListener, to: SocketAddr, cut: watch::Receiver<bool>) {
    while let Ok((near, _)) = listener.accept().await {
        let cut = cut.clone();
        tokio::spawn(async move {
            let Ok(far) = TcpStream::connect(to).await else { return };
            let ((near_in, near_out), (far_in, far_out)) = (near.into_split(), far.into_split());
            tokio::select! {
                () = carry(near_in, far_out, cut.clone()) => {}
                () = carry(far_in, near_out, cut) => {}
            }
        });
    }
}

async fn carry(
    mut from: tokio::net::tcp::OwnedReadHalf,
    mut to: tokio::net::tcp::OwnedWriteHalf,
    mut cut: watch::Receiver<bool>,
) {
    let mut buffer = vec![0; 64 * 1024];
    while let Ok(read @ 1..) = from.read(&mut buffer).await {
        if cut.wait_for(|cut| !cut).await.is_err() || to.write_all(&buffer[..read]).await.is_err() {
            return;
        }
    }
}

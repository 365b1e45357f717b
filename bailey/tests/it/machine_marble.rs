//! Marbles' Keeps in virtual machines by the words of `docs/vm-guest.md`: a coordinator on this host admits them by the
//! quotes of their TPMs, clients come through ports of the host, and a volume outlives machine and agent.

use std::{
    io::{BufRead, BufReader},
    net::SocketAddr,
    path::Path,
    process::{Command, Stdio},
};

use attested_tls::{
    clock,
    launch::{CoordinatorRequirements, KeepConfiguration},
    service::web_client,
};
use bailey::{
    commands::manifest,
    identity,
    up::{CoordinatorPlan, Machine, Mesh, Programs, free_address},
};
use evidence::Platform;
use rustls::{RootCertStore, pki_types::CertificateDer};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use testkit::registry::Registry;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};
use tokio_rustls::TlsConnector;

use crate::{
    host::Agent,
    machine::{Site, done},
};

/// Takes connections. Appends what comes on one to `/data/journal`, syncs that, and answers with all of it.
const JOURNAL: &str = r#"(module
    (import "wasi_snapshot_preview1" "sock_accept" (func $accept (param i32 i32 i32) (result i32)))
    (import "wasi_snapshot_preview1" "sock_shutdown" (func $shutdown (param i32 i32) (result i32)))
    (import "wasi_snapshot_preview1" "fd_write" (func $write (param i32 i32 i32 i32) (result i32)))
    (import "wasi_snapshot_preview1" "fd_read" (func $read (param i32 i32 i32 i32) (result i32)))
    (import "wasi_snapshot_preview1" "fd_pread" (func $pread (param i32 i32 i32 i64 i32) (result i32)))
    (import "wasi_snapshot_preview1" "fd_sync" (func $sync (param i32) (result i32)))
    (import "wasi_snapshot_preview1" "fd_close" (func $close (param i32) (result i32)))
    (import "wasi_snapshot_preview1" "path_open" (func $open (param i32 i32 i32 i32 i32 i64 i64 i32 i32) (result i32)))
    (import "wasi_snapshot_preview1" "proc_exit" (func $exit (param i32)))
    (memory (export "memory") 1)
    (data (i32.const 32) "data/journal")
    (func $must (param i32) (if (local.get 0) (then (call $exit (local.get 0)))))
    (func (export "_start") (local $client i32) (local $file i32)
        (loop $again
            (call $must (call $accept (i32.const 3) (i32.const 0) (i32.const 16)))
            (local.set $client (i32.load (i32.const 16)))
            (i32.store (i32.const 0) (i32.const 1024))
            (i32.store (i32.const 4) (i32.const 1024))
            (i32.store (i32.const 20) (i32.const 0))
            (drop (call $read (local.get $client) (i32.const 0) (i32.const 1) (i32.const 20)))
            (call $must (call $open (i32.const 4) (i32.const 0) (i32.const 32) (i32.const 12) (i32.const 1)
                (i64.const 0x52) (i64.const 0) (i32.const 1) (i32.const 24)))
            (local.set $file (i32.load (i32.const 24)))
            (i32.store (i32.const 4) (i32.load (i32.const 20)))
            (call $must (call $write (local.get $file) (i32.const 0) (i32.const 1) (i32.const 28)))
            (call $must (call $sync (local.get $file)))
            (i32.store (i32.const 4) (i32.const 8192))
            (call $must (call $pread (local.get $file) (i32.const 0) (i32.const 1) (i64.const 0) (i32.const 28)))
            (i32.store (i32.const 4) (i32.load (i32.const 28)))
            (drop (call $write (local.get $client) (i32.const 0) (i32.const 1) (i32.const 20)))
            (drop (call $shutdown (local.get $client) (i32.const 2)))
            (drop (call $close (local.get $client)))
            (drop (call $close (local.get $file)))
            (br $again))))"#;

const CONFIG: &str = r#"
    [[files]]
    kind = "stdin"
    [[files]]
    kind = "stdout"
    [[files]]
    kind = "stderr"
    [[files]]
    kind = "listen"
    prot = "tls"
    addr = "0.0.0.0"
    port = 8443
    name = "web"
    [[volumes]]
    name = "data"
    path = "/data"
    size = "1MiB"
"#;

/// A process of the host agent.
struct Process<'a> {
    site: &'a Site,
    name: &'a str,
}

impl Process<'_> {
    /// Waits until its log has so many lines with these words; gives the last of them. A Keep that was not admitted in
    /// time, which can be on a busy machine, is launched again.
    fn until(&self, words: &str, count: usize) -> String {
        let directory = self.site.path("host");
        let mut log = Command::new(env!("CARGO_BIN_EXE_bailey"))
            .args(["host", "logs", self.name, "--follow", "--lines", "100000", "--directory", &directory])
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let (mut seen, mut ends, mut said) = (0, 0, String::new());
        let mut lines = BufReader::new(log.stdout.take().unwrap()).lines().map_while(Result::ok);
        let found = lines.find(|line| {
            said.push_str(line);
            said.push('\n');
            seen += usize::from(line.contains(words));
            ends += usize::from(line.contains("the Keep ends"));
            seen == count || ends > 5
        });
        log.kill().unwrap();
        log.wait().unwrap();
        match found {
            Some(line) if seen == count => line,
            _ => panic!("{} does not say {words}:\n{said}", self.name),
        }
    }

    fn pid(&self) -> u64 {
        let listed = done(&["host", "list", "--json", "--directory", &self.site.path("host")]);
        let listed: Value = serde_json::from_str(&listed).unwrap();
        let processes = listed["processes"].as_array().unwrap();
        let own = processes.iter().find(|process| process["name"] == self.name).unwrap();
        own["state"]["running"]["pid"].as_u64().unwrap_or_else(|| panic!("{listed}"))
    }
}

/// A client of a Marble, which knows the mesh by its root.
struct Client<'a> {
    root: &'a CertificateDer<'static>,
    name: &'static str,
    address: SocketAddr,
}

impl Client<'_> {
    async fn ask(&self, words: &str) -> std::io::Result<String> {
        let mut roots = RootCertStore::empty();
        roots.add(self.root.clone()).unwrap();
        let connector = TlsConnector::from(web_client(roots, clock::system()).unwrap());
        let stream = TcpStream::connect(self.address).await?;
        let mut stream = connector.connect(self.name.try_into().unwrap(), stream).await?;
        stream.write_all(words.as_bytes()).await?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await?;
        Ok(answer)
    }

    /// A Keep says that it runs a moment before its workload listens.
    async fn answer(&self, words: &str) -> String {
        let mut attempts = 0;
        loop {
            match self.ask(words).await {
                Ok(answer) => return answer,
                Err(error) if attempts == 1000 => panic!("{}: {error}", self.address),
                Err(_) => attempts += 1,
            }
        }
    }
}

/// A package by the values of an image with this launch configuration, as the command measures it.
fn package(image: &str, configuration: &str) -> Value {
    let measured = done(&["image", "measure", image, "--configuration", configuration, "--json"]);
    let measured: Value = serde_json::from_str(&measured).unwrap();
    let registers = &measured["reference_values"][0]["registers"];
    json!({ "ReferenceValues": [{ "Platform": "tpm", "Registers": registers }] })
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "boots machines, some minutes: cargo xtask soak"]
async fn soak_marbles_in_machines_are_admitted_by_their_tpm_serve_and_find_their_volumes() {
    let mut site = Site::new();
    let folder = site.folder.path().to_owned();
    let image = site.image();
    let shop = wat::parse_str(JOURNAL).unwrap();
    std::fs::write(folder.join("shop.wasm"), &shop).unwrap();

    // The coordinator, on this host's emulated platform.
    let home = folder.join("platform");
    std::fs::create_dir(&home).unwrap();
    let programs = Path::new(env!("CARGO_BIN_EXE_bailey")).parent().unwrap().to_owned();
    let machine = Machine::start(&home, Programs::in_folder(programs)).unwrap();
    let owner = identity::create(&folder.join("people"), "owner").unwrap();
    let plan = CoordinatorPlan {
        platform: Platform::Sgx,
        names: vec!["localhost".into()],
        listen: None,
        mesh: None,
        marbles: None,
        metrics: None,
        broker: None,
        tpm: None,
        etcd: None,
    };
    let digest = identity::key_digest(&owner).unwrap();
    let (mesh, _) = Mesh::found(&machine, "coordinator", &plan, digest).await.unwrap();
    let required = mesh.requirements();
    let launched_for = |marble: &str| {
        let coordinator = CoordinatorRequirements {
            policy: required.policy.clone(),
            measurements: required.measurements.clone(),
        };
        KeepConfiguration { marble: marble.into(), coordinator }.to_json()
    };
    for marble in ["shop", "fetched"] {
        std::fs::write(folder.join(format!("{marble}.json")), launched_for(marble)).unwrap();
    }
    // The same to whoever reads it, and another launch.
    std::fs::write(folder.join("stranger.json"), [&launched_for("shop")[..], b"\n"].concat()).unwrap();

    // The registry, as the host and as its machines call it.
    let registry = Registry::open().expect("docker-registry: cargo xtask tools");
    let (ca, port) = (site.path("registry.pem"), registry.host.rsplit_once(':').unwrap().1.to_owned());
    std::fs::write(&ca, &registry.root_pem).unwrap();
    let tag = format!("{}/team/shop:1.0.0", registry.host);
    let pushed = done(&["package", "push", &site.path("shop.wasm"), &tag, "--root-ca", &ca]);
    let digest = pushed.trim().rsplit_once('@').unwrap().1;
    let fetched = format!("10.0.2.2:{port}/team/shop@{digest}");

    let addresses = [(); 2].map(|()| free_address().unwrap());
    let coordinator = format!("10.0.2.2:{}", mesh.mesh_address().port());
    let process = |name: &str, more: Value| {
        let mut process = json!({
            "name": name, "platform": "tpm", "executable": "keep.image",
            "configuration": { "file": format!("{name}.json") },
            "volumes": format!("volumes/{name}"),
            "arguments": ["--coordinator", coordinator],
        });
        process.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        process
    };
    let ports = |index: usize| json!([{ "host": addresses[index], "guest": 8443 }]);
    let config = json!({
        "directory": "host",
        "backends": [{ "vm": { "name": "vm", "outgoing": true, "keep": { "executable": "keep.image" } } }],
        "api": { "listen": "127.0.0.1:0", "open": {} },
        "keeps": { "warm": 0 },
        "processes": [
            process("shop", json!({ "workload": "shop.wasm", "ports": ports(0) })),
            process("fetched", json!({ "ports": ports(1) })),
            process("stranger", json!({ "workload": "shop.wasm", "restart": "never" })),
        ],
    });
    site.agent = Some(Agent::start(&folder, &config).0);
    let of = |name: &'static str| Process { site: &site, name };
    of("fetched").until("launched as process", 1);

    // Machines take longer to boot than this takes; a Keep that is faster is launched again.
    let authority = std::fs::read_to_string(folder.join("tpm-authority/tpm-authority.pem")).unwrap();
    let marble = |name: &str, workload: Value| {
        let mut workload = workload;
        workload["Config"] = json!(CONFIG);
        let names = [format!("{name}.example")];
        json!({ "Package": name, "Workload": workload, "Access": "Public", "Names": names })
    };
    let text = json!({
        "Packages": {
            "shop": package(&image, &site.path("shop.json")),
            "fetched": package(&image, &site.path("fetched.json")),
        },
        "Platforms": { "Tpm": { "TrustAnchors": [authority] } },
        "Registries": { format!("10.0.2.2:{port}"): { "RootCA": registry.root_pem } },
        "Marbles": {
            "shop": marble("shop", json!({ "Digest": format!("sha256:{:x}", Sha256::digest(&shop)) })),
            "fetched": marble("fetched", json!({ "Package": fetched })),
        },
    });
    let client = mesh.client(Some(&owner)).unwrap();
    manifest::set(&client, &serde_json::to_vec(&text).unwrap()).await.unwrap();

    let refused = of("stranger").until("the Keep ends", 1);
    assert!(refused.contains("pcr12.sha256"), "{refused}");
    let client = |name, address| Client { root: mesh.root(), name, address };
    let clients = [client("shop.example", addresses[0]), client("fetched.example", addresses[1])];
    for (name, client) in ["shop", "fetched"].into_iter().zip(&clients) {
        of(name).until("RUNNING", 1);
        assert_eq!(client.answer("one ").await, "one ", "{name}");
    }

    // Killed: it has no say in it. The next one has the machines, and answers for their volumes.
    let before = of("shop").pid();
    site.agent = None;
    site.agent = Some(Agent::start(&folder, &config).0);
    let shop = Process { site: &site, name: "shop" };
    shop.until("adopted as process", 1);
    assert_eq!(shop.pid(), before, "no other was launched");
    assert_eq!(clients[0].answer("two ").await, "one two ");

    done(&["host", "restart", "shop", "--directory", &site.path("host")]);
    shop.until("RUNNING", 2);
    assert_ne!(shop.pid(), before, "another machine");
    assert_eq!(clients[0].answer("three ").await, "one two three ");
}

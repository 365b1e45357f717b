//! The whole of it: a coordinator with a broker in its manifest, and the guest's program as a measured process of the
//! same emulated machine.

use std::{net::SocketAddr, sync::Arc, time::Duration};

use attested_tls::{
    claims::{Claims, CoordinatorClaims},
    clock,
    key::TeeKey,
    launch::CoordinatorConfiguration,
    service::{UserIdentity, unverified_client},
    statement::Statement,
};
use base64::{Engine, engine::general_purpose::STANDARD as BASE64};
use coordinator::service::{Coordinator, HostHints, Listeners};
use emulator::{
    control::{self, Event, Exit, Launch, Stream},
    measure,
};
use evidence::{CertificateDer, Platform, pem};
use http_body_util::{BodyExt, Full};
use hyper::{Method, Request, body::Bytes};
use hyper_util::rt::TokioIo;
use image_keys::{Kek, KeyName};
use rcar::InitData;
use serde_json::{Value, json};
use testkit::tee::EmulatedTee;
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsConnector;
use tokio_util::sync::{CancellationToken, DropGuard};

use crate::{
    fetching::uri,
    measured::{Switched, program},
};

const SECRET: &str = "open sesame";

struct Mesh {
    host: Switched,
    owner: TeeKey,
    api: SocketAddr,
    broker: SocketAddr,
    root: String,
    _state: tempfile::TempDir,
    _stop: DropGuard,
}

impl Mesh {
    async fn found() -> Self {
        let host = tokio::task::spawn_blocking(Switched::on).await.expect("switched on");
        let owner = TeeKey::generate().expect("a key");
        let configuration =
            CoordinatorConfiguration { owner: *owner.digest(), names: vec!["localhost".into()], tpm: None };
        let machine = Arc::new(host.machine());
        let tee =
            EmulatedTee::launch_on(machine, Platform::Tdx, b"bailey-coordinator", &configuration.to_json());
        let state = tempfile::tempdir().expect("a folder");
        let hints = HostHints { state: state.path().into(), ..HostHints::default() };
        let coordinator =
            Coordinator::open(tee, configuration, &hints, clock::system()).expect("a coordinator");
        let listen = async || TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let (client, guests) = (listen().await, listen().await);
        let (api, broker) = (client.local_addr().expect("bound"), guests.local_addr().expect("bound"));
        let listeners =
            Listeners { client, mesh: listen().await, marbles: None, metrics: None, broker: Some(guests) };
        let stop = CancellationToken::new();
        tokio::spawn(coordinator.serve(listeners, stop.clone()));
        let mut mesh =
            Self { host, owner, api, broker, root: String::new(), _state: state, _stop: stop.drop_guard() };
        let nonce = hex::encode([7; 32]);
        let (_, evidence) = mesh.ask(Method::GET, &format!("/api/v3/evidence?nonce={nonce}"), "").await;
        // `bailey verify` appraises this first; here it is our own, in this process.
        let statement = Statement::from_bytes(&evidence).expect("a statement");
        let claims = CoordinatorClaims::from_bytes(&statement.claims).expect("claims");
        mesh.root = pem::encode(&CertificateDer(claims.root.to_vec()));
        mesh
    }

    async fn ask(&self, method: Method, path: &str, body: &str) -> (u16, Vec<u8>) {
        let identity =
            UserIdentity { chain: vec![self.owner.certificate().clone()], key: self.owner.private_key() };
        let config = unverified_client(Some(&identity), clock::system()).expect("a configuration");
        let stream = TcpStream::connect(self.api).await.expect("connected");
        let name = "localhost".try_into().expect("a name");
        let stream = TlsConnector::from(config).connect(name, stream).await.expect("TLS");
        let (mut sender, connection) =
            hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.expect("HTTP");
        tokio::spawn(connection);
        let request = Request::builder().method(method).uri(path).header("host", "localhost");
        let request = request.body(Full::new(Bytes::from(body.to_owned()))).expect("a request");
        let response = sender.send_request(request).await.expect("an answer");
        let status = response.status().as_u16();
        (status, response.into_body().collect().await.expect("a body").to_bytes().to_vec())
    }

    async fn post(&self, path: &str, body: &Value) -> Value {
        let (status, answer) = self.ask(Method::POST, path, &body.to_string()).await;
        assert_eq!(status, 200, "{path}: {}", String::from_utf8_lossy(&answer));
        serde_json::from_slice(&answer).unwrap_or(Value::Null)
    }

    /// What guests are launched with.
    fn init_data(&self) -> String {
        let (root, port) = (&self.root, self.broker.port());
        format!(
            "version = \"0.1.0\"\nalgorithm = \"sha256\"\n[data]\n\"cdh.toml\" = '''\n[kbc]\nname = \"cc_kbc\"\nurl = \
             \"https://localhost:{port}\"\nkbs_cert = \"\"\"\n{root}\"\"\"\n'''\n"
        )
    }

    /// Guests of our program, launched with our init-data, may have what is here.
    fn manifest(&self) -> Value {
        let code = std::fs::read(program()).expect("the program");
        let digest = InitData::parse(&self.init_data()).expect("init-data").digest();
        let root = &self.host.machine().roots().amd.0;
        let plain = json!({ "Type": "plain", "UserDefined": true });
        json!({
            "Packages": { "guest": { "Measurements": { "Snp": measure::measure(&code).snp.to_string() } } },
            "Platforms": { "Snp": { "EmulatedRoots": [pem::encode(&CertificateDer(root.clone()))] } },
            "Secrets": {
                "db": plain, "sealing": plain,
                "kek": { "Type": "symmetric-key", "Size": 256, "UserDefined": true },
            },
            "Users": { "writer": { "Certificate": pem::encode(&CertificateDer(self.owner.certificate().to_vec())),
                                   "Roles": ["write"] } },
            "Roles": { "write": { "ResourceType": "Secrets", "ResourceNames": ["db", "sealing", "kek"],
                                  "Actions": ["WriteSecret"] } },
            "Broker": {
                "Policies": {
                    "guests": { "Packages": ["guest"], "Emulated": true,
                                "InitData": [format!("sha256:{}", hex::encode(digest))] },
                },
                "Repositories": { "default": { "Resources": {
                    "password/db": { "Secret": "db", "Policy": "guests" },
                    "key/sealing": { "Secret": "sealing", "Policy": "guests" },
                    "key/image": { "Secret": "kek", "Policy": "guests" },
                } } },
            },
        })
    }

    /// A mesh whose broker has something to give.
    async fn with_secrets(sealing: &sealed_secret::SigningKey) -> Self {
        let mesh = Self::found().await;
        let manifest = json!({ "manifest": BASE64.encode(mesh.manifest().to_string()) });
        mesh.post("/api/v2/manifest", &manifest).await;
        let key = |bytes: &[u8]| json!({ "Key": BASE64.encode(bytes) });
        let secrets = json!({ "secrets": {
            "db": key(SECRET.as_bytes()), "sealing": key(sealing.verifying_key().to_jwk().as_bytes()),
            "kek": key(&[7; 32]),
        } });
        mesh.post("/api/v2/secrets", &secrets).await;
        mesh
    }

    fn run(&self, init_data: &str, arguments: &[&str]) -> (String, String, Exit) {
        tokio::task::block_in_place(|| self.host.run(Platform::Snp, init_data, arguments))
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_attested_guest_gets_what_the_manifest_grants_it() {
    let sealing = sealed_secret::SigningKey::generate().expect("a key");
    let mesh = Mesh::with_secrets(&sealing).await;
    let init_data = mesh.init_data();

    for mode in [&[][..], &["--passport"]] {
        let (out, err, exit) = mesh.run(&init_data, &[&["get", "kbs:///default/password/db"], mode].concat());
        assert_eq!((out.as_str(), exit), (SECRET, Exit::Code(0)), "{mode:?}: {err}");
    }

    let (out, err, exit) = mesh.run(&init_data, &["token"]);
    assert_eq!((out.trim().split('.').count(), exit), (3, Exit::Code(0)), "{err}");

    let kid = "kbs:///default/key/sealing".parse().expect("a key");
    let sealed = sealed_secret::vault(&uri("kbs:///default/password/db"), &kid, &sealing).expect("sealed");
    let (out, err, exit) = mesh.run(&init_data, &["unseal", &sealed]);
    assert_eq!((out.as_str(), exit), (SECRET, Exit::Code(0)), "{err}");

    let variable = format!("DB={sealed}");
    let (out, err, exit) = mesh.run(
        &init_data,
        &[
            "run",
            "--file",
            "db=kbs:///default/password/db",
            "--env",
            &variable,
            "--",
            "/bin/sh",
            "-c",
            "cat $BAILEY_SECRETS/db; echo; echo $DB; exit 5",
        ],
    );
    assert_eq!((out, exit), (format!("{SECRET}\n{SECRET}\n"), Exit::Code(5)), "{err}");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_not_granted_and_who_is_not_meant_get_nothing() {
    let sealing = sealed_secret::SigningKey::generate().expect("a key");
    let mesh = Mesh::with_secrets(&sealing).await;
    let init_data = mesh.init_data();
    let (out, err, exit) = mesh.run(&init_data, &["get", "kbs:///default/password/none"]);
    assert_eq!((out.as_str(), exit), ("", Exit::Code(1)), "{err}");
    // The same broker, by init-data that the policy does not name.
    let (out, err, exit) =
        mesh.run(&format!("{init_data}# changed\n"), &["get", "kbs:///default/password/db"]);
    assert_eq!((out.as_str(), exit), ("", Exit::Code(1)), "{err}");
    assert!(err.contains("bailey broker explain"), "{err}");
    // The stand-in, of a process in no TEE: this broker does not take it.
    let folder = tempfile::tempdir().expect("a folder");
    let root = folder.path().join("root.pem");
    std::fs::write(&root, &mesh.root).expect("written");
    let url = format!("https://localhost:{}", mesh.broker.port());
    let output = tokio::process::Command::new(program())
        .args(["get", "kbs:///default/password/db", "--sample", "--broker", &url, "--broker-root"])
        .arg(&root)
        .output()
        .await
        .expect("started");
    assert_eq!((output.status.code(), output.stdout.len()), (Some(1), 0), "{output:?}");
}

/// A measured guest that serves, until it is dropped.
struct Serving {
    ready: Value,
    stopper: control::Stopper,
    watching: Option<std::thread::JoinHandle<Exit>>,
}

impl Serving {
    fn start(mesh: &Mesh, arguments: &[&str]) -> Self {
        let launch = Launch {
            configuration: mesh.init_data().into_bytes(),
            arguments: arguments.iter().map(|argument| (*argument).to_owned()).collect(),
            ..Launch::new(Platform::Snp, program().to_owned())
        };
        let mut running = control::launch(&mesh.host.socket(), &launch).expect("launched");
        let mut out = Vec::new();
        while !out.ends_with(b"\n") {
            match running.next_event().expect("an event") {
                Event::Output { stream: Stream::Stdout, bytes } => out.extend(bytes),
                Event::Output { bytes, .. } => panic!("{}", String::from_utf8_lossy(&bytes)),
                other => panic!("{other:?}"),
            }
        }
        let stopper = running.stopper().expect("a stopper");
        let watching = std::thread::spawn(move || {
            loop {
                if let Event::Exited(exit) = running.next_event().expect("an event") {
                    return exit;
                }
            }
        });
        Self { ready: serde_json::from_slice(&out).expect("JSON"), stopper, watching: Some(watching) }
    }

    fn stop(mut self) -> Exit {
        self.stopper.stop();
        self.watching.take().expect("once").join().expect("no panic")
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_attested_guest_serves_its_workload() {
    let sealing = sealed_secret::SigningKey::generate().expect("a key");
    let mesh = Mesh::with_secrets(&sealing).await;
    let serving = tokio::task::block_in_place(|| {
        Serving::start(
            &mesh,
            &[
                "serve",
                "--json",
                "--offer",
                "all",
                "--listen",
                "127.0.0.1:0",
                "--key-provider",
                "127.0.0.1:0",
            ],
        )
    });
    let api = serving.ready["api"].as_str().expect("an address").to_owned();
    let get = async |path: &str| {
        let stream = TcpStream::connect(&api).await.expect("connected");
        let (mut sender, connection) =
            hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.expect("HTTP");
        tokio::spawn(connection);
        let request =
            Request::get(path).header("host", &api).body(Full::<Bytes>::default()).expect("a request");
        let response = sender.send_request(request).await.expect("an answer");
        let status = response.status().as_u16();
        (status, response.into_body().collect().await.expect("a body").to_bytes().to_vec())
    };
    assert_eq!(get("/cdh/resource/default/password/db").await, (200, SECRET.as_bytes().to_vec()));
    assert_eq!(get("/cdh/resource/default/password/none").await.0, 404);
    assert_eq!(get("/aa/token?token_type=kbs").await.0, 200);
    let (status, evidence) = get("/aa/evidence?runtime_data=hello").await;
    assert_eq!(status, 200);
    assert!(evidence::coco::read(Platform::Snp, &evidence).is_ok());

    // What ocicrypt does with an encrypted layer.
    let options = br#"{"symkey":"a2V5"}"#;
    let name: KeyName = "kbs:///default/key/image".parse().expect("a name");
    let packet = Kek::new(&[7; 32]).expect("a key").wrap(&name, options).expect("wrapped");
    let request = json!({ "op": "keyunwrap", "keyunwrapparams": {
        "dc": { "Parameters": { "attestation-agent": [BASE64.encode("any")] } },
        "annotation": BASE64.encode(packet.to_json()),
    } });
    let target = format!("http://{}", serving.ready["key_provider"].as_str().expect("an address"));
    let mut client = image_keys::grpc::Client::connect(target).await.expect("connected");
    let input =
        image_keys::grpc::Input { key_provider_key_wrap_protocol_input: request.to_string().into_bytes() };
    let answer = client.un_wrap_key(input).await.expect("unwrapped").into_inner();
    let answer: Value = serde_json::from_slice(&answer.key_provider_key_wrap_protocol_output).expect("JSON");
    let bytes: Vec<u64> = answer["keyunwrapresults"]["optsdata"]
        .as_array()
        .expect("bytes")
        .iter()
        .filter_map(Value::as_u64)
        .collect();
    assert_eq!(bytes, options.iter().map(|byte| u64::from(*byte)).collect::<Vec<_>>());

    let ended = tokio::task::spawn_blocking(move || serving.stop());
    let exit =
        tokio::time::timeout(Duration::from_secs(30), ended).await.expect("in time").expect("no panic");
    assert_eq!(exit, Exit::Code(0), "it ends when it is told to");
}

/// What a public client of SPIFFE sees of a measured guest.
#[tokio::test(flavor = "multi_thread")]
async fn an_attested_guest_serves_its_spiffe_identity() {
    let sealing = sealed_secret::SigningKey::generate().expect("a key");
    let mesh = Mesh::with_secrets(&sealing).await;
    let folder = tempfile::tempdir().expect("a folder");
    let socket = folder.path().join("api.sock").display().to_string();
    let serving =
        tokio::task::block_in_place(|| Serving::start(&mesh, &["spiffe", "--json", "--socket", &socket]));
    let endpoint = serving.ready["endpoint"].as_str().expect("an endpoint").to_owned();
    let source = spiffe::X509Source::builder().endpoint(&endpoint).build().await.expect("a source");
    let id = source.svid().expect("an SVID").spiffe_id().clone();
    assert_eq!(id.path(), "/guest/guest");
    let tokens = spiffe::JwtSource::builder().endpoint(&endpoint).build().await.expect("a source");
    let token = tokens.fetch_jwt_svid(["db"]).await.expect("a token");
    let bundles = tokens.bundle_set().expect("a bundle");
    let verified = spiffe::JwtSvid::parse_and_validate(token.token(), bundles.as_ref(), &["db"]);
    assert_eq!(verified.expect("valid").spiffe_id(), &id);
    source.shutdown().await;
    tokens.shutdown().await;
    let ended = tokio::task::spawn_blocking(move || serving.stop());
    let exit =
        tokio::time::timeout(Duration::from_secs(30), ended).await.expect("in time").expect("no panic");
    assert_eq!(exit, Exit::Code(0), "it ends when it is told to");
}

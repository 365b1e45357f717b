//! `cargo xtask bench coordinator`: what an activation costs beside its cryptography, and what a long life of a mesh
//! costs. Prints a table; ratios are to yardsticks of the same run.

#![allow(
    missing_docs,
    clippy::unwrap_used,
    clippy::panic,
    clippy::print_stdout,
    reason = "a benchmark prints, and ends where anything fails"
)]

#[path = "../tests/it/world.rs"]
#[allow(dead_code, reason = "of the tests' world only a part is measured")]
mod world;

use std::{
    convert::Infallible,
    io,
    net::SocketAddr,
    path::Path,
    sync::Arc,
    time::{Duration, Instant},
};

use appraisal::binding::Role;
use attested_tls::{
    channel::{self, ClaimsRefused, Expectations, Party, PeerPolicy},
    claims::{Claims, KeepClaims},
    clock,
    key::TeeKey,
    launch::CoordinatorConfiguration,
    service::unverified_client,
    statement::{Expected, Statement, verifier},
};
use coordinator::{
    core::{self, State},
    service::{Coordinator, HostHints, Listeners},
    store::{Opened, Opening, Shares, Store},
};
use evidence::Platform;
use http_body_util::{BodyExt, Empty, Full};
use hyper::{Request, Response, body::Bytes};
use hyper_util::rt::TokioIo;
use mesh_api::{ActivateRequest, mesh_client::MeshClient};
use serde_bytes::ByteArray;
use serde_json::json;
use testkit::tee::{EmulatedTee, NOW};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::{TlsAcceptor, TlsConnector};
use tonic::transport::Endpoint;
use world::{TALLY, attest, keep_on, manifest, people, running, set};

const FOR: Duration = Duration::from_secs(2);

fn main() {
    activation();
    growth();
    updates();
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    runtime.block_on(network());
}

/// How often a second `work` is done by so many threads.
fn rate(threads: u32, work: impl Fn() + Sync) -> f64 {
    work();
    let counts: u32 = std::thread::scope(|scope| {
        let count = || {
            let (start, mut count) = (Instant::now(), 0);
            while start.elapsed() < FOR {
                work();
                count += 1;
            }
            count
        };
        let threads: Vec<_> = (0..threads).map(|_| scope.spawn(count)).collect();
        threads.into_iter().map(|thread| thread.join().unwrap()).sum()
    });
    f64::from(counts) / FOR.as_secs_f64()
}

fn claims() -> Vec<u8> {
    KeepClaims {
        marble: "tally".into(),
        engine: "bench".into(),
        workload: Some(ByteArray::new(TALLY)),
        package: None,
        configuration: ByteArray::new([0; 32]),
    }
    .to_bytes()
}

/// Appraise, decide, render, certify; beside the appraisal alone and the signature that a certificate needs.
fn activation() {
    let (state, keep, key) = (running(), keep_on(Platform::Snp), TeeKey::generate().unwrap());
    let nonce = [5; 32];
    let statement = Statement::issue(&*keep, Role::Keep, key.digest(), &nonce, claims()).unwrap();
    let verifier = verifier();
    let appraise = |expectations: &Expectations| {
        let expected = Expected {
            role: Role::Keep,
            key: *key.digest(),
            nonce: &nonce,
            measurements: &expectations.measurements,
            policy: &expectations.policy,
            now: NOW,
        };
        statement.appraise(&expected, &verifier).unwrap()
    };
    let expectations = core::expectations(&state, Platform::Snp, &claims(), NOW).unwrap();
    let raw = || {
        appraise(&expectations);
        state.mesh().unwrap().intermediate().sign(b"a certificate's worth").unwrap();
    };
    let peer = attest(&state, &keep, &key, "tally", TALLY).unwrap();
    let whole = || {
        appraise(&core::expectations(&state, Platform::Snp, &claims(), NOW).unwrap());
        crate::world::activate(&state, &peer, 1, NOW).unwrap().admit(&state, NOW).unwrap();
    };
    let (raw, raw_two) = (rate(1, raw), rate(2, raw));
    let (one, two) = (rate(1, whole), rate(2, whole));
    let (ratio, beyond) = (raw / one, (1.0 / one - 1.0 / raw) * 1e3);
    println!(
        "activation without the disk, one thread: {one:.0} /s; raw crypto {raw:.0} /s, ratio {ratio:.2}"
    );
    println!("  beyond raw crypto: {beyond:.3} ms (expected ≤ 2.5 ms)");
    println!(
        "the same on two threads: {two:.0} /s, {:.2} times one; raw crypto {:.2} times",
        two / one,
        raw_two / raw
    );
}

/// A TEE for the store.
fn tee() -> Arc<EmulatedTee> {
    EmulatedTee::launch(Platform::Tdx, b"bench", b"")
}

fn open(path: &Path) -> (Store, Option<State>, core::IdentityKey) {
    let Opening::Open(opened) = Store::open(path, &*tee()).unwrap() else { panic!("locked") };
    let Opened { store, snapshot, records, identity } = opened;
    let first = store.length() - store.since_snapshot();
    let state = State::resume(snapshot.as_deref().map(Vec::as_slice), first, &records, &identity).unwrap();
    (store, state, identity)
}

/// What a start finds, and what it costs.
fn started_again(path: &Path) -> (Store, State) {
    let opening = Instant::now();
    let (store, state, _) = open(path);
    let opening = opening.elapsed().as_secs_f64() * 1e3;
    let (state, replayed) = (state.unwrap(), store.since_snapshot());
    println!(
        "  start: {opening:.0} ms with {replayed} records after the snapshot; epoch {}, {} parts, {} MiB on disk, {} MiB resident",
        state.mesh().unwrap().epoch(),
        state.size(),
        std::fs::metadata(path).unwrap().len() >> 20,
        resident()
    );
    (store, state)
}

fn resident() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
    line.trim().trim_end_matches(" kB").parse::<u64>().unwrap() / 1024
}

/// 10 000 secrets, then activations in batches as group commit makes them, with snapshots as far apart as the
/// service's. One every 4 seconds of the mesh's clock, so that about 10 800 have a certificate at any time.
fn growth() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("state.redb");
    let (mut store, _, identity) = open(&path);
    let founded = core::found(true, &identity, NOW).unwrap();
    let record = founded.to_record();
    let (mut state, entry) = State::begin_logged(founded, identity).unwrap();
    let mut text = manifest();
    for index in 0..10_000 {
        let name = format!("s{index}");
        text["Marbles"]["asker"]["Parameters"]["Env"][&name] =
            json!(format!("{{{{ hex .Secrets.{name} }}}}"));
        text["Secrets"][name] = json!({ "Type": "symmetric-key", "Size": 256, "Shared": true });
    }
    let event = set(&state, &text).unwrap();
    let second = event.to_record();
    let (next, more) = state.step_logged(event).unwrap();
    state = next;
    store.append_with(&[record, second], &[entry, more], Shares::Keep).unwrap();
    let (mut done, mut start) = (0_u64, Instant::now());
    for mark in [20_000, 100_000] {
        let before = done;
        while done < mark {
            let (mut records, mut entries) = (Vec::new(), Vec::new());
            for _ in 0..100 {
                let mut instance = [0; 32];
                instance[..8].copy_from_slice(&done.to_be_bytes());
                let instance = ByteArray::new(instance);
                let serial = ByteArray::new(instance[..16].try_into().unwrap());
                let at = NOW.0 + 4 * i64::try_from(done).unwrap();
                let event = core::Event::Activated {
                    marble: "tally".into(),
                    instance,
                    epoch: 1,
                    release: None,
                    package: None,
                    seat: core::Seat {
                        platform: Platform::Snp,
                        machine: Some("snp:01".into()),
                        emulated: false,
                        native: false,
                    },
                    delivered: [("salt".to_owned(), core::Delivery::Versions([1].into()))].into(),
                    certificates: vec![core::Issued { serial, until: at + 43_200 }],
                    at,
                };
                records.push(event.to_record());
                let (next, more) = state.clone().step_logged(event).unwrap();
                state = next;
                entries.push(more);
                done += 1;
            }
            store.append_with(&records, &entries, Shares::Keep).unwrap();
            if store.is_heavy() || state.snapshot_due(store.since_snapshot(), 4096) {
                let (length, head) = (store.length(), store.head());
                store.snapshot(length, &head, &state.to_snapshot().unwrap()).unwrap();
            }
        }
        let each = start.elapsed().as_secs_f64() / (done - before) as f64 * 1e6;
        println!("10 000 secrets, activations {before} to {done}: {each:.0} µs each to commit, 100 together");
        drop((store, state));
        (store, state) = started_again(&path);
        start = Instant::now();
    }
}

/// 1 000 updates of a manifest: what each costs, and the start after them.
fn updates() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("state.redb");
    let (mut store, _, identity) = open(&path);
    let founded = core::found(true, &identity, NOW).unwrap();
    let record = founded.to_record();
    let (mut state, entry) = State::begin_logged(founded, identity).unwrap();
    store.append_with(&[record], &[entry], Shares::Keep).unwrap();
    let mut text = manifest();
    text["Roles"]["admin"] = json!({ "ResourceType": "Manifest", "Actions": ["UpdateManifest"] });
    text["Users"]["writer"]["Roles"].as_array_mut().unwrap().push(json!("admin"));
    for index in 0..200 {
        text["Secrets"][format!("s{index}")] =
            json!({ "Type": "symmetric-key", "Size": 256, "Shared": true });
    }
    let writer = world::caller(&people().writer);
    let mut pending = vec![set(&state, &text).unwrap()];
    let mut start = Instant::now();
    for done in 0..=1000_u32 {
        if done > 0 {
            text["Marbles"]["tally"]["MaxActivations"] = json!(1_000_000 + done);
            let bytes = text.to_string().into_bytes();
            pending = crate::world::update(&state, &writer, bytes, [].into(), NOW).unwrap().0;
        }
        let (mut records, mut entries) = (Vec::new(), Vec::new());
        for event in pending.drain(..) {
            records.push(event.to_record());
            let (next, more) = state.step_logged(event).unwrap();
            state = next;
            entries.push(more);
        }
        store.append_with(&records, &entries, Shares::Keep).unwrap();
        if store.is_heavy() || state.snapshot_due(store.since_snapshot(), 4096) {
            let (length, head) = (store.length(), store.head());
            store.snapshot(length, &head, &state.to_snapshot().unwrap()).unwrap();
        }
        if matches!(done, 100 | 1000) {
            let each = start.elapsed().as_secs_f64() / f64::from(if done == 100 { 100 } else { 900 }) * 1e3;
            println!(
                "updates of a manifest of {} KiB, up to {done}: {each:.1} ms each",
                text.to_string().len() >> 10
            );
            drop((store, state));
            (store, state) = started_again(&path);
            start = Instant::now();
        }
    }
}

struct Accepting(Arc<EmulatedTee>);

impl PeerPolicy for Accepting {
    fn role(&self) -> Role {
        Role::Coordinator
    }

    fn expectations(&self, _: Platform, _: &[u8]) -> Result<Expectations, ClaimsRefused> {
        Ok(Expectations { policy: testkit::tee::policy(), measurements: vec![self.0.reference()] })
    }
}

/// 1 000 Keeps at once, client and server on the same cores; then what everyone may read.
async fn network() {
    let configuration = CoordinatorConfiguration {
        owner: *people().owner.digest(),
        names: vec!["localhost".into()],
        tpm: None,
    };
    let tee = EmulatedTee::launch(Platform::Tdx, b"bailey-coordinator", &configuration.to_json());
    let directory = tempfile::tempdir().unwrap();
    with_manifest(&directory.path().join("state.redb"), &tee);
    let hints =
        HostHints { state: directory.path().into(), endorsements: Vec::new(), ..HostHints::default() };
    let coordinator = Coordinator::open(tee.clone(), configuration, &hints, clock::fixed(NOW)).unwrap();
    let client = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let mesh = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let (api, address) = (client.local_addr().unwrap(), mesh.local_addr().unwrap());
    let listeners = Listeners { client, mesh, marbles: None, metrics: None, broker: None };
    tokio::spawn(coordinator.serve(listeners, tokio_util::sync::CancellationToken::new()));

    let mut connections = Vec::new();
    for _ in 0..1000 {
        connections.push(join(address, tee.clone()).await);
    }
    let start = Instant::now();
    let activate = |mut keep: MeshClient<tonic::transport::Channel>| {
        tokio::spawn(async move {
            keep.activate(ActivateRequest {}).await.unwrap();
            start.elapsed()
        })
    };
    let activations: Vec<_> = connections.into_iter().map(activate).collect();
    let mut times = Vec::new();
    for activation in activations {
        times.push(activation.await.unwrap());
    }
    times.sort();
    let (median, late) = (times[500].as_secs_f64() * 1e3, times[990].as_secs_f64() * 1e3);
    println!("1 000 concurrent activations on attested connections, none failed: median {median:.1} ms");
    println!("  99th percentile {late:.1} ms, {:.1} times the median (expected ≤ 10)", late / median);
    println!("  {:.0} /s", 1000.0 / times[999].as_secs_f64());
    reads(api).await;
}

/// A mesh that was there before the coordinator starts.
fn with_manifest(path: &Path, tee: &EmulatedTee) {
    let Opening::Open(mut opened) = Store::open(path, tee).unwrap() else { panic!("locked") };
    let founded = core::found(true, &opened.identity, NOW).unwrap();
    let first = founded.to_record();
    let (state, entry) = State::begin_logged(founded, opened.identity).unwrap();
    let set = set(&state, &manifest()).unwrap();
    let second = set.to_record();
    let entries = [entry, state.step_logged(set).unwrap().1];
    opened.store.append_with(&[first, second], &entries, Shares::Keep).unwrap();
}

/// Requests a second from many kept connections, beside a server that answers ten bytes and does nothing else.
async fn reads(api: SocketAddr) {
    let yardstick = bare().await;
    let bare = requests(yardstick, "/").await;
    println!(
        "{CONNECTIONS} kept TLS connections, client and server on the same cores; a bare server: {bare:.0} /s"
    );
    for path in ["/api/v2/status", "/api/v3/evidence"] {
        let each = requests(api, path).await;
        println!("  {path}: {each:.0} /s (expected ≥ 10 000), {:.2} of the bare server", each / bare);
    }
}

const CONNECTIONS: usize = 16;

async fn requests(address: SocketAddr, path: &'static str) -> f64 {
    let clients: Vec<_> = (0..CONNECTIONS).map(|_| tokio::spawn(client(address, path))).collect();
    let mut count = 0;
    for client in clients {
        count += client.await.unwrap();
    }
    f64::from(count) / FOR.as_secs_f64()
}

async fn client(address: SocketAddr, path: &'static str) -> u32 {
    let config = unverified_client(None, clock::fixed(NOW)).unwrap();
    let stream = TcpStream::connect(address).await.unwrap();
    let stream = TlsConnector::from(config).connect("localhost".try_into().unwrap(), stream).await.unwrap();
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.unwrap();
    tokio::spawn(connection);
    let (start, mut count) = (Instant::now(), 0_u32);
    while start.elapsed() < FOR {
        let request = Request::get(path).header("host", "localhost").body(Empty::<Bytes>::new());
        sender.ready().await.unwrap();
        let answer = sender.send_request(request.unwrap()).await.unwrap();
        assert!(answer.status().is_success());
        answer.into_body().collect().await.unwrap();
        count += 1;
    }
    count
}

/// The yardstick: the same TLS and HTTP libraries, and ten bytes.
async fn bare() -> SocketAddr {
    let key = TeeKey::generate().unwrap();
    let chain = vec![key.certificate().clone()];
    let tls = attested_tls::service::server(chain, key.private_key(), clock::fixed(NOW)).unwrap();
    let (acceptor, listener) = (TlsAcceptor::from(tls), TcpListener::bind("127.0.0.1:0").await.unwrap());
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        loop {
            let (stream, _) = listener.accept().await.unwrap();
            stream.set_nodelay(true).unwrap();
            let acceptor = acceptor.clone();
            tokio::spawn(async move {
                let stream = acceptor.accept(stream).await.unwrap();
                let answer = async |_| {
                    Ok::<_, Infallible>(Response::new(Full::new(Bytes::from_static(b"ten bytes!"))))
                };
                let service = hyper::service::service_fn(answer);
                let _ = hyper::server::conn::http1::Builder::new()
                    .serve_connection(TokioIo::new(stream), service)
                    .await;
            });
        }
    });
    address
}

async fn join(address: SocketAddr, tee: Arc<EmulatedTee>) -> MeshClient<tonic::transport::Channel> {
    let party = Party {
        role: Role::Keep,
        key: Arc::new(TeeKey::generate().unwrap()),
        tee: keep_on(Platform::Snp),
        clock: clock::fixed(NOW),
        verifier: Arc::new(verifier()),
    };
    let stream = TcpStream::connect(address).await.unwrap();
    let attested = channel::connect(stream, &party, claims(), &Accepting(tee)).await.unwrap();
    let mut once = Some(TokioIo::new(attested));
    let connector = tower::service_fn(move |_| {
        let stream = once.take().ok_or_else(|| io::Error::other("used up"));
        async move { stream }
    });
    let endpoint = Endpoint::from_static("http://coordinator");
    MeshClient::new(endpoint.connect_with_connector(connector).await.unwrap())
}

//! What a Keep costs: loading a component, and a request through two Keeps (mutual TLS between them) against the
//! same components under plain wasmtime without TLS. Prints medians and ratios.

use std::{
    net::SocketAddr,
    sync::Arc,
    time::{Duration, Instant},
};

use attested_tls::clock;
use bytes::Bytes;
use http::Request;
use http_body_util::{BodyExt, Empty};
use hyper::client::conn::http1::{self, SendRequest};
use hyper_util::rt::TokioIo;
use keep::{
    admission::{Admission, Limits},
    cache::Cache,
    net::{HTTP, Identity, Net},
    runtime::Runtime,
};
use keep_config::KeepConfig;
use rustls::pki_types::ServerName;
use tokio::{net::TcpStream, sync::watch};
use tokio_rustls::TlsConnector;
use zeroize::Zeroizing;

#[path = "../../tests/it/pki.rs"]
#[expect(dead_code, reason = "the tests' other identities are not measured")]
mod pki;
mod plain;
mod rate;
mod throughput;
#[path = "../../tests/it/workloads.rs"]
#[expect(dead_code, reason = "the tests' other workloads are not measured")]
mod workloads;

const OPTIONS: &str = "tea:Tea,coffee:Coffee";
const QUESTION: &str = "Tea or coffee?";
const WARM_UP: usize = 50;
const REQUESTS: usize = 500;
const LOADS: usize = 9;

fn main() {
    tracing_subscriber::fmt().with_max_level(tracing::Level::WARN).with_writer(std::io::stderr).init();
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().expect("threads");
    let (frontend, tally) = (workloads::component("frontend"), workloads::component("tally"));
    loading(&frontend);
    runtime.block_on(throughput::measure());
    runtime.block_on(requests(&frontend, &tally));
}

fn loading(component: &[u8]) {
    let directory = tempfile::tempdir().expect("a directory");
    let cache = Cache::new(directory.path(), Zeroizing::new([1; 32]));
    let limits = Limits::default();
    let engine = median(LOADS, || drop(Runtime::new(limits.pool())));
    let runtime = Runtime::new(limits.pool()).expect("an engine");
    let compile = median(LOADS, || drop(runtime.load(component, None)));
    runtime.load(component, Some(&cache)).expect("a component");
    let cached = median(LOADS, || {
        assert!(runtime.load(component, Some(&cache)).is_ok_and(|workload| workload.from_cache()));
    });
    report("engine", engine, None);
    report("load, compiled", compile, None);
    report("load, from cache", cached, Some(("compiled", compile)));
}

async fn requests(frontend: &[u8], tally: &[u8]) {
    let root = Arc::new(pki::Root::new());
    let keep_tally = keep(tally, admission("tally", &[]), root.mutual("tally", &root)).await;
    let keep_frontend =
        keep(frontend, admission("frontend", &[("tally", keep_tally)]), root.public("frontend")).await;
    let plain_tally = plain::serve(tally, admission("tally", &[])).await;
    let plain_frontend = plain::serve(frontend, admission("frontend", &[("tally", plain_tally)])).await;

    for (name, path) in [
        ("one instance (/style.css)", "/style.css"),
        ("two instances (/results.json)", "/results.json"),
        ("two instances (/)", "/"),
    ] {
        let mut keeps = over_tls(keep_frontend, &root).await;
        let mut plain = over_tcp(plain_frontend).await;
        let (mut with, mut without) = (Vec::new(), Vec::new());
        // In turns, so that whatever else the machine does falls on both.
        for round in 0..WARM_UP + REQUESTS {
            let (a, b) = (timed(&mut keeps, path).await, timed(&mut plain, path).await);
            if round >= WARM_UP {
                with.push(a);
                without.push(b);
            }
        }
        report(&format!("{name}, Keeps with TLS"), middle(&mut with), Some(("plain", middle(&mut without))));
    }
    rate::measure("/style.css", keep_frontend, plain_frontend, &root).await;
}

fn admission(marble: &str, peers: &[(&str, SocketAddr)]) -> Admission {
    let mut admission = Admission { marble: marble.into(), ..Admission::default() };
    admission.env.insert("POLL_OPTIONS".into(), OPTIONS.into());
    admission.env.insert("TALLY_SALT".into(), "0123456789abcdef".into());
    admission.files.insert("/poll/question.txt".into(), Zeroizing::new(QUESTION.as_bytes().to_vec()));
    admission.peers.extend(peers.iter().map(|(name, address)| ((*name).to_owned(), address.to_string())));
    admission
}

async fn keep(component: &[u8], admission: Admission, identity: Identity) -> SocketAddr {
    let runtime = Runtime::new(admission.limits.pool()).expect("an engine");
    let workload = runtime.load(component, None).expect("a component");
    let (identities, identity) = watch::channel(Arc::new(identity));
    let config =
        KeepConfig::parse("[http]\nprot = \"tls\"\naddr = \"127.0.0.1\"\nport = 0").expect("a configuration");
    let net = Net::new(&config, admission.peers.clone(), identity, clock::system()).expect("a network");
    let listener = net.listen(&config.http.listen, HTTP).expect("a port");
    let address = listener.local_addr();
    tokio::spawn(async move {
        let _identities = identities;
        keep::serve(workload, admission, net, listener, std::future::pending()).await
    });
    address
}

type Sender = SendRequest<Empty<Bytes>>;

async fn over_tls(address: SocketAddr, root: &pki::Root) -> Sender {
    let connector = TlsConnector::from(root.client(root, &[b"http/1.1"]));
    let stream = connector.connect(ServerName::from(address.ip()), tcp(address).await).await.expect("TLS");
    let (sender, connection) = http1::handshake(TokioIo::new(stream)).await.expect("HTTP");
    tokio::spawn(connection);
    sender
}

async fn over_tcp(address: SocketAddr) -> Sender {
    let (sender, connection) = http1::handshake(TokioIo::new(tcp(address).await)).await.expect("HTTP");
    tokio::spawn(connection);
    sender
}

async fn tcp(address: SocketAddr) -> TcpStream {
    let stream = TcpStream::connect(address).await.expect("a connection");
    stream.set_nodelay(true).expect("a socket option");
    stream
}

async fn timed(sender: &mut Sender, path: &str) -> Duration {
    sender.ready().await.expect("a connection");
    let request = Request::get(path).header("host", "bench").body(Empty::new()).expect("a request");
    let begun = Instant::now();
    let response = sender.send_request(request).await.expect("an answer");
    let status = response.status();
    let body = response.into_body().collect().await.expect("a body").to_bytes();
    let elapsed = begun.elapsed();
    assert!(status.is_success(), "{path}: {status} {}", String::from_utf8_lossy(&body));
    elapsed
}

fn median(times: usize, mut act: impl FnMut()) -> Duration {
    let mut durations: Vec<_> = (0..times)
        .map(|_| {
            let begun = Instant::now();
            act();
            begun.elapsed()
        })
        .collect();
    middle(&mut durations)
}

fn middle(durations: &mut [Duration]) -> Duration {
    durations.sort();
    durations[durations.len() / 2]
}

fn report(name: &str, median: Duration, yardstick: Option<(&str, Duration)>) {
    let against = yardstick.map_or_else(String::new, |(name, yardstick)| {
        let ratio = median.as_secs_f64() / yardstick.as_secs_f64();
        format!("   {name} {yardstick:>10.1?}   ratio {ratio:.2}")
    });
    println!("{name:<48} median {median:>10.1?}{against}");
}

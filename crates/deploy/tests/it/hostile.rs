//! A host that is hostile. What it can do is to refuse, to delay and to break off; each attempt at more has a name, by
//! which the client or the Keep refuses it, or has no effect. (S-nn: docs on attacks.)

use std::{net::SocketAddr, sync::Arc, time::Duration};

use appraisal::{Policy, UnixTime};
use attested_tls::{direct, key::TeeKey, launch::DirectConfiguration};
use deploy::{DeployError, Host, Silent, Streams, Wanted};
use evidence::Platform;
use http::StatusCode;
use hyper_util::rt::TokioIo;
use keep_protocol::{
    Message,
    host::{HostError, HostErrorCode},
    keep::Outcome,
};
use testkit::tee::{EmulatedTee, NOW};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};

use crate::{
    agent::{Agent, honest},
    modules,
    world::{CODE, Came, Keep, deploy_to, deployment, run, tee, wanted},
};

type Client = TokioIo<hyper::upgrade::Upgraded>;

/// Deploys `hello` through this host.
async fn through(host: &Host, wanted: &Wanted) -> Came {
    let (mut stdout, mut stderr) = (Vec::new(), Vec::new());
    let streams = Streams { stdin: Box::new(&b""[..]), stdout: &mut stdout, stderr: &mut stderr };
    let deployment = deployment(modules::hello());
    let ran = deploy::deploy(host, wanted, &deployment, streams, &mut Silent, std::future::pending()).await;
    let text = |bytes| String::from_utf8(bytes).unwrap();
    Came { ran, stdout: text(stdout), stderr: text(stderr) }
}

/// A host that does this with the channel to a good Keep.
async fn relaying<F, R>(keep: SocketAddr, relay: F) -> Came
where
    F: Fn(Client, SocketAddr) -> R + Send + Sync + 'static,
    R: Future<Output = ()> + Send + 'static,
{
    let agent =
        Agent { relay: Arc::new(move |client, keep| Box::pin(relay(client, keep))), ..Agent::of(keep) };
    through(&agent.serve().await, &wanted()).await
}

#[tokio::test(flavor = "multi_thread")]
async fn an_honest_host_relays() {
    let keep = Keep::start().await;
    let came = relaying(keep.address, honest).await;
    assert_eq!(came.ran.unwrap().outcome, Outcome::Exit { code: 0 });
    assert_eq!(came.stdout, "hello\n");
    keep.served.await.unwrap();
}

/// The host deploys a workload of its own first, and lets the client meet what runs it.
#[tokio::test(flavor = "multi_thread")]
async fn a_workload_that_was_swapped_before_the_client_came() {
    let keep = Keep::start().await;
    let address = keep.address;
    let hosts = tokio::spawn(async move { deploy_to(address, &deployment(modules::spins()), b"").await });
    tokio::time::sleep(Duration::from_millis(500)).await;
    let came = relaying(keep.address, honest).await;
    assert_eq!(came.codes(), ["KEEP_TAKEN"]);
    hosts.abort();
    keep.served.await.unwrap();
}

/// The host alters what passes. Each record of TLS is authenticated.
#[tokio::test(flavor = "multi_thread")]
async fn a_workload_that_is_altered_on_its_way() {
    let keep = Keep::start().await;
    let came = relaying(keep.address, |client, keep| {
        altering(client, keep, |bytes| *bytes.last_mut().unwrap() ^= 1)
    })
    .await;
    assert!(matches!(came.ran, Err(DeployError::Lost(_) | DeployError::Keep(_))), "{came:?}");
    assert_eq!(came.stdout, "");
    // Where the host's change hits before the Keep is the client's, the Keep waits on.
    keep.served.abort();
}

/// Forwards, but changes what the client says after the handshake, from the 8th kilobyte on.
async fn altering(client: Client, keep: SocketAddr, change: fn(&mut Vec<u8>)) {
    let keep = TcpStream::connect(keep).await.unwrap();
    let (mut from_client, mut to_client) = tokio::io::split(client);
    let (mut from_keep, mut to_keep) = keep.into_split();
    let back = tokio::spawn(async move {
        let _ = tokio::io::copy(&mut from_keep, &mut to_client).await;
        let _ = to_client.shutdown().await;
    });
    let (mut buffer, mut seen) = (vec![0; 16 << 10], 0);
    while let Ok(read @ 1..) = from_client.read(&mut buffer).await {
        let mut bytes = buffer[..read].to_vec();
        seen += 1;
        // The third time that the client speaks, the handshakes are over.
        if seen > 3 {
            change(&mut bytes);
        }
        if to_keep.write_all(&bytes).await.is_err() {
            break;
        }
    }
    drop(to_keep);
    let _ = back.await;
}

/// The launch configuration says that the Keep is for something else.
#[tokio::test(flavor = "multi_thread")]
async fn s24_another_launch_configuration() {
    for configuration in
        [DirectConfiguration { version: 2 }.to_json(), br#"{"direct":{"version":1} }"#.to_vec()]
    {
        let keep = Keep::start_as(EmulatedTee::launch(Platform::Snp, CODE, &configuration), NOW, None).await;
        let came = relaying(keep.address, honest).await;
        assert_eq!(came.codes(), ["LAUNCH_CONFIGURATION_MISMATCH"]);
        assert!(!keep.served.is_finished(), "nobody was served");
    }
}

/// Other code, with the same words.
#[tokio::test(flavor = "multi_thread")]
async fn another_program_in_the_place_of_the_keep() {
    let configuration = DirectConfiguration { version: 1 }.to_json();
    let keep = Keep::start_as(EmulatedTee::launch(Platform::Snp, b"host's", &configuration), NOW, None).await;
    let came = relaying(keep.address, honest).await;
    assert_eq!(came.codes(), ["MEASUREMENT_MISMATCH"]);
}

/// The host's own environment and arguments are not the workload's.
#[tokio::test(flavor = "multi_thread")]
async fn s24_environment_and_arguments_of_the_host() {
    assert!(std::env::args().count() > 0);
    let came = run(&deployment(modules::environment()), b"").await;
    assert_eq!(came.stdout, "FD_COUNT=3\0FD_NAMES=stdin:stdout:stderr\0");
    let came = run(&deployment(modules::args()), b"").await;
    assert_eq!(came.stdout, "main.wasm\0");
}

/// A TLS server of the host's, which asks a real Keep for Evidence when it is asked.
#[tokio::test(flavor = "multi_thread")]
async fn s02_evidence_of_a_keep_that_is_somewhere_else() {
    let keep = Keep::start().await;
    let came = relaying(keep.address, |client, keep| async move {
        let config = terminating();
        let Ok(mut client) = tokio_rustls::TlsAcceptor::from(config).accept(client).await else { return };
        let keep = TcpStream::connect(keep).await.unwrap();
        let mut keep = connecting(keep).await;
        let _ = tokio::io::copy_bidirectional(&mut client, &mut keep).await;
    })
    .await;
    assert_eq!(came.codes(), ["REPORT_DATA_MISMATCH"]);
    assert!(!keep.served.is_finished(), "the Keep serves nobody whom it did not satisfy");
}

fn terminating() -> Arc<rustls::ServerConfig> {
    let key = TeeKey::generate().unwrap();
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let mut config = rustls::ServerConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS13])
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![key.certificate().clone()], key.private_key())
        .unwrap();
    config.alpn_protocols = vec![direct::ALPN.to_vec()];
    Arc::new(config)
}

/// The host's own TLS connection to the Keep, with a client certificate of the host's.
async fn connecting(keep: TcpStream) -> tokio_rustls::client::TlsStream<TcpStream> {
    let key = TeeKey::generate().unwrap();
    let clock = attested_tls::clock::fixed(NOW);
    let mut config = attested_tls::unattested::client_config_for_anyone(clock).unwrap();
    let provider = rustls::crypto::aws_lc_rs::default_provider();
    let chain = vec![key.certificate().clone()];
    let shown = rustls::sign::CertifiedKey::from_der(chain, key.private_key(), &provider).unwrap();
    config.client_auth_cert_resolver = Arc::new(rustls::sign::SingleCertAndKey::from(shown));
    config.alpn_protocols = vec![direct::ALPN.to_vec()];
    let name = rustls::pki_types::ServerName::try_from("localhost").unwrap();
    tokio_rustls::TlsConnector::from(Arc::new(config)).connect(name, keep).await.unwrap()
}

/// What a client said to one Keep, said to another.
#[tokio::test(flavor = "multi_thread")]
async fn s15_a_session_that_is_replayed() {
    let (first, second) = (Keep::start().await, Keep::start().await);
    let recorded = Arc::new(std::sync::Mutex::new(Vec::new()));
    let record = Arc::clone(&recorded);
    let came = relaying(first.address, move |client, keep| {
        let record = Arc::clone(&record);
        async move {
            let keep = TcpStream::connect(keep).await.unwrap();
            let (mut from_client, mut to_client) = tokio::io::split(client);
            let (mut from_keep, mut to_keep) = keep.into_split();
            tokio::spawn(async move { tokio::io::copy(&mut from_keep, &mut to_client).await });
            let mut buffer = vec![0; 16 << 10];
            while let Ok(read @ 1..) = from_client.read(&mut buffer).await {
                record.lock().unwrap().extend_from_slice(&buffer[..read]);
                let _ = to_keep.write_all(&buffer[..read]).await;
            }
        }
    })
    .await;
    assert!(came.ran.is_ok(), "{came:?}");
    let recorded = recorded.lock().unwrap().clone();
    let mut replay = TcpStream::connect(second.address).await.unwrap();
    replay.write_all(&recorded).await.unwrap();
    let mut heard = Vec::new();
    let _ = replay.read_to_end(&mut heard).await;
    // It runs nothing, and is free for who comes next.
    assert!(!second.served.is_finished());
    assert_eq!(deploy_to(second.address, &deployment(modules::hello()), b"").await.stdout, "hello\n");
}

/// Two pieces of what the client says change places.
#[tokio::test(flavor = "multi_thread")]
async fn messages_that_are_reordered() {
    let keep = Keep::start().await;
    let came = relaying(keep.address, |client, keep| {
        altering(client, keep, |bytes| {
            let middle = bytes.len() / 2;
            bytes.rotate_left(middle.max(1));
        })
    })
    .await;
    assert!(matches!(came.ran, Err(DeployError::Lost(_) | DeployError::Keep(_))), "{came:?}");
    assert_eq!(came.stdout, "");
}

/// The end that is missing is never taken for an end.
#[tokio::test(flavor = "multi_thread")]
async fn an_answer_that_is_cut_off() {
    let keep = Keep::start().await;
    let address = keep.address;
    let agent = Agent {
        relay: Arc::new(|mut client, keep| {
            Box::pin(async move {
                let mut keep = TcpStream::connect(keep).await.unwrap();
                let relayed = tokio::io::copy_bidirectional(&mut client, &mut keep);
                let _ = tokio::time::timeout(Duration::from_millis(1500), relayed).await;
            })
        }),
        ..Agent::of(address)
    };
    let (mut stdout, mut stderr) = (Vec::new(), Vec::new());
    let streams = Streams { stdin: Box::new(&b""[..]), stdout: &mut stdout, stderr: &mut stderr };
    let (host, deployment) = (agent.serve().await, deployment(modules::spins()));
    let ran =
        deploy::deploy(&host, &wanted(), &deployment, streams, &mut Silent, std::future::pending()).await;
    assert_eq!(ran.unwrap_err().codes(), ["KEEP_LOST"]);
    assert_eq!(stdout, b"hello\n");
    keep.served.await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn two_clients_at_one_keep() {
    let keep = Keep::start().await;
    let (one, other) = tokio::join!(relaying(keep.address, honest), relaying(keep.address, honest));
    let (served, refused): (Vec<Came>, Vec<Came>) =
        [one, other].into_iter().partition(|came| came.ran.is_ok());
    assert_eq!((served.len(), refused.len()), (1, 1));
    assert_eq!(served[0].stdout, "hello\n");
    assert!(matches!(refused[0].codes()[0].as_str(), "KEEP_TAKEN" | "CHANNEL_BROKEN"), "{refused:?}");
    assert_eq!(refused[0].stdout, "");
    keep.served.await.unwrap();
}

/// The Keep's clock is the host's; nothing that is decided here hangs on it. The client's clock is its own: what its
/// vendor signed long ago is refused.
#[tokio::test(flavor = "multi_thread")]
async fn s19_a_clock_that_is_wrong() {
    for now in [UnixTime(0), UnixTime(NOW.0 + 50 * 365 * 86_400)] {
        let keep = Keep::start_as(tee(), now, None).await;
        let came = relaying(keep.address, honest).await;
        assert_eq!(came.ran.unwrap().outcome, Outcome::Exit { code: 0 });
    }
    let keep = Keep::start().await;
    let later = attested_tls::clock::fixed(UnixTime(NOW.0 + 50 * 365 * 86_400));
    let stream = TcpStream::connect(keep.address).await.unwrap();
    let Err(DeployError::Keep(error)) = deploy::verify(stream, later, &wanted(), &mut Silent).await else {
        panic!("Evidence of fifty years ago")
    };
    assert!(
        error.refused().is_some() && error.codes().iter().any(|code| code.contains("EXPIRED")),
        "{error:?}"
    );
}

/// The client's nonce and key are its own in every session, so a Keep whose host chose its random numbers for it, and
/// which would say the same twice, proves nothing the second time. Whether a Keep's own randomness is good is its TEE's
/// affair (RDRAND) and cannot be seen from outside.
#[tokio::test(flavor = "multi_thread")]
async fn s22_sessions_are_new_by_the_clients_entropy() {
    let mut seen = std::collections::BTreeSet::new();
    for _ in 0..3 {
        let keep = Keep::start().await;
        let stream = TcpStream::connect(keep.address).await.unwrap();
        let clock = attested_tls::clock::fixed(NOW);
        let verified = deploy::verify(stream, clock, &wanted(), &mut Silent).await.unwrap();
        seen.insert(verified.peer().presented.report_data.0);
    }
    assert_eq!(seen.len(), 3);
}

/// Compiled code on the host's disk that the host put there: not used, and what was deployed runs.
#[tokio::test(flavor = "multi_thread")]
async fn s56_storage_that_was_changed() {
    let folder = tempfile::tempdir().unwrap();
    let mut files = Vec::new();
    for round in 0..2 {
        let keep = Keep::start_as(tee(), NOW, Some(folder.path().into())).await;
        let came = relaying(keep.address, honest).await;
        assert_eq!(came.stdout, "hello\n", "round {round}");
        keep.served.await.unwrap();
        files = std::fs::read_dir(folder.path()).unwrap().map(|entry| entry.unwrap().path()).collect();
        assert!(!files.is_empty(), "there is something to change");
        for file in &files {
            let mut bytes = std::fs::read(file).unwrap();
            let middle = bytes.len() / 2;
            bytes[middle] ^= 1;
            std::fs::write(file, bytes).unwrap();
        }
    }
    assert!(!files.is_empty());
}

/// The host says that its Keep is on hardware.
#[tokio::test(flavor = "multi_thread")]
async fn s40_an_emulated_keep_that_is_called_real() {
    let keep = Keep::start().await;
    let strict = Wanted { policy: Policy::production(), ..wanted() };
    let agent = Agent::of(keep.address);
    let asked = Arc::clone(&agent.asked);
    let came = through(&agent.serve().await, &strict).await;
    assert_eq!(came.codes(), ["ROOT_NOT_TRUSTED"]);
    assert!(
        asked.lock().unwrap().iter().any(|request| request.starts_with("DELETE ")),
        "the Keep is given back"
    );
}

/// Answers that are none, too long, for somebody else, or a refusal.
#[tokio::test(flavor = "multi_thread")]
async fn answers_of_the_host_are_read_strictly() {
    let keep = Keep::start().await;
    let draining = HostError::new(HostErrorCode::Draining, "not today").to_bytes();
    let cases = [
        ("/v1", StatusCode::OK, b"<html>".to_vec(), "HOST_MALFORMED"),
        ("/v1", StatusCode::OK, vec![0; 1 << 20], "HOST_UNREACHABLE"),
        ("/v1", StatusCode::NOT_FOUND, b"no".to_vec(), "HOST_MALFORMED"),
        ("/v1/keeps", StatusCode::OK, crate::agent::info().to_bytes(), "HOST_MALFORMED"),
        ("/v1/keeps", StatusCode::SERVICE_UNAVAILABLE, draining, "DRAINING"),
    ];
    for (path, status, bytes, code) in cases {
        let agent = Agent { instead: Some((path, status, bytes)), ..Agent::of(keep.address) };
        let came = through(&agent.serve().await, &wanted()).await;
        assert_eq!(came.codes(), [code], "{path}");
    }
}

//! Clients that do not follow the protocol.

use bytes::Bytes;
use deploy::Silent;
use http::{Method, Request, StatusCode};
use http_body_util::{BodyExt, Full};
use hyper::client::conn::http2;
use hyper_util::rt::{TokioExecutor, TokioIo};
use keep_protocol::{
    Message, Sequence,
    keep::{Brought, Deploy, FromKeep, Preface, RUN_PATH, Refused, RefusedCode, ToKeep, WorkloadRef},
};
use serde_bytes::{ByteArray, ByteBuf};
use testkit::tee::NOW;
use tokio::net::TcpStream;

use crate::{
    modules,
    world::{Keep, wanted},
};

type Sender = http2::SendRequest<Full<Bytes>>;

async fn connect(keep: &Keep) -> Sender {
    let stream = TcpStream::connect(keep.address).await.unwrap();
    let clock = attested_tls::clock::fixed(NOW);
    let stream = deploy::verify(stream, clock, &wanted(), &mut Silent).await.unwrap();
    let (sender, connection) = http2::handshake(TokioExecutor::new(), TokioIo::new(stream)).await.unwrap();
    tokio::spawn(connection);
    sender
}

async fn say(sender: &mut Sender, method: Method, path: &str, body: Vec<u8>) -> (StatusCode, Vec<FromKeep>) {
    let request = Request::builder().method(method).uri(format!("https://keep{path}"));
    let response = sender.send_request(request.body(Full::new(body.into())).unwrap()).await.unwrap();
    let status = response.status();
    let bytes = response.into_body().collect().await.unwrap().to_bytes();
    let mut preface = Sequence::<Preface>::new();
    preface.push(&bytes);
    assert_eq!(preface.next().unwrap(), Some(Preface::ours()));
    let (mut messages, mut heard) = (Sequence::<FromKeep>::new(), Vec::new());
    messages.push(&preface.rest());
    while let Some(message) = messages.next().unwrap() {
        heard.push(message);
    }
    (status, heard)
}

/// What the Keep says to one request, after which it ends.
async fn refusal(messages: &[Vec<u8>]) -> Refused {
    let keep = Keep::start().await;
    let mut sender = connect(&keep).await;
    let (_, heard) = say(&mut sender, Method::POST, RUN_PATH, messages.concat()).await;
    keep.served.await.unwrap();
    match heard.as_slice() {
        [FromKeep::Refused(refused)] => refused.clone(),
        other => panic!("{other:?}"),
    }
}

fn deploy(size: u64, digest: [u8; 32]) -> Vec<u8> {
    let deploy = Deploy {
        env: vec![],
        args: None,
        config: Some(String::new()),
        secrets: vec![],
        volumes: vec![],
        workload: Brought::Sent(WorkloadRef { size, digest: ByteArray::new(digest) }),
    };
    ToKeep::Deploy(Box::new(deploy)).to_bytes()
}

fn chunk(bytes: &[u8]) -> Vec<u8> {
    ToKeep::Chunk(ByteBuf::from(bytes)).to_bytes()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_newer_client_hears_which_versions_there_are() {
    let refused =
        refusal(&[Preface::of_version(2).to_bytes(), b"\xa1what follows is of no concern".to_vec()]).await;
    assert_eq!((refused.code, refused.versions), (RefusedCode::VersionUnsupported, vec![1]));
}

#[tokio::test(flavor = "multi_thread")]
async fn messages_out_of_order_are_refused() {
    let (ours, hello) = (Preface::ours().to_bytes(), modules::hello());
    let size = hello.len() as u64;
    let digest = keep::runtime::digest(&hello);
    for messages in [
        vec![ours.clone()],
        vec![ours.clone(), ToKeep::StdinEnd {}.to_bytes()],
        vec![ours.clone(), chunk(&hello)],
        vec![ours.clone(), deploy(size, digest), ToKeep::StdinEnd {}.to_bytes()],
        vec![ours.clone(), deploy(size, digest), deploy(size, digest)],
        vec![ours.clone(), deploy(size - 1, digest), chunk(&hello)],
        vec![ours.clone(), deploy(size, digest), chunk(&hello[1..])],
        vec![],
    ] {
        assert_eq!(refusal(&messages).await.code, RefusedCode::OutOfOrder, "{messages:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn s29_other_bytes_than_were_announced_do_not_run() {
    let mut hello = modules::hello();
    let announced = deploy(hello.len() as u64, keep::runtime::digest(&hello));
    *hello.last_mut().unwrap() ^= 1;
    let refused = refusal(&[Preface::ours().to_bytes(), announced, chunk(&hello)]).await;
    assert_eq!(refused.code, RefusedCode::DigestMismatch);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_no_message_is_refused() {
    for noise in [&b"\xff"[..], b"\xa1\x66cancel\xf6", b"\xa0", b"\x5b\xff\xff\xff\xff\xff\xff\xff\xff"] {
        let refused = refusal(&[Preface::ours().to_bytes(), noise.to_vec()]).await;
        assert_eq!(refused.code, RefusedCode::Malformed);
    }
    let refused = refusal(&[b"GET / HTTP/1.1\r\n".to_vec()]).await;
    assert_eq!(refused.code, RefusedCode::Malformed);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_keep_takes_one_deployment() {
    let keep = Keep::start().await;
    let mut sender = connect(&keep).await;
    let (status, heard) = say(&mut sender, Method::GET, RUN_PATH, vec![]).await;
    assert_eq!(status, StatusCode::NOT_FOUND);
    assert!(matches!(&heard[..], [FromKeep::Refused(refused)] if refused.code == RefusedCode::NotFound));

    let spins = modules::spins();
    let announced = deploy(spins.len() as u64, keep::runtime::digest(&spins));
    let body = [Preface::ours().to_bytes(), announced, chunk(&spins)].concat();
    let request = Request::post(format!("https://keep{RUN_PATH}")).body(Full::new(body.into())).unwrap();
    let first = sender.send_request(request).await.unwrap();
    let (status, heard) = say(&mut sender, Method::POST, RUN_PATH, vec![]).await;
    assert_eq!(status, StatusCode::CONFLICT);
    assert!(matches!(&heard[..], [FromKeep::Refused(refused)] if refused.code == RefusedCode::OutOfOrder));
    drop((first, sender));
    keep.served.await.unwrap();
}

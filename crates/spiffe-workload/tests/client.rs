//! Our server, as the public client library for Rust (crate `spiffe`) sees it.

mod issuer;

use std::{
    os::unix::fs::{MetadataExt, PermissionsExt},
    path::{Path, PathBuf},
    sync::atomic::Ordering,
    time::Duration,
};

use issuer::{DOMAIN, Issuer};
use spiffe::{
    JwtSource, JwtSvid, TrustDomain, WorkloadApiClient, WorkloadApiError, X509Source, cert::Certificate,
};
use spiffe_workload::{ListenError, Listener, Peers, clock, serve};
use tempfile::TempDir;
use tokio::task::JoinHandle;
use tokio_stream::StreamExt;
use tonic::{Code, Request};

/// A server, until it is dropped.
struct Served {
    issuer: Issuer,
    directory: TempDir,
    task: JoinHandle<Result<(), std::io::Error>>,
}

impl Drop for Served {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Served {
    async fn start(lifetimes: &[i64]) -> Self {
        let issuer = Issuer::new(lifetimes);
        let directory = tempfile::tempdir().unwrap();
        let listener = Listener::unix(&directory.path().join("api.sock"), Peers::SameUser).unwrap();
        let served = serve(issuer.clone(), listener, clock::system(), std::future::pending());
        Self { issuer, directory, task: tokio::spawn(served) }
    }

    fn path(&self) -> PathBuf {
        self.directory.path().join("api.sock")
    }

    fn endpoint(&self) -> String {
        format!("unix://{}", self.path().display())
    }

    async fn client(&self) -> WorkloadApiClient {
        WorkloadApiClient::connect_to(self.endpoint()).await.unwrap()
    }
}

fn id(path: &str) -> spiffe::SpiffeId {
    format!("spiffe://{DOMAIN}{path}").parse().unwrap()
}

async fn soon<T>(work: impl Future<Output = T>) -> T {
    tokio::time::timeout(Duration::from_secs(60), work).await.expect("it takes a moment, not a minute")
}

#[tokio::test]
async fn a_public_client_gets_x509_svids_and_sees_them_rotate() {
    let served = Served::start(&[6, 3600]).await;
    let source = soon(X509Source::builder().endpoint(served.endpoint()).build()).await.unwrap();
    let first = source.svid().unwrap();
    assert_eq!(first.spiffe_id(), &id("/guest/kata"));
    let mut updated = source.updated();
    soon(async {
        while source.try_svid().is_none_or(|svid| svid.cert_chain() == first.cert_chain()) {
            updated.changed().await.unwrap();
        }
    })
    .await;
    let second = source.svid().unwrap();
    assert_eq!(second.spiffe_id(), first.spiffe_id());
    assert_ne!(second.private_key().as_bytes(), first.private_key().as_bytes(), "the key is a new one, too");
    let bundle = source.try_bundle_for_trust_domain(&TrustDomain::new(DOMAIN).unwrap()).unwrap();
    assert_eq!(bundle.authorities(), [Certificate::try_from(served.issuer.root().as_slice()).unwrap()]);
    source.shutdown().await;
}

#[tokio::test]
async fn a_program_of_several_packages_has_an_id_of_each() {
    let served = Served::start(&[3600]).await;
    served.issuer.0.paths.lock().unwrap().push("/guest/base".into());
    let client = served.client().await;
    let ids: Vec<_> =
        client.fetch_all_x509_svids().await.unwrap().iter().map(|svid| svid.spiffe_id().clone()).collect();
    assert_eq!(ids, [id("/guest/kata"), id("/guest/base")]);
    let svid = client.fetch_jwt_svid(["db"], Some(&id("/guest/base"))).await.unwrap();
    assert_eq!(svid.spiffe_id(), &id("/guest/base"));
    assert_eq!(client.fetch_all_jwt_svids(["db"], None).await.unwrap().len(), 2);
}

#[tokio::test]
async fn a_public_client_gets_and_verifies_jwt_svids() {
    let served = Served::start(&[3600]).await;
    let source = soon(JwtSource::builder().endpoint(served.endpoint()).build()).await.unwrap();
    let svid = source.fetch_jwt_svid(["db", "queue"]).await.unwrap();
    assert_eq!((svid.spiffe_id(), svid.audience()), (&id("/guest/kata"), &["db".into(), "queue".into()][..]));
    let bundles = source.bundle_set().unwrap();
    let verified = JwtSvid::parse_and_validate(svid.token(), bundles.as_ref(), &["db"]).unwrap();
    assert_eq!(verified.spiffe_id(), &id("/guest/kata"));
    JwtSvid::parse_and_validate(svid.token(), bundles.as_ref(), &["other"]).unwrap_err();

    let client = served.client().await;
    assert_eq!(
        client.validate_jwt_token("queue", svid.token()).await.unwrap().spiffe_id(),
        &id("/guest/kata")
    );
    source.shutdown().await;
}

#[tokio::test]
async fn a_jwt_svid_that_is_not_good_here_is_refused() {
    let served = Served::start(&[3600]).await;
    let client = served.client().await;
    let now = (clock::system())();
    let token = |id: &str, expires| served.issuer.token(id, &["db".into()], expires);
    let good = token(&format!("spiffe://{DOMAIN}/guest/kata"), now + 300);
    client.validate_jwt_token("db", &good).await.unwrap();
    let expired = token(&format!("spiffe://{DOMAIN}/guest/kata"), now - 1);
    let foreign = token("spiffe://other/guest/kata", now + 300);
    let forged = Issuer::new(&[1]).token(&format!("spiffe://{DOMAIN}/guest/kata"), &["db".into()], now + 300);
    for (audience, token, words) in [
        ("other", &good, "another audience"),
        ("db", &expired, "expired"),
        ("db", &foreign, "another trust domain"),
        ("db", &forged, "signature"),
        ("db", &good[1..].to_owned(), "not a signed JWT"),
        ("", &good, "audience"),
    ] {
        let status = status(client.validate_jwt_token(audience, token).await.unwrap_err());
        assert_eq!(status.code(), Code::InvalidArgument);
        assert!(status.message().contains(words), "{words}: {status}");
    }
}

fn status(error: WorkloadApiError) -> tonic::Status {
    let mut source: Option<&(dyn std::error::Error + 'static)> = Some(&error);
    while let Some(error) = source {
        if let Some(status) = error.downcast_ref::<tonic::Status>() {
            return status.clone();
        }
        source = error.source();
    }
    match error {
        WorkloadApiError::PermissionDenied(..) => tonic::Status::permission_denied(""),
        error => panic!("no status: {error:?}"),
    }
}

#[tokio::test]
async fn an_id_that_was_not_proven_is_not_issued() {
    let served = Served::start(&[3600]).await;
    let client = served.client().await;
    client.fetch_x509_svid().await.unwrap();
    let before = served.issuer.0.asked.load(Ordering::SeqCst);
    for other in ["spiffe://td/guest/other", "spiffe://other/guest/kata"] {
        let error = client.fetch_jwt_svid(["db"], Some(&other.parse().unwrap())).await.unwrap_err();
        assert_eq!(status(error).code(), Code::PermissionDenied, "{other}");
    }
    assert_eq!(served.issuer.0.asked.load(Ordering::SeqCst), before, "the issuer was not even asked");
    let none = client.fetch_jwt_svid(Vec::<String>::new(), None).await.unwrap_err();
    assert_eq!(status(none).code(), Code::InvalidArgument);
}

#[tokio::test]
async fn who_is_sent_away_loses_its_identity_and_gets_it_back_when_admitted() {
    let served = Served::start(&[2, 2, 3600]).await;
    let client = served.client().await;
    let mut stream = client.stream_x509_svids().await.unwrap();
    soon(stream.next()).await.unwrap().unwrap();
    served.issuer.0.refuses.store(true, Ordering::SeqCst);
    let refused = soon(async {
        loop {
            if let Err(error) = stream.next().await.unwrap() {
                return error;
            }
        }
    })
    .await;
    assert_eq!(status(refused).code(), Code::PermissionDenied);
    let error = client.fetch_jwt_svid(["db"], None).await.unwrap_err();
    assert_eq!(status(error).code(), Code::PermissionDenied);
    served.issuer.0.refuses.store(false, Ordering::SeqCst);
    soon(async {
        while client.fetch_x509_svid().await.is_err() {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    })
    .await;
}

#[tokio::test]
async fn what_a_source_answers_wrongly_reaches_no_program() {
    for wrong in ["key", "id", "uris", "ca"] {
        let served = Served::start(&[3600]).await;
        *served.issuer.0.wrong.lock().unwrap() = wrong;
        let client = served.client().await;
        let fetched = tokio::time::timeout(Duration::from_millis(300), client.fetch_x509_svid()).await;
        assert!(fetched.is_err(), "{wrong}: nothing is answered while there is nothing right");
    }
}

/// What a browser or a server that relays requests would send.
#[tokio::test]
async fn without_its_header_nothing_is_answered() {
    let served = Served::start(&[3600]).await;
    let path = served.path();
    let connector = tower::service_fn(move |_| {
        let path = path.clone();
        async move {
            Ok::<_, std::io::Error>(hyper_util::rt::TokioIo::new(
                tokio::net::UnixStream::connect(path).await?,
            ))
        }
    });
    let endpoint = tonic::transport::Endpoint::from_static("http://workload");
    let mut client = tonic::client::Grpc::new(endpoint.connect_with_connector(connector).await.unwrap());
    for (values, code) in
        [(&[][..], Code::InvalidArgument), (&["false"], Code::InvalidArgument), (&["true"], Code::Ok)]
    {
        for method in ["FetchX509SVID", "FetchX509Bundles", "FetchJWTBundles"] {
            let mut request = Request::new(());
            for value in values {
                request.metadata_mut().append("workload.spiffe.io", value.parse().unwrap());
            }
            client.ready().await.unwrap();
            let path = format!("/SpiffeWorkloadAPI/{method}").parse().unwrap();
            let codec = tonic_prost::ProstCodec::<(), ()>::default();
            let answer = client.server_streaming(request, path, codec).await;
            assert_eq!(answer.map_or_else(|status| status.code(), |_| Code::Ok), code, "{method} {values:?}");
        }
    }
}

#[tokio::test]
async fn streams_are_bounded() {
    let served = Served::start(&[3600]).await;
    let mut open = Vec::new();
    let mut refused = None;
    for _ in 0..16 {
        let client = served.client().await;
        for _ in 0..32 {
            match soon(client.stream_x509_bundles()).await {
                Ok(stream) => open.push(stream),
                Err(error) => refused = Some(status(error).code()),
            }
        }
    }
    assert_eq!((open.len(), refused), (256, Some(Code::ResourceExhausted)));
    drop(open);
    let client = served.client().await;
    soon(async {
        while client.fetch_x509_bundles().await.is_err() {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    })
    .await;
}

#[tokio::test]
async fn a_socket_is_for_user_and_group_and_never_takes_anothers_place() {
    let served = Served::start(&[3600]).await;
    let path = served.path();
    let metadata = std::fs::metadata(&path).unwrap();
    assert_eq!(metadata.permissions().mode() & 0o7777, 0o660);
    assert_eq!(metadata.uid(), rustix::process::geteuid().as_raw());
    assert!(matches!(Listener::unix(&path, Peers::SameUser), Err(ListenError::InUse(_))));
    let file = served.directory.path().join("file");
    std::fs::write(&file, "kept").unwrap();
    assert!(matches!(Listener::unix(&file, Peers::SameUser), Err(ListenError::NotASocket(_))));
    assert_eq!(std::fs::read(&file).unwrap(), b"kept");
    let stale = served.directory.path().join("stale");
    drop(std::os::unix::net::UnixListener::bind(&stale).unwrap());
    drop(Listener::unix(&stale, Peers::SameUser).unwrap());
    assert!(!Path::new(&stale).exists(), "it is removed at the end");
}

#[tokio::test]
async fn loopback_is_served_and_no_other_address() {
    let everywhere = Listener::tcp("0.0.0.0:0".parse().unwrap()).await;
    assert!(matches!(everywhere, Err(ListenError::NotLoopback(_))));
    let listener = Listener::tcp("127.0.0.1:0".parse().unwrap()).await.unwrap();
    let Listener::Tcp(socket) = &listener else { unreachable!() };
    let address = socket.local_addr().unwrap();
    let task = tokio::spawn(serve(Issuer::new(&[3600]), listener, clock::system(), std::future::pending()));
    let client = WorkloadApiClient::connect_to(format!("tcp://{address}")).await.unwrap();
    assert_eq!(soon(client.fetch_x509_svid()).await.unwrap().spiffe_id(), &id("/guest/kata"));
    task.abort();
}

/// Only root can be two users; elsewhere the rule alone is tested, beside the code.
#[tokio::test]
async fn a_program_of_another_user_is_turned_away() {
    if !rustix::process::geteuid().is_root() {
        return;
    }
    let served = Served::start(&[3600]).await;
    served.client().await.fetch_x509_svid().await.unwrap();
    std::fs::set_permissions(served.directory.path(), std::fs::Permissions::from_mode(0o755)).unwrap();
    std::fs::set_permissions(served.path(), std::fs::Permissions::from_mode(0o666)).unwrap();
    let asked = |user: u32| {
        let path = served.path();
        let mut command = tokio::process::Command::new("/usr/bin/env");
        command.args(["python3", "-c", ASK]).arg(path).uid(user).kill_on_drop(true);
        async move { String::from_utf8(command.output().await.unwrap().stdout).unwrap() }
    };
    assert_eq!(asked(65534).await.trim(), "0", "the connection is closed");
    assert_ne!(asked(0).await.trim(), "0", "the server speaks");
}

const ASK: &str = "
import socket, sys
s = socket.socket(socket.AF_UNIX)
s.settimeout(30)
s.connect(sys.argv[1])
try:
    s.sendall(b'PRI * HTTP/2.0\\r\\n\\r\\nSM\\r\\n\\r\\n\\0\\0\\0\\4\\0\\0\\0\\0\\0')
    print(len(s.recv(100)))
except (BrokenPipeError, ConnectionResetError):
    print(0)
";

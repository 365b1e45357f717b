//! A registry in this process: what a test puts there, by digest, over TLS or without it.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex},
};

use package::{Attached, Built, Descriptor, Digest, MANIFEST_TYPE, Referrers};
use rustls::{ServerConfig, pki_types::PrivatePkcs8KeyDer};
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt},
    net::TcpListener,
};
use tokio_rustls::TlsAcceptor;

/// `me:secret`, as `Basic` has it.
const AUTHORISED: &str = "authorization: basic bwu6c2vjcmv0";

/// What a registry has.
#[derive(Default, Clone)]
pub struct Shelf {
    /// Manifests and blobs, by digest.
    pub content: BTreeMap<String, Vec<u8>>,
    /// The list of referrers.
    pub list: Referrers,
    /// Whether it wants credentials.
    pub private: bool,
    /// Bytes in the place of each blob.
    pub instead: Option<Vec<u8>>,
}

/// A registry that serves.
pub struct Registry {
    /// `localhost:PORT`.
    pub host: String,
    /// Its CA, DER; none without TLS.
    pub root: Option<Vec<u8>>,
    /// The heads of requests, in lower case.
    pub asked: Arc<Mutex<Vec<String>>>,
}

impl Shelf {
    /// With one package, and these bundles beside it.
    pub fn of(built: &Built, bundles: &[Vec<u8>]) -> Self {
        let mut shelf = Self::default();
        let subject = Descriptor::of(MANIFEST_TYPE, &built.manifest);
        shelf.put(&built.manifest);
        built.blobs.iter().for_each(|(_, bytes)| shelf.put(bytes));
        for bundle in bundles {
            let (manifest, listed) = Attached::to_subject(&subject, bundle);
            shelf.list = shelf.list.with(listed);
            shelf.put(&manifest);
            shelf.put(bundle);
        }
        shelf
    }

    fn put(&mut self, bytes: &[u8]) {
        self.content.insert(Digest::of(bytes).to_string(), bytes.to_vec());
    }

    /// Serves it without TLS.
    pub async fn serve(self) -> Registry {
        self.start(None, None).await
    }

    /// Serves it with a certificate that ends in the year 2040.
    pub async fn serve_tls(self) -> Registry {
        let key = rcgen::KeyPair::generate().unwrap();
        let mut parameters = rcgen::CertificateParams::new(vec!["localhost".into()]).unwrap();
        parameters.not_after = rcgen::date_time_ymd(2040, 1, 1);
        let certificate = parameters.self_signed(&key).unwrap();
        let root = certificate.der().to_vec();
        let server =
            ServerConfig::builder_with_provider(Arc::new(rustls::crypto::aws_lc_rs::default_provider()))
                .with_safe_default_protocol_versions()
                .unwrap()
                .with_no_client_auth()
                .with_single_cert(
                    vec![certificate.der().clone()],
                    PrivatePkcs8KeyDer::from(key.serialize_der()).into(),
                );
        self.start(Some(TlsAcceptor::from(Arc::new(server.unwrap()))), Some(root)).await
    }

    async fn start(self, tls: Option<TlsAcceptor>, root: Option<Vec<u8>>) -> Registry {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let host = format!("localhost:{}", listener.local_addr().unwrap().port());
        let (shelf, asked) = (Arc::new(self), Arc::new(Mutex::new(Vec::new())));
        let heads = Arc::clone(&asked);
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let (shelf, heads, tls) = (Arc::clone(&shelf), Arc::clone(&heads), tls.clone());
                tokio::spawn(async move {
                    match tls {
                        None => shelf.answer(stream, &heads).await,
                        Some(tls) => {
                            if let Ok(stream) = tls.accept(stream).await {
                                shelf.answer(stream, &heads).await;
                            }
                        }
                    }
                });
            }
        });
        Registry { host, root, asked }
    }

    async fn answer(&self, mut stream: impl AsyncRead + AsyncWrite + Unpin, heads: &Mutex<Vec<String>>) {
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            match stream.read_u8().await {
                Ok(byte) => head.push(byte),
                Err(_) => return,
            }
        }
        let head = String::from_utf8(head).unwrap().to_lowercase();
        let (status, more, body) = self.found(&head);
        heads.lock().unwrap().push(head);
        let length = body.len();
        let answer =
            format!("HTTP/1.1 {status}\r\ncontent-length: {length}\r\nconnection: close\r\n{more}\r\n");
        let _ = stream.write_all(&[answer.as_bytes(), &body].concat()).await;
        let _ = stream.shutdown().await;
        // What the client still sends is taken, so that it reads the answer.
        let _ = stream.read_to_end(&mut Vec::new()).await;
    }

    fn found(&self, head: &str) -> (&'static str, &'static str, Vec<u8>) {
        if self.private && !head.contains(AUTHORISED) {
            return ("401 Unauthorized", "www-authenticate: Basic realm=\"test\"\r\n", Vec::new());
        }
        let path = head.split(' ').nth(1).unwrap();
        if path.contains("/referrers/") {
            return ("200 OK", "", self.list.to_json());
        }
        if let Some(instead) = self.instead.as_ref().filter(|_| path.contains("/blobs/")) {
            return ("200 OK", "", instead.clone());
        }
        match path.rsplit_once('/').and_then(|(_, digest)| self.content.get(digest)) {
            Some(bytes) => ("200 OK", "", bytes.clone()),
            None => ("404 Not Found", "", Vec::new()),
        }
    }
}

impl Registry {
    /// Whether anybody showed credentials.
    pub fn was_shown_credentials(&self) -> bool {
        self.asked.lock().unwrap().iter().any(|head| head.contains("authorization:"))
    }
}

//! A client of the API that does as it is told, also wrong things: HTTP/1.1 written by hand, over TLS whose certificate
//! it does not look at.

use std::io::{self, Read, Write};
use std::net::TcpStream;
use std::sync::Arc;

use keep_protocol::Message;
use keep_protocol::host::{CONTENT_TYPE, HostError, HostErrorCode, Lease, NewKeep, Platform, Tee, UPGRADE};
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use rustls::{ClientConfig, ClientConnection, DigitallySignedStruct, Error, SignatureScheme, StreamOwned};

pub type Tls = StreamOwned<ClientConnection, TcpStream>;

pub const SNP: Tee = Tee { emulated: true, platform: Platform::Snp };

#[derive(Clone)]
pub struct Client {
    pub port: u16,
    token: Option<String>,
    identity: Option<Arc<(CertificateDer<'static>, Vec<u8>)>>,
}

pub struct Answer {
    pub status: u16,
    pub head: String,
    pub body: Vec<u8>,
}

impl Client {
    pub fn new(port: u16, token: Option<&str>) -> Self {
        Self { port, token: token.map(str::to_owned), identity: None }
    }

    pub fn with_certificate(mut self, certificate: CertificateDer<'static>, key: Vec<u8>) -> Self {
        self.identity = Some(Arc::new((certificate, key)));
        self
    }

    pub fn connect(&self) -> io::Result<Tls> {
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let builder = ClientConfig::builder_with_provider(provider)
            .with_protocol_versions(&[&rustls::version::TLS13])
            .unwrap()
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(Anybody));
        let config = match self.identity.as_deref() {
            None => builder.with_no_client_auth(),
            Some((certificate, key)) => {
                let key = PrivateKeyDer::try_from(key.clone()).unwrap();
                builder.with_client_auth_cert(vec![certificate.clone()], key).unwrap()
            }
        };
        let name = ServerName::try_from("localhost").unwrap();
        let connection = ClientConnection::new(Arc::new(config), name).unwrap();
        let stream = TcpStream::connect(("127.0.0.1", self.port))?;
        stream.set_read_timeout(Some(crate::site::LONG))?;
        Ok(StreamOwned::new(connection, stream))
    }

    /// The head of a request.
    pub fn head(&self, method: &str, path: &str, more: &str) -> String {
        let token = self.token.as_ref().map(|token| format!("Authorization: Bearer {token}\r\n"));
        format!("{method} {path} HTTP/1.1\r\nHost: host\r\n{}{more}\r\n", token.unwrap_or_default())
    }

    pub fn request(&self, method: &str, path: &str, body: &[u8]) -> Answer {
        let more = format!("Content-Type: {CONTENT_TYPE}\r\nContent-Length: {}\r\n", body.len());
        let mut stream = self.connect().unwrap();
        stream.write_all(self.head(method, path, &more).as_bytes()).unwrap();
        // Who refuses may hang up before all is written.
        let _ = stream.write_all(body).and_then(|()| stream.flush());
        read_answer(&mut stream).unwrap()
    }

    pub fn get<M: Message>(&self, path: &str) -> M {
        let answer = self.request("GET", path, &[]);
        assert_eq!(answer.status, 200, "{}", answer.head);
        M::from_bytes(&answer.body).unwrap()
    }

    pub fn lease(&self) -> Result<Lease, HostError> {
        self.lease_of(&[SNP])
    }

    pub fn lease_of(&self, tees: &[Tee]) -> Result<Lease, HostError> {
        self.ask_for(tees, false)
    }

    /// One with the tenant's storage.
    pub fn lease_with_volumes(&self) -> Result<Lease, HostError> {
        self.ask_for(&[SNP], true)
    }

    fn ask_for(&self, tees: &[Tee], volumes: bool) -> Result<Lease, HostError> {
        let wanted = NewKeep { tees: tees.to_vec(), label: "a label".to_owned(), memory: 0, volumes };
        let answer = self.request("POST", "/v1/keeps", &wanted.to_bytes());
        if answer.status == 201 { Ok(Lease::from_bytes(&answer.body).unwrap()) } else { Err(answer.error()) }
    }

    pub fn refused(&self, method: &str, path: &str, body: &[u8]) -> HostErrorCode {
        let answer = self.request(method, path, body);
        let error = answer.error();
        assert_eq!(error.code.status(), answer.status);
        error.code
    }

    /// The channel to a Keep.
    pub fn channel(&self, id: &str) -> Result<Tls, HostError> {
        let mut stream = self.connect().unwrap();
        let more = format!("Connection: Upgrade\r\nUpgrade: {UPGRADE}\r\n");
        stream.write_all(self.head("GET", &format!("/v1/keeps/{id}/channel"), &more).as_bytes()).unwrap();
        let answer = read_answer(&mut stream).unwrap();
        if answer.status == 101 {
            assert!(answer.head.to_lowercase().contains(&format!("upgrade: {UPGRADE}")), "{}", answer.head);
            return Ok(stream);
        }
        Err(answer.error())
    }
}

impl Answer {
    pub fn error(&self) -> HostError {
        HostError::from_bytes(&self.body).unwrap_or_else(|error| panic!("{}: {error}", self.head))
    }
}

/// Says something, and hears it again.
pub fn ping(channel: &mut Tls, word: &[u8]) {
    channel.write_all(word).and_then(|()| channel.flush()).unwrap();
    let mut heard = vec![0; word.len()];
    channel.read_exact(&mut heard).unwrap();
    assert_eq!(heard, word);
}

pub fn read_answer(stream: &mut impl Read) -> io::Result<Answer> {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        let mut byte = [0];
        stream.read_exact(&mut byte)?;
        head.push(byte[0]);
    }
    let head = String::from_utf8(head).unwrap();
    let status = head.split(' ').nth(1).unwrap().parse().unwrap();
    let length = head.lines().find_map(|line| {
        let (name, value) = line.split_once(": ")?;
        name.eq_ignore_ascii_case("content-length").then(|| value.parse().unwrap())
    });
    let mut body = vec![0; length.unwrap_or(0)];
    stream.read_exact(&mut body)?;
    Ok(Answer { status, head, body })
}

#[derive(Debug)]
struct Anybody;

impl ServerCertVerifier for Anybody {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn verify_tls13_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        rustls::crypto::aws_lc_rs::default_provider().signature_verification_algorithms.supported_schemes()
    }
}

//! The two honest parties of most tests, and TLS peers that follow no rules.

use std::sync::Arc;

use appraisal::{Policy, ReferenceValue, binding::Role};
use attested_tls::{
    channel::{self, Attested, ChannelError, ClaimsRefused, Expectations, Party, PeerPolicy},
    clock,
    key::TeeKey,
};
use evidence::Platform;
use rustls::{
    ClientConfig, DigitallySignedStruct, Error, ServerConfig, SignatureScheme,
    client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
};
use rustls_pki_types::{CertificateDer, ServerName, UnixTime};
use serde::{Deserialize, Serialize};
use serde_bytes::ByteArray;
use testkit::tee::{EmulatedTee, NOW};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, DuplexStream};

pub fn keep_tee() -> Arc<EmulatedTee> {
    EmulatedTee::launch(Platform::Snp, b"the Keep's code", b"the Keep's configuration")
}

pub fn coordinator_tee() -> Arc<EmulatedTee> {
    EmulatedTee::launch(Platform::Tdx, b"the coordinator's code", b"the coordinator's configuration")
}

fn party(role: Role, tee: Arc<EmulatedTee>) -> Party {
    let verifier = Arc::new(attested_tls::statement::verifier());
    Party { role, key: Arc::new(TeeKey::generate().unwrap()), tee, clock: clock::fixed(NOW), verifier }
}

pub fn keep() -> Party {
    party(Role::Keep, keep_tee())
}

pub fn coordinator() -> Party {
    party(Role::Coordinator, coordinator_tee())
}

/// What one side requires of the other.
pub struct Requires {
    pub role: Role,
    pub policy: Policy,
    pub measurements: Vec<ReferenceValue>,
    pub claims: Option<ClaimsRefused>,
}

impl Requires {
    pub fn a_keep() -> Self {
        Self::of(Role::Keep, &keep_tee())
    }

    pub fn a_coordinator() -> Self {
        Self::of(Role::Coordinator, &coordinator_tee())
    }

    pub fn of(role: Role, tee: &EmulatedTee) -> Self {
        Self { role, policy: testkit::tee::policy(), measurements: vec![tee.reference()], claims: None }
    }
}

impl PeerPolicy for Requires {
    fn role(&self) -> Role {
        self.role
    }

    fn expectations(&self, _: Platform, _: &[u8]) -> Result<Expectations, ClaimsRefused> {
        match &self.claims {
            Some(refused) => Err(refused.clone()),
            None => Ok(Expectations { policy: self.policy.clone(), measurements: self.measurements.clone() }),
        }
    }
}

pub type Met = Result<Attested<DuplexStream>, ChannelError>;

pub const KEEP_CLAIMS: &[u8] = b"claims of the Keep";
pub const COORDINATOR_CLAIMS: &[u8] = b"claims of the coordinator";

/// Client and server meet over a pipe.
pub async fn meet(client: (&Party, &Requires), server: (&Party, &Requires)) -> (Met, Met) {
    meet_over(64 * 1024, client, server).await
}

pub async fn meet_over(
    buffer: usize,
    client: (&Party, &Requires),
    server: (&Party, &Requires),
) -> (Met, Met) {
    let (near, far) = tokio::io::duplex(buffer);
    tokio::join!(
        channel::connect(near, client.0, KEEP_CLAIMS.to_vec(), client.1),
        channel::accept(far, server.0, COORDINATOR_CLAIMS.to_vec(), server.1),
    )
}

/// The error of one side, which has no `Debug` when there is none.
pub fn refused(met: Met) -> ChannelError {
    match met {
        Ok(_) => panic!("not refused"),
        Err(error) => error,
    }
}

/// Asserts that this side itself refused the peer's Evidence for this reason.
pub fn assert_evidence_refused(error: &ChannelError, code: &str) {
    assert!(error.refused().is_some(), "{error:?}");
    assert_eq!(error.codes(), [code], "{error}");
}

#[derive(Debug)]
struct AnyServer;

impl ServerCertVerifier for AnyServer {
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

fn provider() -> Arc<rustls::crypto::CryptoProvider> {
    Arc::new(rustls::crypto::aws_lc_rs::default_provider())
}

/// A client that believes any server.
pub fn lawless_client(key: Option<&TeeKey>, alpn: &[&[u8]]) -> Arc<ClientConfig> {
    let builder = ClientConfig::builder_with_provider(provider())
        .with_protocol_versions(&[&rustls::version::TLS13])
        .unwrap()
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(AnyServer));
    let mut config = match key {
        Some(key) => {
            builder.with_client_auth_cert(vec![key.certificate().clone()], key.private_key()).unwrap()
        }
        None => builder.with_no_client_auth(),
    };
    config.alpn_protocols = alpn.iter().map(|name| name.to_vec()).collect();
    Arc::new(config)
}

/// A server that asks nobody who they are.
pub fn lawless_server(key: &TeeKey, alpn: &[&[u8]]) -> Arc<ServerConfig> {
    let mut config = ServerConfig::builder_with_provider(provider())
        .with_protocol_versions(&[&rustls::version::TLS13])
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![key.certificate().clone()], key.private_key())
        .unwrap();
    config.alpn_protocols = alpn.iter().map(|name| name.to_vec()).collect();
    Arc::new(config)
}

#[derive(Serialize, Deserialize)]
pub struct Hello {
    pub version: u8,
    pub role: String,
    pub nonce: ByteArray<32>,
}

pub fn hello(role: &str) -> Vec<u8> {
    cbor(&Hello { version: 1, role: role.into(), nonce: ByteArray::new([9; 32]) })
}

pub fn cbor(message: &impl Serialize) -> Vec<u8> {
    let mut bytes = Vec::new();
    ciborium::into_writer(message, &mut bytes).unwrap();
    bytes
}

pub async fn send(stream: &mut (impl AsyncWrite + Unpin), body: &[u8]) {
    stream.write_u32(u32::try_from(body.len()).unwrap()).await.unwrap();
    stream.write_all(body).await.unwrap();
    stream.flush().await.unwrap();
}

pub async fn receive(stream: &mut (impl AsyncRead + Unpin)) -> Vec<u8> {
    let mut body = vec![0; stream.read_u32().await.unwrap() as usize];
    stream.read_exact(&mut body).await.unwrap();
    body
}

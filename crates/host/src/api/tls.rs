//! The API's own TLS: 1.3, no resumption. Any client certificate is taken whose key the client has; whether it
//! means anything is said by its digest, in `admission`.

use std::fs::{self, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rcgen::{CertificateParams, DnType, KeyPair};
use rustls::client::danger::HandshakeSignatureValid;
use rustls::crypto::{CryptoProvider, aws_lc_rs, verify_tls13_signature};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, UnixTime};
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::{DigitallySignedStruct, DistinguishedName, Error, ServerConfig, SignatureScheme};

use crate::config::Api;
use crate::process::read_regular;

/// The certificate that the agent makes for itself, and its key.
const OWN: [&str; 2] = ["api.crt", "api.key"];
const MAX_FILE: usize = 1 << 20;

/// Why the API cannot be served.
#[derive(Debug, thiserror::Error)]
pub enum ApiError {
    /// A file cannot be read or written.
    #[error("{path}")]
    File {
        /// Which.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// A certificate or a key cannot be used.
    #[error("{path} cannot be used: {reason}")]
    Certificate {
        /// Which.
        path: PathBuf,
        /// Why.
        reason: String,
    },
    /// No certificate can be made.
    #[error("no certificate can be made")]
    Generate(#[from] rcgen::Error),
    /// TLS cannot be set up.
    #[error("TLS cannot be set up")]
    Tls(#[from] Error),
    /// The operating system refused.
    #[error("the operating system refused")]
    Runtime(#[source] io::Error),
    /// There is nothing to serve.
    #[error("no Keeps are configured")]
    NoKeeps,
}

pub(super) fn config(api: &Api, directory: &Path) -> Result<Arc<ServerConfig>, ApiError> {
    let (certificate, key) = match &api.certificate {
        Some((certificate, key)) => (certificate.clone(), key.clone()),
        None => own(directory)?,
    };
    let chain = CertificateDer::pem_slice_iter(&read(&certificate)?)
        .collect::<Result<Vec<_>, _>>()
        .ok()
        .filter(|chain| !chain.is_empty())
        .ok_or_else(|| unusable(&certificate, "no PEM certificates"))?;
    let private = PrivateKeyDer::from_pem_slice(&read(&key)?).map_err(|_| unusable(&key, "no PEM key"))?;
    let provider = Arc::new(aws_lc_rs::default_provider());
    let verifier = Arc::new(AnyKey(Arc::clone(&provider)));
    let mut config = ServerConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS13])?
        .with_client_cert_verifier(verifier)
        .with_single_cert(chain, private)
        .map_err(|error| unusable(&certificate, &error.to_string()))?;
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    config.send_tls13_tickets = 0;
    config.max_early_data_size = 0;
    Ok(Arc::new(config))
}

fn unusable(path: &Path, reason: &str) -> ApiError {
    ApiError::Certificate { path: path.to_owned(), reason: reason.to_owned() }
}

fn read(path: &Path) -> Result<Vec<u8>, ApiError> {
    read_regular(path, MAX_FILE).map_err(|source| ApiError::File { path: path.to_owned(), source })
}

/// A key and a self-signed certificate, made once, so that who pins it finds it again.
fn own(directory: &Path) -> Result<(PathBuf, PathBuf), ApiError> {
    let [certificate_path, key_path] = OWN.map(|name| directory.join(name));
    if !key_path.exists() {
        let key = KeyPair::generate()?;
        let mut params = CertificateParams::new(vec!["localhost".to_owned(), "127.0.0.1".to_owned()])?;
        params.distinguished_name.push(DnType::CommonName, "bailey host agent");
        let certificate = params.self_signed(&key)?;
        write(&certificate_path, certificate.pem().as_bytes())?;
        write(&key_path, key.serialize_pem().as_bytes())?;
    }
    Ok((certificate_path, key_path))
}

fn write(path: &Path, bytes: &[u8]) -> Result<(), ApiError> {
    let error = |source| ApiError::File { path: path.to_owned(), source };
    // A half-written one of an earlier start has no key beside it, and goes.
    match fs::remove_file(path) {
        Err(source) if source.kind() != io::ErrorKind::NotFound => return Err(error(source)),
        _ => {}
    }
    let mut file = OpenOptions::new().create_new(true).write(true).mode(0o600).open(path).map_err(error)?;
    file.write_all(bytes).and_then(|()| file.sync_all()).map_err(error)
}

/// Takes every certificate whose key the client has.
#[derive(Debug)]
struct AnyKey(Arc<CryptoProvider>);

impl ClientCertVerifier for AnyKey {
    fn client_auth_mandatory(&self) -> bool {
        false
    }

    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        &[]
    }

    fn verify_client_cert(
        &self,
        _end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _now: UnixTime,
    ) -> Result<ClientCertVerified, Error> {
        Ok(ClientCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _message: &[u8],
        _certificate: &CertificateDer<'_>,
        _signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Err(Error::General("TLS 1.2 is not spoken".to_owned()))
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls13_signature(message, certificate, signature, &self.0.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}

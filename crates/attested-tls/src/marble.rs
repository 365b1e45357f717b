//! Marbles speaking to Marbles: mutual TLS under the coordinator's root, authorised by the identity in the
//! certificate. No decision depends on a host name, an address or a certificate's subject.

use std::{collections::BTreeSet, error::Error as StdError, sync::Arc};

use rustls::{CertificateError, ClientConfig, Error, OtherError, RootCertStore, ServerConfig};
use rustls_pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use serde::{Deserialize, Serialize};
use serde_bytes::ByteArray;
use x509_parser::{
    asn1_rs::{OctetString, ToDer},
    prelude::{FromDer, X509Certificate},
};

use crate::{clock::Clock, config};

mod verifier;

/// Object identifier of the certificate extension that carries a [`MarbleIdentity`]: an arc below 2.25,
/// which needs no registration (ITU-T X.667).
pub const IDENTITY_OID: [u64; 3] = [2, 25, 6_510_615_555_426_900_571];

const MAX_IDENTITY: usize = 1024;

/// Who an admitted Marble is, as the coordinator certified it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MarbleIdentity {
    /// The Marble's name in the manifest.
    pub marble: String,
    /// The generation of manifest and intermediate CA.
    pub epoch: u64,
    /// SHA-256 of the manifest that admitted it.
    pub manifest: [u8; 32],
    /// Whether an emulated platform is anywhere beneath it; then it proves nothing about hardware.
    pub emulated: bool,
    /// The epoch before, while its Marbles may still speak with this one's.
    pub rollout: Option<Rollout>,
}

/// A window in which an epoch is rolled out: Marbles of the one before it and its own may speak with each other. The
/// coordinator says so in the certificates of the new epoch, so that those of the old one need not be told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rollout {
    /// The epoch before.
    pub epoch: u64,
    /// SHA-256 of its manifest.
    pub manifest: [u8; 32],
    /// The last second in which it may.
    pub until: i64,
}

impl Rollout {
    fn is_for(&self, other: &MarbleIdentity) -> bool {
        self.epoch == other.epoch && self.manifest == other.manifest
    }
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct WireIdentity {
    epoch: u64,
    marble: String,
    emulated: bool,
    manifest: ByteArray<32>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    rollout: Option<WireRollout>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct WireRollout {
    epoch: u64,
    manifest: ByteArray<32>,
    until: i64,
}

impl MarbleIdentity {
    /// The extension's value: a DER OCTET STRING that holds a CBOR map.
    pub fn to_extension(&self) -> Vec<u8> {
        let wire = WireIdentity {
            epoch: self.epoch,
            marble: self.marble.clone(),
            emulated: self.emulated,
            manifest: ByteArray::new(self.manifest),
            rollout: self.rollout.as_ref().map(|rollout| WireRollout {
                epoch: rollout.epoch,
                manifest: ByteArray::new(rollout.manifest),
                until: rollout.until,
            }),
        };
        let mut cbor = Vec::new();
        ciborium::into_writer(&wire, &mut cbor).expect("writing plain data to memory cannot fail");
        OctetString::new(&cbor).to_der_vec().expect("an octet string in memory always encodes")
    }

    /// Reads the identity from a DER certificate. Says nothing about who signed it.
    pub fn of_certificate(certificate: &[u8]) -> Result<Self, PeerRefusal> {
        let (_, parsed) = X509Certificate::from_der(certificate).map_err(|_| PeerRefusal::NotAMarble)?;
        let oid =
            x509_parser::der_parser::oid::Oid::from(&IDENTITY_OID).map_err(|_| PeerRefusal::NotAMarble)?;
        let extension = parsed.get_extension_unique(&oid).ok().flatten().ok_or(PeerRefusal::NotAMarble)?;
        if extension.value.len() > MAX_IDENTITY {
            return Err(PeerRefusal::NotAMarble);
        }
        let (rest, content) = OctetString::from_der(extension.value).map_err(|_| PeerRefusal::NotAMarble)?;
        let mut cbor = content.as_ref();
        let wire: WireIdentity = ciborium::from_reader(&mut cbor).map_err(|_| PeerRefusal::NotAMarble)?;
        if !rest.is_empty() || !cbor.is_empty() {
            return Err(PeerRefusal::NotAMarble);
        }
        Ok(Self {
            marble: wire.marble,
            epoch: wire.epoch,
            manifest: wire.manifest.into_array(),
            emulated: wire.emulated,
            rollout: wire.rollout.map(|rollout| Rollout {
                epoch: rollout.epoch,
                manifest: rollout.manifest.into_array(),
                until: rollout.until,
            }),
        })
    }
}

/// What an admitted Marble holds: its certificate chain, its key, and the root that all its peers share.
pub struct Credential {
    /// DER, leaf first.
    pub chain: Vec<CertificateDer<'static>>,
    /// The leaf's key.
    pub key: PrivateKeyDer<'static>,
    /// The coordinator's root.
    pub root: CertificateDer<'static>,
    /// What the leaf says.
    pub identity: MarbleIdentity,
    /// Certificates of this mesh that count no more.
    pub revoked: Revoked,
}

/// Serial numbers of certificates that count no more, as the coordinator told last. A copy costs nothing.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Revoked(Arc<BTreeSet<Vec<u8>>>);

impl Revoked {
    /// Takes the whole list: serial numbers, big-endian.
    pub fn new(serials: impl IntoIterator<Item = Vec<u8>>) -> Self {
        Self(Arc::new(serials.into_iter().collect()))
    }

    /// Refuses a certificate that is on the list, and one that cannot be looked up.
    fn check(&self, certificate: &[u8]) -> Result<(), PeerRefusal> {
        let (_, parsed) = X509Certificate::from_der(certificate).map_err(|_| PeerRefusal::NotAMarble)?;
        if self.0.contains(parsed.raw_serial()) { Err(PeerRefusal::Revoked) } else { Ok(()) }
    }
}

impl Credential {
    fn roots(&self) -> Result<RootCertStore, Error> {
        let mut roots = RootCertStore::empty();
        roots.add(self.root.clone())?;
        Ok(roots)
    }
}

/// Who may open a connection.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Access {
    /// Anyone; no client certificate is asked for.
    Public,
    /// Marbles of the same epoch with one of these names.
    Peers(BTreeSet<String>),
}

/// Why a peer may not speak with this Marble.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PeerRefusal {
    /// A certificate of this mesh's root that is no Marble's.
    #[error("the certificate carries no Marble identity")]
    NotAMarble,
    /// A Marble, but not one that the manifest lets in here.
    #[error("Marble {marble:?} is not a named peer here; allowed: {}", allowed.join(", "))]
    NotNamed {
        /// Who asked.
        marble: String,
        /// Who may.
        allowed: Vec<String>,
    },
    /// The server is another Marble than the one asked for.
    #[error("the server is Marble {seen:?}, and {expected:?} was asked for")]
    WrongMarble {
        /// Asked for.
        expected: String,
        /// Found.
        seen: String,
    },
    /// A Marble of another generation.
    #[error("Marble {marble:?} is of epoch {seen}, and this side of epoch {expected}")]
    OtherEpoch {
        /// Who.
        marble: String,
        /// This side's epoch.
        expected: u64,
        /// The peer's epoch.
        seen: u64,
    },
    /// A Marble of the epoch before or after, and the time is over in which both may speak with each other.
    #[error(
        "Marble {marble:?} is of epoch {seen}, this side of epoch {expected}, and their roll-out window is over"
    )]
    RolloutOver {
        /// Who.
        marble: String,
        /// This side's epoch.
        expected: u64,
        /// The peer's epoch.
        seen: u64,
        /// The last second of the window.
        until: i64,
    },
    /// An instance that was evicted.
    #[error("the peer's certificate is revoked: its instance was evicted")]
    Revoked,
}

impl PeerRefusal {
    /// Stable code.
    pub fn code(&self) -> &'static str {
        match self {
            Self::NotAMarble => "PEER_NOT_A_MARBLE",
            Self::NotNamed { .. } => "PEER_NOT_NAMED",
            Self::WrongMarble { .. } => "PEER_WRONG_MARBLE",
            Self::OtherEpoch { .. } => "PEER_OTHER_EPOCH",
            Self::RolloutOver { .. } => "PEER_ROLLOUT_OVER",
            Self::Revoked => "PEER_REVOKED",
        }
    }
}

/// The stable code and the sentence of a failed handshake, as its cause tells them.
pub fn handshake_refusal(error: &(dyn StdError + 'static)) -> (&'static str, String) {
    let mut cause = Some(error);
    while let Some(current) = cause {
        // io::Error hides the rustls error one level below `source`.
        let tls = current
            .downcast_ref::<std::io::Error>()
            .and_then(std::io::Error::get_ref)
            .and_then(|inner| inner.downcast_ref::<Error>())
            .or_else(|| current.downcast_ref::<Error>());
        match tls {
            Some(Error::InvalidCertificate(CertificateError::Other(OtherError(other)))) => {
                if let Some(refusal) = other.downcast_ref::<PeerRefusal>() {
                    return (refusal.code(), refusal.to_string());
                }
            }
            Some(Error::NoCertificatesPresented) => {
                return ("PEER_WITHOUT_CERTIFICATE", "the client presented no Marble certificate".into());
            }
            Some(Error::InvalidCertificate(reason)) => {
                return (
                    "PEER_CERTIFICATE_INVALID",
                    format!("the peer's certificate is refused: {reason:?}"),
                );
            }
            Some(Error::AlertReceived(alert)) => {
                return ("PEER_REFUSED_US", format!("the peer refused the connection: {alert:?}"));
            }
            _ => {}
        }
        cause = current.source();
    }
    ("HANDSHAKE_FAILED", error.to_string())
}

/// TLS for the listening side of a Marble.
pub fn server_config(
    credential: &Credential,
    access: Access,
    clock: Clock,
) -> Result<Arc<ServerConfig>, Error> {
    let builder = config::server(clock)?;
    let builder = match access {
        Access::Public => builder.with_no_client_auth(),
        Access::Peers(allowed) => {
            builder.with_client_cert_verifier(verifier::ClientVerifier::new(credential, allowed)?)
        }
    };
    let mut config = builder.with_single_cert(credential.chain.clone(), credential.key.clone_key())?;
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    config::harden_server(&mut config);
    Ok(Arc::new(config))
}

/// TLS for a connection to the Marble named `server_marble`, and to no other.
pub fn client_config(
    credential: &Credential,
    server_marble: &str,
    clock: Clock,
) -> Result<Arc<ClientConfig>, Error> {
    let mut config = config::client(clock)?
        .dangerous()
        .with_custom_certificate_verifier(verifier::ServerVerifier::new(credential, server_marble)?)
        .with_client_auth_cert(credential.chain.clone(), credential.key.clone_key())?;
    config.alpn_protocols = vec![b"h2".to_vec()];
    config.enable_sni = false;
    config::harden_client(&mut config);
    Ok(Arc::new(config))
}

/// The name to give rustls for a connection made with [`client_config`]; it decides nothing.
pub fn server_name() -> ServerName<'static> {
    ServerName::IpAddress(std::net::IpAddr::V4(std::net::Ipv4Addr::LOCALHOST).into())
}

//! The attested connection: TLS 1.3 with fresh keys, then each side proves its Evidence over this very
//! connection, then application bytes. [`Attested`] has no other origin, so whoever takes one can send a
//! secret on it (S-08: no secret crosses a connection whose peer was not itself attested).
//!
//! The report data of each side covers, through the nonce of the transcript, everything that makes this
//! connection this one: the verifier's nonce, the TLS exporter, both leaf keys, the role and the direction.
//! That stops replay under another key (S-01), relay (S-02) and reflection (S-04).

use std::{
    io,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use appraisal::{Appraised, Policy, ReferenceValue, Refused, Verifier, binding::Role};
use attester::{AttesterError, Tee};
use aws_lc_rs::rand::{SecureRandom, SystemRandom};
use evidence::Platform;
use rustls::{HandshakeKind, ProtocolVersion};
use serde::{Deserialize, Serialize};
use serde_bytes::ByteArray;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio_rustls::{TlsAcceptor, TlsConnector, TlsStream};

use crate::{
    clock::Clock,
    frame,
    key::{SpkiDigest, TeeKey, sha256},
    statement::{Expected, MAX_STATEMENT, Presented, Statement, StatementError},
};

pub(crate) mod tls;

/// The application protocol (RFC 7301) of an attested connection.
pub const ALPN: &[u8] = b"bailey-attested/1";

/// RFC 5705 label of the exporter that binds Evidence to the connection.
const EXPORTER_LABEL: &[u8] = b"EXPORTER-bailey-attested-1";

/// Handshake and both appraisals together; an honest peer needs milliseconds.
pub(crate) const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(10);

/// How long a peer that was refused may take to hear so.
const REFUSED_TIMEOUT: Duration = Duration::from_secs(2);

pub(crate) const MAX_HELLO: usize = 256;
pub(crate) const MAX_OUTCOME: usize = 64 * 1024;

/// One side of attested connections: who we are.
pub struct Party {
    /// What we claim to be.
    pub role: Role,
    /// Our key.
    pub key: Arc<TeeKey>,
    /// The TEE that we run in.
    pub tee: Arc<dyn Tee>,
    /// The time.
    pub clock: Clock,
    /// What appraises peers, and remembers what their vendors signed: one for all connections.
    pub verifier: Arc<Verifier>,
}

/// What this side requires of the other, chosen by the claims that it makes.
pub trait PeerPolicy: Send + Sync {
    /// The peer's role.
    fn role(&self) -> Role;

    /// Policy and reference values for a peer that offers Evidence of `platform` and makes these claims. A
    /// refusal here is one that no Evidence could mend, such as a Marble that the manifest does not name.
    fn expectations(&self, platform: Platform, claims: &[u8]) -> Result<Expectations, ClaimsRefused>;
}

/// Policy and reference values for one peer.
pub struct Expectations {
    /// Platforms that are acceptable.
    pub policy: Policy,
    /// Code that is acceptable.
    pub measurements: Vec<ReferenceValue>,
}

/// The claims themselves rule the peer out.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{reason}")]
pub struct ClaimsRefused {
    /// Stable code.
    pub code: &'static str,
    /// One sentence.
    pub reason: String,
}

/// A peer whose Evidence was appraised on this connection.
#[derive(Debug)]
pub struct AttestedPeer {
    /// The proof.
    pub appraised: Appraised,
    /// The claims that the Evidence covers, exact bytes.
    pub claims: Vec<u8>,
    /// The peer's key on this connection.
    pub key: SpkiDigest,
    /// The peer's SubjectPublicKeyInfo, DER.
    pub public_key: Vec<u8>,
    /// What was appraised, to be appraised again by other expectations.
    pub presented: Presented,
}

/// A stream whose peer was appraised. Made by [`connect`], [`accept`] and [`crate::direct::connect`] only.
pub struct Attested<S> {
    stream: TlsStream<S>,
    peer: Arc<AttestedPeer>,
}

impl<S> Attested<S> {
    /// Who is at the other end.
    pub fn peer(&self) -> &Arc<AttestedPeer> {
        &self.peer
    }

    pub(crate) fn new(stream: TlsStream<S>, peer: AttestedPeer) -> Self {
        Self { stream, peer: Arc::new(peer) }
    }
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Hello {
    version: u8,
    role: String,
    nonce: ByteArray<32>,
}

const VERSION: u8 = 1;

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) enum Outcome {
    Accepted,
    Refused { codes: Vec<String>, reason: String },
}

#[derive(Clone, Copy)]
pub(crate) enum Direction {
    ClientToServer,
    ServerToClient,
}

impl Direction {
    fn label(self) -> &'static str {
        match self {
            Self::ClientToServer => "client to server",
            Self::ServerToClient => "server to client",
        }
    }

    fn reversed(self) -> Self {
        match self {
            Self::ClientToServer => Self::ServerToClient,
            Self::ServerToClient => Self::ClientToServer,
        }
    }
}

/// Connects as client over `stream`, proves `claims`, and requires `policy` of the server.
pub async fn connect<S>(
    stream: S,
    party: &Party,
    claims: Vec<u8>,
    policy: &dyn PeerPolicy,
) -> Result<Attested<S>, ChannelError>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    within_time(async {
        let config = tls::client_config(&party.key, party.clock.clone(), ALPN)?;
        let stream = TlsConnector::from(config)
            .connect(tls::server_name(), stream)
            .await
            .map_err(ChannelError::Tls)?;
        attest(TlsStream::Client(stream), Direction::ClientToServer, party, claims, &[policy]).await
    })
    .await
    .map(|(attested, _)| attested)
}

/// Accepts as server on `stream`, proves `claims`, and requires `policy` of the client.
pub async fn accept<S>(
    stream: S,
    party: &Party,
    claims: Vec<u8>,
    policy: &dyn PeerPolicy,
) -> Result<Attested<S>, ChannelError>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    accept_any(stream, party, claims, &[policy]).await.map(|(attested, _)| attested)
}

/// As [`accept`], from clients of several roles: each must meet the policy of the role that it says it has, and is bound
/// to that role by its Evidence. Gives the role.
pub async fn accept_any<S>(
    stream: S,
    party: &Party,
    claims: Vec<u8>,
    policies: &[&dyn PeerPolicy],
) -> Result<(Attested<S>, Role), ChannelError>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    within_time(async {
        let config = tls::server_config(&party.key, party.clock.clone(), ALPN)?;
        let stream = TlsAcceptor::from(config).accept(stream).await.map_err(ChannelError::Tls)?;
        attest(TlsStream::Server(stream), Direction::ServerToClient, party, claims, policies).await
    })
    .await
}

pub(crate) async fn within_time<T>(
    exchange: impl Future<Output = Result<T, ChannelError>>,
) -> Result<T, ChannelError> {
    tokio::time::timeout(HANDSHAKE_TIMEOUT, exchange).await.unwrap_or(Err(ChannelError::Timeout))
}

async fn attest<S>(
    mut stream: TlsStream<S>,
    ours: Direction,
    party: &Party,
    claims: Vec<u8>,
    policies: &[&dyn PeerPolicy],
) -> Result<(Attested<S>, Role), ChannelError>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let (exporter, peer_certificate) = connection_facts(&stream, ALPN, EXPORTER_LABEL)?;
    let peer_key =
        SpkiDigest::of_certificate(&peer_certificate).map_err(|_| ChannelError::PeerCertificate)?;

    let nonce = fresh_nonce()?;
    let hello = Hello { version: VERSION, role: party.role.to_string(), nonce: ByteArray::new(nonce) };
    frame::write(&mut stream, &hello).await?;
    let theirs: Hello = frame::read(&mut stream, MAX_HELLO).await?;
    if theirs.version != VERSION {
        return Err(ChannelError::Version { seen: theirs.version });
    }
    let Some(policy) = policies.iter().find(|policy| policy.role().as_str() == theirs.role).copied() else {
        let expected = policies.first().map_or(party.role, |policy| policy.role());
        return Err(ChannelError::Role { expected, seen: theirs.role });
    };

    let our_nonce =
        connection_nonce(&theirs.nonce, &exporter, party.key.digest(), &peer_key, party.role, ours);
    let statement = issue(party.tee.clone(), party.role, *party.key.digest(), our_nonce, claims).await?;
    let presented: Statement = {
        // At once, in both directions: a statement may be larger than what the transport takes without being read.
        let (mut reader, mut writer) = tokio::io::split(&mut stream);
        let told = frame::write(&mut writer, &statement);
        tokio::try_join!(told, frame::read(&mut reader, MAX_STATEMENT))?.1
    };

    let their_nonce =
        connection_nonce(&nonce, &exporter, &peer_key, party.key.digest(), policy.role(), ours.reversed());
    let appraisal = appraise(&presented, peer_key, &their_nonce, (&party.verifier, &party.clock), policy);
    let (told, heard) = exchange_outcomes(&mut stream, &appraisal).await;
    let appraised = appraisal?;
    told?;
    if let Outcome::Refused { codes, reason } = heard? {
        return Err(ChannelError::RefusedByPeer { codes, reason });
    }

    let public_key = public_key_of(&peer_certificate)?;
    let (presented, claims) = presented.kept(policy.role(), &peer_key, &their_nonce);
    let peer = AttestedPeer { appraised, claims, key: peer_key, public_key, presented };
    Ok((Attested::new(stream, peer), policy.role()))
}

/// Both sides always tell and always hear, also when they refuse: a connection that is closed over unread bytes
/// is reset, and the reason would be lost. But a peer that is refused is not waited for long, or it could turn
/// the refusal into a timeout by its silence.
async fn exchange_outcomes<S>(
    stream: &mut TlsStream<S>,
    appraisal: &Result<Appraised, ChannelError>,
) -> (Result<(), ChannelError>, Result<Outcome, ChannelError>)
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let (mut reader, mut writer) = tokio::io::split(stream);
    let ours = outcome(appraisal);
    let exchange =
        async { tokio::join!(frame::write(&mut writer, &ours), frame::read(&mut reader, MAX_OUTCOME)) };
    let patience = if appraisal.is_ok() { HANDSHAKE_TIMEOUT } else { REFUSED_TIMEOUT };
    let silence = |_| (Err(ChannelError::Timeout), Err(ChannelError::Timeout));
    tokio::time::timeout(patience, exchange).await.unwrap_or_else(silence)
}

/// The exporter and the peer's certificate; anything but a full TLS 1.3 handshake with both is a failure.
pub(crate) fn connection_facts<S>(
    stream: &TlsStream<S>,
    alpn: &[u8],
    label: &[u8],
) -> Result<([u8; 32], Vec<u8>), ChannelError> {
    let (_, connection) = stream.get_ref();
    if connection.protocol_version() != Some(ProtocolVersion::TLSv1_3)
        || !matches!(
            connection.handshake_kind(),
            Some(HandshakeKind::Full | HandshakeKind::FullWithHelloRetryRequest)
        )
        || connection.alpn_protocol() != Some(alpn)
    {
        return Err(ChannelError::NotAttestable);
    }
    let mut exporter = [0; 32];
    match stream {
        TlsStream::Client(stream) => stream.get_ref().1.export_keying_material(&mut exporter, label, None),
        TlsStream::Server(stream) => stream.get_ref().1.export_keying_material(&mut exporter, label, None),
    }
    .map_err(ChannelError::Exporter)?;
    // Only the first certificate identifies the peer: it is the one whose key signed this handshake.
    let leaf = connection
        .peer_certificates()
        .and_then(|chain| chain.first())
        .ok_or(ChannelError::PeerCertificate)?;
    Ok((exporter, leaf.to_vec()))
}

/// What stands in the place of the nonce in the transcript: the verifier's nonce bound to the connection.
/// SHA-256 over the deterministic CBOR array
/// `["bailey/channel/1", nonce, exporter, attester key, verifier key, role, direction]`.
pub(crate) fn connection_nonce(
    nonce: &[u8; 32],
    exporter: &[u8; 32],
    attester_key: &SpkiDigest,
    verifier_key: &SpkiDigest,
    role: Role,
    direction: Direction,
) -> [u8; 32] {
    let transcript = (
        "bailey/channel/1",
        ByteArray::new(*nonce),
        ByteArray::new(*exporter),
        ByteArray::new(attester_key.0),
        ByteArray::new(verifier_key.0),
        role.as_str(),
        direction.label(),
    );
    let mut bytes = Vec::new();
    ciborium::into_writer(&transcript, &mut bytes).expect("writing plain data to memory cannot fail");
    sha256(&bytes)
}

pub(crate) fn fresh_nonce() -> Result<[u8; 32], ChannelError> {
    let mut nonce = [0; 32];
    SystemRandom::new().fill(&mut nonce).map_err(|_| ChannelError::Randomness)?;
    Ok(nonce)
}

pub(crate) async fn issue(
    tee: Arc<dyn Tee>,
    role: Role,
    key: SpkiDigest,
    nonce: [u8; 32],
    claims: Vec<u8>,
) -> Result<Statement, ChannelError> {
    tokio::task::spawn_blocking(move || Statement::issue(tee.as_ref(), role, &key, &nonce, claims))
        .await
        .map_err(|_| ChannelError::Cancelled)?
        .map_err(ChannelError::Attester)
}

pub(crate) fn appraise(
    presented: &Statement,
    key: SpkiDigest,
    nonce: &[u8; 32],
    (verifier, clock): (&Verifier, &Clock),
    policy: &dyn PeerPolicy,
) -> Result<Appraised, ChannelError> {
    presented.within_limits()?;
    let platform = presented.evidence()?.platform();
    let expectations = policy.expectations(platform, &presented.claims)?;
    let expected = Expected {
        role: policy.role(),
        key,
        nonce,
        measurements: &expectations.measurements,
        policy: &expectations.policy,
        now: clock(),
    };
    presented.appraise(&expected, verifier).map_err(ChannelError::from)
}

/// What the peer is told: codes and one sentence. The whole tree stays on this side.
pub(crate) fn outcome(appraisal: &Result<Appraised, ChannelError>) -> Outcome {
    match appraisal {
        Ok(_) => Outcome::Accepted,
        Err(error) => Outcome::Refused { codes: error.codes(), reason: error.to_string() },
    }
}

pub(crate) fn public_key_of(certificate: &[u8]) -> Result<Vec<u8>, ChannelError> {
    use x509_parser::prelude::{FromDer, X509Certificate};
    let (_, parsed) = X509Certificate::from_der(certificate).map_err(|_| ChannelError::PeerCertificate)?;
    Ok(parsed.tbs_certificate.subject_pki.raw.to_vec())
}

/// Why an attested connection did not come about.
#[derive(Debug, thiserror::Error)]
pub enum ChannelError {
    /// The handshake or the transport failed.
    #[error("the TLS handshake failed")]
    Tls(#[source] io::Error),
    /// Our own TLS configuration is refused.
    #[error("the TLS configuration is refused")]
    Configuration(#[from] rustls::Error),
    /// The connection broke.
    #[error("the connection broke during attestation")]
    Transport(#[from] io::Error),
    /// It took too long.
    #[error("the peer did not finish attestation within {} s", HANDSHAKE_TIMEOUT.as_secs())]
    Timeout,
    /// Not a full TLS 1.3 handshake of our protocol (S-05).
    #[error("the connection cannot carry attestation: it must be a full TLS 1.3 handshake of our protocol")]
    NotAttestable,
    /// No exporter, no binding (S-05).
    #[error("the connection has no keying material to bind Evidence to")]
    Exporter(#[source] rustls::Error),
    /// The peer showed no certificate that parses.
    #[error("the peer presented no usable certificate")]
    PeerCertificate,
    /// A protocol message is malformed.
    #[error("the peer's attestation message is malformed: {0}")]
    Malformed(&'static str),
    /// A protocol message is too large.
    #[error("the peer announced a message of {size} bytes; {max} are allowed")]
    TooLarge {
        /// Announced.
        size: usize,
        /// Allowed.
        max: usize,
    },
    /// The peer speaks another version.
    #[error("the peer speaks version {seen} of the attestation protocol, this side {VERSION}")]
    Version {
        /// The peer's version.
        seen: u8,
    },
    /// The peer is something else than it must be.
    #[error("the peer attests as {seen:?}, and a {expected} is required here")]
    Role {
        /// Required.
        expected: Role,
        /// Offered.
        seen: String,
    },
    /// Our own TEE gave no Evidence.
    #[error("this TEE gave no Evidence")]
    Attester(#[source] AttesterError),
    /// No random numbers.
    #[error("no random numbers could be had")]
    Randomness,
    /// The process is shutting down.
    #[error("the attestation was cancelled")]
    Cancelled,
    /// The peer's claims rule it out.
    #[error("the peer's claims are refused: {0}")]
    Claims(#[from] ClaimsRefused),
    /// The peer's Evidence is malformed or refused.
    #[error("the peer is refused: {0}")]
    Statement(#[from] StatementError),
    /// A Keep of one deployment had its client.
    #[error("this Keep had its client")]
    Taken,
    /// The peer refused us.
    #[error("the peer refused this side: {reason}")]
    RefusedByPeer {
        /// The peer's codes.
        codes: Vec<String>,
        /// The peer's sentence.
        reason: String,
    },
}

impl ChannelError {
    /// Stable codes of the cause.
    pub fn codes(&self) -> Vec<String> {
        match self {
            Self::Claims(refused) => vec![refused.code.to_owned()],
            Self::Statement(StatementError::Refused(refused)) => {
                refused.codes().iter().map(ToString::to_string).collect()
            }
            Self::Statement(_) => vec!["EVIDENCE_MALFORMED".into()],
            Self::RefusedByPeer { codes, .. } => codes.clone(),
            Self::NotAttestable | Self::Exporter(_) => vec!["CHANNEL_NOT_ATTESTABLE".into()],
            Self::Malformed(_) | Self::TooLarge { .. } | Self::Version { .. } => {
                vec!["CHANNEL_MALFORMED".into()]
            }
            Self::Role { .. } => vec!["CHANNEL_WRONG_ROLE".into()],
            Self::Taken => vec!["KEEP_TAKEN".into()],
            Self::Timeout => vec!["CHANNEL_TIMEOUT".into()],
            Self::Tls(_) | Self::Transport(_) | Self::PeerCertificate => vec!["CHANNEL_BROKEN".into()],
            Self::Configuration(_) | Self::Attester(_) | Self::Randomness | Self::Cancelled => {
                vec!["INTERNAL".into()]
            }
        }
    }

    /// The peer's verdict tree, where its Evidence was appraised and refused.
    pub fn refused(&self) -> Option<&Refused> {
        match self {
            Self::Statement(StatementError::Refused(refused)) => Some(refused),
            _ => None,
        }
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncRead for Attested<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(cx, buf)
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncWrite for Attested<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

//! The attested connection of a direct deployment: a client that is no TEE verifies a Keep that serves it alone
//! (design.md §5). Both have keys of this connection only. The Keep's Evidence covers, as on every attested connection,
//! the verifier's nonce, the exporter, both keys, role and direction; and the Keep's claims name the client's key, so
//! that what a client verified is its own Keep and not another's.
//!
//! ```text
//!  client                                  Keep
//!   │ TLS 1.3 with two fresh keys, ALPN bailey-direct/1
//!   ├── Opening { version, nonce } ────────▶│
//!   │◀── Presented { evidence, claims } ────┤   or Refused: it is taken, or speaks another version
//!   ├── Outcome ───────────────────────────▶│
//!   │◀── Outcome ───────────────────────────┤   Accepted: this client has the Keep, for good
//! ```
//!
//! The role `direct-keep` is that of no Marble and no coordinator, in the Evidence as in the measured launch
//! configuration: neither passes for the other.

use std::sync::Arc;

use appraisal::{Verifier, binding::Role};
use attester::Tee;
use claims::{Claims, DirectClaims};
use serde::{Deserialize, Serialize};
use serde_bytes::ByteArray;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio_rustls::{TlsAcceptor, TlsConnector, TlsStream};

use crate::{
    channel::{
        Attested, AttestedPeer, ChannelError, ClaimsRefused, Direction, MAX_HELLO, MAX_OUTCOME, Outcome,
        PeerPolicy, appraise, connection_facts, connection_nonce, fresh_nonce, issue, outcome, public_key_of,
        tls, within_time,
    },
    clock::Clock,
    frame,
    key::{SpkiDigest, TeeKey, sha256},
    statement::{MAX_STATEMENT, Statement},
};

/// The application protocol (RFC 7301) of these connections.
pub const ALPN: &[u8] = b"bailey-direct/1";

const EXPORTER_LABEL: &[u8] = b"EXPORTER-bailey-direct-1";
const VERSION: u8 = 1;

/// The client: it has no Evidence, and makes a key for each connection.
pub struct Client {
    /// The time.
    pub clock: Clock,
    /// What appraises the Keep.
    pub verifier: Arc<Verifier>,
}

/// The Keep: it requires nothing of its client, who is whoever comes first.
pub struct Server {
    /// The TEE that we run in.
    pub tee: Arc<dyn Tee>,
    /// The time.
    pub clock: Clock,
    /// The engine and its version, for the claims.
    pub engine: String,
}

/// The stream of the client that has this Keep.
pub struct Accepted<S> {
    /// What comes and goes is between the two of us.
    pub stream: TlsStream<S>,
    /// The client's key on this connection.
    pub client: SpkiDigest,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Opening {
    version: u8,
    nonce: ByteArray<32>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
enum Answer {
    Presented(Statement),
    Refused { codes: Vec<String>, reason: String },
}

/// How far a connection has come, for whoever tells a person.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step {
    /// TLS is done, with two fresh keys.
    Secured,
    /// The Keep's Evidence is here.
    Presented,
    /// It is accepted, and so are the claims.
    Appraised,
    /// The Keep is ours.
    Taken,
}

/// Connects to a Keep over `stream`, and requires `policy` of it. Its claims are [`DirectClaims`] that name our key.
pub async fn connect<S>(
    stream: S,
    client: &Client,
    policy: &dyn PeerPolicy,
) -> Result<Attested<S>, ChannelError>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    connect_telling(stream, client, policy, |_| {}).await
}

/// As [`connect`], telling each step when it is done.
pub async fn connect_telling<S>(
    stream: S,
    client: &Client,
    policy: &dyn PeerPolicy,
    mut tell: impl FnMut(Step),
) -> Result<Attested<S>, ChannelError>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    within_time(async {
        let key = TeeKey::generate().map_err(|_| ChannelError::Randomness)?;
        let config = tls::client_config(&key, client.clock.clone(), ALPN)?;
        let stream = TlsConnector::from(config).connect(tls::server_name(), stream).await;
        let stream = TlsStream::Client(stream.map_err(ChannelError::Tls)?);
        tell(Step::Secured);
        verify(stream, &key, client, policy, &mut tell).await
    })
    .await
}

async fn verify<S>(
    mut stream: TlsStream<S>,
    key: &TeeKey,
    client: &Client,
    policy: &dyn PeerPolicy,
    tell: &mut impl FnMut(Step),
) -> Result<Attested<S>, ChannelError>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let (exporter, certificate) = connection_facts(&stream, ALPN, EXPORTER_LABEL)?;
    let theirs = SpkiDigest::of_certificate(&certificate).map_err(|_| ChannelError::PeerCertificate)?;
    let nonce = fresh_nonce()?;
    frame::write(&mut stream, &Opening { version: VERSION, nonce: ByteArray::new(nonce) }).await?;
    let presented = match frame::read(&mut stream, MAX_STATEMENT + MAX_HELLO).await? {
        Answer::Presented(statement) => statement,
        Answer::Refused { codes, reason } => return Err(ChannelError::RefusedByPeer { codes, reason }),
    };
    tell(Step::Presented);
    let nonce = connection_nonce(
        &nonce,
        &exporter,
        &theirs,
        key.digest(),
        Role::DirectKeep,
        Direction::ServerToClient,
    );
    let appraisal = match policy.role() {
        Role::DirectKeep => appraise(&presented, theirs, &nonce, (&client.verifier, &client.clock), policy),
        expected => Err(ChannelError::Role { expected, seen: Role::DirectKeep.to_string() }),
    };
    let appraisal = appraisal.and_then(|appraised| {
        names(&presented.claims, key.digest())?;
        Ok(appraised)
    });
    let told = frame::write(&mut stream, &outcome(&appraisal)).await;
    let appraised = appraisal?;
    told?;
    tell(Step::Appraised);
    match frame::read(&mut stream, MAX_OUTCOME).await? {
        Outcome::Accepted => {}
        Outcome::Refused { codes, reason } => return Err(ChannelError::RefusedByPeer { codes, reason }),
    }
    tell(Step::Taken);
    let public_key = public_key_of(&certificate)?;
    let (presented, claims) = presented.kept(Role::DirectKeep, &theirs, &nonce);
    Ok(Attested::new(stream, AttestedPeer { appraised, claims, key: theirs, public_key, presented }))
}

/// Whether the claims are of a Keep that serves the client with this key.
fn names(claims: &[u8], client: &SpkiDigest) -> Result<(), ClaimsRefused> {
    let refused = |code, reason| ClaimsRefused { code, reason };
    let claims = DirectClaims::from_bytes(claims)
        .map_err(|error| refused("CLAIMS_MALFORMED", format!("not a direct Keep's: {error}")))?;
    if *claims.client != client.0 {
        return Err(refused("CLIENT_KEY_MISMATCH", "the Keep serves a client with another key".into()));
    }
    Ok(())
}

/// Accepts a client on `stream`. It has this Keep once it accepted our Evidence and `take` says that it is the first
/// to do so; a client that is refused, that refuses, or that is silent leaves the Keep as it was.
pub async fn accept<S>(
    stream: S,
    server: &Server,
    take: impl FnOnce() -> bool,
) -> Result<Accepted<S>, ChannelError>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    within_time(async {
        let key = TeeKey::generate().map_err(|_| ChannelError::Randomness)?;
        let config = tls::server_config(&key, server.clock.clone(), ALPN)?;
        let stream = TlsAcceptor::from(config).accept(stream).await.map_err(ChannelError::Tls)?;
        prove(TlsStream::Server(stream), &key, server, take).await
    })
    .await
}

async fn prove<S>(
    mut stream: TlsStream<S>,
    key: &TeeKey,
    server: &Server,
    take: impl FnOnce() -> bool,
) -> Result<Accepted<S>, ChannelError>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let (exporter, certificate) = connection_facts(&stream, ALPN, EXPORTER_LABEL)?;
    let client = SpkiDigest::of_certificate(&certificate).map_err(|_| ChannelError::PeerCertificate)?;
    let opening: Opening = frame::read(&mut stream, MAX_HELLO).await?;
    if opening.version != VERSION {
        let error = ChannelError::Version { seen: opening.version };
        let (codes, reason) = (error.codes(), format!("this Keep speaks version {VERSION}"));
        frame::write(&mut stream, &Answer::Refused { codes, reason }).await?;
        return Err(error);
    }
    let role = Role::DirectKeep;
    let nonce =
        connection_nonce(&opening.nonce, &exporter, key.digest(), &client, role, Direction::ServerToClient);
    let claims = DirectClaims {
        client: ByteArray::new(client.0),
        engine: server.engine.clone(),
        configuration: ByteArray::new(sha256(server.tee.launch_configuration())),
    };
    let statement = issue(server.tee.clone(), role, *key.digest(), nonce, claims.to_bytes()).await?;
    frame::write(&mut stream, &Answer::Presented(statement)).await?;
    if let Outcome::Refused { codes, reason } = frame::read(&mut stream, MAX_OUTCOME).await? {
        return Err(ChannelError::RefusedByPeer { codes, reason });
    }
    if !take() {
        let (codes, reason) = (ChannelError::Taken.codes(), ChannelError::Taken.to_string());
        frame::write(&mut stream, &Outcome::Refused { codes, reason }).await?;
        return Err(ChannelError::Taken);
    }
    frame::write(&mut stream, &Outcome::Accepted).await?;
    Ok(Accepted { stream, client })
}

//! From the first byte of a connection to its session: TLS, who it is, what it asks for, PostgreSQL.

use std::{io, sync::Arc, time::Duration};

use bytes::{BufMut, BytesMut};
use rustls::pki_types::CertificateDer;
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt},
    net::TcpStream,
};
use tokio_rustls::server::TlsStream;

use super::{
    FULL, PROTOCOL, Shared,
    message::{self, Malformed},
    session::Session,
    startup::{self, First, MAX_START, Start, VERSION_3},
    statement::Rights,
    upstream::{self, NoSession},
};
use crate::{
    Rules,
    audit::{AuditError, Event, Interface, Refused, Who},
    identity::{Anchors, Caller},
};

/// The first byte of a TLS record with a handshake.
const HANDSHAKE: u8 = 0x16;

/// How long a client that was refused may take to hang up.
const LINGER: Duration = Duration::from_millis(500);

/// Why nothing was understood.
enum Fault {
    /// The connection broke.
    Io(io::Error),
    /// What came is no beginning of a session.
    Malformed(Malformed),
}

impl From<io::Error> for Fault {
    fn from(error: io::Error) -> Self {
        Self::Io(error)
    }
}

impl From<Malformed> for Fault {
    fn from(fault: Malformed) -> Self {
        Self::Malformed(fault)
    }
}

/// What the client is told when it gets no session: SQLSTATE, sentence.
struct Told(&'static str, String);

/// Serves one connection to its end.
pub(super) async fn serve(shared: &Arc<Shared>, stream: TcpStream) {
    let start = async {
        let _starting = shared.starting.acquire().await.ok()?;
        let (mut tls, start) = match opened(shared, stream).await {
            Ok(opened) => opened?,
            Err(error) => {
                tracing::debug!(%error, "a connection did not start");
                return None;
            }
        };
        match begun(shared, &tls, start).await {
            Ok(session) => Some((tls, session)),
            Err(Told(sqlstate, sentence)) => {
                farewell(&mut tls, sqlstate, &sentence).await;
                None
            }
        }
    };
    if let Ok(Some((tls, session))) = tokio::time::timeout(shared.gateway.limits.start, start).await {
        session.run(tls).await;
    }
}

/// TLS, and what the client asks for in it. `None`: nothing more, the connection is done.
async fn opened(shared: &Shared, mut stream: TcpStream) -> io::Result<Option<(TlsStream<TcpStream>, Start)>> {
    stream.set_nodelay(true)?;
    let direct = peeked(&stream).await? == HANDSHAKE;
    if !direct {
        match agreed_on_tls(shared, &mut stream).await {
            Ok(true) => {}
            Ok(false) => return Ok(None),
            Err(fault) => return violation(shared, &mut stream, None, fault).await,
        }
    }
    // Of what came so far, not a byte more than one request has been read: nothing that was sent in the clear can count
    // as sent within TLS.
    let mut tls = match shared.tls.accept(stream).await {
        Ok(tls) => tls,
        Err(error) => {
            // Whoever hangs up has not tried anything.
            if error.kind() == io::ErrorKind::InvalidData {
                stranger(shared, None, "TLS_REFUSED", &error.to_string()).await;
            }
            return Err(error);
        }
    };
    match asked(shared, &mut tls, direct).await {
        Ok(start) => Ok(start.map(|start| (tls, start))),
        Err(fault) => {
            let leaf =
                tls.get_ref().1.peer_certificates().and_then(<[_]>::first).map(|it| it.clone().into_owned());
            violation(shared, &mut tls, leaf.as_ref(), fault).await
        }
    }
}

/// The next byte, which stays where it is.
async fn peeked(stream: &TcpStream) -> io::Result<u8> {
    let mut first = [0];
    match stream.peek(&mut first).await? {
        0 => Err(io::ErrorKind::UnexpectedEof.into()),
        _ => Ok(first[0]),
    }
}

/// What comes before TLS: a request for it, or one to end what a session runs, which older clients send in the clear.
async fn agreed_on_tls(shared: &Shared, stream: &mut TcpStream) -> Result<bool, Fault> {
    for _ in 0..2 {
        match startup::first(&packet(stream).await?)? {
            First::Tls => {
                stream.write_all(b"S").await?;
                // Bytes that somebody in between put behind the request, to be taken for the client's (CVE-2021-23214).
                return match peeked(stream).await? {
                    HANDSHAKE => Ok(true),
                    _ => Err(Malformed("there are bytes in the clear behind the request for TLS").into()),
                };
            }
            First::Gss => stream.write_all(b"N").await?,
            First::Cancel(key) => {
                shared.keys.cancel(key);
                return Ok(false);
            }
            First::Start(_) => {
                let sentence = "this database is reached over TLS alone: sslmode=verify-full";
                return Err(Malformed(sentence).into());
            }
        }
    }
    Err(Malformed("encryption is asked for again and again").into())
}

/// What is asked for within TLS; `None`: an end of what a session runs.
async fn asked(
    shared: &Shared,
    tls: &mut TlsStream<TcpStream>,
    direct: bool,
) -> Result<Option<Start>, Fault> {
    if direct && tls.get_ref().1.alpn_protocol() != Some(PROTOCOL) {
        return Err(Malformed("TLS without a request must name the protocol (ALPN)").into());
    }
    match startup::first(&packet(tls).await?)? {
        First::Start(start) => Ok(Some(start)),
        First::Cancel(key) => {
            shared.keys.cancel(key);
            Ok(None)
        }
        First::Tls | First::Gss => Err(Malformed("encryption is asked for within TLS").into()),
    }
}

/// A message without a type, as they come before a session.
async fn packet(stream: &mut (impl AsyncRead + Unpin)) -> Result<Vec<u8>, Fault> {
    let length = stream.read_u32().await?;
    let length = usize::try_from(length).ok().and_then(|it| it.checked_sub(4)).filter(|it| *it <= MAX_START);
    let mut body = vec![0; length.ok_or(Malformed("the first message has an impossible length"))?];
    match stream.read_exact(&mut body).await {
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => {
            Err(Malformed("the first message is cut off").into())
        }
        other => Ok(other.map(|_| body)?),
    }
}

/// Records what broke the protocol before there was a session, and says so.
async fn violation<T>(
    shared: &Shared,
    stream: &mut (impl AsyncRead + AsyncWrite + Unpin),
    leaf: Option<&CertificateDer<'_>>,
    fault: Fault,
) -> io::Result<Option<T>> {
    match fault {
        Fault::Io(error) => Err(error),
        Fault::Malformed(Malformed(sentence)) => {
            stranger(shared, leaf, "PROTOCOL_VIOLATION", sentence).await;
            farewell(stream, "08P01", sentence).await;
            drain(stream).await;
            Ok(None)
        }
    }
}

async fn farewell(stream: &mut (impl AsyncWrite + Unpin), sqlstate: &str, sentence: &str) {
    let mut out = BytesMut::new();
    message::put_error(&mut out, "FATAL", sqlstate, sentence);
    // Whoever has gone is not told.
    let _ = stream.write_all(&out).await;
    let _ = stream.shutdown().await;
}

/// Reads and drops what still comes, for a moment: a connection that is closed on unread bytes is reset, and with it goes
/// the sentence.
async fn drain(stream: &mut (impl AsyncRead + Unpin)) {
    let mut part = [0; 4096];
    let dropping = async {
        for _ in 0..64 {
            if !matches!(stream.read(&mut part).await, Ok(1..)) {
                break;
            }
        }
    };
    let _ = tokio::time::timeout(LINGER, dropping).await;
}

/// Records a refusal of somebody of whom nothing is known, or not yet. Nobody is let in, whether it is recorded or not.
async fn stranger(shared: &Shared, leaf: Option<&CertificateDer<'_>>, code: &str, reason: &str) {
    let audit = &shared.gateway.audit;
    if let Err(error) = audit.turned_away_for(leaf, Interface::Sql, code, reason).await {
        tracing::error!(code = error.code(), "the audit log cannot be written");
    }
}

/// A session for a client that TLS let in.
async fn begun(shared: &Arc<Shared>, tls: &TlsStream<TcpStream>, start: Start) -> Result<Session, Told> {
    let gateway = &shared.gateway;
    let mut watched = gateway.rules.clone();
    let rules = Arc::clone(&watched.borrow_and_update());
    let chain: Vec<_> = tls
        .get_ref()
        .1
        .peer_certificates()
        .unwrap_or_default()
        .iter()
        .map(|it| it.clone().into_owned())
        .collect();
    let caller = identified(shared, &rules, &chain).await?;
    let denied = |code: &str, reason: String| Event::Denied {
        caller: Who::of(&caller),
        what: Refused::Message { name: "StartupMessage".to_owned() },
        code: code.to_owned(),
        reason,
    };
    if let Some(name) = start.refused {
        let sentence = format!("the start-up parameter `{name}` is refused, or its value");
        record(shared, denied("START_PARAMETER", sentence.clone())).await?;
        return Err(Told("42501", sentence));
    }
    let database = &rules.manifest.name;
    if start.database != *database {
        let sentence = format!(
            "database \"{}\" does not exist here; it is `{database}`",
            start.database.escape_default()
        );
        return Err(Told("3D000", sentence));
    }
    let party = caller.party();
    let too_many = || Told("53300", format!("the party {party} has as many sessions as it may"));
    let rights = Rights::new(&rules.manifest, party);
    if gateway.limits.is_full() && !rights.writes.is_empty() {
        return Err(Told(FULL.0, FULL.1.to_owned()));
    }
    let seat = shared.seats.take(party).ok_or_else(too_many)?;
    let unavailable = |_| Told("57P03", "the database takes no sessions now".to_owned());
    let upstream =
        upstream::begin(&gateway.socket, party, database, &start.settings).await.map_err(|error| {
            tracing::warn!(%error, "no session in PostgreSQL");
            match error {
                NoSession::Refused(sqlstate, _) if sqlstate == "53300" => too_many(),
                other => unavailable(other),
            }
        })?;
    record(shared, Event::Login { caller: Who::of(&caller), interface: Interface::Sql }).await?;
    let key = shared.keys.register().map_err(|_| Told("57P03", "there is no randomness".to_owned()))?;
    let mut greeting = BytesMut::new();
    if start.minor > 0 || !start.unknown.is_empty() {
        message::put(&mut greeting, b'v', |out| {
            // The whole version, as PostgreSQL says it and libpq reads it; its documentation speaks of the minor one.
            out.put_u32(VERSION_3);
            out.put_i32(i32::try_from(start.unknown.len()).unwrap_or(0));
            start.unknown.iter().for_each(|it| message::put_text(out, it));
        });
    }
    message::put(&mut greeting, b'R', |out| out.put_i32(0));
    greeting.extend_from_slice(&upstream.parameters);
    message::put(&mut greeting, b'K', |out| out.put_slice(&key.key));
    message::put(&mut greeting, b'Z', |out| out.put_u8(b'I'));
    Ok(Session::new(
        shared,
        watched,
        caller,
        chain,
        rights,
        Arc::clone(&rules.manifest),
        (upstream, key, seat),
        greeting,
    ))
}

async fn identified(
    shared: &Shared,
    rules: &Rules,
    chain: &[CertificateDer<'static>],
) -> Result<Caller, Told> {
    let unusable = |_| Told("57P03", "the manifest has an anchor that cannot be used".to_owned());
    let anchors = Anchors::new(&rules.manifest).map_err(unusable)?;
    match anchors.caller(chain, (shared.gateway.clock)()) {
        Ok(caller) => Ok(caller),
        Err(refusal) => {
            let recorded = shared.gateway.audit.turned_away(chain, Interface::Sql, &refusal).await;
            recorded.map_err(|error| unrecorded(&error))?;
            Err(Told("28000", refusal.to_string()))
        }
    }
}

async fn record(shared: &Shared, event: Event) -> Result<(), Told> {
    match shared.gateway.audit.record(event).await {
        Ok(_) => Ok(()),
        Err(error) => Err(unrecorded(&error)),
    }
}

fn unrecorded(error: &AuditError) -> Told {
    tracing::error!(code = error.code(), "the audit log cannot be written");
    Told("57P03", "the database takes no sessions now".to_owned())
}

//! From the first byte of a connection to its session: TLS, who it is, what it asks for, PostgreSQL.

use std::{io, sync::Arc};

use bytes::{BufMut, BytesMut};
use rustls::pki_types::CertificateDer;
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};
use tokio_rustls::server::TlsStream;

use super::{
    FULL, PROTOCOL, Shared,
    message::{self, Malformed},
    session::Session,
    startup::{self, First, MAX_START, Start},
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

/// Why there is no session.
#[derive(Debug, thiserror::Error)]
enum Fault {
    #[error("the connection broke")]
    Io(#[from] io::Error),
    #[error("{0}")]
    Malformed(#[from] Malformed),
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
                let mut out = BytesMut::new();
                message::put_error(&mut out, "FATAL", sqlstate, &sentence);
                let _ = tls.write_all(&out).await;
                let _ = tls.shutdown().await;
                None
            }
        }
    };
    if let Ok(Some((tls, session))) = tokio::time::timeout(shared.gateway.limits.start, start).await {
        session.run(tls).await;
    }
}

/// TLS, and what the client asks for in it. `None`: nothing more, the connection is done.
async fn opened(
    shared: &Shared,
    mut stream: TcpStream,
) -> Result<Option<(TlsStream<TcpStream>, Start)>, Fault> {
    stream.set_nodelay(true)?;
    let mut first = [0];
    stream.peek(&mut first).await?;
    let direct = first == [HANDSHAKE];
    if !direct && !asked_for_tls(shared, &mut stream).await? {
        return Ok(None);
    }
    // Of what came so far, not a byte more than one request has been read: nothing that was sent in the clear can count
    // as sent within TLS.
    let mut tls = shared.tls.accept(stream).await?;
    if direct && tls.get_ref().1.alpn_protocol() != Some(PROTOCOL) {
        return Err(Malformed("TLS without a request must name the protocol (ALPN)").into());
    }
    match startup::first(&packet(&mut tls).await?)? {
        First::Start(start) => Ok(Some((tls, start))),
        First::Cancel(key) => {
            shared.keys.cancel(key);
            Ok(None)
        }
        First::Tls | First::Gss => Err(Malformed("encryption is asked for within TLS").into()),
    }
}

/// What comes before TLS: a request for it, or one to end what a session runs, which older clients send in the clear.
async fn asked_for_tls(shared: &Shared, stream: &mut TcpStream) -> Result<bool, Fault> {
    for _ in 0..2 {
        match startup::first(&packet(stream).await?)? {
            First::Tls => {
                stream.write_all(b"S").await?;
                return Ok(true);
            }
            First::Gss => stream.write_all(b"N").await?,
            First::Cancel(key) => {
                shared.keys.cancel(key);
                return Ok(false);
            }
            First::Start(_) => {
                let mut out = BytesMut::new();
                message::put_error(
                    &mut out,
                    "FATAL",
                    "28000",
                    "this database is reached over TLS alone: sslmode=verify-full",
                );
                stream.write_all(&out).await?;
                return Ok(false);
            }
        }
    }
    Ok(false)
}

/// A message without a type, as they come before a session.
async fn packet(stream: &mut (impl AsyncRead + Unpin)) -> Result<Vec<u8>, Fault> {
    let length = stream.read_u32().await?;
    let length = usize::try_from(length).ok().and_then(|it| it.checked_sub(4)).filter(|it| *it <= MAX_START);
    let mut body = vec![0; length.ok_or(Malformed("the first message has an impossible length"))?];
    stream.read_exact(&mut body).await?;
    Ok(body)
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
            out.put_i32(0);
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

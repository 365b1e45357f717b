//! A session as it runs: bytes between the client, the conversation and PostgreSQL, and everything that ends it.

use std::{future::Future, io, pin::Pin, sync::Arc, time::Duration};

use bytes::BytesMut;
use database_manifest::Manifest;
use rustls::pki_types::CertificateDer;
use tokio::{
    io::{AsyncReadExt, AsyncWrite, AsyncWriteExt},
    net::{
        TcpStream,
        unix::{OwnedReadHalf, OwnedWriteHalf},
    },
    sync::watch,
    time::{Instant, sleep_until, timeout},
};
use tokio_rustls::server::TlsStream;

use super::{
    FULL, Shared,
    barrier::Unsealed,
    cancel::{Registered, Seat},
    conversation::{Conversation, Denial, End},
    ended, message,
    statement::Rights,
    upstream::{self, Upstream},
};
use crate::{
    Rules,
    audit::{Event, Refused, Who},
    identity::{Anchors, Caller},
};

/// Bytes that are read at a time.
const PART: usize = 16 << 10;
/// Refused statements after which a session ends: each is an entry of the audit log.
const MAX_DENIALS: usize = 1000;
/// How long a session whose PostgreSQL has gone waits to hear why.
const WHY: Duration = Duration::from_secs(1);

type Rows = Result<Vec<Vec<Option<String>>>, (&'static str, String)>;
type Calling = Pin<Box<dyn Future<Output = Rows> + Send>>;

pub(super) struct Session {
    shared: Arc<Shared>,
    rules: watch::Receiver<Arc<Rules>>,
    caller: Caller,
    chain: Vec<CertificateDer<'static>>,
    conversation: Conversation,
    from_server: OwnedReadHalf,
    to_server: OwnedWriteHalf,
    upstream_key: [u8; 8],
    key: Registered,
    _seat: Seat,
    denials: usize,
}

/// Why a session ends, as the client is told: SQLSTATE and sentence. `None`: it is not told, since it is gone.
type Goodbye = Option<(&'static str, String)>;

impl Session {
    #[expect(clippy::too_many_arguments, reason = "what a connection found out, put together once")]
    pub(super) fn new(
        shared: &Arc<Shared>,
        rules: watch::Receiver<Arc<Rules>>,
        caller: Caller,
        chain: Vec<CertificateDer<'static>>,
        rights: Rights,
        manifest: Arc<Manifest>,
        (upstream, key, seat): (Upstream, Registered, Seat),
        greeting: BytesMut,
    ) -> Self {
        let mut conversation = Conversation::new(rights, manifest);
        conversation.to_client = greeting;
        let (from_server, to_server) = upstream.stream.into_split();
        Self {
            shared: Arc::clone(shared),
            rules,
            caller,
            chain,
            conversation,
            from_server,
            to_server,
            upstream_key: upstream.key,
            key,
            _seat: seat,
            denials: 0,
        }
    }

    /// Runs it to its end.
    pub(super) async fn run(mut self, mut tls: TlsStream<TcpStream>) {
        let goodbye = self.pump(&mut tls).await;
        if self.conversation.interruptible() {
            self.interrupt().await;
        }
        let Some((sqlstate, sentence)) = goodbye else { return };
        let mut out = BytesMut::new();
        message::put_error(&mut out, "FATAL", sqlstate, &sentence);
        let farewell = async {
            let _ = tls.write_all(&out).await;
            let _ = tls.shutdown().await;
        };
        let _ = tokio::time::timeout(self.shared.gateway.limits.start, farewell).await;
    }

    async fn pump(&mut self, tls: &mut TlsStream<TcpStream>) -> Goodbye {
        let (mut from_client, mut to_client) = tokio::io::split(tls);
        let (mut client, mut server) = (BytesMut::new(), BytesMut::new());
        let mut call: Option<Calling> = None;
        let (mut unflushed, mut gone) = (false, false);
        let shared = Arc::clone(&self.shared);
        let limits = &shared.gateway.limits;
        let limit = limits.statement;
        let mut closing = shared.ending.clone();
        let mut deadline = Instant::now() + limit;
        loop {
            // Before anything else that came: a client that always sends would never be looked at again.
            if self.rules.has_changed().unwrap_or(false)
                && let Err(goodbye) = self.reconsider().await
            {
                return goodbye;
            }
            let ending = self.process(&mut client, &mut server).await;
            if let Err(goodbye) = ending {
                let _ = to_client.write_all(&self.conversation.to_client.split()).await;
                return goodbye;
            }
            call = call.or_else(|| self.due());
            let talk = &mut self.conversation;
            let (tells_client, tells_server) =
                (!talk.to_client.is_empty(), !talk.to_server.is_empty() && !gone);
            if gone && !tells_client && !unflushed {
                let why = timeout(WHY, ended(&mut closing)).await;
                return Some(("57P01", why.unwrap_or_else(|_| "the database ended the session".to_owned())));
            }
            let (hears_client, hears_server) = (talk.hears_client() && !gone, talk.hears_server() && !gone);
            let working = talk.busy() && call.is_none();
            if !working {
                deadline = Instant::now() + limit;
                tidy([&mut client, &mut server, &mut talk.to_client, &mut talk.to_server]);
            }
            let writes = !talk.rights().writes.is_empty();
            if hears_client {
                client.reserve(PART);
            }
            if hears_server {
                server.reserve(PART);
            }
            let turn = tokio::select! {
                biased;
                written = self.to_server.write_buf(&mut talk.to_server), if tells_server => {
                    Turn::ToServer(written)
                }
                told = tell(&mut to_client, &mut talk.to_client), if tells_client || unflushed => {
                    unflushed = tells_client;
                    Turn::Client(told)
                }
                rows = answered(&mut call), if call.is_some() => Turn::Answered(rows),
                read = self.from_server.read_buf(&mut server), if hears_server => Turn::FromServer(read),
                read = from_client.read_buf(&mut client), if hears_client => Turn::FromClient(read),
                () = self.key.wanted.notified() => Turn::Interrupt,
                changed = self.rules.changed() => Turn::Rules(changed.is_ok()),
                () = limits.filled(), if writes => Turn::Full,
                () = sleep_until(deadline), if working => Turn::Late,
                why = ended(&mut closing) => Turn::Ending(why),
            };
            match turn {
                Turn::ToServer(written) => gone |= written.is_err(),
                Turn::FromServer(read) => gone |= !matches!(read, Ok(1..)),
                Turn::Client(Err(_)) => return None,
                // What could be taken has been: what is left is the beginning of a message.
                Turn::FromClient(Ok(0) | Err(_)) => {
                    let cut = !client.is_empty() || self.conversation.within_message();
                    return if cut { self.violation("a message is cut off").await } else { None };
                }
                Turn::Client(Ok(())) => {}
                Turn::FromClient(Ok(_)) => deadline = Instant::now() + limit,
                Turn::Full => {
                    let (sqlstate, sentence) = FULL;
                    return Some((sqlstate, sentence.to_owned()));
                }
                Turn::Answered(rows) => {
                    call = None;
                    self.conversation.answered(rows);
                }
                Turn::Interrupt | Turn::Late => {
                    deadline = Instant::now() + limit;
                    if self.conversation.interruptible() {
                        self.interrupt().await;
                    }
                }
                Turn::Rules(true) => {
                    if let Err(goodbye) = self.reconsider().await {
                        return goodbye;
                    }
                }
                Turn::Ending(why) => {
                    let _ = to_client.write_all(&self.conversation.to_client.split()).await;
                    return Some(("57P01", why));
                }
                Turn::Rules(false) => return Some(("57P01", "the database is shutting down".to_owned())),
            }
        }
    }

    /// Goes on with what came, and records what was refused before anyone is told.
    async fn process(&mut self, client: &mut BytesMut, server: &mut BytesMut) -> Result<(), Goodbye> {
        let from_server = self.conversation.hear_server(server);
        let from_client = self.conversation.hear_client(client);
        for denial in std::mem::take(&mut self.conversation.denials) {
            self.denials += 1;
            self.record(statement(&denial), denial.refusal.code, denial.refusal.sentence).await?;
        }
        if self.conversation.unsealed {
            self.conversation.unsealed = false;
            let database = self.rules.borrow().manifest.name.clone();
            self.shared.barrier.raise(&database).await.map_err(unsealed)?;
        }
        if !self.conversation.to_client.is_empty() && !self.shared.barrier.open() {
            self.shared.barrier.passed().await.map_err(unsealed)?;
        }
        match (from_client, from_server) {
            (Ok(()), Ok(())) if self.denials > MAX_DENIALS => {
                Err(Some(("42501", "too many statements of this session were refused".to_owned())))
            }
            (Ok(()), Ok(())) => Ok(()),
            (Err(End::Client(fault)), _) => Err(self.violation(&fault.to_string()).await),
            (_, Err(fault)) | (Err(fault @ End::Server(_)), _) => {
                tracing::error!(%fault, "a session ends");
                Err(Some(("XX000", "the database has an internal fault".to_owned())))
            }
            (Err(End::Done), _) => Err(None),
        }
    }

    /// The client broke the protocol.
    async fn violation(&self, how: &str) -> Goodbye {
        let message = Refused::Message { name: "unknown".to_owned() };
        match self.record(message, "PROTOCOL_VIOLATION", how.to_owned()).await {
            Ok(()) => Some(("08P01", how.to_owned())),
            Err(goodbye) => goodbye,
        }
    }

    async fn record(&self, what: Refused, code: &str, reason: String) -> Result<(), Goodbye> {
        let event = Event::Denied { caller: Who::of(&self.caller), what, code: code.to_owned(), reason };
        match self.shared.gateway.audit.record(event).await {
            Ok(_) => Ok(()),
            Err(error) => {
                tracing::error!(code = error.code(), "the audit log cannot be written: a session ends");
                Err(Some(("57P01", "the database ended the session".to_owned())))
            }
        }
    }

    /// A call that has to be made now.
    fn due(&mut self) -> Option<Calling> {
        let (name, arguments) = self.conversation.due()?;
        let (shared, caller) = (Arc::clone(&self.shared), self.caller.clone());
        Some(Box::pin(async move {
            let arguments: Option<Vec<_>> = arguments.into_iter().collect();
            let arguments = arguments.ok_or(("22004", "NULL is no argument of an algorithm".to_owned()))?;
            let answer = shared.gateway.algorithms.answer(&caller, &name, arguments).await;
            answer.map(|it| it.rows).map_err(|denied| (denied.sqlstate(), denied.sentence()))
        }))
    }

    /// The rules changed: whoever is no longer the same party with the same rights starts anew, and with that every
    /// statement that was prepared under other rights is gone.
    async fn reconsider(&mut self) -> Result<(), Goodbye> {
        let rules = Arc::clone(&self.rules.borrow_and_update());
        let caller = Anchors::new(&rules.manifest)
            .ok()
            .and_then(|anchors| anchors.caller(&self.chain, (self.shared.gateway.clock)()).ok());
        let rights = Rights::new(&rules.manifest, self.caller.party());
        if caller.as_ref() == Some(&self.caller) && rights == *self.conversation.rights() {
            self.conversation.adopt(Arc::clone(&rules.manifest));
            Ok(())
        } else {
            let sentence = "the rules of this database have changed: connect again".to_owned();
            let session = Refused::Message { name: "session".to_owned() };
            self.record(session, "RIGHTS_CHANGED", sentence.clone()).await?;
            Err(Some(("57P01", sentence)))
        }
    }

    async fn interrupt(&self) {
        if let Err(error) = upstream::interrupt(&self.shared.gateway.socket, self.upstream_key).await {
            tracing::warn!(%error, "what runs could not be interrupted");
        }
    }
}

enum Turn {
    ToServer(io::Result<usize>),
    FromServer(io::Result<usize>),
    Client(io::Result<()>),
    FromClient(io::Result<usize>),
    Answered(Rows),
    Interrupt,
    Rules(bool),
    Full,
    Late,
    Ending(String),
}

/// Writes a part of what is there, or sees to it that nothing is left within TLS.
async fn tell(client: &mut (impl AsyncWrite + Unpin), bytes: &mut BytesMut) -> io::Result<()> {
    if bytes.is_empty() { client.flush().await } else { client.write_buf(bytes).await.map(drop) }
}

async fn answered(call: &mut Option<Calling>) -> Rows {
    match call {
        Some(call) => call.await,
        None => std::future::pending().await,
    }
}

/// Gives memory back that a long message took.
fn tidy(buffers: [&mut BytesMut; 4]) {
    for buffer in buffers {
        if buffer.is_empty() && buffer.capacity() > 0 {
            *buffer = BytesMut::new();
        }
    }
}

fn unsealed(_: Unsealed) -> Goodbye {
    Some(("57P01", "the database cannot make sure that what it shows is durable".to_owned()))
}

fn statement(denial: &Denial) -> Refused {
    let spoken = &denial.statement;
    Refused::Statement { command: spoken.command.clone(), digest: hex::encode(spoken.digest) }
}

//! One session between a client and PostgreSQL as a state machine without I/O: bytes of both sides come in, bytes for
//! both sides go out, and in between stands what PostgreSQL still has to answer.
//!
//! A statement that is refused is replaced by one that PostgreSQL refuses, and its error by ours: so the error comes
//! in its place among the other answers, and a transaction that was open has failed. A call of an algorithm is
//! replaced by a stand-in; its execution holds the client back until the answer is there.
//!
//! ```text
//!  client ─▶ admit? ─▶ to_server ─▶ PostgreSQL
//!              │ pending: Parse, Bind, Execute, Sync …
//!  client ◀─ to_client ◀─ errors made plain, rows as they are ◀─ PostgreSQL
//! ```

mod calls;
mod client;
mod errors;
mod server;

use std::{
    collections::{HashMap, VecDeque},
    sync::Arc,
};

use bytes::{Bytes, BytesMut};
use database_manifest::Manifest;

use super::{
    message::{self, Malformed},
    statement::{Kind, Prepared, REFUSED, Refusal, Rights, Spoken},
};
use calls::Hold;

/// Bytes that wait for one side before no more is read from the other.
const HIGH: usize = 64 << 10;
/// Answers that a client may leave open.
const MAX_PENDING: usize = 1024;
/// Named statements of a session.
const MAX_STATEMENTS: usize = 1024;
/// Portals of a transaction.
const MAX_PORTALS: usize = 64;

/// No transaction is open.
pub(super) const IDLE: u8 = b'I';
/// One is, and has not failed.
pub(super) const OPEN: u8 = b'T';
const FAILED: u8 = b'E';

/// Why a session ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(super) enum End {
    /// The client said so.
    #[error("the client is done")]
    Done,
    /// The client broke the protocol.
    #[error("protocol violation: {0}")]
    Client(Malformed),
    /// PostgreSQL said what it never says.
    #[error("PostgreSQL: {0}")]
    Server(Malformed),
}

/// What PostgreSQL has to answer, in order.
#[derive(Debug)]
struct Pending {
    what: What,
    /// The client is not told.
    hidden: bool,
}

#[derive(Debug)]
enum What {
    Parse(String, Arc<Prepared>),
    Bind(String, Arc<Bound>),
    Describe,
    /// `None`: of a portal that there is not.
    Execute(Option<Arc<Prepared>>),
    Close(bool, String),
    Sync,
    Query(Arc<Prepared>),
    /// A `Parse` that PostgreSQL refuses, and the error that the client gets.
    Refused(Refused),
    /// A `Query` that PostgreSQL refuses.
    RefusedQuery(Refused),
    /// Arguments of a call become text, by a `Query` (then it says whether it failed) or an `Execute`.
    Convert(Option<bool>),
}

#[derive(Debug, Clone)]
struct Refused {
    sqlstate: &'static str,
    sentence: String,
}

/// A portal.
#[derive(Debug)]
struct Bound {
    prepared: Option<Arc<Prepared>>,
    /// Of a call: formats and values of its parameters, and formats of the result.
    values: Option<(Bytes, Bytes)>,
}

/// A statement that was refused; for the audit log.
#[derive(Debug, Clone)]
pub(super) struct Denial {
    /// Which.
    pub(super) statement: Spoken,
    /// Why.
    pub(super) refusal: Refusal,
}

pub(super) struct Conversation {
    rights: Rights,
    manifest: Arc<Manifest>,
    pending: VecDeque<Pending>,
    statements: HashMap<String, Arc<Prepared>>,
    portals: HashMap<String, Arc<Bound>>,
    /// For PostgreSQL.
    pub(super) to_server: BytesMut,
    /// For the client.
    pub(super) to_client: BytesMut,
    /// What was refused since it was last taken.
    pub(super) denials: Vec<Denial>,
    /// PostgreSQL said that a commit did not wait for the sealer.
    pub(super) unsealed: bool,
    /// After an error of the extended protocol, up to `Sync`.
    discarding: bool,
    /// PostgreSQL takes rows.
    copying: bool,
    hold: Hold,
    status: u8,
    /// Something that was passed on may commit; it must not be interrupted then.
    committing: bool,
    /// Bytes of a long message that go through as they come.
    client_rest: usize,
    /// Those bytes go nowhere.
    dropping: bool,
    server_rest: usize,
    flushed: bool,
}

impl Conversation {
    pub(super) fn new(rights: Rights, manifest: Arc<Manifest>) -> Self {
        Self {
            rights,
            manifest,
            pending: VecDeque::new(),
            statements: HashMap::new(),
            portals: HashMap::new(),
            to_server: BytesMut::new(),
            to_client: BytesMut::new(),
            denials: Vec::new(),
            unsealed: false,
            discarding: false,
            copying: false,
            hold: Hold::No,
            status: IDLE,
            committing: false,
            client_rest: 0,
            dropping: false,
            server_rest: 0,
            flushed: false,
        }
    }

    /// Whether more of what the client sends can be taken.
    pub(super) fn hears_client(&self) -> bool {
        matches!(self.hold, Hold::No) && self.to_server.len() < HIGH && self.pending.len() < MAX_PENDING
    }

    /// Whether more of what PostgreSQL sends can be taken.
    pub(super) fn hears_server(&self) -> bool {
        self.to_client.len() < HIGH
    }

    /// Whether PostgreSQL works for the client.
    pub(super) fn busy(&self) -> bool {
        !self.pending.is_empty()
    }

    /// Whether what runs can be interrupted: a commit that waits for the sealer must not be, since it would become
    /// visible without being durable.
    pub(super) fn interruptible(&self) -> bool {
        self.busy() && !self.committing
    }

    /// Whether the client is within a message that goes through as it comes.
    pub(super) fn within_message(&self) -> bool {
        self.client_rest > 0
    }

    /// What the party may do.
    pub(super) fn rights(&self) -> &Rights {
        &self.rights
    }

    /// Rules under which this party has the same rights.
    pub(super) fn adopt(&mut self, manifest: Arc<Manifest>) {
        self.manifest = manifest;
    }

    fn expect(&mut self, what: What) {
        self.pending.push_back(Pending { what, hidden: false });
    }

    fn expect_hidden(&mut self, what: What) {
        self.pending.push_back(Pending { what, hidden: true });
    }

    /// Lets PostgreSQL refuse something, in the extended protocol.
    fn refuse_parse(&mut self, refused: Refused) {
        message::put_parse(&mut self.to_server, "", REFUSED, &[0, 0]);
        message::put_flush(&mut self.to_server);
        self.expect(What::Refused(refused));
    }

    /// Lets PostgreSQL refuse something, in the simple protocol.
    fn refuse_query(&mut self, refused: Refused) {
        message::put_query(&mut self.to_server, REFUSED);
        self.expect(What::RefusedQuery(refused));
    }

    /// Notes what a statement may do that is now passed on.
    fn passes(&mut self, prepared: Option<&Prepared>) {
        self.committing |= match prepared.map(|it| &it.kind) {
            Some(Kind::Write) => self.status != OPEN,
            Some(Kind::End) | None => true,
            Some(_) => false,
        };
        if prepared.is_some_and(|it| it.kind == Kind::CopyIn) {
            self.hold = Hold::Copy;
            message::put_flush(&mut self.to_server);
        }
    }
}

impl From<&Refusal> for Refused {
    fn from(refusal: &Refusal) -> Self {
        Self { sqlstate: "42501", sentence: refusal.sentence.clone() }
    }
}

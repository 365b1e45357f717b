//! Where sessions are: in this process's memory, or in etcd where there are other replicas, sealed, so that any of them
//! serves a guest that attested to another one.

use std::{
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use appraisal::UnixTime;
use aws_lc_rs::rand;
use etcd::{Client, Condition, EtcdError, Operation, Range, Transaction};
use tokio::sync::Semaphore;

use super::explain::Explanations;
use crate::{
    core::{
        Refusal,
        broker::{
            guest::{Guest, SessionId},
            session::{LIFETIME, Nonces, SessionKeys, Sessions},
        },
    },
    service::Coordinator,
};

/// Nonces that were shown in the last minutes: 16 MiB of them, at most.
const NONCES: usize = 262_144;
/// Sessions that attested in the last minutes.
const SESSIONS: usize = 131_072;
/// What they weigh together.
const SESSION_BYTES: usize = 384 * 1024 * 1024;
/// So many handshakes wait or are made at a time; more are told to come back.
const WAITING: usize = 256;
/// How long a word from etcd is waited for.
const PATIENCE: Duration = Duration::from_secs(2);
const PREFIX: &str = "bailey/1/broker";

/// What the broker remembers.
pub(in crate::service) struct Broker {
    nonces: Mutex<Nonces>,
    sessions: Mutex<Sessions>,
    /// The lease of what is written to etcd in this minute.
    lease: tokio::sync::Mutex<Option<(i64, i64)>>,
    pub(in crate::service) explanations: Explanations,
    pub(super) waiting: Semaphore,
    pub(super) working: Semaphore,
}

impl Default for Broker {
    fn default() -> Self {
        let cores = std::thread::available_parallelism().map_or(2, usize::from);
        Self {
            nonces: Mutex::new(Nonces::new(NONCES)),
            sessions: Mutex::new(Sessions::new(SESSIONS, SESSION_BYTES)),
            lease: tokio::sync::Mutex::default(),
            explanations: Explanations::default(),
            waiting: Semaphore::new(WAITING),
            working: Semaphore::new(2 * cores),
        }
    }
}

/// Whether a nonce may be used.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Claim {
    /// For the first time, and now for no other.
    First,
    /// It was shown before.
    Used,
    /// Too many are.
    Full,
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Broker {
    /// How many sessions are kept here, and their bytes.
    pub(in crate::service) fn held(&self) -> (usize, usize) {
        let sessions = locked(&self.sessions);
        (sessions.held(), sessions.bytes())
    }
}

fn cut_off(error: &EtcdError) -> Refusal {
    Refusal::CutOff(error.to_string())
}

fn key(kind: &str, session: SessionId) -> Vec<u8> {
    format!("{PREFIX}/{kind}/{session}").into_bytes()
}

impl Coordinator {
    /// Claims a nonce, here and for all replicas.
    pub(super) async fn claim(
        self: &Arc<Self>,
        session: SessionId,
        expires: UnixTime,
    ) -> Result<Claim, Refusal> {
        let now = (self.clock)();
        let claimed = locked(&self.broker.nonces).claim(session, expires, now);
        match claimed {
            Err(_) => return Ok(Claim::Full),
            Ok(false) => return Ok(Claim::Used),
            Ok(true) => {}
        }
        let Some(replicas) = &self.replicas else { return Ok(Claim::First) };
        let lease = self.broker_lease(&replicas.client).await?;
        let mut who = [0; 16];
        rand::fill(&mut who).map_err(|_| Refusal::Internal("no random numbers could be had".into()))?;
        let key = key("nonce", session);
        let claim = Transaction {
            when: vec![Condition::Absent(key.clone())],
            then: vec![Operation::Put { key: key.clone(), value: who.to_vec(), lease }],
            otherwise: vec![Operation::Read(Range::key(key))],
        };
        let asked = replicas.client.transact(claim, PATIENCE).await;
        let (done, read) = asked.map_err(|error| cut_off(&error))?;
        // What was asked twice may have been done by the first asking.
        let mine = || read.into_iter().next().and_then(etcd::Ranged::only).is_some_and(|it| it.value == who);
        Ok(if done || mine() { Claim::First } else { Claim::Used })
    }

    /// Keeps what was attested.
    pub(super) async fn keep_session(
        self: &Arc<Self>,
        keys: &SessionKeys,
        guest: &Guest,
    ) -> Result<(), Refusal> {
        let (session, attested) = (guest.session(), guest.to_bytes()?);
        let now = (self.clock)();
        if let Some(replicas) = &self.replicas {
            let lease = self.broker_lease(&replicas.client).await?;
            let sealed = keys.seal(&session, &attested)?;
            let put = Operation::Put { key: key("session", session), value: sealed, lease };
            let write = Transaction { then: vec![put], ..Transaction::default() };
            replicas.client.transact(write, PATIENCE).await.map_err(|error| cut_off(&error))?;
        }
        locked(&self.broker.sessions).keep(session, guest.expires(), &attested, now);
        Ok(())
    }

    /// Who attested in a session, as far as it is known and counts.
    pub(in crate::service) async fn attested(
        self: &Arc<Self>,
        keys: &SessionKeys,
        session: SessionId,
    ) -> Result<Option<Guest>, Refusal> {
        let now = (self.clock)();
        let here = locked(&self.broker.sessions).attested(&session, now).map(Guest::from_bytes);
        if let Some(guest) = here {
            return guest.map(Some);
        }
        let Some(replicas) = &self.replicas else { return Ok(None) };
        let range = replicas.client.range(Range::key(key("session", session)), PATIENCE).await;
        let Some(pair) = range.map_err(|error| cut_off(&error))?.only() else { return Ok(None) };
        let Some(attested) = keys.open(&session, &pair.value) else { return Ok(None) };
        let guest = Guest::from_bytes(&attested)?;
        if guest.session() != session || now >= guest.expires() {
            return Ok(None);
        }
        locked(&self.broker.sessions).keep(session, guest.expires(), &attested, now);
        Ok(Some(guest))
    }

    /// One lease for all that is written in a minute: a lease costs etcd a write of its own. It outlives every ticket and
    /// every session of that minute.
    async fn broker_lease(&self, client: &Client) -> Result<i64, Refusal> {
        let minute = (self.clock)().0.div_euclid(60);
        let mut held = self.broker.lease.lock().await;
        match *held {
            Some((of, lease)) if of == minute => Ok(lease),
            _ => {
                let lease = client.grant(3 * LIFETIME, PATIENCE).await.map_err(|error| cut_off(&error))?;
                *held = Some((minute, lease));
                Ok(lease)
            }
        }
    }
}

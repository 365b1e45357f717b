//! Several coordinators of one mesh: each says under a lease of etcd where it is, serves only while that lease lasts by
//! its own clock, and asks another one for what opens the state if it cannot open it itself.
//!
//! ```text
//!             lease lasts            answers, each confirmed by etcd
//!   serving ───────────────▶ serving
//!      │  no word for 5 s
//!      ▼
//!   cut off: 503 ──etcd answers──▶ reads what came ──▶ serving
//! ```

mod join;
mod lease;
mod peers;

use std::{
    path::{Path, PathBuf},
    sync::{Arc, OnceLock},
    time::{Duration, Instant},
};

use attester::Tee;
use aws_lc_rs::rand;
use etcd::{Client, EtcdError, Member, Operation, Tls, Transaction};
use evidence::{Endorsements, Evidence, ReportData};
use tokio_util::sync::CancellationToken;

use self::lease::Lease;
use super::{Coordinator, Decided, Mode, StartError};
use crate::{
    core::{Refusal, replica::Own},
    store::{Opening, Shared, Store, StoreError},
};

pub(super) use peers::{ReplicaPolicy, ReplicasService};

/// How long a lease lasts: a replica that is cut off serves no longer.
const LEASE: Duration = Duration::from_secs(5);
/// How often it is made to last.
const BETWEEN: Duration = Duration::from_secs(1);
const BETWEEN_ATTEMPTS: Duration = Duration::from_millis(200);
/// How long a word from etcd is waited for.
const PATIENCE: Duration = Duration::from_secs(2);
const PREFIX: &str = "bailey/1/replica/";

/// Where etcd is, and where this replica is for others. None of it decides anything.
#[derive(Debug, Clone)]
pub struct EtcdHints {
    /// Its members.
    pub members: Vec<Member>,
    /// How they are known; in the clear where absent.
    pub tls: Option<Tls>,
    /// `HOST:PORT` at which other replicas reach the mesh API; that where it listens, where absent.
    pub address: Option<String>,
}

/// What a coordinator with replicas has besides.
pub(super) struct Replicas {
    pub(super) client: Client,
    id: String,
    /// What is this replica's own lies here.
    state: PathBuf,
    address: Option<String>,
    lease: Lease,
    own: OnceLock<Own>,
}

impl Replicas {
    pub(super) fn new(hints: &EtcdHints, state: &Path) -> Result<Self, StartError> {
        let client = Client::new(&hints.members, hints.tls.as_ref()).map_err(StartError::Etcd)?;
        let mut id = [0; 16];
        rand::fill(&mut id).map_err(|_| StartError::Founding("no random numbers could be had".into()))?;
        let (address, lease) = (hints.address.clone(), Lease::default());
        let (id, state, own) = (hex::encode(id), state.to_owned(), OnceLock::new());
        Ok(Self { client, id, state, address, lease, own })
    }

    /// Opens the log that the replicas share.
    pub(super) fn open(&self, tee: &dyn Tee) -> Result<Opening, StoreError> {
        Store::open_shared(Box::new(Shared::new(self.client.clone(), &self.state)), tee)
    }

    fn key(&self) -> Vec<u8> {
        format!("{PREFIX}{}", self.id).into_bytes()
    }

    /// Where other replicas are, by what etcd says.
    async fn others(&self) -> Result<Vec<String>, EtcdError> {
        let mut end = PREFIX.as_bytes().to_vec();
        if let Some(last) = end.last_mut() {
            *last += 1;
        }
        let range = etcd::Range { from: PREFIX.into(), before: Some(end), limit: 64, ..Default::default() };
        let found = self.client.range(range, PATIENCE).await?.pairs.into_iter();
        let others = found.filter(|pair| pair.key != self.key());
        Ok(others.filter_map(|pair| String::from_utf8(pair.value).ok()).collect())
    }
}

impl Coordinator {
    /// Whether this replica may answer: always, where there are no others. Where the state is unfit, whoever asks for it
    /// hears that instead, and what ends that may be asked for.
    pub(super) fn serving(&self) -> Result<(), Refusal> {
        if self.unserved().is_some() {
            return Ok(());
        }
        match &self.replicas {
            Some(replicas) if !replicas.lease.lasts(Instant::now()) => {
                Err(Refusal::CutOff("its lease has ended".into()))
            }
            _ => self.committer.get().and_then(super::Committer::failure).map_or(Ok(()), Err),
        }
    }

    /// Makes sure that the state is the newest there is: asks etcd, where there are other replicas. Blocks for that.
    pub(super) fn confirm(&self) -> Result<(), Refusal> {
        self.serving()?;
        if self.replicas.is_some() && self.committer.get().is_some() && self.unserved().is_none() {
            self.commit(|_| Ok(Decided { events: Vec::new(), shares: None, answer: () }))?;
        }
        Ok(())
    }

    /// As [`Coordinator::confirm`], for callers that must not block.
    pub(super) async fn confirmed(self: &Arc<Self>) -> Result<(), Refusal> {
        if self.replicas.is_none() {
            return Ok(());
        }
        let coordinator = self.clone();
        let work = tokio::task::spawn_blocking(move || coordinator.confirm());
        work.await.unwrap_or_else(|_| Err(Refusal::Internal("the request was cancelled".into())))
    }

    /// Whether there are other replicas, and this one may answer.
    pub(super) fn replica_serves(&self) -> Option<bool> {
        self.replicas.as_ref().map(|_| self.serving().is_ok() && self.unserved().is_none())
    }

    /// Says where it is, for as long as it is there, and keeps the state fresh; `address` is where the mesh API listens.
    pub(super) async fn stay(
        self: Arc<Self>,
        address: String,
        shutdown: CancellationToken,
    ) -> Result<(), StartError> {
        let Some(replicas) = &self.replicas else {
            shutdown.cancelled().await;
            return Ok(());
        };
        let address = replicas.address.clone().unwrap_or(address);
        let (sender, ended) = tokio::sync::oneshot::channel();
        let (coordinator, stop) = (self.clone(), shutdown.clone());
        // On the client's own thread: it goes on while this program's others are busy.
        replicas.client.spawn(async move {
            coordinator.keep_lease(&address, stop).await;
            let _ = sender.send(());
        });
        self.clone().join_others(shutdown).await;
        let _ = ended.await;
        Ok(())
    }

    async fn keep_lease(self: Arc<Self>, address: &str, shutdown: CancellationToken) {
        let Some(replicas) = &self.replicas else { return };
        let (client, mut lease) = (&replicas.client, None);
        while !shutdown.is_cancelled() {
            let began = Instant::now();
            let lasted = replicas.lease.lasts(began);
            let kept = replicas.keep(lease, address).await;
            let pause = match kept {
                Ok(Some(held)) => {
                    // Whoever was away reads what came before it answers.
                    if self.clone().catch_up().await.is_ok() {
                        replicas.lease.lasts_until(began + LEASE);
                        if !lasted {
                            tracing::info!(code = "REPLICA_SERVES", "this replica serves");
                        }
                    }
                    lease = Some(held);
                    BETWEEN.saturating_sub(began.elapsed())
                }
                Ok(None) => {
                    lease = None;
                    Duration::ZERO
                }
                Err(error) => {
                    tracing::warn!(code = "ETCD_UNREACHABLE", reason = %error, "the lease was not renewed");
                    BETWEEN_ATTEMPTS
                }
            };
            if lasted && !replicas.lease.lasts(Instant::now()) {
                tracing::error!(code = "CUT_OFF", "this replica answers nothing until etcd is back");
            }
            let _ = tokio::time::timeout(pause, shutdown.cancelled()).await;
        }
        if let Some(lease) = lease {
            let _ = client.revoke(lease, Duration::from_millis(500)).await;
        }
    }

    async fn catch_up(self: Arc<Self>) -> Result<(), Refusal> {
        if self.committer.get().is_none() {
            return Ok(());
        }
        let nothing = |_: &crate::core::State| Ok(Decided { events: Vec::new(), shares: None, answer: () });
        let work = tokio::task::spawn_blocking(move || self.commit(nothing));
        work.await.unwrap_or_else(|_| Err(Refusal::Internal("the request was cancelled".into())))
    }

    /// What this coordinator is by its own Evidence; asked of the TEE once. Blocks.
    fn own(&self) -> Result<&Own, Refusal> {
        let Some(replicas) = &self.replicas else { return Err(Refusal::NoReplicas) };
        if let Some(own) = replicas.own.get() {
            return Ok(own);
        }
        let failed = |error: &dyn std::fmt::Display| Refusal::Internal(error.to_string());
        let raw = self.tee.evidence(&ReportData([0; 64])).map_err(|error| failed(&error))?;
        let evidence = Evidence::parse(&raw.evidence).map_err(|error| failed(&error))?;
        let endorsements = Endorsements::from_bytes(&raw.endorsements).map_err(|error| failed(&error))?;
        let emulated = self.tee.emulated();
        let own = Own::of(&evidence, &endorsements, emulated, &self.verifier, (self.clock)())?;
        Ok(replicas.own.get_or_init(|| own))
    }

    fn is_locked(&self) -> bool {
        matches!(self.mode(), Mode::Locked { .. })
    }
}

impl Replicas {
    /// Makes the lease last, or begins one; `None` where it has ended.
    async fn keep(&self, lease: Option<i64>, address: &str) -> Result<Option<i64>, EtcdError> {
        if let Some(lease) = lease {
            let left = self.client.keep_alive(lease, PATIENCE).await?;
            return Ok((left > 0).then_some(lease));
        }
        let seconds = i64::try_from(LEASE.as_secs()).unwrap_or(i64::MAX);
        let lease = self.client.grant(seconds, PATIENCE).await?;
        let put = Operation::Put { key: self.key(), value: address.as_bytes().to_vec(), lease };
        let transaction = Transaction { then: vec![put], ..Default::default() };
        self.client.transact(transaction, PATIENCE).await?;
        Ok(Some(lease))
    }
}

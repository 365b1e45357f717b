//! The service as a replica: it follows the log of another instance of its Marble, runs queries for it, and takes the
//! database over when it is told to.
//!
//! ```text
//!  key, read-only anchor ◀── coordinator        log's files ◀── shared or copied by hosts
//!        └──▶ PostgreSQL follows ──▶ Evidence (HTTPS), queries of the primary (reads)
//!  told to take over: has all that the anchor knows? ▸ the coordinator fences the primary ▸ has all of that? ▸ serves
//! ```
//!
//! That it follows is the host's choice and decides nothing: who may write, the coordinator alone says.

use std::{path::Path, sync::Arc, time::Duration};

use sealed_log::Ahead;
use tokio::{
    net::TcpListener,
    sync::{Mutex, mpsc, oneshot, watch},
};
use tokio_postgres::Client;
use tokio_util::sync::CancellationToken;
use volume::{Folder, Host};

use super::{
    Base, Listeners, ServiceError,
    membership::Membership,
    opening::{Opened, Opening},
    starting::State,
};
use crate::{
    Rules, attestation,
    attestation::Standing,
    engine::{Engine, SUPERUSER, Settings},
    https::{self, Identify},
    identity::NotAParty,
    installation,
    keys::MasterKey,
    reads::Reads,
    replica::{self, Follower, Promoted, Replica, ReplicaError},
    restore::{Database, Restored},
};

/// Between two attempts to find a whole base backup, and two looks at the rules.
const PAUSE: Duration = Duration::from_millis(500);
/// How long what the anchor knows of may take to get here when the database is taken over.
const CATCH_UP: Duration = Duration::from_secs(15);

type Asked = oneshot::Sender<Result<(), ServiceError>>;

/// The host's word that a replica is to take the database over. Clones are the same one.
#[derive(Debug, Clone)]
pub struct Promotion {
    asks: mpsc::Sender<Asked>,
    asked: Arc<Mutex<mpsc::Receiver<Asked>>>,
}

impl Default for Promotion {
    fn default() -> Self {
        let (asks, asked) = mpsc::channel(1);
        Self { asks, asked: Arc::new(Mutex::new(asked)) }
    }
}

impl Promotion {
    /// Asks for it, and tells whether nobody else has the database any more, so that it is served here. `None`: nothing
    /// follows, or it ended.
    pub async fn ask(&self) -> Option<Result<(), ServiceError>> {
        let (tell, told) = oneshot::channel();
        self.asks.try_send(tell).ok()?;
        told.await.ok()
    }

    /// From now on nothing follows here.
    pub(super) async fn close(&self) {
        self.asked.lock().await.close();
    }

    async fn next(&self) -> Asked {
        match self.asked.lock().await.recv().await {
            Some(asked) => asked,
            None => std::future::pending().await,
        }
    }
}

/// A replica that runs.
struct Following {
    master: MasterKey,
    replica: Replica,
    engine: Arc<Engine>,
    client: Client,
    rules: watch::Sender<Arc<Rules>>,
}

impl Base {
    /// Follows and runs queries until it is told to take over: gives the state to go on with. `None`: it was to end.
    pub(super) async fn follow(
        &self,
        opening: &Arc<Opening>,
        listeners: &Listeners,
        reads: &TcpListener,
    ) -> Result<Option<State>, ServiceError> {
        let membership = self.membership.as_ref().ok_or(ServiceError::ReplicaAlone)?;
        // With which it will serve when it takes over: clients can learn it before.
        let authority = self.keys().authority(&membership.master, (self.clock)())?;
        self.certify(&authority)?;
        let following = tokio::select! {
            following = self.following(opening, membership) => following?,
            dismissed = membership.dismissed() => return Err(dismissed),
            () = self.shutdown.cancelled() => return Ok(None),
        };
        self.attestation.stands(Standing::Replica {
            root: authority.certificate().clone(),
            rules: following.rules.subscribe(),
            followed: following.replica.followed(),
        });
        tracing::info!(code = "FOLLOWING", "the log of another instance is followed");
        let done = CancellationToken::new();
        let _ending = done.clone().drop_guard();
        let nobody: Identify = Arc::new(|_| Err(NotAParty::NoCertificate));
        let router = attestation::routes(Arc::clone(&self.attestation));
        let served = Reads {
            engine: Arc::clone(&following.engine),
            credentials: membership.credentials(),
            clock: Arc::clone(&self.clock),
        };
        let told = tokio::select! {
            () = following.taken(&self.hints.promotion, &opening.log, membership) => Ok(true),
            () = https::serve(router, &listeners.api, self.tls(&https::PROTOCOLS)?, nobody, done.clone()) => Ok(false),
            () = served.serve(reads, done.clone()) => Ok(false),
            () = turned_away(&listeners.sql) => Ok(false),
            () = following.keep_rules() => Ok(false),
            () = following.engine.exited() => Err(ServiceError::EngineEnded),
            dismissed = membership.dismissed() => Err(dismissed),
            renewed = self.keep_fresh(&authority) => renewed.map(|()| false),
            () = self.shutdown.cancelled() => Ok(false),
        };
        following.engine.kill();
        following.engine.exited().await;
        match told {
            Ok(true) => following.promoted().await.map(Some),
            Ok(false) => Ok(None),
            // What ended PostgreSQL is known to who followed.
            Err(ServiceError::EngineEnded) => {
                Err(following.replica.failure().map_or(ServiceError::EngineEnded, ServiceError::from))
            }
            Err(error) => Err(error),
        }
    }

    /// Unpacks what there is of the log, starts PostgreSQL on it, and follows.
    async fn following(
        &self,
        opening: &Arc<Opening>,
        membership: &Membership,
    ) -> Result<Following, ServiceError> {
        let (master, volume) = (membership.master.clone(), membership.volume.clone());
        let mut waits_for = None;
        let follower = loop {
            let (at, key, anchor) = (Arc::clone(opening), master.log_key(&opening.first)?, volume.clone());
            let unpack = move || {
                let host = Box::new(Folder::new(&at.log));
                Follower::unpack(host, &key, Box::new(anchor), &at.settings.data)
            };
            match tokio::task::spawn_blocking(unpack).await.map_err(|_| ServiceError::Panicked)? {
                Ok(follower) => break follower,
                // A file of several may not be here yet.
                Err(error) if error.may_pass() => {
                    if waits_for.replace(error.code()) != Some(error.code()) {
                        tracing::warn!(code = error.code(), reason = %error, "waits for the log");
                    }
                    tokio::time::sleep(PAUSE).await;
                }
                Err(error) => return Err(error.into()),
            }
        };
        let own = replica::PARAMETERS.map(|(name, value)| (name.to_owned(), value.to_owned()));
        let settings = Settings { parameters: own.to_vec(), ..opening.settings.clone() };
        let mut engine = Engine::start(&settings).await?;
        engine.find_database().await?;
        let engine = Arc::new(engine);
        let client = engine.session(SUPERUSER).await?;
        let rules = installation::rules(&client).await?;
        if rules.first != self.configuration.manifest {
            return Err(ServiceError::OtherLineage { seen: rules.first });
        }
        let killer = engine.killer();
        let ended = move |error: &ReplicaError| {
            killer.kill();
            tracing::error!(code = error.code(), reason = %error, "the log is not followed any more: PostgreSQL was killed");
        };
        let replica = follower.follow(replica::Options::default(), ended)?;
        let rules = watch::Sender::new(Arc::new(rules));
        Ok(Following { master, replica, engine, client, rules })
    }
}

impl Following {
    /// Returns when it was told to take over and nobody else has the database any more.
    async fn taken(&self, promotion: &Promotion, log: &Path, membership: &Membership) {
        loop {
            let asked = promotion.next().await;
            let taken = match self.may_take(log).await {
                Ok(()) => membership.take().await.map(drop),
                Err(error) => Err(error.into()),
            };
            let is_taken = taken.is_ok();
            // Whoever asked may have gone.
            let _ = asked.send(taken);
            if is_taken {
                // Whatever was anchored until then is all that there will be. What is missing is told by who opens it.
                let _ = self.replica.catch_up(CATCH_UP).await;
                return;
            }
        }
    }

    /// Whether it makes sense to fence the primary: a copy that has not everything would be refused afterwards.
    async fn may_take(&self, log: &Path) -> Result<(), ReplicaError> {
        self.replica.catch_up(CATCH_UP).await?;
        let folder = Folder::new(log);
        let locked = tokio::task::spawn_blocking(move || folder.lock(false)).await;
        let locked = locked.map_err(|_| ReplicaError::Ended)?.map_err(sealed_log::Error::from)?;
        locked.map(drop).ok_or_else(|| sealed_log::Error::InUse.into())
    }

    /// The database as this one goes on with it; its PostgreSQL has ended.
    async fn promoted(self) -> Result<State, ServiceError> {
        let lag = self.rules.borrow().manifest.freshness.max_lag;
        let ahead = if lag.is_zero() { Ahead::One } else { Ahead::Any };
        let (master, replica) = (self.master, self.replica);
        let key = master.log_key(&self.rules.borrow().first)?;
        let promoted = tokio::task::spawn_blocking(move || replica.promote(ahead)).await;
        let Promoted { contents, anchor, end, .. } = promoted.map_err(|_| ServiceError::Panicked)??;
        let database = Some(Database { from: end, end });
        tracing::info!(code = "TAKEN_OVER", position = %end, "the database is taken over");
        let opened = Opened { key, restored: Restored { contents, database }, anchor, ahead: false };
        Ok(State { master, opened, is_new_here: false, holders: None })
    }

    /// Which manifest is shown.
    async fn keep_rules(&self) {
        loop {
            tokio::time::sleep(PAUSE).await;
            let asked = self.client.query_one("SELECT max(epoch) FROM bailey.manifests", &[]).await;
            let epoch = asked.ok().and_then(|row| row.get::<_, Option<i64>>(0)).map(i64::unsigned_abs);
            if epoch.is_some_and(|epoch| epoch != self.rules.borrow().epoch)
                && let Ok(rules) = installation::rules(&self.client).await
            {
                self.rules.send_replace(Arc::new(rules));
            }
        }
    }
}

/// SQL clients are the primary's: they are turned away at once.
async fn turned_away(listener: &TcpListener) {
    loop {
        if listener.accept().await.is_err() {
            tokio::time::sleep(PAUSE).await;
        }
    }
}

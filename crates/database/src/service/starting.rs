//! From a key to a database that is ready to serve: the state by whatever way it comes, PostgreSQL and the sealer on it, and
//! everything that works in them.

use std::sync::Arc;

use sealed_log::Anchored;
use tokio::net::TcpListener;
use volume::Folder;

use super::{
    Base, Running, ServiceError, capacity,
    opening::{self, Opened, Opening, Origin},
    recovering::{self, Recovered, Waiting},
};
use crate::{
    algorithms::{self, Algorithms},
    attestation,
    audit::{Audit, Event},
    changes::Changes,
    engine::{Engine, SUPERUSER, Settings},
    https::{self, Identify},
    identity::NotAParty,
    installation,
    keys::{Found, MasterKey},
    restore::History,
    sealer::{Log, Options, Sealer, Source},
};

/// A state that may be started.
pub(super) struct State {
    pub(super) master: MasterKey,
    pub(super) opened: Opened,
    /// Whether its key must be sealed to this TEE.
    pub(super) is_new_here: bool,
    pub(super) holders: Option<Vec<String>>,
}

async fn open(opening: &Arc<Opening>, master: &MasterKey) -> Result<Opened, ServiceError> {
    let (at, key) = (Arc::clone(opening), master.clone());
    let opened = tokio::task::spawn_blocking(move || at.open(&key, Origin::Own)).await;
    opened.map_err(|_| ServiceError::Panicked)?
}

impl Base {
    /// The state, by whatever way it comes; `None`: it was to end before.
    pub(super) async fn state(
        &self,
        opening: &Arc<Opening>,
        api: &TcpListener,
    ) -> Result<Option<State>, ServiceError> {
        if let Some(membership) = &self.membership {
            let master = membership.master.clone();
            // Without a whole base backup nobody was let in: what the log has is of a founding that did not end.
            let mut opened = open(opening, &master).await?;
            // Nobody is fenced by one that could not go on. What was written until then counts.
            if Anchored::from(membership.take().await?) != opened.restored.contents.anchored {
                drop(opened);
                opened = open(opening, &master).await?;
            }
            return Ok(Some(State { master, opened, is_new_here: false, holders: None }));
        }
        let found = self.keys().master()?;
        let shares = match &found {
            Found::Key(_) => None,
            Found::Nothing if !opening.has_log() => None,
            Found::Nothing | Found::Locked => recovering::shares(&self.hints.state)?,
        };
        let (master, is_new_here) = match (found, shares) {
            (Found::Key(master), _) => (master, false),
            (_, Some(shares)) => return self.recover(opening, shares, api).await,
            (Found::Nothing, None) if !opening.has_log() => (MasterKey::generate()?, true),
            (Found::Nothing, None) => return Err(ServiceError::KeyMissing),
            (Found::Locked, None) => return Err(ServiceError::Unrecoverable),
        };
        let opened = open(opening, &master).await?;
        if !is_new_here && opened.restored.database.is_none() {
            return Err(ServiceError::LogMissing);
        }
        Ok(Some(State { master, opened, is_new_here, holders: None }))
    }

    /// Serves Evidence and the way for shares to come in, until there are enough.
    async fn recover(
        &self,
        opening: &Arc<Opening>,
        shares: crate::recovery::Shares,
        api: &TcpListener,
    ) -> Result<Option<State>, ServiceError> {
        tracing::warn!(
            code = "RECOVERY_PENDING",
            "the state is sealed to another TEE and waits for recovery"
        );
        let done = self.shutdown.child_token();
        let waiting = Waiting::new(Arc::clone(opening), shares, done.clone());
        let router = attestation::routes(Arc::clone(&self.attestation))
            .merge(recovering::routes(Arc::clone(&waiting)));
        let nobody: Identify = Arc::new(|_| Err(NotAParty::NoCertificate));
        https::serve(router, api, self.tls(&https::PROTOCOLS)?, nobody, done).await;
        Ok(waiting.recovered().map(|Recovered { master, opened, holders }| State {
            master,
            opened,
            is_new_here: true,
            holders: Some(holders),
        }))
    }

    /// Starts PostgreSQL and the sealer on the state, and everything that works in them. Nobody is let in yet.
    pub(super) async fn start(&self, opening: &Opening, state: State) -> Result<Running, ServiceError> {
        let State { master, opened, is_new_here, holders } = state;
        let database = opened.restored.database;
        let mut engine = match database {
            Some(_) => {
                let settings = Settings { synchronous: true, ..opening.settings.clone() };
                let mut engine = Engine::start(&settings).await?;
                engine.find_database().await?;
                engine
            }
            None => self.found(opening).await?,
        };
        engine.make_synchronous().await?;
        let engine = Arc::new(engine);
        let client = engine.session(SUPERUSER).await?;
        let rules = installation::rules(&client).await?;
        if rules.first != self.configuration.manifest {
            return Err(ServiceError::OtherLineage { seen: rules.first });
        }
        let freshness = rules.manifest.freshness;
        if freshness.anchor_required && self.configuration.tpm.is_none() && self.membership.is_none() {
            return Err(ServiceError::NoAnchor);
        }
        if opened.ahead && freshness.max_lag.is_zero() {
            return Err(ServiceError::AheadOfAnchor);
        }
        let log = Log {
            host: Box::new(Folder::new(&opening.log)),
            key: opened.key,
            contents: opened.restored.contents,
            anchor: opened.anchor,
            restored: database.map(|database| database.end),
        };
        let source = Source {
            socket: engine.socket().to_owned(),
            user: SUPERUSER.into(),
            database: engine.database().to_owned(),
        };
        let log_options =
            sealed_log::Options { keep: rules.manifest.history, ..sealed_log::Options::default() };
        let options = Options { max_lag: freshness.max_lag, log: log_options, ..Options::default() };
        let (killer, stopping) = (engine.killer(), self.shutdown.clone());
        let ended = move |error: &crate::sealer::SealerError| {
            killer.kill();
            if stopping.is_cancelled() {
                return;
            }
            tracing::error!(code = error.code(), reason = %error, "nothing is sealed any more: PostgreSQL was killed");
        };
        let sealer = tokio::task::spawn_blocking(move || Sealer::start(source, log, options, ended)).await;
        let sealer = Arc::new(sealer.map_err(|_| ServiceError::Panicked)??);
        if database.is_none() {
            sealer.checkpoint().await?;
        }
        if is_new_here {
            self.keys().keep_master(&master)?;
        }
        let audit = Audit::open(&engine, Arc::clone(&self.clock)).await?;
        if let Some(holders) = holders {
            audit.record(Event::Recovered { holders }).await.map_err(|_| ServiceError::EngineEnded)?;
        }
        let changes = Changes::open(Arc::clone(&engine), Arc::clone(&self.clock)).await;
        let history = History::new(Arc::clone(&engine), &sealer, opening.log.clone());
        let history = Arc::new(history);
        let changes = changes.map_err(|_| ServiceError::EngineEnded)?.with_history(Arc::clone(&history));
        let changes = Arc::new(changes);
        let authority = self.keys().authority(&master, (self.clock)())?;
        let algorithms = Algorithms::new(algorithms::Parts {
            engine: Arc::clone(&engine),
            replicas: self.replicas(),
            rules: changes.rules(),
            sealed: sealer.position(),
            audit: audit.clone(),
            key: self.current.clone(),
            clock: Arc::clone(&self.clock),
        });
        let memory = engine.data().to_owned();
        let full = capacity::watch(engine.session(SUPERUSER).await?, memory, changes.rules());
        Ok(Running { engine, sealer, audit, changes, history, algorithms, authority, master, full })
    }

    /// A new database with its first manifest. No commit waits for the sealer yet: the base backup holds them all.
    async fn found(&self, opening: &Opening) -> Result<Engine, ServiceError> {
        let manifest = opening::first_manifest(&self.configuration, self.hints.manifest.as_deref())?;
        let settings = Settings { database: manifest.name.clone(), ..opening.settings.clone() };
        let engine = opening::new_engine(&settings).await?;
        let mut client = engine.session(SUPERUSER).await?;
        installation::install(&mut client, &manifest, (self.clock)()).await?;
        algorithms::install(&client).await?;
        tracing::info!(code = "FOUNDED", database = manifest.name, "a database was founded");
        Ok(engine)
    }
}

//! PostgreSQL as a process of ours: how it is made, started, reached and ended.
//!
//! It listens on nothing but a Unix socket, whose folder only its own user enters (and root, which is us). That folder
//! is what keeps others out: behind it, `pg_hba.conf` trusts whoever connects, since the only one who can is this
//! program, and PostgreSQL 15 has no peer map from one user to all roles. Its data lie in memory, so it never waits for
//! a disk; what makes a commit durable is the sealer, by the name [`STANDBY`] its synchronous standby.
//!
//! ```text
//!  bailey-database ──setpriv(own user, no new privileges, dies with us)──▶ postgres ──▶ backends
//!        └───────────────────── <socket>/.s.PGSQL.5432 ──────────────────────▲
//! ```

mod files;
mod process;
mod segment;

use std::{
    path::{Path, PathBuf},
    time::Duration,
};

use tokio::sync::watch;
use tokio_postgres::{Client, Config, NoTls, error::SqlState};

pub use self::files::binaries;
use self::process::{Ended, Postmaster};

/// The superuser, who is this program alone.
pub const SUPERUSER: &str = "bailey";

/// The sealer's `application_name`: the one synchronous standby.
pub const STANDBY: &str = "bailey";

/// The data directory within an engine's folder.
const DATA: &str = "data";

/// Between two attempts to reach a server that starts.
const ATTEMPT: Duration = Duration::from_millis(25);

/// How a server is run.
#[derive(Debug, Clone)]
pub struct Settings {
    /// Folder of `postgres` and `initdb`, see [`binaries`].
    pub binaries: PathBuf,
    /// The data directory, in memory. When we are root, its parent folder is made passable for PostgreSQL's user.
    pub data: PathBuf,
    /// The folder of the socket.
    pub socket: PathBuf,
    /// The database, `Manifest::name`.
    pub database: String,
    /// Whether a commit waits for the sealer from the first on.
    pub synchronous: bool,
    /// Bytes of PostgreSQL's own page cache.
    pub shared_buffers: u64,
    /// Bytes of temporary files that one session may make.
    pub temporary: u64,
    /// Sessions at a time, ours included.
    pub connections: u32,
    /// Further parameters; they win over ours.
    pub parameters: Vec<(String, String)>,
    /// How long it may take to start.
    pub patience: Duration,
}

impl Settings {
    /// Data and socket below `folder`, the usual sizes, no commit waits for anyone.
    pub fn within(binaries: PathBuf, folder: &Path, database: &str) -> Self {
        Self {
            binaries,
            data: folder.join(DATA),
            socket: folder.join("socket"),
            database: database.into(),
            synchronous: false,
            shared_buffers: 128 << 20,
            temporary: 1 << 30,
            connections: 256,
            parameters: Vec::new(),
            patience: Duration::from_secs(120),
        }
    }
}

/// A server that runs; it is killed when this goes.
pub struct Engine {
    settings: Settings,
    postmaster: Postmaster,
}

impl Engine {
    /// `initdb`, and the database in it. Blocking, about two seconds.
    ///
    /// # Errors
    /// Where the data directory exists already, or a program is missing or fails.
    pub fn initialise(settings: &Settings) -> Result<(), EngineError> {
        files::initialise(settings)
    }

    /// Starts a server on a data directory and waits until it takes sessions.
    ///
    /// # Errors
    /// When it ends, or takes longer than it may; with what it said.
    pub async fn start(settings: &Settings) -> Result<Self, EngineError> {
        files::prepare(settings)?;
        files::configure(settings)?;
        let postmaster = Postmaster::spawn(settings)?;
        let engine = Self { settings: settings.clone(), postmaster };
        engine.ready().await?;
        Ok(engine)
    }

    async fn ready(&self) -> Result<(), EngineError> {
        let mut exited = self.postmaster.exited();
        let reached = async {
            while self.connect(SUPERUSER, "postgres").await.is_err() {
                tokio::time::sleep(ATTEMPT).await;
            }
        };
        tokio::select! {
            () = reached => {
                self.postmaster.note_segment();
                Ok(())
            }
            _ = exited.wait_for(Option::is_some) => Err(EngineError::Ended { said: self.postmaster.said() }),
            () = tokio::time::sleep(self.settings.patience) => Err(EngineError::Slow { said: self.postmaster.said() }),
        }
    }

    /// A session as `role` in the database.
    ///
    /// # Errors
    /// When PostgreSQL is not there or does not take the role.
    pub async fn session(&self, role: &str) -> Result<Client, EngineError> {
        self.connect(role, &self.settings.database).await
    }

    async fn connect(&self, role: &str, database: &str) -> Result<Client, EngineError> {
        let mut config = Config::new();
        config.host_path(&self.settings.socket).user(role).dbname(database).application_name("service");
        let (client, connection) = config.connect(NoTls).await?;
        tokio::spawn(async move {
            // Whoever holds the client sees the error with its next request.
            let _ = connection.await;
        });
        Ok(client)
    }

    /// Finds the database that a restored data directory holds beside PostgreSQL's own; sessions are in it from now on.
    ///
    /// # Errors
    /// When there is none, or more than one.
    pub async fn find_database(&mut self) -> Result<(), EngineError> {
        let client = self.connect(SUPERUSER, "postgres").await?;
        let query = "SELECT datname FROM pg_database WHERE NOT datistemplate AND datname <> 'postgres'";
        let rows = client.query(query, &[]).await?;
        let [row] = rows.as_slice() else { return Err(EngineError::Databases { seen: rows.len() }) };
        self.settings.database = row.get(0);
        Ok(())
    }

    /// From now on a commit is acknowledged when the sealer has it, and no sooner.
    ///
    /// # Errors
    /// When the setting cannot be written or does not take effect in time.
    pub async fn make_synchronous(&mut self) -> Result<(), EngineError> {
        self.settings.synchronous = true;
        files::configure(&self.settings)?;
        self.postmaster.reload();
        let waiting = async {
            let client = self.session(SUPERUSER).await?;
            let shown = || client.query_one("SHOW synchronous_standby_names", &[]);
            while shown().await?.get::<_, String>(0) != STANDBY {
                tokio::time::sleep(ATTEMPT).await;
            }
            Ok(())
        };
        let slow = || EngineError::Slow { said: self.postmaster.said() };
        tokio::time::timeout(self.settings.patience, waiting).await.map_err(|_| slow())?
    }

    /// The folder of the socket `.s.PGSQL.5432`.
    pub fn socket(&self) -> &Path {
        &self.settings.socket
    }

    /// The data directory.
    pub fn data(&self) -> &Path {
        &self.settings.data
    }

    /// The folder of its programs.
    pub fn binaries(&self) -> &Path {
        &self.settings.binaries
    }

    /// The database that clients connect to.
    pub fn database(&self) -> &str {
        &self.settings.database
    }

    /// What ends it, for those who do not own it.
    pub fn killer(&self) -> Killer {
        Killer(self.postmaster.clone())
    }

    /// Kills every process of it, at once: no transaction that waits is acknowledged or becomes visible any more.
    pub fn kill(&self) {
        self.postmaster.kill();
    }

    /// Waits until it has ended, for whatever reason.
    pub async fn exited(&self) {
        let mut exited: watch::Receiver<Option<Ended>> = self.postmaster.exited();
        let _ = exited.wait_for(Option::is_some).await;
    }
}

impl Drop for Engine {
    fn drop(&mut self) {
        self.kill();
    }
}

/// Removes what a server within this folder has left in the kernel, if it was killed with whoever started it.
pub(crate) fn forget(folder: &Path) {
    if let Some(segment) = segment::Segment::of(&folder.join(DATA)) {
        segment.remove();
    }
}

/// Ends an engine that someone else owns.
#[derive(Clone)]
pub struct Killer(Postmaster);

impl Killer {
    /// As [`Engine::kill`].
    pub fn kill(&self) {
        self.0.kill();
    }
}

/// Why there is no PostgreSQL, or no session in it.
#[derive(Debug, thiserror::Error)]
pub enum EngineError {
    /// None of a version that will do.
    #[error("there is no PostgreSQL of version 15 or later in {}", .0.display())]
    Missing(PathBuf),
    /// There is no user of the operating system for it.
    #[error("there is no user `postgres` that PostgreSQL could run as: it refuses to run as root")]
    NoUser,
    /// A path that no socket can have.
    #[error("the socket's folder {} has {length} bytes; 90 are allowed", path.display())]
    SocketPath {
        /// The folder.
        path: PathBuf,
        /// Its length.
        length: usize,
    },
    /// A file of it.
    #[error("{} cannot be made or changed", path.display())]
    File {
        /// Which.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// A program of it could not be started.
    #[error("{} cannot be started", program.display())]
    Program {
        /// Which.
        program: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// A program of it failed.
    #[error("{program} failed: {said}")]
    Failed {
        /// Which.
        program: &'static str,
        /// What it said.
        said: String,
    },
    /// It ended while it was to start.
    #[error("PostgreSQL ended: {said}")]
    Ended {
        /// What it said.
        said: String,
    },
    /// It does not get ready.
    #[error("PostgreSQL takes longer than it may: {said}")]
    Slow {
        /// What it said.
        said: String,
    },
    /// A data directory that we did not make.
    #[error("the data directory holds {seen} databases; one is expected")]
    Databases {
        /// How many.
        seen: usize,
    },
    /// It refused, or the connection to it broke.
    #[error("PostgreSQL refuses")]
    Session(#[from] tokio_postgres::Error),
}

impl EngineError {
    /// The stable code.
    pub fn code(&self) -> &'static str {
        match self {
            Self::Missing(_) => "ENGINE_MISSING",
            Self::NoUser => "ENGINE_NO_USER",
            Self::SocketPath { .. } => "ENGINE_SOCKET_PATH",
            Self::File { .. } | Self::Program { .. } => "ENGINE_HOST",
            Self::Failed { .. } | Self::Ended { .. } => "ENGINE_FAILED",
            Self::Slow { .. } => "ENGINE_SLOW",
            Self::Databases { .. } => "ENGINE_DATABASES",
            Self::Session(_) => "ENGINE_SESSION",
        }
    }

    /// The SQLSTATE that PostgreSQL gave, if it spoke.
    pub fn sqlstate(&self) -> Option<&SqlState> {
        match self {
            Self::Session(error) => error.code(),
            _ => None,
        }
    }
}

//! Evidence of the database: over the key of its servers, its CA, the manifest in force, the head of its log, and what
//! would notice an old copy of it.
//!
//! `GET /v1/attestation?nonce=<64 hex digits>` gives a [`Statement`] as CBOR, to anyone.

use std::{
    fs::File,
    io::{self, Read},
    path::Path,
    process::Command,
    sync::{Arc, PoisonError, RwLock},
};

use appraisal::binding::Role;
use attested_tls::{
    claims::{Claims, DatabaseAnchor, DatabaseClaims, DatabaseMode, DatabaseState},
    key::TeeKey,
    statement::Statement,
};
use attester::Tee;
use aws_lc_rs::digest::{Context, SHA256};
use axum::{
    Router,
    extract::{Query, State, rejection::QueryRejection},
    http::{StatusCode, header},
    response::{IntoResponse, Response},
    routing::get,
};
use rustls::pki_types::CertificateDer;
use serde::Deserialize;
use serde_bytes::{ByteArray, ByteBuf};
use tokio::sync::{Semaphore, watch};
use volume::Head;

use crate::{Rules, refusal::refusal, replica::Followed, sealer::Sealed};

/// So many at a time ask the platform for Evidence; others wait.
const AT_A_TIME: usize = 4;

/// What it runs.
#[derive(Debug, Clone)]
pub struct Version {
    /// What the program says of itself.
    pub name: String,
    /// SHA-256 of the program.
    pub digest: [u8; 32],
}

impl Version {
    /// Of the PostgreSQL in a folder of programs.
    ///
    /// # Errors
    /// When it cannot be read or run.
    pub fn of(binaries: &Path) -> io::Result<Self> {
        let program = binaries.join("postgres");
        let mut file = File::open(&program)?;
        let (mut context, mut buffer) = (Context::new(&SHA256), vec![0; 1 << 16]);
        loop {
            match file.read(&mut buffer)? {
                0 => break,
                read => context.update(&buffer[..read]),
            }
        }
        let mut digest = [0; 32];
        digest.copy_from_slice(context.finish().as_ref());
        let said = Command::new(&program).arg("--version").env_clear().output()?.stdout;
        // postgres (PostgreSQL) 15.18 (Debian 15.18-0+deb12u1)
        let name = String::from_utf8_lossy(&said).trim().trim_start_matches("postgres ").to_owned();
        Ok(Self { name: name.chars().take(200).collect(), digest })
    }
}

/// What the database says of itself at a moment.
pub enum Standing {
    /// It waits for shares.
    Recovering {
        /// Of the moment.
        root: CertificateDer<'static>,
    },
    /// It serves.
    Running {
        /// The CA's certificate.
        root: CertificateDer<'static>,
        /// The manifest in force.
        rules: watch::Receiver<Arc<Rules>>,
        /// Where the log is.
        sealed: watch::Receiver<Sealed>,
    },
    /// It follows.
    Replica {
        /// Of the moment.
        root: CertificateDer<'static>,
        /// The manifest that it shows.
        rules: watch::Receiver<Arc<Rules>>,
        /// Up to where it has the log.
        followed: watch::Receiver<Followed>,
    },
}

/// What makes Evidence.
pub struct Attestation {
    tee: Arc<dyn Tee>,
    key: TeeKey,
    first: [u8; 32],
    version: Version,
    anchor: DatabaseAnchor,
    standing: RwLock<Standing>,
    places: Semaphore,
}

impl Attestation {
    /// Of the TEE, for the servers' key, beginning with `standing`.
    pub fn new(
        tee: Arc<dyn Tee>,
        key: TeeKey,
        first: [u8; 32],
        version: Version,
        anchor: DatabaseAnchor,
        standing: Standing,
    ) -> Arc<Self> {
        let (standing, places) = (RwLock::new(standing), Semaphore::new(AT_A_TIME));
        Arc::new(Self { tee, key, first, version, anchor, standing, places })
    }

    /// The servers' key.
    pub fn key(&self) -> &TeeKey {
        &self.key
    }

    /// From now on it says this.
    pub fn stands(&self, standing: Standing) {
        *self.standing.write().unwrap_or_else(PoisonError::into_inner) = standing;
    }

    /// The claims of now.
    pub fn claims(&self) -> DatabaseClaims {
        let standing = self.standing.read().unwrap_or_else(PoisonError::into_inner);
        let (root, mode, state) = match &*standing {
            Standing::Recovering { root } => (root, DatabaseMode::Recovering, None),
            Standing::Running { root, rules, sealed } => {
                (root, DatabaseMode::Running, Some(state(&rules.borrow(), sealed.borrow().head)))
            }
            Standing::Replica { root, rules, followed } => {
                (root, DatabaseMode::Replica, Some(state(&rules.borrow(), followed.borrow().head)))
            }
        };
        DatabaseClaims {
            root: ByteBuf::from(root.to_vec()),
            first: ByteArray::new(self.first),
            mode,
            state,
            engine: self.version.name.clone(),
            engine_digest: ByteArray::new(self.version.digest),
            anchor: self.anchor,
        }
    }

    async fn statement(self: Arc<Self>, nonce: [u8; 32]) -> Option<Vec<u8>> {
        let _place = self.places.acquire().await.ok()?;
        let this = Arc::clone(&self);
        let issue = move || {
            let claims = this.claims().to_bytes();
            Statement::issue(this.tee.as_ref(), Role::Database, this.key.digest(), &nonce, claims)
        };
        match tokio::task::spawn_blocking(issue).await {
            Ok(Ok(statement)) => Some(statement.to_bytes()),
            Ok(Err(error)) => {
                tracing::error!(code = "EVIDENCE_UNAVAILABLE", reason = %error, "the TEE gives no Evidence");
                None
            }
            Err(_) => None,
        }
    }
}

fn state(rules: &Rules, head: Option<Head>) -> DatabaseState {
    DatabaseState {
        name: rules.manifest.name.clone(),
        manifest: ByteArray::new(rules.manifest.digest),
        epoch: rules.epoch,
        log_sequence: head.map_or(0, |head| head.sequence),
        log_head: ByteArray::new(head.map_or([0; 32], |head| head.hash)),
    }
}

/// The route.
pub fn routes(attestation: Arc<Attestation>) -> Router {
    Router::new().route("/v1/attestation", get(attest)).with_state(attestation)
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Asked {
    nonce: String,
}

async fn attest(
    State(attestation): State<Arc<Attestation>>,
    query: Result<Query<Asked>, QueryRejection>,
) -> Response {
    let mut nonce = [0; 32];
    if !query.is_ok_and(|Query(asked)| hex::decode_to_slice(asked.nonce, &mut nonce).is_ok()) {
        let message = "`nonce` must be 32 fresh random bytes as 64 hex digits";
        return refusal(StatusCode::BAD_REQUEST, "NONCE_MALFORMED", message);
    }
    match attestation.statement(nonce).await {
        Some(statement) => ([(header::CONTENT_TYPE, "application/cbor")], statement).into_response(),
        None => {
            let message = "the TEE gives no Evidence";
            refusal(StatusCode::SERVICE_UNAVAILABLE, "EVIDENCE_UNAVAILABLE", message)
        }
    }
}

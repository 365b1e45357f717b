//! Why a database does not serve, or serves no more.

use std::{io, path::PathBuf};

use marble::{MeshError, Refused};

use crate::{
    audit::AuditError, authority::AuthorityError, engine::EngineError, identity::UnusableAnchor,
    installation::InstallationError, keys::KeysError, recovery::RecoveryError, replica::ReplicaError,
    restore::RestoreError, sealer::SealerError, tpm_anchor::TpmAnchorError,
};

/// Why a database does not serve, or serves no more.
#[derive(Debug, thiserror::Error)]
pub enum ServiceError {
    /// Nothing was founded here, and the host gave no manifest.
    #[error("a database is founded with its first manifest: give the file (--manifest)")]
    NoManifest,
    /// The host gave another manifest than the one that is measured.
    #[error(
        "the manifest that the host gave is not the one that this database was launched for: expected {}, seen {}",
        hex::encode(expected),
        hex::encode(seen)
    )]
    ManifestDiffers {
        /// By the measured launch configuration.
        expected: [u8; 32],
        /// SHA-256 of the file.
        seen: [u8; 32],
    },
    /// The manifest has faults.
    #[error("the manifest is refused:\n{0}")]
    Manifest(database_manifest::Faults),
    /// A file or folder of the host.
    #[error("{} cannot be read or written", path.display())]
    File {
        /// Which.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// Another instance has this state.
    #[error("another instance on this machine has this state open")]
    InUse,
    /// There is a log and no key.
    #[error(
        "there is a sealed log, and neither its key nor shares of it: if this database never served anyone, empty the \
         state's folder and start again"
    )]
    KeyMissing,
    /// There is a key and no database in the log.
    #[error("the sealed log holds no database, and there was one: bring the log's files back")]
    LogMissing,
    /// The key is sealed to another TEE, and nobody has shares.
    #[error(
        "the state is sealed to another TEE, and nobody has a share of its key: start it where it was sealed"
    )]
    Unrecoverable,
    /// The manifest wants an anchor.
    #[error(
        "the manifest requires an anchor against old copies of the state, and the launch configuration names none: \
         launch it with a TPM or as a Marble"
    )]
    NoAnchor,
    /// The host says nowhere where the TPM is.
    #[error("the launch configuration requires a TPM, and the host does not say where it is (--tpm)")]
    NoTpm,
    /// The TPM.
    #[error(transparent)]
    Tpm(#[from] TpmAnchorError),
    /// The host says nowhere where the coordinator is.
    #[error(
        "the launch configuration makes this database a Marble, and the host does not say where its coordinator is (--coordinator)"
    )]
    NoCoordinator,
    /// The coordinator does not have it.
    #[error("the coordinator does not have this database as a Marble of its mesh")]
    Mesh {
        /// Stable codes of the cause.
        codes: String,
        /// Why.
        source: Box<MeshError>,
    },
    /// The coordinator had it, and no more.
    #[error("the coordinator has another instance as this database now, or sent this one away: {0}")]
    Dismissed(Refused),
    /// The log is ahead of its anchor though no lag was agreed.
    #[error("the log is ahead of its anchor, and the manifest agrees to no lag")]
    AheadOfAnchor,
    /// The state is of another lineage.
    #[error(
        "this state began with another manifest than the one that this database was launched for: {}",
        hex::encode(seen)
    )]
    OtherLineage {
        /// SHA-256 of its first manifest.
        seen: [u8; 32],
    },
    /// Keys.
    #[error(transparent)]
    Keys(#[from] KeysError),
    /// Certificates.
    #[error(transparent)]
    Authority(#[from] AuthorityError),
    /// PostgreSQL.
    #[error(transparent)]
    Engine(#[from] EngineError),
    /// PostgreSQL ended by itself.
    #[error("PostgreSQL ended; what was acknowledged is in the sealed log: start again")]
    EngineEnded,
    /// A request that is ours was refused.
    #[error("PostgreSQL refuses")]
    Session(#[from] tokio_postgres::Error),
    /// The manifest cannot be put into effect.
    #[error(transparent)]
    Installation(#[from] InstallationError),
    /// An anchor of a party.
    #[error(transparent)]
    Anchor(#[from] UnusableAnchor),
    /// The audit log.
    #[error(transparent)]
    Audit(#[from] AuditError),
    /// The log.
    #[error(transparent)]
    Restore(#[from] RestoreError),
    /// As a replica, or with replicas, without a mesh.
    #[error(
        "replicas know each other, and who may write, by the coordinator of a mesh: launch the database as a Marble \
         (`Marble`, `Coordinator`), or without --follow and --replica"
    )]
    ReplicaAlone,
    /// It follows no more, or cannot go on as the database.
    #[error(transparent)]
    Replica(#[from] ReplicaError),
    /// The sealer.
    #[error(transparent)]
    Sealer(#[from] SealerError),
    /// Shares.
    #[error(transparent)]
    Recovery(#[from] RecoveryError),
    /// TLS.
    #[error("TLS cannot be set up")]
    Tls(#[from] rustls::Error),
    /// A thread of ours ended.
    #[error("a part of this program ended unexpectedly")]
    Panicked,
}

impl From<MeshError> for ServiceError {
    fn from(source: MeshError) -> Self {
        Self::Mesh { codes: source.codes().join(","), source: Box::new(source) }
    }
}

impl ServiceError {
    /// The stable code.
    pub fn code(&self) -> &str {
        match self {
            Self::NoManifest => "MANIFEST_MISSING",
            Self::ManifestDiffers { .. } => "MANIFEST_DIFFERS",
            Self::Manifest(_) => "MANIFEST_REFUSED",
            Self::File { .. } => "STATE_UNREADABLE",
            Self::InUse => "STATE_IN_USE",
            Self::KeyMissing => "KEY_MISSING",
            Self::LogMissing => "LOG_MISSING",
            Self::Unrecoverable => "UNRECOVERABLE",
            Self::NoAnchor => "ANCHOR_REQUIRED",
            Self::NoTpm => "TPM_MISSING",
            Self::Tpm(error) => error.code(),
            Self::NoCoordinator => "COORDINATOR_MISSING",
            Self::Mesh { codes, .. } => codes,
            Self::Dismissed(refused) => &refused.code,
            Self::AheadOfAnchor => "LOG_AHEAD_OF_ANCHOR",
            Self::OtherLineage { .. } => "OTHER_LINEAGE",
            Self::Keys(error) => error.code(),
            Self::Engine(error) => error.code(),
            Self::EngineEnded => "ENGINE_ENDED",
            Self::Session(_) => "ENGINE_SESSION",
            Self::Installation(_) => "MANIFEST_NOT_INSTALLED",
            Self::Anchor(_) => "ANCHOR_UNUSABLE",
            Self::Audit(error) => error.code(),
            Self::Restore(error) => error.code(),
            Self::ReplicaAlone => "REPLICA_ALONE",
            Self::Replica(error) => error.code(),
            Self::Sealer(error) => error.code(),
            Self::Recovery(error) => error.code(),
            Self::Authority(_) | Self::Tls(_) | Self::Panicked => "INTERNAL",
        }
    }
}

//! Why the coordinator says no: one type, each case with its stable code and the data of the sentence.

use appraisal::UnixTime;
use attested_tls::{claims::MalformedClaims, key::SpkiDigest};
use evidence::Platform;
use manifest::{Faults, ManifestDigest};
use secret_store::StoreError;
use serde_json::{Value, json};

use super::{svid::SvidFault, token::TokenFault, workloads::PackageRefusal};
use crate::authority::AuthorityError;

/// A request that was refused; nothing was changed.
#[derive(Debug, thiserror::Error)]
pub enum Refusal {
    /// The connection has no client certificate.
    #[error("this request needs a client certificate, and none was presented")]
    NoCertificate,
    /// The certificate is no user's.
    #[error("the client certificate is not that of any user of the manifest")]
    UnknownUser,
    /// Not the owner.
    #[error(
        "only the owner may set the first manifest: key {expected} is named in the measured launch configuration, and {seen} was presented"
    )]
    NotOwner {
        /// The owner's key.
        expected: SpkiDigest,
        /// The caller's key.
        seen: SpkiDigest,
    },
    /// A user without the right.
    #[error("user {user:?} has no role that grants {action} on {resource}")]
    NotGranted {
        /// Who.
        user: String,
        /// What.
        action: &'static str,
        /// On what.
        resource: String,
    },
    /// A user without the right, which is on nothing in particular.
    #[error("user {user:?} has no role that grants {action}")]
    NotAllowed {
        /// Who.
        user: String,
        /// What.
        action: &'static str,
    },
    /// One update at a time.
    #[error("an update is already in progress: acknowledge it to apply it, or cancel it to start another")]
    UpdatePending,
    /// Nothing to acknowledge or cancel.
    #[error("no update is in progress")]
    NoUpdate,
    /// Not what was proposed.
    #[error("the manifest is not the one that is proposed: SHA-256 {pending} is, and {seen} was sent")]
    OtherUpdate {
        /// Proposed.
        pending: ManifestDigest,
        /// Sent.
        seen: ManifestDigest,
    },
    /// What was once required would be required no more.
    #[error(
        "the security version of package {package:?} would fall from {in_force} to {}: if that is meant, \
         name the package under `downgrades`",
        proposed.map_or("none".into(), |version| version.to_string())
    )]
    Downgrade {
        /// Which package.
        package: String,
        /// Now.
        in_force: u16,
        /// By the proposal; none where the package is gone, or no longer known by its signer.
        proposed: Option<u16>,
    },
    /// None of the manifest's infrastructures.
    #[error("the platform meets none of the manifest's infrastructures ({}), so Marble {marble:?} is refused", accepted.join(", "))]
    Infrastructure {
        /// Which Marble.
        marble: String,
        /// By the manifest.
        accepted: Vec<String>,
    },
    /// An interface that the manifest does not open.
    #[error("the manifest does not name {gate} under Config.FeatureGates")]
    GateClosed {
        /// Which.
        gate: &'static str,
    },
    /// The caller's certificate is no Marble's of this epoch.
    #[error("the client certificate is not that of a Marble of this epoch")]
    NotAMarble,
    /// A counter's name is too long.
    #[error("a counter's name has at most 256 bytes")]
    CounterName,
    /// The state waits to be recovered.
    #[error(
        "the state is sealed to another TEE and waits to be recovered: upload {remaining} more recovery secrets"
    )]
    Recovering {
        /// How many shares are missing.
        remaining: usize,
    },
    /// Nothing waits to be recovered.
    #[error("nothing waits to be recovered: the state is open")]
    NotRecovering,
    /// Nobody can recover the state.
    #[error(
        "the state is sealed to another TEE, and its manifest named no recovery keys: bring back the machine and the \
         program that sealed it, or move the state away to begin anew"
    )]
    Unrecoverable,
    /// A share that nobody has.
    #[error("this is no recovery secret of this state, and no holder's key signed it")]
    ShareUnknown,
    /// Signed by a holder, and not that holder's.
    #[error(
        "holder {holder:?} signed this recovery secret, and it is not the one that was given to {holder:?}"
    )]
    ShareWrong {
        /// Who signed.
        holder: String,
    },
    /// A holder's, and not signed by that holder.
    #[error(
        "this is the recovery secret of holder {holder:?}, and it was not signed with the key of {holder:?}"
    )]
    ShareNotSigned {
        /// Whose.
        holder: String,
    },
    /// Given before.
    #[error("holder {holder:?} has given this recovery secret before")]
    ShareRepeated {
        /// Whose.
        holder: String,
    },
    /// Enough shares, and they do not open the state.
    #[error("the recovery secrets together do not open the state: {0}")]
    RecoveryFailed(String),
    /// Nothing to act on yet.
    #[error("no manifest has been set yet")]
    NoManifest,
    /// The first manifest is set once.
    #[error("a manifest is in force already (epoch {epoch})")]
    ManifestAlreadySet {
        /// The epoch in force.
        epoch: u64,
    },
    /// The manifest has faults.
    #[error("the manifest is refused")]
    Manifest(#[from] Faults),
    /// A secret that does not fit its declaration.
    #[error("secret {name:?} cannot be set like this: {reason}")]
    SecretShape {
        /// Its name.
        name: String,
        /// What does not fit.
        reason: String,
    },
    /// An empty request.
    #[error("the request names no secret")]
    NoSecrets,
    /// A Marble that the manifest does not have.
    #[error("the manifest has no Marble {marble:?}")]
    UnknownMarble {
        /// Its name.
        marble: String,
    },
    /// A platform that the Marble's package has no measurement for.
    #[error("Marble {marble:?} does not run on {platform}; the manifest accepts {}", accepted.join(", "))]
    Platform {
        /// Which Marble.
        marble: String,
        /// Offered.
        platform: Platform,
        /// By the manifest.
        accepted: Vec<String>,
    },
    /// Open advisories that the manifest does not accept.
    #[error("the platform has open advisories that the manifest does not accept for Marble {marble:?}: {}", unaccepted.join(", "))]
    Advisories {
        /// Which Marble.
        marble: String,
        /// Intel's names.
        unaccepted: Vec<String>,
    },
    /// Claims that do not parse.
    #[error("the claims are neither a Keep's nor a database's")]
    ClaimsMalformed(#[from] MalformedClaims),
    /// Another workload than the manifest names.
    #[error(
        "the workload of Marble {marble:?} is not the one that the manifest names: expected sha256:{}, seen sha256:{}",
        hex::encode(expected),
        hex::encode(seen)
    )]
    Workload {
        /// Which Marble.
        marble: String,
        /// By the manifest.
        expected: [u8; 32],
        /// By the attested claims.
        seen: [u8; 32],
    },
    /// The Keep's package is not one that may run.
    #[error("the workload of Marble {marble:?} may not run: {package}")]
    Package {
        /// Which Marble.
        marble: String,
        /// Why.
        package: PackageRefusal,
    },
    /// The manifest changed between appraisal and request.
    #[error(
        "the Evidence was appraised in epoch {appraised}, and epoch {current} is in force: connect again"
    )]
    StaleAppraisal {
        /// The connection's epoch.
        appraised: u64,
        /// The epoch in force.
        current: u64,
    },
    /// `MaxActivations` is reached.
    #[error("Marble {marble:?} was activated {limit} times, as often as the manifest allows")]
    ActivationsExhausted {
        /// Which Marble.
        marble: String,
        /// The limit.
        limit: u64,
    },
    /// Renewal without activation.
    #[error("this key was not activated as Marble {marble:?} in this epoch: activate first")]
    NotActivated {
        /// Which Marble.
        marble: String,
    },
    /// Not in the manifest.
    #[error("Marble {marble:?} has no volume {volume:?} in the manifest")]
    UnknownVolume {
        /// Which Marble.
        marble: String,
        /// As it was asked for.
        volume: String,
    },
    /// To be read only.
    #[error("volume {volume:?} of Marble {marble:?} is read-only in the manifest")]
    VolumeReadOnly {
        /// Which Marble.
        marble: String,
        /// Which volume.
        volume: String,
    },
    /// Another commit than the newest was to be followed.
    #[error("volume {volume:?} of Marble {marble:?} is not at the commit that this one follows")]
    VolumeMoved {
        /// Which Marble.
        marble: String,
        /// Which volume.
        volume: String,
    },
    /// Another instance opened it since.
    #[error("volume {volume:?} of Marble {marble:?} was opened by another instance")]
    VolumeTaken {
        /// Which Marble.
        marble: String,
        /// Which volume.
        volume: String,
    },
    /// A database with another beginning than the manifest names, or where it names none.
    #[error(
        "Marble {marble:?} is {} in the manifest, and this one began with the manifest sha256:{}",
        expected.map_or_else(
            || "no database".to_owned(),
            |digest| format!("the database that began with the manifest sha256:{}", hex::encode(digest)),
        ),
        hex::encode(seen)
    )]
    Database {
        /// Which Marble.
        marble: String,
        /// By the mesh's manifest; none where it is no database.
        expected: Option<[u8; 32]>,
        /// By the claims.
        seen: [u8; 32],
    },
    /// Parameters that cannot be filled in now.
    #[error("the parameters of Marble {marble:?} cannot be filled in: {reason}")]
    Parameters {
        /// Which Marble.
        marble: String,
        /// Which value is missing, never a value.
        reason: String,
    },
    /// Too many costly requests at once.
    #[error("too many requests that need the TEE are under way: try again in a moment")]
    Busy,
    /// How the state is kept is decided once.
    #[error(
        "Config.SealMode cannot change while the mesh lives: what is kept, or not, was decided by the first manifest"
    )]
    SealModeFixed,
    /// A quote that is not genuine, or is revoked.
    #[error("the quote is refused: {}", codes.join(", "))]
    QuoteRefused {
        /// Of the verdict.
        codes: Vec<String>,
    },
    /// Nobody has a share.
    #[error(
        "the manifest in force names no recovery keys that are kept beside the state: nobody could recover it"
    )]
    NoRecoveryKeys,
    /// A token that proves nothing.
    #[error("the token is refused: {0}")]
    Token(TokenFault),
    /// Two proofs of who the caller is.
    #[error("this request has both a client certificate and a token: give one, so that it is clear who asks")]
    TwoProofs,
    /// An update that should be rolled back by itself, and could not be.
    #[error(
        "recovery keys change, which cannot be rolled back: holders have their shares. Leave `RollBackAfter` out of \
         this update"
    )]
    NoWayBack,
    /// A secret of a store outside cannot be had.
    #[error("secret {secret:?} cannot be had from store {store:?}: {error}; to mend it, {}", error.mend())]
    SecretStore {
        /// Which secret.
        secret: String,
        /// In which store of the manifest.
        store: String,
        /// Why.
        error: StoreError,
    },
    /// Our own fault.
    #[error("the coordinator failed: {0}")]
    Internal(String),
    /// No word from etcd.
    #[error(
        "this replica is cut off from etcd and answers nothing until it is back ({0}): ask another replica. Whether what \
         was asked for was done is not known"
    )]
    CutOff(String),
    /// Replicas share what is sealed.
    #[error(
        "the manifest says that nothing be written (Config.SealMode \"Disabled\"), and replicas share what is written"
    )]
    SealModeShared,
    /// Something that only replicas are for.
    #[error("this coordinator has no replicas")]
    NoReplicas,
    /// A value that its user wanted delivered no more, or that the manifest says is too old.
    #[error("secret {name:?} has expired at {}: upload a new value", UnixTime(*at))]
    SecretExpired {
        /// Its name.
        name: String,
        /// When, in seconds.
        at: i64,
    },
    /// A value that a lost node could have read.
    #[error(
        "secret {name:?} is withheld since an instance that could have read it was evicted: upload a new value"
    )]
    SecretWithheld {
        /// Its name.
        name: String,
    },
    /// What was prepared does not fit what was decided meanwhile.
    #[error("{what} changed while the request was made ready: try again")]
    Overtaken {
        /// What.
        what: String,
    },
    /// Sent away for good.
    #[error(
        "{what} was evicted at {}: it comes back by an update of the manifest that names it under Config.Reinstated",
        UnixTime(*at)
    )]
    Evicted {
        /// Instance or machine.
        what: String,
        /// When, in seconds.
        at: i64,
    },
    /// Nothing that could be evicted.
    #[error(
        "no instance {instance} has a certificate in this epoch: evict its machine, for which `platform` names it"
    )]
    UnknownInstance {
        /// As it was asked for.
        instance: String,
    },
    /// A machine on which nothing ever ran.
    #[error("no Marble of this mesh ran on machine {machine:?}")]
    UnknownMachine {
        /// As it was asked for.
        machine: String,
    },
    /// A value for a machine, on one that proves none.
    #[error(
        "Marble {marble:?} is to have a value of secret {secret:?} of its own on this machine, and its {platform}          Evidence does not say which machine it is: run it where Evidence names the chip (SNP with a VCEK, SGX, TDX),          or share the secret"
    )]
    NoMachine {
        /// Which Marble.
        marble: String,
        /// Which secret.
        secret: String,
        /// Where.
        platform: Platform,
    },
    /// The state is not the newest, or nothing says that it is.
    #[error(transparent)]
    Unfit(#[from] super::anchor::Unfit),
    /// A share that could bring back an older state, and its holder did not say that this is meant.
    #[error(
        "this would go on with an older copy of the state ({length} records), and what came after it would be lost: \
         the holder must say so (bailey recover --accept-loss {length})"
    )]
    LossNotAccepted {
        /// How many records would be left.
        length: u64,
    },
    /// A head that nobody proved to be ours.
    #[error("the key of this mesh's log did not sign that head")]
    PositionUnsigned,
    /// A session of the broker that nobody here remembers.
    #[error(
        "this coordinator knows of no such session: each replica keeps its last thousand, and forgets them when it ends"
    )]
    UnknownSession,
    /// The manifest has no broker.
    #[error("the manifest in force has no section `Broker`")]
    NoBroker,
    /// A resource that cannot be so.
    #[error("the resource is refused: {reason}")]
    ResourceRefused {
        /// Why.
        reason: String,
    },
    /// Somebody else was faster.
    #[error("the resource is at version {seen} and not at {expected}, which this was to follow")]
    ResourceChanged {
        /// As its user knew it.
        expected: u64,
        /// As it is; 0 where there is none.
        seen: u64,
    },
    /// No such resource, or no such version.
    #[error("there is no such resource, or no such version of it")]
    UnknownResource,
    /// A resource of which there is nothing yet.
    #[error("the resource's secret has no value yet: a user has to upload it")]
    ResourceWithoutValue,
    /// No such policy.
    #[error("the manifest in force has no release policy of this name")]
    UnknownPolicy,
    /// No attestation of a guest.
    #[error("this is no attestation as a guest sends it: {reason}")]
    RecordMalformed {
        /// What is wrong with it.
        reason: String,
    },
    /// No path of a resource.
    #[error("{}", manifest::InvalidResourcePath)]
    ResourcePath,
    /// Not a request for an SVID.
    #[error(transparent)]
    Svid(SvidFault),
    /// A key for images that is none, or that did not do it.
    #[error(transparent)]
    ImageKey(image_keys::KekError),
    /// A statement about reference values that is not believed.
    #[error("the statement is refused: {0}")]
    Statement(reference_statements::Refused),
    /// A signer of reference values with whose key or trust root nothing could be verified.
    #[error("signer {signer:?} of reference values could verify nothing: {reason}")]
    ReferenceSigner {
        /// Which.
        signer: String,
        /// Why.
        reason: String,
    },
    /// A trust root older than the one in force.
    #[error(
        "the trust root of {} would be an older one, or another of the same version: give the newest, with a greater \
         `Version`",
        signers.join(", ")
    )]
    TrustRootRolledBack {
        /// Whose.
        signers: Vec<String>,
    },
    /// A statement that is there.
    #[error("statement {id} was added before")]
    ReferenceKnown {
        /// Its name.
        id: String,
    },
    /// A statement that is not.
    #[error("there is no statement {id}")]
    UnknownReference {
        /// Its name.
        id: String,
    },
    /// An old statement, brought again.
    #[error(
        "signer {signer:?} has said something newer in series {series:?}: serial {newest} was seen, and this has {serial}"
    )]
    ReferenceRolledBack {
        /// Whose word.
        signer: String,
        /// In which series.
        series: String,
        /// Of the statement.
        serial: u64,
        /// What was seen.
        newest: u64,
    },
    /// More than is kept.
    #[error("{statements} statements of {bytes} bytes together are kept at most: remove some")]
    TooManyReferences {
        /// How many.
        statements: usize,
        /// Of them all.
        bytes: usize,
    },
    /// No statement says what a package is.
    #[error(
        "no statement of series {series:?} by {threshold} of its signers says now what package {package:?} is on {platform}: \
         add one with `bailey reference add`; `bailey reference list` shows why those that there are do not count"
    )]
    NoReferences {
        /// Which package.
        package: String,
        /// Its series.
        series: String,
        /// Where.
        platform: Platform,
        /// How many signers it takes.
        threshold: usize,
    },
}

impl From<AuthorityError> for Refusal {
    fn from(error: AuthorityError) -> Self {
        Self::Internal(error.to_string())
    }
}

impl Refusal {
    /// Stable code.
    pub fn code(&self) -> &'static str {
        match self {
            Self::NoCertificate => "CLIENT_CERTIFICATE_REQUIRED",
            Self::UnknownUser => "USER_UNKNOWN",
            Self::NotOwner { .. } => "OWNER_REQUIRED",
            Self::NotGranted { .. } | Self::NotAllowed { .. } => "NOT_GRANTED",
            Self::UpdatePending => "UPDATE_PENDING",
            Self::NoUpdate => "UPDATE_ABSENT",
            Self::OtherUpdate { .. } => "UPDATE_MISMATCH",
            Self::Downgrade { .. } => "SECURITY_VERSION_DOWNGRADE",
            Self::Infrastructure { .. } => "INFRASTRUCTURE_NOT_ACCEPTED",
            Self::GateClosed { .. } => "FEATURE_GATE_CLOSED",
            Self::NotAMarble => "MARBLE_CERTIFICATE_REQUIRED",
            Self::CounterName => "COUNTER_NAME_TOO_LONG",
            Self::Recovering { .. } => "RECOVERY_PENDING",
            Self::NotRecovering => "RECOVERY_NOT_PENDING",
            Self::Unrecoverable => "RECOVERY_IMPOSSIBLE",
            Self::ShareUnknown => "SHARE_UNKNOWN",
            Self::ShareWrong { .. } => "SHARE_WRONG",
            Self::ShareNotSigned { .. } => "SHARE_NOT_SIGNED",
            Self::ShareRepeated { .. } => "SHARE_REPEATED",
            Self::RecoveryFailed(_) => "RECOVERY_FAILED",
            Self::NoManifest => "MANIFEST_NOT_SET",
            Self::ManifestAlreadySet { .. } => "MANIFEST_ALREADY_SET",
            Self::Manifest(_) => "MANIFEST_REFUSED",
            Self::SecretShape { .. } => "SECRET_REFUSED",
            Self::NoSecrets => "SECRETS_MISSING",
            Self::UnknownMarble { .. } => "MARBLE_UNKNOWN",
            Self::Platform { .. } => "PLATFORM_NOT_ACCEPTED",
            Self::Advisories { .. } => "ADVISORIES_NOT_ACCEPTED",
            Self::ClaimsMalformed(_) => "CLAIMS_MALFORMED",
            Self::Workload { .. } => "WORKLOAD_MISMATCH",
            Self::Package { package, .. } => package.code(),
            Self::StaleAppraisal { .. } => "APPRAISAL_STALE",
            Self::ActivationsExhausted { .. } => "ACTIVATIONS_EXHAUSTED",
            Self::NotActivated { .. } => "NOT_ACTIVATED",
            Self::UnknownVolume { .. } => "VOLUME_UNKNOWN",
            Self::VolumeReadOnly { .. } => "VOLUME_READ_ONLY",
            Self::VolumeMoved { .. } => "VOLUME_MOVED",
            Self::VolumeTaken { .. } => "VOLUME_TAKEN",
            Self::Database { .. } => "DATABASE_MISMATCH",
            Self::Parameters { .. } => "PARAMETERS_INCOMPLETE",
            Self::Busy => "TOO_MANY_REQUESTS",
            Self::SealModeFixed => "SEAL_MODE_FIXED",
            Self::QuoteRefused { .. } => "QUOTE_REFUSED",
            Self::NoRecoveryKeys => "RECOVERY_KEYS_MISSING",
            Self::Token(fault) => fault.code(),
            Self::TwoProofs => "PROOFS_CONFLICT",
            Self::NoWayBack => "ROLL_BACK_IMPOSSIBLE",
            Self::SecretStore { error, .. } => error.code(),
            Self::Internal(_) => "INTERNAL",
            Self::CutOff(_) => "CUT_OFF",
            Self::SealModeShared => "SEAL_MODE_SHARED",
            Self::NoReplicas => "REPLICAS_ABSENT",
            Self::SecretExpired { .. } => "SECRET_EXPIRED",
            Self::SecretWithheld { .. } => "SECRET_WITHHELD",
            Self::Overtaken { .. } => "OVERTAKEN",
            Self::Evicted { .. } => "EVICTED",
            Self::UnknownInstance { .. } => "INSTANCE_UNKNOWN",
            Self::UnknownMachine { .. } => "MACHINE_UNKNOWN",
            Self::NoMachine { .. } => "MACHINE_NOT_PROVEN",
            Self::Unfit(unfit) => unfit.code(),
            Self::LossNotAccepted { .. } => "LOSS_NOT_ACCEPTED",
            Self::PositionUnsigned => "POSITION_UNSIGNED",
            Self::UnknownSession => "SESSION_UNKNOWN",
            Self::NoBroker => "BROKER_NOT_CONFIGURED",
            Self::ResourceRefused { .. } => "RESOURCE_REFUSED",
            Self::ResourceChanged { .. } => "RESOURCE_CHANGED",
            Self::UnknownResource => "RESOURCE_UNKNOWN",
            Self::ResourceWithoutValue => "RESOURCE_WITHOUT_VALUE",
            Self::UnknownPolicy => "POLICY_UNKNOWN",
            Self::RecordMalformed { .. } => "RECORD_MALFORMED",
            Self::ResourcePath => "RESOURCE_PATH_MALFORMED",
            Self::Svid(fault) => fault.code(),
            Self::ImageKey(_) => "IMAGE_KEY",
            Self::Statement(refused) => refused.code(),
            Self::ReferenceSigner { .. } => "REFERENCE_SIGNER_UNUSABLE",
            Self::TrustRootRolledBack { .. } => "TRUST_ROOT_ROLLED_BACK",
            Self::ReferenceKnown { .. } => "REFERENCE_KNOWN",
            Self::UnknownReference { .. } => "REFERENCE_UNKNOWN",
            Self::ReferenceRolledBack { .. } => "REFERENCE_ROLLED_BACK",
            Self::TooManyReferences { .. } => "REFERENCES_FULL",
            Self::NoReferences { .. } => "REFERENCES_MISSING",
        }
    }

    /// What a program may want beyond code and sentence.
    pub fn details(&self) -> Value {
        match self {
            Self::Manifest(faults) => faults
                .all()
                .iter()
                .map(|fault| {
                    json!({
                        "path": fault.path, "line": fault.line, "code": fault.code.to_string(),
                        "message": fault.message, "hint": fault.hint,
                    })
                })
                .collect(),
            Self::Workload { expected, seen, .. } => {
                json!({ "expected": hex::encode(expected), "seen": hex::encode(seen) })
            }
            Self::SecretStore { secret, store, error } => {
                json!({ "secret": secret, "store": store, "mend": error.mend() })
            }
            _ => Value::Null,
        }
    }
}

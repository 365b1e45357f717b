//! The database as a Marble: the coordinator of a mesh admits it, gives it the key that everything durable hangs on, and
//! remembers the newest record of its sealed log.
//!
//! ```text
//!  Mesh::join ── Evidence, both ways ──▶ coordinator: is this the Marble's code, and its first manifest?
//!  Mesh::open(Write) ◀── master key, newest record ──┤  from now on nobody else may write: the one before is fenced
//!  Mesh::open(Read)  ◀── the same ───────────────────┤  takes nothing over; follows with `Volume::current`
//!  Opened::volume    ── each group of records ──────▶┘  the anchor of the sealed log ([`volume::Anchor`])
//! ```
//!
//! Which mesh it is, the database's own Evidence says ([`Mesh::anchor`]): the host chooses where the coordinator is, and
//! whoever governs the mesh decides who else gets the key. The certificates of its servers are its own CA's, as ever: the
//! mesh's certificate is how the coordinator knows it, and is shown to no client, but to other
//! instances of the same Marble ([`Mesh::credentials`]).

use std::{sync::Arc, time::Duration};

use appraisal::binding::Role;
use attested_tls::{
    claims::{Claims, DatabaseAnchor, DatabaseMarbleClaims},
    clock::Clock,
    key::sha256,
    launch::KeepConfiguration,
    marble::{Credential, Revoked},
};
use attester::Tee;
use marble::{Member, MeshError, OpenedVolume, Refused, Use, Volume};
use mesh_api::DATABASE_VOLUME;
use serde_bytes::ByteArray;
use volume::Head;

use tokio::sync::watch;

use crate::{attestation::Version, keys::MasterKey, reads::Credentials};

/// How often it asks whether the log is still its own.
const HOLD: Duration = Duration::from_secs(5);
/// How long it waits before it asks again to hear of evictions.
const RETRY: Duration = Duration::from_secs(5);
/// The same, for a certificate.
const RENEWAL_RETRY: Duration = Duration::from_secs(60);

/// A mesh that this instance was admitted to.
pub struct Mesh {
    member: Member,
    root: [u8; 32],
    /// Renewed, and told who was evicted, as long as [`Mesh::dismissed`] is waited for.
    credential: watch::Sender<Arc<Credential>>,
    not_after: i64,
}

/// What the coordinator gave of the database's volume.
pub struct Opened {
    /// From which the log's key follows.
    pub master: MasterKey,
    /// The newest record of the log that was acknowledged; `None`: there never was one.
    pub head: Option<Head>,
    /// What remembers it, and moves it where it was opened to write. A reader becomes the writer by [`Volume::take`].
    pub volume: Volume,
}

impl Mesh {
    /// Attests to the coordinator at `coordinator`, the host's hint, and is admitted as the Marble that the measured
    /// launch configuration names: the database that began with the manifest `first`. Each time counts as an activation.
    ///
    /// # Errors
    /// Why it is not admitted.
    pub async fn join(
        tee: Arc<dyn Tee>,
        configuration: &KeepConfiguration,
        first: [u8; 32],
        version: &Version,
        coordinator: String,
        clock: Clock,
    ) -> Result<Self, MeshError> {
        let claims = DatabaseMarbleClaims {
            marble: configuration.marble.clone(),
            first: ByteArray::new(first),
            engine: version.name.clone(),
            engine_digest: ByteArray::new(version.digest),
            configuration: ByteArray::new(sha256(tee.launch_configuration())),
        };
        let member = Member::new(Role::Database, tee, configuration, coordinator, clock)?;
        let member = member.claiming(claims.to_bytes());
        let admitted = member.activate().await?;
        let root = sha256(&admitted.credential.root);
        tracing::info!(
            code = "ADMITTED",
            marble = member.marble(),
            epoch = admitted.credential.identity.epoch,
            root = hex::encode(root),
            "the mesh has this database as its Marble"
        );
        let credential = watch::Sender::new(Arc::new(admitted.credential));
        Ok(Self { member: member.within(root), root, credential, not_after: admitted.not_after })
    }

    /// By which instances of this Marble know each other.
    pub fn credentials(&self) -> Credentials {
        self.credential.subscribe()
    }

    /// What this database's Evidence says of its anchor.
    pub fn anchor(&self) -> DatabaseAnchor {
        DatabaseAnchor::Coordinator { root: ByteArray::new(self.root) }
    }

    /// Has the coordinator open the log: with [`Use::Write`], this instance alone may write it from now on.
    ///
    /// # Errors
    /// See [`MeshError`].
    pub async fn open(&self, wants: Use) -> Result<Opened, MeshError> {
        let OpenedVolume { key, head, volume } = self.member.open_volume(DATABASE_VOLUME, wants).await?;
        Ok(Opened { master: MasterKey::new(key), head, volume })
    }

    /// Stays a Marble: renews its certificate, and returns when the coordinator has sent this instance away, or another
    /// one was given the log to write. To an instance that reads, the second does not happen.
    pub async fn dismissed(&self, volume: &Volume) -> Refused {
        tokio::select! {
            refused = self.evicted() => refused,
            refused = taken(volume) => refused,
            () = self.renewed() => unreachable!("it renews for ever"),
        }
    }

    async fn evicted(&self) -> Refused {
        loop {
            let error = match self.member.watch_revocations().await {
                Ok(mut lists) => loop {
                    match lists.next().await {
                        Ok(revoked) => {
                            self.credential.send_modify(|known| *known = Arc::new(with(known, revoked)))
                        }
                        Err(error) => break error,
                    }
                },
                Err(error) => error,
            };
            match error {
                MeshError::Refused { code, reason } if code == "EVICTED" => return Refused { code, reason },
                error => {
                    let codes = error.codes().join(",");
                    tracing::warn!(code = "COORDINATOR_UNREACHABLE", codes, reason = %error, "it is asked again");
                }
            }
            tokio::time::sleep(RETRY).await;
        }
    }

    /// Renews the certificate at half of its remaining life, and as soon as the mesh has another epoch: the coordinator
    /// goes on counting this instance, and instances of this Marble go on knowing each other.
    async fn renewed(&self) {
        let mut not_after = self.not_after;
        loop {
            let left = u64::try_from(not_after.saturating_sub((self.member.clock())().0)).unwrap_or(0);
            let epoch = self.credential.borrow().identity.epoch;
            tokio::select! {
                () = tokio::time::sleep(Duration::from_secs(left / 2).max(RENEWAL_RETRY)) => {}
                () = self.member.epoch_ended(epoch) => {}
            }
            match self.member.stay().await {
                Ok((renewed, until)) => {
                    not_after = until;
                    let epoch = renewed.identity.epoch;
                    tracing::info!(code = "CERTIFICATE_RENEWED", epoch, not_after, "the mesh's certificate");
                    self.credential
                        .send_modify(|known| *known = Arc::new(with(&renewed, known.revoked.clone())));
                }
                Err(error) => {
                    let codes = error.codes().join(",");
                    tracing::warn!(code = "CERTIFICATE_NOT_RENEWED", codes, reason = %error, "it is asked for again");
                    tokio::time::sleep(RENEWAL_RETRY).await;
                }
            }
        }
    }
}

/// The same certificate, with another list of those that count no more.
fn with(credential: &Credential, revoked: Revoked) -> Credential {
    Credential {
        chain: credential.chain.clone(),
        key: credential.key.clone_key(),
        root: credential.root.clone(),
        identity: credential.identity.clone(),
        revoked,
    }
}

/// When another instance was given the log. What has nothing to write would otherwise serve an old state on.
async fn taken(volume: &Volume) -> Refused {
    loop {
        tokio::time::sleep(HOLD).await;
        let asking = volume.clone();
        // An answer that does not come says nothing: each commit asks again, and waits.
        let _ = tokio::task::spawn_blocking(move || asking.hold()).await;
        if let Some(refused) = volume.refusal() {
            return refused.clone();
        }
    }
}

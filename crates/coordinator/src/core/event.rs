//! What is written to the log: facts that were decided, each complete in itself, so that replaying them
//! gives the state without deciding anything again.

use std::collections::{BTreeMap, BTreeSet};

use appraisal::UnixTime;
use evidence::Platform;
use manifest::ResourcePath;
use serde::{Deserialize, Serialize};
use serde_bytes::{ByteArray, ByteBuf};
use zeroize::Zeroizing;

use super::{
    SealedLogKey, SecretValue,
    anchor::TpmPin,
    workloads::{Packaged, Release},
};
use crate::store::StoreError;

/// One decided fact. `at` is seconds since 1970.
#[derive(Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[allow(missing_docs, reason = "fields that are what their name says")]
pub enum Event {
    /// The mesh begins.
    Founded {
        /// The root CA.
        root: SealedAuthority,
        /// From which secrets of single instances are derived.
        root_secret: ByteArray<32>,
        /// Whether the coordinator's own platform is emulated.
        emulated: bool,
        at: i64,
        /// From which follows what the transparency log calls secrets.
        log_salt: ByteArray<32>,
        /// Signs the transparency log's checkpoints.
        log_key: SealedLogKey,
    },
    /// The first manifest came into force, and with it the first epoch.
    ManifestSet {
        /// The exact bytes.
        manifest: ByteBuf,
        epoch: Epoch,
        /// Secrets that were generated for all instances.
        generated: BTreeMap<String, SecretValue>,
        /// What the shares of the recovery keys give together.
        recovery_secret: Option<ByteArray<32>>,
        at: i64,
    },
    /// A user uploaded secrets.
    SecretsWritten {
        /// The user's name in the manifest.
        user: String,
        secrets: BTreeMap<String, SecretValue>,
        /// When those that are named here are delivered no more.
        until: BTreeMap<String, i64>,
        at: i64,
    },
    /// A Keep, or a native program, became an instance of a Marble.
    Activated {
        marble: String,
        /// The digest of the instance's key; of a native program, that of its UUID and where it runs.
        instance: ByteArray<32>,
        epoch: u64,
        /// Where it runs, as its Evidence proves.
        seat: Seat,
        /// Secrets of which it was given the value or the private key.
        delivered: BTreeMap<String, Delivery>,
        /// Its own certificate first, then those of secrets that were made for it alone.
        certificates: Vec<Issued>,
        /// The signed package that it runs, if it runs one.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        release: Option<Release>,
        /// The package that it runs, if it runs one.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        package: Option<Packaged>,
        at: i64,
    },
    /// An instance got a new certificate.
    Renewed {
        /// The digest of the instance's key.
        instance: ByteArray<32>,
        certificate: Issued,
        at: i64,
    },
    /// A user raised security versions of packages; a new epoch began.
    VersionsRaised {
        user: String,
        versions: BTreeMap<String, u16>,
        epoch: Epoch,
        /// Certificates of the new epoch's CA.
        generated: BTreeMap<String, SecretValue>,
        at: i64,
    },
    /// A user proposed a manifest.
    UpdateProposed {
        user: String,
        /// The exact bytes.
        manifest: ByteBuf,
        /// Packages whose security version may fall by it.
        downgrades: BTreeSet<String>,
        deadline: i64,
        at: i64,
    },
    /// Another user agreed to it.
    UpdateAcknowledged { user: String, at: i64 },
    /// The proposed manifest is off.
    UpdateCancelled {
        /// Who cancelled it; nobody, where its deadline passed.
        user: Option<String>,
        at: i64,
    },
    /// The proposed manifest came into force, and with it an epoch.
    ManifestUpdated {
        user: String,
        epoch: Epoch,
        /// Secrets that were generated anew.
        generated: BTreeMap<String, SecretValue>,
        /// Those of them whose old value is the previous one now; of the others the new one is.
        rotated: BTreeSet<String>,
        root_secret: Option<ByteArray<32>>,
        recovery_secret: Option<ByteArray<32>>,
        at: i64,
    },
    /// A counter of an instance was raised.
    CounterRaised { marble: String, instance: ByteArray<32>, name: String, value: u64 },
    /// The state was brought back by holders of recovery keys, into a TEE that had not the CA keys.
    Recovered {
        /// Whose shares.
        holders: Vec<String>,
        root: SealedAuthority,
        epoch: Epoch,
        generated: BTreeMap<String, SecretValue>,
        emulated: bool,
        at: i64,
        /// Signs the transparency log's checkpoints from now on.
        log_key: SealedLogKey,
    },
    /// Holders of recovery keys proved that their shares would open the state. Nothing was changed by it.
    RecoveryRehearsed {
        /// Whose shares.
        holders: Vec<String>,
        at: i64,
    },
    /// Another coordinator was given the keys of the log. Nothing was changed by it.
    ReplicaJoined {
        /// Its key on the connection that it was given them over.
        replica: ByteArray<32>,
        /// The platform that it proved to run on.
        platform: String,
        /// What its vendor calls that very machine; absent where Evidence does not say.
        machine: Option<String>,
        at: i64,
    },
    /// A user downloaded secrets. Nothing was changed by it.
    SecretsRead { user: String, names: BTreeSet<String>, at: i64 },
    /// Marbles that ran before an update did not run again in time, and what was in force before it is again, as a new
    /// epoch.
    RolledBack {
        /// Those Marbles.
        missing: BTreeSet<String>,
        epoch: Epoch,
        /// Certificates of the new epoch's CA.
        generated: BTreeMap<String, SecretValue>,
        at: i64,
    },
    /// A user had new values made of shared secrets.
    SecretsRotated { user: String, generated: BTreeMap<String, SecretValue>, at: i64 },
    /// Values of secrets became too old; they are wiped.
    SecretsExpired {
        /// Their versions.
        versions: BTreeMap<String, Vec<u64>>,
        at: i64,
    },
    /// A user sent instances away for good, with the secrets that they could have read.
    Evicted {
        user: String,
        /// The machine, where all that runs on it was sent away.
        machine: Option<String>,
        instances: Vec<EvictedInstance>,
        /// Certificates that count no more.
        certificates: Vec<Issued>,
        /// New values of shared secrets that were read.
        generated: BTreeMap<String, SecretValue>,
        /// Those of whom other secrets are derived from now on.
        turned: Vec<ByteArray<32>>,
        /// Uploaded secrets that were read, by version: their users must replace them.
        exposed: BTreeMap<String, u64>,
        /// Whether those are delivered no more until then.
        withheld: bool,
        at: i64,
    },
    /// The last record of a batch, where a TPM keeps a chain: the chain's value before the batch.
    Anchored {
        /// With the first batch of a chain: where the chain is.
        pin: Option<TpmPin>,
        before: ByteArray<32>,
    },
    /// Holders of recovery keys accepted that what came after so many records is lost, and the anchor with it.
    AnchorReset {
        /// Whose shares.
        holders: Vec<String>,
        /// How many records were left.
        length: u64,
        at: i64,
    },
    /// A user uploaded a resource of the broker.
    ResourceStored {
        user: String,
        path: ResourcePath,
        /// Counted over all resources.
        version: u64,
        value: SecretValue,
        at: i64,
    },
    /// A user deleted a resource of the broker, all versions of it.
    ResourceDeleted { user: String, path: ResourcePath, at: i64 },
    /// A user downloaded a resource of the broker. Nothing was changed by it.
    ResourceRead { user: String, path: ResourcePath, at: i64 },
    /// A user brought a statement about reference values.
    ReferenceAdded {
        user: String,
        /// Its exact bytes.
        statement: ByteBuf,
        /// Who signed it, by the manifest's names.
        signers: Vec<String>,
        /// Series and serial, where it has values.
        series: Option<(String, u64)>,
        at: i64,
    },
    /// An instance got the key of a volume of its Marble, to write to it.
    VolumeOpened {
        marble: String,
        volume: String,
        /// The instance, which alone may advance it from now on.
        instance: ByteArray<32>,
        /// The volume's key.
        key: ByteArray<32>,
        at: i64,
    },
    /// A volume has a new newest commit.
    VolumeAdvanced { marble: String, volume: String, sequence: u64, hash: ByteArray<32>, at: i64 },
    /// A user took one away.
    ReferenceRemoved {
        user: String,
        /// SHA-256 of its bytes.
        id: ByteArray<32>,
        at: i64,
    },
}

/// Where an instance runs.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Seat {
    /// The kind of TEE.
    pub platform: Platform,
    /// The machine, such as `snp:` and its chip id; absent where the Evidence proves none.
    pub machine: Option<String>,
    /// Whether the platform is emulated.
    pub emulated: bool,
    /// Whether it is a native program, which joined by MarbleRun's protocol.
    pub native: bool,
}

/// What an instance was given of a secret.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Delivery {
    /// These versions of a value that others have too.
    Versions(BTreeSet<u64>),
    /// A value of its own.
    Own,
    /// What lay in a store outside.
    Stored,
}

/// A certificate that was issued.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Issued {
    /// Its serial number.
    pub serial: ByteArray<16>,
    /// When it ends, seconds.
    pub until: i64,
}

/// An instance that was sent away.
#[derive(Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct EvictedInstance {
    /// As it was activated.
    pub instance: ByteArray<32>,
    /// Of which Marble.
    pub marble: String,
}

/// A CA.
#[derive(Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SealedAuthority {
    /// PKCS #8, sealed to the TEE that made it.
    pub key: ByteBuf,
    /// DER.
    pub certificate: ByteBuf,
}

/// A key that signs attestation tokens.
#[derive(Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SealedSigner {
    /// PKCS #8, sealed to the TEE that made it.
    pub key: ByteBuf,
    /// DER.
    pub certificate: ByteBuf,
}

/// A generation of the manifest, with its CA.
#[derive(Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Epoch {
    /// Counted from 1.
    pub number: u64,
    /// The CA, below the root.
    pub intermediate: SealedAuthority,
    /// The same key and name, signed by itself: what MarbleRun's Marbles trust. DER.
    pub marble_root: ByteBuf,
    /// What signs attestation tokens, certified by that CA; absent where the manifest has no broker.
    pub signer: Option<SealedSigner>,
    /// The CA of SVIDs, below the root too.
    pub svids: SealedAuthority,
}

impl Event {
    /// CBOR.
    pub fn to_record(&self) -> Zeroizing<Vec<u8>> {
        let mut out = Zeroizing::new(Vec::new());
        ciborium::into_writer(self, &mut *out).expect("writing plain data to memory cannot fail");
        out
    }

    /// Reads record `index` of the log.
    pub fn from_record(index: u64, record: &[u8]) -> Result<Self, StoreError> {
        let mut rest = record;
        let event = ciborium::from_reader(&mut rest)
            .map_err(|error| StoreError::Version { index, reason: error.to_string() })?;
        if !rest.is_empty() {
            return Err(StoreError::Version { index, reason: format!("{} bytes follow it", rest.len()) });
        }
        Ok(event)
    }
}

pub(super) fn seconds(now: UnixTime) -> i64 {
    now.0
}

//! What the TEE's own code asserts about itself beside the hardware's Evidence (design.md §4): CBOR maps
//! whose digest the report data covers. Whoever trusts the measurement may trust the claims, nobody else.
//!
//! What it is not: it knows neither Evidence nor cryptography, so that verifiers in browsers read the same claims.

pub mod anchor;

use serde::{Deserialize, Serialize, de::DeserializeOwned};
use serde_bytes::{ByteArray, ByteBuf};

use crate::anchor::AnchorClaim;

/// No honest claims are larger: two certificates and a few digests.
pub const MAX_CLAIMS: usize = 16 * 1024;

/// What a Keep says of itself.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct KeepClaims {
    /// The Marble that it is to be.
    pub marble: String,
    /// The WebAssembly engine and its version (S-53).
    pub engine: String,
    /// SHA-256 of the workload's exact bytes; nothing while it asks what it may load.
    pub workload: Option<ByteArray<32>>,
    /// Which package the workload came in, if it came in one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub package: Option<PackageClaim>,
    /// SHA-256 of the measured launch configuration.
    pub configuration: ByteArray<32>,
}

/// What a Keep says of itself that waits for one deployment, to one client.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DirectClaims {
    /// SHA-256 of the SubjectPublicKeyInfo of the client's one-use key on this connection.
    pub client: ByteArray<32>,
    /// The WebAssembly engine and its version (S-53).
    pub engine: String,
    /// SHA-256 of the measured launch configuration.
    pub configuration: ByteArray<32>,
}

/// The package that a Keep has loaded and verified.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PackageClaim {
    /// SHA-256 of the package's manifest.
    pub digest: ByteArray<32>,
    /// Who signed it, and what as; nothing where the digest alone was asked for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub release: Option<ReleaseClaim>,
}

/// What a signature says of a package.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ReleaseClaim {
    /// The package's name, `registry/repository`.
    pub name: String,
    /// Its version.
    pub version: String,
    /// Who signed it, by the manifest's name.
    pub signer: String,
}

/// What a coordinator says of itself.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CoordinatorClaims {
    /// The root CA's certificate, DER.
    pub root: ByteBuf,
    /// SHA-256 of the SubjectPublicKeyInfo of the owner, who alone may set the first manifest.
    pub owner: ByteArray<32>,
    /// What it can do now.
    pub mode: CoordinatorMode,
    /// The generation of manifest and intermediate CA; 0 while there is no manifest.
    pub epoch: u64,
    /// SHA-256 of the manifest's exact bytes.
    pub manifest: Option<ByteArray<32>>,
    /// The hash of the newest record of the state log.
    pub log_head: ByteArray<32>,
    /// How many records the state log has.
    pub log_length: u64,
    /// The certificate of the current epoch's intermediate CA, DER; absent while there is no manifest.
    pub intermediate: Option<ByteBuf>,
    /// The transparency log's key signs [`Position::to_be_signed`](crate::anchor::Position::to_be_signed): by it whoever
    /// holds it can show an older copy of this coordinator that it is one. Empty where nothing is served.
    pub log_signature: ByteBuf,
    /// What would notice an old copy of the state, outside this host. Empty: nothing would but those who hold heads.
    pub anchors: Vec<AnchorClaim>,
    /// The transparency log's head; absent while the state is locked.
    pub transparency: Option<TransparencyHead>,
}

/// What a database says of itself to the coordinator of the mesh that it is a Marble of.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DatabaseMarbleClaims {
    /// The Marble that it is to be.
    pub marble: String,
    /// SHA-256 of its first manifest's exact bytes, which the measured launch configuration fixes: the lineage.
    pub first: ByteArray<32>,
    /// The SQL engine and its version.
    pub engine: String,
    /// SHA-256 of the SQL engine's program.
    pub engine_digest: ByteArray<32>,
    /// SHA-256 of the measured launch configuration.
    pub configuration: ByteArray<32>,
}

/// What a database says of itself.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DatabaseClaims {
    /// The certificate, DER, of the CA that issues the certificates of its SQL and HTTPS servers.
    pub root: ByteBuf,
    /// SHA-256 of the first manifest's exact bytes, which the measured launch configuration fixes: the lineage.
    pub first: ByteArray<32>,
    /// What it can do now.
    pub mode: DatabaseMode,
    /// The manifest in force and where the log is; absent while the state is locked.
    pub state: Option<DatabaseState>,
    /// The SQL engine and its version.
    pub engine: String,
    /// SHA-256 of the SQL engine's program.
    pub engine_digest: ByteArray<32>,
    /// What would notice an old copy of the state.
    pub anchor: DatabaseAnchor,
}

/// Which state a database has.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DatabaseState {
    /// The database's name, by its manifest: what clients connect to.
    pub name: String,
    /// SHA-256 of the exact bytes of the manifest in force.
    pub manifest: ByteArray<32>,
    /// How many manifests were in force before it.
    pub epoch: u64,
    /// The number of the newest record of the sealed log.
    pub log_sequence: u64,
    /// Its hash, chained over all before it.
    pub log_head: ByteArray<32>,
}

/// What a database can do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum DatabaseMode {
    /// Its state is sealed to another TEE: it waits for shares, and its root is one of the moment.
    Recovering,
    /// Clients are served.
    Running,
    /// It follows another one's log, for reading.
    Replica,
}

/// What would notice an old copy of a database's state.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub enum DatabaseAnchor {
    /// Nothing but the positions that its clients hold.
    Receipts,
    /// A chain in the non-volatile memory of a TPM.
    TpmNv {
        /// SHA-256 of the SubjectPublicKeyInfo of its endorsement key.
        key: Option<ByteArray<32>>,
    },
    /// The coordinator of its mesh, which gives it its key, too. Whoever governs that mesh decides who else gets the key:
    /// a verifier must know which one it is.
    Coordinator {
        /// SHA-256 of the mesh's root certificate, DER.
        root: ByteArray<32>,
    },
}

/// The head of the log that anyone can check.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TransparencyHead {
    /// The log's name in checkpoints.
    pub origin: String,
    /// The Ed25519 key that signs checkpoints.
    pub key: ByteArray<32>,
    /// How many entries there are.
    pub size: u64,
    /// The root of their tree (RFC 6962 §2.1).
    pub root: ByteArray<32>,
}

/// What a coordinator can do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum CoordinatorMode {
    /// Its state is sealed to another TEE: it waits for shares, and its root is one of the moment.
    Recovering,
    /// It has no manifest yet.
    AcceptingManifest,
    /// A manifest is in force.
    Running,
    /// Its state is not the newest, or nothing says that it is: it serves nothing, and its root is one of the moment.
    RolledBack,
}

/// Claims are carried as the exact bytes that were hashed.
pub trait Claims: Serialize + DeserializeOwned {
    /// The CBOR bytes to hash and to carry.
    fn to_bytes(&self) -> Vec<u8> {
        let mut out = Vec::new();
        ciborium::into_writer(self, &mut out).expect("writing plain data to memory cannot fail");
        out
    }

    /// Reads claims strictly: unknown fields, trailing bytes and oversize are refused.
    fn from_bytes(bytes: &[u8]) -> Result<Self, MalformedClaims> {
        if bytes.len() > MAX_CLAIMS {
            return Err(MalformedClaims::TooLarge { size: bytes.len() });
        }
        let mut rest = bytes;
        let claims =
            ciborium::from_reader(&mut rest).map_err(|error| MalformedClaims::Cbor(error.to_string()))?;
        if !rest.is_empty() {
            return Err(MalformedClaims::Trailing { bytes: rest.len() });
        }
        Ok(claims)
    }
}

impl Claims for KeepClaims {}
impl Claims for DirectClaims {}
impl Claims for CoordinatorClaims {}
impl Claims for DatabaseClaims {}
impl Claims for DatabaseMarbleClaims {}

/// Why claims could not be read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum MalformedClaims {
    /// Larger than [`MAX_CLAIMS`].
    #[error("claims of {size} bytes are larger than the {MAX_CLAIMS} that are allowed")]
    TooLarge {
        /// Bytes seen.
        size: usize,
    },
    /// Not the CBOR map that is expected.
    #[error("claims are not the expected CBOR map: {0}")]
    Cbor(String),
    /// Bytes follow the map.
    #[error("{bytes} bytes follow the claims")]
    Trailing {
        /// How many.
        bytes: usize,
    },
}

#[cfg(test)]
mod tests {
    use super::*;

    fn keep() -> KeepClaims {
        KeepClaims {
            marble: "tally".into(),
            engine: "wasmtime 48".into(),
            workload: Some(ByteArray::new([1; 32])),
            package: None,
            configuration: ByteArray::new([2; 32]),
        }
    }

    #[test]
    fn round_trip() {
        assert_eq!(KeepClaims::from_bytes(&keep().to_bytes()), Ok(keep()));
    }

    #[test]
    fn trailing_bytes_are_refused() {
        let mut bytes = keep().to_bytes();
        bytes.push(0);
        assert_eq!(KeepClaims::from_bytes(&bytes), Err(MalformedClaims::Trailing { bytes: 1 }));
    }

    #[test]
    fn claims_of_another_role_are_refused() {
        assert!(matches!(CoordinatorClaims::from_bytes(&keep().to_bytes()), Err(MalformedClaims::Cbor(_))));
        assert!(matches!(DirectClaims::from_bytes(&keep().to_bytes()), Err(MalformedClaims::Cbor(_))));
        let (client, configuration) = (ByteArray::new([1; 32]), ByteArray::new([2; 32]));
        let direct = DirectClaims { client, engine: "wasmtime 48".into(), configuration };
        assert!(matches!(KeepClaims::from_bytes(&direct.to_bytes()), Err(MalformedClaims::Cbor(_))));
        assert_eq!(DirectClaims::from_bytes(&direct.to_bytes()), Ok(direct));
    }

    #[test]
    fn a_database_says_which_state_it_has_and_what_would_notice_an_old_one() {
        let state = DatabaseState {
            name: "fraud".into(),
            manifest: ByteArray::new([4; 32]),
            epoch: 2,
            log_sequence: 9,
            log_head: ByteArray::new([5; 32]),
        };
        for anchor in [
            DatabaseAnchor::Receipts,
            DatabaseAnchor::Coordinator { root: ByteArray::new([7; 32]) },
            DatabaseAnchor::TpmNv { key: Some(ByteArray::new([6; 32])) },
        ] {
            let claims = DatabaseClaims {
                root: ByteBuf::from(vec![1]),
                first: ByteArray::new([2; 32]),
                mode: DatabaseMode::Running,
                state: Some(state.clone()),
                engine: "PostgreSQL 15.18".into(),
                engine_digest: ByteArray::new([3; 32]),
                anchor,
            };
            assert_eq!(DatabaseClaims::from_bytes(&claims.to_bytes()), Ok(claims.clone()));
            assert!(CoordinatorClaims::from_bytes(&claims.to_bytes()).is_err());
        }
    }

    /// What the coordinator makes of a Marble follows from what its claims are: none is read as the other.
    #[test]
    fn a_database_and_a_keep_are_never_taken_for_each_other() {
        let database = DatabaseMarbleClaims {
            marble: "ledger".into(),
            first: ByteArray::new([1; 32]),
            engine: "PostgreSQL 15.18".into(),
            engine_digest: ByteArray::new([2; 32]),
            configuration: ByteArray::new([3; 32]),
        };
        let keep = KeepClaims {
            marble: "ledger".into(),
            engine: "wasmtime".into(),
            workload: None,
            package: None,
            configuration: ByteArray::new([3; 32]),
        };
        assert_eq!(DatabaseMarbleClaims::from_bytes(&database.to_bytes()), Ok(database.clone()));
        assert!(KeepClaims::from_bytes(&database.to_bytes()).is_err());
        assert!(DatabaseMarbleClaims::from_bytes(&keep.to_bytes()).is_err());
        assert!(DatabaseClaims::from_bytes(&database.to_bytes()).is_err());
    }

    #[test]
    fn oversize_is_refused_before_parsing() {
        let size = MAX_CLAIMS + 1;
        assert_eq!(KeepClaims::from_bytes(&vec![0; size]), Err(MalformedClaims::TooLarge { size }));
    }
}

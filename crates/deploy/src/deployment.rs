//! What to run, by the client.

use std::{collections::BTreeMap, fmt};

use attested_tls::key::sha256;
use bytes::Bytes;
use keep_protocol::{
    Message, ProtocolError, Sensitive,
    keep::{Deploy, MAX_CHUNK, MAX_WORKLOAD, Preface, Secret, ToKeep, VolumeKey, WorkloadRef},
};
use serde_bytes::{ByteArray, ByteBuf};
use zeroize::Zeroizing;

/// What to run.
#[derive(Clone)]
pub struct Deployment {
    /// A module or component.
    pub workload: Bytes,
    /// The text of `Keep.toml`; by default [`keep_config::WITHOUT_A_FILE`].
    pub config: String,
    /// Arguments in the place of the configuration's.
    pub args: Option<Vec<String>>,
    /// Environment beside the configuration's.
    pub env: BTreeMap<String, String>,
    /// The configuration's secrets.
    pub secrets: BTreeMap<String, Zeroizing<Vec<u8>>>,
    /// What opens the configuration's volumes.
    pub volumes: Vec<VolumeKey>,
}

impl Default for Deployment {
    fn default() -> Self {
        Self {
            workload: Bytes::new(),
            config: keep_config::WITHOUT_A_FILE.to_owned(),
            args: None,
            env: BTreeMap::new(),
            secrets: BTreeMap::new(),
            volumes: Vec::new(),
        }
    }
}

/// Names and numbers only.
impl fmt::Debug for Deployment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Deployment")
            .field("workload", &self.workload.len())
            .field("config", &self.config.len())
            .field("env", &self.env.keys())
            .field("secrets", &self.secrets.keys())
            .finish_non_exhaustive()
    }
}

/// A deployment that no Keep would take.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DeploymentError {
    /// Empty, or too large.
    #[error("the workload has {0} bytes; 1 to {MAX_WORKLOAD} can be deployed")]
    Workload(usize),
    /// A part is too large, or has a name that cannot be.
    #[error("this cannot be deployed: {0}")]
    Rule(#[from] ProtocolError),
}

impl Deployment {
    /// SHA-256 of the workload.
    pub fn digest(&self) -> [u8; 32] {
        sha256(&self.workload)
    }

    /// Whether a Keep could take it, before one is asked for.
    ///
    /// # Errors
    /// See [`DeploymentError`].
    pub fn check(&self) -> Result<(), DeploymentError> {
        if self.workload.is_empty() || self.workload.len() as u64 > MAX_WORKLOAD {
            return Err(DeploymentError::Workload(self.workload.len()));
        }
        Ok(self.message().check()?)
    }

    fn message(&self) -> ToKeep {
        let secret = |(name, value): (&String, &Zeroizing<Vec<u8>>)| Secret {
            name: name.clone(),
            value: Sensitive::new(value.to_vec()),
        };
        ToKeep::Deploy(Box::new(Deploy {
            env: self.env.clone().into_iter().collect(),
            args: self.args.clone(),
            config: self.config.clone(),
            secrets: self.secrets.iter().map(secret).collect(),
            volumes: self.volumes.clone(),
            workload: WorkloadRef { size: self.workload.len() as u64, digest: ByteArray::new(self.digest()) },
        }))
    }

    /// The request's beginning, in order.
    pub(crate) fn messages(&self) -> impl Iterator<Item = Bytes> {
        let chunk = |bytes: &[u8]| Bytes::from(ToKeep::Chunk(ByteBuf::from(bytes)).to_bytes());
        [Preface::ours().to_bytes().into(), self.message().to_bytes().into()]
            .into_iter()
            .chain(self.workload.chunks(MAX_CHUNK).map(chunk))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_no_keep_takes_is_known_before() {
        let mut deployment = Deployment { workload: Bytes::from_static(b"x"), ..Deployment::default() };
        assert_eq!(deployment.check(), Ok(()));
        deployment.env.insert("A=B".into(), String::new());
        assert!(matches!(deployment.check(), Err(DeploymentError::Rule(_))));
        assert_eq!(Deployment::default().check(), Err(DeploymentError::Workload(0)));
    }

    #[test]
    fn secrets_are_not_printed() {
        let secrets = BTreeMap::from([("key".to_owned(), Zeroizing::new(b"hidden".to_vec()))]);
        let env = BTreeMap::from([("A".to_owned(), "hidden".to_owned())]);
        let printed = format!("{:?}", Deployment { secrets, env, ..Deployment::default() });
        assert!(
            printed.contains("key") && !printed.contains("hidden") && !printed.contains("104"),
            "{printed}"
        );
    }
}

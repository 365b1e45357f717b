//! What to run, by the client.

use std::{collections::BTreeMap, fmt};

use attested_tls::key::sha256;
use bytes::Bytes;
use keep_protocol::{
    Message, ProtocolError, Sensitive,
    keep::{Brought, Deploy, MAX_CHUNK, MAX_WORKLOAD, Preface, Secret, ToKeep, VolumeKey, WorkloadRef},
    package::PackageOrder,
};
use serde_bytes::{ByteArray, ByteBuf};
use zeroize::Zeroizing;

/// What to run.
#[derive(Clone)]
pub struct Deployment {
    /// A module or component.
    pub workload: Workload,
    /// The text of `Keep.toml`. `None`: that of the package; where there is none, [`keep_config::WITHOUT_A_FILE`].
    pub config: Option<String>,
    /// Arguments in the place of the configuration's.
    pub args: Option<Vec<String>>,
    /// Environment beside the configuration's.
    pub env: BTreeMap<String, String>,
    /// The configuration's secrets.
    pub secrets: BTreeMap<String, Zeroizing<Vec<u8>>>,
    /// What opens the configuration's volumes.
    pub volumes: Vec<VolumeKey>,
}

/// How a workload gets to the Keep.
#[derive(Debug, Clone)]
pub enum Workload {
    /// We send it.
    Sent(Bytes),
    /// The Keep fetches it out of a registry, and verifies it.
    Package(PackageOrder),
}

impl From<Bytes> for Workload {
    fn from(bytes: Bytes) -> Self {
        Self::Sent(bytes)
    }
}

impl From<Vec<u8>> for Workload {
    fn from(bytes: Vec<u8>) -> Self {
        Self::Sent(bytes.into())
    }
}

impl Default for Deployment {
    fn default() -> Self {
        Self {
            workload: Workload::Sent(Bytes::new()),
            config: None,
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
            .field("workload", &self.sent().len())
            .field("config", &self.config.as_ref().map(String::len))
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
    /// What we send of the workload.
    fn sent(&self) -> &[u8] {
        match &self.workload {
            Workload::Sent(bytes) => bytes,
            Workload::Package(_) => &[],
        }
    }

    /// Of the configuration, as far as it is ours to say.
    pub(crate) fn configuration(&self) -> Option<&str> {
        let without = matches!(self.workload, Workload::Sent(_)).then_some(keep_config::WITHOUT_A_FILE);
        self.config.as_deref().or(without)
    }

    /// Whether a Keep could take it, before one is asked for.
    ///
    /// # Errors
    /// See [`DeploymentError`].
    pub fn check(&self) -> Result<(), DeploymentError> {
        if let Workload::Sent(bytes) = &self.workload
            && (bytes.is_empty() || bytes.len() as u64 > MAX_WORKLOAD)
        {
            return Err(DeploymentError::Workload(bytes.len()));
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
            config: self.configuration().map(str::to_owned),
            secrets: self.secrets.iter().map(secret).collect(),
            volumes: self.volumes.clone(),
            workload: match &self.workload {
                Workload::Sent(bytes) => {
                    let digest = ByteArray::new(sha256(bytes));
                    Brought::Sent(WorkloadRef { size: bytes.len() as u64, digest })
                }
                Workload::Package(order) => Brought::Package(Box::new(order.clone())),
            },
        }))
    }

    /// The request's beginning, in order.
    pub(crate) fn messages(&self) -> impl Iterator<Item = Bytes> {
        let chunk = |bytes: &[u8]| Bytes::from(ToKeep::Chunk(ByteBuf::from(bytes)).to_bytes());
        [Preface::ours().to_bytes().into(), self.message().to_bytes().into()]
            .into_iter()
            .chain(self.sent().chunks(MAX_CHUNK).map(chunk))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_no_keep_takes_is_known_before() {
        let mut deployment = Deployment { workload: b"x".to_vec().into(), ..Deployment::default() };
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

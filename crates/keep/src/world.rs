//! What a workload finds: arguments, environment, descriptors, files, peers and limits, from its configuration and
//! from what the coordinator or the client gave. Shared by all its instances.

use std::{collections::BTreeMap, sync::Arc};

use keep_config::{KeepConfig, Log, SecretPlace};
use zeroize::Zeroizing;

use crate::{
    admission::{Admission, LogPolicy},
    http::outgoing::Peers,
    keyvalue::KeyValue,
    net::Net,
    vfs::{BadFile, FileFault, Source, Vfs},
};

/// The name that a workload finds as its first argument, as in Enarx.
pub const WORKLOAD_NAME: &str = "main.wasm";

/// Files and directories open at a time, over all instances of one that serves HTTP.
const MAX_OPEN_FILES: u32 = 4096;

/// What comes with the deployment or from the coordinator, beside the configuration.
#[derive(Default)]
pub struct Given {
    /// Secret → its value.
    pub secrets: BTreeMap<String, Zeroizing<Vec<u8>>>,
    /// Absolute path → content.
    pub files: BTreeMap<String, Zeroizing<Vec<u8>>>,
    /// Its network, built from the same configuration; without one no socket can be had.
    pub net: Option<Net>,
    /// All keys and values of its key-value store, in bytes.
    pub keyvalue_bytes: u64,
}

/// A world that cannot be built.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum WorldError {
    /// A secret that the configuration names was not given.
    #[error("the secret {name:?}, which the configuration names, was not given")]
    SecretMissing {
        /// Its name.
        name: String,
    },
    /// A secret that was given is not named in the configuration, so the workload would not find it.
    #[error("the secret {name:?} was given, and the configuration does not say where it belongs")]
    SecretUnused {
        /// Its name.
        name: String,
    },
    /// A secret for the environment that is no text, or has a zero byte.
    #[error("the secret {name:?} is no text, and cannot be in the environment")]
    SecretNotText {
        /// Its name.
        name: String,
    },
    /// The files do not form a tree.
    #[error("the workload's files cannot be laid out")]
    Files(#[from] BadFile),
}

impl WorldError {
    /// Stable code.
    pub fn code(&self) -> &'static str {
        match self {
            Self::SecretMissing { .. } => "SECRET_MISSING",
            Self::SecretUnused { .. } => "SECRET_UNUSED",
            Self::SecretNotText { .. } => "SECRET_NOT_TEXT",
            Self::Files(_) => "FILES_INVALID",
        }
    }
}

/// See the module.
pub struct World {
    /// The first is the workload's name.
    pub(crate) args: Vec<String>,
    /// In order; a name may be there more than once, and the first one counts.
    pub(crate) env: Vec<(String, String)>,
    /// What is open when a module starts, and which standard streams a component has.
    pub(crate) descriptors: Vec<keep_config::File>,
    pub(crate) files: Arc<Vfs>,
    pub(crate) keyvalue: KeyValue,
    pub(crate) peers: Arc<Peers>,
    pub(crate) net: Option<Net>,
    pub(crate) limits: keep_config::Limits,
}

impl World {
    /// Builds the world of `config`.
    ///
    /// # Errors
    /// When what was given is not what the configuration asks for.
    pub fn new(config: &KeepConfig, given: Given) -> Result<Self, WorldError> {
        let Given { mut secrets, mut files, net, keyvalue_bytes } = given;
        let mut env = config.environment();
        for secret in &config.secrets {
            let name = || secret.name.clone();
            let value =
                secrets.remove(&secret.name).ok_or_else(|| WorldError::SecretMissing { name: name() })?;
            match &secret.place {
                SecretPlace::Env(variable) => {
                    let text = str::from_utf8(&value).ok().filter(|text| !text.contains('\0'));
                    let text = text.ok_or_else(|| WorldError::SecretNotText { name: name() })?;
                    env.push((variable.clone(), text.to_owned()));
                }
                SecretPlace::File(path) => {
                    if files.insert(path.clone(), value).is_some() {
                        let fault = FileFault::Clash;
                        return Err(BadFile { path: path.clone(), fault }.into());
                    }
                }
            }
        }
        if let Some((name, _)) = secrets.pop_first() {
            return Err(WorldError::SecretUnused { name });
        }
        let mounts =
            config.tmpfs.iter().map(|tmpfs| (tmpfs.path.clone(), Source::Tmpfs(tmpfs.size))).collect();
        let log = if config.log == Log::Host { LogPolicy::Host } else { LogPolicy::Discard };
        let args = std::iter::once(WORKLOAD_NAME.to_owned()).chain(config.args.iter().cloned()).collect();
        Ok(Self {
            args,
            env,
            descriptors: config.files.clone(),
            files: Vfs::new(files, mounts, config.limits.open_files)?,
            keyvalue: KeyValue::new(keyvalue_bytes),
            peers: Peers::new(WORKLOAD_NAME.to_owned(), log, net.clone()),
            net,
            limits: config.limits.clone(),
        })
    }

    /// The world that a coordinator gives to one that serves HTTP.
    pub(crate) fn admitted(admission: Admission, net: Net) -> Result<Self, BadFile> {
        let Admission { marble, args, env, files, limits, log, .. } = admission;
        let config = keep_config::Limits {
            memory: limits.memory_bytes,
            open_files: MAX_OPEN_FILES,
            ..keep_config::Limits::default()
        };
        Ok(Self {
            args,
            env: env.into_iter().collect(),
            descriptors: Vec::new(),
            files: Vfs::new(files, Vec::new(), config.open_files)?,
            keyvalue: KeyValue::new(limits.keyvalue_bytes),
            peers: Peers::new(marble, log, Some(net.clone())),
            net: Some(net),
            limits: config,
        })
    }
}

//! What a workload finds: arguments, environment, descriptors, files, peers and limits, from its configuration and
//! from what the coordinator or the client gave. Shared by all its instances.

use std::{collections::BTreeMap, net::SocketAddr, sync::Arc};

use keep_config::{KeepConfig, SecretPlace};
use tokio::sync::mpsc;
use zeroize::Zeroizing;

use crate::{
    admission::{Admission, LogPolicy},
    command::Failure,
    http::outgoing::Peers,
    keyvalue::KeyValue,
    metrics::Metrics,
    net::Net,
    vfs::{BadFile, FileFault, Source, Vfs},
    volumes::Volumes,
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
    /// Its network, built from the same configuration; without one no socket can be had, and a module with
    /// listeners or connections does not start.
    pub net: Option<Net>,
    /// All keys and values of its key-value store, in bytes.
    pub keyvalue_bytes: u64,
    /// Its volumes, opened as the configuration says.
    pub volumes: Volumes,
    /// Is told where each listener of `[[files]]` listens.
    pub listening: Option<mpsc::UnboundedSender<Listening>>,
}

/// A listener of a module, open before the module begins.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Listening {
    /// Its name in `FD_NAMES`.
    pub name: String,
    /// Where it is, with the port that was found where the configuration says 0.
    pub address: SocketAddr,
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
    /// A volume that the configuration names was not given.
    #[error("the volume {name:?}, which the configuration names, was not given")]
    VolumeMissing {
        /// Its name.
        name: String,
    },
    /// A volume that was given is not named in the configuration.
    #[error("the volume {name:?} was given, and the configuration does not name it")]
    VolumeUnused {
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
            Self::VolumeMissing { .. } => "VOLUME_NOT_GIVEN",
            Self::VolumeUnused { .. } => "VOLUME_UNUSED",
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
    /// Whether there is anything in it: a module without files has no directory either, as in Enarx.
    pub(crate) has_files: bool,
    listening: Option<mpsc::UnboundedSender<Listening>>,
    pub(crate) keyvalue: KeyValue,
    pub(crate) peers: Arc<Peers>,
    pub(crate) net: Option<Net>,
    pub(crate) limits: keep_config::Limits,
    /// What all instances use.
    pub(crate) metrics: Arc<Metrics>,
}

impl World {
    /// Builds the world of `config`.
    ///
    /// # Errors
    /// When what was given is not what the configuration asks for.
    pub fn new(config: &KeepConfig, given: Given) -> Result<Self, WorldError> {
        let Given { mut secrets, mut files, net, keyvalue_bytes, volumes, listening } = given;
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
        let mounts = mounts(config, volumes)?;
        let has_files = !files.is_empty() || !mounts.is_empty();
        let log = LogPolicy::of(&config.log);
        let args = std::iter::once(WORKLOAD_NAME.to_owned()).chain(config.args.iter().cloned()).collect();
        Ok(Self {
            args,
            env,
            descriptors: config.files.clone(),
            has_files,
            listening,
            files: Vfs::new(files, mounts, config.limits.open_files)?,
            keyvalue: KeyValue::new(keyvalue_bytes),
            peers: Peers::new(WORKLOAD_NAME.to_owned(), log, net.clone()),
            net,
            limits: config.limits.clone(),
            metrics: Arc::default(),
        })
    }

    pub(crate) fn network(&self) -> Result<&Net, Failure> {
        self.net.as_ref().ok_or(Failure::NoNetwork)
    }

    /// Whether anybody wants to know is their affair.
    pub(crate) fn tell(&self, listening: Listening) {
        if let Some(told) = &self.listening {
            let _ = told.send(listening);
        }
    }

    /// The world that a coordinator gives to a Marble. What the manifest says in fields of its own comes with it; where
    /// it has a configuration, that says the rest.
    ///
    /// # Errors
    /// When the files do not form a tree, or the volumes are not those of the configuration.
    pub(crate) fn admitted(admission: Admission, net: Net) -> Result<Self, WorldError> {
        let Admission { marble, mut args, env, files, limits, log, config, volumes, .. } = admission;
        let peers = Peers::new(marble, log, Some(net.clone()));
        let net = Some(net);
        let mut variables: Vec<_> = env.into_iter().collect();
        let keyvalue = KeyValue::new(limits.keyvalue_bytes);
        let Some(config) = config else {
            let config = keep_config::Limits {
                memory: limits.memory_bytes,
                open_files: MAX_OPEN_FILES,
                ..keep_config::Limits::default()
            };
            let has_files = !files.is_empty();
            let files = Vfs::new(files, Vec::new(), config.open_files)?;
            let descriptors = KeepConfig::default().files;
            return Ok(Self {
                args,
                env: variables,
                descriptors,
                has_files,
                listening: None,
                files,
                keyvalue,
                peers,
                net,
                limits: config,
                metrics: Arc::default(),
            });
        };
        if args.is_empty() {
            args.push(WORKLOAD_NAME.to_owned());
            args.extend(config.args.iter().cloned());
        }
        // `FD_COUNT` and `FD_NAMES` come first.
        let mut own = config.environment();
        let configured = own.split_off(2.min(own.len()));
        own.append(&mut variables);
        own.extend(configured);
        let config_limits = keep_config::Limits { memory: limits.memory_bytes, ..config.limits.clone() };
        let mounts = mounts(&config, volumes)?;
        let has_files = !files.is_empty() || !mounts.is_empty();
        let files = Vfs::new(files, mounts, config_limits.open_files)?;
        Ok(Self {
            args,
            env: own,
            descriptors: config.files.clone(),
            has_files,
            listening: None,
            files,
            keyvalue,
            peers,
            net,
            limits: config_limits,
            metrics: Arc::default(),
        })
    }
}

/// What is mounted, and where.
fn mounts(config: &KeepConfig, mut volumes: Volumes) -> Result<Vec<(String, Source)>, WorldError> {
    let mut mounts: Vec<_> =
        config.tmpfs.iter().map(|tmpfs| (tmpfs.path.clone(), Source::Tmpfs(tmpfs.size))).collect();
    for wanted in &config.volumes {
        let name = wanted.name.clone();
        let volume = volumes.remove(&name).ok_or_else(|| WorldError::VolumeMissing { name: name.clone() })?;
        mounts.push((wanted.path.clone(), Source::Volume(name, volume)));
    }
    match volumes.pop_first() {
        Some((name, _)) => Err(WorldError::VolumeUnused { name }),
        None => Ok(mounts),
    }
}

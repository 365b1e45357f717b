//! `Workload.Config`: the text of a `Keep.toml` in a Marble. It says what the workload finds in its Keep; whatever the
//! manifest has a field of its own for is said in one of the two places, never in both.

use std::collections::BTreeMap;

use keep_config::{ConfigError, KeepConfig, SecretPlace};

use crate::document as wire;
use crate::fault::{Code, Collector, nearest, shown};
use crate::path::Path;
use crate::wire::ParameterEntry;

/// A configuration that was read.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct WorkloadConfig {
    /// As it stands in the manifest; the Keep reads it again.
    pub text: String,
    /// What it says.
    pub parsed: KeepConfig,
}

/// Reads a Marble's configuration, and holds it against the rest of the manifest.
pub(crate) fn resolve(
    marble: &wire::Marble,
    document: &wire::Document,
    at: &Path<'_>,
    faults: &mut Collector<'_>,
) -> Option<WorkloadConfig> {
    let text = marble.workload.as_ref()?.config.as_ref()?;
    let workload = at.field("Workload");
    let here = workload.field("Config");
    let parsed = match KeepConfig::parse(text) {
        Ok(parsed) => parsed,
        Err(ConfigError::Faults(found)) => {
            for fault in found {
                faults.add(&here, Code::InvalidValue, fault.to_string());
            }
            return None;
        }
        Err(error) => {
            faults.add(&here, Code::InvalidValue, error.to_string());
            return None;
        }
    };
    said_twice(&parsed, marble, &here, faults);
    for name in parsed.peers.iter().filter(|name| !document.marbles.contains_key(*name)) {
        let message = format!("peers: there is no Marble `{}` in this manifest", shown(name));
        faults.add_with(&here, Code::UnknownReference, message, || {
            nearest(name, document.marbles.keys().map(String::as_str))
                .map(|near| format!("did you mean `{near}`?"))
        });
    }
    for secret in parsed.secrets.iter().filter(|secret| !document.secrets.contains_key(&secret.name)) {
        let message = format!("secrets: there is no secret `{}` in this manifest", shown(&secret.name));
        faults.add_with(&here, Code::UnknownReference, message, || {
            nearest(&secret.name, document.secrets.keys().map(String::as_str))
                .map(|near| format!("did you mean `{near}`?"))
        });
    }
    if parsed.steward.is_some() {
        let message = "steward: a Marble's certificate is the coordinator's";
        faults.hint(&here, Code::NotApplicable, message, "remove it");
    }
    Some(WorkloadConfig { text: text.clone(), parsed })
}

fn said_twice(config: &KeepConfig, marble: &wire::Marble, at: &Path<'_>, faults: &mut Collector<'_>) {
    let mut twice = |what: &str, other: &str| {
        let message = format!("{what} is said here and in {other}");
        faults.hint(at, Code::Conflict, message, "say it in one of the two places");
    };
    if !config.args.is_empty() && !marble.parameters.argv.is_empty() {
        twice("args", "Parameters.Argv");
    }
    let secrets = config.secrets.iter().filter_map(|secret| match &secret.place {
        SecretPlace::Env(name) => Some(name),
        SecretPlace::File(_) => None,
    });
    for name in config.env.keys().chain(secrets).filter(|name| marble.parameters.env.contains_key(*name)) {
        twice(&format!("the variable `{}`", shown(name)), "Parameters.Env");
    }
    for secret in &config.secrets {
        if let SecretPlace::File(path) = &secret.place
            && marble.parameters.files.contains_key(path)
        {
            twice(&format!("the file `{}`", shown(path)), "Parameters.Files");
        }
    }
    let mounts =
        config.volumes.iter().map(|volume| &volume.path).chain(config.tmpfs.iter().map(|tmpfs| &tmpfs.path));
    for mount in mounts {
        let below = |path: &&String| {
            path.strip_prefix(mount.as_str()).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
        };
        if let Some(path) = marble.parameters.files.keys().find(below) {
            twice(
                &format!("what is at `{}`", shown(mount)),
                &format!("Parameters.Files (`{}`)", shown(path)),
            );
        }
    }
    if config.limits != keep_config::Limits::default() && marble.limits.is_some() {
        twice("limits", "Limits");
    }
    if config.log != keep_config::Log::Nobody && marble.log.is_some() {
        twice("log", "Log");
    }
}

/// The parameters of a Marble, with the secrets that its configuration places among them: they are delivered, counted
/// and revoked like those of templates.
pub(crate) fn with_secrets(
    parameters: &wire::Parameters,
    config: Option<&WorkloadConfig>,
) -> wire::Parameters {
    let mut files = parameters.files.clone();
    let mut env = parameters.env.clone();
    let add = |to: &mut BTreeMap<String, ParameterEntry>, name: &str, function: &str, secret: &str| {
        let data = format!("{{{{ {function} .Secrets.{secret} }}}}");
        to.entry(name.to_owned()).or_insert(ParameterEntry { data, ..ParameterEntry::default() });
    };
    for secret in config.iter().flat_map(|config| &config.parsed.secrets) {
        match &secret.place {
            SecretPlace::Env(name) => add(&mut env, name, "string", &secret.name),
            SecretPlace::File(path) => add(&mut files, path, "raw", &secret.name),
        }
    }
    wire::Parameters { files, env, argv: parameters.argv.clone() }
}
